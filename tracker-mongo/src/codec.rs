//! What a document holds. Names are short, because a document repeats them; `docs/stores/mongo.md` says what they mean.

use std::sync::Arc;

use bytes::Bytes;
use mongodb::bson::{
    Binary, Bson, Decimal128, Document, RawArrayBuf, RawBson, RawDocument, RawDocumentBuf, doc, raw::cstr,
    rawdoc, spec::BinarySubtype,
};
use tracker_api::{
    AttemptId, Captured, Claim, Decision, Entry, Failure, Header, Outcome, Partition, RecordId, Resolution,
    Result, Status, Timestamp, Version,
};
use uuid::Uuid;

use crate::row::Row;

/// A namespace's number.
pub(crate) type Number = i32;

// Numbers that order as the indexes need them: what is unfinished, what stands open, what is finished.
pub(crate) const UNFINISHED: i32 = 2;
pub(crate) const OPEN: i32 = 3;
pub(crate) const FINISHED: i32 = 5;
pub(crate) const ALL: [Status; 9] = [
    Status::Received,
    Status::Failing,
    Status::Blocking,
    Status::Open,
    Status::Replaying,
    Status::Skipped,
    Status::Replayed,
    Status::Discarded,
    Status::Succeeded,
];

pub(crate) fn status_number(status: Status) -> i32 {
    match status {
        Status::Received => 0,
        Status::Failing => 1,
        Status::Blocking => UNFINISHED,
        Status::Open => OPEN,
        Status::Replaying => 4,
        Status::Skipped => FINISHED,
        Status::Replayed => 6,
        Status::Discarded => 7,
        Status::Succeeded => 8,
    }
}

/// The outcome that stands behind a status.
pub(crate) fn outcome_of(status: Status) -> Outcome {
    match status {
        Status::Received => Outcome::Received,
        Status::Failing | Status::Blocking => Outcome::Failing,
        Status::Succeeded => Outcome::Succeeded,
        _ => Outcome::Failed,
    }
}

/// A number as the server orders and people read it: a whole one of 64 bits, above its bound a decimal.
pub(crate) fn number(value: u64) -> Bson {
    match i64::try_from(value) {
        Ok(value) => Bson::Int64(value),
        // The digits of a u64 are a decimal.
        Err(_) => value
            .to_string()
            .parse::<Decimal128>()
            .map_or(Bson::Null, Bson::Decimal128),
    }
}

fn raw_number(value: u64) -> RawBson {
    match number(value) {
        Bson::Int64(value) => RawBson::Int64(value),
        Bson::Decimal128(value) => RawBson::Decimal128(value),
        _ => RawBson::Null,
    }
}

// Documents compare field by field, so this order of fields is the order of ids: numbers as numbers, text by its bytes.
pub(crate) fn id(namespace: Number, id: &RecordId) -> RawDocumentBuf {
    let partition = &id.partition;
    rawdoc! { "n": namespace, "t": &*partition.topic, "p": partition.number, "o": id.offset }
}

/// The same for a filter. `end` stands for the offset: `None` begins the partition.
pub(crate) fn bound(namespace: Number, partition: &Partition, end: Option<Bson>) -> Document {
    let mut bound = doc! { "n": namespace, "t": &*partition.topic, "p": partition.number };
    if let Some(end) = end {
        bound.insert("o", end);
    }
    bound
}

pub(crate) fn progress_id(namespace: Number, partition: &Partition) -> RawDocumentBuf {
    rawdoc! { "progress": namespace, "t": &*partition.topic, "p": partition.number }
}

fn binary(bytes: &[u8]) -> Binary {
    Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    }
}

pub(crate) fn uuid(uuid: Uuid) -> Binary {
    Binary {
        subtype: BinarySubtype::Uuid,
        bytes: uuid.as_bytes().to_vec(),
    }
}

fn nullable<T: Into<RawBson>>(value: Option<T>) -> RawBson {
    value.map_or(RawBson::Null, Into::into)
}

/// Era, term, attempt, outcome: in the order in which they decide, so that comparing two documents compares two versions.
pub(crate) fn version(version: &Version) -> RawDocumentBuf {
    let mut held = RawDocumentBuf::new();
    held.append(cstr!("e"), raw_number(version.era));
    held.append(cstr!("t"), raw_number(version.term));
    held.append(cstr!("a"), uuid(version.attempt.0));
    held.append(cstr!("o"), version.outcome as i32);
    held
}

fn failure(failure: &Failure) -> RawDocumentBuf {
    let mut held = rawdoc! { "c": &*failure.class, "m": &*failure.message };
    held.append(cstr!("p"), raw_number(failure.fingerprint));
    held.append(cstr!("n"), i64::from(failure.tries));
    held.append(cstr!("s"), failure.passes);
    held.append(cstr!("x"), nullable(failure.next_try.map(|at| at.0)));
    held.append(cstr!("b"), failure.bytes_refused);
    held
}

fn captured(captured: &Captured) -> RawDocumentBuf {
    let bytes = |bytes: &Option<Bytes>| nullable(bytes.as_deref().map(binary));
    let mut headers = RawArrayBuf::new();
    for header in &captured.headers {
        let mut held = RawDocumentBuf::new();
        held.append(cstr!("n"), binary(&header.name));
        held.append(cstr!("v"), bytes(&header.value));
        headers.push(held);
    }
    let mut held = RawDocumentBuf::new();
    held.append(cstr!("k"), bytes(&captured.key));
    held.append(cstr!("v"), bytes(&captured.value));
    held.append(cstr!("h"), headers);
    held
}

/// The name of a decision in a document, and what it holds beside it.
fn kind_of(decision: &Decision) -> (&'static str, Option<&Claim>) {
    match decision {
        Decision::Retry => ("retry", None),
        Decision::Skip => ("skip", None),
        Decision::Replaying(claim) => ("replaying", Some(claim)),
        Decision::Replayed => ("replayed", None),
        Decision::Discarded => ("discarded", None),
    }
}

pub(crate) fn resolution(resolution: &Resolution) -> RawDocumentBuf {
    let (kind, claim) = kind_of(&resolution.decision);
    let mut held = rawdoc! { "k": kind };
    held.append(cstr!("a"), version(&resolution.about));
    held.append(cstr!("by"), &*resolution.actor);
    held.append(cstr!("why"), &*resolution.reason);
    held.append(cstr!("at"), resolution.at.0);
    if let Some(claim) = claim {
        let mut replay = RawDocumentBuf::new();
        replay.append(cstr!("r"), uuid(claim.replay));
        replay.append(cstr!("t"), &*claim.transactional_id);
        replay.append(cstr!("u"), claim.lease_until.0);
        held.append(cstr!("c"), replay);
    }
    held
}

/// An entry's fields without its id; the resolution half only if there is one.
pub(crate) fn entry(entry: &Entry) -> RawDocumentBuf {
    let mut held = RawDocumentBuf::new();
    held.append(cstr!("v"), version(&entry.version));
    held.append(cstr!("at"), entry.at.0);
    held.append(cstr!("f"), nullable(entry.failure.as_ref().map(failure)));
    held.append(cstr!("ff"), nullable(entry.first_failed_at.map(|at| at.0)));
    held.append(cstr!("c"), nullable(entry.captured.as_ref().map(captured)));
    held.append(cstr!("s"), status_number(Status::of(entry)));
    if entry.revision > 0 || entry.resolution.is_some() {
        held.append(cstr!("r"), nullable(entry.resolution.as_ref().map(resolution)));
        held.append(cstr!("n"), raw_number(entry.revision));
    }
    held
}

/// What is written over a document that cannot be read: the entry as on nothing, and what stood there beside it.
pub(crate) fn entry_instead(entry: &Entry, document: &RawDocument) -> RawDocumentBuf {
    let mut held = self::entry(entry);
    if entry.revision == 0 && entry.resolution.is_none() {
        held.append(cstr!("r"), RawBson::Null);
        held.append(cstr!("n"), raw_number(0));
    }
    held.append(cstr!("aside"), document);
    held
}

pub(crate) fn revision(value: u64) -> RawBson {
    raw_number(value)
}

fn read_partition(id: &Row<'_>) -> Result<Partition> {
    // Most entries of an answer are of one topic.
    Ok(Partition::new(Arc::<str>::from(id.text("t")?), id.small("p")?))
}

pub(crate) fn read_id(id: &Row<'_>) -> Result<RecordId> {
    Ok(read_partition(id)?.at(id.whole("o")?))
}

fn read_version(version: &Row<'_>) -> Result<Version> {
    let outcome = match version.small("o")? {
        0 => Outcome::Received,
        1 => Outcome::Failing,
        2 => Outcome::Failed,
        3 => Outcome::Succeeded,
        _ => return Err(version.damaged("o", "an outcome, 0 to 3")),
    };
    Ok(Version {
        era: version.unsigned("e")?,
        term: version.unsigned("t")?,
        attempt: AttemptId(read_uuid(version, "a")?),
        outcome,
    })
}

fn read_uuid(row: &Row<'_>, field: &str) -> Result<Uuid> {
    Uuid::from_slice(row.bytes(field)?).map_err(|_| row.damaged(field, "16 bytes"))
}

fn read_failure(failure: &Row<'_>) -> Result<Failure> {
    Ok(Failure {
        class: failure.text("c")?.to_owned(),
        message: failure.text("m")?.to_owned(),
        fingerprint: failure.unsigned("p")?,
        tries: u32::try_from(failure.unsigned("n")?)
            .map_err(|_| failure.damaged("n", "a number of 32 bits"))?,
        passes: failure.flag("s")?,
        next_try: failure.maybe_whole("x")?.map(Timestamp),
        bytes_refused: failure.flag("b")?,
    })
}

fn read_captured(captured: &Row<'_>) -> Result<Captured> {
    let bytes = |row: &Row<'_>, field| Ok(row.maybe_bytes(field)?.map(Bytes::copy_from_slice));
    let mut headers = Vec::new();
    for header in captured.rows("h")? {
        headers.push(Header {
            name: Bytes::copy_from_slice(header.bytes("n")?),
            value: bytes(&header, "v")?,
        });
    }
    Ok(Captured {
        key: bytes(captured, "k")?,
        value: bytes(captured, "v")?,
        headers,
    })
}

fn read_resolution(resolution: &Row<'_>) -> Result<Resolution> {
    let decision = match resolution.text("k")? {
        "retry" => Decision::Retry,
        "skip" => Decision::Skip,
        "replaying" => {
            let claim = resolution.row("c")?;
            Decision::Replaying(Claim {
                replay: read_uuid(&claim, "r")?,
                transactional_id: claim.text("t")?.to_owned(),
                lease_until: Timestamp(claim.whole("u")?),
            })
        }
        "replayed" => Decision::Replayed,
        "discarded" => Decision::Discarded,
        _ => return Err(resolution.damaged("k", "a decision")),
    };
    Ok(Resolution {
        decision,
        about: read_version(&resolution.row("a")?)?,
        actor: resolution.text("by")?.to_owned(),
        reason: resolution.text("why")?.to_owned(),
        at: Timestamp(resolution.whole("at")?),
    })
}

pub(crate) fn read_entry(document: &RawDocument) -> Result<Entry> {
    let row = Row::new(document, "an entry");
    let id = read_id(&row.row("_id")?)?;
    let name = format!("the entry `{id}`");
    let row = Row::new(document, &name);
    Ok(Entry {
        id,
        version: read_version(&row.row("v")?)?,
        at: Timestamp(row.whole("at")?),
        failure: row.maybe_row("f")?.as_ref().map(read_failure).transpose()?,
        first_failed_at: row.maybe_whole("ff")?.map(Timestamp),
        captured: row.maybe_row("c")?.as_ref().map(read_captured).transpose()?,
        resolution: row.maybe_row("r")?.as_ref().map(read_resolution).transpose()?,
        revision: row.maybe_unsigned("n")?.unwrap_or(0),
    })
}

/// The fields that a write compares when it replaces what it has read: all that a writer changes.
pub(crate) const ENTRY_GUARD: [&str; 6] = ["v", "at", "f", "ff", "c", "n"];
/// The same of a progress.
pub(crate) const PROGRESS_GUARD: [&str; 11] = [
    "e",
    "term",
    "attempt",
    "floor",
    "received",
    "committed",
    "gaps",
    "missed",
    "failed",
    "succeeded",
    "at",
];

/// What a document holds in these fields, as it is.
pub(crate) fn guard(document: &RawDocument, fields: &[&str]) -> RawArrayBuf {
    let mut held = RawArrayBuf::new();
    for field in fields {
        match document.get(field) {
            Ok(Some(value)) => held.push(value),
            _ => held.push(RawBson::Null),
        }
    }
    held
}

mod partition;

pub(crate) use partition::{is_progress, name, partition_of, progress, read_progress, record_of};

#[cfg(test)]
mod tests;
