use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    LogLevel, Options, WriteBatch, WriteOptions, statistics::StatsLevel,
};
use tracker_api::{Error, ErrorKind, Namespace, Result};

use crate::{
    codec::{self, NamespaceRow, Number},
    config::Config,
    error::of_database,
    place::Place,
};

/// The column families beside the default one, which holds the namespaces.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Family {
    /// Namespace and record → entry.
    Entries,
    /// Namespace, first failure and record → the entry in brief.
    Newest,
    /// Namespace, time written and record → nothing, or the era of what is unfinished.
    Age,
    /// Namespace and partition → progress.
    Progress,
}

impl Family {
    const ALL: [Self; 4] = [Self::Entries, Self::Newest, Self::Age, Self::Progress];

    fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::Newest => "newest",
            Self::Age => "age",
            Self::Progress => "progress",
        }
    }
}

/// One database, shared by every tracker of this process that stands on its path.
pub(crate) struct Store {
    place: Place,
    options: Options,
    config: Config,
    // None only while it is closed to be opened again, and when that has failed.
    db: RwLock<Option<DB>>,
    writer: Mutex<()>,
    // RocksDB refuses every write after one that failed (a full disk), until it is opened again.
    stuck: AtomicBool,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.place.path())
            .finish_non_exhaustive()
    }
}

/// The databases that this process has open, by canonical path.
static OPEN: Mutex<BTreeMap<PathBuf, Weak<Store>>> = Mutex::new(BTreeMap::new());
static CLOSED: Condvar = Condvar::new();

fn open_ones() -> MutexGuard<'static, BTreeMap<PathBuf, Weak<Store>>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// The database at the configured path: the one that this process has open already, or a newly opened one.
    pub(crate) fn at(config: &Config) -> Result<Arc<Self>> {
        let path = config.checked()?;
        let mut open = open_ones();
        // Between a store's last use and the end of its closing, the path is still locked by ourselves.
        while let Some(store) = path.canonicalize().ok().and_then(|path| open.get(&path)) {
            if let Some(store) = store.upgrade() {
                return Ok(store);
            }
            open = CLOSED.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
        let place = Place::take(&path)?;
        let options = database_options();
        let db = open_database(&options, config, place.path())?;
        let mut store = Self {
            place,
            options,
            config: config.clone(),
            db: RwLock::new(Some(db)),
            writer: Mutex::new(()),
            stuck: AtomicBool::new(false),
        };
        store.place.sign()?;
        let store = Arc::new(store);
        open.insert(store.place.path().to_owned(), Arc::downgrade(&store));
        Ok(store)
    }

    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }

    /// Runs `work` on the database, to read.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&Reader<'_>) -> Result<T>) -> Result<T> {
        let held = self.db.read().unwrap_or_else(PoisonError::into_inner);
        work(&self.reader(&held)?)
    }

    /// Runs `work` as the only writer, and makes durable what it puts into the batch.
    pub(crate) fn write<T>(&self, work: impl FnOnce(&Reader<'_>, &mut WriteBatch) -> Result<T>) -> Result<T> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stuck.load(Ordering::Acquire) {
            self.open_again()?;
        }
        let held = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let reader = self.reader(&held)?;
        let mut batch = WriteBatch::default();
        let answer = work(&reader, &mut batch)?;
        if !batch.is_empty() {
            let mut durable = WriteOptions::default();
            durable.set_sync(true);
            reader.db.write_opt(batch, &durable).map_err(|error| {
                self.stuck.store(true, Ordering::Release);
                of_database(error, "writing", self.path())
            })?;
        }
        Ok(answer)
    }

    fn reader<'a>(&'a self, held: &'a RwLockReadGuard<'_, Option<DB>>) -> Result<Reader<'a>> {
        let db = held.as_ref().ok_or_else(|| {
            // Whoever writes next opens it again.
            self.stuck.store(true, Ordering::Release);
            let message = format!("the database {} is closed after an error", self.path().display());
            Error::new(ErrorKind::Unavailable, message)
        })?;
        Ok(Reader {
            db,
            path: self.path(),
        })
    }

    /// Closes the database and opens it again, which is how it comes back after a failed write.
    fn open_again(&self) -> Result<()> {
        let mut held = self.db.write().unwrap_or_else(PoisonError::into_inner);
        drop(held.take());
        *held = Some(open_database(&self.options, &self.config, self.path())?);
        self.stuck.store(false, Ordering::Release);
        tracing::info!(path = %self.path().display(), "the database was opened again after a failed write");
        Ok(())
    }

    /// The namespace's number; a new name gets the next one, and the cluster's id is written when it is first known.
    pub(crate) fn namespace(&self, namespace: &Namespace) -> Result<Number> {
        let key = [b"namespace/", namespace.name.as_bytes()].concat();
        self.write(|reader, batch| {
            let mut rows = 0;
            for item in reader.db.prefix_iterator(b"namespace/") {
                rows += u32::from(reader.ok(item)?.0.starts_with(b"namespace/"));
            }
            let held = reader.ok(reader.db.get(&key))?;
            let mut row = match &held {
                Some(value) => codec::decode::<NamespaceRow>(&key, value)?,
                None => NamespaceRow {
                    number: rows,
                    cluster: None,
                },
            };
            namespace.admit(row.cluster.as_deref())?;
            if held.is_none() || row.cluster.is_none() && namespace.cluster.is_some() {
                row.cluster.clone_from(&namespace.cluster);
                batch.put(&key, codec::encode(&key, &row)?);
            }
            Ok(row.number)
        })
    }

    /// Writes one row, so that a ping finds a full disk.
    pub(crate) fn ping(&self) -> Result<()> {
        self.write(|_, batch| {
            batch.put(b"ping", b"");
            Ok(())
        })
    }

    #[cfg(test)]
    pub(crate) fn syncs(&self) -> u64 {
        self.options
            .get_ticker_count(rocksdb::statistics::Ticker::WalFileSynced)
    }

    #[cfg(test)]
    pub(crate) fn reads(&self) -> u64 {
        self.options
            .get_ticker_count(rocksdb::statistics::Ticker::NumberKeysRead)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.db.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        self.place.leave();
        open_ones().remove(self.place.path());
        CLOSED.notify_all();
    }
}

/// An open database.
pub(crate) struct Reader<'a> {
    pub(crate) db: &'a DB,
    path: &'a Path,
}

impl Reader<'_> {
    pub(crate) fn family(&self, family: Family) -> Result<&ColumnFamily> {
        self.db.cf_handle(family.name()).ok_or_else(|| {
            let message = format!(
                "the database {} has no family `{}`",
                self.path.display(),
                family.name()
            );
            Error::new(ErrorKind::Corrupt, message)
        })
    }

    pub(crate) fn ok<T>(&self, answer: Result<T, rocksdb::Error>) -> Result<T> {
        answer.map_err(|error| of_database(error, "reading", self.path))
    }
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    // A torn tail is an unanswered write; a lost log file is damage.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_total_wal_size(64 << 20);
    options.set_max_background_jobs(2);
    options.set_max_open_files(256);
    options.set_keep_log_file_num(3);
    options.set_log_level(LogLevel::Warn);
    options.enable_statistics();
    options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
    options
}

fn open_database(options: &Options, config: &Config, path: &Path) -> Result<DB> {
    let cache = Cache::new_lru_cache(mib(config.cache_mib));
    let families = Family::ALL.map(|family| {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&cache);
        let mut options = Options::default();
        if matches!(family, Family::Entries) {
            // Most records are new: a filter answers that without a read.
            blocks.set_bloom_filter(10.0, false);
        }
        options.set_block_based_table_factory(&blocks);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(mib(config.write_buffer_mib));
        ColumnFamilyDescriptor::new(family.name(), options)
    });
    DB::open_cf_descriptors(options, path, families).map_err(|error| of_database(error, "opening", path))
}

fn mib(number: u32) -> usize {
    usize::try_from(number).unwrap_or(1) << 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_and_write_buffers_are_as_large_as_configured() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        (config.cache_mib, config.write_buffer_mib) = (5, 3);
        let db = open_database(&database_options(), &config, folder.path()).unwrap();
        for family in Family::ALL {
            let handle = db.cf_handle(family.name()).unwrap();
            let cache = db.property_int_value_cf(&handle, "rocksdb.block-cache-capacity");
            assert_eq!(cache.unwrap(), Some(5 << 20));
        }
        let written = std::fs::read_dir(folder.path()).unwrap();
        let written = written.map(|file| file.unwrap().path());
        let written = written.filter(|path| path.to_string_lossy().contains("OPTIONS-"));
        let text = std::fs::read_to_string(written.max().unwrap()).unwrap();
        assert_eq!(
            text.matches("  write_buffer_size=3145728").count(),
            Family::ALL.len()
        );
    }
}
