//! What is known of the store, for probes, metrics and people.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};
use tracker_api::Error;

use crate::telemetry::{self, Repeated};

/// How often one fault of the store is said.
const SAID: Duration = Duration::from_secs(60);

/// What the breaker lets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Circuit {
    /// Everything.
    #[default]
    Closed,
    /// Nothing, since `since` and until `until`.
    Open {
        /// When it opened, by the monotonic clock.
        since: Instant,
        /// When it lets the first probe through.
        until: Instant,
    },
    /// One call at a time, to see whether the store is back.
    HalfOpen {
        /// When it opened.
        since: Instant,
    },
}

/// An operation that the store answers, but with an error that no waiting mends: a column that was dropped, a row that
/// cannot be read. Until a call of the same operation succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The method of the contract, such as `progress`.
    pub operation: &'static str,
    /// When it first ended so.
    pub since: Timestamp,
    /// The last such error, for a person.
    pub error: String,
}

/// What is known of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// What the breaker lets through.
    pub circuit: Circuit,
    /// Calls in a row that ended in an outage.
    pub failures: u32,
    /// When the first of them ended.
    pub failing_since: Option<Timestamp>,
    /// The last of them, for a person.
    pub last_error: Option<String>,
    /// The above is about writes alone: reads and operators' decisions are still sent.
    pub only_writes: bool,
    /// What the store answers with an error that is no outage.
    pub faults: Vec<Fault>,
}

impl State {
    /// Whether the store does not do what it should: it does not answer, is not trusted yet, or has a [`Fault`].
    pub fn is_degraded(&self) -> bool {
        self.is_away() || !self.faults.is_empty()
    }

    /// Whether the store does not answer, or is not trusted yet.
    pub fn is_away(&self) -> bool {
        self.failures > 0 || self.circuit != Circuit::Closed
    }

    fn name(&self) -> &'static str {
        match self.circuit {
            Circuit::Closed => "closed",
            Circuit::Open { .. } => "open",
            Circuit::HalfOpen { .. } => "half_open",
        }
    }
}

impl fmt::Display for State {
    /// With errors in the store's own words; `{:#}` without them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (silent, left_alone) = if self.only_writes {
            ("takes no writes", "is sent no writes")
        } else {
            ("does not answer", "is not asked")
        };
        match self.circuit {
            Circuit::Closed if self.failures == 0 => f.write_str("the store answers")?,
            Circuit::Closed => write!(f, "the store {silent}")?,
            Circuit::Open { until, .. } => {
                let left = until.saturating_duration_since(Instant::now());
                let until = seconds(Timestamp::now() + left);
                write!(
                    f,
                    "the store {left_alone} until {until} (in {:.1} s)",
                    left.as_secs_f64()
                )?;
            }
            Circuit::HalfOpen { .. } => f.write_str("a probe asks whether the store is back")?,
        }
        if let Some(since) = self.failing_since {
            write!(f, "; failing since {}", seconds(since))?;
        }
        let words = !f.alternate();
        if let Some(error) = self.last_error.as_ref().filter(|_| words) {
            write!(f, "; last error: {error}")?;
        }
        for fault in &self.faults {
            let since = seconds(fault.since);
            write!(f, "; `{}` fails since {since}", fault.operation)?;
            if words {
                write!(f, ": {}", fault.error)?;
            }
        }
        Ok(())
    }
}

fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Of which breaker something is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The one before every call.
    Store,
    /// The one before bulk writes.
    Writes,
}

/// Where the breakers and the calls write what they learn; published at each change.
pub(super) struct Board {
    known: Mutex<Known>,
    state: watch::Sender<State>,
}

struct Known {
    /// `faults` and `only_writes` are not used in these.
    store: State,
    writes: State,
    faults: Vec<Fault>,
    said: Repeated<&'static str>,
}

impl Board {
    pub(super) fn new() -> Self {
        telemetry::circuit("closed", false);
        Self {
            known: Mutex::new(Known {
                store: State::default(),
                writes: State::default(),
                faults: Vec::new(),
                said: Repeated::every(SAID),
            }),
            state: watch::Sender::default(),
        }
    }

    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub(super) fn set(&self, side: Side, state: State) {
        let mut known = self.lock();
        match side {
            Side::Store => known.store = state,
            Side::Writes => known.writes = state,
        }
        self.publish(&known);
    }

    /// A call was answered with an error that no waiting mends.
    pub(super) fn fault(&self, operation: &'static str, error: &Error) {
        let mut known = self.lock();
        if let Some(left_out) = known.said.due(operation) {
            tracing::warn!(operation, %error, left_out, "the store answers with an error that no waiting mends; health says DEGRADED until such a call succeeds");
        }
        let error = error.to_string();
        match known.faults.iter_mut().find(|fault| fault.operation == operation) {
            Some(fault) if fault.error == error => return,
            Some(fault) => fault.error = error,
            None => known.faults.push(Fault {
                operation,
                since: Timestamp::now(),
                error,
            }),
        }
        self.publish(&known);
    }

    /// A call succeeded.
    pub(super) fn succeeded(&self, operation: &'static str) {
        if self.state.borrow().faults.is_empty() {
            return;
        }
        let mut known = self.lock();
        let before = known.faults.len();
        known.faults.retain(|fault| fault.operation != operation);
        if known.faults.len() < before {
            known.said.over(&operation);
            tracing::info!(operation, "the store does again what it should");
            self.publish(&known);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, known: &Known) {
        let only_writes = !known.store.is_away() && known.writes.is_away();
        let state = State {
            only_writes,
            faults: known.faults.clone(),
            ..if only_writes { &known.writes } else { &known.store }.clone()
        };
        telemetry::circuit(state.name(), state.is_degraded());
        self.state.send_if_modified(|held| {
            let changed = *held != state;
            *held = state;
            changed
        });
    }
}
