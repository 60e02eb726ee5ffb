//! The loop: identical for every backend and every mode.
//!
//! One direction, one owner: the lane holds the session, the transforms and the recorder; none of them knows another.
//! It polls, transforms, decides, writes, and hands a finished batch to [`Session::transact`]; no Kafka transaction is
//! open while user code or a store runs. The batch stays in memory until its commit, so an abort repeats nothing but the
//! sending.

mod assign;
mod batch;
mod observer;
mod outputs;
mod partition;
pub(crate) mod pool;
mod settings;

use std::{collections::BTreeMap, future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracker_api::{Decision, Partition};

pub(crate) use self::{
    observer::Observer,
    settings::{Backoff, Settings},
};
use self::{
    partition::{Owned, State, Work},
    pool::{Pool, RecordRef},
};
use crate::{
    clock::{AttemptIds, Clock},
    kafka::{self, Aborted, Attempt, Committed, ErrorKind, Membership, Polled, Session, Settled},
    recorder::{Feedback, Recorder},
    transform::Transform,
};

/// No wait is longer without a poll: the group must see us.
const BREATH: Duration = Duration::from_secs(1);
/// How long the lane waits for records before it looks around.
const IDLE: Duration = Duration::from_millis(200);
/// How often operators' decisions about blocking records are read.
const ASK: Duration = Duration::from_secs(1);
/// How often each partition's entries below C(p) are settled.
const SETTLE: Duration = Duration::from_secs(30);
/// How long a stop waits for transforms that run.
const GRACE: Duration = Duration::from_secs(5);
/// How long the lane waits for the group's word after it refused us.
const SUSPENDED: Duration = Duration::from_secs(5);

/// Why a lane ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another instance uses our transactional id or static member id.
    #[error(
        "another instance took over this lane's identity: {0}. Give each instance its own `orchestrator.instance` and `orchestrator.data-dir`"
    )]
    Fenced(kafka::Error),
    /// Kafka cannot be used any more by this session.
    #[error("{0}")]
    Kafka(kafka::Error),
}

impl From<kafka::Error> for Error {
    fn from(error: kafka::Error) -> Self {
        if error.kind == ErrorKind::Fenced {
            Self::Fenced(error)
        } else {
            Self::Kafka(error)
        }
    }
}

/// What a lane is made of.
pub(crate) struct Parts<S, T> {
    pub(crate) session: S,
    pub(crate) pool: Arc<Pool<T>>,
    pub(crate) recorder: Recorder,
    pub(crate) feedback: mpsc::UnboundedReceiver<Feedback>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) stop: CancellationToken,
}

pub(crate) struct Lane<S, T> {
    session: S,
    pool: Arc<Pool<T>>,
    recorder: Recorder,
    feedback: mpsc::UnboundedReceiver<Feedback>,
    settings: Arc<Settings>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    stop: CancellationToken,
    ids: AttemptIds,
    /// Partitions whose term is ours.
    owned: BTreeMap<Partition, Owned>,
    /// Partitions that wait for their term; `true`: newly assigned, to be started; `false`: to be rewound.
    assigned: BTreeMap<Partition, bool>,
    /// Whether the group waits for an answer to an assignment.
    unanswered: bool,
    terms_after: Instant,
    batch_after: Instant,
    asked: Instant,
    settled: Instant,
    /// Attempts that failed one after another.
    aborts: u32,
    /// The adaptive delay: how long a batch that has begun waits for more.
    delay: Duration,
}

/// How an attempt ended, once that is known.
#[derive(Debug)]
enum Concluded {
    Committed(Committed),
    NotCommitted(Aborted),
    TakenOver,
}

impl<S: Session, T: Transform> Lane<S, T> {
    pub(crate) fn new(parts: Parts<S, T>) -> Self {
        let Parts {
            session,
            pool,
            recorder,
            feedback,
            settings,
            clock,
            observer,
            stop,
        } = parts;
        let (now, delay) = (Instant::now(), *settings.delay.start());
        Self {
            session,
            pool,
            recorder,
            feedback,
            settings,
            clock,
            observer,
            stop,
            ids: AttemptIds::default(),
            owned: BTreeMap::new(),
            assigned: BTreeMap::new(),
            unanswered: false,
            terms_after: now,
            batch_after: now,
            asked: now,
            settled: now,
            aborts: 0,
            delay,
        }
    }

    /// Runs until told to stop, then flushes what the tracker is owed and leaves the group, within `deadline`.
    pub(crate) async fn run(mut self, deadline: Duration) -> Result<(), Error> {
        let ended = self.work().await;
        self.owned.clear();
        let until = Instant::now() + deadline;
        if tokio::time::timeout(deadline / 2, self.recorder.flush())
            .await
            .is_err()
        {
            tracing::warn!(
                "stopping before the store took everything; the next owner reconciles it from Kafka"
            );
        }
        self.session
            .close(until.saturating_duration_since(Instant::now()))
            .await;
        ended
    }

    async fn work(&mut self) -> Result<(), Error> {
        while !self.stop.is_cancelled() {
            self.observer.beat();
            self.take_feedback();
            self.collect().await?;
            self.begin_terms().await?;
            if self.batch_after <= Instant::now() && self.ready() > 0 {
                self.batch().await?;
            }
            self.look_after().await;
        }
        Ok(())
    }

    /// Records that may run now.
    fn ready(&self) -> usize {
        let now = Instant::now();
        self.owned
            .values()
            .filter(|o| o.is_ready(now))
            .map(|o| o.work.len())
            .sum()
    }

    /// Polls until there is a batch, or something else to do. Nothing waits while work is queued.
    async fn collect(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let may_run = self.batch_after <= now;
        let queued = self.ready();
        let wait = if may_run && queued > 0 || self.unanswered && self.terms_after <= now {
            Duration::ZERO
        } else {
            let timers = self
                .owned
                .values()
                .filter_map(|o| o.wait(now))
                .filter(|w| !w.is_zero());
            let held_up = [self.batch_after, self.terms_after]
                .into_iter()
                .map(|t| t.saturating_duration_since(now));
            timers
                .chain(held_up.filter(|w| !w.is_zero()))
                .fold(IDLE, Duration::min)
        };
        self.poll(wait).await?;
        let deadline = Instant::now() + self.delay;
        while may_run
            && queued == 0
            && !self.unanswered
            && (1..self.settings.batch_records).contains(&self.ready())
        {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.bytes() >= self.settings.batch_bytes {
                break;
            }
            self.poll(left).await?;
        }
        Ok(())
    }

    /// One poll, within the room that is left. Partitions are paused when there is none, as the poll itself must go on.
    async fn poll(&mut self, wait: Duration) -> Result<(), Error> {
        let now = Instant::now();
        let (records, bytes) = (self.settings.batch_records, self.settings.batch_bytes);
        let is_blocked = |owned: &Owned| owned.blocked.is_some_and(|b| b.until > now);
        let running: usize = self
            .owned
            .values()
            .filter(|o| !is_blocked(o))
            .map(|o| o.work.len())
            .sum();
        let room = records.saturating_sub(running);
        // What stands behind a blocked record takes nothing away from the others, and has a bound of its own.
        self.hold(|o| room == 0 || is_blocked(o) && (o.work.len() >= records / 2 || o.bytes() >= bytes))
            .await?;
        match self.session.poll(room.max(1), wait).await {
            Ok(polled) => self.absorb(polled),
            Err(error) if error.kind == ErrorKind::Retriable => {
                tracing::warn!(%error, "polling again");
                self.observer.reason(Some(format!("waiting for Kafka: {error}")));
                tokio::time::sleep(IDLE).await;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Pauses and resumes so that exactly the partitions that `wanted` names are paused.
    async fn hold(&mut self, wanted: impl Fn(&Owned) -> bool) -> Result<(), Error> {
        for on in [true, false] {
            let change = |owned: &Owned| owned.held != on && wanted(owned) == on;
            let partitions: Vec<Partition> = self
                .owned
                .iter()
                .filter(|(_, o)| change(o))
                .map(|(p, _)| p.clone())
                .collect();
            if !partitions.is_empty() {
                self.session.hold(&partitions, on).await?;
                self.owned
                    .iter_mut()
                    .filter(|(p, _)| partitions.contains(p))
                    .for_each(|(_, o)| o.held = on);
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.owned.values().map(Owned::bytes).sum()
    }

    fn absorb(&mut self, polled: Polled) {
        for error in &polled.errors {
            tracing::warn!(%error, "Kafka reports a fault");
        }
        let buffer = Arc::new(polled.records);
        for (index, record) in buffer.iter().enumerate() {
            // A record of a partition that waits to be rewound will be read again.
            let Some(owned) = self.owned.get_mut(&record.id.partition) else {
                continue;
            };
            if record.id.offset >= owned.received {
                owned.received = record.id.offset + 1;
                owned
                    .work
                    .push_back(Work::new(RecordRef::new(buffer.clone(), index)));
            }
        }
        let changed = !polled.membership.is_empty();
        for change in polled.membership {
            match change {
                Membership::Assigned(partitions) => {
                    self.unanswered = true;
                    self.terms_after = Instant::now();
                    for partition in partitions {
                        self.owned.remove(&partition);
                        self.assigned.insert(partition, true);
                    }
                }
                Membership::Revoked(partitions) | Membership::Lost(partitions) => {
                    for partition in &partitions {
                        self.drop_partition(partition);
                    }
                }
            }
        }
        if changed {
            self.batch_after = Instant::now();
            self.observer.joined(self.owned.len() + self.assigned.len());
        }
    }

    fn drop_partition(&mut self, partition: &Partition) {
        self.owned.remove(partition);
        self.assigned.remove(partition);
    }

    /// Drops a partition's batch although it is still ours: its term begins anew, and the consumer goes back to C(p).
    fn restart(&mut self, partition: &Partition) {
        if self.owned.remove(partition).is_some() {
            self.assigned.insert(partition.clone(), false);
        }
    }

    /// Waits for `future`, polling each second: what a poll brings meanwhile opens the next batch, and partitions that
    /// go are gone when this returns. None: the lane is to stop, and the future outlasted the grace.
    async fn breathe_while<F: Future>(&mut self, future: F) -> Result<Option<F::Output>, Error> {
        let mut future = pin!(future);
        let mut stopping = None;
        loop {
            tokio::select! {
                biased;
                output = &mut future => return Ok(Some(output)),
                () = tokio::time::sleep(BREATH) => {}
                () = self.stop.cancelled(), if stopping.is_none() => stopping = Some(Instant::now() + GRACE),
            }
            if stopping.is_some_and(|until| until <= Instant::now()) {
                return Ok(None);
            }
            self.observer.beat();
            self.hold(|_| true).await?;
            let polled = self.session.poll(1, Duration::ZERO).await?;
            self.absorb(polled);
        }
    }

    /// Runs an attempt to its end: committed, certainly not committed, or taken over.
    async fn conclude(&mut self, attempt: &Attempt) -> Result<Concluded, Error> {
        let why = match self.session.transact(attempt).await {
            Ok(committed) => return Ok(Concluded::Committed(committed)),
            Err(Aborted::Fenced(why)) => return Err(Error::Fenced(why)),
            Err(Aborted::Unknown(why)) => why,
            Err(aborted) => return Ok(Concluded::NotCommitted(aborted)),
        };
        tracing::warn!(attempt = %attempt.id, %why, "the outcome of a commit is unknown; reading it from Kafka");
        loop {
            match self.session.settle(attempt).await {
                Ok(settled) => {
                    let (name, concluded) = match settled {
                        Settled::Committed(committed) => ("committed", Concluded::Committed(committed)),
                        Settled::Aborted => ("aborted", Concluded::NotCommitted(Aborted::Aborted(why))),
                        Settled::TakenOver => ("taken over", Concluded::TakenOver),
                    };
                    tracing::info!(attempt = %attempt.id, outcome = name, "settled");
                    self.observer.settled(name);
                    return Ok(concluded);
                }
                Err(error) if error.kind == ErrorKind::Retriable && !self.stop.is_cancelled() => {
                    self.observer
                        .reason(Some(format!("waiting for Kafka to settle an attempt: {error}")));
                    self.observer.beat();
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes up what the store answered since.
    fn take_feedback(&mut self) {
        while let Ok(feedback) = self.feedback.try_recv() {
            match feedback {
                Feedback::Confirmed {
                    partition,
                    attempts,
                    closed,
                } => {
                    if let Some(owned) = self.owned.get_mut(&partition) {
                        owned.confirm(&attempts, &closed);
                    }
                }
                Feedback::Decided {
                    id,
                    era,
                    revision,
                    decision,
                } => {
                    let Some(owned) = self.owned.get_mut(&id.partition).filter(|o| o.era == era) else {
                        continue;
                    };
                    let Some(front) = owned.work.front_mut().filter(|w| w.record.id == id) else {
                        continue;
                    };
                    if revision <= front.revision || owned.blocked.is_none() {
                        continue;
                    }
                    front.revision = revision;
                    owned.blocked = None;
                    if let (Decision::Skip, Some(failure)) = (&decision, &mut front.failure) {
                        failure.passes = true;
                        failure.next_try = None;
                        front.state = State::Passing;
                    }
                    tracing::info!(dedup_key = %id, ?decision, "an operator decided about a blocking record");
                }
            }
        }
    }

    /// What is done now and then: asking about blocking records, settling what lies below C(p).
    async fn look_after(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.asked) >= ASK {
            self.asked = now;
            let blocked = self
                .owned
                .values()
                .filter(|o| o.blocked.is_some())
                .filter_map(|o| o.work.front());
            let blocked: Vec<_> = blocked.map(|work| work.record.id.clone()).collect();
            self.observer.blocked(&blocked);
            if !blocked.is_empty() {
                self.recorder.ask(blocked);
            }
        }
        if now.duration_since(self.settled) >= SETTLE {
            self.settled = now;
            for (partition, owned) in &self.owned {
                self.recorder.settle(owned.position(partition));
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
