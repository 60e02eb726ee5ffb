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

/// Reconciles every partition of `topic`: first what Kafka says, then the store, whose mark in the note is `store`.
pub(crate) async fn reconcile_topic(
    positions: &mut impl Positions,
    tracker: &dyn FailureTracker,
    topic: &str,
    store: u32,
) -> Result<Vec<(Position, Report)>, Error> {
    let partitions = positions.partitions(topic).await?;
    let mut reports = Vec::with_capacity(partitions.len());
    for position in positions.positions(&partitions).await?.into_iter().flatten() {
        let report = below(tracker, &position, Some(store)).await?;
        reports.push((position, report));
    }
    if reports.len() < partitions.len() {
        // What is pending is asked for once more, and named.
        for position in positions.committed(&partitions).await? {
            if !reports
                .iter()
                .any(|(known, _)| known.partition == position.partition)
            {
                let report = below(tracker, &position, Some(store)).await?;
                reports.push((position, report));
            }
        }
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
    below(tracker, position, None).await
}

/// `store`: the tracker's mark, if `tracker` may be another than the one that the note speaks of.
async fn below(
    tracker: &dyn FailureTracker,
    position: &Position,
    store: Option<u32>,
) -> tracker_api::Result<Report> {
    let mut report = Report::default();
    let (Some(committed), Some(note)) = (position.offset, Note::read(position.note.as_deref())) else {
        return Ok(report);
    };
    // What was committed under another store, only that one was told of.
    let told = if store.is_none_or(|store| store == note.store) {
        note.since
    } else {
        i64::MAX
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
            .filter_map(|entry| settle(entry, &note, told, &mut report))
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
fn settle(mut entry: Entry, note: &Note, told: i64, report: &mut Report) -> Option<Entry> {
    let named = note.open_attempts().contains(&entry.version.attempt);
    let passes = entry.version.outcome == Outcome::Failing
        && (entry.failure.as_ref().is_some_and(|f| f.passes) || mutant::active(Mutant::ConfirmStopped));
    let outcome = if passes && named {
        report.failed += 1;
        Outcome::Failed
    } else if note.gaps.contains(entry.id.offset) || entry.id.offset < told {
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

#[cfg(test)]
mod tests {
    use tracker_api::{AttemptId, Failure, Gaps, MemoryTracker, Partition, Timestamp, Version};

    use super::*;

    fn partition() -> Partition {
        Partition::new("orders", 0)
    }

    /// Three records that failed in term 1, and C(p) behind them, committed in term 2 by an owner whose store has the mark
    /// 7 and was told of the partition from offset 10 on.
    async fn scene() -> (MemoryTracker, Position) {
        let tracker = MemoryTracker::default();
        let entries: Vec<Entry> = [5, 12, 30]
            .map(|offset| {
                let version = Version {
                    era: 1,
                    term: 1,
                    attempt: AttemptId::default(),
                    outcome: Outcome::Failing,
                };
                let mut failure = Failure::new("malformed", "no JSON");
                failure.passes = true;
                Entry {
                    failure: Some(failure),
                    ..Entry::new(partition().at(offset), version, Timestamp(1))
                }
            })
            .into();
        tracker.record(&entries, &[]).await.unwrap();
        let note = Note {
            attempt: AttemptId(uuid::Uuid::from_u128(9)),
            passed: false,
            era: 1,
            term: 2,
            unconfirmed: Vec::new(),
            gaps: Gaps::default(),
            began: 0,
            store: 7,
            since: 10,
        };
        let position = Position {
            partition: partition(),
            offset: Some(20),
            note: Some(note.to_string()),
        };
        (tracker, position)
    }

    async fn outcomes(tracker: &MemoryTracker) -> Vec<Outcome> {
        let page = tracker.list(&Query::default()).await.unwrap();
        page.entries.iter().map(|entry| entry.version.outcome).collect()
    }

    #[tokio::test]
    async fn what_was_committed_under_another_store_stays_unknown() {
        use Outcome::{Failing, Succeeded};
        let (tracker, position) = scene().await;
        let report = below(&tracker, &position, Some(8)).await.unwrap();
        assert_eq!((report.unknown, report.succeeded), (2, 0));
        assert_eq!(outcomes(&tracker).await, [Failing, Failing, Failing]);

        let report = below(&tracker, &position, Some(7)).await.unwrap();
        assert_eq!(
            (report.unknown, report.succeeded),
            (1, 1),
            "from 10 on this store was told"
        );
        assert_eq!(outcomes(&tracker).await, [Failing, Succeeded, Failing]);
    }
}
