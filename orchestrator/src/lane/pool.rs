//! Runs transforms concurrently, off the polling thread.
//!
//! The records of a batch form *chains* ([`Ordering`]): within a chain one runs after another, chains run side by side. A
//! few *chunks* drive them, each many chains at once, so there is neither a task nor a timer per record. On a
//! multi-threaded runtime a chunk drives on a thread of the blocking pool: user code that never yields holds one such thread
//! and never a worker, so timers, sockets and the other chunks go on. On a current-thread runtime (the simulation) it is a
//! plain task.
//!
//! The one who waits for the batch also watches it, with one timer: it wakes what has outlasted its time, and gives up a
//! chunk that does not answer even then. What such a chunk had in flight is run again alone, each in a chunk of its own,
//! except the culprit.

mod chains;
mod chunk;

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    time::Instant,
};

use tracker_api::{Header, RecordId};

pub(crate) use self::chunk::panic_message;
use self::{
    chains::Chains,
    chunk::{Batch, Chunk, Leave, Work, drive},
};
use crate::config::Ordering;
use crate::transform::{Output, SourceRecord, Transform, TransformError};

/// One record of a poll's buffer: cheap to clone, no allocation per record.
#[derive(Clone, Debug)]
pub(crate) struct RecordRef {
    buffer: Arc<Vec<SourceRecord>>,
    index: usize,
}

impl RecordRef {
    /// The record at `index` of `buffer`, which must be in it.
    pub(crate) fn new(buffer: Arc<Vec<SourceRecord>>, index: usize) -> Self {
        debug_assert!(index < buffer.len(), "a record of the buffer");
        Self { buffer, index }
    }

    /// The record in a buffer of its own, so that it keeps nothing else of its poll in memory.
    pub(crate) fn detached(&self) -> Self {
        if self.buffer.len() == 1 {
            return self.clone();
        }
        let mut record = SourceRecord::clone(self);
        detach(&mut record.key, &mut record.value, &mut record.headers);
        Self::new(Arc::new(vec![record]), 0)
    }
}

/// Copies bytes into buffers of their own.
pub(crate) fn detach(key: &mut Option<Bytes>, value: &mut Option<Bytes>, headers: &mut [Header]) {
    let fields = headers
        .iter_mut()
        .flat_map(|header| [Some(&mut header.name), header.value.as_mut()]);
    for bytes in fields.chain([key.as_mut(), value.as_mut()]).flatten() {
        *bytes = Bytes::copy_from_slice(bytes);
    }
}

impl Deref for RecordRef {
    type Target = SourceRecord;

    fn deref(&self) -> &SourceRecord {
        &self.buffer[self.index]
    }
}

/// What a pool keeps to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolSettings {
    /// Records in flight at once; at least 1.
    pub(crate) concurrency: usize,
    /// How long one record may take, from its own start.
    pub(crate) timeout: Duration,
    /// What may run side by side.
    pub(crate) ordering: Ordering,
}

/// What became of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was transformed.
    Done(Output),
    /// It was not; classes of our own are `timeout` and `panic`.
    Failed(TransformError),
    /// It stood behind a failure that stopped its chain, or the runtime was shut down.
    NotRun,
}

/// Whether a failure, of the record at this place of the input, stops its chain. Asked once per failure; must not block.
pub(crate) type Stop = dyn Fn(usize, &TransformError) -> bool + Send + Sync;

/// Runs the transforms of one lane.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    transform: Arc<T>,
    runtime: Handle,
    settings: PoolSettings,
    abandoned: Arc<AtomicUsize>,
    /// Records whose transform never yielded, and the chunk whose thread it holds.
    hanging: Mutex<Vec<(RecordId, Arc<Chunk>)>>,
}

impl<T: Transform> Pool<T> {
    /// A pool that runs `transform` on `runtime`, whose timers must be enabled.
    pub(crate) fn new(transform: Arc<T>, runtime: Handle, settings: PoolSettings) -> Self {
        Self {
            transform,
            runtime,
            settings,
            abandoned: Arc::default(),
            hanging: Mutex::default(),
        }
    }

    /// Counts the threads that it gives up in `abandoned`, together with the others that do.
    pub(crate) fn counting_in(mut self, abandoned: Arc<AtomicUsize>) -> Self {
        self.abandoned = abandoned;
        self
    }

    /// Whether a transform of this record still holds a thread that was given up.
    pub(crate) fn hangs(&self, id: &RecordId) -> bool {
        let mut hanging = self.hanging.lock().unwrap_or_else(PoisonError::into_inner);
        hanging.retain(|(_, chunk)| !chunk.is_gone());
        hanging.iter().any(|(held, _)| held == id)
    }

    /// Threads that were given up and have not come back: each is held by a transform that does not yield.
    pub(crate) fn abandoned(&self) -> usize {
        self.abandoned.load(Relaxed)
    }

    /// Runs a batch; the verdicts are in the order of the records. A record whose last try still holds a thread is not
    /// started again: it fails as that one did. Dropping the future stops it: what is in flight is dropped at its next
    /// wake.
    pub(crate) async fn run(&self, records: Vec<RecordRef>, stop: Arc<Stop>) -> Vec<Verdict> {
        self.run_but(records, stop, BTreeMap::new()).await
    }

    /// The same; the records at the places that `refused` names are not started, and fail as it says.
    pub(crate) async fn run_but(
        &self,
        records: Vec<RecordRef>,
        stop: Arc<Stop>,
        mut refused: BTreeMap<usize, TransformError>,
    ) -> Vec<Verdict> {
        let chains = Chains::of(&records, self.settings.ordering);
        let slots = self.settings.concurrency.max(1).min(chains.len());
        self.refuse_hanging(&records, &mut refused);
        let batch = Arc::new(Batch::new(
            Arc::clone(&self.transform),
            records,
            chains,
            stop,
            refused,
        ));
        let mut watch = Watch {
            pool: self,
            batch: Arc::clone(&batch),
            chunks: Vec::new(),
        };
        let chunks = self.runtime.metrics().num_workers().min(slots);
        for chunk in 0..chunks {
            // Shares that differ by at most one.
            let share = slots / chunks + usize::from(chunk < slots % chunks);
            watch.dispatch(Chunk::new(share, Work::Queue));
        }
        while let Some(next) = watch.look(Instant::now()) {
            tokio::select! {
                () = batch.changed() => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
        batch.take()
    }

    /// Adds the records that hang: each try would take one more thread away.
    fn refuse_hanging(&self, records: &[RecordRef], refused: &mut BTreeMap<usize, TransformError>) {
        if self.abandoned() == 0 {
            return;
        }
        let why =
            "an earlier try has not returned and holds its thread; it is not started again before that ends";
        let hanging = records
            .iter()
            .enumerate()
            .filter(|(_, record)| self.hangs(&record.id));
        refused.extend(hanging.map(|(place, _)| (place, TransformError::retryable("timeout", why))));
    }

    fn grace(&self) -> Duration {
        (self.settings.timeout / 10).clamp(Duration::from_millis(5), Duration::from_secs(1))
    }

    fn hang(&self, id: Option<RecordId>, chunk: &Arc<Chunk>) {
        let mut hanging = self.hanging.lock().unwrap_or_else(PoisonError::into_inner);
        hanging.retain(|(_, chunk)| !chunk.is_gone());
        hanging.extend(id.map(|id| (id, Arc::clone(chunk))));
    }

    fn timed_out(&self, how: &str) -> TransformError {
        TransformError::retryable(
            "timeout",
            format!("no result within {:?}{how}", self.settings.timeout),
        )
    }
}

/// The chunks of one batch, and whether each still answers.
struct Watch<'a, T: Transform> {
    pool: &'a Pool<T>,
    batch: Arc<Batch<T>>,
    chunks: Vec<Watched>,
}

struct Watched {
    chunk: Arc<Chunk>,
    /// While something is overdue: how many polls the chunk had begun, and since when it has not begun another.
    quiet: Option<(u64, Instant)>,
}

impl<T: Transform> Watch<'_, T> {
    fn dispatch(&mut self, chunk: Chunk) {
        let chunk = Arc::new(chunk);
        self.chunks.push(Watched {
            chunk: Arc::clone(&chunk),
            quiet: None,
        });
        let leave = Leave::new(
            Arc::clone(&self.batch),
            Arc::clone(&chunk),
            Arc::clone(&self.pool.abandoned),
        );
        let late = self.pool.timed_out("");
        let driven = drive(leave, late);
        let runtime = self.pool.runtime.clone();
        if runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
            drop(runtime.spawn(driven));
        } else {
            let inner = runtime.clone();
            drop(runtime.spawn_blocking(move || inner.block_on(driven)));
        }
    }

    /// Wakes what is overdue and replaces the chunks that do not answer. When to look again; none when all are gone.
    fn look(&mut self, now: Instant) -> Option<Instant> {
        let (timeout, grace) = (self.pool.settings.timeout, self.pool.grace());
        let mut next = now + timeout;
        let mut hanging = Vec::new();
        self.chunks.retain(|watched| !watched.chunk.is_gone());
        self.chunks
            .retain_mut(|watched| match watched.look(now, timeout, grace) {
                Some(again) => {
                    next = next.min(again);
                    true
                }
                None => {
                    hanging.push(Arc::clone(&watched.chunk));
                    false
                }
            });
        for chunk in hanging {
            self.replace(&chunk);
        }
        (!self.chunks.is_empty()).then_some(next)
    }

    /// Gives up a chunk whose thread is held, and runs again what it had in flight.
    fn replace(&mut self, hanging: &Arc<Chunk>) {
        let held = hanging.polling();
        for (slot, flight) in self.batch.give_up(hanging, Some(&self.pool.abandoned)) {
            let mut rest = flight.position..flight.end;
            if Some(slot) == held && flight.late {
                rest.start += 1;
                let why = self
                    .pool
                    .timed_out("; it never yielded, and its thread was given up");
                self.pool.hang(self.batch.id(flight.position), hanging);
                if self.batch.fail(flight.position, why) {
                    continue;
                }
            }
            if !rest.is_empty() {
                self.dispatch(Chunk::new(1, Work::Rest(rest)));
            }
        }
        if self.batch.has_queue() {
            self.dispatch(Chunk::new(hanging.width(), Work::Queue));
        }
    }
}

impl<T: Transform> Drop for Watch<'_, T> {
    fn drop(&mut self) {
        for watched in &self.chunks {
            self.batch.give_up(&watched.chunk, None);
        }
    }
}

impl Watched {
    /// When to look again; none if the chunk hangs: something is overdue, was woken, and for `grace` one and the same
    /// poll of user code has not returned.
    fn look(&mut self, now: Instant, timeout: Duration, grace: Duration) -> Option<Instant> {
        let (overdue, next) = self.chunk.wake_overdue(now, timeout);
        if !overdue {
            self.quiet = None;
            return Some(next);
        }
        let begun = self.chunk.polls_begun();
        match self.quiet {
            Some((seen, since)) if seen == begun && self.chunk.polling().is_some() => {
                (now < since + grace).then(|| next.min(since + grace))
            }
            _ => {
                self.quiet = Some((begun, now));
                Some(next.min(now + grace))
            }
        }
    }
}

#[cfg(test)]
mod tests;
