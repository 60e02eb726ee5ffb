use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tracker_api::Partition;

/// Counters of one lane's session, for telemetry to read at any time. They only grow, but for the durations.
#[derive(Debug, Default)]
pub struct Stats {
    commits: AtomicU64,
    aborts: AtomicU64,
    unknown: AtomicU64,
    after_abort: AtomicU64,
    after_unknown: AtomicU64,
    after_fatal: AtomicU64,
    after_unanswered: AtomicU64,
    after_slow: AtomicU64,
    acknowledged: AtomicU64,
    offsets: AtomicU64,
    commit: AtomicU64,
    recycle: AtomicU64,
    lag: Mutex<Vec<(Partition, Option<i64>)>>,
    refusal: Mutex<Option<String>>,
}

/// Why a producer was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recycle {
    /// A transaction was aborted.
    Abort,
    /// The outcome of a commit was unknown.
    Unknown,
    /// The producer could do nothing more.
    Fatal,
    /// A request failed on its way: a late copy of it might end or move a later transaction.
    Unanswered,
    /// A call took so long that a request may have been sent twice.
    Slow,
}

impl Recycle {
    /// Each of them.
    pub const ALL: [Self; 5] = [
        Self::Abort,
        Self::Unknown,
        Self::Fatal,
        Self::Unanswered,
        Self::Slow,
    ];

    /// As a label of a metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::Unknown => "unknown",
            Self::Fatal => "fatal",
            Self::Unanswered => "unanswered",
            Self::Slow => "slow",
        }
    }
}

impl Stats {
    /// Transactions whose commit is certain, those of `settle` included.
    pub fn commits(&self) -> u64 {
        self.commits.load(Relaxed)
    }

    /// Transactions that were begun and came to nothing.
    pub fn aborts(&self) -> u64 {
        self.aborts.load(Relaxed)
    }

    /// Transactions whose outcome had to be read from Kafka.
    pub fn unknown(&self) -> u64 {
        self.unknown.load(Relaxed)
    }

    /// Producers replaced for this reason.
    pub fn recycles(&self, why: Recycle) -> u64 {
        self.counter(why).load(Relaxed)
    }

    /// How long the last transaction waited for its records to be acknowledged.
    pub fn last_acknowledged(&self) -> Duration {
        Duration::from_micros(self.acknowledged.load(Relaxed))
    }

    /// How long the last commit's offsets took.
    pub fn last_offsets(&self) -> Duration {
        Duration::from_micros(self.offsets.load(Relaxed))
    }

    /// How long the last commit took, offsets and acknowledgements apart.
    pub fn last_commit(&self) -> Duration {
        Duration::from_micros(self.commit.load(Relaxed))
    }

    /// How long the last replacement of a producer took.
    pub fn last_recycle(&self) -> Duration {
        Duration::from_micros(self.recycle.load(Relaxed))
    }

    /// Offsets between C(p) and the last stable offset of each partition that the lane reads; none where that is not known.
    pub fn lag(&self) -> Vec<(Partition, Option<i64>)> {
        self.lag.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the broker or the group refuses this lane now, and what to look at.
    pub fn refusal(&self) -> Option<String> {
        self.refusal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn refused(&self, why: Option<String>) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn counter(&self, why: Recycle) -> &AtomicU64 {
        match why {
            Recycle::Abort => &self.after_abort,
            Recycle::Unknown => &self.after_unknown,
            Recycle::Fatal => &self.after_fatal,
            Recycle::Unanswered => &self.after_unanswered,
            Recycle::Slow => &self.after_slow,
        }
    }

    pub(super) fn committed(&self) {
        self.commits.fetch_add(1, Relaxed);
    }

    pub(super) fn aborted(&self) {
        self.aborts.fetch_add(1, Relaxed);
    }

    pub(super) fn was_unknown(&self) {
        self.unknown.fetch_add(1, Relaxed);
    }

    pub(super) fn recycled(&self, why: Recycle) {
        self.counter(why).fetch_add(1, Relaxed);
    }

    pub(super) fn recycle_took(&self, time: Duration) {
        self.recycle.store(micros(time), Relaxed);
    }

    pub(super) fn took(&self, acknowledged: Duration, offsets: Duration, commit: Duration) {
        self.acknowledged.store(micros(acknowledged), Relaxed);
        self.offsets.store(micros(offsets), Relaxed);
        self.commit.store(micros(commit), Relaxed);
    }

    pub(super) fn lags(&self, lag: Vec<(Partition, Option<i64>)>) {
        *self.lag.lock().unwrap_or_else(PoisonError::into_inner) = lag;
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
