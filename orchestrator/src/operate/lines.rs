//! What a tracker holds, as lines of JSON: the same bytes for the same content, whichever store it comes from.
//!
//! ```text
//! {"kind":"tracker","format":1}
//! {"kind":"entry","topic":"orders","partition":0,"offset":42,"era":1,…}      in order of record
//! {"kind":"progress","topic":"orders","partition":0,"era":1,…}               in order of partition
//! {"kind":"end","entries":1,"progress":1,"sha256":"…"}                       over the lines between, each with its line end
//! ```
//!
//! Bytes are hexadecimal, times are milliseconds since 1970, every field is always there.

use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tracker_api::{
    AttemptId, Captured, Claim, Decision, Entry, Failure, Gaps, Header, Outcome, Partition, Progress,
    Resolution, Timestamp, Version,
};

/// The format of the lines.
pub const FORMAT: u32 = 1;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
    /// The first one.
    Tracker {
        /// See [`FORMAT`].
        format: u32,
    },
    /// An entry, both halves.
    Entry(Box<EntryLine>),
    /// A partition's progress.
    Progress(ProgressLine),
    /// The last one: without it the file was cut off.
    End {
        /// How many entries there are.
        entries: u64,
        /// How many rows of progress.
        progress: u64,
        /// Over the lines of entries and progress.
        sha256: String,
    },
}

/// Bytes in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hex(Bytes);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = unhex(&text).ok_or_else(|| de::Error::custom("bytes are pairs of hexadecimal digits"))?;
        Ok(Self(bytes.into()))
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    pairs.map(byte).collect()
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryLine {
    topic: String,
    partition: i32,
    offset: i64,
    #[serde(flatten)]
    version: VersionLine,
    at: i64,
    failure: Option<FailureLine>,
    first_failed_at: Option<i64>,
    captured: Option<CapturedLine>,
    resolution: Option<ResolutionLine>,
    revision: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct VersionLine {
    era: u64,
    term: u64,
    attempt: AttemptId,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FailureLine {
    class: String,
    message: String,
    fingerprint: u64,
    tries: u32,
    passes: bool,
    next_try: Option<i64>,
    bytes_refused: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CapturedLine {
    key: Option<Hex>,
    value: Option<Hex>,
    headers: Vec<(Hex, Option<Hex>)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResolutionLine {
    decision: Decided,
    about: VersionLine,
    actor: String,
    reason: String,
    at: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Decided {
    Retry,
    Skip,
    Replaying {
        replay: uuid::Uuid,
        transactional_id: String,
        lease_until: i64,
    },
    Replayed,
    Discarded,
}

/// A partition's progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgressLine {
    topic: String,
    partition: i32,
    era: u64,
    // Lines from before rows named their writer lack these: such a row is of the least writer.
    #[serde(default)]
    term: u64,
    #[serde(default)]
    attempt: AttemptId,
    floor: i64,
    received: i64,
    committed: i64,
    gaps: Vec<(i64, i64)>,
    #[serde(default)]
    missed: Vec<(i64, i64)>,
    failed: u64,
    succeeded: u64,
    at: i64,
}

impl From<Version> for VersionLine {
    fn from(version: Version) -> Self {
        Self {
            era: version.era,
            term: version.term,
            attempt: version.attempt,
            outcome: version.outcome,
        }
    }
}

impl From<VersionLine> for Version {
    fn from(line: VersionLine) -> Self {
        Self {
            era: line.era,
            term: line.term,
            attempt: line.attempt,
            outcome: line.outcome,
        }
    }
}

impl From<&Entry> for EntryLine {
    fn from(entry: &Entry) -> Self {
        let bytes = |bytes: &Option<Bytes>| bytes.clone().map(Hex);
        Self {
            topic: entry.id.partition.topic.to_string(),
            partition: entry.id.partition.number,
            offset: entry.id.offset,
            version: entry.version.into(),
            at: entry.at.0,
            failure: entry.failure.as_ref().map(|failure| FailureLine {
                class: failure.class.clone(),
                message: failure.message.clone(),
                fingerprint: failure.fingerprint,
                tries: failure.tries,
                passes: failure.passes,
                next_try: failure.next_try.map(|at| at.0),
                bytes_refused: failure.bytes_refused,
            }),
            first_failed_at: entry.first_failed_at.map(|at| at.0),
            captured: entry.captured.as_ref().map(|captured| CapturedLine {
                key: bytes(&captured.key),
                value: bytes(&captured.value),
                headers: captured
                    .headers
                    .iter()
                    .map(|header| (Hex(header.name.clone()), bytes(&header.value)))
                    .collect(),
            }),
            resolution: entry.resolution.as_ref().map(ResolutionLine::from),
            revision: entry.revision,
        }
    }
}

impl From<&Resolution> for ResolutionLine {
    fn from(resolution: &Resolution) -> Self {
        Self {
            decision: match &resolution.decision {
                Decision::Retry => Decided::Retry,
                Decision::Skip => Decided::Skip,
                Decision::Replaying(claim) => Decided::Replaying {
                    replay: claim.replay,
                    transactional_id: claim.transactional_id.clone(),
                    lease_until: claim.lease_until.0,
                },
                Decision::Replayed => Decided::Replayed,
                Decision::Discarded => Decided::Discarded,
            },
            about: resolution.about.into(),
            actor: resolution.actor.clone(),
            reason: resolution.reason.clone(),
            at: resolution.at.0,
        }
    }
}

impl From<ResolutionLine> for Resolution {
    fn from(line: ResolutionLine) -> Self {
        Self {
            decision: match line.decision {
                Decided::Retry => Decision::Retry,
                Decided::Skip => Decision::Skip,
                Decided::Replaying {
                    replay,
                    transactional_id,
                    lease_until,
                } => Decision::Replaying(Claim {
                    replay,
                    transactional_id,
                    lease_until: Timestamp(lease_until),
                }),
                Decided::Replayed => Decision::Replayed,
                Decided::Discarded => Decision::Discarded,
            },
            about: line.about.into(),
            actor: line.actor,
            reason: line.reason,
            at: Timestamp(line.at),
        }
    }
}

impl From<EntryLine> for Entry {
    fn from(line: EntryLine) -> Self {
        let bytes = |bytes: Option<Hex>| bytes.map(|Hex(bytes)| bytes);
        let id = Partition::new(line.topic, line.partition).at(line.offset);
        Self {
            failure: line.failure.map(|failure| Failure {
                class: failure.class,
                message: failure.message,
                fingerprint: failure.fingerprint,
                tries: failure.tries,
                passes: failure.passes,
                next_try: failure.next_try.map(Timestamp),
                bytes_refused: failure.bytes_refused,
            }),
            first_failed_at: line.first_failed_at.map(Timestamp),
            captured: line.captured.map(|captured| Captured {
                key: bytes(captured.key),
                value: bytes(captured.value),
                headers: captured
                    .headers
                    .into_iter()
                    .map(|(Hex(name), value)| Header {
                        name,
                        value: bytes(value),
                    })
                    .collect(),
            }),
            resolution: line.resolution.map(Resolution::from),
            revision: line.revision,
            ..Self::new(id, line.version.into(), Timestamp(line.at))
        }
    }
}

impl From<&Progress> for ProgressLine {
    fn from(row: &Progress) -> Self {
        let ranges = |gaps: &Gaps| gaps.iter().map(|gap| (gap.start, gap.end)).collect();
        Self {
            topic: row.partition.topic.to_string(),
            partition: row.partition.number,
            era: row.era,
            term: row.term,
            attempt: row.attempt,
            floor: row.floor,
            received: row.received,
            committed: row.committed,
            gaps: ranges(&row.gaps),
            missed: ranges(&row.missed),
            failed: row.failed,
            succeeded: row.succeeded,
            at: row.at.0,
        }
    }
}

impl From<ProgressLine> for Progress {
    fn from(line: ProgressLine) -> Self {
        let gaps = |ranges: Vec<(i64, i64)>| {
            let ranges = ranges.into_iter();
            ranges.map(|(start, end)| Range { start, end }).collect::<Gaps>()
        };
        Self {
            partition: Partition::new(line.topic, line.partition),
            era: line.era,
            term: line.term,
            attempt: line.attempt,
            floor: line.floor,
            received: line.received,
            committed: line.committed,
            gaps: gaps(line.gaps),
            missed: gaps(line.missed),
            failed: line.failed,
            succeeded: line.succeeded,
            at: Timestamp(line.at),
        }
    }
}

impl Line {
    /// An entry's line.
    pub fn entry(entry: &Entry) -> Self {
        Self::Entry(Box::new(entry.into()))
    }

    /// The text, with its line end.
    ///
    /// # Errors
    ///
    /// None that is known: every field can be written.
    pub fn text(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(|text| text + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back_as_it_was_written_and_always_has_every_field() {
        let version = Version {
            era: u64::MAX,
            term: 2,
            attempt: AttemptId(uuid::Uuid::from_u128(7)),
            outcome: Outcome::Failed,
        };
        let mut entry = Entry::new(Partition::new("a:b\n", -1).at(i64::MIN), version, Timestamp(-1));
        let bare = Line::entry(&entry).text().unwrap();
        assert_eq!(
            bare,
            "{\"kind\":\"entry\",\"topic\":\"a:b\\n\",\"partition\":-1,\"offset\":-9223372036854775808,\"era\":18446744073709551615,\"term\":2,\
             \"attempt\":\"00000000-0000-0000-0000-000000000007\",\"outcome\":\"failed\",\"at\":-1,\"failure\":null,\"first_failed_at\":null,\
             \"captured\":null,\"resolution\":null,\"revision\":0}\n"
        );
        entry.failure = Some(Failure::new("malformed", "not \"JSON\" \u{1}"));
        entry.first_failed_at = Some(Timestamp(5));
        entry.captured = Some(Captured {
            key: Some(Bytes::from_static(b"\0\xff")),
            value: Some(Bytes::new()),
            headers: vec![Header {
                name: Bytes::from_static(b"\xfe"),
                value: None,
            }],
        });
        entry.revision = 3;
        let claim = Claim {
            replay: uuid::Uuid::from_u128(9),
            transactional_id: "t".into(),
            lease_until: Timestamp(8),
        };
        for decision in [
            Decision::Retry,
            Decision::Skip,
            Decision::Replaying(claim),
            Decision::Replayed,
            Decision::Discarded,
        ] {
            entry.resolution = Some(Resolution {
                decision,
                about: version,
                actor: "ada".into(),
                reason: "because".into(),
                at: Timestamp(6),
            });
            let text = Line::entry(&entry).text().unwrap();
            let Line::Entry(line) = serde_json::from_str(&text).unwrap() else {
                panic!("{text}")
            };
            assert_eq!(Entry::from(*line), entry);
        }
    }

    #[test]
    fn a_line_of_progress_comes_back_and_one_from_before_rows_named_their_writer_is_read() {
        let row = Progress {
            partition: Partition::new("orders", 3),
            era: 1,
            term: 2,
            attempt: AttemptId(uuid::Uuid::from_u128(7)),
            floor: 0,
            received: 9,
            committed: 8,
            gaps: std::iter::once(3..5).collect(),
            missed: std::iter::once(3..4).collect(),
            failed: 1,
            succeeded: 7,
            at: Timestamp(5),
        };
        let text = serde_json::to_string(&Line::Progress((&row).into())).unwrap();
        let read = |text: &str| match serde_json::from_str(text).unwrap() {
            Line::Progress(line) => Progress::from(line),
            other => panic!("{other:?}"),
        };
        assert_eq!(read(&text), row);
        let old = "{\"kind\":\"progress\",\"topic\":\"orders\",\"partition\":3,\"era\":1,\"floor\":0,\"received\":9,\"committed\":8,\
                   \"gaps\":[[3,5]],\"failed\":1,\"succeeded\":7,\"at\":5}";
        let nobodys = Progress {
            term: 0,
            attempt: AttemptId::default(),
            missed: Gaps::default(),
            ..row
        };
        assert_eq!(read(old), nobodys);
    }
}
