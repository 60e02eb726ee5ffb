//! The third law: below the committed offset and outside the gaps, a record has succeeded unless a committed attempt
//! passed it as a failure; the note in the committed offset says which attempts those are.
//!
//! Being below C(p) is stable within an era, so any process may settle it, at any time, and twice; what is in doubt is
//! settled by reading Kafka, never by a clock.

use serde::{Deserialize, Serialize};
use tracker_api::{Entry, Failure, FailureTracker, Outcome, Partition, Progress, Query};

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
    let mut known: Vec<Position> = positions
        .positions(&partitions)
        .await?
        .into_iter()
        .flatten()
        .collect();
    loop {
        for position in known {
            let mut report = below(tracker, &position, Some(store)).await?;
            report.failed += passed_by_reset(tracker, &position).await?;
            reports.push((position, report));
        }
        // What is pending keeps nothing else from being settled. It is asked for once more, and named.
        let is_done = |p: &&Partition| reports.iter().any(|(position, _)| position.partition == **p);
        let left: Vec<Partition> = partitions.iter().filter(|p| !is_done(p)).cloned().collect();
        if left.is_empty() {
            return Ok(reports);
        }
        known = positions.committed(&left).await?;
    }
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

/// What the message of a failure begins with that an offset reset has passed.
const RESET: &str = "an offset reset passed this record while it was failing (whether an output of it was committed before, only the target topic tells): ";

/// Settles what an offset reset has jumped over: failures of older eras, below the start of the current one, which nobody
/// owns and tries any more. Each becomes `failed` at its own version, so that it is open and can be discarded. Answers how
/// many. `position` must have been read from Kafka before, as for [`reconcile`].
///
/// At or above the start of the current era nothing is done: there the records were read again, and what the older era
/// says of them counts as absent.
pub(crate) async fn passed_by_reset(
    tracker: &dyn FailureTracker,
    position: &Position,
) -> tracker_api::Result<u64> {
    let Some(note) = Note::read(position.note.as_deref()).filter(|note| note.began > 0) else {
        return Ok(0);
    };
    if mutant::active(Mutant::ResetLeavesFailing) {
        return Ok(0);
    }
    let mut query = Query {
        partition: Some(position.partition.clone()),
        offsets: Some(0..note.began),
        outcomes: vec![Outcome::Failing],
        limit: PAGE,
        ..Query::default()
    };
    let mut settled = 0;
    loop {
        let page = tracker.list(&query).await?;
        let older = page
            .entries
            .into_iter()
            .filter(|entry| entry.version.era < note.era);
        let passed: Vec<Entry> = older.map(passed).collect();
        if !passed.is_empty() {
            tracker.record(&passed, &[]).await?;
            settled += passed.len() as u64;
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(settled),
        }
    }
}

/// The entry of a record that a reset has passed. Class and cause stay, so that it is found where it was.
fn passed(mut entry: Entry) -> Entry {
    entry.version.outcome = Outcome::Failed;
    if let Some(failure) = &mut entry.failure {
        failure.passes = true;
        failure.next_try = None;
        failure.message = Failure::new(&failure.class, &format!("{RESET}{}", failure.message)).message;
    }
    entry
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
            partitions: None,
            topic: None,
            told: 0,
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

    #[tokio::test]
    async fn what_a_reset_has_jumped_over_is_open_and_can_be_discarded() {
        use tracker_api::{Change, Decision, Resolution, Status};
        let (tracker, position) = scene().await;
        let mut note = Note::read(position.note.as_deref()).unwrap();
        (note.era, note.term, note.began) = (2, 1, 20);
        let position = Position {
            note: Some(note.to_string()),
            ..position
        };
        let stops = |mut entry: Entry| {
            entry.failure.as_mut().unwrap().passes = false;
            entry.version.attempt = AttemptId(uuid::Uuid::from_u128(1));
            entry
        };
        let held = tracker.list(&Query::default()).await.unwrap().entries;
        tracker.record(&[stops(held[0].clone())], &[]).await.unwrap();
        for settled in [2, 0] {
            assert_eq!(passed_by_reset(&tracker, &position).await.unwrap(), settled);
        }
        let entries = tracker.list(&Query::default()).await.unwrap().entries;
        let statuses: Vec<_> = entries.iter().map(|e| (e.id.offset, Status::of(e))).collect();
        let open = [(5, Status::Open), (12, Status::Open), (30, Status::Failing)];
        assert_eq!(statuses, open, "30 is read again in the new era");
        let failure = entries[0].failure.as_ref().unwrap();
        let before = held[0].failure.as_ref().unwrap();
        assert!(failure.message.ends_with("no JSON") && failure.message.starts_with("an offset reset"));
        assert_eq!(
            (&failure.class, failure.fingerprint),
            (&before.class, before.fingerprint)
        );

        let discard = Change {
            id: entries[0].id.clone(),
            revision: 0,
            to: Some(Resolution {
                decision: Decision::Discarded,
                about: entries[0].version,
                actor: "ada".into(),
                reason: "was reset on purpose".into(),
                at: Timestamp(2),
            }),
        };
        assert_eq!(tracker.resolve(&[discard]).await.unwrap(), [true]);
        assert_eq!(passed_by_reset(&tracker, &position).await.unwrap(), 0);
    }
}
