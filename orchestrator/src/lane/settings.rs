use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tracker_api::RecordId;

use crate::config::{DeadLetterHeaders, FailureMode, InitialOffset};

/// What a lane was told by the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) group: Arc<str>,
    pub(crate) source: Arc<str>,
    pub(crate) target: Arc<str>,
    pub(crate) dead_letter: Option<Arc<str>>,
    pub(crate) dead_letter_headers: DeadLetterHeaders,
    pub(crate) failure_mode: FailureMode,
    pub(crate) initial_offset: InitialOffset,
    /// Tries of a record before it is passed over; from 1. Atomic knows no last one.
    pub(crate) max_attempts: u32,
    pub(crate) backoff: Backoff,
    /// Most records, and about the most bytes, of one transaction.
    pub(crate) batch_records: usize,
    pub(crate) batch_bytes: usize,
    /// Bounds of the adaptive delay.
    pub(crate) delay: std::ops::RangeInclusive<Duration>,
    /// Largest record that a client will send, in bytes.
    pub(crate) max_message_bytes: usize,
    /// Whether the log's line of a failed record carries its message.
    pub(crate) log_messages: bool,
    /// How long one record may take to be transformed.
    pub(crate) transform_timeout: Duration,
    /// How long a session may fail to read what became of an attempt, before it is given up for a new one.
    pub(crate) patience: Duration,
    /// Records to pass over as failures, by name.
    pub(crate) skip: BTreeSet<RecordId>,
}

/// Waits that double, with jitter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) most: Duration,
}

impl Backoff {
    /// The wait after so many tries (from 1), shortened by up to a quarter so that many do not come at once.
    pub(crate) fn after(&self, tries: u32, jitter: u8) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1 << tries.saturating_sub(1).min(20))
            .min(self.most);
        doubled - doubled / 1_024 * u32::from(jitter)
    }
}
