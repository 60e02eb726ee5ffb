//! What a run promises and suffers, drawn from its seed.

use std::{collections::BTreeSet, time::Duration};

use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use tracker_api::RecordId;

use super::{faults::Step, kafka::source_topic, laws::Rules};
use crate::{
    config::{FailureMode, InitialOffset, OnStoreFailure, StorePayload, Tracking},
    lane::{Backoff, Settings},
};

/// What a run promises and suffers.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) seed: u64,
    pub(super) slots: usize,
    pub(super) partitions: i32,
    pub(super) records: usize,
    pub(super) mode: FailureMode,
    /// What processes track; of more than one, each draws its own at its start.
    pub(super) tracking: Vec<Tracking>,
    pub(super) on_store_failure: OnStoreFailure,
    pub(super) capture: StorePayload,
    pub(super) dead_letters: bool,
    pub(super) fallback: bool,
    pub(super) is_static: bool,
    /// The chance of a fault at each step, and at each call of a store.
    pub(super) rate: f64,
    pub(super) store_rate: f64,
    /// Whether the store goes down now and then.
    pub(super) storms: bool,
    /// Whether an operator's tool moves offsets.
    pub(super) resets: bool,
    /// How long processes are troubled.
    pub(super) span: Duration,
    pub(super) batch: usize,
    /// Whether many records fail.
    pub(super) bad: bool,
    /// Where faults strike ten times as often.
    pub(super) bias: Option<Step>,
    /// What befalls the processes half of the time.
    pub(super) only: Option<u64>,
    /// How wrong each slot's clock is, in milliseconds.
    pub(super) skews: [i64; 3],
    /// Whether the producer is recycled when it must be.
    pub(super) recycles: bool,
    /// Whether what has succeeded is not produced again.
    pub(super) skip_succeeded: bool,
}

impl Case {
    /// The run of a seed.
    pub(super) fn of(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x0c0f_fee0);
        let levels = [
            Tracking::Reliable,
            Tracking::Reliable,
            Tracking::Outbox,
            Tracking::Lightweight,
            Tracking::None,
        ];
        let is_troubled = rng.random_bool(0.7);
        let most = *[0, 50, 3_600_000].choose(&mut rng).unwrap_or(&0);
        let skews = [0; 3].map(|_| rng.random_range(-most..=most));
        Self {
            seed,
            slots: rng.random_range(1..=3),
            partitions: rng.random_range(1..=4),
            records: rng.random_range(5..60),
            mode: if rng.random_bool(0.6) {
                FailureMode::SkipAndLog
            } else {
                FailureMode::Atomic
            },
            tracking: if rng.random_bool(0.15) {
                levels.to_vec()
            } else {
                levels.choose(&mut rng).copied().into_iter().collect()
            },
            on_store_failure: if rng.random_bool(0.7) {
                OnStoreFailure::Degrade
            } else {
                OnStoreFailure::Block
            },
            capture: if rng.random_bool(0.3) {
                StorePayload::Bytes
            } else {
                StorePayload::None
            },
            dead_letters: rng.random_bool(0.5),
            fallback: rng.random_bool(0.4),
            is_static: rng.random_bool(0.4),
            rate: *[0.0, 0.003, 0.01, 0.03].choose(&mut rng).unwrap_or(&0.0),
            store_rate: if is_troubled {
                *[0.01, 0.05, 0.2].choose(&mut rng).unwrap_or(&0.0)
            } else {
                0.0
            },
            storms: is_troubled && rng.random_bool(0.6),
            resets: rng.random_bool(0.3),
            span: Duration::from_secs(rng.random_range(5..40)),
            batch: *[2, 5, 20, 500].choose(&mut rng).unwrap_or(&20),
            bad: rng.random_bool(0.3),
            bias: None,
            only: None,
            skews,
            recycles: true,
            skip_succeeded: rng.random_bool(0.5),
        }
    }

    /// Whether the store never failed in this run.
    pub(super) fn is_clean(&self) -> bool {
        self.store_rate == 0.0 && !self.storms
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            is_atomic: self.mode == FailureMode::Atomic,
            tracking: self.tracking.clone(),
            skips: self.skip_succeeded,
            is_calm: self.rate == 0.0 && self.is_clean(),
            dead_letter: self.dead_letters.then(|| "dead".into()),
            // Two eras are at least one tick apart.
            clocks_agree: !self.resets || self.skews.iter().all(|skew| skew.abs() <= 50),
        }
    }

    pub(super) fn settings(&self, skip: BTreeSet<RecordId>) -> Settings {
        Settings {
            group: "orders".into(),
            source: source_topic(),
            target: "target".into(),
            dead_letter: self.dead_letters.then(|| "dead".into()),
            dead_letter_headers: crate::config::DeadLetterHeaders::Ours,
            failure_mode: self.mode,
            initial_offset: InitialOffset::Earliest,
            max_attempts: 2,
            backoff: Backoff {
                first: Duration::from_millis(100),
                most: Duration::from_secs(2),
            },
            batch_records: self.batch,
            batch_bytes: 1 << 20,
            delay: Duration::from_millis(2)..=Duration::from_millis(100),
            max_message_bytes: 1_000_000,
            log_messages: false,
            transform_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(70),
            skip,
        }
    }
}
