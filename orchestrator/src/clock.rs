//! Time and ids, so that the simulation can have its own.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use tracker_api::{AttemptId, Timestamp};
use uuid::Uuid;

pub(crate) trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Wall-clock time. Nothing is decided by it but eras, and those only ever upwards.
    fn now(&self) -> Timestamp;
    /// A new UUIDv7.
    fn fresh(&self) -> Uuid;
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn fresh(&self) -> Uuid {
        Uuid::now_v7()
    }
}

/// Makes attempt ids that only grow: a fresh UUIDv7, or one more than the greatest seen. Where that would leave the range
/// that a note may name, which no clock reaches, a fresh one: unlike any other, and readable.
#[derive(Debug, Default)]
pub(crate) struct AttemptIds {
    last: u128,
}

impl AttemptIds {
    /// No later id will be at or below `seen`.
    pub(crate) fn observe(&mut self, seen: AttemptId) {
        self.last = self.last.max(seen.0.as_u128());
    }

    pub(crate) fn next(&mut self, clock: &dyn Clock) -> AttemptId {
        let (fresh, grown) = (clock.fresh().as_u128(), self.last.saturating_add(1));
        let id = if grown >> 124 == 0xf {
            fresh
        } else {
            fresh.max(grown)
        };
        self.last = self.last.max(id);
        AttemptId(Uuid::from_u128(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempt_ids_only_grow_also_when_the_note_is_ahead_of_the_clock() {
        let mut ids = AttemptIds::default();
        let ahead = AttemptId(Uuid::from_u128(u128::MAX >> 2));
        let before = ids.next(&SystemClock);
        ids.observe(ahead);
        let after = ids.next(&SystemClock);
        assert!(before < ahead && ahead < after && after < ids.next(&SystemClock));
    }
}
