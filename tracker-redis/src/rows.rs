//! Entries and progress as they are stored; `scripts/rows.lua` says what the scripts read of them.
//!
//! A change of a shape needs another format number; a test holds the bytes of this one.

use std::ops::Range;

use tracker_api::{
    AttemptId, Captured, Claim, Decision, Entry, Failure, Gaps, Header, Outcome, Progress, RecordId,
    Resolution, Version,
};

use crate::codec::{Reader, ordered, push_bytes, push_optional, read_id, read_partition};

fn push_version(to: &mut Vec<u8>, version: &Version) {
    to.extend(version.era.to_be_bytes());
    to.extend(version.term.to_be_bytes());
    to.extend(version.attempt.0.as_bytes());
    to.push(version.outcome as u8);
}

fn read_version(reader: &mut Reader<'_>) -> Option<Version> {
    Some(Version {
        era: reader.natural()?,
        term: reader.natural()?,
        attempt: AttemptId(uuid::Uuid::from_bytes(reader.chunk()?)),
        outcome: match reader.byte()? {
            0 => Outcome::Received,
            1 => Outcome::Failing,
            2 => Outcome::Failed,
            3 => Outcome::Succeeded,
            _ => return None,
        },
    })
}

fn read_failed(reader: &mut Reader<'_>) -> Option<Failure> {
    let class = reader.text()?;
    let message = reader.text()?;
    let fingerprint = reader.natural()?;
    let tries = reader.chunk().map(u32::from_be_bytes)?;
    let passes = reader.flag()?;
    let has_next = reader.flag()?;
    let next = reader.time()?;
    Some(Failure {
        class,
        message,
        fingerprint,
        tries,
        passes,
        next_try: has_next.then_some(next),
        bytes_refused: reader.flag()?,
    })
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
    if reader.is_empty() {
        return Some((revision, None));
    }
    let kind = reader.byte()?;
    let about = read_version(&mut reader)?;
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
    let version = read_version(&mut reader)?;
    let failed = reader.flag()?;
    let at = reader.time()?;
    let failure = match failed {
        true => Some(read_failed(&mut reader)?),
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

/// What stands between a row's gaps and the missed ones: a range that nobody can have.
const MISSED: [u8; 16] = [0xff; 16];

pub(crate) fn progress(row: &Progress) -> Vec<u8> {
    let mut bytes = row.era.to_be_bytes().to_vec();
    for position in [row.floor, row.received, row.committed] {
        bytes.extend(ordered(position));
    }
    bytes.extend(row.failed.to_be_bytes());
    bytes.extend(row.succeeded.to_be_bytes());
    bytes.extend(ordered(row.at.0));
    bytes.extend(row.term.to_be_bytes());
    bytes.extend(row.attempt.0.as_bytes());
    push_ranges(&mut bytes, &row.gaps);
    if !row.missed.is_empty() {
        bytes.extend(MISSED);
        push_ranges(&mut bytes, &row.missed);
    }
    bytes
}

fn push_ranges(to: &mut Vec<u8>, gaps: &Gaps) {
    for gap in gaps.iter() {
        to.extend(ordered(gap.start));
        to.extend(ordered(gap.end));
    }
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
        term: 0,
        attempt: AttemptId::default(),
        gaps: Gaps::default(),
        missed: Gaps::default(),
    };
    // A row of format 1 names no writer, which its length says.
    if row.len().is_multiple_of(16) {
        progress.term = reader.natural()?;
        progress.attempt = AttemptId(uuid::Uuid::from_bytes(reader.chunk()?));
    }
    let mut is_missed = false;
    while !reader.is_empty() {
        let range = reader.number()?..reader.number()?;
        match range {
            Range { start: i64::MAX, .. } => is_missed = true,
            range if is_missed => progress.missed.add(range),
            range => progress.gaps.add(range),
        }
    }
    Some(progress)
}

#[cfg(test)]
mod tests;
