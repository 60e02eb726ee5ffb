//! Reads whole topics, by assignment from the first offset to the last: no group, no service's code.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::Headers,
};

use crate::Result;

/// A record as it stands in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The topic's partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
    /// The key, if any.
    pub key: Option<Vec<u8>>,
    /// The value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// The last header of this name as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(n, _)| n == name)?;
        std::str::from_utf8(value.as_ref()?).ok()
    }
}

/// What a topic holds for a `read_committed` reader.
#[derive(Clone, Debug, Default)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its records, by partition, then offset.
    pub records: Vec<Record>,
    /// Per partition, the offset behind its last.
    pub ends: BTreeMap<i32, i64>,
}

const CALL: Duration = Duration::from_secs(20);

/// Everything that is committed in `topic`. Waits up to `patience` for open transactions to end, and fails if one does not.
pub fn read(bootstrap: &str, topic: &str, patience: Duration) -> Result<Topic> {
    let reader: BaseConsumer = config(bootstrap, "read_committed").create()?;
    let partitions = partitions(&reader, topic)?;
    let ends = settled(bootstrap, topic, &reader, &partitions, patience)?;

    let mut from = TopicPartitionList::new();
    for partition in &partitions {
        from.add_partition_offset(topic, *partition, Offset::Beginning)?;
    }
    reader.assign(&from)?;
    let mut records = Vec::new();
    let mut open = partitions.len();
    let mut heard = Instant::now();
    while open > 0 {
        match reader.poll(Duration::from_millis(500)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                let headers = message.headers().map_or_else(Vec::new, |headers| {
                    headers
                        .iter()
                        .map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec)))
                        .collect()
                });
                records.push(Record {
                    partition: message.partition(),
                    offset: message.offset(),
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    headers,
                });
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {
                heard = Instant::now();
                open -= 1;
            }
            Some(Err(error)) => return Err(format!("reading {topic}: {error}").into()),
            None if heard.elapsed() > CALL => {
                return Err(format!("reading {topic}: nothing came for {} s", CALL.as_secs()).into());
            }
            None => {}
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(Topic {
        name: topic.to_owned(),
        records,
        ends,
    })
}

/// The offset behind the last of each partition, once no transaction is open.
fn settled(
    bootstrap: &str,
    topic: &str,
    committed: &BaseConsumer,
    partitions: &[i32],
    patience: Duration,
) -> Result<BTreeMap<i32, i64>> {
    let all: BaseConsumer = config(bootstrap, "read_uncommitted").create()?;
    let begun = Instant::now();
    let mut ends = BTreeMap::new();
    for partition in partitions {
        loop {
            let (_, high) = all.fetch_watermarks(topic, *partition, CALL)?;
            let (_, stable) = committed.fetch_watermarks(topic, *partition, CALL)?;
            if stable >= high {
                ends.insert(*partition, high);
                break;
            }
            if begun.elapsed() > patience {
                return Err(format!(
                    "{topic}:{partition}: a transaction has been open for {} s (stable to {stable} of {high})",
                    begun.elapsed().as_secs()
                )
                .into());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(ends)
}

/// What `group` has committed per partition of `topic`; partitions without an offset are left out.
pub fn committed(
    bootstrap: &str,
    group: &str,
    topic: &str,
    patience: Duration,
) -> Result<BTreeMap<i32, i64>> {
    Ok(committed_with_notes(bootstrap, group, topic, patience)?
        .into_iter()
        .map(|(partition, (offset, _))| (partition, offset))
        .collect())
}

/// As [`committed`], each with the metadata that was committed with it.
pub fn committed_with_notes(
    bootstrap: &str,
    group: &str,
    topic: &str,
    patience: Duration,
) -> Result<BTreeMap<i32, (i64, String)>> {
    let reader: BaseConsumer = config(bootstrap, "read_committed")
        .set("group.id", group)
        .create()?;
    let mut asked = TopicPartitionList::new();
    for partition in partitions(&reader, topic)? {
        asked.add_partition(topic, partition);
    }
    let begun = Instant::now();
    loop {
        match reader.committed_offsets(asked.clone(), Duration::from_secs(5)) {
            Ok(answer) => {
                let mut offsets = BTreeMap::new();
                for element in answer.elements() {
                    element.error()?;
                    if let Offset::Offset(offset) = element.offset() {
                        offsets.insert(element.partition(), (offset, element.metadata().to_owned()));
                    }
                }
                return Ok(offsets);
            }
            // an offset is pending in a transaction, or the group's coordinator is still being made
            Err(_) if begun.elapsed() < patience => std::thread::sleep(Duration::from_millis(100)),
            Err(error) => return Err(format!("what group {group} has committed: {error}").into()),
        }
    }
}

/// How far a group is, asked again and again.
pub struct Progress {
    reader: BaseConsumer,
    topic: String,
    asked: TopicPartitionList,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl Progress {
    /// Of `group` in `topic`.
    pub fn of(bootstrap: &str, group: &str, topic: &str) -> Result<Self> {
        let reader: BaseConsumer = config(bootstrap, "read_committed")
            .set("group.id", group)
            .create()?;
        let mut asked = TopicPartitionList::new();
        for partition in partitions(&reader, topic)? {
            asked.add_partition(topic, partition);
        }
        Ok(Self {
            reader,
            topic: topic.to_owned(),
            asked,
        })
    }

    /// Records of the topic that are not behind the group's offset; all of them while it has none or does not answer.
    pub fn left(&mut self) -> Result<i64> {
        let committed = self
            .reader
            .committed_offsets(self.asked.clone(), Duration::from_secs(2))
            .ok();
        let mut left = 0;
        for element in self.asked.elements() {
            let (low, high) = self
                .reader
                .fetch_watermarks(&self.topic, element.partition(), CALL)?;
            let stands = committed
                .as_ref()
                .and_then(|c| c.find_partition(&self.topic, element.partition()));
            left += match stands.map(|s| s.offset()) {
                Some(Offset::Offset(stands)) => high - stands,
                _ => high - low,
            };
        }
        Ok(left)
    }
}

/// The numbers of a topic's partitions.
pub fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), CALL)?;
    let found = metadata.topics().iter().find(|t| t.name() == topic);
    match found {
        Some(found) if found.error().is_none() && !found.partitions().is_empty() => {
            let mut numbers: Vec<i32> = found.partitions().iter().map(|p| p.id()).collect();
            numbers.sort_unstable();
            Ok(numbers)
        }
        Some(found) if found.error().is_some() => {
            let code: Option<RDKafkaErrorCode> = found.error().map(Into::into);
            Err(format!(
                "topic {topic}: {}",
                code.map_or_else(String::new, |c| c.to_string())
            )
            .into())
        }
        _ => Err(format!("topic {topic} does not exist").into()),
    }
}

fn config(bootstrap: &str, isolation: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "testkit-reader")
        .set("isolation.level", isolation)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("check.crcs", "true")
        .set("log_level", "0");
    config
}
