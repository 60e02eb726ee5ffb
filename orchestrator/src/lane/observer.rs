use std::{fmt, time::Duration};

use tracker_api::{Partition, RecordId};

use super::stalls::Stall;
use crate::telemetry::Counts;

/// Who is told how a lane fares: metrics and health. Told once per batch, never per record.
pub(crate) trait Observer: fmt::Debug + Send + Sync {
    /// The loop turned.
    fn beat(&self);
    /// So many partitions are ours.
    fn joined(&self, partitions: usize);
    /// All that does not move; told at every change.
    fn stalled(&self, stalls: Vec<Stall>);
    fn transformed(&self, records: usize, elapsed: Duration);
    fn transform_failed(&self, class: &str);
    /// A commit, and how long its transaction took. Told after the commit, so counters never claim what is not there.
    fn committed(&self, counts: &Counts, transaction: Duration);
    fn aborted(&self, kind: &'static str);
    /// An unknown outcome was settled.
    fn settled(&self, outcome: &'static str);
    fn in_flight(&self, records: usize);
    /// Threads of this process that transforms hold and do not give back; told each second.
    fn abandoned(&self, threads: usize);
    /// The store lacks so many offsets that it had confirmed.
    fn store_behind(&self, offsets: u64);
    /// The records that stand at the front of their partitions; told each second, also when there is none.
    fn blocked(&self, records: &[RecordId]);
    /// Failures that `lightweight` tracking dropped, since the start.
    fn lost(&self, failures: u64);
    /// So many offsets of a partition were deleted before they were read, and are passed over.
    fn offsets_lost(&self, partition: &Partition, offsets: u64);
}
