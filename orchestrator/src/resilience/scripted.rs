use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::time;
use tracker_api::{
    Change, CorruptRow, Entry, Error, ErrorKind, FailureTracker, Group, Page, Progress, Purgeable, Query,
    RecordId, Result, Risk, Timestamp,
};

/// What a call to the scripted store does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Answer,
    Fail(ErrorKind),
    Hang,
    /// Answers after a while.
    Slow(Duration),
    FailAfter(Duration, ErrorKind),
    /// A write takes so long for each of its entries.
    PerEntry(Duration),
}

/// A store that does as it is told: the script's acts in turn, then the last one for ever.
#[derive(Debug)]
pub(crate) struct Scripted {
    script: Mutex<VecDeque<Act>>,
    then: Mutex<Act>,
    /// What bulk writes do, when it is not what all calls do.
    writes: Mutex<Option<Act>>,
    calls: AtomicUsize,
    pub(crate) now: AtomicUsize,
    pub(crate) most: AtomicUsize,
    set_up: Mutex<(Vec<Risk>, Vec<CorruptRow>)>,
}

impl Scripted {
    pub(crate) fn new(then: Act) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::default(),
            then: Mutex::new(then),
            writes: Mutex::default(),
            calls: AtomicUsize::new(0),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            set_up: Mutex::default(),
        })
    }

    /// What it cannot promise, and which of its rows cannot be read.
    pub(crate) fn set_up(&self, risks: Vec<Risk>, corrupt: Vec<CorruptRow>) {
        *self.set_up.lock().unwrap() = (risks, corrupt);
    }

    pub(crate) fn then(&self, act: Act) {
        *self.then.lock().unwrap() = act;
    }

    pub(crate) fn writes(&self, act: Act) {
        *self.writes.lock().unwrap() = Some(act);
    }

    pub(crate) fn first(&self, acts: impl IntoIterator<Item = Act>) {
        self.script.lock().unwrap().extend(acts);
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    async fn act<T>(&self, value: T) -> Result<T> {
        self.do_as(None, 0, value).await
    }

    async fn write<T>(&self, entries: &[Entry], value: T) -> Result<T> {
        let act = *self.writes.lock().unwrap();
        self.do_as(act, entries.len(), value).await
    }

    async fn do_as<T>(&self, told: Option<Act>, entries: usize, value: T) -> Result<T> {
        struct Leaves<'a>(&'a AtomicUsize);
        impl Drop for Leaves<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, SeqCst);
            }
        }
        self.calls.fetch_add(1, SeqCst);
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
        let _leaves = Leaves(&self.now);
        let act = told.or_else(|| self.script.lock().unwrap().pop_front());
        let act = act.unwrap_or(*self.then.lock().unwrap());
        match act {
            Act::Answer => Ok(value),
            Act::Fail(kind) => Err(Error::new(kind, "as told")),
            Act::Hang => std::future::pending().await,
            Act::Slow(time) => {
                time::sleep(time).await;
                Ok(value)
            }
            Act::PerEntry(time) => {
                time::sleep(time * u32::try_from(entries).unwrap()).await;
                Ok(value)
            }
            Act::FailAfter(time, kind) => {
                time::sleep(time).await;
                Err(Error::new(kind, "as told"))
            }
        }
    }
}

#[async_trait]
impl FailureTracker for Scripted {
    async fn record(&self, entries: &[Entry], _: &[Progress]) -> Result<Vec<bool>> {
        self.write(entries, vec![true; entries.len()]).await
    }
    async fn import(&self, entries: &[Entry], _: &[Progress]) -> Result<()> {
        self.write(entries, ()).await
    }
    async fn resolve(&self, changes: &[Change]) -> Result<Vec<bool>> {
        self.act(vec![true; changes.len()]).await
    }
    async fn progress(&self) -> Result<Vec<Progress>> {
        self.act(vec![]).await
    }
    async fn get(&self, ids: &[RecordId]) -> Result<Vec<Option<Entry>>> {
        self.act(vec![None; ids.len()]).await
    }
    async fn list(&self, _: &Query) -> Result<Page> {
        self.act(Page::default()).await
    }
    async fn groups(&self, _: &Query) -> Result<Vec<Group>> {
        self.act(vec![]).await
    }
    async fn purge(&self, _: Purgeable, _: Timestamp, _: usize) -> Result<u64> {
        self.act(0).await
    }
    async fn ping(&self) -> Result<()> {
        self.act(()).await
    }
    fn corrupt_rows(&self) -> Vec<CorruptRow> {
        self.set_up.lock().unwrap().1.clone()
    }
    async fn risks(&self) -> Result<Vec<Risk>> {
        let risks = self.set_up.lock().unwrap().0.clone();
        self.act(risks).await
    }
}
