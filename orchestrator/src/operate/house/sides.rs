//! What can be read in order of record, and what can be written to: a store, a service's store, a file.

use std::{
    fs,
    io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write},
    path::{Path, PathBuf},
};

use tracker_api::{Cursor, DynTracker, Entry, Progress, Query, RecordId};

use super::sum::Sum;
use crate::operate::{
    access::Client,
    error::{Error, Kind, Result},
    lines::{FORMAT, Line},
    private::Draft,
};

/// A page of a store.
pub(super) const PAGE: usize = 1_000;

/// One side of a move.
pub(crate) enum Side {
    /// A store that this process has opened.
    Store(DynTracker),
    /// The store that a running service holds; it can be read only.
    Service(Client),
    /// Lines of JSON; `-` is standard input or output.
    File(PathBuf),
}

impl Side {
    /// Rows that this side could not read, and so left out. A file that cannot be read ends the move.
    pub(super) async fn corrupt_rows(&self) -> Vec<String> {
        let rows = match self {
            Self::Store(tracker) => tracker.corrupt_rows(),
            Self::Service(client) => client.corrupt_rows().await.unwrap_or_default(),
            Self::File(_) => Vec::new(),
        };
        rows.into_iter().map(|row| row.row).collect()
    }

    /// Whether it can be read or written only once.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Self::File(path) if path == Path::new("-"))
    }
}

pub(super) fn failed(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Failed, what.to_string())
}

/// Reads one side in order of record.
pub(super) struct Reading<'a> {
    side: &'a Side,
    page: std::vec::IntoIter<Entry>,
    pub(super) after: Option<RecordId>,
    pub(super) done: bool,
    lines: Option<Lines>,
    /// Of a store, as they stood before its entries were read: what is written behind the reader's back must not be covered by
    /// a progress that was read after it. Of a file, as far as it was read.
    pub(super) rows: Vec<Progress>,
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
    pub(super) async fn begin(side: &'a Side, after: Option<RecordId>) -> Result<Self> {
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

    pub(super) async fn next(&mut self) -> Result<Option<Entry>> {
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
    pub(super) async fn read(&mut self) -> Result<Vec<Entry>> {
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
    pub(super) fn share(&self) -> Option<f64> {
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

/// A file is never written over: it may be the only copy.
fn taken(path: &Path) -> Error {
    let message = format!(
        "{} is there already, and no copy writes over a file: name another, or remove it first",
        path.display()
    );
    Error::new(Kind::Invalid, message)
}

/// Writes a new file, mode 0600, under another name until it is whole.
pub(super) struct Writing {
    to: BufWriter<Box<dyn Write + Send>>,
    draft: Option<(Draft, PathBuf)>,
    sum: Sum,
}

impl Writing {
    pub(super) fn new(path: &Path) -> Result<Self> {
        let (to, draft): (Box<dyn Write + Send>, _) = if path == Path::new("-") {
            (Box::new(io::stdout()), None)
        } else {
            if path.symlink_metadata().is_ok() {
                return Err(taken(path));
            }
            let (draft, file) = Draft::begin(path).map_err(|e| match e.kind() {
                ErrorKind::AlreadyExists => failed(format!(
                    "{}.part is there: another copy writes it, or was killed; if none runs, remove it",
                    path.display()
                )),
                _ => failed(format!("cannot write {}.part: {e}", path.display())),
            })?;
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

    pub(super) fn line(&mut self, line: &Line) -> Result<()> {
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

    pub(super) fn finish(mut self) -> Result<()> {
        let end = self.sum.end();
        self.line(&end)?;
        self.to
            .flush()
            .map_err(|e| failed(format!("cannot write: {e}")))?;
        if let Some((draft, path)) = self.draft {
            let durable = fs::File::open(draft.path()).and_then(|file| file.sync_all());
            durable
                .and_then(|()| draft.keep_as_new(&path))
                .map_err(|e| match e.kind() {
                    ErrorKind::AlreadyExists => taken(&path),
                    _ => failed(format!("cannot write {}: {e}", path.display())),
                })?;
        }
        Ok(())
    }
}
