//! What is done with many records at once, and what is told of the store as a whole.

use jiff::Timestamp as Time;
use serde::{Deserialize, Serialize};
use tracker_api::{
    Change, CorruptRow, Cursor, Decision, Entry, Group, Purgeable, Query, RecordId, Resolution, Risk, Status,
    Timestamp,
};

use super::{
    ask::{Many, Purge, Settled, Verb},
    error::{Error, Kind, Result},
    lines::{EntryLine, Line, ProgressLine},
    operations::Operations,
    shown::time,
    table,
};
use crate::reconcile::visible;

/// Failures with one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grouped {
    /// The cause; 16 hexadecimal digits.
    pub fingerprint: String,
    /// The error class.
    pub class: String,
    /// How many records.
    pub count: u64,
    /// When the oldest of them first failed.
    pub first: Time,
    /// When the newest of them first failed.
    pub last: Time,
    /// One of them.
    pub sample: String,
    /// Its message.
    pub message: String,
}

impl Grouped {
    pub(super) fn of(group: &Group) -> Self {
        Self {
            fingerprint: format!("{:016x}", group.fingerprint),
            class: group.class.clone(),
            count: group.count,
            first: time(group.first),
            last: time(group.last),
            sample: group.sample.to_string(),
            message: group.message.clone(),
        }
    }
}

/// A page of entries as they are held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// In order of record.
    pub entries: Vec<EntryLine>,
    /// Whether there are more behind them.
    pub more: bool,
}

/// What is known of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Whether it can be written to; if not, why.
    pub answers: std::result::Result<(), String>,
    /// What it cannot promise.
    pub risks: Vec<Risk>,
    /// Rows that it was found unable to read; they are left out of every answer. An older service does not say.
    #[serde(default)]
    pub corrupt_rows: Vec<CorruptRow>,
    /// Partitions that it knows of.
    pub partitions: usize,
    /// Records passed as failures, at least.
    pub failed: u64,
    /// Records that succeeded, at least.
    pub succeeded: u64,
}

/// The text of a page of entries stays below this, but for a single entry that is larger.
const EXPORTED: usize = 8 * 1024 * 1024;
const SLICE: usize = 500;

impl Operations {
    /// Discards open failures, or opens again what was discarded or skipped. Each record by itself: what does not take is told
    /// with its reason.
    ///
    /// # Errors
    ///
    /// [`Kind::Invalid`] for more than [`Many::MOST`] records, an id that is none, a reason that is too short;
    /// [`Kind::Unavailable`] if the store did not say: then look before you try again.
    pub async fn settle(&self, verb: Verb, many: &Many) -> Result<Vec<Settled>> {
        let (actor, reason) = many.resolve.said()?;
        if many.records.len() > Many::MOST {
            let message = format!(
                "{} records in one request, at most {} are taken",
                many.records.len(),
                Many::MOST
            );
            return Err(Error::new(Kind::Invalid, message));
        }
        let tracker = self.tracker()?;
        let ids = many
            .records
            .iter()
            .map(|(id, _)| id.parse())
            .collect::<std::result::Result<Vec<RecordId>, _>>();
        let ids = ids.map_err(|message| Error::new(Kind::Invalid, message))?;
        let progress = tracker.progress().await?;
        let held = tracker.get(&ids).await?;
        let (mut settled, mut changes) = (Vec::with_capacity(ids.len()), Vec::new());
        for ((id, held), (_, seen)) in ids.iter().zip(held).zip(&many.records) {
            let entry = held.and_then(|entry| visible(entry, &progress));
            let (why, is_other) = match &entry {
                None => (Some("nothing is kept about it".to_owned()), false),
                Some(entry) if seen.is_some_and(|seen| seen != entry.revision) => {
                    (Some("it has changed meanwhile".to_owned()), true)
                }
                Some(entry) => (refusal(verb, Status::of(entry)), false),
            };
            if let (None, Some(entry)) = (&why, entry) {
                let resolution = |entry: &Entry| Resolution {
                    decision: Decision::Discarded,
                    about: entry.version,
                    actor: actor.clone(),
                    reason: reason.clone(),
                    at: Timestamp(Time::now().as_millisecond()),
                };
                changes.push(Change {
                    id: id.clone(),
                    revision: entry.revision,
                    to: (verb == Verb::Discard).then(|| resolution(&entry)),
                });
            }
            settled.push(Settled {
                id: id.to_string(),
                done: why.is_none(),
                why,
                changed: is_other,
            });
        }
        if changes.is_empty() {
            return Ok(settled);
        }
        // Before the effect, so that nothing is done without a trace of who did it.
        tracing::info!(decision = verb.word(), records = changes.len(), first = %changes[0].id, actor = %table::escape(&actor), reason = %table::escape(&reason), "operator's decision");
        let took = tracker.resolve(&changes).await.map_err(|error| {
            let mut told = Error::from(error);
            if told.kind == Kind::Unavailable {
                told.message += ". The decision may take effect later: look before you repeat it";
            }
            told
        })?;
        // Those that were to be decided stand in the order of the changes.
        let decided = settled.iter_mut().filter(|settled| settled.done);
        for (lost, _) in decided.zip(took).filter(|(_, took)| !took) {
            (lost.done, lost.changed) = (false, true);
            lost.why = Some("it has changed meanwhile".to_owned());
        }
        Ok(settled)
    }

    /// Deletes one slice of what may go, or counts all of it. Call it until it answers 0.
    ///
    /// # Errors
    ///
    /// Those of the tracker.
    pub async fn purge(&self, purge: &Purge) -> Result<u64> {
        let (tracker, before) = (self.tracker()?, Timestamp(purge.before));
        if let Some(by) = purge.by.as_ref().filter(|_| !purge.dry_run) {
            let (actor, reason) = by.said()?;
            // Before the effect, so that nothing is deleted without a trace of who did it.
            tracing::info!(decision = "purge", what = ?purge.what, before = %time(before), actor = %table::escape(&actor), reason = %table::escape(&reason), "operator's decision");
        }
        if !purge.dry_run {
            return Ok(tracker.purge(purge.what, before, SLICE).await?);
        }
        let progress = tracker.progress().await?;
        let statuses = match purge.what {
            Purgeable::Succeeded => vec![Status::Succeeded],
            Purgeable::Resolved => vec![Status::Skipped, Status::Replayed, Status::Discarded],
            Purgeable::Superseded => vec![Status::Received, Status::Failing, Status::Blocking, Status::Open],
        };
        let mut query = Query {
            statuses,
            limit: 1_000,
            ..Query::default()
        };
        let mut count = 0;
        loop {
            let page = tracker.list(&query).await?;
            let goes = |entry: &&Entry| {
                let row = progress.iter().find(|row| row.partition == entry.id.partition);
                entry.at < before && entry.purgeable(row) == Some(purge.what)
            };
            count += page.entries.iter().filter(goes).count() as u64;
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(count),
            }
        }
    }

    /// A page of entries as they are held, for a copy.
    ///
    /// # Errors
    ///
    /// Those of the tracker.
    pub async fn export(&self, after: Option<RecordId>) -> Result<Exported> {
        let query = Query {
            after: after.map(|id| Cursor {
                id,
                first_failed_at: None,
            }),
            limit: 1_000,
            ..Query::default()
        };
        let page = self.tracker()?.list(&query).await?;
        let (mut entries, mut size, total) = (Vec::new(), 0, page.entries.len());
        for entry in &page.entries {
            let text = Line::entry(entry)
                .text()
                .map_err(|e| Error::new(Kind::Failed, e.to_string()))?;
            size += text.len();
            if size > EXPORTED && !entries.is_empty() {
                break;
            }
            entries.push(EntryLine::from(entry));
        }
        let more = page.next.is_some() || entries.len() < total;
        Ok(Exported { entries, more })
    }

    /// The progress as it is held, for a copy.
    ///
    /// # Errors
    ///
    /// Those of the tracker.
    pub async fn raw_progress(&self) -> Result<Vec<ProgressLine>> {
        Ok(self
            .tracker()?
            .progress()
            .await?
            .iter()
            .map(ProgressLine::from)
            .collect())
    }

    /// The rows of the store that could not be read since it was opened, and so are left out of every answer.
    ///
    /// # Errors
    ///
    /// [`Kind::NoTracker`] if there is none.
    pub fn corrupt_rows(&self) -> Result<Vec<CorruptRow>> {
        Ok(self.tracker()?.corrupt_rows())
    }

    /// What is known of the store.
    ///
    /// # Errors
    ///
    /// [`Kind::NoTracker`] if there is none. That it does not answer is part of the answer.
    pub async fn about(&self) -> Result<About> {
        let tracker = self.tracker()?;
        let asked = async {
            tracker.ping().await?;
            Ok::<_, tracker_api::Error>((tracker.progress().await?, tracker.risks().await?))
        };
        let asked = asked.await;
        let answers = asked.as_ref().map(|_| ()).map_err(ToString::to_string);
        let (rows, risks) = asked.unwrap_or_default();
        Ok(About {
            answers,
            risks,
            corrupt_rows: tracker.corrupt_rows(),
            partitions: rows.len(),
            failed: rows.iter().map(|row| row.failed).sum(),
            succeeded: rows.iter().map(|row| row.succeeded).sum(),
        })
    }
}

/// Why a record of this status is left alone; none if the decision can take.
fn refusal(verb: Verb, status: Status) -> Option<String> {
    let is = table::status(status);
    match (verb, status) {
        (Verb::Discard, Status::Open) | (Verb::Restore, Status::Discarded | Status::Skipped) => None,
        (Verb::Discard, _) => Some(format!("it is {is}: only an open failure can be discarded")),
        (Verb::Restore, _) => Some(format!(
            "it is {is}: only what was discarded or skipped can be opened again"
        )),
    }
}
