use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};
use tracker_api::Partition;

use crate::{lane::stalls::Stall, resilience, telemetry};

/// Where the service is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Phase {
    /// Lanes are being made.
    Starting = 0,
    /// Lanes run.
    Ready = 1,
    /// Finishing what is under way; nothing new is begun.
    Draining = 2,
    /// Over.
    Stopped = 3,
}

/// An answer with its reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it is so.
    pub ok: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// What a person should know although it is so.
    pub notes: Vec<String>,
}

/// What the lanes and the runtime say of themselves, and what probes read. Cheap to clone, and to write to.
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    born: Instant,
    beat_limit: Duration,
    phase: AtomicU8,
    lanes: Vec<Lane>,
    store: OnceLock<watch::Receiver<resilience::State>>,
    store_note: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Lane {
    /// Milliseconds after `born`, plus 1; 0 before the first beat.
    beat: AtomicU64,
    /// `NOT_JOINED` before the first assignment.
    partitions: AtomicUsize,
    reason: Mutex<Option<String>>,
    refused: Mutex<Option<String>>,
    stalls: Mutex<Vec<Stall>>,
    lag: Mutex<Vec<(Partition, Option<i64>)>>,
}

const NOT_JOINED: usize = usize::MAX;

impl Health {
    /// Of a service with `lanes` lanes, each of which must [`beat`](Self::beat) within `beat_limit` (0.8 of
    /// `max.poll.interval.ms`) once it has begun to.
    pub fn new(lanes: usize, beat_limit: Duration) -> Self {
        let lane = |_| Lane {
            beat: AtomicU64::new(0),
            partitions: AtomicUsize::new(NOT_JOINED),
            reason: Mutex::default(),
            refused: Mutex::default(),
            stalls: Mutex::default(),
            lag: Mutex::default(),
        };
        Self(Arc::new(Inner {
            born: Instant::now(),
            beat_limit,
            phase: AtomicU8::new(0),
            lanes: (0..lanes).map(lane).collect(),
            store: OnceLock::new(),
            store_note: Mutex::default(),
        }))
    }

    /// The service enters a phase.
    pub fn phase(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Relaxed);
    }

    /// The phase that the service is in.
    pub fn current(&self) -> Phase {
        match self.0.phase.load(Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            2 => Phase::Draining,
            _ => Phase::Stopped,
        }
    }

    /// Lane `lane` is alive: called at every turn of its loop, and in every wait.
    pub fn beat(&self, lane: usize) {
        if let Some(lane) = self.0.lanes.get(lane) {
            lane.beat.store(self.age() + 1, Relaxed);
        }
    }

    /// Lane `lane` owns `partitions` partitions now. None is fine: it stands by.
    pub fn joined(&self, lane: usize, partitions: usize) {
        if let Some(state) = self.0.lanes.get(lane) {
            state.partitions.store(partitions.min(NOT_JOINED - 1), Relaxed);
            telemetry::assigned(lane, partitions);
        }
    }

    /// Lane `lane` is out of the group, and has to join it anew.
    pub(crate) fn left(&self, lane: usize) {
        if let Some(lane) = self.0.lanes.get(lane) {
            lane.partitions.store(NOT_JOINED, Relaxed);
        }
    }

    /// Why lane `lane` has no session yet (`waiting for Kafka: …`), or that it has one: while any has a reason, the service
    /// is not ready. What stands behind the first `: ` is not told to the network.
    pub fn reason(&self, lane: usize, reason: Option<String>) {
        if let Some(lane) = self.0.lanes.get(lane) {
            *lock(&lane.reason) = reason;
        }
    }

    /// Why Kafka refuses lane `lane` (a password, TLS, another member's assignor), or that it does not: while it refuses
    /// one, the service is not ready. It goes on by itself when that is mended.
    pub fn refused(&self, lane: usize, why: Option<String>) {
        if let Some(lane) = self.0.lanes.get(lane) {
            *lock(&lane.refused) = why;
        }
    }

    /// All that does not move in lane `lane`. A record that is tried again leaves the service ready, as another instance
    /// would stand at it too; every other reason does not.
    pub(crate) fn stalled(&self, lane: usize, stalls: Vec<Stall>) {
        if let Some(lane) = self.0.lanes.get(lane) {
            *lock(&lane.stalls) = stalls;
        }
    }

    /// The lag of all partitions that lane `lane` reads; none where it is not known.
    pub(crate) fn lag(&self, lane: usize, lag: Vec<(Partition, Option<i64>)>) {
        if let Some(lane) = self.0.lanes.get(lane) {
            *lock(&lane.lag) = lag;
        }
    }

    /// What each lane does not move, and the lag of what it reads.
    pub(crate) fn standing(&self) -> impl Iterator<Item = (Vec<Stall>, Vec<(Partition, Option<i64>)>)> {
        self.0
            .lanes
            .iter()
            .map(|lane| (lock(&lane.stalls).clone(), lock(&lane.lag).clone()))
    }

    /// Where the state of the store is to be read. The first call counts.
    pub fn store(&self, state: watch::Receiver<resilience::State>) {
        let _ = self.0.store.set(state);
    }

    /// What a person should know of the store although it answers, or that there is nothing any more.
    pub fn store_note(&self, note: Option<String>) {
        *lock(&self.0.store_note) = note;
    }

    /// What is known of the store; none without one.
    pub fn store_state(&self) -> Option<resilience::State> {
        self.0.store.get().map(|state| state.borrow().clone())
    }

    /// Whether every lane turns. Never about a broker or a store that is down: a restart would not mend those. A lane
    /// is judged from its first beat on, and no more once the service drains, which has a deadline of its own.
    pub fn live(&self) -> Verdict {
        let mut reasons = Vec::new();
        if matches!(self.current(), Phase::Starting | Phase::Ready) {
            let limit = self.0.beat_limit;
            for (number, lane) in self.0.lanes.iter().enumerate() {
                let beat = lane.beat.load(Relaxed);
                let since = Duration::from_millis((self.age() + 1).saturating_sub(beat));
                if beat > 0 && since > limit {
                    let (since, limit) = (since.as_secs(), limit.as_secs());
                    reasons.push(format!(
                        "lane {number} has not turned for {since} s (limit {limit} s)"
                    ));
                }
            }
        }
        Verdict {
            ok: reasons.is_empty(),
            reasons,
            notes: Vec::new(),
        }
    }

    /// Whether the service does its work: every lane has joined the group, and none has a reason not to move.
    pub fn ready(&self) -> Verdict {
        self.readiness(Words::All)
    }

    /// The same for whoever reaches the management listener: reasons by their kind, without the words of drivers and
    /// brokers, in which addresses, users and paths may stand. Those are for the log and the control socket.
    pub(super) fn ready_to_the_network(&self) -> Verdict {
        self.readiness(Words::Kinds)
    }

    fn readiness(&self, words: Words) -> Verdict {
        let mut reasons = Vec::new();
        let mut notes = Vec::new();
        match self.current() {
            Phase::Starting => reasons.push("starting".to_owned()),
            Phase::Ready => {}
            Phase::Draining => reasons.push("draining".to_owned()),
            Phase::Stopped => reasons.push("stopped".to_owned()),
        }
        for (number, lane) in self.0.lanes.iter().enumerate() {
            if lane.partitions.load(Relaxed) == NOT_JOINED {
                reasons.push(format!("lane {number} has not joined the group yet"));
            }
            if let Some(why) = &*lock(&lane.reason) {
                reasons.push(format!("lane {number}: {}", words.of(why, kind(why))));
            }
            if let Some(why) = &*lock(&lane.refused) {
                reasons.push(format!("lane {number}: {}", words.of(why, "Kafka refuses it")));
            }
            for stall in &*lock(&lane.stalls) {
                let into = if stall.why.is_ready() {
                    &mut notes
                } else {
                    &mut reasons
                };
                into.push(told(number, stall, words));
            }
        }
        reasons.extend(self.live().reasons);
        if let Some(state) = self.store_state().filter(resilience::State::is_degraded) {
            notes.push(match words {
                Words::All => state.to_string(),
                Words::Kinds => format!("{state:#}"),
            });
        }
        notes.extend(lock(&self.0.store_note).clone());
        Verdict {
            ok: reasons.is_empty(),
            reasons,
            notes,
        }
    }

    fn age(&self) -> u64 {
        u64::try_from(self.0.born.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

/// How much is told of a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Words {
    All,
    Kinds,
}

impl Words {
    fn of<'a>(self, whole: &'a str, kind: &'a str) -> &'a str {
        match self {
            Self::All => whole,
            Self::Kinds => kind,
        }
    }
}

/// `waiting for Kafka` of `waiting for Kafka: db1:9092 refused`.
fn kind(reason: &str) -> &str {
    reason.split(": ").next().unwrap_or_default()
}

/// `lane 0: orders:3: blocked since 2026-11-28T07:20:11Z: …`
fn told(lane: usize, stall: &Stall, words: Words) -> String {
    let of = stall
        .partition
        .as_ref()
        .map(|p| format!("{p}: "))
        .unwrap_or_default();
    let since = jiff::Timestamp::from_millisecond(stall.since.0).unwrap_or_default();
    let since = since.strftime("%Y-%m-%dT%H:%M:%SZ");
    let kind = format!("lane {lane}: {of}{} since {since}", stall.why.label());
    match words {
        Words::All => format!("{kind}: {}", stall.text),
        Words::Kinds => kind,
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
