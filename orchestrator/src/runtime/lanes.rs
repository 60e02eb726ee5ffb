use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{runtime::Handle, sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracker_api::DynTracker;

use super::{Error, watch::Watch};
use crate::{
    begun::Begun,
    clock::Clock,
    config::Settings,
    http::Health,
    kafka::{self, ErrorKind, KafkaCustomizer, KafkaSession, Stats},
    lane::{
        self, Backoff, Lane, Observer, Parts,
        pool::{Pool, PoolSettings},
    },
    recorder::{self, Recorder},
    transform::Transform,
};

/// A lane whose session breaks is given a new one, unless it breaks so often within [`WINDOW`].
const MOST_BREAKS: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// The longest wait of a lane that Kafka refuses: how long it may stand after that was mended.
const MOST_REFUSED: Duration = Duration::from_secs(30);
/// Threads that transforms hold and never give back, before the process ends so that it can be started anew.
const MOST_ABANDONED: usize = 64;

/// Brokers look for transactions that ran out of time every ten seconds by default, and then write their markers.
const HANGING_MARGIN: Duration = Duration::from_secs(15);

/// What all lanes share.
pub(super) struct Shared<T> {
    pub(super) settings: Settings,
    pub(super) transform: Arc<T>,
    pub(super) kafka: Arc<kafka::Settings>,
    pub(super) customizer: Option<Arc<dyn KafkaCustomizer>>,
    /// What notes call `store`.
    pub(super) mark: u32,
    /// What the data directory knows of the group's positions.
    pub(super) begun: Arc<Begun>,
    pub(super) store: Option<DynTracker>,
    pub(super) fallback: Option<DynTracker>,
    /// Where stores are called.
    pub(super) stores: Handle,
    /// Where user code runs.
    pub(super) users: Handle,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) health: Health,
    pub(super) stop: CancellationToken,
    pub(super) ended: mpsc::UnboundedSender<Ended>,
    pub(super) deadline: Duration,
}

/// A lane's end.
#[derive(Debug)]
pub(super) struct Ended {
    lane: usize,
    result: Result<(), lane::Error>,
    abandoned: bool,
}

impl Ended {
    /// What the whole service ends with, because this lane did.
    pub(super) fn outcome(self) -> Result<(), Error> {
        let lane = self.lane;
        if self.abandoned {
            let why = format!(
                "lane {lane}: {MOST_ABANDONED} threads are held by transforms that never return; start the service anew"
            );
            return Err(Error::Failed(why));
        }
        match self.result {
            Ok(()) => Ok(()),
            Err(error @ lane::Error::Fenced(_)) => Err(Error::Fenced(error)),
            Err(lane::Error::Kafka(error)) if error.kind == ErrorKind::Refused => {
                Err(Error::Config(format!("lane {lane}: {error}")))
            }
            Err(error) => Err(Error::Failed(format!("lane {lane}: {error}"))),
        }
    }
}

/// The threads of the lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    threads: Vec<JoinHandle<()>>,
    deadline: Duration,
}

impl Lanes {
    /// Starts `concurrency` lanes, each on a thread of its own.
    pub(super) fn start<T: Transform>(shared: Shared<T>) -> io::Result<Self> {
        let (lanes, deadline) = (shared.settings.concurrency, shared.deadline);
        let shared = Arc::new(shared);
        let mut threads = Vec::with_capacity(lanes);
        for lane in 0..lanes {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let shared = shared.clone();
            let body = move || {
                let (result, abandoned) = runtime.block_on(supervise(&shared, lane));
                if let Err(error) = &result {
                    tracing::error!(lane, %error, "a lane ended");
                }
                let _ = shared.ended.send(Ended {
                    lane,
                    result,
                    abandoned,
                });
            };
            threads.push(thread::Builder::new().name(format!("lane-{lane}")).spawn(body)?);
        }
        Ok(Self { threads, deadline })
    }

    #[cfg(test)]
    pub(super) fn none(deadline: Duration) -> Self {
        let threads = Vec::new();
        Self { threads, deadline }
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Joins the threads that are over; one that is stuck in a client ends with the process.
    pub(super) fn join_finished(self) {
        for thread in self.threads {
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}

/// Runs one lane, with a new session when the old one breaks.
async fn supervise<T: Transform>(shared: &Shared<T>, lane: usize) -> (Result<(), lane::Error>, bool) {
    let stats = Arc::new(Stats::default());
    let watch: Arc<dyn Observer> = Arc::new(Watch::new(lane, shared.health.clone(), stats.clone()));
    let settings = &shared.settings;
    let pool = Pool::new(
        shared.transform.clone(),
        shared.users.clone(),
        pool_settings(settings),
    );
    let pool = Arc::new(pool);
    let mut breaks: Vec<Instant> = Vec::new();
    let customizer = shared.customizer.as_deref();
    let lane_settings = match shared.kafka.max_message_bytes(lane, customizer) {
        Ok(largest) => Arc::new(lane_settings(settings, largest, shared.transform.topics())),
        Err(error) => return (Err(error.into()), false),
    };
    let mut sessions: u32 = 0;
    let mut refusals: u32 = 0;
    loop {
        let session = match connect(shared, lane, &stats).await {
            Ok(Some(session)) => session,
            Ok(None) => return (Ok(()), false),
            Err(lane::Error::Kafka(error)) if sessions > 0 && error.kind == ErrorKind::Refused => {
                refused(shared, lane, &error, &mut refusals).await;
                continue;
            }
            Err(error) => return (Err(error), false),
        };
        sessions += 1;
        let begun = Instant::now();
        let (recorder, feedback) = Recorder::new(
            recorder_settings(settings, shared.mark),
            shared.store.clone(),
            shared.fallback.clone(),
            shared.stores.clone(),
            shared.clock.clone(),
        );
        let parts = Parts {
            session,
            pool: pool.clone(),
            recorder,
            feedback,
            settings: lane_settings.clone(),
            clock: shared.clock.clone(),
            observer: watch.clone(),
            begun: shared.begun.clone(),
            stop: shared.stop.clone(),
        };
        let ended = Lane::new(parts).run(shared.deadline).await;
        watch.joined(0);
        watch.stalled(Vec::new());
        if pool.abandoned() >= MOST_ABANDONED {
            return (ended, true);
        }
        let error = match ended {
            Ok(()) => return (Ok(()), false),
            // Whatever is open is settled by the next owner.
            Err(lane::Error::Kafka(_)) if shared.stop.is_cancelled() => return (Ok(()), false),
            Err(lane::Error::Kafka(error)) if error.kind == ErrorKind::Refused => {
                if begun.elapsed() >= WINDOW {
                    refusals = 0;
                }
                refused(shared, lane, &error, &mut refusals).await;
                continue;
            }
            Err(lane::Error::Kafka(error)) => error,
            Err(error) => return (Err(error), false),
        };
        breaks.retain(|at| at.elapsed() < WINDOW);
        breaks.push(Instant::now());
        if breaks.len() > MOST_BREAKS {
            return (Err(lane::Error::Kafka(error)), false);
        }
        tracing::error!(lane, %error, "the session broke; the lane gets a new one");
        let why = format!("the session broke: {error}");
        shared.health.reason(lane, Some(why));
        pause(&shared.stop, Duration::from_secs(1 << breaks.len())).await;
    }
}

/// What Kafka took at the start and refuses now (a permission was withdrawn, a password changed) it may take again: the lane
/// says what it waits for, and begins anew. A start that is refused ends instead: see [`connect`].
pub(super) async fn refused<T>(shared: &Shared<T>, lane: usize, error: &kafka::Error, refusals: &mut u32) {
    tracing::error!(lane, %error, "Kafka refuses the lane; it begins anew until it is let");
    shared
        .health
        .reason(lane, Some(format!("Kafka refuses it: {error}")));
    let wait = Duration::from_secs(1 << (*refusals).min(5));
    *refusals += 1;
    pause(&shared.stop, wait.min(MOST_REFUSED)).await;
}

/// A session; tried again while the broker is away. None: told to stop meanwhile.
async fn connect<T>(
    shared: &Shared<T>,
    lane: usize,
    stats: &Arc<Stats>,
) -> Result<Option<KafkaSession>, lane::Error> {
    let mut wait = Duration::from_millis(250);
    while !shared.stop.is_cancelled() {
        match KafkaSession::connect(&shared.kafka, lane, shared.customizer.as_deref(), stats.clone()) {
            Ok(session) => {
                shared.health.reason(lane, None);
                return Ok(Some(session));
            }
            Err(error) if error.kind == ErrorKind::Retriable => {
                tracing::warn!(lane, %error, "waiting for Kafka");
                let why = format!("waiting for Kafka: {error}");
                shared.health.reason(lane, Some(why));
                pause(&shared.stop, wait).await;
                wait = (wait * 2).min(Duration::from_secs(10));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

async fn pause(stop: &CancellationToken, wait: Duration) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(wait) => {}
    }
}

pub(super) fn pool_settings(settings: &Settings) -> PoolSettings {
    PoolSettings {
        concurrency: settings.transforms.concurrency,
        timeout: settings.transforms.timeout,
        ordering: settings.transforms.ordering,
    }
}

pub(super) fn recorder_settings(settings: &Settings, store_mark: u32) -> recorder::Settings {
    recorder::Settings {
        tracking: settings.tracking,
        on_store_failure: settings.store.on_failure,
        capture: settings.payload.form,
        capture_on_failure_only: settings.payload.on_failure_only,
        store_mark,
        skip_succeeded: settings.outbox_skip_succeeded,
    }
}

pub(super) fn lane_settings(
    settings: &Settings,
    max_message_bytes: usize,
    declared: Vec<Arc<str>>,
) -> lane::Settings {
    lane::Settings {
        group: settings.group_id.as_str().into(),
        bootstrap: settings.bootstrap_servers.as_str().into(),
        source: settings.source_topic.clone(),
        target: settings.target_topic.clone(),
        declared: declared.into_iter().collect(),
        dead_letter: settings.dead_letter_topic.clone(),
        dead_letter_headers: settings.dead_letter_headers,
        failure_mode: settings.failure_mode,
        initial_offset: settings.initial_offset,
        on_unreadable: settings.on_unreadable,
        hanging_after: settings.kafka.transaction_timeout + HANGING_MARGIN,
        max_attempts: settings.retry.max_attempts,
        backoff: Backoff {
            first: settings.retry.backoff,
            most: settings.retry.max_backoff,
        },
        batch_records: settings.batch.records,
        batch_bytes: settings.batch.bytes,
        transaction_timeout: settings.kafka.transaction_timeout,
        delay: settings.batch.min_delay..=settings.batch.max_delay,
        max_message_bytes,
        skip: settings.skip.iter().cloned().collect(),
    }
}
