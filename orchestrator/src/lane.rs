//! The loop: identical for every backend and every mode.
//!
//! One direction, one owner: the lane holds the session, the transforms and the recorder; none of them knows another.
//! It polls, transforms, decides, writes, and hands a finished batch to [`Session::transact`]; no Kafka transaction is
//! open while user code or a store runs. The batch stays in memory until its commit, so an abort repeats nothing but the
//! sending.

mod again;
mod assign;
mod batch;
mod commit;
mod dead_letter;
mod feed;
mod feedback;
mod first;
mod headers;
pub(crate) mod journal;
mod letters;
mod observer;
mod outputs;
mod pace;
mod partition;
mod pending;
pub(crate) mod pool;
mod refused;
mod said;
mod settings;
mod sight;
pub(crate) mod stalls;
mod topic;
mod waiting;

use std::{collections::BTreeMap, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracker_api::Partition;

use self::{
    journal::Journal,
    pace::Pace,
    partition::Owned,
    pending::Pending,
    pool::Pool,
    said::Said,
    stalls::{Stalls, Why},
    waiting::Waiting,
};
pub(crate) use self::{
    observer::Observer,
    settings::{Backoff, Settings},
};
use crate::{
    begun::Begun,
    clock::{AttemptIds, Clock},
    kafka::{self, Aborted, Attempt, Committed, ErrorKind, Session, Settled, Topic},
    recorder::{Feedback, Recorder},
    telemetry::Repeated,
    transform::Transform,
};

/// How often operators' decisions about blocking records are read.
const ASK: Duration = Duration::from_secs(1);
/// How often each partition's entries below C(p) are settled.
const SETTLE: Duration = Duration::from_secs(30);
/// Threads of this process that transforms hold and never give back, before it ends so that it can be started anew. Far
/// below the threads that user code may take, so that no lane stands for want of one.
pub(crate) const MOST_ABANDONED: usize = 64;
/// A warning that repeats is one line within so long.
const WARNED: Duration = Duration::from_secs(30);
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
    /// The group has not answered this session for so long that it is not expected to find back.
    #[error("{0}")]
    Silent(String),
    /// A bug: of this program, or of something of the service's own that it calls on its lane.
    #[error("the lane panicked: {0}")]
    Panicked(String),
    /// Transforms hold so many threads that only a new process gets them back.
    #[error("{0} threads are held by transforms that never return; start the service anew")]
    Abandoned(usize),
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

/// Runs `work`, a panic of which is an error as any other.
pub(crate) async fn caught<O>(work: impl Future<Output = Result<O, Error>>) -> Result<O, Error> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|payload| {
            let message = pool::panic_message(&*payload);
            Err(Error::Panicked(crate::panics::message(message)))
        })
}

/// What a lane is made of.
pub(crate) struct Parts<S, T> {
    pub(crate) session: S,
    pub(crate) pool: Arc<Pool<T>>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) recorder: Recorder,
    pub(crate) feedback: mpsc::UnboundedReceiver<Feedback>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) begun: Arc<Begun>,
    pub(crate) stop: CancellationToken,
}

pub(crate) struct Lane<S, T> {
    session: S,
    pool: Arc<Pool<T>>,
    journal: Arc<Journal>,
    recorder: Recorder,
    feedback: mpsc::UnboundedReceiver<Feedback>,
    settings: Arc<Settings>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    begun: Arc<Begun>,
    stop: CancellationToken,
    ids: AttemptIds,
    /// Partitions whose term is ours.
    owned: BTreeMap<Partition, Owned>,
    /// Partitions that wait for their term; `true`: newly assigned, to be started; `false`: to be rewound.
    assigned: BTreeMap<Partition, bool>,
    /// Those of them that cannot begin yet, until they are tried again.
    waiting: BTreeMap<Partition, Waiting>,
    /// The source, as it was last seen, and when.
    topic: Topic,
    looked: Instant,
    /// A fetch was refused: look again soon.
    suspicious: bool,
    /// Up to where the store has confirmed partitions that begin anew, with the era.
    told: BTreeMap<Partition, (u64, i64)>,
    /// Eras that the store knows and Kafka's notes do not.
    later_eras: BTreeMap<Partition, u64>,
    /// Whether the group waits for an answer to an assignment.
    unanswered: bool,
    terms_after: Instant,
    batch_after: Instant,
    asked: Instant,
    settled: Instant,
    /// Attempts that failed one after another.
    aborts: u32,
    /// Whether Kafka refused records, which are failures now: what was transformed is decided about anew, and nothing is
    /// transformed before.
    judged: bool,
    pace: Pace,
    said: Said,
    warned: Repeated<&'static str>,
    stalls: Stalls,
    letters: letters::Letters,
    /// Partitions of `assigned` whose committed offset is pending.
    pending: BTreeMap<Partition, Pending>,
    /// When positions without a record were last committed.
    tidied: Instant,
    /// When C(p) of what cannot be read on was last read.
    read_again: Instant,
    /// What the client last said was wrong.
    fault: Option<(Instant, String)>,
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
            journal,
            recorder,
            feedback,
            settings,
            clock,
            observer,
            begun,
            stop,
        } = parts;
        let (now, delay) = (Instant::now(), *settings.delay.start());
        let said = Said::new(settings.log_messages);
        let pace = Pace::new(&settings);
        Self {
            session,
            pool,
            journal,
            recorder,
            feedback,
            settings,
            clock,
            stalls: Stalls::new(observer.clone()),
            letters: letters::Letters::default(),
            observer,
            begun,
            stop,
            ids: AttemptIds::default(),
            owned: BTreeMap::new(),
            assigned: BTreeMap::new(),
            waiting: BTreeMap::new(),
            topic: Topic::default(),
            looked: now,
            suspicious: false,
            told: BTreeMap::new(),
            later_eras: BTreeMap::new(),
            unanswered: false,
            terms_after: now,
            batch_after: now,
            asked: now,
            settled: now,
            aborts: 0,
            judged: false,
            pace,
            said,
            warned: Repeated::every(WARNED),
            pending: BTreeMap::new(),
            tidied: now,
            read_again: now,
            fault: None,
            delay,
        }
    }

    /// Runs until told to stop, then flushes what the tracker is owed and leaves the group, within `deadline`.
    pub(crate) async fn run(mut self, deadline: Duration) -> Result<(), Error> {
        // After a panic the session is still there, and is left in good order as after any other end.
        let ended = caught(self.work()).await;
        self.remember(std::iter::empty());
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
            self.look_at_threads()?;
            self.take_feedback();
            self.collect().await?;
            self.begin_terms().await?;
            if self.batch_after <= Instant::now() && self.ready() > 0 {
                self.batch().await?;
            }
            self.look_after().await?;
        }
        Ok(())
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
        let begun = Instant::now();
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
                // The one whom it asks may be lost for good: the next session begins by reading the same.
                Err(error)
                    if error.kind == ErrorKind::Retriable && begun.elapsed() >= self.settings.patience =>
                {
                    return Err(Error::Silent(format!("an attempt could not be settled: {error}")));
                }
                Err(error) if error.kind == ErrorKind::Retriable && !self.stop.is_cancelled() => {
                    self.stand(
                        None,
                        Why::Kafka,
                        format!("waiting for Kafka to settle an attempt: {error}"),
                    );
                    self.observer.beat();
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Logs a warning about something that comes again and again: once, then how often it was left out.
    fn warn(&mut self, cause: &'static str, text: std::fmt::Arguments<'_>) {
        if let Some(left_out) = self.warned.due(cause) {
            tracing::warn!(left_out, "{text}");
        }
    }

    /// A partition, or the whole lane, does not move.
    fn stand(&mut self, of: Option<&Partition>, why: Why, text: String) {
        self.stalls.stand(of, why, text, self.clock.now());
    }

    /// Fails when transforms have taken away more threads than a process can spare.
    fn look_at_threads(&self) -> Result<(), Error> {
        let abandoned = self.pool.abandoned();
        if abandoned >= MOST_ABANDONED {
            return Err(Error::Abandoned(abandoned));
        }
        Ok(())
    }

    /// What is done now and then: asking about blocking records, settling what lies below C(p).
    async fn look_after(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if now.duration_since(self.asked) >= ASK {
            self.asked = now;
            self.observer.abandoned(self.pool.abandoned());
            let blocked = self
                .owned
                .values()
                .filter(|o| o.blocked.is_some())
                .filter_map(|o| o.work.get(o.done()));
            let blocked: Vec<_> = blocked.map(|work| work.record.id.clone()).collect();
            self.observer.blocked(&blocked);
            if !blocked.is_empty() {
                self.recorder.ask(blocked);
            }
            self.look_at_logs().await?;
        }
        if now.duration_since(self.settled) >= SETTLE {
            self.settled = now;
            let _ = self.look_at_topic().await;
            self.look_back().await?;
            for (partition, owned) in &self.owned {
                self.recorder.settle(owned.position(partition));
            }
            let told = self.owned.iter().filter(|(_, o)| o.told > o.began);
            self.recorder
                .check(told.map(|(p, o)| (p.clone(), o.era, o.told)).collect());
        } else if self.suspicious && now.duration_since(self.looked) >= ASK {
            let _ = self.look_at_topic().await;
            self.look_back().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
