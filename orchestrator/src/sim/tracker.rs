//! A store that fails, in every way in which stores fail, between the loop and the memory tracker.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::{sleep, timeout};
use tracker_api::{
    Change, CorruptRow, Entry, Error, ErrorKind, FailureTracker, Group, MemoryTracker, Page, Progress,
    Purgeable, Query, RecordId, Result, Risk, Timestamp,
};

use super::{
    faults::{Step, Strike},
    world::{Sim, Weather},
};
use crate::mutant::{self, Mutant};

/// One process's connection to the store, or to its own fallback.
pub(super) struct SimTracker {
    sim: Arc<Sim>,
    process: usize,
    is_fallback: bool,
}

impl fmt::Debug for SimTracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_fallback { "fallback" } else { "store" })
    }
}

/// As `db-timeout-ms`: a call without an answer ends; what it asked for may still happen.
const DEADLINE: Duration = Duration::from_secs(1);

impl SimTracker {
    pub(super) fn store(sim: Arc<Sim>, process: usize) -> Arc<Self> {
        Arc::new(Self {
            sim,
            process,
            is_fallback: false,
        })
    }

    pub(super) fn fallback(sim: Arc<Sim>, process: usize) -> Arc<Self> {
        Arc::new(Self {
            sim,
            process,
            is_fallback: true,
        })
    }

    fn inner(&self) -> MemoryTracker {
        if self.is_fallback {
            self.sim.fallbacks[self.sim.slot(self.process)].clone()
        } else {
            self.sim.store.clone()
        }
    }

    fn log(&self, what: impl FnOnce() -> String) {
        self.sim
            .log(&format!("p{}", self.process), || format!("{self:?}: {}", what()));
    }

    fn weather(&self) -> Weather {
        let world = self.sim.world();
        if self.is_fallback {
            world.fallback_weather
        } else {
            world.weather
        }
    }

    /// Runs one call through the weather and a fault of its own. `work` is what the store does once it is told.
    async fn call<R: Send + 'static>(&self, work: impl Work<R>) -> Result<R> {
        let answer = timeout(DEADLINE, self.try_call(work)).await;
        self.sim.gate(self.process).await;
        let answer = answer.unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "no answer in time")));
        if let Err(error) = &answer {
            self.log(|| format!("{error}"));
        }
        answer
    }

    async fn try_call<R: Send + 'static>(&self, work: impl Work<R>) -> Result<R> {
        let inner = self.inner();
        let strike = self.sim.step(self.process, Step::Store, 1.0).await;
        match self.weather() {
            Weather::Fair => {}
            Weather::Down => return Err(Error::new(ErrorKind::Unavailable, "connection refused")),
            Weather::Silent => std::future::pending::<()>().await,
        }
        match strike {
            Strike::Fail => Err(Error::new(
                ErrorKind::Unavailable,
                "connection reset before it arrived",
            )),
            Strike::AnswerLost => {
                let _ = work.run(inner).await;
                Err(Error::new(
                    ErrorKind::Timeout,
                    "connection reset before the answer",
                ))
            }
            Strike::Late(span) => {
                // The deadline cuts our wait, not the store's work; nor does our death.
                tokio::spawn(async move {
                    sleep(span).await;
                    let _ = work.run(inner).await;
                });
                std::future::pending().await
            }
            _ => work.run(inner).await,
        }
    }
}

/// Captured bytes that the store does not take, whatever the time.
fn is_refused(entry: &Entry) -> bool {
    entry.captured.is_some() && entry.id.offset % 5 == 2
}

/// What a store does when a call has arrived.
trait Work<R>: Send + 'static {
    fn run(self, inner: MemoryTracker) -> impl Future<Output = Result<R>> + Send;
}

impl<R, F, Fut> Work<R> for F
where
    F: FnOnce(MemoryTracker) -> Fut + Send + 'static,
    Fut: Future<Output = Result<R>> + Send,
{
    fn run(self, inner: MemoryTracker) -> impl Future<Output = Result<R>> + Send {
        self(inner)
    }
}

#[async_trait]
impl FailureTracker for SimTracker {
    async fn record(&self, entries: &[Entry], progress: &[Progress]) -> Result<Vec<bool>> {
        self.sim.gate(self.process).await;
        self.log(|| {
            let entries: Vec<_> = entries.iter().map(super::laws::show).collect();
            let progress: Vec<_> = progress
                .iter()
                .map(|p| format!("{} era {} <{} gaps {:?}", p.partition, p.era, p.committed, p.gaps))
                .collect();
            format!("record {} {}", entries.join(", "), progress.join(", "))
        });
        // In a fallback a success says that the store has the failure: see `resilience::fallback`.
        let delivered = |entry: &Entry| entry.version.outcome == tracker_api::Outcome::Succeeded;
        if !self.is_fallback || !entries.iter().all(delivered) {
            self.sim.world().laws.at_write(entries, progress, &self.sim.store);
        }
        if self.sim.world().refuses && entries.iter().any(is_refused) {
            return Err(Error::new(
                ErrorKind::Refused,
                "invalid byte sequence for encoding",
            ));
        }
        let (entries, mut progress) = (entries.to_vec(), progress.to_vec());
        let only_grow = mutant::active(Mutant::GapsOnlyGrow);
        self.call(move |inner: MemoryTracker| async move {
            for held in inner.progress().await?.iter().filter(|_| only_grow) {
                let same = |row: &&mut Progress| row.partition == held.partition && row.era == held.era;
                progress
                    .iter_mut()
                    .filter(same)
                    .for_each(|row| row.gaps.unite(&held.gaps));
            }
            inner.record(&entries, &progress).await
        })
        .await
    }

    async fn import(&self, entries: &[Entry], progress: &[Progress]) -> Result<()> {
        let (entries, progress) = (entries.to_vec(), progress.to_vec());
        self.call(move |inner: MemoryTracker| async move { inner.import(&entries, &progress).await })
            .await
    }

    async fn resolve(&self, changes: &[Change]) -> Result<Vec<bool>> {
        let changes = changes.to_vec();
        self.call(move |inner: MemoryTracker| async move { inner.resolve(&changes).await })
            .await
    }

    async fn progress(&self) -> Result<Vec<Progress>> {
        self.call(move |inner: MemoryTracker| async move { inner.progress().await })
            .await
    }

    async fn get(&self, ids: &[RecordId]) -> Result<Vec<Option<Entry>>> {
        let ids = ids.to_vec();
        self.call(move |inner: MemoryTracker| async move { inner.get(&ids).await })
            .await
    }

    async fn list(&self, query: &Query) -> Result<Page> {
        let query = query.clone();
        self.call(move |inner: MemoryTracker| async move { inner.list(&query).await })
            .await
    }

    async fn groups(&self, query: &Query) -> Result<Vec<Group>> {
        let query = query.clone();
        self.call(move |inner: MemoryTracker| async move { inner.groups(&query).await })
            .await
    }

    async fn purge(&self, what: Purgeable, before: Timestamp, limit: usize) -> Result<u64> {
        self.call(move |inner: MemoryTracker| async move { inner.purge(what, before, limit).await })
            .await
    }

    async fn ping(&self) -> Result<()> {
        self.call(move |inner: MemoryTracker| async move { inner.ping().await })
            .await
    }

    fn corrupt_rows(&self) -> Vec<CorruptRow> {
        Vec::new()
    }

    async fn risks(&self) -> Result<Vec<Risk>> {
        Ok(Vec::new())
    }
}
