//! How large a record a topic takes, as far as the brokers say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::client::{Client, ClientContext};

use super::{ClientSettings, Error, ErrorKind, Refused, Send, What, native};

/// A record from here on is worth a question before it is sent; a smaller one is sent, and asked about if it is refused.
const LARGE: usize = 64 * 1024;
/// When a topic that nobody could tell about is asked about again.
const AGAIN: Duration = Duration::from_secs(300);
/// How long an answer is waited for. A lane polls nothing meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is known of `max.message.bytes` of topics.
#[derive(Debug)]
pub(super) struct Limits {
    /// Whether a record's size decides: what is compressed may be smaller than it looks.
    exact: bool,
    known: BTreeMap<Arc<str>, Known>,
}

#[derive(Debug)]
struct Known {
    /// None: not permitted to ask, or not answered.
    limit: Option<usize>,
    asked: Instant,
}

impl Limits {
    /// For a producer of these settings.
    pub(super) fn new(producer: &ClientSettings) -> Self {
        let codec = producer
            .get("compression.codec")
            .or_else(|| producer.get("compression.type"));
        Self {
            exact: codec.is_none_or(|codec| codec == "none"),
            known: BTreeMap::new(),
        }
    }

    pub(super) fn is_exact(&self) -> bool {
        self.exact
    }

    /// The records that their topics are sure to refuse. A limit that is known may have been raised since, to let just these
    /// pass: so none is named but by an answer of now.
    pub(super) fn exceeded<C: ClientContext>(&mut self, client: &Client<C>, sends: &[Send]) -> Vec<Refused> {
        if !self.exact {
            return Vec::new();
        }
        let mut doubtful = BTreeSet::new();
        for send in sends {
            let size = batch_bytes(send);
            let doubt = match self.known.get(&send.topic) {
                Some(Known {
                    limit: Some(limit), ..
                }) => size > *limit,
                Some(known) => size >= LARGE && known.asked.elapsed() >= AGAIN,
                None => size >= LARGE,
            };
            if doubt {
                doubtful.insert(send.topic.clone());
            }
        }
        self.ask(client, sends, &doubtful)
    }

    /// The same after a refusal of sizes, when every topic is asked about; and the least of their limits.
    pub(super) fn after_refusal<C: ClientContext>(
        &mut self,
        client: &Client<C>,
        sends: &[Send],
    ) -> (Vec<Refused>, Option<usize>) {
        if !self.exact {
            return (Vec::new(), None);
        }
        let topics: BTreeSet<_> = sends.iter().map(|send| send.topic.clone()).collect();
        let refused = self.ask(client, sends, &topics);
        let limits = topics.iter().filter_map(|topic| self.known.get(topic)?.limit);
        (refused, limits.min())
    }

    fn ask<C: ClientContext>(
        &mut self,
        client: &Client<C>,
        sends: &[Send],
        topics: &BTreeSet<Arc<str>>,
    ) -> Vec<Refused> {
        if topics.is_empty() {
            return Vec::new();
        }
        let answers = native::topic_limits(client, topics, PATIENCE);
        for topic in topics {
            let (limit, asked) = (answers.get(&**topic).copied(), Instant::now());
            self.known.insert(topic.clone(), Known { limit, asked });
        }
        let exceeds = |(send, record): (usize, &Send)| {
            let (limit, size) = (*answers.get(&*record.topic)?, batch_bytes(record));
            (size > limit).then(|| Refused {
                send,
                what: What::Record,
                why: Error {
                    kind: ErrorKind::Refused,
                    message: format!(
                        "delivering to `{}`: the record has {size} bytes with its headers; the topic takes at most {limit} (max.message.bytes)",
                        record.topic
                    ),
                },
            })
        };
        sends.iter().enumerate().filter_map(exceeds).collect()
    }
}

/// The size of a batch that holds this record alone, uncompressed, in Kafka's record format 2: what a broker compares with
/// the topic's `max.message.bytes`.
pub(super) fn batch_bytes(send: &Send) -> usize {
    /// The head of a batch.
    const HEAD: usize = 61;
    let optional = |bytes: Option<usize>| bytes.map_or(1, |n| varint(n) + n);
    let headers: usize = send
        .headers
        .iter()
        .map(|h| varint(h.name.len()) + h.name.len() + optional(h.value.as_ref().map(|v| v.len())))
        .sum();
    // Attributes, and the differences of timestamp and offset, which are zero for the first.
    let record = 3
        + optional(send.key.as_ref().map(|k| k.len()))
        + optional(send.value.as_ref().map(|v| v.len()))
        + varint(send.headers.len())
        + headers;
    HEAD + varint(record) + record
}

/// Bytes of a length as a signed variable-length integer (zig-zag).
fn varint(n: usize) -> usize {
    let bits = usize::BITS - n.leading_zeros() + 1;
    usize::try_from(bits.div_ceil(7)).unwrap_or(10)
}

#[cfg(test)]
mod tests {
    use tracker_api::Header;

    use super::*;

    #[test]
    fn the_size_of_a_record_is_what_kafkas_format_makes_of_it() {
        let header = Header {
            name: "ab".into(),
            value: Some("c".into()),
        };
        let send = Send {
            topic: "out".into(),
            partition: None,
            key: Some("k".into()),
            value: Some(vec![0; 100].into()),
            headers: vec![header],
            timestamp: None,
        };
        // attributes, times, offsets | key | value | how many headers | name | value
        let record = 3 + (1 + 1) + (2 + 100) + 1 + (1 + 2) + (1 + 1);
        assert_eq!(batch_bytes(&send), 61 + 2 + record);
        let bare = Send {
            key: None,
            value: None,
            headers: vec![],
            ..send
        };
        assert_eq!(batch_bytes(&bare), 61 + 1 + (3 + 1 + 1 + 1));
        assert_eq!([0, 63, 64, 8_191, 8_192].map(varint), [1, 1, 2, 2, 3]);
    }
}
