//! Moving house: everything that one store holds, into another one or into a file, and whether two hold the same.
//!
//! What is moved is *imported*, which joins. So a move may be repeated, may go on after a crash, and may run while the
//! service writes to either side.

use std::{
    fs,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tracker_api::{Cursor, DynTracker, Entry, Progress, Query, RecordId};

use super::{
    access::Client,
    error::{Error, Kind, Result},
    lines::{FORMAT, Line, ProgressLine, Sum},
};
use crate::recorder::import;

/// A page of a store.
const PAGE: usize = 1_000;

/// One side of a move.
pub(crate) enum Side {
    /// A store that this process has opened.
    Store(DynTracker),
    /// The store that a running service holds; it can be read only.
    Service(Client),
    /// Lines of JSON; `-` is standard input or output.
    File(PathBuf),
}

/// How far a move has come, kept beside the data until it is done, so that a killed one goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Checkpoint {
    after: Option<RecordId>,
    entries: u64,
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

fn failed(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Failed, what.to_string())
}

/// Reads one side in order of record.
struct Reading<'a> {
    side: &'a Side,
    page: std::vec::IntoIter<Entry>,
    after: Option<RecordId>,
    done: bool,
    lines: Option<Lines>,
    /// Of a store, as they stood before its entries were read: what is written behind the reader's back must not be covered by
    /// a progress that was read after it. Of a file, as far as it was read.
    rows: Vec<Progress>,
}

/// A file that is being read: its lines are checked against the last one.
struct Lines {
    from: Box<dyn BufRead + Send>,
    name: String,
    number: usize,
    sum: Sum,
    ended: bool,
}

impl<'a> Reading<'a> {
    async fn begin(side: &'a Side, after: Option<RecordId>) -> Result<Self> {
        let (lines, rows) = match side {
            Side::Store(tracker) => (None, tracker.progress().await?),
            Side::Service(client) => (None, client.raw_progress().await?),
            Side::File(path) => (Some(Lines::open(path)?), Vec::new()),
        };
        Ok(Self {
            side,
            page: Vec::new().into_iter(),
            after,
            done: false,
            lines,
            rows,
        })
    }

    async fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.page.next() {
                return Ok(Some(entry));
            }
            if self.done {
                return Ok(None);
            }
            self.page = self.read().await?.into_iter();
        }
    }

    /// The next entries; it is done when there are no more behind them.
    async fn read(&mut self) -> Result<Vec<Entry>> {
        let (entries, more) = match (self.side, &mut self.lines) {
            (_, Some(lines)) => (lines.entries(PAGE, &mut self.rows)?, !lines.ended),
            (Side::Store(tracker), None) => {
                let query = Query {
                    after: self.after.clone().map(|id| Cursor {
                        id,
                        first_failed_at: None,
                    }),
                    limit: PAGE,
                    ..Query::default()
                };
                let page = tracker.list(&query).await?;
                (page.entries, page.next.is_some())
            }
            (Side::Service(client), None) => client.export(self.after.as_ref()).await?,
            (Side::File(_), None) => (Vec::new(), false),
        };
        if let Some(last) = entries.last() {
            self.after = Some(last.id.clone());
        }
        self.done = !more;
        Ok(entries)
    }

    /// How much of the way lies behind, from 0 to 1, by the offsets that were tracked; none if nobody can tell.
    fn share(&self) -> Option<f64> {
        let after = self.after.as_ref().filter(|_| self.lines.is_none())?;
        let (mut behind, mut all) = (0.0, 0.0);
        for row in &self.rows {
            let span =
                i32::try_from(row.received.saturating_sub(row.floor)).map_or(f64::from(i32::MAX), f64::from);
            let seen =
                i32::try_from(after.offset.saturating_sub(row.floor)).map_or(f64::from(i32::MAX), f64::from);
            all += span;
            behind += match row.partition.cmp(&after.partition) {
                std::cmp::Ordering::Less => span,
                std::cmp::Ordering::Equal => seen.clamp(0.0, span),
                std::cmp::Ordering::Greater => 0.0,
            };
        }
        (all > 0.0).then(|| behind / all)
    }
}

impl Lines {
    fn open(path: &Path) -> Result<Self> {
        let name = if path == Path::new("-") {
            "standard input".to_owned()
        } else {
            path.display().to_string()
        };
        let from: Box<dyn BufRead + Send> = if path == Path::new("-") {
            Box::new(BufReader::new(io::stdin()))
        } else {
            Box::new(BufReader::new(
                fs::File::open(path).map_err(|e| failed(format!("cannot read {name}: {e}")))?,
            ))
        };
        Ok(Self {
            from,
            name,
            number: 0,
            sum: Sum::default(),
            ended: false,
        })
    }

    fn wrong(&self, what: impl std::fmt::Display) -> Error {
        failed(format!("{}:{}: {what}", self.name, self.number))
    }

    fn entries(&mut self, most: usize, rows: &mut Vec<Progress>) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        while entries.len() < most && !self.ended {
            let mut text = String::new();
            self.number += 1;
            let read = self.from.read_line(&mut text).map_err(|e| self.wrong(e))?;
            if read == 0 {
                return Err(self.wrong("the file ends before its last line: it was cut off; write it again"));
            }
            match serde_json::from_str::<Line>(&text) {
                Ok(Line::Tracker { format }) if self.number == 1 && format == FORMAT => {}
                Ok(Line::Tracker { format }) if self.number == 1 => {
                    return Err(self.wrong(format!("format {format} is not known here, only {FORMAT}")));
                }
                _ if self.number == 1 => return Err(self.wrong("this is no file of a tracker")),
                Ok(Line::Entry(line)) => {
                    self.sum.entry(&text);
                    entries.push(Entry::from(*line));
                }
                Ok(Line::Progress(line)) => {
                    self.sum.progress(&text);
                    rows.push(line.into());
                }
                Ok(end @ Line::End { .. }) => {
                    self.ended = true;
                    if end != self.sum.end() {
                        return Err(
                            self.wrong("what was read is not what was written: counts or hash differ")
                        );
                    }
                }
                Ok(Line::Tracker { .. }) => return Err(self.wrong("a second first line")),
                Err(e) => return Err(self.wrong(format!("no line of a tracker: {e}"))),
            }
        }
        Ok(entries)
    }
}

/// Writes a file under another name until it is whole.
struct Writing {
    to: BufWriter<Box<dyn Write + Send>>,
    draft: Option<(PathBuf, PathBuf)>,
    sum: Sum,
}

impl Writing {
    fn new(path: &Path) -> Result<Self> {
        let (to, draft): (Box<dyn Write + Send>, _) = if path == Path::new("-") {
            (Box::new(io::stdout()), None)
        } else {
            let draft = path.with_extension("part");
            let file = fs::File::create(&draft)
                .map_err(|e| failed(format!("cannot write {}: {e}", draft.display())))?;
            (Box::new(file), Some((draft, path.to_owned())))
        };
        let mut writing = Self {
            to: BufWriter::new(to),
            draft,
            sum: Sum::default(),
        };
        writing.line(&Line::Tracker { format: FORMAT })?;
        Ok(writing)
    }

    fn line(&mut self, line: &Line) -> Result<()> {
        let text = line.text().map_err(failed)?;
        match line {
            Line::Entry(_) => self.sum.entry(&text),
            Line::Progress(_) => self.sum.progress(&text),
            Line::Tracker { .. } | Line::End { .. } => {}
        }
        self.to
            .write_all(text.as_bytes())
            .map_err(|e| failed(format!("cannot write: {e}")))
    }

    fn finish(mut self) -> Result<()> {
        let end = self.sum.end();
        self.line(&end)?;
        self.to
            .flush()
            .map_err(|e| failed(format!("cannot write: {e}")))?;
        if let Some((draft, path)) = self.draft {
            let durable = fs::File::open(&draft).and_then(|file| file.sync_all());
            durable
                .and_then(|()| fs::rename(&draft, &path))
                .map_err(|e| failed(format!("cannot write {}: {e}", path.display())))?;
        }
        Ok(())
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
    // A file is read from its start again: that costs little.
    let is_file = matches!(from, Side::File(_));
    let held = if is_file {
        Checkpoint::default()
    } else {
        read_checkpoint(at)
    };
    let mut moved = Moved {
        entries: held.entries,
        resumed: held.after.is_some(),
        ..Moved::default()
    };
    let mut reading = Reading::begin(from, held.after).await?;
    while !reading.done {
        let entries = reading.read().await?;
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
        if !is_file {
            let (after, entries) = (reading.after.clone(), moved.entries);
            write_checkpoint(at, &Checkpoint { after, entries })?;
        }
    }
    for slice in reading.rows.chunks(PAGE) {
        target.import(&[], slice).await?;
    }
    moved.progress = reading.rows.len() as u64;
    // Gone already when there never was one.
    let _ = fs::remove_file(at);
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
    Ok(moved)
}

fn read_checkpoint(at: &Path) -> Checkpoint {
    let text = fs::read_to_string(at).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn write_checkpoint(at: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let draft = at.with_extension("part");
    let write = || -> io::Result<()> {
        fs::write(&draft, serde_json::to_vec(checkpoint)?)?;
        fs::rename(&draft, at)
    };
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
