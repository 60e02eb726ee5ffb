use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tracker_api::{Partition, RecordId};

use crate::{
    http::Health,
    kafka::{Recycle, Stats},
    lane::{Observer, stalls::Stall},
    telemetry::{self, Counts, LaneMetrics},
};

/// How often the lag is told; in every wait too, whatever it is for.
const LAG: Duration = Duration::from_secs(1);

/// Tells metrics and health how one lane fares.
#[derive(Debug)]
pub(super) struct Watch {
    lane: usize,
    metrics: LaneMetrics,
    health: Health,
    stats: Arc<Stats>,
    lost: AtomicU64,
    recycles: [AtomicU64; Recycle::ALL.len()],
    /// When the lag was last told.
    told: Mutex<Option<Instant>>,
}

impl Watch {
    pub(super) fn new(lane: usize, health: Health, stats: Arc<Stats>) -> Self {
        Self {
            lane,
            metrics: LaneMetrics::new(lane),
            health,
            stats,
            lost: AtomicU64::new(0),
            recycles: Default::default(),
            told: Mutex::default(),
        }
    }

    /// What the session counted since the last look.
    fn publish(&self) {
        for (why, before) in Recycle::ALL.into_iter().zip(&self.recycles) {
            let now = self.stats.recycles(why);
            let before = before.swap(now, Relaxed);
            if now > before {
                self.metrics.recycled(now - before, why.label());
            }
        }
    }
}

impl Observer for Watch {
    fn beat(&self) {
        self.health.beat(self.lane);
        self.health.refused(self.lane, self.stats.refusal());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() >= LAG) {
            *told = Some(Instant::now());
            let lag = self.stats.lag();
            self.metrics.lag(&lag);
            self.health.lag(self.lane, lag);
        }
    }

    fn joined(&self, partitions: usize) {
        self.health.joined(self.lane, partitions);
        if partitions == 0 {
            self.metrics.lag(&[]);
            self.health.lag(self.lane, Vec::new());
        }
    }

    fn stalled(&self, stalls: Vec<Stall>) {
        self.metrics.stalled(&stalls);
        self.health.stalled(self.lane, stalls);
    }

    fn transformed(&self, records: usize, elapsed: Duration) {
        self.metrics.transformed(records as u64, elapsed);
    }

    fn transform_failed(&self, class: &str) {
        self.metrics.transform_failed(class, 1);
    }

    fn committed(&self, counts: &Counts, transaction: Duration) {
        self.metrics
            .committed(counts, transaction, self.stats.last_commit());
        self.publish();
    }

    fn aborted(&self, kind: &'static str) {
        self.metrics.aborted(kind);
        self.publish();
    }

    fn settled(&self, outcome: &'static str) {
        self.metrics.unknown(outcome);
    }

    fn abandoned(&self, threads: usize) {
        telemetry::abandoned(threads);
    }

    fn store_behind(&self, offsets: u64) {
        self.metrics.store_behind(offsets);
    }

    fn in_flight(&self, records: usize) {
        self.metrics.in_flight(records);
    }

    fn blocked(&self, records: &[RecordId]) {
        self.metrics.blocked(records.len());
    }

    fn lost(&self, failures: u64) {
        let before = self.lost.swap(failures, Relaxed);
        if failures > before {
            self.metrics.tracker_lost(failures - before);
        }
    }

    fn offsets_lost(&self, partition: &Partition, offsets: u64) {
        self.metrics.offsets_lost(partition, offsets);
    }
}
