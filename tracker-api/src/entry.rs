use std::{cmp::Ordering, collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    progress::Progress,
    resolution::{Decision, Resolution},
    tracker::{Purgeable, Status},
};

/// Milliseconds since the Unix epoch. Always the caller's clock: a tracker never reads one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// A partition of a source topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub number: i32,
}

impl Partition {
    /// Partition `number` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, number: i32) -> Self {
        Self {
            topic: topic.into(),
            number,
        }
    }

    /// The record of this partition at `offset`.
    pub fn at(&self, offset: i64) -> RecordId {
        RecordId {
            partition: self.clone(),
            offset,
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.topic, self.number)
    }
}

/// Where a record stands in its source topic. Orders by topic, partition, offset, the numbers as numbers.
///
/// Its text form, `topic:partition:offset`, is the dedup key that every output carries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordId {
    /// The partition.
    pub partition: Partition,
    /// The offset in it, from 0.
    pub offset: i64,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl FromStr for RecordId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{}` is not a record id: expected topic:partition:offset",
                text.escape_debug()
            )
        };
        // Digits only: `+7` parses as a number, but no record is ever shown so.
        let digits = |part: &&str| part.bytes().all(|b| b.is_ascii_digit());
        let mut parts = text.rsplitn(3, ':');
        let offset = parts
            .next()
            .filter(digits)
            .and_then(|p| p.parse().ok())
            .ok_or_else(wrong)?;
        let number = parts
            .next()
            .filter(digits)
            .and_then(|p| p.parse().ok())
            .ok_or_else(wrong)?;
        let topic = parts.next().filter(|t| !t.is_empty()).ok_or_else(wrong)?;
        Ok(Self {
            partition: Partition::new(topic, number),
            offset,
        })
    }
}

/// One try to commit one batch in one Kafka transaction. A UUIDv7, compared as a number.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptId(pub Uuid);

impl fmt::Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.simple())
    }
}

/// What the pipeline knows of a record. Within one attempt, later knowledge is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Outcome {
    /// In flight; also what a *void* writes over a failure whose attempt came to nothing.
    Received = 0,
    /// A try failed and no commit has passed the record. [`Failure::passes`] says what its attempt means to do.
    Failing = 1,
    /// The commit of its attempt passed the record: a dead letter, to be replayed or discarded.
    Failed = 2,
    /// Its output is committed.
    Succeeded = 3,
}

/// What decides between two entries for one record: the greater one stays (the law of *join*).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Rises when the partition's offset carries no note of ours: a first start, a reset, a topic recreated.
    pub era: u64,
    /// Rises at every assignment of the partition, so that a zombie's late writes lose.
    pub term: u64,
    /// The attempt that learnt it.
    pub attempt: AttemptId,
    /// What was learnt.
    pub outcome: Outcome,
}

/// Why a record could not be transformed, and how often it was tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Failure {
    /// The error's class, such as `malformed`: what alerts and filters name. At most 128 bytes.
    pub class: String,
    /// What happened, for a person. At most 8 KiB, without NUL.
    pub message: String,
    /// Equal for failures with one cause: the class, and the message without its numbers and ids.
    pub fingerprint: u64,
    /// Tries so far, from 1.
    pub tries: u32,
    /// Whether the attempt means to pass the record (its offset advances over it) or to stop before it.
    pub passes: bool,
    /// When it is tried again; none if it is not.
    pub next_try: Option<Timestamp>,
    /// Set when the store refused the captured bytes and the failure was kept without them.
    pub bytes_refused: bool,
}

impl Failure {
    /// A first try's failure. Makes class and message storable anywhere: NUL becomes U+FFFD, and both are cut to their
    /// bounds at a character's edge. This is the only place where text is changed.
    pub fn new(class: &str, message: &str) -> Self {
        let class = storable(class, 128);
        let message = storable(message, 8 * 1024);
        let fingerprint = fingerprint(&class, &message);
        Self {
            class,
            message,
            fingerprint,
            tries: 1,
            passes: false,
            next_try: None,
            bytes_refused: false,
        }
    }
}

fn storable(text: &str, bound: usize) -> String {
    let mut text = text.replace('\0', "\u{FFFD}");
    if text.len() > bound {
        let edge = (0..=bound).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(edge);
    }
    text
}

/// FNV-1a over the class and the message with every token that holds a digit blanked. Stable across versions: it is stored.
fn fingerprint(class: &str, message: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    eat(class.as_bytes());
    for token in message.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_' && c != '.') {
        let varies = token.chars().any(|c| c.is_ascii_digit());
        eat(b"\n");
        eat(if varies { b"#" } else { token.as_bytes() });
    }
    hash
}

/// A record's header. Names are bytes too: Kafka does not promise UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Header {
    /// The name, unchanged.
    pub name: Bytes,
    /// The value, unchanged; none is Kafka's null.
    pub value: Option<Bytes>,
}

/// A record's bytes as they were read: what replay uses. Survives a store unchanged, NUL and non-UTF-8 included.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Captured {
    /// The key; none is Kafka's null.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// The headers, in order, repeated names kept.
    pub headers: Vec<Header>,
}

/// What a tracker keeps of one record: an *outcome* half that the pipeline writes, and a *resolution* half that
/// operators write. Neither write ever touches the other half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The record.
    pub id: RecordId,
    /// Decides which of two entries stays.
    pub version: Version,
    /// When the pipeline wrote it.
    pub at: Timestamp,
    /// Why, when the outcome is `Failing` or `Failed`.
    pub failure: Option<Failure>,
    /// When the record first failed. Joins apart from the version, within an era: something beats nothing, the earlier
    /// beats the later. An entry that comes with a failure and without this is read as first failed when it was written.
    pub first_failed_at: Option<Timestamp>,
    /// The record's bytes. Joins apart from the version, within an era: something beats nothing (of two that differ the
    /// greater, byte by byte, so that the order of arrival decides nothing).
    pub captured: Option<Captured>,
    /// What an operator decided, if anything; see [`Entry::decision`] for whether it applies. Ignored by `record`.
    pub resolution: Option<Resolution>,
    /// Counts the resolutions written so far; what `resolve` compares. Ignored by `record`.
    pub revision: u64,
}

impl Entry {
    /// An entry without failure, captured bytes or resolution.
    pub fn new(id: RecordId, version: Version, at: Timestamp) -> Self {
        Self {
            id,
            version,
            at,
            failure: None,
            first_failed_at: None,
            captured: None,
            resolution: None,
            revision: 0,
        }
    }

    /// Whether the record stands at the front of its partition and is tried again: `Failing`, and not to be passed.
    pub fn is_blocking(&self) -> bool {
        self.version.outcome == Outcome::Failing && self.failure.as_ref().is_none_or(|f| !f.passes)
    }

    /// The decision that applies now. On a failed record one about this very failure (its version); on a blocking one
    /// any of the same era. A success wins over every resolution, and a new failure is open again.
    pub fn decision(&self) -> Option<&Decision> {
        let resolution = self.resolution.as_ref()?;
        resolution
            .applies_to(&self.version, self.is_blocking())
            .then_some(&resolution.decision)
    }

    /// The law of *join*: what is kept when `self` is held and `new` arrives, and whether `new` stands (its version is
    /// at least the held one's). The resolution half stays as it is.
    ///
    /// Commutative, associative and idempotent, so neither order nor repetition of writes decides anything. `captured`
    /// and `first_failed_at` outlive greater versions within an era. A greater era starts afresh with both: after a
    /// topic was recreated, another record stands at the same offset.
    pub fn join(&mut self, new: &Self) -> bool {
        let stands = new.version >= self.version;
        match new.version.era.cmp(&self.version.era) {
            Ordering::Less => {}
            Ordering::Greater => {
                self.first_failed_at = new.first_failed_at;
                self.captured = new.captured.clone();
            }
            Ordering::Equal => {
                self.first_failed_at = match (self.first_failed_at, new.first_failed_at) {
                    (Some(held), Some(new)) => Some(held.min(new)),
                    (held, new) => held.or(new),
                };
                if new.captured > self.captured {
                    self.captured = new.captured.clone();
                }
            }
        }
        if new.rank() > self.rank() {
            self.version = new.version;
            self.at = new.at;
            self.failure = new.failure.clone();
        }
        stands
    }

    /// What is kept when `self` is held and `other` is taken over whole, as [`FailureTracker::import`] does: the outcome half
    /// joins; of the resolution halves the one with the greater revision stays, of two with the same the held one.
    ///
    /// [`FailureTracker::import`]: crate::FailureTracker::import
    pub fn merge(&mut self, other: &Self) {
        self.join(other);
        if other.revision > self.revision {
            self.revision = other.revision;
            self.resolution.clone_from(&other.resolution);
        }
    }

    /// What decides whose outcome is kept: the version. What follows it settles two accounts of one version (a mark and
    /// a reconcile's, written at different times), so that both orders end alike.
    fn rank(&self) -> impl Ord + '_ {
        (self.version, self.failure.is_some(), self.at, &self.failure)
    }

    /// As what a purge may delete it, its age apart, when its partition's progress is `progress`; none if it stays.
    /// Never a record in flight or blocking in the current era, never one that is being replayed, and never an open failure
    /// that still counts. Backends keep this rule, in their own language or by calling it.
    pub fn purgeable(&self, progress: Option<&Progress>) -> Option<Purgeable> {
        let superseded = progress.is_some_and(|p| self.version.era < p.era);
        match Status::of(self) {
            Status::Succeeded => Some(Purgeable::Succeeded),
            Status::Skipped | Status::Replayed | Status::Discarded => Some(Purgeable::Resolved),
            Status::Replaying => None,
            Status::Received | Status::Failing | Status::Blocking => {
                superseded.then_some(Purgeable::Superseded)
            }
            // Below the floor an older era's failure is still a fact; at or above it, it counts as absent.
            Status::Open => {
                let absent = superseded && progress.is_some_and(|p| self.id.offset >= p.floor);
                absent.then_some(Purgeable::Superseded)
            }
        }
    }
}

/// Joins the entries of one slice for `record`, so that each id occurs once, in id order, without resolution and with
/// `first_failed_at` filled in. Backends call it first: a slice may repeat an id.
pub fn coalesce(entries: &[Entry]) -> Vec<Entry> {
    joined(entries.iter().map(|entry| Entry {
        resolution: None,
        revision: 0,
        ..entry.clone()
    }))
}

/// Merges the entries of one slice for `import`: as [`coalesce`], with their resolutions.
pub fn coalesce_whole(entries: &[Entry]) -> Vec<Entry> {
    joined(entries.iter().cloned())
}

fn joined(entries: impl Iterator<Item = Entry>) -> Vec<Entry> {
    let mut joined: BTreeMap<RecordId, Entry> = BTreeMap::new();
    for mut fresh in entries {
        if fresh.first_failed_at.is_none() && fresh.failure.is_some() {
            fresh.first_failed_at = Some(fresh.at);
        }
        match joined.entry(fresh.id.clone()) {
            std::collections::btree_map::Entry::Occupied(mut held) => held.get_mut().merge(&fresh),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(fresh);
            }
        }
    }
    joined.into_values().collect()
}

#[cfg(test)]
mod tests;
