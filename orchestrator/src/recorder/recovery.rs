//! What a new owner settles of what the last one left open. Kafka is not waited for here, and the lane does not wait for this.

use std::{ops::Range, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tracker_api::{
    AttemptId, DynTracker, Entry, FailureTracker, Gaps, Outcome, Progress, Query, Result, Version,
};

use super::{Feedback, again::DONE, store};
use crate::{
    clock::Clock,
    kafka::Position,
    mutant::{self, Mutant},
    note::{MOST_GAPS, Note},
    reconcile::{passed_by_reset, reconcile},
    telemetry::Repeated,
};

/// How often it is said that a recovery is put off.
const SAID: Duration = Duration::from_secs(60);

/// One partition, as its new owner found it and has committed it.
#[derive(Clone, Debug)]
pub(crate) struct Recovery {
    /// C(p) and the note of the new owner's own term.
    pub(crate) position: Position,
    /// What voids are written at: the new term, and an id reserved before every id that the lane then uses.
    pub(crate) void: Version,
    /// The attempts that the note carries as unconfirmed; they leave it when this is done.
    pub(crate) carried: Vec<AttemptId>,
    /// Where the era began.
    pub(crate) began: i64,
    /// What was committed below it in this era was told to another store.
    pub(crate) since: i64,
    /// Up to where this store has confirmed the era's progress: a row that says less is one that came back older.
    pub(crate) told: i64,
    /// How far the partition has come, for a store that is told of it for the first time.
    pub(crate) progress: Progress,
}

pub(super) async fn run(
    recovery: Recovery,
    store: DynTracker,
    fallback: Option<DynTracker>,
    feedback: mpsc::UnboundedSender<Feedback>,
    clock: Arc<dyn Clock>,
) {
    let mut wait = Duration::from_millis(100);
    let mut said = Repeated::every(SAID);
    loop {
        match settle(&recovery, &*store, fallback.as_deref(), &feedback, &*clock).await {
            Ok(Found::Closed(closed)) => {
                let partition = recovery.position.partition;
                let _ = feedback.send(Feedback::Confirmed {
                    partition,
                    attempts: recovery.carried,
                    closed,
                    unknown: Vec::new(),
                });
                return;
            }
            Ok(Found::LaterEra(era)) => {
                let partition = recovery.position.partition;
                let _ = feedback.send(Feedback::Outdated { partition, era });
                return;
            }
            Err(error) => {
                if let Some(left_out) = said.due(()) {
                    tracing::warn!(partition = %recovery.position.partition, %error, left_out, "what the last owner left open is not settled yet; it is tried again until it is");
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(10));
            }
        }
    }
}

/// What the store had to say.
enum Found {
    /// The offsets that only the fallback held and the store now holds.
    Closed(Vec<i64>),
    /// It knows a later era: a clock went back while it was away. Nothing that is written at ours would stand.
    LaterEra(u64),
}

async fn settle(
    recovery: &Recovery,
    store: &dyn FailureTracker,
    fallback: Option<&dyn FailureTracker>,
    feedback: &mpsc::UnboundedSender<Feedback>,
    clock: &dyn Clock,
) -> Result<Found> {
    let committed = recovery.position.offset.unwrap_or(0);
    let mut progress = recovery.progress.clone();
    let rows = store.progress().await?;
    let row = rows
        .iter()
        .find(|row| row.partition == progress.partition && row.era >= progress.era);
    if let Some(later) = row.filter(|row| row.era > progress.era) {
        return Ok(Found::LaterEra(later.era));
    }
    // What an older era says must not stand where nobody told the store of this one: the floor goes down to its start.
    let missed = missed(recovery, row);
    progress.floor = progress.floor.min(recovery.began);
    progress.gaps.unite(&missed);
    progress.missed = missed.clone();
    let knows = row.map_or(recovery.began, |row| row.committed);
    // A note is untrusted: nothing was confirmed above C(p).
    let told = recovery.told.min(committed);
    if knows < told && !mutant::active(Mutant::ToldIgnored) {
        // Up to C(p): what was written after its last word, a failure among it, it may have lost too.
        progress.gaps.add(knows..committed);
        // The lane says so too, in the note and in all that it writes from now on.
        let _ = feedback.send(Feedback::Lacks {
            partition: progress.partition.clone(),
            era: progress.era,
            gap: knows..committed,
        });
    }
    // Before the row, which says from then on that all of it was told. What a store that came back older knew below
    // `told`, it may have lost.
    let untold = knows.max(told).max(recovery.since)..committed;
    raise_skipped(recovery, store, untold, clock).await?;
    store::write_progress(store, std::slice::from_ref(&progress)).await?;
    let _ = feedback.send(Feedback::told(progress.clone()));
    // The lane's rows are later ones than this, and their gaps win. It writes none before it was told.
    let _ = feedback.send(Feedback::Missed {
        partition: progress.partition.clone(),
        term: (progress.era, progress.term),
        missed,
    });
    if let Some(fallback) = fallback {
        let passing = [Outcome::Failing, Outcome::Failed];
        for page in pages(fallback, recovery, &passing, 0..i64::MAX).await? {
            store::import(store, &page).await?;
        }
    }
    let left = pages(store, recovery, &[Outcome::Failing], committed..i64::MAX).await?;
    for page in left
        .into_iter()
        .filter(|_| !mutant::active(Mutant::NoVoidAtAssignment))
    {
        let mut version = recovery.void;
        if mutant::active(Mutant::VoidWithFreshId) {
            version.attempt = AttemptId(clock.fresh());
        }
        let at = clock.now();
        let voids = page.into_iter().filter(|entry| entry.version < version);
        let voids = voids.map(|entry| Entry {
            version,
            at,
            failure: None,
            ..entry
        });
        store::write(store, voids.collect()).await?;
    }
    reconcile(store, &recovery.position).await?;
    passed_by_reset(store, &recovery.position).await?;
    Ok(Found::Closed(
        closed(store, recovery, &progress.gaps, committed).await?,
    ))
}

/// Tells of these offsets, which this era passed and of which its last owner may have told nothing, what an older era made
/// of them. Such a success was passed without output (`outbox.skip-succeeded`): a failure would have an entry of this era,
/// or a gap. It is written anew, as its owner would have, so that readers see it and a second reset finds it.
async fn raise_skipped(
    recovery: &Recovery,
    store: &dyn FailureTracker,
    offsets: Range<i64>,
    clock: &dyn Clock,
) -> Result<()> {
    // On a topic that was made again, older eras speak of other records.
    let note = Note::read(recovery.position.note.as_deref());
    if note.is_none_or(|note| note.partitions == Some(0)) {
        return Ok(());
    }
    let version = Version {
        outcome: Outcome::Succeeded,
        ..recovery.void
    };
    let mut query = Query {
        partition: Some(recovery.position.partition.clone()),
        offsets: Some(offsets.clone()),
        statuses: DONE.to_vec(),
        limit: 1_000,
        ..Query::default()
    };
    while !offsets.is_empty() && !mutant::active(Mutant::SkippedUntold) {
        let page = store.list(&query).await?;
        let is_skipped = |entry: &Entry| {
            entry.version.era < version.era && !recovery.progress.gaps.contains(entry.id.offset)
        };
        let skipped = page.entries.into_iter().filter(is_skipped).map(|entry| Entry {
            captured: entry.captured,
            ..Entry::new(entry.id, version, clock.now())
        });
        store::write(store, skipped.collect()).await?;
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    Ok(())
}

/// What the store, which holds `row` of this era, was never told: what its row says, what lies between the era's start and
/// where its own telling began, and what another store was told since.
fn missed(recovery: &Recovery, row: Option<&Progress>) -> Gaps {
    let mut missed = row.map_or_else(Gaps::default, |row| row.missed.clone());
    // A row from before rows named their writer does not tell them from those that a note names: it may say too much.
    if let Some(row) = row.filter(|row| row.writer() == (0, AttemptId::default())) {
        missed = row.gaps.clone();
        recovery
            .progress
            .gaps
            .iter()
            .for_each(|named| missed.remove(named));
    }
    missed.add(recovery.began..row.map_or(recovery.progress.floor, |row| row.floor));
    if let Some(row) = row {
        missed.add(row.committed..recovery.since);
    }
    missed.bound(MOST_GAPS);
    missed
}

/// The offsets of gaps that the store can speak about now: it holds their failures, of attempts that the note names. (One
/// that the note does not name came to nothing, which says nothing about what passed the record later.) They may have come
/// from the fallback here or by its drain, before or after this.
async fn closed(
    store: &dyn FailureTracker,
    recovery: &Recovery,
    gaps: &Gaps,
    committed: i64,
) -> Result<Vec<i64>> {
    let mut closed = Vec::new();
    for gap in gaps.iter() {
        let range = gap.start..gap.end.min(committed);
        for page in pages(store, recovery, &[Outcome::Failed], range).await? {
            let named = page
                .into_iter()
                .filter(|entry| recovery.carried.contains(&entry.version.attempt));
            closed.extend(named.map(|entry| entry.id.offset));
        }
    }
    Ok(closed)
}

/// The entries of this partition and era with one of these outcomes, read whole before anything is written.
async fn pages(
    tracker: &dyn FailureTracker,
    recovery: &Recovery,
    outcomes: &[Outcome],
    offsets: Range<i64>,
) -> Result<Vec<Vec<Entry>>> {
    let mut pages = Vec::new();
    let mut query = Query {
        partition: Some(recovery.position.partition.clone()),
        offsets: Some(offsets),
        outcomes: outcomes.to_vec(),
        era: Some(recovery.void.era),
        limit: 1_000,
        ..Query::default()
    };
    loop {
        let page = tracker.list(&query).await?;
        pages.push(page.entries);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(pages),
        }
    }
}
