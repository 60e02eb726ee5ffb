//! Moving house: everything that one store holds, into another one or into a file, and whether two hold the same.
//!
//! What is moved is *imported*, which joins. So a move may be repeated, may go on after a crash, and may run while the
//! service writes to either side.

mod sides;
mod sum;

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};
use tracker_api::{Progress, RecordId};

pub(crate) use self::sides::Side;
use self::{
    sides::{PAGE, Reading, Writing, failed},
    sum::Sum,
};
use super::{
    error::{Error, Kind, Result},
    lines::{Line, ProgressLine},
    private,
};
use crate::recorder::import;

/// How far a move has come, kept beside the data until it is done, so that a killed one goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Checkpoint {
    after: Option<RecordId>,
    entries: u64,
    /// As it stood when the move began. What was written later may lie behind `after`, and a later progress would say of it
    /// that it was told.
    rows: Vec<Progress>,
    stripped: Vec<String>,
    refused: Vec<String>,
}

/// What became of a move.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Entries that were read, those before a crash included.
    pub entries: u64,
    /// Rows of progress.
    pub progress: u64,
    /// Records that were taken without their bytes, because the target refused them.
    pub stripped: Vec<String>,
    /// Records that the target refused.
    pub refused: Vec<String>,
    /// Rows that the source could not read, so that they stayed behind.
    pub corrupt: Vec<String>,
    /// Whether an earlier move was gone on with.
    pub resumed: bool,
}

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// Entries and rows of progress on the left.
    pub left: (u64, u64),
    /// And on the right.
    pub right: (u64, u64),
    /// SHA-256 over the left side's lines.
    pub left_sha256: String,
    /// And over the right side's.
    pub right_sha256: String,
    /// The first records and partitions that differ, at most 20.
    pub differing: Vec<String>,
    /// How many differ.
    pub differences: u64,
}

impl Compared {
    /// Whether both sides hold the same.
    pub fn is_same(&self) -> bool {
        self.differences == 0
    }
}

/// Takes everything from one side to the other. `at` is where a checkpoint is kept; `told` hears how many were moved, and
/// how much of the way that is.
pub(crate) async fn copy(
    from: &Side,
    to: &Side,
    at: &Path,
    mut told: impl FnMut(u64, Option<f64>),
) -> Result<Moved> {
    let target = match to {
        Side::Store(tracker) => tracker,
        Side::File(path) => return write(from, path, told).await,
        Side::Service(_) => {
            let message = "the running service holds this store, so nothing can be copied into it: stop the service first";
            return Err(Error::new(Kind::Held, message));
        }
    };
    let held = match from.is_stream() {
        true => None,
        false => read_checkpoint(at),
    };
    let mut moved = Moved {
        resumed: held.is_some(),
        ..Moved::default()
    };
    let held = held.unwrap_or_default();
    (moved.entries, moved.stripped, moved.refused) = (held.entries, held.stripped, held.refused);
    let mut reading = Reading::begin(from, held.after.clone()).await?;
    let is_file = matches!(from, Side::File(_));
    if moved.resumed && !is_file {
        reading.rows = held.rows;
    }
    while !reading.done {
        let mut entries = reading.read().await?;
        if is_file {
            // A file is read from its start again, and only what lies behind is taken.
            entries.retain(|entry| held.after.as_ref().is_none_or(|after| entry.id > *after));
        }
        if entries.is_empty() {
            continue;
        }
        let odd = import(&**target, &entries).await?;
        moved.entries += entries.len() as u64;
        moved
            .stripped
            .extend(odd.stripped.iter().map(ToString::to_string));
        moved.refused.extend(odd.refused.iter().map(ToString::to_string));
        told(moved.entries, reading.share());
        if !from.is_stream() {
            let checkpoint = Checkpoint {
                after: reading.after.clone(),
                entries: moved.entries,
                rows: if is_file { Vec::new() } else { reading.rows.clone() },
                stripped: moved.stripped.clone(),
                refused: moved.refused.clone(),
            };
            write_checkpoint(at, &checkpoint)?;
        }
    }
    for slice in reading.rows.chunks(PAGE) {
        target.import(&[], slice).await?;
    }
    moved.progress = reading.rows.len() as u64;
    // Gone already when there never was one.
    let _ = fs::remove_file(at);
    moved.corrupt = from.corrupt_rows().await;
    Ok(moved)
}

async fn write(from: &Side, path: &Path, mut told: impl FnMut(u64, Option<f64>)) -> Result<Moved> {
    let (mut reading, mut writing) = (Reading::begin(from, None).await?, Writing::new(path)?);
    let mut moved = Moved::default();
    while !reading.done {
        for entry in reading.read().await? {
            writing.line(&Line::entry(&entry))?;
            moved.entries += 1;
        }
        told(moved.entries, reading.share());
    }
    for row in &reading.rows {
        writing.line(&Line::Progress(row.into()))?;
        moved.progress += 1;
    }
    writing.finish()?;
    moved.corrupt = from.corrupt_rows().await;
    Ok(moved)
}

/// What cannot be read is none: then the move begins at the start, which is only slower.
fn read_checkpoint(at: &Path) -> Option<Checkpoint> {
    serde_json::from_str(&private::read(at).ok()?).ok()
}

fn write_checkpoint(at: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let write = || -> io::Result<()> { private::replace(at, &serde_json::to_vec(checkpoint)?) };
    write().map_err(|e| {
        failed(format!(
            "cannot keep how far the copy has come in {}: {e}",
            at.display()
        ))
    })
}

/// Reads both sides in order and compares them record by record.
pub(crate) async fn compare(
    left: &Side,
    right: &Side,
    mut told: impl FnMut(u64, Option<f64>),
) -> Result<Compared> {
    let (mut lefts, mut rights) = (
        Reading::begin(left, None).await?,
        Reading::begin(right, None).await?,
    );
    let (mut left_sum, mut right_sum) = (Sum::default(), Sum::default());
    let mut found = Compared::default();
    let (mut a, mut b) = (lefts.next().await?, rights.next().await?);
    loop {
        let order = match (&a, &b) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => a.id.cmp(&b.id),
        };
        if order.is_ne() || a != b {
            let one = if order.is_gt() { &b } else { &a };
            found.differ(one.as_ref().map(|entry| entry.id.to_string()).unwrap_or_default());
        }
        if order.is_le()
            && let Some(entry) = &a
        {
            left_sum.entry(&Line::entry(entry).text().map_err(failed)?);
            a = lefts.next().await?;
        }
        if order.is_ge()
            && let Some(entry) = &b
        {
            right_sum.entry(&Line::entry(entry).text().map_err(failed)?);
            b = rights.next().await?;
        }
        let seen = left_sum.entries.max(right_sum.entries);
        if seen.is_multiple_of(PAGE as u64) {
            told(seen, lefts.share());
        }
    }
    let (left_rows, right_rows) = (lefts.rows, rights.rows);
    for (rows, sum) in [(&left_rows, &mut left_sum), (&right_rows, &mut right_sum)] {
        for row in rows {
            sum.progress(&Line::Progress(ProgressLine::from(row)).text().map_err(failed)?);
        }
    }
    let of = |rows: &[Progress], other: &[Progress]| -> Vec<String> {
        let lacks = |row: &&Progress| !other.contains(row);
        rows.iter()
            .filter(lacks)
            .map(|row| format!("progress of {}", row.partition))
            .collect()
    };
    let mut rows = of(&left_rows, &right_rows);
    rows.extend(of(&right_rows, &left_rows));
    rows.sort();
    rows.dedup();
    rows.into_iter().for_each(|row| found.differ(row));
    // What a side left out was not compared.
    for side in [left, right] {
        for row in side.corrupt_rows().await {
            found.differ(format!("{row} (cannot be read)"));
        }
    }
    found.left = (left_sum.entries, left_sum.progress);
    found.right = (right_sum.entries, right_sum.progress);
    found.left_sha256 = left_sum.sha256();
    found.right_sha256 = right_sum.sha256();
    Ok(found)
}

impl Compared {
    fn differ(&mut self, what: String) {
        self.differences += 1;
        if self.differing.len() < 20 {
            self.differing.push(what);
        }
    }
}
