//! What all simulated processes share: the broker, the stores, one source of chance, the lives, the history.

use std::{
    collections::BTreeMap,
    fmt,
    future::pending,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tracker_api::{AttemptId, MemoryTracker, Partition, Timestamp};
use uuid::Uuid;

use super::{
    faults::{Planned, Step, Strike},
    group::Metadata,
    kafka::{Fault, Kafka, Open},
    laws::{Laws, Stores},
};
use crate::{begun::Begun, clock::Clock, lane::stalls::Stall};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Running,
    Frozen,
    Dead,
}

/// One process, from its start to its death.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pub(super) slot: usize,
    pub(super) life: Life,
    /// Its slot has another process.
    pub(super) handed_over: bool,
}

/// How the store behaves as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weather {
    Fair,
    /// Every call is refused at once.
    Down,
    /// Calls are taken and not answered.
    Silent,
}

pub(super) struct World {
    pub(super) kafka: Kafka,
    pub(super) laws: Laws,
    pub(super) rng: SmallRng,
    pub(super) processes: Vec<Process>,
    /// The chance of a fault at a step.
    pub(super) rate: f64,
    /// The chance of a fault in a call to a store.
    pub(super) store_rate: f64,
    /// Where faults strike ten times as often.
    pub(super) bias: Option<Step>,
    pub(super) plan: Vec<Planned>,
    pub(super) weather: Weather,
    pub(super) fallback_weather: Weather,
    /// How often each fault struck.
    pub(super) struck: BTreeMap<String, u32>,
    /// Whether the store refuses some captured bytes.
    pub(super) refuses: bool,
    /// Whether the recycle rule is kept.
    pub(super) recycles: bool,
    /// How long the brokers take for each record of a transaction.
    pub(super) cost: Duration,
    /// What each process says does not move.
    pub(super) stalls: BTreeMap<usize, Vec<Stall>>,
    history: Option<Vec<String>>,
}

/// The simulation, as every part of it holds it.
pub(super) struct Sim {
    world: Mutex<World>,
    changed: Notify,
    origin: Instant,
    pub(super) store: MemoryTracker,
    /// Each slot has its own, which outlives its processes.
    pub(super) fallbacks: Vec<MemoryTracker>,
    pub(super) begun: Vec<Arc<Begun>>,
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sim")
    }
}

/// Whoever waits for nothing any more.
async fn dead() -> ! {
    pending::<()>().await;
    unreachable!("a dead process does not go on")
}

impl Sim {
    pub(super) fn new(seed: u64, kafka: Kafka, laws: Laws, with_history: bool) -> Arc<Self> {
        let world = World {
            kafka,
            laws,
            rng: SmallRng::seed_from_u64(seed),
            processes: Vec::new(),
            rate: 0.0,
            store_rate: 0.0,
            bias: None,
            plan: Vec::new(),
            weather: Weather::Fair,
            fallback_weather: Weather::Fair,
            struck: BTreeMap::new(),
            refuses: false,
            recycles: true,
            cost: Duration::ZERO,
            stalls: BTreeMap::new(),
            history: with_history.then(Vec::new),
        };
        Arc::new(Self {
            world: Mutex::new(world),
            changed: Notify::new(),
            origin: Instant::now(),
            store: MemoryTracker::default(),
            fallbacks: (0..4).map(|_| MemoryTracker::default()).collect(),
            begun: (0..4).map(|_| Begun::forgetful()).collect(),
        })
    }

    /// The world. Never held across an await.
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the simulation began.
    pub(super) fn elapsed(&self) -> u128 {
        self.origin.elapsed().as_millis()
    }

    /// Tells everybody who waits that something has changed.
    pub(super) fn stir(&self) {
        self.changed.notify_waiters();
    }

    /// Waits until something changes, at most so long.
    pub(super) async fn wait(&self, most: Duration) {
        let _ = tokio::time::timeout(most, self.changed.notified()).await;
    }

    pub(super) fn log(&self, who: &str, what: impl FnOnce() -> String) {
        if self.world().history.is_none() {
            return;
        }
        let line = format!("{:>7} {who:<5} {}", self.elapsed(), what());
        self.world().history.get_or_insert_default().push(line);
    }

    pub(super) fn history(&self) -> Vec<String> {
        self.world().history.clone().unwrap_or_default()
    }

    /// Everybody who is frozen goes on.
    pub(super) fn thaw(&self) {
        for process in &mut self.world().processes {
            if process.life == Life::Frozen {
                process.life = Life::Running;
            }
        }
        self.stir();
    }

    /// A new process in a slot.
    pub(super) fn spawn(&self, slot: usize) -> usize {
        let mut world = self.world();
        world.processes.push(Process {
            slot,
            life: Life::Running,
            handed_over: false,
        });
        world.processes.len() - 1
    }

    pub(super) fn life(&self, process: usize) -> Life {
        self.world().processes[process].life
    }

    pub(super) fn slot(&self, process: usize) -> usize {
        self.world().processes[process].slot
    }

    pub(super) fn set_life(&self, process: usize, life: Life) {
        let held = &mut self.world().processes[process].life;
        if *held != Life::Dead {
            *held = life;
        }
        self.stir();
    }

    /// Waits until a process is dead.
    pub(super) async fn death(&self, process: usize) {
        self.until(|sim| sim.life(process) == Life::Dead).await;
    }

    /// Another process takes over the slot while this one still lives.
    pub(super) fn hand_over(&self, process: usize) {
        self.world().processes[process].handed_over = true;
        self.stir();
    }

    /// Waits until a process is handed over.
    pub(super) async fn handover(&self, process: usize) {
        self.until(|sim| sim.world().processes[process].handed_over).await;
    }

    async fn until(&self, reached: impl Fn(&Self) -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if reached(self) {
                return;
            }
            changed.await;
        }
    }

    /// The coordinator gives up the members of a process.
    pub(super) fn evict(&self, process: usize) {
        let mut world = self.world();
        for member in world.kafka.group.members_of(process) {
            world.kafka.group.remove(&member);
        }
    }

    /// Stops a process for a while.
    pub(super) fn freeze(self: &Arc<Self>, process: usize, span: Duration) {
        self.set_life(process, Life::Frozen);
        let sim = self.clone();
        tokio::spawn(async move {
            sleep(span).await;
            sim.set_life(process, Life::Running);
        });
    }

    /// Lets a process go on only while it runs. Every call to the outside passes here, on its way out and back.
    pub(super) async fn gate(&self, process: usize) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.life(process) {
                Life::Running => return,
                Life::Frozen => changed.await,
                Life::Dead => dead().await,
            }
        }
    }

    /// What strikes a process at a step. What concerns the process as a whole has happened when this returns; the rest
    /// is for the caller to do.
    pub(super) async fn step(self: &Arc<Self>, process: usize, step: Step, weight: f64) -> Strike {
        self.gate(process).await;
        let strike = self.world().draw(process, step, weight);
        if strike == Strike::Nothing {
            return strike;
        }
        self.log(&format!("p{process}"), || format!("!! {strike:?} at {step:?}"));
        match strike {
            Strike::Slow(span) => sleep(span).await,
            Strike::Crash => self.set_life(process, Life::Dead),
            Strike::Freeze(span) => self.freeze(process, span),
            Strike::Evict => self.evict(process),
            _ => {}
        }
        self.gate(process).await;
        strike
    }

    /// A commit is applied: the laws look at it first.
    pub(super) fn apply(&self, open: Open) {
        self.log("kafka", || {
            let advance: Vec<String> = open
                .offsets
                .iter()
                .map(|(p, (next, note))| format!("{p}->{next} [{note}]"))
                .collect();
            format!(
                "commit {} with {} records: {}",
                short(open.attempt),
                open.sends.len(),
                advance.join(", ")
            )
        });
        let mut world = self.world();
        let World { kafka, laws, .. } = &mut *world;
        laws.at_commit(
            kafka,
            &open,
            &Stores {
                store: &self.store,
                fallbacks: &self.fallbacks,
            },
        );
        kafka.apply(open);
        drop(world);
        self.stir();
    }

    /// EndTxn arrives at the coordinator.
    pub(super) fn end(&self, id: &str, epoch: u32, commit: bool) -> Result<(), Fault> {
        let ended = self.world().kafka.end(id, epoch, commit)?;
        if let Some(open) = ended {
            self.apply(open);
        }
        self.stir();
        Ok(())
    }

    /// A copy of an EndTxn arrives late.
    pub(super) fn end_late(self: &Arc<Self>, id: &str, epoch: u32, commit: bool, span: Duration) {
        let (sim, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            sleep(span).await;
            let answer = sim.end(&id, epoch, commit);
            sim.log("kafka", || {
                format!("late EndTxn(commit: {commit}) of {id} epoch {epoch}: {answer:?}")
            });
        });
    }

    /// A copy of a TxnOffsetCommit arrives late.
    pub(super) fn offsets_late(
        self: &Arc<Self>,
        (id, epoch, attempt): (&str, u32, AttemptId),
        metadata: &Metadata,
        offsets: &BTreeMap<Partition, (i64, String)>,
        span: Duration,
    ) {
        let (sim, id, metadata, offsets) = (self.clone(), id.to_owned(), metadata.clone(), offsets.clone());
        tokio::spawn(async move {
            sleep(span).await;
            let answer = sim
                .world()
                .kafka
                .offsets(&id, epoch, attempt, &metadata, &offsets);
            sim.log("kafka", || {
                format!("late TxnOffsetCommit of {id} epoch {epoch}: {answer:?}")
            });
        });
    }
}

/// An attempt's id, short enough for a line.
pub(super) fn short(attempt: AttemptId) -> String {
    let text = attempt.to_string();
    text.get(4..16).unwrap_or(&text).to_owned()
}

/// The wall clock of one process: the simulation's time, skewed; ids from the simulation's chance.
#[derive(Debug)]
pub(super) struct SimClock {
    pub(super) sim: Arc<Sim>,
    pub(super) skew: i64,
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.sim.elapsed()).unwrap_or(i64::MAX);
        Timestamp(1_900_000_000_000 + self.skew + elapsed)
    }

    fn fresh(&self) -> Uuid {
        let millis = u64::try_from(self.now().0).unwrap_or_default();
        let mut random = [0; 10];
        self.sim.world().rng.fill(&mut random);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}
