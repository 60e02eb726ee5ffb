//! Bytes that order as what they stand for, so that the scripts join by comparing strings.
//!
//! A change of a shape needs another format number; a test holds the bytes of this one.

use bytes::Bytes;
use tracker_api::{
    AttemptId, Captured, Claim, Decision, Entry, Failure, Gaps, Header, Outcome, Partition, Progress,
    RecordId, Resolution, Timestamp, Version,
};

/// The text in which bytes can be read back; none when they are not ours.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*chunk)
    }

    fn byte(&mut self) -> Option<u8> {
        self.chunk::<1>().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn natural(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_be_bytes)
    }

    fn number(&mut self) -> Option<i64> {
        self.chunk().map(|bytes| i64::from_be_bytes(bytes) ^ i64::MIN)
    }

    fn time(&mut self) -> Option<Timestamp> {
        self.number().map(Timestamp)
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let mut read = Vec::new();
        loop {
            match self.byte()? {
                0 => match self.byte()? {
                    0 => return Some(read),
                    0xff => read.push(0),
                    _ => return None,
                },
                byte => read.push(byte),
            }
        }
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?).ok()
    }

    fn optional_bytes(&mut self) -> Option<Option<Bytes>> {
        match self.flag()? {
            true => Some(Some(self.bytes()?.into())),
            false => Some(None),
        }
    }

    fn version(&mut self) -> Option<Version> {
        Some(Version {
            era: self.natural()?,
            term: self.natural()?,
            attempt: AttemptId(uuid::Uuid::from_bytes(self.chunk()?)),
            outcome: match self.byte()? {
                0 => Outcome::Received,
                1 => Outcome::Failing,
                2 => Outcome::Failed,
                3 => Outcome::Succeeded,
                _ => return None,
            },
        })
    }

    fn failure(&mut self) -> Option<Failure> {
        let class = self.text()?;
        let message = self.text()?;
        let fingerprint = self.natural()?;
        let tries = self.chunk().map(u32::from_be_bytes)?;
        let passes = self.flag()?;
        let has_next = self.flag()?;
        let next = self.time()?;
        Some(Failure {
            class,
            message,
            fingerprint,
            tries,
            passes,
            next_try: has_next.then_some(next),
            bytes_refused: self.flag()?,
        })
    }

    fn end<T>(&self, read: T) -> Option<T> {
        self.0.is_empty().then_some(read)
    }
}

/// The numbers from least to greatest as bytes.
pub(crate) fn ordered(number: i64) -> [u8; 8] {
    (number ^ i64::MIN).to_be_bytes()
}

/// Bytes that end with two NULs; a NUL inside is followed by 255, so that they sort before everything that they begin.
pub(crate) fn push_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    push_escaped(to, bytes);
    to.extend([0, 0]);
}

pub(crate) fn push_escaped(to: &mut Vec<u8>, bytes: &[u8]) {
    for part in bytes.split_inclusive(|byte| *byte == 0) {
        to.extend(part);
        if part.ends_with(&[0]) {
            to.push(0xff);
        }
    }
}

pub(crate) fn push_optional(to: &mut Vec<u8>, bytes: Option<&Bytes>) {
    to.push(u8::from(bytes.is_some()));
    if let Some(bytes) = bytes {
        push_bytes(to, bytes);
    }
}

/// What every id of a topic begins with.
pub(crate) fn topic(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 14);
    push_bytes(&mut bytes, name.as_bytes());
    bytes
}

pub(crate) fn partition(partition: &Partition) -> Vec<u8> {
    let mut bytes = topic(&partition.topic);
    bytes.extend((partition.number ^ i32::MIN).to_be_bytes());
    bytes
}

pub(crate) fn id(id: &RecordId) -> Vec<u8> {
    let mut bytes = partition(&id.partition);
    bytes.extend(ordered(id.offset));
    bytes
}

fn read_partition(reader: &mut Reader<'_>) -> Option<Partition> {
    let topic = reader.text()?;
    let number = reader.chunk().map(i32::from_be_bytes)? ^ i32::MIN;
    Some(Partition::new(topic, number))
}

pub(crate) fn read_id(bytes: &[u8]) -> Option<RecordId> {
    let mut reader = Reader::new(bytes);
    let id = read_partition(&mut reader)?.at(reader.number()?);
    reader.end(id)
}

fn push_version(to: &mut Vec<u8>, version: &Version) {
    to.extend(version.era.to_be_bytes());
    to.extend(version.term.to_be_bytes());
    to.extend(version.attempt.0.as_bytes());
    to.push(version.outcome as u8);
}

/// The outcome half without what joins apart, ordered as the contract ranks it.
pub(crate) fn rank(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    push_version(&mut bytes, &entry.version);
    bytes.push(u8::from(entry.failure.is_some()));
    bytes.extend(ordered(entry.at.0));
    if let Some(failure) = &entry.failure {
        push_bytes(&mut bytes, failure.class.as_bytes());
        push_bytes(&mut bytes, failure.message.as_bytes());
        bytes.extend(failure.fingerprint.to_be_bytes());
        bytes.extend(failure.tries.to_be_bytes());
        bytes.push(u8::from(failure.passes));
        bytes.push(u8::from(failure.next_try.is_some()));
        bytes.extend(ordered(failure.next_try.map_or(i64::MIN, |at| at.0)));
        bytes.push(u8::from(failure.bytes_refused));
    }
    bytes
}

pub(crate) fn captured(captured: &Captured) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_optional(&mut bytes, captured.key.as_ref());
    push_optional(&mut bytes, captured.value.as_ref());
    for header in &captured.headers {
        bytes.push(1);
        push_bytes(&mut bytes, &header.name);
        push_optional(&mut bytes, header.value.as_ref());
    }
    bytes.push(0);
    bytes
}

pub(crate) fn read_captured(bytes: &[u8]) -> Option<Captured> {
    let mut reader = Reader::new(bytes);
    let mut captured = Captured {
        key: reader.optional_bytes()?,
        value: reader.optional_bytes()?,
        headers: Vec::new(),
    };
    while reader.flag()? {
        captured.headers.push(Header {
            name: reader.bytes()?.into(),
            value: reader.optional_bytes()?,
        });
    }
    reader.end(captured)
}

/// A resolution: its kind, the version that it is about, and what no script looks at. Nothing for none.
pub(crate) fn resolution(resolution: Option<&Resolution>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Some(resolution) = resolution else {
        return bytes;
    };
    bytes.push(match &resolution.decision {
        Decision::Retry => 1,
        Decision::Skip => 2,
        Decision::Replaying(_) => 3,
        Decision::Replayed => 4,
        Decision::Discarded => 5,
    });
    push_version(&mut bytes, &resolution.about);
    if let Decision::Replaying(claim) = &resolution.decision {
        bytes.extend(claim.replay.as_bytes());
        push_bytes(&mut bytes, claim.transactional_id.as_bytes());
        bytes.extend(ordered(claim.lease_until.0));
    }
    push_bytes(&mut bytes, resolution.actor.as_bytes());
    push_bytes(&mut bytes, resolution.reason.as_bytes());
    bytes.extend(ordered(resolution.at.0));
    bytes
}

/// A resolution's row: the revision, and the resolution. Nothing for an entry that nobody has decided about.
pub(crate) fn resolution_row(entry: &Entry) -> Vec<u8> {
    if entry.revision == 0 && entry.resolution.is_none() {
        return Vec::new();
    }
    let mut bytes = entry.revision.to_be_bytes().to_vec();
    bytes.extend(resolution(entry.resolution.as_ref()));
    bytes
}

fn read_resolution_row(bytes: &[u8]) -> Option<(u64, Option<Resolution>)> {
    let mut reader = Reader::new(bytes);
    let revision = reader.natural()?;
    if reader.0.is_empty() {
        return Some((revision, None));
    }
    let kind = reader.byte()?;
    let about = reader.version()?;
    let decision = match kind {
        1 => Decision::Retry,
        2 => Decision::Skip,
        3 => Decision::Replaying(Claim {
            replay: uuid::Uuid::from_bytes(reader.chunk()?),
            transactional_id: reader.text()?,
            lease_until: reader.time()?,
        }),
        4 => Decision::Replayed,
        5 => Decision::Discarded,
        _ => return None,
    };
    let resolution = Resolution {
        decision,
        about,
        actor: reader.text()?,
        reason: reader.text()?,
        at: reader.time()?,
    };
    reader.end((revision, Some(resolution)))
}

/// An entry as the scripts answer it: its id's bytes, its value, and what is kept apart from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) id: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) captured: Option<Vec<u8>>,
    pub(crate) resolution: Option<Vec<u8>>,
}

impl Row {
    /// The entry; none when the bytes are not ours, or what belongs to them is missing.
    pub(crate) fn read(&self) -> Option<Entry> {
        let (flags, mut entry) = read_outcome(&self.id, &self.value)?;
        if flags & 2 != 0 {
            (entry.revision, entry.resolution) = read_resolution_row(self.resolution.as_ref()?)?;
        }
        if flags & 4 != 0 {
            entry.captured = Some(read_captured(self.captured.as_ref()?)?);
        }
        Some(entry)
    }
}

/// What an entry's value says, and its flags.
fn read_outcome(id: &[u8], value: &[u8]) -> Option<(u8, Entry)> {
    let id = read_id(id)?;
    let mut reader = Reader::new(value);
    let flags = reader.byte().filter(|flags| *flags < 8)?;
    let first_failed_at = match flags & 1 {
        0 => None,
        _ => Some(reader.time()?),
    };
    let version = reader.version()?;
    let failed = reader.flag()?;
    let at = reader.time()?;
    let failure = match failed {
        true => Some(reader.failure()?),
        false => None,
    };
    let entry = Entry {
        failure,
        first_failed_at,
        ..Entry::new(id, version, at)
    };
    reader.end((flags, entry))
}

/// The failure that an entry's value tells.
pub(crate) fn read_failure(id: &[u8], value: &[u8]) -> Option<(RecordId, Failure)> {
    let (_, entry) = read_outcome(id, value)?;
    Some((entry.id, entry.failure?))
}

pub(crate) fn progress(row: &Progress) -> Vec<u8> {
    let mut bytes = row.era.to_be_bytes().to_vec();
    for position in [row.floor, row.received, row.committed] {
        bytes.extend(ordered(position));
    }
    bytes.extend(row.failed.to_be_bytes());
    bytes.extend(row.succeeded.to_be_bytes());
    bytes.extend(ordered(row.at.0));
    for gap in row.gaps.iter() {
        bytes.extend(ordered(gap.start));
        bytes.extend(ordered(gap.end));
    }
    bytes
}

pub(crate) fn read_progress(partition: &[u8], row: &[u8]) -> Option<Progress> {
    let mut place = Reader::new(partition);
    let read = read_partition(&mut place)?;
    let partition = place.end(read)?;
    let mut reader = Reader::new(row);
    let mut progress = Progress {
        partition,
        era: reader.natural()?,
        floor: reader.number()?,
        received: reader.number()?,
        committed: reader.number()?,
        failed: reader.natural()?,
        succeeded: reader.natural()?,
        at: reader.time()?,
        gaps: Gaps::default(),
    };
    while !reader.0.is_empty() {
        progress.gaps.add(reader.number()?..reader.number()?);
    }
    Some(progress)
}

pub(crate) fn read_time(bytes: &[u8]) -> Option<Timestamp> {
    let mut reader = Reader::new(bytes);
    let time = reader.time()?;
    reader.end(time)
}

pub(crate) fn read_natural(bytes: &[u8]) -> Option<u64> {
    let mut reader = Reader::new(bytes);
    let number = reader.natural()?;
    reader.end(number)
}
