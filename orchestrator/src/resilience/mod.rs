//! What stands between the lane and a store that may be slow, down or wrong.
//!
//! The one decision that shapes it: every call takes one private path, [`Guarded`]'s `call`, which holds the order
//!
//! ```text
//! meter > breaker > retry > timeout > backend
//! ```
//!
//! so the meter sees also what the breaker refused, the breaker sees a call once and not each of its tries, and each try
//! has a time of its own. Retry and breaker ask one question, [`Error::is_transient`](tracker_api::Error::is_transient):
//! an outage counts, a data error never does.
//!
//! Bulk writes have a breaker of their own behind the store's: one that takes no writes, or not in time, is still read, so
//! operators are not locked out. A write goes in slices whose size is learnt from the store's times. An error that is no
//! outage opens nothing; health shows it until a call of its operation succeeds.
//!
//! The fallback stands around all of it, in the recorder: what the store does not take, after its retries, goes there, and
//! `fallback` brings it back. It is a tracker of its own, called without this patience: it is local. A store that is away
//! when the service starts under `degrade` is `late`: the backend of this order until it is there.

mod breaker;
pub(crate) mod fallback;
mod guarded;
pub(crate) mod late;
mod slices;
mod state;

/// A store that does as it is told.
#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use guarded::Guarded;
pub use state::{Circuit, Fault, State};

/// How patient a [`Guarded`] tracker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The time of one try (`db-timeout-ms`).
    pub timeout: Duration,
    /// Tries per call, the first included; 0 means 1. Only an outage is tried again.
    pub tries: u32,
    /// So many calls in a row that end in an outage open the breaker (`db-circuit-failure-threshold`); 0 means 1.
    pub failure_threshold: u32,
    /// How long an open breaker asks nothing (`db-circuit-open-ms`).
    pub open_for: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(1),
            tries: 3,
            failure_threshold: 5,
            open_for: Duration::from_secs(10),
        }
    }
}
