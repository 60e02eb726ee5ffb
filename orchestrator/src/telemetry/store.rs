use std::time::Instant;

use super::catalogue::{
    CIRCUIT, CIRCUIT_OPEN, CORRUPT_ROWS, DEGRADED, DRAINED, FALLBACK_HOLDS, PURGED, STORE_RISK,
    TRACKER_CALLS, TRACKER_RETRIES, TRACKER_SLICE, TRACKER_TIME,
};

/// One call to the store, counted when it ends; a call whose future is dropped counts as `cancelled`.
#[derive(Debug)]
pub(crate) struct Call {
    operation: &'static str,
    began: Instant,
    outcome: &'static str,
}

impl Call {
    pub(crate) fn begin(operation: &'static str) -> Self {
        Self {
            operation,
            began: Instant::now(),
            outcome: "cancelled",
        }
    }

    pub(crate) fn end(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        TRACKER_CALLS
            .counter(&[("operation", self.operation), ("outcome", self.outcome)])
            .increment(1);
        if !matches!(self.outcome, "circuit_open" | "probe_busy") {
            TRACKER_TIME
                .histogram(&[("operation", self.operation)])
                .record(self.began.elapsed());
        }
    }
}

/// A call to the store is sent again.
pub(crate) fn retried(operation: &'static str) {
    TRACKER_RETRIES.counter(&[("operation", operation)]).increment(1);
}

/// A write to the store carries at most so many entries.
pub(crate) fn slice(entries: usize) {
    TRACKER_SLICE
        .gauge(&[])
        .set(u32::try_from(entries).map_or(f64::MAX, f64::from));
}

/// So many entries of a kind were purged.
pub(crate) fn purged(kind: &'static str, count: u64) {
    PURGED.counter(&[("kind", kind)]).increment(count);
}

/// So many failures went from the fallback into the store.
pub(crate) fn drained(count: u64) {
    DRAINED.counter(&[]).increment(count);
}

/// So many rows of the store cannot be read.
pub(crate) fn corrupt_rows(count: usize) {
    CORRUPT_ROWS
        .gauge(&[])
        .set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
}

/// The store stopped giving the promises `now`; those of `before` that are not among them it gives again.
pub(crate) fn store_risks<'n>(
    before: impl Iterator<Item = &'n String>,
    now: impl Iterator<Item = &'n String>,
) {
    for (names, value) in [(before.collect::<Vec<_>>(), 0.0), (now.collect(), 1.0)] {
        for name in names {
            STORE_RISK.gauge(&[("risk", name)]).set(value);
        }
    }
}

/// Whether failures wait in the fallback.
pub(crate) fn fallback_holds(holds: bool) {
    FALLBACK_HOLDS.gauge(&[]).set(f64::from(u8::from(holds)));
}

/// The circuit breaker is in `state`: `closed`, `open` or `half_open`.
pub(crate) fn circuit(state: &'static str, degraded: bool) {
    for known in ["closed", "open", "half_open"] {
        CIRCUIT
            .gauge(&[("state", known)])
            .set(f64::from(u8::from(known == state)));
    }
    CIRCUIT_OPEN.gauge(&[]).set(f64::from(u8::from(state == "open")));
    DEGRADED.gauge(&[]).set(f64::from(u8::from(degraded)));
}
