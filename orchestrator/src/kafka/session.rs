use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use tracker_api::Partition;

use super::{
    Aborted, Attempt, ClientKind, Committed, Error, ErrorKind, KafkaCustomizer, Log, Polled, Position,
    Positions, Result, Session, Settings, Settled, Silent, Stats, Topic, consumer::Consumer,
    lane_producer::LaneProducer, limits::Limits, native, presence::Presence, reader, transact,
};

/// The oldest librdkafka whose transactions lose nothing that we know of.
const OLDEST: (i32, &str) = (0x02_0c_01_ff, "2.12.1");

/// How often lag and presence are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How long a first connection may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// One lane's consumer and producer. All calls block: a lane has a thread of its own.
pub struct KafkaSession {
    pub(super) consumer: Consumer,
    pub(super) producer: LaneProducer,
    /// C(p), as far as this session committed or started it.
    pub(super) positions: BTreeMap<Partition, i64>,
    /// What topics take.
    pub(super) limits: Limits,
    pub(super) stats: Arc<Stats>,
    pub(super) transaction_timeout: Duration,
    /// How long an attempt may take up to its commit, and how long the commit.
    pub(super) call_limit: Duration,
    /// A call of this length may hide a request that was sent twice.
    pub(super) slow: Duration,
    /// When lag and presence were last looked at.
    looked: Instant,
    presence: Presence,
    silent: Option<Silent>,
}

impl fmt::Debug for KafkaSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSession")
            .field("positions", &self.positions)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl KafkaSession {
    /// Creates the producer, fences the predecessor with the same transactional id and ends its open transaction; then
    /// subscribes. `Retriable` when Kafka is away: nothing is left behind, call again.
    pub fn connect(
        settings: &Settings,
        lane: usize,
        customizer: Option<&dyn KafkaCustomizer>,
        stats: Arc<Stats>,
    ) -> Result<Self> {
        check_version()?;
        if settings.source_topic.starts_with('^') {
            return Err(Error {
                kind: ErrorKind::Refused,
                message: format!("`{}` is a pattern: name one source topic", settings.source_topic),
            });
        }
        let wanted = settings.client(ClientKind::Consumer { lane }, customizer)?;
        native::check(&wanted)?;
        let mut producer = LaneProducer::new(settings, lane, customizer, stats.clone())?;
        let slow = producer.backoff().mul_f64(0.8);
        producer.ready_within(PATIENCE)?;
        let millis = |key| wanted.millis(key).map(Duration::from_millis);
        // What a session before this one knew.
        stats.lags(Vec::new());
        let consumer = Consumer::subscribe(&wanted, &settings.source_topic, settings.max_poll_bytes)?;
        Ok(Self {
            consumer,
            limits: Limits::new(producer.settings()),
            producer,
            positions: BTreeMap::new(),
            stats,
            transaction_timeout: settings.transaction_timeout,
            call_limit: settings.call_limit(),
            slow,
            looked: Instant::now(),
            presence: Presence::new(
                millis("session.timeout.ms").unwrap_or(settings.session_timeout),
                millis("max.poll.interval.ms").unwrap_or(settings.max_poll_interval),
                Instant::now(),
            ),
            silent: None,
        })
    }

    /// Offsets between C(p) and the last stable offset of each started partition; none where no broker said lately where
    /// that is. Asks nobody.
    pub fn lag(&self) -> Vec<(Partition, Option<i64>)> {
        let stable: BTreeMap<&Partition, i64> = self
            .consumer
            .logs()
            .map(|(partition, log)| (partition, log.stable))
            .collect();
        self.consumer
            .started()
            .map(|partition| {
                let position = self.positions.get(partition);
                let lag = stable
                    .get(partition)
                    .zip(position)
                    .map(|(stable, at)| (stable - at).max(0));
                (partition.clone(), lag)
            })
            .collect()
    }
}

/// What an error of the consumer means for the session.
pub(super) fn read(consumer: &Consumer, error: Error) -> Error {
    if error.kind == ErrorKind::Fenced {
        consumer.hear_out();
    }
    consumer.coordinator().read(error, Instant::now())
}

/// Refuses a librdkafka that was linked at run time and is too old.
fn check_version() -> Result<()> {
    let (version, text) = rdkafka::util::get_rdkafka_version();
    if version >= OLDEST.0 {
        return Ok(());
    }
    Err(Error {
        kind: ErrorKind::Refused,
        message: format!(
            "librdkafka {text} loses records in ways that {} does not: link that or a later one",
            OLDEST.1
        ),
    })
}

impl Positions for KafkaSession {
    async fn positions(&mut self, of: &[Partition]) -> Result<Vec<Option<Position>>> {
        self.consumer.positions(of)
    }

    async fn topic(&mut self, name: &str) -> Result<Topic> {
        reader::topic(self.consumer.client(), name)
    }

    async fn partitions(&mut self, topic: &str) -> Result<Vec<Partition>> {
        reader::partitions(self.consumer.client(), topic)
    }

    async fn bounds(&mut self, of: &[Partition]) -> Result<Vec<Range<i64>>> {
        reader::bounds(self.consumer.client(), of)
    }
}

impl Session for KafkaSession {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Polled> {
        let mut polled = self
            .consumer
            .poll(max, wait)
            .map_err(|error| read(&self.consumer, error))?;
        self.stats.refused(self.consumer.refusal(&polled));
        self.producer.look();
        self.consumer.look();
        let now = Instant::now();
        if now.duration_since(self.looked) >= LOOK {
            self.looked = now;
            self.stats.lags(self.lag());
            let is_member = native::GroupMetadata::of(self.consumer.client()).is_some();
            let coordinator = self.consumer.coordinator().last();
            self.silent = self.presence.look(now, is_member, coordinator);
        }
        polled.silent = self.silent.clone();
        Ok(polled)
    }

    async fn start(&mut self, at: &[Position]) -> Result<()> {
        self.consumer.start(at)?;
        for position in at {
            if let Some(offset) = position.offset {
                self.positions.insert(position.partition.clone(), offset);
            }
        }
        Ok(())
    }

    async fn rewind(&mut self, at: &[Position]) -> Result<()> {
        self.consumer.rewind(at)
    }

    async fn hold(&mut self, partitions: &[Partition], on: bool) -> Result<()> {
        self.consumer.hold(partitions, on)
    }

    fn reached(&mut self) -> Vec<(Partition, i64)> {
        self.consumer.reached()
    }

    fn logs(&mut self) -> Vec<(Partition, Log)> {
        self.consumer
            .logs()
            .map(|(partition, log)| (partition.clone(), log))
            .collect()
    }

    async fn transact(&mut self, attempt: &Attempt) -> std::result::Result<Committed, Aborted> {
        transact::transact(self, attempt)
    }

    async fn settle(&mut self, attempt: &Attempt) -> Result<Settled> {
        transact::settle(self, attempt)
    }

    /// A consumer that hangs while it closes (its topic deleted, its broker away) is left behind at the deadline.
    async fn close(self, deadline: Duration) {
        let (done, closed) = mpsc::channel::<()>();
        let close = move || {
            let Self {
                consumer, producer, ..
            } = self;
            drop(producer);
            drop(consumer);
            drop(done);
        };
        // Without a thread the clients are closed by the closure's drop, here: late, but in good order.
        let started = thread::Builder::new().name("kafka-close".into()).spawn(close);
        if started.is_ok() && closed.recv_timeout(deadline) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("the Kafka session did not close within {deadline:?} and is left behind");
        }
    }
}
