//! Rows of progress as parameters, and what the server answers of partitions and causes.

use std::collections::BTreeMap;

use sqlx::postgres::PgRow;
use tracker_api::{AttemptId, CorruptRows, Gaps, Group, Partition, Progress, Result, Timestamp};

use crate::{
    rows::{Columns, Parameters},
    text,
};

/// A row may not be written twice in one statement.
pub(crate) fn joined(progress: &[Progress]) -> Vec<Progress> {
    let mut rows: BTreeMap<&Partition, Progress> = BTreeMap::new();
    for new in progress {
        rows.entry(&new.partition)
            .and_modify(|row| row.join(new))
            .or_insert_with(|| new.clone());
    }
    rows.into_values().collect()
}

pub(crate) fn progress_parameters(given: &mut Parameters, rows: &[Progress]) -> Result<()> {
    let ranges = |gaps: &Gaps| {
        let gaps: Vec<String> = gaps
            .iter()
            .map(|gap| format!("[{},{})", gap.start, gap.end))
            .collect();
        format!("{{{}}}", gaps.join(","))
    };
    given.each(rows, |row| text::stored(&row.partition.topic))?;
    given.each(rows, |row| row.partition.number)?;
    given.each(rows, |row| row.era.cast_signed())?;
    given.each(rows, |row| row.term.cast_signed())?;
    given.each(rows, |row| row.attempt.0)?;
    given.each(rows, |row| row.floor)?;
    given.each(rows, |row| row.received)?;
    given.each(rows, |row| row.committed)?;
    given.each(rows, |row| row.failed.cast_signed())?;
    given.each(rows, |row| row.succeeded.cast_signed())?;
    given.each(rows, |row| row.at.0)?;
    given.each(rows, |row| ranges(&row.gaps))?;
    given.each(rows, |row| ranges(&row.missed))
}

pub(crate) fn progress_of(row: &PgRow) -> Result<Progress> {
    let mut columns = Columns::of(row, "a row of progress");
    let topic = columns.text()?;
    let partition = Partition::new(columns.there(topic)?, columns.get()?);
    let era = columns.get::<i64>()?.cast_unsigned();
    let term = columns.get::<i64>()?.cast_unsigned();
    let attempt = AttemptId(columns.get()?);
    let (floor, received, committed) = (columns.get()?, columns.get()?, columns.get()?);
    let failed = columns.get::<i64>()?.cast_unsigned();
    let succeeded = columns.get::<i64>()?.cast_unsigned();
    let at = Timestamp(columns.get()?);
    Ok(Progress {
        partition,
        era,
        term,
        attempt,
        floor,
        received,
        committed,
        gaps: gaps_of(&mut columns)?,
        missed: gaps_of(&mut columns)?,
        failed,
        succeeded,
        at,
    })
}

pub(crate) fn progress_name(row: &PgRow) -> String {
    let mut columns = Columns::of(row, "a row of progress");
    let topic = columns.text().ok().flatten();
    let number = columns.get::<i32>().unwrap_or(-1);
    format!("progress of {}:{number}", topic.unwrap_or_default())
}

// A bound that is infinite is null: nobody's gap of ours.
fn gaps_of(columns: &mut Columns<'_>) -> Result<Gaps> {
    let (from, to) = (columns.get::<Vec<i64>>()?, columns.get::<Vec<i64>>()?);
    Ok(from.into_iter().zip(to).map(|(from, to)| from..to).collect())
}

/// A group. Where the entry that lends it its words cannot be read, the others of its cause are still counted.
pub(crate) fn group_of(row: &PgRow, corrupt: &CorruptRows) -> Result<Group> {
    let mut columns = Columns::of(row, "a group of failures");
    let fingerprint = columns.get::<i64>()?.cast_unsigned();
    let class = columns.text().and_then(|class| columns.there(class));
    let count = columns.get::<i64>()?.cast_unsigned();
    let (first, last) = (Timestamp(columns.get()?), Timestamp(columns.get()?));
    let sample = columns.id()?;
    let message = columns.text().and_then(|message| columns.there(message));
    let unread = || "(the entry that says it cannot be read)".to_owned();
    let name = || sample.to_string();
    Ok(Group {
        fingerprint,
        class: corrupt.aside(name, class)?.unwrap_or_default(),
        count,
        first,
        last,
        message: corrupt.aside(name, message)?.unwrap_or_else(unread),
        sample,
    })
}
