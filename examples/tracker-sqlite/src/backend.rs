use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use rusqlite::{Connection, ToSql, Transaction, TransactionBehavior, params};
use tracker_api::{
    Change, CorruptRow, CorruptRows, Cursor, Entry, Error, ErrorKind, FailureTracker, Group, Model,
    Namespace, Order, Page, Partition, Progress, Purgeable, Query, RecordId, Result, Risk, Status, Timestamp,
    Version, coalesce, coalesce_whole,
};

use crate::{
    Config,
    claim::claim,
    error::{cut_off, of},
    rows,
};

/// One namespace in a database. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Tracker {
    db: Arc<Mutex<Connection>>,
    namespace: i64,
    corrupt: Arc<CorruptRows>,
}

impl fmt::Debug for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracker")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Tracker {
    pub(crate) fn open(config: &Config, namespace: &Namespace) -> Result<Self> {
        let (path, patience) = config.checked()?;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| {
                let message = format!("cannot make the directory {}: {error}", parent.display());
                Error::new(ErrorKind::Unavailable, message).with_source(error)
            })?;
        }
        let mut db = Connection::open(&path).map_err(of)?;
        db.busy_timeout(patience).map_err(of)?;
        // Durable when a call answers: the log is synced at each commit.
        db.pragma_update(None, "journal_mode", "WAL").map_err(of)?;
        db.pragma_update(None, "synchronous", "FULL").map_err(of)?;
        let change = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(of)?;
        let number = claim(&change, namespace)?;
        change.commit().map_err(of)?;
        Ok(Self {
            db: Arc::new(Mutex::new(db)),
            namespace: number,
            corrupt: Arc::default(),
        })
    }

    // A transaction that a panic cut off was rolled back when it was dropped, so a poisoned lock is only a lock.
    fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a call off the async threads. Once begun it runs to its end, also when nobody waits for it any more: so a dropped
    /// call leaves no transaction open.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let tracker = self.clone();
        tokio::task::spawn_blocking(move || work(&tracker))
            .await
            .map_err(cut_off)?
    }

    /// Runs `work` as the only writer, of all processes.
    fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut db = self.db();
        let change = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(of)?;
        let answer = work(&change)?;
        change.commit().map_err(of)?;
        Ok(answer)
    }

    /// Writes entries of which each id occurs once, and answers the versions held afterwards.
    fn merge(&self, fresh: &[Entry], progress: &[Progress]) -> Result<BTreeMap<RecordId, Version>> {
        self.write(|db| {
            let mut versions = BTreeMap::new();
            for new in fresh {
                let mut kept = self.entry(db, &new.id)?.unwrap_or_else(|| new.clone());
                kept.merge(new);
                rows::put(db, self.namespace, &kept)?;
                versions.insert(kept.id, kept.version);
            }
            for new in progress {
                let mut row = self
                    .progress_of(db, &new.partition)?
                    .unwrap_or_else(|| new.clone());
                row.join(new);
                rows::put_progress(db, self.namespace, &row)?;
            }
            Ok(versions)
        })
    }

    /// One that cannot be read counts as absent: the next write replaces it.
    fn entry(&self, db: &Connection, id: &RecordId) -> Result<Option<Entry>> {
        let read = rows::entry(db, self.namespace, id);
        Ok(self.corrupt.aside(|| id.to_string(), read)?.flatten())
    }

    fn progress_of(&self, db: &Connection, partition: &Partition) -> Result<Option<Progress>> {
        let read = rows::progress_of(db, self.namespace, partition);
        let name = || format!("progress of {partition}");
        Ok(self.corrupt.aside(name, read)?.flatten())
    }

    /// An entry that a listing or a purge has found; none where it cannot be read.
    fn found<T: serde::de::DeserializeOwned>(&self, row: &rows::Found) -> Result<Option<T>> {
        self.corrupt
            .aside(|| row.name.clone(), rows::read(&row.value, &row.name))
    }

    fn resolve_now(&self, changes: &[Change]) -> Result<Vec<bool>> {
        self.write(|db| {
            let mut took = Vec::with_capacity(changes.len());
            for change in changes {
                let held = self.entry(db, &change.id)?;
                let takes = |held: &Entry| change.takes(held.revision, &held.version, held.is_blocking());
                let Some(mut held) = held.filter(takes) else {
                    took.push(false);
                    continue;
                };
                held.resolution.clone_from(&change.to);
                held.revision += 1;
                rows::put(db, self.namespace, &held)?;
                took.push(true);
            }
            Ok(took)
        })
    }

    /// Rows that the columns find, in the query's order, until `take` has enough. What a column does not know the contract
    /// decides, entry by entry.
    fn scan(&self, query: &Query, mut take: impl FnMut(Entry) -> bool) -> Result<()> {
        let mut sql = format!("SELECT {} FROM entry WHERE namespace = ?", rows::FOUND);
        let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(self.namespace)];
        let mut and = |text: &str, more: Vec<Box<dyn ToSql>>| {
            sql.push_str(" AND ");
            sql.push_str(text);
            values.extend(more);
        };
        let topic = query
            .topic
            .as_ref()
            .or(query.partition.as_ref().map(|partition| &partition.topic));
        if let Some(topic) = topic {
            and("topic = ?", vec![Box::new(topic.as_bytes().to_vec())]);
        }
        if let Some(partition) = &query.partition {
            and("part = ?", vec![Box::new(partition.number)]);
        }
        if let Some(offsets) = &query.offsets {
            and(
                "off >= ? AND off < ?",
                vec![Box::new(offsets.start), Box::new(offsets.end)],
            );
        }
        if !query.statuses.is_empty() {
            let numbers: Vec<String> = query
                .statuses
                .iter()
                .map(|of| rows::status(*of).to_string())
                .collect();
            and(&format!("status IN ({})", numbers.join(",")), Vec::new());
        }
        if let Some(within) = &query.first_failed {
            and(
                "first_failed >= ? AND first_failed < ?",
                vec![Box::new(within.start.0), Box::new(within.end.0)],
            );
        }
        let place = |id: &RecordId| -> Vec<Box<dyn ToSql>> {
            vec![
                Box::new(id.partition.topic.as_bytes().to_vec()),
                Box::new(id.partition.number),
                Box::new(id.offset),
            ]
        };
        let order = match query.order {
            Order::Id => {
                if let Some(after) = &query.after {
                    and("(topic, part, off) > (?, ?, ?)", place(&after.id));
                }
                "topic, part, off"
            }
            Order::NewestFirst => {
                and("first_failed IS NOT NULL", Vec::new());
                if let Some(after) = &query.after {
                    let at = after.first_failed_at.ok_or_else(|| {
                        let message = "the cursor is of a listing by id, the query is newest first: start without a cursor";
                        Error::new(ErrorKind::Refused, message)
                    })?;
                    let mut bound: Vec<Box<dyn ToSql>> = vec![Box::new(at.0)];
                    bound.extend(place(&after.id));
                    and("(first_failed, topic, part, off) < (?, ?, ?, ?)", bound);
                }
                "first_failed DESC, topic DESC, part DESC, off DESC"
            }
        };
        sql.push_str(" ORDER BY ");
        sql.push_str(order);
        let db = self.db();
        let mut find = db.prepare_cached(&sql).map_err(of)?;
        let values: Vec<&dyn ToSql> = values.iter().map(|value| &**value).collect();
        let found = find.query_map(&values[..], rows::found).map_err(of)?;
        for row in found {
            let Some(entry) = self.found::<Entry>(&row.map_err(of)?)? else {
                continue;
            };
            if query.matches(&entry) && !take(entry) {
                break;
            }
        }
        Ok(())
    }

    fn list_now(&self, query: &Query) -> Result<Page> {
        let mut page = Page::default();
        self.scan(query, |entry| {
            let full = page.entries.len() == query.page_size();
            if full {
                // One more matches: the page has a next.
                page.next = page.entries.last().map(|last: &Entry| Cursor {
                    id: last.id.clone(),
                    first_failed_at: last.first_failed_at.filter(|_| query.order == Order::NewestFirst),
                });
            } else {
                page.entries.push(entry);
            }
            !full
        })?;
        Ok(page)
    }

    fn purge_now(&self, what: Purgeable, before: Timestamp, limit: usize) -> Result<u64> {
        let statuses = match what {
            Purgeable::Succeeded => vec![Status::Succeeded],
            Purgeable::Resolved => vec![Status::Skipped, Status::Replayed, Status::Discarded],
            Purgeable::Superseded => vec![Status::Received, Status::Failing, Status::Blocking, Status::Open],
        };
        let numbers: Vec<String> = statuses
            .into_iter()
            .map(|of| rows::status(of).to_string())
            .collect();
        self.write(|db| {
            let sql = format!(
                "SELECT {} FROM entry WHERE namespace = ? AND status IN ({}) AND at < ? ORDER BY at, topic, part, off",
                rows::FOUND,
                numbers.join(",")
            );
            let mut gone = Vec::new();
            let mut progress: BTreeMap<Partition, Option<Progress>> = BTreeMap::new();
            let mut find = db.prepare_cached(&sql).map_err(of)?;
            let mut found = find.query(params![self.namespace, before.0]).map_err(of)?;
            while gone.len() < limit
                && let Some(row) = found.next().map_err(of)?
            {
                let Some(entry) = self.found::<Entry>(&rows::found(row).map_err(of)?)? else {
                    continue;
                };
                let partition = &entry.id.partition;
                if !progress.contains_key(partition) {
                    progress.insert(partition.clone(), self.progress_of(db, partition)?);
                }
                if entry.purgeable(progress.get(partition).and_then(Option::as_ref)) == Some(what) {
                    gone.push(entry.id);
                }
            }
            gone.iter().try_for_each(|id| rows::delete(db, self.namespace, id))?;
            Ok(gone.len() as u64)
        })
    }

    fn progress_now(&self) -> Result<Vec<Progress>> {
        let db = self.db();
        let mut find = db
            .prepare_cached("SELECT topic, part, NULL AS off, value FROM progress WHERE namespace = ? ORDER BY topic, part")
            .map_err(of)?;
        let found = find.query_map([self.namespace], rows::found).map_err(of)?;
        let rows = found.map(|row| self.found(&row.map_err(of)?));
        rows.filter_map(Result::transpose).collect()
    }
}

#[async_trait]
impl FailureTracker for Tracker {
    async fn record(&self, entries: &[Entry], progress: &[Progress]) -> Result<Vec<bool>> {
        let (fresh, progress) = (coalesce(entries), progress.to_vec());
        let versions = self.call(move |tracker| tracker.merge(&fresh, &progress)).await?;
        Ok(entries
            .iter()
            .map(|entry| versions.get(&entry.id) == Some(&entry.version))
            .collect())
    }

    async fn import(&self, entries: &[Entry], progress: &[Progress]) -> Result<()> {
        let (fresh, progress) = (coalesce_whole(entries), progress.to_vec());
        self.call(move |tracker| tracker.merge(&fresh, &progress).map(drop))
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
        self.call(move |tracker| {
            let db = tracker.db();
            ids.iter().map(|id| tracker.entry(&db, id)).collect()
        })
        .await
    }

    async fn list(&self, query: &Query) -> Result<Page> {
        let query = query.clone();
        self.call(move |tracker| tracker.list_now(&query)).await
    }

    async fn groups(&self, query: &Query) -> Result<Vec<Group>> {
        let query = query.unordered();
        self.call(move |tracker| {
            // The contract's own model counts: what it is given is what matches.
            let mut matching = Vec::new();
            tracker.scan(&query, |entry| {
                matching.push(entry);
                true
            })?;
            let mut model = Model::default();
            model.import(&matching, &[]);
            Ok(model.groups(&query))
        })
        .await
    }

    async fn purge(&self, what: Purgeable, before: Timestamp, limit: usize) -> Result<u64> {
        self.call(move |tracker| tracker.purge_now(what, before, limit))
            .await
    }

    async fn ping(&self) -> Result<()> {
        self.call(|tracker| {
            tracker.write(|db| {
                db.execute("INSERT OR REPLACE INTO ping VALUES (1)", [])
                    .map_err(of)
                    .map(drop)
            })
        })
        .await
    }

    fn corrupt_rows(&self) -> Vec<CorruptRow> {
        self.corrupt.all()
    }

    // A local disk, and each commit is synced to it.
    async fn risks(&self) -> Result<Vec<Risk>> {
        Ok(Vec::new())
    }
}
