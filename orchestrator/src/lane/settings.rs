use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tracker_api::RecordId;

use crate::config::{DeadLetterHeaders, FailureMode, InitialOffset, OnUnreadable};

/// What a lane was told by the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The group and its brokers, for what an operator is told to type.
    pub(crate) group: Arc<str>,
    pub(crate) bootstrap: Arc<str>,
    pub(crate) source: Arc<str>,
    pub(crate) target: Arc<str>,
    /// Topics that the transform names before it sees a record.
    pub(crate) declared: BTreeSet<Arc<str>>,
    pub(crate) dead_letter: Option<Arc<str>>,
    pub(crate) dead_letter_headers: DeadLetterHeaders,
    pub(crate) failure_mode: FailureMode,
    pub(crate) initial_offset: InitialOffset,
    pub(crate) on_unreadable: OnUnreadable,
    /// A transaction that has been open for so long is none of ours: ours end with their timeout.
    pub(crate) hanging_after: Duration,
    /// Tries of a record before it is passed over; from 1. Atomic knows no last one.
    pub(crate) max_attempts: u32,
    pub(crate) backoff: Backoff,
    /// Most records, and about the most bytes, of one transaction.
    pub(crate) batch_records: usize,
    pub(crate) batch_bytes: usize,
    /// A transaction that is open for so long is aborted by the broker.
    pub(crate) transaction_timeout: Duration,
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

impl Settings {
    /// How long the next batch waits for more records, after a transaction of `elapsed`. The cost of a commit is to be a
    /// small part of a cycle: under load the size closes a batch, idle the delay does.
    pub(crate) fn delay_after(&self, elapsed: Duration) -> Duration {
        (elapsed * 2).clamp(*self.delay.start(), *self.delay.end())
    }
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

#[cfg(test)]
mod tests {
    use super::{Backoff, Duration};
    use crate::lane::tests::settings;

    #[test]
    fn a_wait_doubles_from_backoff_up_to_max_backoff_and_jitter_only_shortens_it() {
        let backoff = Backoff {
            first: Duration::from_millis(300),
            most: Duration::from_secs(2),
        };
        let waits = [1, 2, 3, 4, 30].map(|tries| backoff.after(tries, 0).as_millis());
        assert_eq!(waits, [300, 600, 1_200, 2_000, 2_000]);
        let least = backoff.after(1, u8::MAX);
        assert!(least >= Duration::from_millis(225) && least < Duration::from_millis(300));
    }

    #[test]
    fn a_batch_waits_twice_as_long_as_its_last_transaction_took_within_the_two_delays() {
        let settings = settings();
        let after = |millis| settings.delay_after(Duration::from_millis(millis)).as_millis();
        assert_eq!([after(0), after(20), after(400)], [2, 40, 100]);
    }
}
