//! What was in flight when the process died: so that a record that kills it is found, and does not kill it for ever.
//!
//! A transform can end the process (`abort`, a stack overflow, the kernel when memory runs out), and nothing in the process
//! can catch that. So each round of transforms is written down before it begins, in one small file of the data directory: a
//! write without a sync, as what a dead process wrote is in the file. The next start reads it. See decision 0024.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tracker_api::{Partition, RecordId};

use super::pool::{Pool, RecordRef, Stop, Verdict};
use crate::transform::{Transform, TransformError};

/// The file's name in the data directory.
pub(crate) const FILE: &str = "in-flight.json";
/// After so many deaths at one first record each record of that batch is tried alone.
const MOST_DEATHS: u32 = 3;
/// After so many deaths while it was alone a record is the one. Two: a process may be killed from outside at any moment, and
/// must not cost a record that was there by chance.
const MOST_ALONE: u32 = 2;

/// What is known of a record before it is transformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Free,
    /// It was in flight at each of several deaths: to be tried alone.
    Suspect,
    /// The process died each time that it was tried alone: never again by itself.
    Crashed,
}

/// Keeps what is in flight. Shared by the lanes of a process.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// None keeps nothing.
    book: Option<Mutex<Book>>,
    /// One record of the process is tried alone at a time.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Book {
    file: File,
    path: PathBuf,
    run: u64,
    /// What earlier runs left.
    before: BTreeMap<Partition, Flight>,
    now: BTreeMap<Partition, Flight>,
    complained: bool,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Page {
    /// Counts the starts since the last end in good order.
    run: u64,
    flights: Vec<(Arc<str>, i32, Flight)>,
}

/// The last round of one partition.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Flight {
    /// In which run it was.
    run: u64,
    first: i64,
    last: i64,
    /// How often the process died in a round that began at `first`, before this run.
    deaths: u32,
    /// The record that is tried alone now.
    alone: Option<i64>,
    /// How often the process died before this run while a record was alone.
    alone_deaths: BTreeMap<i64, u32>,
    crashed: BTreeSet<i64>,
}

impl Flight {
    /// The run in which it was is over, and did not end in good order.
    fn died(&mut self) {
        let Some(offset) = self.alone.take() else {
            self.deaths = self.deaths.saturating_add(1);
            return;
        };
        let deaths = self.alone_deaths.entry(offset).or_default();
        *deaths += 1;
        if *deaths >= MOST_ALONE {
            self.alone_deaths.remove(&offset);
            self.crashed.insert(offset);
        }
    }

    fn fate(&self, offset: i64) -> Fate {
        if self.crashed.contains(&offset) {
            Fate::Crashed
        } else if self.deaths >= MOST_DEATHS && (self.first..=self.last).contains(&offset) {
            Fate::Suspect
        } else {
            Fate::Free
        }
    }
}

impl Journal {
    /// Reads what the run before left in `folder`, and begins a new one. What cannot be read says nothing.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(FILE);
        let page: Page = fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)?;
        let mut before = BTreeMap::new();
        for (topic, number, mut flight) in page.flights {
            let partition = Partition { topic, number };
            if flight.run == page.run {
                flight.died();
                let (first, last) = (flight.first, flight.last);
                tracing::warn!(
                    %partition, first, last, deaths = flight.deaths, alone = ?flight.alone_deaths, crashed = ?flight.crashed,
                    "the last process died while these records were in flight"
                );
            }
            before.insert(partition, flight);
        }
        let mut book = Book {
            file,
            path,
            run: page.run + 1,
            now: before.clone(),
            before,
            complained: false,
        };
        book.write();
        Ok(Self {
            book: Some(Mutex::new(book)),
            ..Self::default()
        })
    }

    fn book(&self) -> Option<MutexGuard<'_, Book>> {
        let book = self.book.as_ref()?;
        Some(book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The process ends in good order: whatever is in flight kills nobody.
    pub(crate) fn end(&self) {
        if let Some(book) = self.book()
            && let Err(error) = fs::remove_file(&book.path)
        {
            tracing::warn!(%error, path = %book.path.display(), "the journal of what is in flight could not be removed");
        }
    }

    /// An operator wants this record to be tried again, whatever it did.
    pub(super) fn forgive(&self, id: &RecordId) {
        if let Some(mut book) = self.book() {
            let Book { before, now, .. } = &mut *book;
            for flights in [before, now] {
                if let Some(flight) = flights.get_mut(&id.partition) {
                    flight.crashed.remove(&id.offset);
                }
            }
        }
    }

    fn fate(&self, id: &RecordId) -> Fate {
        let known = self
            .book()
            .and_then(|book| Some(book.before.get(&id.partition)?.fate(id.offset)));
        known.unwrap_or(Fate::Free)
    }

    /// Those of `records` that are to be run now, by place. All of them, unless some are under suspicion: then those and what
    /// is known to crash, so that nothing else runs beside them.
    pub(super) fn admits(&self, records: &[RecordRef]) -> Vec<bool> {
        let fates: Vec<Fate> = records.iter().map(|record| self.fate(&record.id)).collect();
        let suspicion = fates.contains(&Fate::Suspect);
        fates
            .iter()
            .map(|fate| !suspicion || *fate != Fate::Free)
            .collect()
    }

    /// Runs a round of the pool: together, or one after the other when one of them is under suspicion. `stop` as for
    /// [`Pool::run`].
    pub(super) async fn run<T: Transform>(
        &self,
        pool: &Pool<T>,
        records: Vec<RecordRef>,
        stop: Arc<Stop>,
    ) -> Vec<Verdict> {
        let fates: Vec<Fate> = records.iter().map(|record| self.fate(&record.id)).collect();
        let crashed = |fate: &Fate| *fate == Fate::Crashed;
        if !fates.contains(&Fate::Suspect) {
            self.begin(&records);
            let refused = fates.iter().enumerate().filter(|(_, fate)| crashed(fate));
            let refused = refused.map(|(place, _)| (place, killer())).collect();
            return pool.run_but(records, stop, refused).await;
        }
        let _turn = self.turn.lock().await;
        let mut stands: BTreeSet<Partition> = BTreeSet::new();
        let mut verdicts = Vec::with_capacity(records.len());
        for (place, (record, fate)) in records.into_iter().zip(&fates).enumerate() {
            let id = record.id.clone();
            if stands.contains(&id.partition) {
                verdicts.push(Verdict::NotRun);
                continue;
            }
            let verdict = if crashed(fate) {
                Verdict::Failed(killer())
            } else {
                self.alone(&id, true);
                let all = stop.clone();
                let verdict = pool
                    .run(vec![record], Arc::new(move |_, why| all(place, why)))
                    .await;
                self.alone(&id, false);
                verdict.into_iter().next().unwrap_or(Verdict::NotRun)
            };
            if matches!(&verdict, Verdict::Failed(why) if stop(place, why)) {
                stands.insert(id.partition);
            }
            verdicts.push(verdict);
        }
        verdicts
    }

    /// A round of these records begins.
    fn begin(&self, records: &[RecordRef]) {
        let Some(mut book) = self.book() else { return };
        let mut flights: BTreeMap<&Partition, (i64, i64)> = BTreeMap::new();
        for RecordId { partition, offset } in records.iter().map(|record| &record.id) {
            let range = flights.entry(partition).or_insert((*offset, *offset));
            *range = (range.0.min(*offset), range.1.max(*offset));
        }
        for (partition, (first, last)) in flights {
            let known = book.before.get(partition);
            let flight = Flight {
                run: book.run,
                first,
                last,
                deaths: known
                    .filter(|known| known.first == first)
                    .map_or(0, |known| known.deaths),
                alone: None,
                alone_deaths: BTreeMap::new(),
                crashed: known
                    .map(|known| known.crashed.range(first..).copied().collect())
                    .unwrap_or_default(),
            };
            book.now.insert(partition.clone(), flight);
        }
        book.write();
    }

    /// A record under suspicion is tried alone, or has survived it.
    fn alone(&self, id: &RecordId, begins: bool) {
        let Some(mut book) = self.book() else { return };
        let run = book.run;
        let Some(known) = book.before.get_mut(&id.partition) else {
            return;
        };
        known.alone = begins.then_some(id.offset);
        if !begins {
            known.alone_deaths.remove(&id.offset);
        }
        // Who has survived is in no round: only one that is under way can be died of.
        let run = if begins { run } else { 0 };
        let flight = Flight { run, ..known.clone() };
        book.now.insert(id.partition.clone(), flight);
        book.write();
    }
}

/// The failure of a record that the process does not survive.
fn killer() -> TransformError {
    TransformError::permanent(
        "crash",
        "the process died each time that this record was transformed, at last alone (abort, stack overflow, out of memory). It \
         is not transformed again unless an operator retries it",
    )
}

impl Book {
    fn write(&mut self) {
        let flights = self
            .now
            .iter()
            .map(|(p, flight)| (p.topic.clone(), p.number, flight.clone()));
        let page = Page {
            run: self.run,
            flights: flights.collect(),
        };
        let written = serde_json::to_vec(&page)
            .map_err(io::Error::from)
            .and_then(|text| {
                self.file.write_all_at(&text, 0)?;
                self.file.set_len(text.len() as u64)
            });
        if let Err(error) = written
            && !std::mem::replace(&mut self.complained, true)
        {
            tracing::warn!(%error, path = %self.path.display(), "what is in flight cannot be written down: a record that kills the process will not be found");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lane::pool::PoolSettings, transform::Output, transform::SourceRecord};
    use std::time::Duration;

    struct Fine;

    impl Transform for Fine {
        async fn transform(&self, _: &SourceRecord) -> Result<Output, TransformError> {
            Ok(Output::Filtered)
        }
    }

    fn id(offset: i64) -> RecordId {
        Partition::new("orders", 3).at(offset)
    }

    fn records(offsets: std::ops::Range<i64>) -> Vec<RecordRef> {
        let all = offsets.map(|offset| SourceRecord {
            id: id(offset),
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
        });
        let buffer = Arc::new(all.collect::<Vec<_>>());
        (0..buffer.len())
            .map(|at| RecordRef::new(buffer.clone(), at))
            .collect()
    }

    /// A process that begins a round of these records, and dies in it.
    fn dies_in(folder: &Path, offsets: std::ops::Range<i64>) {
        Journal::open(folder).unwrap().begin(&records(offsets));
    }

    fn fates(journal: &Journal, offsets: std::ops::Range<i64>) -> Vec<Fate> {
        offsets.map(|offset| journal.fate(&id(offset))).collect()
    }

    #[test]
    fn three_deaths_at_one_first_record_put_its_batch_under_suspicion_and_two_alone_convict_a_record() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            dies_in(folder.path(), 5..8);
            assert_eq!(
                fates(&Journal::open(folder.path()).unwrap(), 5..8),
                [Fate::Free; 3]
            );
        }
        dies_in(folder.path(), 5..7);
        let journal = Journal::open(folder.path()).unwrap();
        assert_eq!(
            fates(&journal, 4..8),
            [Fate::Free, Fate::Suspect, Fate::Suspect, Fate::Free]
        );
        journal.alone(&id(5), true);
        journal.alone(&id(5), false);
        journal.alone(&id(6), true);
        let journal = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.fate(&id(6)), Fate::Suspect, "once may be chance");
        journal.alone(&id(5), true);
        journal.alone(&id(5), false);
        journal.alone(&id(6), true);
        let journal = Journal::open(folder.path()).unwrap();
        assert_eq!(fates(&journal, 5..7), [Fate::Suspect, Fate::Crashed]);
        // It stays so over rounds and starts that know nothing new, until an operator wants it tried.
        journal.begin(&records(6..9));
        let journal = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.fate(&id(6)), Fate::Crashed);
        journal.forgive(&id(6));
        assert_ne!(journal.fate(&id(6)), Fate::Crashed);
    }

    #[test]
    fn deaths_with_progress_between_them_starts_without_a_round_and_a_good_end_count_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for first in 0..9 {
            dies_in(folder.path(), first..20);
        }
        assert_eq!(Journal::open(folder.path()).unwrap().fate(&id(8)), Fate::Free);
        dies_in(folder.path(), 8..20);
        for _ in 0..5 {
            drop(Journal::open(folder.path()).unwrap());
        }
        assert_eq!(Journal::open(folder.path()).unwrap().fate(&id(8)), Fate::Free);
        for _ in 0..2 {
            dies_in(folder.path(), 8..20);
        }
        let journal = Journal::open(folder.path()).unwrap();
        journal.begin(&records(8..20));
        journal.end();
        assert!(!folder.path().join(FILE).exists());
        assert_eq!(Journal::open(folder.path()).unwrap().fate(&id(8)), Fate::Free);
    }

    #[test]
    fn a_journal_that_cannot_be_read_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{", "{\"run\":-1}", "\u{0}\u{0}"] {
            fs::write(folder.path().join(FILE), text).unwrap();
            assert_eq!(Journal::open(folder.path()).unwrap().fate(&id(0)), Fate::Free);
        }
    }

    #[tokio::test]
    async fn one_that_crashed_is_not_run_and_the_others_under_suspicion_run_one_by_one() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            dies_in(folder.path(), 0..3);
        }
        for _ in 0..2 {
            Journal::open(folder.path()).unwrap().alone(&id(1), true);
        }
        let journal = Journal::open(folder.path()).unwrap();
        let settings = PoolSettings {
            concurrency: 8,
            timeout: Duration::from_secs(30),
            ordering: crate::config::Ordering::Partition,
        };
        let pool = Pool::new(Arc::new(Fine), tokio::runtime::Handle::current(), settings);
        assert_eq!(journal.admits(&records(0..5)), [true, true, true, false, false]);
        let passes: Arc<Stop> = Arc::new(|_, _| false);
        let [Verdict::Done(_), Verdict::Failed(why), Verdict::Done(_)] =
            &journal.run(&pool, records(0..3), passes).await[..]
        else {
            panic!("the second alone fails")
        };
        assert_eq!((&*why.class, why.retryable), ("crash", false));
        let stops: Arc<Stop> = Arc::new(|_, _| true);
        let verdicts = journal.run(&pool, records(0..3), stops).await;
        assert_eq!(verdicts[2], Verdict::NotRun, "it stands behind it");
        // Without suspicion the same, in one round.
        let verdicts = journal.run(&pool, records(1..2), Arc::new(|_, _| true)).await;
        assert!(matches!(&verdicts[..], [Verdict::Failed(_)]), "{verdicts:?}");
    }
}
