use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::{
    corrupt::CorruptRow,
    entry::{Entry, Outcome, Partition, RecordId, Timestamp, coalesce, coalesce_whole},
    error::{Error, ErrorKind, Result},
    progress::Progress,
    resolution::Change,
    tracker::{Cursor, FailureTracker, Group, Order, Page, Purgeable, Query, Risk},
};

/// The contract as a plain map: what every backend is compared with, so it is written to be obviously right, not fast.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub(crate) entries: BTreeMap<RecordId, Entry>,
    pub(crate) progress: BTreeMap<Partition, Progress>,
}

impl Model {
    /// See [`FailureTracker::record`].
    pub fn record(&mut self, entries: &[Entry], progress: &[Progress]) -> Vec<bool> {
        self.write(coalesce(entries), progress);
        let stands = |entry: &Entry| {
            self.entries
                .get(&entry.id)
                .is_some_and(|held| held.version == entry.version)
        };
        entries.iter().map(stands).collect()
    }

    /// See [`FailureTracker::import`].
    pub fn import(&mut self, entries: &[Entry], progress: &[Progress]) {
        self.write(coalesce_whole(entries), progress);
    }

    fn write(&mut self, entries: Vec<Entry>, progress: &[Progress]) {
        for new in entries {
            match self.entries.get_mut(&new.id) {
                Some(held) => held.merge(&new),
                None => {
                    self.entries.insert(new.id.clone(), new);
                }
            }
        }
        for new in progress {
            self.progress
                .entry(new.partition.clone())
                .and_modify(|held| held.join(new))
                .or_insert_with(|| new.clone());
        }
    }

    /// See [`FailureTracker::resolve`].
    pub fn resolve(&mut self, changes: &[Change]) -> Vec<bool> {
        changes.iter().map(|change| self.resolve_one(change)).collect()
    }

    fn resolve_one(&mut self, change: &Change) -> bool {
        let Some(held) = self.entries.get_mut(&change.id) else {
            return false;
        };
        if !change.takes(held.revision, &held.version, held.is_blocking()) {
            return false;
        }
        held.resolution = change.to.clone();
        held.revision += 1;
        true
    }

    /// See [`FailureTracker::progress`].
    pub fn progress(&self) -> Vec<Progress> {
        self.progress.values().cloned().collect()
    }

    /// See [`FailureTracker::get`].
    pub fn get(&self, ids: &[RecordId]) -> Vec<Option<Entry>> {
        ids.iter().map(|id| self.entries.get(id).cloned()).collect()
    }

    /// See [`FailureTracker::list`].
    ///
    /// # Errors
    ///
    /// `Refused` for a newest-first query whose cursor is of a listing by id.
    pub fn list(&self, query: &Query) -> Result<Page> {
        let newest_first = query.order == Order::NewestFirst;
        if newest_first
            && query
                .after
                .as_ref()
                .is_some_and(|after| after.first_failed_at.is_none())
        {
            return Err(Error::new(
                ErrorKind::Refused,
                "the cursor is of a listing by id, the query is newest first: start without a cursor",
            ));
        }
        let mut found: Vec<&Entry> = self
            .entries
            .values()
            .filter(|entry| query.matches(entry))
            .collect();
        if newest_first {
            found.sort_by(|a, b| (b.first_failed_at, &b.id).cmp(&(a.first_failed_at, &a.id)));
        }
        if let Some(after) = &query.after {
            found.retain(|entry| match query.order {
                Order::Id => entry.id > after.id,
                Order::NewestFirst => (entry.first_failed_at, &entry.id) < (after.first_failed_at, &after.id),
            });
        }
        let more = found.len() > query.page_size();
        found.truncate(query.page_size());
        let last = found.last().filter(|_| more);
        Ok(Page {
            next: last.map(|entry| Cursor {
                id: entry.id.clone(),
                first_failed_at: entry.first_failed_at.filter(|_| newest_first),
            }),
            entries: found.into_iter().cloned().collect(),
        })
    }

    /// See [`FailureTracker::groups`].
    pub fn groups(&self, query: &Query) -> Vec<Group> {
        let query = query.unordered();
        let mut groups: BTreeMap<u64, Group> = BTreeMap::new();
        for entry in self.entries.values().filter(|entry| query.matches(entry)) {
            let failed = matches!(entry.version.outcome, Outcome::Failing | Outcome::Failed);
            let (true, Some(failure), Some(at)) = (failed, &entry.failure, entry.first_failed_at) else {
                continue;
            };
            groups
                .entry(failure.fingerprint)
                .and_modify(|group| {
                    group.count += 1;
                    group.first = group.first.min(at);
                    group.last = group.last.max(at);
                })
                .or_insert_with(|| Group {
                    fingerprint: failure.fingerprint,
                    class: failure.class.clone(),
                    count: 1,
                    first: at,
                    last: at,
                    sample: entry.id.clone(),
                    message: failure.message.clone(),
                });
        }
        let mut groups: Vec<Group> = groups.into_values().collect();
        groups.sort_by_key(|group| (std::cmp::Reverse(group.count), group.fingerprint));
        groups
    }

    /// See [`FailureTracker::purge`].
    pub fn purge(&mut self, what: Purgeable, before: Timestamp, limit: usize) -> u64 {
        let mut old: Vec<&Entry> = self
            .entries
            .values()
            .filter(|entry| entry.at < before)
            .filter(|entry| entry.purgeable(self.progress.get(&entry.id.partition)) == Some(what))
            .collect();
        old.sort_by_key(|entry| (entry.at, &entry.id));
        let gone: Vec<RecordId> = old
            .into_iter()
            .take(limit)
            .map(|entry| entry.id.clone())
            .collect();
        gone.iter().filter(|id| self.entries.remove(id).is_some()).count() as u64
    }
}

/// A tracker that forgets when its process ends. Clones share what they hold, so dropping one and going on with another
/// stands for a reopen in a test.
///
/// ```
/// # use tracker_api::{AttemptId, Entry, FailureTracker, MemoryTracker, Outcome, Partition, Timestamp, Version};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> tracker_api::Result<()> {
/// let tracker = MemoryTracker::default();
/// let version = Version { era: 1, term: 1, attempt: AttemptId::default(), outcome: Outcome::Succeeded };
/// let entry = Entry::new(Partition::new("orders", 3).at(42), version, Timestamp(0));
/// assert_eq!(tracker.record(&[entry.clone()], &[]).await?, [true]);
/// assert_eq!(tracker.get(&[entry.id.clone()]).await?, [Some(entry)]);
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct MemoryTracker {
    model: Arc<Mutex<Model>>,
}

impl fmt::Debug for MemoryTracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = self.model();
        f.debug_struct("MemoryTracker")
            .field("entries", &model.entries.len())
            .field("partitions", &model.progress.len())
            .finish()
    }
}

impl MemoryTracker {
    // Each method of the model leaves it whole before it could panic, so a poisoned lock is only a lock.
    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it holds now, for tests of a store that comes back older than it was.
    #[doc(hidden)]
    pub fn backup(&self) -> Model {
        self.model().clone()
    }

    /// Holds what a backup holds, and nothing else.
    #[doc(hidden)]
    pub fn restore(&self, backup: Model) {
        *self.model() = backup;
    }
}

#[async_trait]
impl FailureTracker for MemoryTracker {
    async fn record(&self, entries: &[Entry], progress: &[Progress]) -> Result<Vec<bool>> {
        Ok(self.model().record(entries, progress))
    }

    async fn import(&self, entries: &[Entry], progress: &[Progress]) -> Result<()> {
        self.model().import(entries, progress);
        Ok(())
    }

    async fn resolve(&self, changes: &[Change]) -> Result<Vec<bool>> {
        Ok(self.model().resolve(changes))
    }

    async fn progress(&self) -> Result<Vec<Progress>> {
        Ok(self.model().progress())
    }

    async fn get(&self, ids: &[RecordId]) -> Result<Vec<Option<Entry>>> {
        Ok(self.model().get(ids))
    }

    async fn list(&self, query: &Query) -> Result<Page> {
        self.model().list(query)
    }

    async fn groups(&self, query: &Query) -> Result<Vec<Group>> {
        Ok(self.model().groups(query))
    }

    async fn purge(&self, what: Purgeable, before: Timestamp, limit: usize) -> Result<u64> {
        Ok(self.model().purge(what, before, limit))
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    fn corrupt_rows(&self) -> Vec<CorruptRow> {
        Vec::new()
    }

    // It forgets by its name: whoever configures `memory` has accepted it.
    async fn risks(&self) -> Result<Vec<Risk>> {
        Ok(Vec::new())
    }
}
