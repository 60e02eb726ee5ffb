use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use rocksdb::WriteBatch;
use tracker_api::{
    Change, CorruptRow, CorruptRows, Entry, Error, ErrorKind, FailureTracker, Group, Namespace, Page,
    Partition, Progress, Purgeable, Query, RecordId, Result, Risk, Timestamp, Version, coalesce,
    coalesce_whole,
};

use crate::{
    codec::{self, Number},
    held::{Held, key_name},
    listing,
    store::{Family, Reader, Store},
};

/// One namespace in a store.
#[derive(Clone, Debug)]
pub(crate) struct Tracker {
    pub(crate) store: Arc<Store>,
    pub(crate) number: Number,
    pub(crate) corrupt: Arc<CorruptRows>,
}

impl Tracker {
    pub(crate) fn new(store: Arc<Store>, namespace: &Namespace) -> Result<Self> {
        let number = store.namespace(namespace)?;
        Ok(Self {
            store,
            number,
            corrupt: Arc::default(),
        })
    }

    /// Runs a call off the async threads. Once begun it runs to its end, also when nobody waits for it any more.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let tracker = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&tracker)).await;
        done.map_err(|error| {
            Error::new(ErrorKind::Unavailable, "a call of the database was cut off").with_source(error)
        })?
    }

    fn get_now(&self, ids: &[RecordId]) -> Result<Vec<Option<Entry>>> {
        let held = self.store.read(|reader| self.held(reader, ids))?;
        Ok(held.into_iter().map(Held::whole).collect())
    }

    fn record_now(&self, entries: &[Entry], progress: &[Progress]) -> Result<Vec<bool>> {
        let versions = self.merge_now(coalesce(entries), progress)?;
        Ok(entries
            .iter()
            .map(|entry| versions.get(&entry.id) == Some(&entry.version))
            .collect())
    }

    /// Writes entries of which each id occurs once, and answers the versions held afterwards.
    fn merge_now(&self, fresh: Vec<Entry>, progress: &[Progress]) -> Result<BTreeMap<RecordId, Version>> {
        let ids: Vec<RecordId> = fresh.iter().map(|entry| entry.id.clone()).collect();
        let mut versions = BTreeMap::new();
        self.store.write(|reader, batch| {
            for (new, held) in fresh.into_iter().zip(self.held(reader, &ids)?) {
                if let Held::Corrupt(value) = &held {
                    self.set_aside(reader, batch, &new.id, value)?;
                }
                let held = held.whole();
                let kept = match &held {
                    Some(held) => {
                        let mut kept = held.clone();
                        kept.merge(&new);
                        kept
                    }
                    None => new,
                };
                if held.as_ref() != Some(&kept) {
                    put(reader, batch, self.number, held.as_ref(), &kept)?;
                }
                versions.insert(kept.id, kept.version);
            }
            let mut rows: BTreeMap<Partition, Progress> = BTreeMap::new();
            for new in progress {
                if let Some(row) = rows.get_mut(&new.partition) {
                    row.join(new);
                } else {
                    let held = self.progress_of(reader, &new.partition)?;
                    let mut row = held.unwrap_or_else(|| new.clone());
                    row.join(new);
                    rows.insert(new.partition.clone(), row);
                }
            }
            for row in rows.values() {
                let key = codec::partition_key(self.number, &row.partition);
                batch.put_cf(
                    reader.family(Family::Progress)?,
                    &key,
                    codec::encode_progress(&key, row)?,
                );
            }
            Ok(())
        })?;
        Ok(versions)
    }

    fn resolve_now(&self, changes: &[Change]) -> Result<Vec<bool>> {
        self.store.write(|reader, batch| {
            // What an earlier change of the call has left, the next one finds here.
            let mut changed: BTreeMap<&RecordId, Entry> = BTreeMap::new();
            let mut took = Vec::new();
            for change in changes {
                let held = match changed.get(&change.id) {
                    Some(entry) => Some(entry.clone()),
                    None => self.entry(reader, &change.id)?,
                };
                let takes = held
                    .as_ref()
                    .is_some_and(|held| change.takes(held.revision, &held.version, held.is_blocking()));
                if let Some(held) = held.filter(|_| takes) {
                    let mut kept = held.clone();
                    kept.resolution.clone_from(&change.to);
                    kept.revision += 1;
                    put(reader, batch, self.number, Some(&held), &kept)?;
                    changed.insert(&change.id, kept);
                }
                took.push(takes);
            }
            Ok(took)
        })
    }

    fn progress_now(&self) -> Result<Vec<Progress>> {
        self.store.read(|reader| {
            let prefix = codec::namespace_prefix(self.number);
            let mut rows = Vec::new();
            for item in listing::range(
                reader,
                Family::Progress,
                &prefix,
                codec::behind(&prefix).as_deref(),
                false,
            )? {
                let (key, value) = item?;
                let name = || format!("the progress at the key `{}`", key.escape_ascii());
                rows.extend(self.corrupt.aside(name, codec::decode_progress(&key, &value))?);
            }
            Ok(rows)
        })
    }

    /// Looks for what may go without holding up the writers, then takes it as a writer, after another look.
    fn purge_now(&self, what: Purgeable, before: Timestamp, limit: usize) -> Result<u64> {
        let mut gone = 0;
        while gone < limit {
            let found = self
                .store
                .read(|reader| self.purgeable(reader, what, before, limit - gone))?;
            if found.is_empty() {
                break;
            }
            gone += self.store.write(|reader, batch| {
                let mut taken = 0;
                for entry in self.held(reader, &found)?.into_iter().filter_map(Held::whole) {
                    let progress = self.progress_of(reader, &entry.id.partition)?;
                    if entry.at < before && entry.purgeable(progress.as_ref()) == Some(what) {
                        remove(reader, batch, self.number, &entry)?;
                        taken += 1;
                    }
                }
                Ok(taken)
            })?;
        }
        Ok(gone as u64)
    }

    fn purgeable(
        &self,
        reader: &Reader<'_>,
        what: Purgeable,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<RecordId>> {
        let mut progress: BTreeMap<Partition, Option<Progress>> = BTreeMap::new();
        let mut found = Vec::new();
        // A purge of some thousands is many calls: one takes a bounded part, so that its batch stays small.
        let limit = limit.min(1_000);
        let kind = kind_of(what);
        let (from, to) = (
            codec::age_prefix(self.number, kind),
            codec::age_bound(self.number, kind, before),
        );
        for item in listing::range(reader, Family::Age, &from, Some(&to), false)? {
            if found.len() == limit {
                break;
            }
            let (key, value) = item?;
            let Some((at, id)) = self
                .corrupt
                .aside(|| key_name(&key), codec::aged_record_of(&key))?
            else {
                continue;
            };
            if !progress.contains_key(&id.partition) {
                progress.insert(id.partition.clone(), self.progress_of(reader, &id.partition)?);
            }
            let progress = progress.get(&id.partition).and_then(Option::as_ref);
            // What is unfinished stays while its era does: known without reading the entry.
            let era = value.as_ref().try_into().ok().map(u64::from_be_bytes);
            if era.is_some_and(|era| progress.is_none_or(|row| era >= row.era)) {
                continue;
            }
            let entry = self.entry(reader, &id)?;
            if entry.is_some_and(|entry| entry.at == at && entry.purgeable(progress) == Some(what)) {
                found.push(id);
            }
        }
        Ok(found)
    }
}

fn put(
    reader: &Reader<'_>,
    batch: &mut WriteBatch,
    number: Number,
    held: Option<&Entry>,
    kept: &Entry,
) -> Result<()> {
    let age = |entry: &Entry| codec::age_key(number, kind_of(kept_as(entry)), entry.at, &entry.id);
    if let Some(held) =
        held.filter(|held| held.first_failed_at != kept.first_failed_at || age(held) != age(kept))
    {
        remove(reader, batch, number, held)?;
    }
    let key = codec::record_key(number, &kept.id);
    batch.put_cf(
        reader.family(Family::Entries)?,
        &key,
        codec::encode_entry(&key, kept)?,
    );
    if let Some(at) = kept.first_failed_at {
        let key = codec::time_key(number, at, &kept.id);
        let brief = codec::encode(&key, &codec::Brief::of(kept))?;
        batch.put_cf(reader.family(Family::Newest)?, &key, brief);
    }
    let family = reader.family(Family::Age)?;
    match kept_as(kept) {
        Purgeable::Superseded => batch.put_cf(family, age(kept), kept.version.era.to_be_bytes()),
        _ => batch.put_cf(family, age(kept), []),
    }
    Ok(())
}

/// Under which kind the index by age holds an entry: what is unfinished or open goes once it is superseded, if ever.
fn kept_as(entry: &Entry) -> Purgeable {
    entry.purgeable(None).unwrap_or(Purgeable::Superseded)
}

fn kind_of(what: Purgeable) -> u8 {
    match what {
        Purgeable::Succeeded => 0,
        Purgeable::Resolved => 1,
        Purgeable::Superseded => 2,
    }
}

fn remove(reader: &Reader<'_>, batch: &mut WriteBatch, number: Number, held: &Entry) -> Result<()> {
    batch.delete_cf(
        reader.family(Family::Entries)?,
        codec::record_key(number, &held.id),
    );
    if let Some(at) = held.first_failed_at {
        batch.delete_cf(
            reader.family(Family::Newest)?,
            codec::time_key(number, at, &held.id),
        );
    }
    batch.delete_cf(
        reader.family(Family::Age)?,
        codec::age_key(number, kind_of(kept_as(held)), held.at, &held.id),
    );
    Ok(())
}

#[async_trait]
impl FailureTracker for Tracker {
    async fn record(&self, entries: &[Entry], progress: &[Progress]) -> Result<Vec<bool>> {
        let (entries, progress) = (entries.to_vec(), progress.to_vec());
        self.call(move |tracker| tracker.record_now(&entries, &progress))
            .await
    }

    async fn import(&self, entries: &[Entry], progress: &[Progress]) -> Result<()> {
        let (fresh, progress) = (coalesce_whole(entries), progress.to_vec());
        self.call(move |tracker| tracker.merge_now(fresh, &progress).map(drop))
            .await
    }

    async fn resolve(&self, changes: &[Change]) -> Result<Vec<bool>> {
        let changes = changes.to_vec();
        self.call(move |tracker| tracker.resolve_now(&changes)).await
    }

    async fn progress(&self) -> Result<Vec<Progress>> {
        self.call(Self::progress_now).await
    }

    async fn get(&self, ids: &[RecordId]) -> Result<Vec<Option<Entry>>> {
        let ids = ids.to_vec();
        self.call(move |tracker| tracker.get_now(&ids)).await
    }

    async fn list(&self, query: &Query) -> Result<Page> {
        let query = query.clone();
        self.call(move |tracker| {
            tracker
                .store
                .read(|reader| listing::page(reader, &tracker.corrupt, tracker.number, &query))
        })
        .await
    }

    async fn groups(&self, query: &Query) -> Result<Vec<Group>> {
        let query = query.unordered();
        self.call(move |tracker| {
            tracker
                .store
                .read(|reader| listing::groups(reader, &tracker.corrupt, tracker.number, &query))
        })
        .await
    }

    async fn purge(&self, what: Purgeable, before: Timestamp, limit: usize) -> Result<u64> {
        self.call(move |tracker| tracker.purge_now(what, before, limit))
            .await
    }

    async fn ping(&self) -> Result<()> {
        self.call(|tracker| tracker.store.ping()).await
    }

    fn corrupt_rows(&self) -> Vec<CorruptRow> {
        self.corrupt.all()
    }

    // Its directory is on a disk of this machine, and each write is synced to it.
    async fn risks(&self) -> Result<Vec<Risk>> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests;
