//! How many entries one write carries.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use crate::telemetry;

/// A tracker takes at most so many entries in one call.
const MOST: usize = 2_000;
/// A slice that took less than this part of its time may be doubled: what a write takes grows about as its entries do, so
/// a doubled one stays within half of its time.
const ROOM: u32 = 4;

/// Learns from the times of writes how many entries the store takes in one, between 1 and 2 000. A slice that comes too
/// late is never sent again as it is: the write may have happened, and the same would come too late again.
#[derive(Debug)]
pub(super) struct Slices(AtomicUsize);

impl Slices {
    pub(super) fn new() -> Self {
        telemetry::slice(MOST);
        Self(AtomicUsize::new(MOST))
    }

    /// Entries of the next slice, at most.
    pub(super) fn most(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// `entries` were taken within `elapsed` of the `time` that a write has.
    pub(super) fn taken(&self, entries: usize, elapsed: Duration, time: Duration) {
        let grown = entries.saturating_mul(2).min(MOST);
        // Only a full slice says something about a larger one; another writer may have learnt meanwhile.
        if elapsed < time / ROOM && self.0.compare_exchange(entries, grown, Relaxed, Relaxed).is_ok() {
            telemetry::slice(grown);
        }
    }

    /// `entries` were not taken in time.
    pub(super) fn late(&self, entries: usize) {
        let half = (entries / 2).max(1);
        let before = self.0.fetch_min(half, Relaxed);
        telemetry::slice(before.min(half));
    }
}
