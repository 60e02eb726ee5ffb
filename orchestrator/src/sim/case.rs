//! What a run promises and suffers, drawn from its seed.

use std::{collections::BTreeSet, time::Duration};

use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use tracker_api::RecordId;

use super::{faults::Step, kafka::source_topic, laws::Rules, schedule::TRANSACTION_TIMEOUT};
use crate::{
    config::{FailureMode, InitialOffset, OnStoreFailure, OnUnreadable, StorePayload, Tracking},
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
    pub(super) on_unreadable: OnUnreadable,
    pub(super) capture: StorePayload,
    pub(super) dead_letters: bool,
    pub(super) fallback: bool,
    pub(super) is_static: bool,
    /// The chance of a fault at each step, and at each call of a store.
    pub(super) rate: f64,
    pub(super) store_rate: f64,
    /// Whether the store goes down now and then.
    pub(super) storms: bool,
    /// Whether somebody's transactions hang on the group's offsets.
    pub(super) hangs: bool,
    /// Whether an operator's tool moves offsets.
    pub(super) resets: bool,
    /// Whether Kafka forgets offsets while the group stands still, and a tool puts them back.
    pub(super) forgets: bool,
    /// Whether the source topic is deleted and made again while the group stands still.
    pub(super) recreates: bool,
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
    /// How long the brokers take for each record of a transaction.
    pub(super) cost: Duration,
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
        // What tells records of one place apart is when they were made.
        let recreates = seed % 7 == 5;
        let skews = if recreates { [0; 3] } else { skews };
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
            on_unreadable: OnUnreadable::Wait,
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
            hangs: seed.is_multiple_of(3),
            resets: rng.random_bool(0.3) && !recreates,
            span: Duration::from_secs(rng.random_range(5..40)),
            batch: *[2, 5, 20, 500].choose(&mut rng).unwrap_or(&20),
            bad: rng.random_bool(0.3),
            bias: None,
            only: None,
            skews,
            recycles: true,
            cost: Duration::from_millis(*[0, 0, 0, 0, 200, 1_000].choose(&mut rng).unwrap_or(&0)),
            skip_succeeded: rng.random_bool(0.5),
            forgets: rng.random_bool(0.2) && !recreates,
            recreates,
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
            clocks_agree: !(self.resets || self.forgets) || self.skews.iter().all(|skew| skew.abs() <= 50),
        }
    }

    pub(super) fn settings(&self, skip: BTreeSet<RecordId>) -> Settings {
        Settings {
            group: "orders".into(),
            bootstrap: "sim:9092".into(),
            source: source_topic(),
            target: "target".into(),
            declared: BTreeSet::new(),
            dead_letter: self.dead_letters.then(|| "dead".into()),
            dead_letter_headers: crate::config::DeadLetterHeaders::Ours,
            failure_mode: self.mode,
            initial_offset: InitialOffset::Earliest,
            on_unreadable: self.on_unreadable,
            hanging_after: Duration::from_secs(30),
            max_attempts: 2,
            backoff: Backoff {
                first: Duration::from_millis(100),
                most: Duration::from_secs(2),
            },
            batch_records: self.batch,
            batch_bytes: 1 << 20,
            transaction_timeout: TRANSACTION_TIMEOUT,
            delay: Duration::from_millis(2)..=Duration::from_millis(100),
            max_message_bytes: 1_000_000,
            log_messages: false,
            transform_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(70),
            skip,
        }
    }
}
