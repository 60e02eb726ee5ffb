//! The third law: below the committed offset and outside the gaps, a record has succeeded unless a committed attempt
//! passed it as a failure; the note in the committed offset says which attempts those are.
//!
//! Being below C(p) is stable within an era, so any process may settle it, at any time, and twice; what is in doubt is
//! settled by reading Kafka, never by a clock.

use serde::{Deserialize, Serialize};
use tracker_api::{Entry, FailureTracker, Outcome, Progress, Query};

use crate::{
    kafka::{self, Position, Positions},
    mutant::{self, Mutant},
    note::Note,
};

/// What a reconcile found in one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Entries that became `failed`.
    pub failed: u64,
    /// Entries that became `succeeded`.
    pub succeeded: u64,
    /// Entries about which nobody can tell: they lie in a gap.
    pub unknown: u64,
}

/// Entries settled by one call of the tracker.
const PAGE: usize = 1_000;

/// Why a reconcile of a whole topic ended early. What it settled until then stays settled; run it again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Kafka did not say what is committed.
    #[error("cannot read what the group has committed: {0}")]
    Kafka(#[from] kafka::Error),
    /// The store did not answer.
    #[error("the store: {0}")]
    Tracker(#[from] tracker_api::Error),
}

/// Reconciles every partition of `topic`: first what Kafka says, then the store.
pub(crate) async fn reconcile_topic(
    positions: &mut impl Positions,
    tracker: &dyn FailureTracker,
    topic: &str,
) -> Result<Vec<(Position, Report)>, Error> {
    let partitions = positions.partitions(topic).await?;
    let mut reports = Vec::with_capacity(partitions.len());
    for position in positions.committed(&partitions).await? {
        let report = reconcile(tracker, &position).await?;
        reports.push((position, report));
    }
    Ok(reports)
}

/// What an entry says to a reader: nothing, if it is of an older era than its partition's progress, at or above the floor
/// of the current one. What happened after a reset is never hidden by what happened before.
pub(crate) fn visible(entry: Entry, progress: &[Progress]) -> Option<Entry> {
    let current = progress.iter().find(|p| p.partition == entry.id.partition);
    let hidden = current.is_some_and(|p| entry.version.era < p.era && entry.id.offset >= p.floor);
    (!hidden || mutant::active(Mutant::OldEraHides)).then_some(entry)
}

/// Settles the entries of one partition that lie below its committed offset. `position` must have been read from Kafka
/// *before* this is called. It writes only to entries of the era of that note, by raising the outcome at the entry's
/// own version: so it may come late, and a partition that was reset meanwhile is not touched.
pub(crate) async fn reconcile(
    tracker: &dyn FailureTracker,
    position: &Position,
) -> tracker_api::Result<Report> {
    let mut report = Report::default();
    let (Some(committed), Some(note)) = (position.offset, Note::read(position.note.as_deref())) else {
        return Ok(report);
    };
    let era = if mutant::active(Mutant::ReconcileSleepsAcrossReset) {
        None
    } else {
        Some(note.era)
    };
    let mut query = Query {
        partition: Some(position.partition.clone()),
        // Of this era, whoever wrote them: the floor says where absence begins to mean something, not where entries do.
        offsets: Some(0..committed),
        outcomes: vec![Outcome::Received, Outcome::Failing],
        era,
        limit: PAGE,
        ..Query::default()
    };
    loop {
        let page = tracker.list(&query).await?;
        let settled: Vec<Entry> = page
            .entries
            .into_iter()
            .filter_map(|entry| settle(entry, &note, &mut report))
            .collect();
        if !settled.is_empty() {
            tracker.record(&settled, &[]).await?;
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(report),
        }
    }
}

/// What an entry below C(p) becomes; none if nobody can tell.
fn settle(mut entry: Entry, note: &Note, report: &mut Report) -> Option<Entry> {
    let named = note.open_attempts().contains(&entry.version.attempt);
    let passes = entry.version.outcome == Outcome::Failing
        && (entry.failure.as_ref().is_some_and(|f| f.passes) || mutant::active(Mutant::ConfirmStopped));
    let outcome = if passes && named {
        report.failed += 1;
        Outcome::Failed
    } else if note.gaps.contains(entry.id.offset) {
        report.unknown += 1;
        return None;
    } else {
        report.succeeded += 1;
        entry.failure = None;
        Outcome::Succeeded
    };
    entry.version.outcome = outcome;
    Some(entry)
}
