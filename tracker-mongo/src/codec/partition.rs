//! A partition's progress as a document, and what a document is called that cannot be read.

use mongodb::bson::{RawArrayBuf, RawDocument, RawDocumentBuf, raw::cstr, rawdoc};
use tracker_api::{AttemptId, Gaps, Partition, Progress, RecordId, Result, Timestamp};

use super::{raw_number, read_id, read_partition, read_uuid, uuid};
use crate::row::Row;

pub(crate) fn progress(progress: &Progress) -> RawDocumentBuf {
    let ranges = |gaps: &Gaps| {
        let mut ranges = RawArrayBuf::new();
        for gap in gaps.iter() {
            ranges.push(rawdoc! { "s": gap.start, "e": gap.end });
        }
        ranges
    };
    let mut held = RawDocumentBuf::new();
    held.append(cstr!("e"), raw_number(progress.era));
    held.append(cstr!("term"), raw_number(progress.term));
    held.append(cstr!("attempt"), uuid(progress.attempt.0));
    held.append(cstr!("floor"), progress.floor);
    held.append(cstr!("received"), progress.received);
    held.append(cstr!("committed"), progress.committed);
    held.append(cstr!("gaps"), ranges(&progress.gaps));
    held.append(cstr!("missed"), ranges(&progress.missed));
    held.append(cstr!("failed"), raw_number(progress.failed));
    held.append(cstr!("succeeded"), raw_number(progress.succeeded));
    held.append(cstr!("at"), progress.at.0);
    held
}

/// What a document that may not be readable is called, by its id in the field `id`.
pub(crate) fn name(document: &RawDocument, id: &str) -> String {
    let Ok(id) = Row::new(document, "a document").row(id) else {
        return "a document without an id of ours".to_owned();
    };
    match (read_id(&id), read_partition(&id)) {
        (Ok(id), _) => id.to_string(),
        (_, Ok(partition)) => format!("progress of {partition}"),
        _ => "a document whose id names no record".to_owned(),
    }
}

/// Whether a document's id says that it is a partition's progress.
pub(crate) fn is_progress(document: &RawDocument) -> bool {
    let id = document.get_document("_id");
    id.is_ok_and(|id| id.get("progress").is_ok_and(|at| at.is_some()))
}

/// The record of an entry's document, also where the rest of it cannot be read.
pub(crate) fn record_of(document: &RawDocument) -> Result<RecordId> {
    read_id(&Row::new(document, "an entry").row("_id")?)
}

pub(crate) fn partition_of(document: &RawDocument) -> Result<Partition> {
    read_partition(&Row::new(document, "a partition's progress").row("_id")?)
}

pub(crate) fn read_progress(document: &RawDocument) -> Result<Progress> {
    let row = Row::new(document, "a partition's progress");
    let partition = read_partition(&row.row("_id")?)?;
    let name = format!("the progress of `{partition}`");
    let row = Row::new(document, &name);
    let ranges = |rows: Vec<Row<'_>>| {
        let ranges = rows.iter().map(|gap| Ok(gap.whole("s")?..gap.whole("e")?));
        ranges.collect::<Result<Gaps>>()
    };
    Ok(Progress {
        partition,
        era: row.unsigned("e")?,
        term: row.maybe_unsigned("term")?.unwrap_or(0),
        attempt: AttemptId(
            row.maybe("attempt", || read_uuid(&row, "attempt"))?
                .unwrap_or_default(),
        ),
        floor: row.whole("floor")?,
        received: row.whole("received")?,
        committed: row.whole("committed")?,
        gaps: ranges(row.rows("gaps")?)?,
        missed: ranges(row.maybe_rows("missed")?)?,
        failed: row.unsigned("failed")?,
        succeeded: row.unsigned("succeeded")?,
        at: Timestamp(row.whole("at")?),
    })
}
