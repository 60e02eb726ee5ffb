use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};

use crate::telemetry;

/// Probes in a row that must succeed before a half-open breaker closes: a store that answers once and fails again
/// would otherwise be flooded at each answer.
pub(super) const PROBES_TO_CLOSE: u32 = 2;

/// What the breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// Everything.
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

/// What is known of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What the breaker lets through.
    pub circuit: Circuit,
    /// Calls in a row that ended in an outage.
    pub failures: u32,
    /// When the first of them ended.
    pub failing_since: Option<Timestamp>,
    /// The last of them, for a person.
    pub last_error: Option<String>,
}

impl State {
    /// Whether the store does not answer, or is not trusted yet.
    pub fn is_degraded(&self) -> bool {
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
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = Instant::now();
        match self.circuit {
            Circuit::Closed if self.failures == 0 => f.write_str("the store answers")?,
            Circuit::Closed => f.write_str("the store does not answer")?,
            Circuit::Open { until, .. } => {
                let left = until.saturating_duration_since(now);
                write!(f, "the store is not asked until {}", seconds(clock() + left))?;
                write!(f, " (in {:.1} s)", left.as_secs_f64())?;
            }
            Circuit::HalfOpen { .. } => f.write_str("a probe asks whether the store is back")?,
        }
        if let Some(since) = self.failing_since {
            write!(f, "; failing since {}", seconds(since))?;
        }
        match &self.last_error {
            // Behind a colon: the management listener tells what comes before it.
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}

fn clock() -> Timestamp {
    Timestamp::now()
}

fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Counts calls that ended in an outage, and refuses calls while it is open. A state machine under a lock that is never
/// held across an await.
pub(super) struct Breaker {
    threshold: u32,
    open_for: Duration,
    inner: Mutex<Inner>,
    state: watch::Sender<State>,
}

struct Inner {
    circuit: Circuit,
    /// Rises at every change of the circuit. A call that began before the change has no say after it: a slow success
    /// from before the outage must not close a half-open breaker, nor a slow failure open a closed one twice.
    generation: u64,
    failures: u32,
    failing_since: Option<Timestamp>,
    last_error: Option<String>,
    probing: bool,
    probed: u32,
}

/// Leave to make one call. Dropped without a verdict (the call was cancelled) it gives its place back.
pub(super) struct Permit<'a> {
    breaker: &'a Breaker,
    generation: u64,
    probe: bool,
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Open,
    ProbeBusy,
}

impl Breaker {
    pub(super) fn new(threshold: u32, open_for: Duration) -> Self {
        let inner = Inner {
            circuit: Circuit::Closed,
            generation: 0,
            failures: 0,
            failing_since: None,
            last_error: None,
            probing: false,
            probed: 0,
        };
        let state = watch::Sender::new(inner.state());
        telemetry::circuit("closed", false);
        Self {
            threshold: threshold.max(1),
            open_for,
            inner: Mutex::new(inner),
            state,
        }
    }

    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub(super) fn admit(&self) -> Result<Permit<'_>, Refusal> {
        let mut inner = self.lock();
        if let Circuit::Open { since, until } = inner.circuit {
            if Instant::now() < until {
                return Err(Refusal::Open);
            }
            inner.turn(Circuit::HalfOpen { since });
            self.publish(&inner);
        }
        let probe = matches!(inner.circuit, Circuit::HalfOpen { .. });
        if probe && inner.probing {
            return Err(Refusal::ProbeBusy);
        }
        inner.probing = probe;
        Ok(Permit {
            breaker: self,
            generation: inner.generation,
            probe,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, inner: &Inner) {
        let state = inner.state();
        telemetry::circuit(state.name(), state.is_degraded());
        self.state.send_if_modified(|held| {
            let changed = *held != state;
            *held = state;
            changed
        });
    }
}

impl Inner {
    fn turn(&mut self, circuit: Circuit) {
        self.circuit = circuit;
        self.generation += 1;
        self.probing = false;
        self.probed = 0;
    }

    fn state(&self) -> State {
        State {
            circuit: self.circuit,
            failures: self.failures,
            failing_since: self.failing_since,
            last_error: self.last_error.clone(),
        }
    }
}

impl Permit<'_> {
    /// The store answered, if only with a data error.
    pub(super) fn answered(self) {
        let mut inner = self.breaker.lock();
        if inner.generation != self.generation {
            return;
        }
        if self.probe {
            inner.probing = false;
            inner.probed += 1;
            if inner.probed < PROBES_TO_CLOSE {
                return;
            }
            inner.turn(Circuit::Closed);
            tracing::info!("the store is back: its circuit breaker is closed");
        } else if inner.failures == 0 {
            return;
        }
        inner.failures = 0;
        inner.failing_since = None;
        inner.last_error = None;
        self.breaker.publish(&inner);
    }

    /// The store did not answer.
    pub(super) fn failed(self, error: &tracker_api::Error) {
        let mut inner = self.breaker.lock();
        if inner.generation != self.generation {
            return;
        }
        inner.failures = inner.failures.saturating_add(1);
        inner.failing_since.get_or_insert_with(clock);
        inner.last_error = Some(error.to_string());
        if self.probe || inner.failures >= self.breaker.threshold {
            let now = Instant::now();
            let since = match inner.circuit {
                Circuit::HalfOpen { since } => since,
                _ => now,
            };
            inner.turn(Circuit::Open {
                since,
                until: now + self.breaker.open_for,
            });
            let failures = inner.failures;
            tracing::warn!(%error, failures, "the store does not answer: its circuit breaker is open");
        }
        self.breaker.publish(&inner);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.probe {
            let mut inner = self.breaker.lock();
            if inner.generation == self.generation {
                inner.probing = false;
            }
        }
    }
}
