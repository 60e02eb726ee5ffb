//! Keys that order as what they stand for, and values that say when they are damaged.
//!
//! A value is a format byte, the row in postcard, and a CRC-32 over both and the key: a value under another's key is
//! damage too. A change of a row's shape needs another format byte; a test holds the bytes of this one.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tracker_api::{
    AttemptId, Captured, Claim, Decision, Entry, Error, ErrorKind, Failure, Gaps, Outcome, Partition,
    Progress, RecordId, Resolution, Result, Status, Timestamp, Version,
};

const FORMAT: u8 = 1;
/// The format of a partition's progress since it names its writer.
const PROGRESS: u8 = 2;

/// A namespace's number inside one database.
pub(crate) type Number = u32;

pub(crate) fn namespace_prefix(number: Number) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// The key of a partition's progress, and the front of its records' keys.
pub(crate) fn partition_key(number: Number, partition: &Partition) -> Vec<u8> {
    let mut key = namespace_prefix(number);
    push_partition(&mut key, partition);
    key
}

pub(crate) fn record_key(number: Number, id: &RecordId) -> Vec<u8> {
    let mut key = partition_key(number, &id.partition);
    key.extend(ordered(id.offset));
    key
}

/// The key of the index by first failure.
pub(crate) fn time_key(number: Number, at: Timestamp, id: &RecordId) -> Vec<u8> {
    let mut key = time_prefix(number, at);
    push_partition(&mut key, &id.partition);
    key.extend(ordered(id.offset));
    key
}

/// The key of the index by age: of each kind of entry apart, so that a purge of one kind reads no other.
pub(crate) fn age_key(number: Number, kind: u8, at: Timestamp, id: &RecordId) -> Vec<u8> {
    let mut key = age_prefix(number, kind);
    key.extend(ordered(at.0));
    push_partition(&mut key, &id.partition);
    key.extend(ordered(id.offset));
    key
}

/// Where the keys of one kind begin.
pub(crate) fn age_prefix(number: Number, kind: u8) -> Vec<u8> {
    let mut key = namespace_prefix(number);
    key.push(kind);
    key
}

/// Where the keys of one kind, written at a time, begin.
pub(crate) fn age_bound(number: Number, kind: u8, at: Timestamp) -> Vec<u8> {
    let mut key = age_prefix(number, kind);
    key.extend(ordered(at.0));
    key
}

pub(crate) fn time_prefix(number: Number, at: Timestamp) -> Vec<u8> {
    let mut key = namespace_prefix(number);
    key.extend(ordered(at.0));
    key
}

/// The least key that is greater than every key that starts with `prefix`; none when there is no such key.
pub(crate) fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

pub(crate) fn record_of(key: &[u8]) -> Result<RecordId> {
    key.get(4..).and_then(read_record).ok_or_else(|| damaged_key(key))
}

pub(crate) fn timed_record_of(key: &[u8]) -> Result<(Timestamp, RecordId)> {
    key.get(4..).and_then(read_timed).ok_or_else(|| damaged_key(key))
}

pub(crate) fn aged_record_of(key: &[u8]) -> Result<(Timestamp, RecordId)> {
    key.get(5..).and_then(read_timed).ok_or_else(|| damaged_key(key))
}

fn read_timed(bytes: &[u8]) -> Option<(Timestamp, RecordId)> {
    let (at, rest) = bytes.split_first_chunk::<8>()?;
    Some((Timestamp(number_of(*at)), read_record(rest)?))
}

// NUL ends the topic and is escaped inside it, so that a topic sorts before every longer one that it begins.
fn push_partition(key: &mut Vec<u8>, partition: &Partition) {
    for byte in partition.topic.bytes() {
        key.push(byte);
        if byte == 0 {
            key.push(0xff);
        }
    }
    key.extend([0, 0]);
    key.extend((partition.number ^ i32::MIN).to_be_bytes());
}

fn read_record(mut bytes: &[u8]) -> Option<RecordId> {
    let mut topic = Vec::new();
    loop {
        let (first, rest) = bytes.split_first()?;
        bytes = rest;
        if *first == 0 {
            let (second, rest) = bytes.split_first()?;
            bytes = rest;
            match second {
                0 => break,
                0xff => {}
                _ => return None,
            }
        }
        topic.push(*first);
    }
    let (number, offset) = bytes.split_first_chunk::<4>()?;
    let offset: [u8; 8] = offset.try_into().ok()?;
    let number = i32::from_be_bytes(*number) ^ i32::MIN;
    let topic = String::from_utf8(topic).ok()?;
    Some(Partition::new(topic, number).at(number_of(offset)))
}

fn ordered(number: i64) -> [u8; 8] {
    (number ^ i64::MIN).to_be_bytes()
}

fn number_of(bytes: [u8; 8]) -> i64 {
    i64::from_be_bytes(bytes) ^ i64::MIN
}

fn damaged_key(key: &[u8]) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("the key `{}` is no key of ours", key.escape_ascii()),
    )
}

pub(crate) fn encode<T: Serialize>(key: &[u8], row: &T) -> Result<Vec<u8>> {
    encode_as(FORMAT, key, row)
}

fn encode_as<T: Serialize>(format: u8, key: &[u8], row: &T) -> Result<Vec<u8>> {
    let mut value = postcard::to_extend(row, vec![format]).map_err(|error| {
        let message = format!("the row of `{}` cannot be written", key.escape_ascii());
        Error::new(ErrorKind::Refused, message).with_source(error)
    })?;
    value.extend(sum(key, &value).to_le_bytes());
    Ok(value)
}

pub(crate) fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T> {
    match checked(key, value)? {
        (FORMAT, row) => read_row(key, row),
        (format, _) => Err(unknown(key, format)),
    }
}

pub(crate) fn encode_progress(key: &[u8], row: &Progress) -> Result<Vec<u8>> {
    encode_as(PROGRESS, key, row)
}

pub(crate) fn decode_progress(key: &[u8], value: &[u8]) -> Result<Progress> {
    match checked(key, value)? {
        (PROGRESS, row) => read_row(key, row),
        (FORMAT, row) => read_row::<OldProgress>(key, row).map(Progress::from),
        (format, _) => Err(unknown(key, format)),
    }
}

/// The format and the row of a value that is whole.
fn checked<'v>(key: &[u8], value: &'v [u8]) -> Result<(u8, &'v [u8])> {
    let Some((body, held)) = value.split_last_chunk::<4>() else {
        return Err(damaged(key, &format!("{} bytes are too few", value.len())));
    };
    if u32::from_le_bytes(*held) != sum(key, body) {
        return Err(damaged(key, "its checksum is another's"));
    }
    let (format, row) = body.split_first().ok_or_else(|| damaged(key, "it is empty"))?;
    Ok((*format, row))
}

fn read_row<T: DeserializeOwned>(key: &[u8], row: &[u8]) -> Result<T> {
    match postcard::take_from_bytes(row) {
        Ok((row, [])) => Ok(row),
        Ok((_, rest)) => Err(damaged(key, &format!("{} bytes follow it", rest.len()))),
        Err(error) => Err(damaged(key, &error.to_string())),
    }
}

fn unknown(key: &[u8], format: u8) -> Error {
    damaged(key, &format!("its format {format} is unknown"))
}

fn damaged(key: &[u8], how: &str) -> Error {
    let message = format!(
        "the value of `{}` is damaged: {how}; restore it from a backup",
        key.escape_ascii()
    );
    Error::new(ErrorKind::Corrupt, message)
}

fn sum(key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(body);
    hasher.finalize()
}

/// A namespace's row.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NamespaceRow {
    pub(crate) number: Number,
    pub(crate) cluster: Option<String>,
}

pub(crate) fn encode_entry(key: &[u8], entry: &Entry) -> Result<Vec<u8>> {
    let row = EntryRow {
        version: entry.version,
        at: entry.at,
        failure: entry.failure.clone(),
        first_failed_at: entry.first_failed_at,
        captured: entry.captured.clone(),
        resolution: entry.resolution.as_ref().map(ResolutionRow::from),
        revision: entry.revision,
    };
    encode(key, &row)
}

pub(crate) fn decode_entry(key: &[u8], value: &[u8]) -> Result<Entry> {
    let row: EntryRow = decode(key, value)?;
    Ok(Entry {
        id: record_of(key)?,
        version: row.version,
        at: row.at,
        failure: row.failure,
        first_failed_at: row.first_failed_at,
        captured: row.captured,
        resolution: row.resolution.map(Resolution::from),
        revision: row.revision,
    })
}

/// What the index by first failure says of an entry, so that a listing need not read what it leaves out, nor groups what
/// they count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Brief {
    pub(crate) outcome: Outcome,
    pub(crate) status: Status,
    pub(crate) era: u64,
    /// Fingerprint and [`class_sum`].
    pub(crate) cause: Option<(u64, u32)>,
}

impl Brief {
    pub(crate) fn of(entry: &Entry) -> Self {
        let cause = |failure: &Failure| (failure.fingerprint, class_sum(&failure.class));
        Self {
            outcome: entry.version.outcome,
            status: Status::of(entry),
            era: entry.version.era,
            cause: entry.failure.as_ref().map(cause),
        }
    }
}

/// Classes with different sums are different; with equal ones they may be equal.
pub(crate) fn class_sum(class: &str) -> u32 {
    crc32fast::hash(class.as_bytes())
}

/// None of an index row that was written before these existed.
pub(crate) fn decode_brief(key: &[u8], value: &[u8]) -> Result<Option<Brief>> {
    (!value.is_empty()).then(|| decode(key, value)).transpose()
}

/// A partition's progress as format 1 has it: nobody says who wrote it.
#[derive(Serialize, Deserialize)]
struct OldProgress {
    partition: Partition,
    era: u64,
    floor: i64,
    received: i64,
    committed: i64,
    gaps: Gaps,
    failed: u64,
    succeeded: u64,
    at: Timestamp,
}

impl From<OldProgress> for Progress {
    fn from(row: OldProgress) -> Self {
        Self {
            partition: row.partition,
            era: row.era,
            term: 0,
            attempt: AttemptId::default(),
            floor: row.floor,
            received: row.received,
            committed: row.committed,
            gaps: row.gaps,
            missed: Gaps::default(),
            failed: row.failed,
            succeeded: row.succeeded,
            at: row.at,
        }
    }
}

/// An entry without its id, which is its key.
#[derive(Serialize, Deserialize)]
struct EntryRow {
    version: Version,
    at: Timestamp,
    failure: Option<Failure>,
    first_failed_at: Option<Timestamp>,
    captured: Option<Captured>,
    resolution: Option<ResolutionRow>,
    revision: u64,
}

/// A resolution without the tag that [`Decision`] carries for people: postcard numbers the variants.
#[derive(Serialize, Deserialize)]
struct ResolutionRow {
    decision: DecisionRow,
    about: Version,
    actor: String,
    reason: String,
    at: Timestamp,
}

#[derive(Serialize, Deserialize)]
enum DecisionRow {
    Retry,
    Skip,
    Replaying(Claim),
    Replayed,
    Discarded,
}

impl From<&Resolution> for ResolutionRow {
    fn from(resolution: &Resolution) -> Self {
        Self {
            decision: match &resolution.decision {
                Decision::Retry => DecisionRow::Retry,
                Decision::Skip => DecisionRow::Skip,
                Decision::Replaying(claim) => DecisionRow::Replaying(claim.clone()),
                Decision::Replayed => DecisionRow::Replayed,
                Decision::Discarded => DecisionRow::Discarded,
            },
            about: resolution.about,
            actor: resolution.actor.clone(),
            reason: resolution.reason.clone(),
            at: resolution.at,
        }
    }
}

impl From<ResolutionRow> for Resolution {
    fn from(row: ResolutionRow) -> Self {
        Self {
            decision: match row.decision {
                DecisionRow::Retry => Decision::Retry,
                DecisionRow::Skip => Decision::Skip,
                DecisionRow::Replaying(claim) => Decision::Replaying(claim),
                DecisionRow::Replayed => Decision::Replayed,
                DecisionRow::Discarded => Decision::Discarded,
            },
            about: row.about,
            actor: row.actor,
            reason: row.reason,
            at: row.at,
        }
    }
}

#[cfg(test)]
mod tests;
