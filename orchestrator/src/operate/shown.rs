use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracker_api::{Captured, Decision, Entry, Progress, Status};

use super::standing::Stalled;

/// A record as a person or a program sees it. Its JSON is stable: fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// `topic:partition:offset`.
    pub id: String,
    /// The source topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// What it is now.
    pub status: Status,
    /// The error's class.
    pub class: Option<String>,
    /// What happened.
    pub message: Option<String>,
    /// Equal for failures with one cause; 16 hexadecimal digits.
    pub fingerprint: Option<String>,
    /// How often it was tried; 0 if it never failed.
    pub tries: u32,
    /// When it is tried again.
    pub next_try: Option<Timestamp>,
    /// When it failed first.
    pub first_failed_at: Option<Timestamp>,
    /// When this was written.
    pub at: Timestamp,
    /// The partition's era.
    pub era: u64,
    /// The term in the era.
    pub term: u64,
    /// The attempt that learnt it.
    pub attempt: String,
    /// What a compare-and-set compares.
    pub revision: u64,
    /// What an operator decided.
    pub resolution: Option<Resolved>,
    /// Whether the record's bytes are kept.
    pub captured: bool,
    /// The store refused the bytes.
    pub bytes_refused: bool,
    /// The bytes, when they were asked for and are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Payload>,
}

/// What an operator decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// `retry`, `skip`, `replaying`, `replayed` or `discarded`.
    pub decision: String,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// Whether it applies to what is held now.
    pub applies: bool,
}

/// A record's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// The key; none is Kafka's null.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Names and values, in order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Bytes in JSON: text where they are UTF-8, else hexadecimal; at most the first 64 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// `utf8` or `hex`.
    pub encoding: String,
    /// The bytes so encoded.
    pub data: String,
    /// How many there are; more than `data` holds when they were cut.
    pub length: usize,
}

/// How far a partition has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Its era.
    pub era: u64,
    /// Tracking began here.
    pub floor: i64,
    /// Offsets below it were read.
    pub received: i64,
    /// Offsets below it are committed, as far as the store knows.
    pub committed: i64,
    /// Records passed as failures, at least.
    pub failed: u64,
    /// Records that succeeded, at least.
    pub succeeded: u64,
    /// Ranges `[start, end)` about which the store cannot speak.
    pub gaps: Vec<(i64, i64)>,
    /// When this was written.
    pub at: Timestamp,
    /// Offsets between the committed and the last stable one, as the running service knows them; none where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// Why it does not move, as the running service says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stalls: Vec<Stalled>,
}

const SHOWN_BYTES: usize = 64 * 1024;

impl Shown {
    pub(super) fn of(entry: &Entry, payload: bool) -> Self {
        let failure = entry.failure.as_ref();
        let partition = &entry.id.partition;
        Self {
            id: entry.id.to_string(),
            topic: partition.topic.to_string(),
            partition: partition.number,
            offset: entry.id.offset,
            status: Status::of(entry),
            class: failure.map(|f| f.class.clone()),
            message: failure.map(|f| f.message.clone()),
            fingerprint: failure.map(|f| format!("{:016x}", f.fingerprint)),
            tries: failure.map_or(0, |f| f.tries),
            next_try: failure.and_then(|f| f.next_try).map(time),
            first_failed_at: entry.first_failed_at.map(time),
            at: time(entry.at),
            era: entry.version.era,
            term: entry.version.term,
            attempt: entry.version.attempt.to_string(),
            revision: entry.revision,
            resolution: entry.resolution.as_ref().map(|resolution| Resolved {
                decision: word(&resolution.decision).to_owned(),
                actor: resolution.actor.clone(),
                reason: resolution.reason.clone(),
                at: time(resolution.at),
                applies: entry.decision().is_some(),
            }),
            captured: entry.captured.is_some(),
            bytes_refused: failure.is_some_and(|f| f.bytes_refused),
            payload: entry.captured.as_ref().filter(|_| payload).map(Payload::of),
        }
    }
}

impl Payload {
    fn of(captured: &Captured) -> Self {
        Self {
            key: captured.key.as_ref().map(|key| Bytes::of(key)),
            value: captured.value.as_ref().map(|value| Bytes::of(value)),
            headers: captured
                .headers
                .iter()
                .map(|header| {
                    (
                        Bytes::of(&header.name),
                        header.value.as_ref().map(|v| Bytes::of(v)),
                    )
                })
                .collect(),
        }
    }
}

impl Bytes {
    fn of(bytes: &[u8]) -> Self {
        let length = bytes.len();
        let utf8 = std::str::from_utf8(bytes).ok().map(|text| {
            let edge = (0..=SHOWN_BYTES.min(length))
                .rev()
                .find(|edge| text.is_char_boundary(*edge));
            text.get(..edge.unwrap_or(0)).unwrap_or_default().to_owned()
        });
        let (encoding, data) = match utf8 {
            Some(text) => ("utf8", text),
            None => (
                "hex",
                bytes
                    .iter()
                    .take(SHOWN_BYTES)
                    .map(|byte| format!("{byte:02x}"))
                    .collect(),
            ),
        };
        Self {
            encoding: encoding.to_owned(),
            data,
            length,
        }
    }
}

impl Position {
    pub(super) fn of(progress: &Progress) -> Self {
        Self {
            topic: progress.partition.topic.to_string(),
            partition: progress.partition.number,
            era: progress.era,
            floor: progress.floor,
            received: progress.received,
            committed: progress.committed,
            failed: progress.failed,
            succeeded: progress.succeeded,
            gaps: progress.gaps.iter().map(|gap| (gap.start, gap.end)).collect(),
            at: time(progress.at),
            lag: None,
            stalls: Vec::new(),
        }
    }
}

pub(super) fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Retry => "retry",
        Decision::Skip => "skip",
        Decision::Replaying(_) => "replaying",
        Decision::Replayed => "replayed",
        Decision::Discarded => "discarded",
    }
}

/// A time that no calendar holds is shown as its edge.
pub(super) fn time(of: tracker_api::Timestamp) -> Timestamp {
    let edge = if of.0 < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(of.0).unwrap_or(edge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_where_they_can_be_and_cut_at_a_characters_edge() {
        assert_eq!(Bytes::of("ä\0".as_bytes()).data, "ä\0");
        let binary = Bytes::of(&[0xff, 0x00]);
        assert_eq!((binary.encoding.as_str(), binary.data.as_str()), ("hex", "ff00"));
        let long = Bytes::of("ä".repeat(40_000).as_bytes());
        assert_eq!((long.data.len(), long.length), (64 * 1024, 80_000));
        let odd = Bytes::of(format!("x{}", "ä".repeat(40_000)).as_bytes());
        assert_eq!(odd.data.len(), 64 * 1024 - 1);
    }

    #[test]
    fn a_time_beyond_the_calendar_is_its_edge() {
        assert_eq!(time(tracker_api::Timestamp(i64::MAX)), Timestamp::MAX);
        assert_eq!(time(tracker_api::Timestamp(i64::MIN)), Timestamp::MIN);
    }
}
