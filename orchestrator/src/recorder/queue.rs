//! What waits for the marker: coalesced, and bounded in bytes however long the store is away.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Notify;
use tracker_api::{Captured, Entry, Header, Outcome, Partition, Progress, RecordId};

use super::Feedback;
use crate::telemetry::Repeated;

/// Bytes of entries that may wait in one lane. An outage of the store is bridged for some ten thousand failures without
/// their bytes; what waits longer is bounded by this and not by the length of the outage, so that 64 lanes take 1 GiB at
/// most.
pub(super) const MOST_BYTES: usize = 16 << 20;
/// How often it is said that the bound is reached.
const SAID: Duration = Duration::from_secs(60);

/// Something to write, and what to tell the lane once it is durable.
#[derive(Debug, Default)]
pub(crate) struct Mark {
    pub(crate) entries: Vec<Entry>,
    pub(crate) progress: Vec<Progress>,
    pub(crate) confirm: Vec<Feedback>,
    pub(crate) kept: Kept,
}

/// Where else the entries of a mark are held, so that less needs to wait here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Nowhere: what is dropped is lost, and counted.
    #[default]
    Nowhere,
    /// The store holds the failure with its bytes, not yet as final: only this says so, and it is small.
    Store,
    /// The fallback holds it, and brings it into the store if this does not.
    Fallback,
}

impl Mark {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.progress.is_empty() && self.confirm.is_empty()
    }
}

/// What the marker writes at once. Of one record there is one entry, of one partition one row.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) entries: Vec<Entry>,
    pub(super) progress: Vec<Progress>,
    pub(super) confirm: Vec<Feedback>,
    /// What the store did not take, and as what.
    pub(super) refused: Vec<(RecordId, Outcome)>,
    bytes: usize,
}

#[derive(Debug)]
struct Pending {
    entries: BTreeMap<RecordId, Entry>,
    progress: BTreeMap<Partition, Progress>,
    confirm: Vec<Feedback>,
    /// Of these entries.
    bytes: usize,
    /// Of those that the marker has taken and not written yet.
    taken: usize,
    is_writing: bool,
    said: Repeated<()>,
}

/// The queue between a recorder and its marker.
#[derive(Debug)]
pub(super) struct Queue {
    /// Bytes that may wait.
    most: usize,
    pending: Mutex<Pending>,
    lost: AtomicU64,
    drained: Notify,
}

impl Queue {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            pending: Mutex::new(Pending {
                entries: BTreeMap::new(),
                progress: BTreeMap::new(),
                confirm: Vec::new(),
                bytes: 0,
                taken: 0,
                is_writing: false,
                said: Repeated::every(SAID),
            }),
            lost: AtomicU64::new(0),
            drained: Notify::new(),
        }
    }

    /// Queues a mark. Beyond the bound a success is left to reconcile, which can tell it from Kafka; a failure that nobody
    /// else holds is dropped and counted, and its offset stays a gap; anything else waits without its bytes.
    pub(super) fn push(&self, mark: Mark) {
        let mut pending = self.lock();
        let mut dropped = Vec::new();
        for entry in mark.entries {
            let is_full = pending.bytes + pending.taken >= self.most;
            match entry.version.outcome {
                Outcome::Succeeded if is_full => {}
                Outcome::Failed if is_full && mark.kept != Kept::Store => {
                    dropped.push((entry.id, Outcome::Failed));
                }
                _ => pending.add(entry, is_full || mark.kept != Kept::Nowhere),
            }
        }
        for row in mark.progress {
            match pending.progress.entry(row.partition.clone()) {
                std::collections::btree_map::Entry::Occupied(mut held) => held.get_mut().join(&row),
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(row);
                }
            }
        }
        for mut confirm in mark.confirm {
            confirm.except(&dropped);
            pending.confirm.push(confirm);
        }
        if let (Some((first, _)), Kept::Nowhere) = (dropped.first(), mark.kept) {
            self.lose(dropped.len());
            if let Some(left_out) = pending.said.due(()) {
                let bytes = self.most;
                tracing::error!(%first, failures = dropped.len(), bytes, left_out, "as many failures wait for the store as may: newer ones are not kept, their offsets stay gaps, orch_tracker_lost_total counts them");
            }
        }
    }

    /// All that waits; none if nothing does.
    pub(super) fn take(&self) -> Option<Taken> {
        let mut pending = self.lock();
        if pending.entries.is_empty() && pending.progress.is_empty() && pending.confirm.is_empty() {
            return None;
        }
        (pending.is_writing, pending.taken) = (true, pending.bytes);
        Some(Taken {
            entries: std::mem::take(&mut pending.entries).into_values().collect(),
            progress: std::mem::take(&mut pending.progress).into_values().collect(),
            confirm: std::mem::take(&mut pending.confirm),
            refused: Vec::new(),
            bytes: std::mem::take(&mut pending.bytes),
        })
    }

    /// What was taken is durable.
    pub(super) fn done(&self, taken: &Taken) {
        let mut pending = self.lock();
        pending.taken -= taken.bytes.min(pending.taken);
        pending.is_writing = false;
        drop(pending);
        self.drained.notify_waiters();
    }

    /// Waits until all that was queued is durable.
    pub(super) async fn drained(&self) {
        loop {
            let drained = self.drained.notified();
            if self.is_empty() {
                return;
            }
            drained.await;
        }
    }

    fn is_empty(&self) -> bool {
        let pending = self.lock();
        !pending.is_writing
            && pending.entries.is_empty()
            && pending.progress.is_empty()
            && pending.confirm.is_empty()
    }

    /// Failures that are kept nowhere.
    pub(super) fn lose(&self, failures: usize) {
        self.lost.fetch_add(failures as u64, Ordering::Relaxed);
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    /// Adds an entry to what waits for its record, `bare` without bytes. It joins, as it would in the store.
    fn add(&mut self, mut entry: Entry, bare: bool) {
        entry.captured = entry.captured.filter(|_| !bare).map(|captured| own(&captured));
        match self.entries.entry(entry.id.clone()) {
            std::collections::btree_map::Entry::Occupied(mut held) => {
                self.bytes -= weight(held.get());
                held.get_mut().join(&entry);
                self.bytes += weight(held.get());
            }
            std::collections::btree_map::Entry::Vacant(place) => {
                self.bytes += weight(&entry);
                place.insert(entry);
            }
        }
    }
}

/// A copy: captured bytes are slices of their poll's buffer, which one of them would keep alive as a whole.
fn own(captured: &Captured) -> Captured {
    let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    let header = |header: &Header| Header {
        name: copy(&header.name),
        value: header.value.as_ref().map(copy),
    };
    Captured {
        key: captured.key.as_ref().map(copy),
        value: captured.value.as_ref().map(copy),
        headers: captured.headers.iter().map(header).collect(),
    }
}

/// About the bytes that an entry takes.
fn weight(entry: &Entry) -> usize {
    let captured = entry.captured.as_ref().map_or(0, |captured| {
        let headers = captured.headers.iter().map(|header| {
            size_of::<Header>() + header.name.len() + header.value.as_ref().map_or(0, Bytes::len)
        });
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        length(&captured.key) + length(&captured.value) + headers.sum::<usize>()
    });
    let failure = entry.failure.as_ref();
    size_of::<Entry>() + captured + failure.map_or(0, |f| f.class.len() + f.message.len())
}

#[cfg(test)]
mod tests {
    use tracker_api::{AttemptId, Failure, Gaps, Timestamp, Version};

    use super::*;

    fn partition() -> Partition {
        Partition::new("orders", 0)
    }

    fn entry(offset: i64, attempt: u128, outcome: Outcome, value: Bytes) -> Entry {
        let version = Version {
            era: 1,
            term: 1,
            attempt: AttemptId(uuid::Uuid::from_u128(attempt)),
            outcome,
        };
        Entry {
            failure: Some(Failure::new("malformed", "no JSON")),
            captured: Some(Captured {
                value: Some(value),
                ..Captured::default()
            }),
            ..Entry::new(partition().at(offset), version, Timestamp(1))
        }
    }

    fn mark(entries: Vec<Entry>, kept: Kept) -> Mark {
        let closed = entries.iter().map(|entry| entry.id.offset).collect();
        Mark {
            entries,
            progress: Vec::new(),
            confirm: vec![Feedback::Confirmed {
                partition: partition(),
                attempts: Vec::new(),
                closed,
                unknown: Vec::new(),
            }],
            kept,
        }
    }

    /// Failures of 64 KiB each, twice as many as there is room for.
    fn flood(queue: &Queue, kept: Kept) -> usize {
        let value = Bytes::from(vec![b'x'; 64 << 10]);
        let many = 2 * MOST_BYTES / value.len();
        for offset in 0..many as i64 {
            let entry = entry(offset, 1, Outcome::Failed, value.clone());
            queue.push(mark(vec![entry], kept));
        }
        many
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_and_what_is_dropped_is_counted_and_stays_a_gap() {
        let queue = Queue::new(MOST_BYTES);
        let many = flood(&queue, Kept::Nowhere);
        let taken = queue.take().unwrap();
        assert!(taken.bytes <= MOST_BYTES + (65 << 10), "{}", taken.bytes);
        let lost = many - taken.entries.len();
        assert!(lost > many / 3, "{lost} of {many}");
        assert_eq!(queue.lost(), lost as u64);
        let closed = taken.confirm.iter().map(|confirmed| match confirmed {
            Feedback::Confirmed { closed, unknown, .. } => (closed.len(), unknown.len()),
            other => panic!("{other:?}"),
        });
        let (closed, unknown) = closed.fold((0, 0), |(a, b), (c, u)| (a + c, b + u));
        assert_eq!((closed, unknown), (taken.entries.len(), lost));
    }

    #[test]
    fn what_the_marker_is_writing_counts_too() {
        let queue = Queue::new(MOST_BYTES);
        flood(&queue, Kept::Nowhere);
        let (first, lost) = (queue.take().unwrap(), queue.lost());
        queue.push(mark(
            vec![entry(-1, 1, Outcome::Failed, Bytes::new())],
            Kept::Nowhere,
        ));
        assert_eq!(queue.lost(), lost + 1);
        queue.done(&first);
        queue.push(mark(
            vec![entry(-1, 1, Outcome::Failed, Bytes::new())],
            Kept::Nowhere,
        ));
        assert_eq!(queue.lost(), lost + 1, "there is room again");
    }

    #[test]
    fn what_the_store_holds_waits_without_its_bytes_and_what_the_fallback_holds_is_not_lost() {
        let queue = Queue::new(MOST_BYTES);
        let many = flood(&queue, Kept::Store);
        let taken = queue.take().unwrap();
        assert_eq!((taken.entries.len(), queue.lost()), (many, 0));
        assert!(taken.entries.iter().all(|entry| entry.captured.is_none()));
        let queue = Queue::new(MOST_BYTES);
        for _ in 0..100 {
            flood(&queue, Kept::Fallback);
        }
        assert_eq!(queue.lost(), 0);
        assert!(queue.lock().bytes < MOST_BYTES);
    }

    #[test]
    fn captured_bytes_do_not_keep_their_polls_buffer_alive() {
        let queue = Queue::new(MOST_BYTES);
        let buffer = Bytes::from(vec![b'x'; 4 << 20]);
        let slice = entry(0, 1, Outcome::Failed, buffer.slice(7..9));
        queue.push(mark(vec![slice], Kept::Nowhere));
        assert!(buffer.is_unique(), "the queue holds a slice of it");
    }

    #[test]
    fn of_one_record_and_of_one_partition_the_last_word_waits() {
        let queue = Queue::new(MOST_BYTES);
        for attempt in 1..1_000_u32 {
            let row = Progress {
                partition: partition(),
                era: 1,
                term: 1,
                attempt: AttemptId(uuid::Uuid::from_u128(attempt.into())),
                floor: 0,
                received: 0,
                committed: attempt.into(),
                gaps: Gaps::default(),
                missed: Gaps::default(),
                failed: 0,
                succeeded: 0,
                at: Timestamp(attempt.into()),
            };
            let tried = entry(5, attempt.into(), Outcome::Failing, Bytes::from_static(b"v"));
            queue.push(Mark {
                entries: vec![tried],
                progress: vec![row],
                ..Mark::default()
            });
        }
        let taken = queue.take().unwrap();
        assert_eq!((taken.entries.len(), taken.progress.len()), (1, 1));
        assert_eq!(taken.entries[0].version.attempt.0.as_u128(), 999);
        assert_eq!(taken.progress[0].committed, 999);
    }
}
