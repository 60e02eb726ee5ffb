//! Writes what need not be waited for: coalesced, repeated until it is durable.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::sync::{Notify, mpsc};
use tracker_api::{DynTracker, Entry, Outcome, Progress};

use super::{Feedback, store};
use crate::config::Tracking;

/// Entries that may wait for a store that is down. Beyond it, successes are left to reconcile, which can tell them from
/// Kafka; `lightweight` drops and counts.
const MOST_WAITING: usize = 20_000;
/// Entries written at once.
const SLICE: usize = 2_000;

/// Something to write, and what to tell the lane once it is durable.
#[derive(Debug, Default)]
pub(crate) struct Mark {
    pub(crate) entries: Vec<Entry>,
    pub(crate) progress: Vec<Progress>,
    pub(crate) confirm: Vec<Feedback>,
}

impl Mark {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.progress.is_empty() && self.confirm.is_empty()
    }
}

/// What waits for the marker.
#[derive(Debug, Default)]
pub(super) struct Queue {
    marks: AtomicUsize,
    entries: AtomicUsize,
    lost: AtomicU64,
    drained: Notify,
}

impl Queue {
    /// Counts a mark in, unless it is one that may be dropped and the queue is full.
    pub(super) fn admits(&self, mark: &Mark, tracking: Tracking) -> bool {
        let full = self.entries.load(Ordering::Relaxed) > MOST_WAITING;
        let only_successes = mark.confirm.is_empty()
            && mark
                .entries
                .iter()
                .all(|e| e.version.outcome == Outcome::Succeeded);
        if full && (only_successes || tracking == Tracking::Lightweight) {
            if tracking == Tracking::Lightweight {
                let lost = mark
                    .entries
                    .iter()
                    .filter(|e| e.version.outcome == Outcome::Failed)
                    .count();
                self.lost.fetch_add(lost as u64, Ordering::Relaxed);
            }
            return false;
        }
        self.entries.fetch_add(mark.entries.len(), Ordering::Relaxed);
        self.marks.fetch_add(1, Ordering::Release);
        true
    }

    fn done(&self, marks: usize, entries: usize) {
        self.entries.fetch_sub(entries, Ordering::Relaxed);
        if self.marks.fetch_sub(marks, Ordering::AcqRel) == marks {
            self.drained.notify_waiters();
        }
    }

    pub(super) async fn drained(&self) {
        loop {
            let drained = self.drained.notified();
            if self.marks.load(Ordering::Acquire) == 0 {
                return;
            }
            drained.await;
        }
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Writes marks until every recorder that sends them is gone.
pub(super) async fn run(
    store: DynTracker,
    mut marks: mpsc::UnboundedReceiver<Mark>,
    feedback: mpsc::UnboundedSender<Feedback>,
    queue: std::sync::Arc<Queue>,
) {
    while let Some(mut mark) = marks.recv().await {
        let mut taken = 1;
        while mark.entries.len() < SLICE {
            let Ok(more) = marks.try_recv() else { break };
            mark.entries.extend(more.entries);
            mark.progress.extend(more.progress);
            mark.confirm.extend(more.confirm);
            taken += 1;
        }
        let entries = mark.entries.len();
        let mut wait = Duration::from_millis(50);
        while let Err(error) = write(&store, &mark).await {
            tracing::warn!(%error, entries, "the store did not take what a commit made true; trying again");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(5));
        }
        for row in mark.progress {
            let _ = feedback.send(Feedback::Told {
                partition: row.partition,
                era: row.era,
                committed: row.committed,
            });
        }
        for confirmed in mark.confirm {
            let _ = feedback.send(confirmed);
        }
        queue.done(taken, entries);
    }
}

async fn write(store: &DynTracker, mark: &Mark) -> tracker_api::Result<()> {
    store::write(&**store, mark.entries.clone()).await?;
    store::write_progress(&**store, &mark.progress).await
}
