use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Poll, Waker},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::Notify, time::Instant};
use tracker_api::RecordId;

use super::{RecordRef, Stop, Verdict, chains::Chains};
use crate::transform::{Output, Transform, TransformError};

type Outcome = Result<Output, TransformError>;

/// No slot.
const NONE: usize = usize::MAX;

/// A record that took longer than this ends its runner's turn, so that what waits beside it gets the thread.
const TURN: Duration = Duration::from_micros(200);

fn lock<S>(mutex: &Mutex<S>) -> MutexGuard<'_, S> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A batch on its way, shared by its chunks. Every step of every chain is taken under the one lock of `state`, and a chunk is
/// given up under it too: so each record has exactly one runner whose verdict counts.
pub(super) struct Batch<T> {
    transform: Arc<T>,
    records: Vec<RecordRef>,
    chains: Chains,
    stop: Arc<Stop>,
    /// Places of records that are not started, and what they fail with.
    refused: BTreeMap<usize, TransformError>,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    verdicts: Vec<Verdict>,
    next_chain: usize,
}

/// Where a chunk takes its chains from.
#[derive(Debug)]
pub(super) enum Work {
    /// From the batch, each next one that nobody has taken.
    Queue,
    /// These positions of one chain, and nothing else.
    Rest(Range<usize>),
}

/// A few chains driven together by one task.
#[derive(Debug)]
pub(super) struct Chunk {
    rest: Option<Mutex<Option<Range<usize>>>>,
    slots: Vec<Mutex<Slot>>,
    /// The slot whose user code is on the thread now.
    polling: AtomicUsize,
    polls_begun: AtomicU64,
    given_up: AtomicBool,
    counted: AtomicBool,
    gone: AtomicBool,
}

#[derive(Debug, Default)]
struct Slot {
    flight: Option<Flight>,
    waker: Option<Waker>,
}

/// A record that is being transformed, and the rest of its chain.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) position: usize,
    pub(super) end: usize,
    pub(super) late: bool,
    started: Instant,
}

impl<T> Batch<T> {
    pub(super) fn new(
        transform: Arc<T>,
        records: Vec<RecordRef>,
        chains: Chains,
        stop: Arc<Stop>,
        refused: BTreeMap<usize, TransformError>,
    ) -> Self {
        let verdicts = records.iter().map(|_| Verdict::NotRun).collect();
        Self {
            transform,
            records,
            chains,
            stop,
            refused,
            state: Mutex::new(State {
                verdicts,
                next_chain: 0,
            }),
            changed: Notify::new(),
        }
    }

    /// Waits until a chunk is gone. For one who waits.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The verdicts. Call it once, at the end.
    pub(super) fn take(&self) -> Vec<Verdict> {
        std::mem::take(&mut lock(&self.state).verdicts)
    }

    /// The record at `position`.
    pub(super) fn id(&self, position: usize) -> Option<RecordId> {
        let record = self.records.get(self.chains.place(position))?;
        Some(record.id.clone())
    }

    pub(super) fn has_queue(&self) -> bool {
        lock(&self.state).next_chain < self.chains.len()
    }

    /// Fails the record at `position` from outside its chunk; whether that stops its chain.
    pub(super) fn fail(&self, position: usize, why: TransformError) -> bool {
        self.settle(&mut lock(&self.state), position, Err(why))
    }

    fn settle(&self, state: &mut State, position: usize, outcome: Outcome) -> bool {
        let place = self.chains.place(position);
        let (verdict, stops) = match outcome {
            Ok(output) => (Verdict::Done(output), false),
            Err(why) => {
                let stops = (self.stop)(place, &why);
                (Verdict::Failed(why), stops)
            }
        };
        if let Some(held) = state.verdicts.get_mut(place) {
            *held = verdict;
        }
        stops
    }

    /// Takes the outcome of what ran in `slot` and says what runs there next; none if nothing is left or the chunk was
    /// given up, whose outcomes no longer count.
    fn step(&self, chunk: &Chunk, slot: usize, outcome: Option<Outcome>) -> Option<usize> {
        let mut state = lock(&self.state);
        if chunk.given_up.load(SeqCst) {
            return None;
        }
        let mut held = lock(chunk.slots.get(slot)?);
        let mut chain = None;
        if let (Some(flight), Some(outcome)) = (held.flight.take(), outcome) {
            let stops = self.settle(&mut state, flight.position, outcome);
            chain = Some(flight.position + 1..flight.end).filter(|rest| !stops && !rest.is_empty());
        }
        let chain = chain.or_else(|| match &chunk.rest {
            Some(rest) => lock(rest).take(),
            None => {
                let chain = self.chains.chain(state.next_chain)?;
                state.next_chain += 1;
                Some(chain)
            }
        })?;
        held.flight = Some(Flight {
            position: chain.start,
            end: chain.end,
            late: false,
            started: Instant::now(),
        });
        Some(chain.start)
    }

    /// From now on nothing that `chunk` does counts. What it had in flight, by slot. With `abandoned` its thread is
    /// counted there until it comes back.
    pub(super) fn give_up(&self, chunk: &Chunk, abandoned: Option<&AtomicUsize>) -> Vec<(usize, Flight)> {
        let _state = lock(&self.state);
        chunk.given_up.store(true, SeqCst);
        if let Some(abandoned) = abandoned.filter(|_| !chunk.is_gone()) {
            chunk.counted.store(true, SeqCst);
            abandoned.fetch_add(1, Relaxed);
        }
        let mut flights = Vec::new();
        for (slot, held) in chunk.slots.iter().enumerate() {
            let mut held = lock(held);
            flights.extend(held.flight.take().map(|flight| (slot, flight)));
            if let Some(waker) = held.waker.take() {
                waker.wake();
            }
        }
        flights
    }
}

impl Chunk {
    /// A chunk that runs up to `width` chains at once.
    pub(super) fn new(width: usize, work: Work) -> Self {
        Self {
            rest: match work {
                Work::Queue => None,
                Work::Rest(rest) => Some(Mutex::new(Some(rest))),
            },
            slots: (0..width).map(|_| Mutex::default()).collect(),
            polling: AtomicUsize::new(NONE),
            polls_begun: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
            counted: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        }
    }

    pub(super) fn width(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(SeqCst)
    }

    pub(super) fn polling(&self) -> Option<usize> {
        Some(self.polling.load(SeqCst)).filter(|slot| *slot != NONE)
    }

    pub(super) fn polls_begun(&self) -> u64 {
        self.polls_begun.load(SeqCst)
    }

    /// Marks and wakes what has outlasted `timeout`. Whether there is such a record, and when the next one will be.
    pub(super) fn wake_overdue(&self, now: Instant, timeout: Duration) -> (bool, Instant) {
        let (mut overdue, mut next) = (false, now + timeout);
        for held in &self.slots {
            let mut held = lock(held);
            let Slot { flight, waker } = &mut *held;
            let Some(flight) = flight else { continue };
            let deadline = flight.started + timeout;
            if now < deadline {
                next = next.min(deadline);
                continue;
            }
            overdue = true;
            if !std::mem::replace(&mut flight.late, true)
                && let Some(waker) = waker
            {
                waker.wake_by_ref();
            }
        }
        (overdue, next)
    }

    /// Whether what runs in `slot` is late; keeps `waker` for the moment when it becomes so.
    fn is_late(&self, slot: usize, waker: &Waker) -> bool {
        let Some(held) = self.slots.get(slot) else {
            return false;
        };
        let mut held = lock(held);
        if !held.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            held.waker = Some(waker.clone());
        }
        held.flight.as_ref().is_some_and(|flight| flight.late)
    }
}

/// Held by whoever drives a chunk; says so when it is gone, however it went.
pub(super) struct Leave<T> {
    batch: Arc<Batch<T>>,
    chunk: Arc<Chunk>,
    abandoned: Arc<AtomicUsize>,
}

impl<T> Leave<T> {
    pub(super) fn new(batch: Arc<Batch<T>>, chunk: Arc<Chunk>, abandoned: Arc<AtomicUsize>) -> Self {
        Self {
            batch,
            chunk,
            abandoned,
        }
    }
}

impl<T> Drop for Leave<T> {
    fn drop(&mut self) {
        let _state = lock(&self.batch.state);
        self.chunk.gone.store(true, SeqCst);
        if self.chunk.counted.load(SeqCst) {
            self.abandoned.fetch_sub(1, Relaxed);
        }
        self.batch.changed.notify_one();
    }
}

/// Drives a chunk until it has nothing left. `late` is what a record that outlasts its time fails with.
pub(super) async fn drive<T: Transform>(leave: Leave<T>, late: TransformError) {
    let runners: FuturesUnordered<_> = (0..leave.chunk.width())
        .map(|slot| run(&leave.batch, &leave.chunk, slot, &late))
        .collect();
    runners.for_each(|()| std::future::ready(())).await;
}

async fn run<T: Transform>(batch: &Batch<T>, chunk: &Chunk, slot: usize, late: &TransformError) {
    let mut next = batch.step(chunk, slot, None);
    while let Some(position) = next {
        let began = Instant::now();
        let place = batch.chains.place(position);
        let Some(record) = batch.records.get(place) else {
            return;
        };
        let outcome = if let Some(why) = batch.refused.get(&place) {
            Err(why.clone())
        } else if let Some(outcome) = attempt(&*batch.transform, record, chunk, slot, late).await {
            outcome
        } else {
            return;
        };
        next = batch.step(chunk, slot, Some(outcome));
        if began.elapsed() > TURN {
            tokio::task::yield_now().await;
        } else {
            tokio::task::coop::consume_budget().await;
        }
    }
}

/// One record, with every panic caught. None if the chunk was given up meanwhile.
async fn attempt<T: Transform>(
    transform: &T,
    record: &RecordRef,
    chunk: &Chunk,
    slot: usize,
    late: &TransformError,
) -> Option<Outcome> {
    let mut future = pin!(None);
    let outcome = poll_fn(|cx| {
        if chunk.given_up.load(SeqCst) {
            return Poll::Ready(None);
        }
        let is_late = chunk.is_late(slot, cx.waker());
        chunk.polls_begun.fetch_add(1, SeqCst);
        chunk.polling.store(slot, SeqCst);
        let polled = catch_unwind(AssertUnwindSafe(|| {
            if future.is_none() {
                future.set(Some(transform.transform(record)));
            }
            match future.as_mut().as_pin_mut() {
                Some(future) => future.poll(cx),
                None => Poll::Pending,
            }
        }));
        chunk.polling.store(NONE, SeqCst);
        match polled {
            Ok(Poll::Ready(outcome)) => Poll::Ready(Some(outcome)),
            Ok(Poll::Pending) if is_late => Poll::Ready(Some(Err(late.clone()))),
            Ok(Poll::Pending) => Poll::Pending,
            Err(payload) => Poll::Ready(Some(Err(panicked(&*payload)))),
        }
    })
    .await;
    // What the future held is user code too, and may panic or hang when it is dropped.
    chunk.polling.store(slot, SeqCst);
    let dropped = catch_unwind(AssertUnwindSafe(|| future.set(None)));
    chunk.polling.store(NONE, SeqCst);
    match dropped {
        Ok(()) => outcome,
        Err(payload) => outcome.map(|_| Err(panicked(&*payload))),
    }
}

/// A panic is a bug, and the same record mostly meets it again: no retry.
fn panicked(payload: &(dyn std::any::Any + Send)) -> TransformError {
    TransformError::permanent("panic", panic_message(payload))
}

/// What a panic said. Raw: it may quote a record.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
}
