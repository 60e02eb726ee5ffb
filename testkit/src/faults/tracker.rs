use std::time::Duration;

use async_trait::async_trait;
use tracker_api::{
    Change, CorruptRow, DynTracker, Entry, Error, ErrorKind, FailureTracker, Group, Page, Progress,
    Purgeable, Query, RecordId, Result, Risk, Timestamp,
};

use super::{Switch, Tracker};

/// A tracker with faults.
#[derive(Debug)]
pub struct FaultyTracker {
    inner: DynTracker,
    switch: Switch,
}

impl FaultyTracker {
    /// Wraps `inner`.
    pub fn new(inner: DynTracker, switch: Switch) -> Self {
        Self { inner, switch }
    }

    async fn call<T: Send>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let faults = self.switch.now();
        let away = || {
            Error::new(
                ErrorKind::Unavailable,
                "the store is away: a fault of the test kit",
            )
        };
        match faults.tracker {
            Tracker::Fine => work.await,
            Tracker::Fails => Err(away()),
            Tracker::Slow => {
                tokio::time::sleep(Duration::from_millis(faults.tracker_ms)).await;
                work.await
            }
            Tracker::Hangs => std::future::pending().await,
            Tracker::Forgets => {
                work.await?;
                Err(away())
            }
        }
    }
}

#[async_trait]
impl FailureTracker for FaultyTracker {
    async fn record(&self, entries: &[Entry], progress: &[Progress]) -> Result<Vec<bool>> {
        self.call(self.inner.record(entries, progress)).await
    }

    async fn import(&self, entries: &[Entry], progress: &[Progress]) -> Result<()> {
        self.call(self.inner.import(entries, progress)).await
    }

    async fn resolve(&self, changes: &[Change]) -> Result<Vec<bool>> {
        self.call(self.inner.resolve(changes)).await
    }

    async fn progress(&self) -> Result<Vec<Progress>> {
        self.call(self.inner.progress()).await
    }

    async fn get(&self, ids: &[RecordId]) -> Result<Vec<Option<Entry>>> {
        self.call(self.inner.get(ids)).await
    }

    async fn list(&self, query: &Query) -> Result<Page> {
        self.call(self.inner.list(query)).await
    }

    async fn groups(&self, query: &Query) -> Result<Vec<Group>> {
        self.call(self.inner.groups(query)).await
    }

    async fn purge(&self, what: Purgeable, before: Timestamp, limit: usize) -> Result<u64> {
        self.call(self.inner.purge(what, before, limit)).await
    }

    async fn ping(&self) -> Result<()> {
        self.call(self.inner.ping()).await
    }

    fn corrupt_rows(&self) -> Vec<CorruptRow> {
        self.inner.corrupt_rows()
    }

    async fn risks(&self) -> Result<Vec<Risk>> {
        self.inner.risks().await
    }
}
