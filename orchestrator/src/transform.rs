//! What a service is for: one record in, none, one or many out.

use std::{borrow::Cow, fmt, future::Future, sync::Arc};

use bytes::Bytes;
pub use tracker_api::{Header, Partition, RecordId};

/// A record as it was read. Owned; its bytes are slices of one buffer per poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRecord {
    /// Topic, partition and offset.
    pub id: RecordId,
    /// Kafka's timestamp in milliseconds since the epoch, if it has one.
    pub timestamp: Option<i64>,
    /// The key, if any.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// The headers, in order, repeated names kept. Names are bytes: Kafka does not promise UTF-8.
    pub headers: Vec<Header>,
}

impl SourceRecord {
    /// The last header of this name, as later ones win. None if there is none or its value is null.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers
            .iter()
            .rev()
            .find(|h| h.name == name.as_bytes())?
            .value
            .as_ref()
    }

    /// Key, value and headers, in bytes.
    pub fn size(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|h| h.name.len() + h.value.as_ref().map_or(0, Bytes::len))
            .sum();
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len) + headers
    }
}

/// A record to produce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetRecord {
    /// The topic; none means the configured target topic.
    pub topic: Option<Arc<str>>,
    /// The partition; none leaves it to the partitioner (murmur2 of the key, as the Java clients do).
    pub partition: Option<i32>,
    /// The key, if any.
    pub key: Option<Bytes>,
    /// The value; none writes a tombstone.
    pub value: Option<Bytes>,
    /// Headers to write. The orchestrator adds its own (`orchestrator-…`); those names are taken.
    pub headers: Vec<Header>,
    /// Timestamp in milliseconds since the epoch; none is now.
    pub timestamp: Option<i64>,
}

impl TargetRecord {
    /// A record for the configured target topic.
    pub fn new(key: Option<Bytes>, value: impl Into<Bytes>) -> Self {
        Self {
            key,
            value: Some(value.into()),
            ..Self::default()
        }
    }

    /// A record that deletes its key in a compacted topic.
    pub fn tombstone(key: impl Into<Bytes>) -> Self {
        Self {
            key: Some(key.into()),
            ..Self::default()
        }
    }

    /// Sends it to another topic.
    #[must_use]
    pub fn to(mut self, topic: impl Into<Arc<str>>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header {
            name: name.into(),
            value: Some(value.into()),
        });
        self
    }
}

/// What a transform made of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nothing is to be produced: the record is done.
    Filtered,
    /// One or more records, produced in this order. An empty list is the same as `Filtered`.
    Records(Vec<TargetRecord>),
}

impl Output {
    /// The records to produce; none if it was filtered.
    pub fn records(&self) -> &[TargetRecord] {
        match self {
            Self::Filtered => &[],
            Self::Records(records) => records,
        }
    }
}

impl From<TargetRecord> for Output {
    fn from(record: TargetRecord) -> Self {
        Self::Records(vec![record])
    }
}

/// Why a record could not be transformed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransformError {
    /// A short, stable name such as `malformed`: what operators filter and alert by. Not user data.
    pub class: Cow<'static, str>,
    /// What happened, for a person.
    pub message: String,
    /// Whether a try later may end otherwise: a service that is down, yes; bytes that do not parse, no.
    pub retryable: bool,
}

impl TransformError {
    /// An error that no retry can mend.
    pub fn permanent(class: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            class: class.into(),
            message: message.into(),
            retryable: false,
        }
    }

    /// An error that a later try may not meet.
    pub fn retryable(class: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            class: class.into(),
            message: message.into(),
            retryable: true,
        }
    }
}

impl fmt::Display for TransformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

impl std::error::Error for TransformError {}

/// Turns one record into its outputs. Write it as `async fn transform(&self, record: &SourceRecord) -> Result<Output, TransformError>`.
///
/// Many run at once, on threads of their own; no Kafka transaction is open meanwhile. One that panics or outlasts
/// `transform-timeout` is a failed record, never a dead service. It may run more than once for a record (after a crash,
/// on a retry), so side effects of its own are not exactly once; what it returns is.
pub trait Transform: Send + Sync + 'static {
    /// The outputs of `record`, or why there are none.
    fn transform(&self, record: &SourceRecord)
    -> impl Future<Output = Result<Output, TransformError>> + Send;

    /// The topics that outputs name by themselves, apart from the configured target: looked at before the start, so that
    /// one that is missing is told then and not by the first record for it.
    fn topics(&self) -> Vec<Arc<str>> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;

    #[test]
    fn the_last_header_of_a_name_wins_also_when_it_is_null() {
        let mut twice = record("v")
            .header("h", "1")
            .header("other", "x")
            .header("h", "2")
            .build();
        assert_eq!(twice.header("h"), Some(&Bytes::from_static(b"2")));
        assert_eq!(twice.header("H"), None);
        twice.headers.push(Header {
            name: Bytes::from_static(b"h"),
            value: None,
        });
        assert_eq!(twice.header("h"), None);
    }

    #[test]
    fn a_records_size_counts_key_value_and_headers() {
        assert_eq!(
            record("12345").key("123").header("ab", "c").build().size(),
            5 + 3 + 3
        );
        assert_eq!(record("12345").tombstone().build().size(), 0);
    }

    #[test]
    fn a_target_is_what_it_was_told_to_be() {
        let target = TargetRecord::tombstone("k").to("topic").header("h", "v");
        assert_eq!(
            (target.key.as_deref(), target.value.as_deref()),
            (Some(&b"k"[..]), None)
        );
        assert_eq!(target.topic.as_deref(), Some("topic"));
        assert_eq!(target.headers.len(), 1);
        assert_eq!(Output::from(target.clone()).records(), [target]);
        assert_eq!(Output::Filtered.records(), []);
    }
}
