//! One run: processes that are started, killed, frozen, replaced and put back to work; then quiet, and the verdict.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use tokio::{
    runtime::Handle,
    task::{JoinHandle, LocalSet, spawn_local},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracker_api::{DynTracker, Partition, RecordId};

use super::{
    case::Case,
    fate::{Fate, Fates},
    kafka::{Kafka, source_topic},
    laws::Laws,
    session::SimSession,
    tracker::SimTracker,
    world::{Life, Sim, SimClock},
};
use crate::{
    clock::Clock,
    config::{Ordering, StorePayload},
    lane::{
        Lane, Observer, Parts, Settings,
        pool::{Pool, PoolSettings},
        stalls::Stall,
    },
    recorder::{self, Recorder},
    telemetry::Counts,
    transform::SourceRecord,
};

/// No transform may take longer.
const TRANSFORM_TIMEOUT: Duration = Duration::from_secs(2);
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);

/// How a run ended.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) violations: Vec<String>,
    pub(super) history: Vec<String>,
    pub(super) struck: BTreeMap<String, u32>,
    /// Records passed, and of them those that failed.
    pub(super) passed: (usize, usize),
    pub(super) rounds: u32,
    /// Records that were passed because they had succeeded before.
    pub(super) skipped: u32,
}

/// Keeps what a process says does not move.
#[derive(Debug)]
struct Told {
    sim: Arc<Sim>,
    process: usize,
}

impl Observer for Told {
    fn beat(&self) {}
    fn joined(&self, _: usize) {}
    fn stalled(&self, stalls: Vec<Stall>) {
        self.sim.world().stalls.insert(self.process, stalls);
    }
    fn transformed(&self, _: usize, _: Duration) {}
    fn transform_failed(&self, _: &str) {}
    fn committed(&self, _: &Counts, _: Duration) {}
    fn aborted(&self, _: &'static str) {}
    fn settled(&self, _: &'static str) {}
    fn abandoned(&self, _: usize) {}
    fn store_behind(&self, _: u64) {}
    fn in_flight(&self, _: usize) {}
    fn blocked(&self, _: &[RecordId]) {}
    fn lost(&self, _: u64) {}
    fn offsets_lost(&self, _: &Partition, _: u64) {}
}

/// A run under way.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) case: Arc<Case>,
    pub(super) sim: Arc<Sim>,
    settings: Arc<Settings>,
    transform: Arc<Fates>,
    stop: CancellationToken,
    /// While an operator's tool is at work, nobody starts.
    pub(super) closed: Arc<Mutex<bool>>,
}

/// A record of a random fate and one of a few keys.
fn record(rng: &mut SmallRng, partition: &Partition, offset: i64, bad: bool) -> SourceRecord {
    let fate = match rng.random_range(0..if bad { 6 } else { 20 }) {
        0 if rng.random_bool(0.5) => Fate::Refused,
        0 => Fate::Fails,
        1 => Fate::Rejected,
        2..=3 => Fate::FailsFirst(rng.random_range(1..4)),
        4..=5 => Fate::Filtered,
        6..=7 => Fate::Outputs(rng.random_range(0..4)),
        _ => Fate::Outputs(1),
    };
    fated(partition, offset, fate, rng.random_range(0..3))
}

/// A record of this fate.
pub(super) fn fated(partition: &Partition, offset: i64, fate: Fate, key: u8) -> SourceRecord {
    SourceRecord {
        id: partition.at(offset),
        timestamp: Some(0),
        key: Some(Bytes::from(format!("key-{key}"))),
        value: Some(fate.value()),
        headers: Vec::new(),
    }
}

impl Run {
    /// A run over these records; `None` draws them.
    pub(super) fn new(
        case: Case,
        source: Option<BTreeMap<Partition, Vec<SourceRecord>>>,
        with_history: bool,
    ) -> Self {
        let mut rng = SmallRng::seed_from_u64(case.seed ^ 0x5eed);
        let source = source.unwrap_or_else(|| {
            let partitions = (0..case.partitions).map(|n| Partition::new(source_topic(), n));
            partitions.map(|p| (p, Vec::new())).collect()
        });
        let kafka = Kafka::new(source);
        let mut laws = Laws::new(case.rules());
        let mut skip = BTreeSet::new();
        if rng.random_bool(0.2) {
            skip.extend((0..3).map(|_| Partition::new(source_topic(), 0).at(rng.random_range(0..9))));
        }
        laws.named.extend(skip.iter().cloned());
        let sim = Sim::new(case.seed, kafka, laws, with_history);
        {
            let mut world = sim.world();
            world.rate = case.rate;
            world.store_rate = case.store_rate;
            world.bias = case.bias;
            world.recycles = case.recycles;
            world.cost = case.cost;
            world.refuses = case.capture == StorePayload::Bytes;
        }
        Self {
            settings: Arc::new(case.settings(skip)),
            transform: Arc::new(Fates {
                sim: sim.clone(),
                tries: Arc::default(),
                timeout: TRANSFORM_TIMEOUT,
            }),
            stop: CancellationToken::new(),
            closed: Arc::default(),
            case: Arc::new(case),
            sim,
        }
    }

    /// One process, from start to end; it is dead when this returns.
    pub(super) async fn process(self, process: usize) {
        let sim = self.sim.clone();
        let who = format!("p{process}");
        sim.log(&who, || format!("starts in slot {}", sim.slot(process)));
        tokio::select! {
            biased;
            () = sim.death(process) => sim.log(&who, || "dies".to_owned()),
            ended = self.live(process) => sim.log(&who, || format!("ends: {ended:?}")),
        }
        // Its tasks may live on in this runtime; nothing of them reaches the outside any more.
        sim.set_life(process, Life::Dead);
    }

    async fn live(self, process: usize) -> Result<(), crate::lane::Error> {
        let drawn = self.case.tracking.choose(&mut self.sim.world().rng).copied();
        let tracking = drawn.unwrap_or_default();
        let session = SimSession::open(self.sim.clone(), process, self.case.is_static, tracking).await;
        let skew = self.case.skews[self.sim.slot(process)];
        let clock = Arc::new(SimClock {
            sim: self.sim.clone(),
            skew,
        });
        let store: DynTracker = SimTracker::store(self.sim.clone(), process);
        let fallback: Option<DynTracker> = if self.case.fallback {
            Some(SimTracker::fallback(self.sim.clone(), process))
        } else {
            None
        };
        let settings = recorder::Settings {
            tracking,
            on_store_failure: self.case.on_store_failure,
            capture: self.case.capture,
            capture_on_failure_only: true,
            store_mark: 0,
            skip_succeeded: self.case.skip_succeeded,
        };
        if let Some(fallback) = fallback.clone() {
            spawn_local(crate::resilience::fallback::run(store.clone(), fallback));
        }
        let (recorder, feedback) =
            Recorder::new(settings, Some(store), fallback, Handle::current(), clock.clone());
        let pool = PoolSettings {
            concurrency: 4,
            timeout: TRANSFORM_TIMEOUT,
            ordering: Ordering::Key,
        };
        let lane = Lane::new(Parts {
            session,
            pool: Arc::new(Pool::new(self.transform.clone(), Handle::current(), pool)),
            journal: Arc::default(),
            recorder,
            feedback,
            settings: self.settings.clone(),
            clock,
            observer: Arc::new(Told {
                sim: self.sim.clone(),
                process,
            }),
            begun: self.sim.begun[self.sim.slot(process)].clone(),
            stop: self.stop.clone(),
        });
        lane.run(Duration::from_secs(25)).await
    }

    /// Starts a process in a slot.
    pub(super) fn start(&self, slot: usize) -> (usize, JoinHandle<()>) {
        let process = self.sim.spawn(slot);
        (process, spawn_local(self.clone().process(process)))
    }

    /// Keeps a slot alive: what ends is started again, what is handed over is left to itself.
    async fn supervise(self, slot: usize) {
        while !self.stop.is_cancelled() {
            if *self.closed.lock().unwrap() {
                sleep(Duration::from_millis(200)).await;
                continue;
            }
            let (process, mut task) = self.start(slot);
            tokio::select! {
                biased;
                _ = &mut task => {}
                () = self.sim.handover(process) => continue,
            }
            let pause = self.sim.world().rng.random_range(10..4_000);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {}
                () = sleep(Duration::from_millis(pause)) => {}
            }
        }
    }

    /// What goes on without anybody's doing: heartbeats, rebalances, transactions that run out of time.
    pub(super) async fn tick(self) {
        loop {
            sleep(Duration::from_millis(250)).await;
            let mut world = self.sim.world();
            let super::world::World {
                kafka,
                rng,
                processes,
                ..
            } = &mut *world;
            let lives = |process: usize| processes[process].life == Life::Running;
            kafka.group.heartbeats(lives, SESSION_TIMEOUT, rng);
            if kafka.group.unbalanced && rng.random_bool(0.6) {
                kafka.group.rebalance(rng);
            }
            if let Some(before) = Instant::now().checked_sub(TRANSACTION_TIMEOUT) {
                kafka.expire(before);
            }
            drop(world);
            self.sim.stir();
        }
    }

    pub(super) fn any(&self, life: Life) -> Option<usize> {
        let mut world = self.sim.world();
        let of: Vec<usize> = (0..world.processes.len())
            .filter(|p| world.processes[*p].life == life)
            .collect();
        of.choose(&mut world.rng).copied()
    }

    pub(super) fn draw(&self, range: std::ops::Range<u64>) -> u64 {
        self.sim.world().rng.random_range(range)
    }

    /// New records in the source, with gaps between the offsets as markers leave them.
    pub(super) fn produce(&self, count: usize) {
        let clock = SimClock {
            sim: self.sim.clone(),
            skew: 0,
        };
        let at = clock.now().0;
        let mut world = self.sim.world();
        let super::world::World { kafka, rng, .. } = &mut *world;
        let partitions: Vec<Partition> = kafka.source.keys().cloned().collect();
        for _ in 0..count {
            let Some(partition) = partitions.choose(rng) else {
                return;
            };
            let offset = kafka.end_of(partition) + i64::from(rng.random_bool(0.2));
            kafka.append(SourceRecord {
                timestamp: Some(if self.case.recreates { at } else { 0 }),
                ..record(rng, partition, offset, self.case.bad)
            });
        }
        if let Some(partition) = partitions.choose(rng).filter(|_| rng.random_bool(0.5)) {
            let offset = kafka.end_of(partition);
            kafka.append_aborted(record(rng, partition, offset, self.case.bad));
            kafka.mark(partition, rng.random_range(1..4));
        }
    }

    pub(super) async fn end(&self, tasks: Vec<JoinHandle<()>>) {
        self.stop.cancel();
        for task in tasks {
            let _ = task.await;
        }
    }
}

/// Runs `body` on one thread in paused time.
pub(super) fn in_paused_time<R>(body: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = runtime.expect("a current-thread runtime");
    LocalSet::new().block_on(&runtime, body)
}

/// Runs a case to its end.
pub(super) fn run(case: Case, with_history: bool) -> Verdict {
    in_paused_time(async move {
        let clean = case.is_clean();
        let slots = case.slots;
        let run = Run::new(case, None, with_history);
        run.produce(8);
        let ticking = spawn_local(run.clone().tick());
        let tasks: Vec<_> = (0..slots)
            .map(|slot| spawn_local(run.clone().supervise(slot)))
            .collect();
        run.clone().nemesis().await;
        run.heal().await;
        run.end(tasks).await;
        ticking.abort();
        run.judge(clean).await
    })
}
