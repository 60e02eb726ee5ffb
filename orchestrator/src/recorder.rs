//! What is told to the tracker, and when: the law of *before and after*.
//!
//! A failure is durable before the commit that passes over its record; it is final, and a success is written, only after
//! that commit. What must come before is awaited by the lane; what comes after is handed to the marker, which
//! coalesces and repeats it until it is durable.

mod again;
mod marker;
mod queue;
mod recovery;
mod store;
mod told;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, sync::mpsc, task::AbortHandle};
use tracker_api::{
    Captured, DynTracker, Entry, Outcome, Partition, Progress, RecordId, Result, Timestamp, Version,
};

pub(crate) use self::{
    queue::{Kept, Mark},
    recovery::Recovery,
    store::{Odd, import},
    told::{Done, Feedback, Held},
};
use crate::{
    clock::Clock,
    config::{OnStoreFailure, StorePayload, Tracking},
    kafka::{Committed, Position},
    mutant::{self, Mutant},
    reconcile::reconcile,
    telemetry::Repeated,
    transform::SourceRecord,
};

/// One line about one thing within so long.
const SAID: Duration = Duration::from_secs(10);

/// What the recorder was told by the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) tracking: Tracking,
    pub(crate) on_store_failure: OnStoreFailure,
    pub(crate) capture: StorePayload,
    /// Under `outbox`: capture the bytes of failures only.
    pub(crate) capture_on_failure_only: bool,
    /// What the note calls the store: the same for all processes that write to one, and of that store only.
    pub(crate) store_mark: u32,
    /// Under `outbox`: what has succeeded already is not produced again when it is read again.
    pub(crate) skip_succeeded: bool,
}

/// One lane's recorder. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    settings: Settings,
    store: Option<DynTracker>,
    fallback: Option<DynTracker>,
    runtime: Handle,
    clock: Arc<dyn Clock>,
    /// Wakes the marker.
    due: mpsc::Sender<()>,
    feedback: mpsc::UnboundedSender<Feedback>,
    queue: Arc<queue::Queue>,
    said: Arc<Mutex<Repeated<&'static str>>>,
}

impl Recorder {
    /// A recorder, and where its feedback arrives. Calls to the stores run on `runtime`.
    pub(crate) fn new(
        settings: Settings,
        store: Option<DynTracker>,
        fallback: Option<DynTracker>,
        runtime: Handle,
        clock: Arc<dyn Clock>,
    ) -> (Self, mpsc::UnboundedReceiver<Feedback>) {
        let (feedback, receiver) = mpsc::unbounded_channel();
        // So little in tests that the simulation meets the bound.
        let most = if cfg!(test) { 8 << 10 } else { queue::MOST_BYTES };
        let (due, queue) = (mpsc::channel(1), Arc::new(queue::Queue::new(most)));
        if let Some(store) = &store {
            runtime.spawn(marker::run(store.clone(), due.1, feedback.clone(), queue.clone()));
        }
        let store = store.filter(|_| settings.tracking != Tracking::None);
        (
            Self {
                settings,
                store,
                fallback,
                runtime,
                clock,
                due: due.0,
                feedback,
                queue,
                said: Arc::new(Mutex::new(Repeated::every(SAID))),
            },
            receiver,
        )
    }

    /// Whether failures must be durable before they are passed.
    pub(crate) fn is_reliable(&self) -> bool {
        self.store.is_some() && matches!(self.settings.tracking, Tracking::Reliable | Tracking::Outbox)
    }

    /// Whether each record has an entry of its own.
    pub(crate) fn is_outbox(&self) -> bool {
        self.store.is_some() && self.settings.tracking == Tracking::Outbox
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The record's bytes, as far as they are to be kept with an entry that is a `failure` or not.
    pub(crate) fn capture(&self, record: &SourceRecord, failure: bool) -> Option<Captured> {
        if self.settings.capture == StorePayload::None || (!failure && self.settings.capture_on_failure_only)
        {
            return None;
        }
        let mut captured = Captured {
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        };
        if self.settings.capture == StorePayload::Text {
            let text = |bytes: &mut bytes::Bytes| *bytes = String::from_utf8_lossy(bytes).into_owned().into();
            captured.key.iter_mut().for_each(text);
            captured.value.iter_mut().for_each(text);
            captured
                .headers
                .iter_mut()
                .filter_map(|h| h.value.as_mut())
                .for_each(text);
        }
        Some(captured)
    }

    /// Under `outbox`: makes `received` entries durable before their transform. `Ok(false)`: the store is down and the flow
    /// goes on without them, so their offsets become gaps. `Err`: wait for the store.
    pub(crate) async fn received(self, entries: Vec<Entry>) -> Result<bool> {
        let Some(store) = self.store.clone() else {
            return Ok(true);
        };
        match self
            .runtime
            .spawn(async move { store::write(&*store, entries).await })
            .await
        {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(_)) if self.settings.on_store_failure == OnStoreFailure::Degrade => Ok(false),
            Ok(Err(error)) => Err(error),
            Err(join) => Err(store::gone(join)),
        }
    }

    /// Whether a line about `what` is due, and how many were left out since the last.
    fn said(&self, what: &'static str) -> Option<u64> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).due(what)
    }

    /// Makes the failures that an attempt is about to pass durable. `dead_letters`: the attempt also sends each to the
    /// dead-letter topic. `Err`: nobody holds them; wait and call again.
    pub(crate) async fn before(self, failing: Vec<Entry>, dead_letters: bool) -> Result<Held> {
        let Some(store) = self.store.clone() else {
            return Ok(Held::Store);
        };
        if failing.is_empty() || !self.is_reliable() || mutant::active(Mutant::SwapBeforeAndAfterFailure) {
            return Ok(Held::Store);
        }
        let ids: Vec<RecordId> = failing.iter().map(|entry| entry.id.clone()).collect();
        let degrade = self.settings.on_store_failure == OnStoreFailure::Degrade;
        let fallback = self.fallback.clone().filter(|_| degrade);
        let written = self.runtime.spawn(async move {
            match (store::write(&*store, failing.clone()).await, fallback) {
                (Err(_), Some(fallback)) => store::write(&*fallback, failing).await.map(|_| None),
                (written, _) => written.map(Some),
            }
        });
        match written.await {
            Ok(Ok(Some(stands))) => {
                let superseded: Vec<_> = ids
                    .into_iter()
                    .zip(stands)
                    .filter(|(_, s)| !s)
                    .map(|(id, _)| id)
                    .collect();
                Ok(if superseded.is_empty() {
                    Held::Store
                } else {
                    Held::Superseded(superseded)
                })
            }
            Ok(Ok(None)) => Ok(Held::Fallback),
            Ok(Err(_)) if degrade && dead_letters => Ok(Held::DeadLetter),
            Ok(Err(error)) => Err(error),
            Err(join) => Err(store::gone(join)),
        }
    }

    /// The eras of what the store holds of these records; nothing if it does not answer.
    pub(crate) async fn eras_of(self, ids: Vec<RecordId>) -> Vec<(Partition, u64)> {
        let Some(store) = self.store.clone() else {
            return Vec::new();
        };
        let held = self.runtime.spawn(async move { store.get(&ids).await });
        let held = held.await.ok().and_then(Result::ok).unwrap_or_default();
        let eras = held.into_iter().flatten();
        eras.map(|entry| (entry.id.partition, entry.version.era))
            .collect()
    }

    /// Writes that these records stand at the front of their partitions, without waiting.
    pub(crate) fn stopped(&self, failing: Vec<Entry>) {
        self.mark(Mark {
            entries: failing,
            ..Mark::default()
        });
    }

    /// Writes `received` over the failures of an attempt that came to nothing. `void` was reserved before the next attempt's id.
    pub(crate) fn void(&self, failing: Vec<Entry>, void: Version) {
        let entries = failing.into_iter().map(|entry| {
            let version = if mutant::active(Mutant::ConfirmAborted) {
                Version {
                    outcome: Outcome::Failed,
                    ..entry.version
                }
            } else {
                void
            };
            let failure = entry.failure.filter(|_| mutant::active(Mutant::ConfirmAborted));
            Entry {
                version,
                failure,
                ..entry
            }
        });
        self.mark(Mark {
            entries: entries.collect(),
            kept: Kept::Store,
            ..Mark::default()
        });
    }

    /// Writes what a commit made true. Wants the commit's proof, so it cannot be called before it.
    pub(crate) fn after(&self, committed: &Committed, done: Done) {
        let attempt = committed.attempt();
        if done.held == Held::Fallback {
            self.settle_in_fallback(&done);
        }
        let confirm = done
            .passed
            .into_iter()
            .map(|(partition, closed)| Feedback::Confirmed {
                partition,
                attempts: vec![attempt],
                closed,
                unknown: Vec::new(),
            });
        let kept = match done.held {
            Held::Store if self.is_reliable() => Kept::Store,
            Held::Fallback => Kept::Fallback,
            Held::Store | Held::DeadLetter | Held::Superseded(_) => Kept::Nowhere,
        };
        self.mark(Mark {
            entries: done.entries,
            progress: done.progress,
            confirm: confirm.collect(),
            kept,
        });
    }

    /// The fallback learns too that the commit passed these failures: whoever owns the partition when they are drained, they
    /// are final then. What a crash leaves out here, the note tells.
    fn settle_in_fallback(&self, done: &Done) {
        let Some(fallback) = self.fallback.clone() else {
            return;
        };
        let failed = done
            .entries
            .iter()
            .filter(|entry| entry.version.outcome == Outcome::Failed);
        let failed: Vec<Entry> = failed.cloned().collect();
        self.runtime.spawn(async move {
            if let Err(error) = store::write(&*fallback, failed).await {
                tracing::debug!(%error, "the fallback was not told of a commit; the note in Kafka says it too");
            }
        });
    }

    /// Writes a partition's row, without waiting.
    pub(crate) fn tell(&self, row: Progress) {
        self.mark(Mark {
            progress: vec![row],
            ..Mark::default()
        });
    }

    fn mark(&self, mark: Mark) {
        if self.store.is_some() && !mark.is_empty() {
            self.queue.push(mark);
            // Full: it is awake already. Closed: its runtime has ended, the process ends too, and the next owner reconciles.
            let _ = self.due.try_send(());
        }
    }

    /// What the note calls our store.
    pub(crate) fn store_mark(&self) -> u32 {
        self.settings.store_mark
    }

    /// Settles what the partition's last owner left open, in the background, until it is durable. Abort it when the
    /// partition goes.
    pub(crate) fn recover(&self, recovery: Recovery) -> Option<AbortHandle> {
        let store = self.store.clone()?;
        let (fallback, feedback, clock) = (self.fallback.clone(), self.feedback.clone(), self.clock.clone());
        let task = recovery::run(recovery, store, fallback, feedback, clock);
        Some(self.runtime.spawn(task).abort_handle())
    }

    /// Settles one partition's entries below its committed offset, in the background; what fails is tried again next time.
    pub(crate) fn settle(&self, position: Position) {
        let Some(store) = self.store.clone() else { return };
        self.runtime.spawn(async move {
            if let Err(error) = reconcile(&*store, &position).await {
                tracing::debug!(partition = %position.partition, %error, "reconcile put off");
            }
        });
    }

    /// Asks what operators decided about blocking records. Answers arrive as [`Feedback::Decided`].
    pub(crate) fn ask(&self, ids: Vec<RecordId>) {
        let Some(store) = self.store.clone() else { return };
        let feedback = self.feedback.clone();
        self.runtime.spawn(async move {
            let Ok(entries) = store.get(&ids).await else {
                return;
            };
            for entry in entries.into_iter().flatten() {
                if let Some(decision) = entry.decision().filter(|d| d.is_for_blocking()).cloned() {
                    let (era, revision) = (entry.version.era, entry.revision);
                    let _ = feedback.send(Feedback::Decided {
                        id: entry.id,
                        era,
                        revision,
                        decision,
                    });
                }
            }
        });
    }

    /// How far each partition has come, as the store knows it; nothing where nothing is tracked. `Err`: no answer, which
    /// is not "nothing".
    pub(crate) async fn rows(self) -> Result<Vec<Progress>> {
        let Some(store) = self.store.clone() else {
            return Ok(Vec::new());
        };
        let rows = self.runtime.spawn(async move { store.progress().await });
        rows.await.unwrap_or_else(|join| Err(store::gone(join)))
    }

    /// Looks whether the store still knows what it had confirmed: of each partition and era, up to which offset. Answers
    /// arrive as [`Feedback::Behind`].
    pub(crate) fn check(&self, told: Vec<(Partition, u64, i64)>) {
        let Some(store) = self.store.clone() else { return };
        if told.is_empty() || mutant::active(Mutant::ToldIgnored) {
            return;
        }
        let feedback = self.feedback.clone();
        self.runtime.spawn(async move {
            let Ok(rows) = store.progress().await else { return };
            for (partition, era, told) in told {
                let knows = |row: &Progress| {
                    row.partition == partition && (row.era > era || row.era == era && row.committed >= told)
                };
                if !rows.iter().any(knows) {
                    let _ = feedback.send(Feedback::Behind { partition, era });
                }
            }
        });
    }

    /// Waits until everything handed to the marker is durable. Bound it with a deadline: the store may be down.
    pub(crate) async fn flush(&self) {
        self.queue.drained().await;
    }

    /// Failures that are kept nowhere, since the start: the queue was full, or the store did not take them.
    pub(crate) fn lost(&self) -> u64 {
        self.queue.lost()
    }
}
