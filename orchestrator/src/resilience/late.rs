use std::{
    future::Future,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tracker_api::{
    Change, CorruptRow, DynTracker, Entry, Error, ErrorKind, FailureTracker, Group, Page, Progress,
    Purgeable, Query, RecordId, Result, Risk, Timestamp,
};

/// A store that was away when the service started and is to hold up nothing (`on-store-failure: degrade`): `Unavailable`
/// until [`run`](Self::run) has opened it, so that what holds for an outage holds from the first record on.
#[derive(Debug)]
pub(crate) struct Late {
    opened: OnceLock<DynTracker>,
    why: Mutex<String>,
}

impl Late {
    /// A store that cannot be used, and why.
    pub(crate) fn new(why: String) -> Self {
        Self {
            opened: OnceLock::new(),
            why: Mutex::new(why),
        }
    }

    /// Tries to open it, every so often until it is open. What no waiting mends, such as a wrong schema, is tried again too:
    /// the pipeline runs, and whoever mends the store need not restart it.
    pub(crate) async fn run<F>(&self, every: Duration, mut open: impl FnMut() -> F)
    where
        F: Future<Output = Result<DynTracker, String>> + Send,
    {
        loop {
            tokio::time::sleep(every).await;
            match open().await {
                Ok(store) => {
                    // The first is the only one.
                    let _ = self.opened.set(store);
                    tracing::info!("the store is there; it is told what it has missed");
                    return;
                }
                Err(why) => {
                    let mut held = self.why.lock().unwrap_or_else(PoisonError::into_inner);
                    if *held != why {
                        tracing::warn!("{why}; the service goes on without it");
                        *held = why;
                    }
                }
            }
        }
    }

    fn store(&self) -> Result<&DynTracker> {
        self.opened.get().ok_or_else(|| {
            let why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
            Error::new(ErrorKind::Unavailable, why.clone())
        })
    }
}

#[async_trait]
impl FailureTracker for Late {
    async fn record(&self, entries: &[Entry], progress: &[Progress]) -> Result<Vec<bool>> {
        self.store()?.record(entries, progress).await
    }

    async fn import(&self, entries: &[Entry], progress: &[Progress]) -> Result<()> {
        self.store()?.import(entries, progress).await
    }

    async fn resolve(&self, changes: &[Change]) -> Result<Vec<bool>> {
        self.store()?.resolve(changes).await
    }

    async fn progress(&self) -> Result<Vec<Progress>> {
        self.store()?.progress().await
    }

    async fn get(&self, ids: &[RecordId]) -> Result<Vec<Option<Entry>>> {
        self.store()?.get(ids).await
    }

    async fn list(&self, query: &Query) -> Result<Page> {
        self.store()?.list(query).await
    }

    async fn groups(&self, query: &Query) -> Result<Vec<Group>> {
        self.store()?.groups(query).await
    }

    async fn purge(&self, what: Purgeable, before: Timestamp, limit: usize) -> Result<u64> {
        self.store()?.purge(what, before, limit).await
    }

    async fn ping(&self) -> Result<()> {
        self.store()?.ping().await
    }

    fn corrupt_rows(&self) -> Vec<CorruptRow> {
        self.opened
            .get()
            .map_or_else(Vec::new, |store| store.corrupt_rows())
    }

    async fn risks(&self) -> Result<Vec<Risk>> {
        self.store()?.risks().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use tracker_api::MemoryTracker;

    use super::*;

    const EVERY: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn it_is_unavailable_until_it_is_open_and_then_as_any_other() {
        let late = Late::new("nobody listens".into());
        let error = late.ping().await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert!(error.to_string().contains("nobody listens"), "{error}");
        assert!(late.risks().await.is_err());

        let tries = AtomicUsize::new(0);
        let open = || async {
            match tries.fetch_add(1, SeqCst) {
                0 => Err("nobody listens".to_owned()),
                1 => Err("the schema is missing".to_owned()),
                _ => Ok(Arc::new(MemoryTracker::default()) as DynTracker),
            }
        };
        let begun = tokio::time::Instant::now();
        let asked = async {
            tokio::time::sleep(EVERY * 5 / 2).await;
            late.list(&Query::default()).await.unwrap_err()
        };
        let ((), error) = tokio::join!(late.run(EVERY, open), asked);
        assert!(error.to_string().contains("the schema is missing"), "{error}");
        assert_eq!((tries.load(SeqCst), begun.elapsed()), (3, EVERY * 3));
        late.ping().await.unwrap();
        assert!(late.list(&Query::default()).await.unwrap().entries.is_empty());
    }
}
