use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use super::state::{Board, Circuit, Side, State};
use crate::telemetry::Repeated;

/// Probes in a row that must succeed before a half-open breaker closes: a store that answers once and fails again
/// would otherwise be flooded at each answer.
pub(super) const PROBES_TO_CLOSE: u32 = 2;
/// How often an outage is said while it lasts: the breaker opens anew at each probe that fails.
const SAID: Duration = Duration::from_secs(60);

/// Counts calls that ended in an outage, and refuses calls while it is open. A state machine under a lock that is never
/// held across an await.
pub(super) struct Breaker {
    threshold: u32,
    open_for: Duration,
    inner: Mutex<Inner>,
    side: Side,
    board: Arc<Board>,
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
    said: Repeated<()>,
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
    pub(super) fn new(threshold: u32, open_for: Duration, side: Side, board: Arc<Board>) -> Self {
        let inner = Inner {
            circuit: Circuit::Closed,
            generation: 0,
            failures: 0,
            failing_since: None,
            last_error: None,
            probing: false,
            probed: 0,
            said: Repeated::every(SAID),
        };
        Self {
            threshold: threshold.max(1),
            open_for,
            inner: Mutex::new(inner),
            side,
            board,
        }
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
        self.board.set(self.side, inner.state());
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
            ..State::default()
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
            inner.said.over(&());
            match self.breaker.side {
                Side::Store => tracing::info!("the store is back: its circuit breaker is closed"),
                Side::Writes => {
                    tracing::info!("the store takes writes again: their circuit breaker is closed")
                }
            }
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
        inner.failing_since.get_or_insert_with(Timestamp::now);
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
            if let Some(left_out) = inner.said.due(()) {
                match self.breaker.side {
                    Side::Store => {
                        tracing::warn!(%error, failures, left_out, "the store does not answer: its circuit breaker is open");
                    }
                    Side::Writes => {
                        tracing::warn!(%error, failures, left_out, "the store takes no writes: their circuit breaker is open, reads go on");
                    }
                }
            }
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
