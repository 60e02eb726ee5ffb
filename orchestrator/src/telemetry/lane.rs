use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use metrics::{Counter, Gauge, Histogram};
use tracker_api::Partition;

use super::{
    catalogue::{
        ABORTS, BATCH_OK, BATCH_TIME, BLOCKED, COMMIT_TIME, DEAD_LETTERS, IN_FLIGHT, LAG, LAST_PROGRESS,
        LETTERS_OMITTED, OFFSETS_LOST, RECORDS_FAILED, RECORDS_FILTERED, RECORDS_IN, RECORDS_OK, RECORDS_OUT,
        RECORDS_SKIPPED, RECORDS_TIME, RECYCLES, STALLED, STORE_BEHIND, TRACKER_LOST, TRANSACTION_TIME,
        TRANSFORM_FAIL, TRANSFORMATION_TIME, UNKNOWN,
    },
    classes::ERRORS,
};
use crate::lane::stalls::{Stall, Why};

/// What a committed attempt did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Source records that it passed, whatever became of them.
    pub records_in: u64,
    /// Records that it produced, dead letters apart.
    pub records_out: u64,
    /// Source records that it passed as failures.
    pub failed: u64,
    /// Source records that were done without output.
    pub filtered: u64,
    /// Source records that were passed without output, because their success was known (`outbox.skip-succeeded`).
    pub skipped: u64,
    /// Dead letters that it produced.
    pub dead_letters: u64,
    /// Failures that it passed without the dead letter, which the topic refused in every form.
    pub letters_omitted: u64,
}

/// The numbers of one lane. The lane counts by itself and publishes once per batch, after the commit: a metric never
/// claims what an abort may take back.
pub struct LaneMetrics {
    lane: String,
    ok: Counter,
    batches: Counter,
    records_in: Counter,
    records_out: Counter,
    failed: Counter,
    filtered: Counter,
    skipped: Counter,
    dead_letters: Counter,
    letters_omitted: Counter,
    transformation: Histogram,
    record_time: Histogram,
    batch_time: Histogram,
    transaction: Histogram,
    commit: Histogram,
    in_flight: Gauge,
    blocked: Gauge,
    last_progress: Gauge,
    lost: Counter,
    behind: Counter,
    lag: Mutex<BTreeMap<Partition, Gauge>>,
    /// Time spent in transforms since the last commit.
    transforming: Mutex<Duration>,
}

impl std::fmt::Debug for LaneMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneMetrics")
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

impl LaneMetrics {
    /// The numbers of lane `lane`, all of them present from now on. Call [`install`](super::install) before.
    pub fn new(lane: usize) -> Self {
        let lane = lane.to_string();
        let labels: &[(&'static str, &str)] = &[("lane", &lane)];
        let last_progress = LAST_PROGRESS.gauge(labels);
        // A lane that has had nothing to do yet is not one that has stood still since 1970.
        last_progress.set(now());
        Self {
            last_progress,
            ok: RECORDS_OK.counter(labels),
            batches: BATCH_OK.counter(labels),
            records_in: RECORDS_IN.counter(labels),
            records_out: RECORDS_OUT.counter(labels),
            failed: RECORDS_FAILED.counter(labels),
            filtered: RECORDS_FILTERED.counter(labels),
            skipped: RECORDS_SKIPPED.counter(&[("lane", &lane), ("reason", "succeeded")]),
            dead_letters: DEAD_LETTERS.counter(labels),
            letters_omitted: LETTERS_OMITTED.counter(labels),
            transformation: TRANSFORMATION_TIME.histogram(labels),
            record_time: RECORDS_TIME.histogram(labels),
            batch_time: BATCH_TIME.histogram(labels),
            transaction: TRANSACTION_TIME.histogram(labels),
            commit: COMMIT_TIME.histogram(labels),
            in_flight: IN_FLIGHT.gauge(labels),
            blocked: BLOCKED.gauge(labels),
            lost: TRACKER_LOST.counter(labels),
            behind: STORE_BEHIND.counter(labels),
            lag: Mutex::default(),
            transforming: Mutex::default(),
            lane,
        }
    }

    /// An attempt is committed: what it did, how long its transaction took from begin to commit, and the commit alone.
    pub fn committed(&self, counts: &Counts, transaction: Duration, commit: Duration) {
        self.ok.increment(counts.records_in.saturating_sub(counts.failed));
        self.batches.increment(1);
        self.records_in.increment(counts.records_in);
        self.records_out.increment(counts.records_out);
        self.failed.increment(counts.failed);
        self.filtered.increment(counts.filtered);
        self.skipped.increment(counts.skipped);
        self.dead_letters.increment(counts.dead_letters);
        self.letters_omitted.increment(counts.letters_omitted);
        self.transaction.record(transaction);
        self.commit.record(commit);
        let transforming =
            std::mem::take(&mut *self.transforming.lock().unwrap_or_else(PoisonError::into_inner));
        let whole = transforming + transaction;
        self.batch_time.record(whole);
        if counts.records_in > 0 {
            self.record_time.record(share(whole, counts.records_in));
        }
        self.last_progress.set(now());
    }

    /// An attempt came to nothing.
    pub fn aborted(&self, kind: &'static str) {
        ABORTS
            .counter(&[("lane", &self.lane), ("kind", kind)])
            .increment(1);
    }

    /// `n` producers were replaced.
    pub fn recycled(&self, n: u64, reason: &'static str) {
        RECYCLES
            .counter(&[("lane", &self.lane), ("reason", reason)])
            .increment(n);
    }

    /// A batch of `records` was transformed within `elapsed`.
    pub fn transformed(&self, records: u64, elapsed: Duration) {
        if records > 0 {
            self.transformation.record(share(elapsed, records));
        }
        *self.transforming.lock().unwrap_or_else(PoisonError::into_inner) += elapsed;
    }

    /// `n` tries failed with errors of `class`.
    pub fn transform_failed(&self, class: &str, n: u64) {
        TRANSFORM_FAIL
            .counter(&[("lane", &self.lane), ("error_class", ERRORS.label(class))])
            .increment(n);
    }

    /// `n` records are polled and not yet committed.
    pub fn in_flight(&self, n: usize) {
        self.in_flight.set(gauge(n));
    }

    /// The lag of every partition that the lane reads now. What is not known, or not read any more, is not shown.
    pub fn lag(&self, of: &[(Partition, Option<i64>)]) {
        let mut known = self.lag.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, gauge) in known.iter() {
            if !of.iter().any(|(named, lag)| named == partition && lag.is_some()) {
                gauge.set(super::NOT_KNOWN);
            }
        }
        for (partition, lag) in of
            .iter()
            .filter_map(|(partition, lag)| Some((partition, (*lag)?)))
        {
            let gauge = known.entry(partition.clone()).or_insert_with(|| {
                LAG.gauge(&[
                    ("lane", &self.lane),
                    ("topic", &partition.topic),
                    ("partition", &partition.number.to_string()),
                ])
            });
            #[allow(clippy::cast_precision_loss, reason = "exact below 2^53 records")]
            gauge.set(lag.max(0) as f64);
        }
    }

    /// So many offsets of a partition are lost.
    pub fn offsets_lost(&self, partition: &Partition, offsets: u64) {
        let number = partition.number.to_string();
        OFFSETS_LOST
            .counter(&[
                ("lane", &self.lane),
                ("topic", &partition.topic),
                ("partition", &number),
            ])
            .increment(offsets);
    }

    /// `n` partitions stand at a failing record.
    pub fn blocked(&self, n: usize) {
        self.blocked.set(gauge(n));
    }

    /// All that does not move.
    pub(crate) fn stalled(&self, stalls: &[Stall]) {
        for why in Why::ALL {
            let n = stalls.iter().filter(|stall| stall.why == why).count();
            STALLED
                .gauge(&[("lane", &self.lane), ("why", why.label())])
                .set(gauge(n));
        }
    }

    /// `n` more failures were not kept (tracking is `lightweight`).
    pub fn tracker_lost(&self, n: u64) {
        self.lost.increment(n);
    }

    /// The store lacks `n` more offsets that it had confirmed.
    pub fn store_behind(&self, n: u64) {
        self.behind.increment(n);
    }

    /// A commit without an answer was settled: `committed`, `aborted` or `taken_over`.
    pub fn unknown(&self, outcome: &'static str) {
        UNKNOWN
            .counter(&[("lane", &self.lane), ("outcome", outcome)])
            .increment(1);
    }
}

fn now() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}

fn share(of: Duration, records: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "exact below 2^53 records")]
    let records = records as f64;
    of.as_secs_f64() / records
}

fn gauge(n: usize) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "exact below 2^53")]
    let n = n as f64;
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    // The recorder is the process's: each test has a lane number of its own.

    fn line(rendered: &str, start: &str) -> Option<f64> {
        let line = rendered.lines().find(|line| line.starts_with(start))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    #[test]
    fn a_commit_publishes_what_it_did() {
        let renderer = super::super::install();
        let lane = LaneMetrics::new(901);
        let began = line(
            &renderer.render(),
            "orch_last_progress_timestamp_seconds{lane=\"901\"}",
        );
        assert!(began > Some(1.6e9), "{began:?}");
        lane.transformed(10, Duration::from_millis(20));
        let counts = Counts {
            records_in: 10,
            records_out: 14,
            failed: 2,
            filtered: 1,
            skipped: 3,
            dead_letters: 2,
            letters_omitted: 1,
        };
        lane.committed(&counts, Duration::from_millis(30), Duration::from_millis(3));
        lane.committed(
            &Counts::default(),
            Duration::from_millis(1),
            Duration::from_millis(1),
        );
        let text = renderer.render();
        for (metric, value) in [
            ("orch_records_ok_total", 8.0),
            ("orch_batch_ok_total", 2.0),
            ("orch_records_in_total", 10.0),
            ("orch_records_out_total", 14.0),
            ("orch_records_failed_total", 2.0),
            ("orch_records_filtered_total", 1.0),
            ("orch_dead_letters_total", 2.0),
            ("orch_dead_letters_omitted_total", 1.0),
            ("orch_batch_processing_time_seconds_count", 2.0),
            ("orch_records_processing_time_seconds_count", 1.0),
            ("orch_records_processing_time_seconds_sum", 0.005),
            ("orch_transformation_time_seconds_sum", 0.002),
            ("orch_transaction_duration_seconds_count", 2.0),
        ] {
            let found = line(&text, &format!("{metric}{{lane=\"901\"}}"));
            assert!(
                found.is_some_and(|found| (found - value).abs() < 1e-9),
                "{metric}: {found:?}\n{text}"
            );
        }
        let skipped = "orch_records_skipped_total{lane=\"901\",reason=\"succeeded\"}";
        assert_eq!(line(&text, skipped), Some(3.0), "{text}");
        let bucket = "orch_batch_processing_time_seconds_bucket{lane=\"901\",le=\"0.05\"}";
        assert_eq!(line(&text, bucket), Some(2.0), "{text}");
        assert!(line(&text, "orch_last_progress_timestamp_seconds{lane=\"901\"}") > Some(1.6e9));
    }

    #[test]
    fn the_lag_of_a_partition_that_left_or_that_nobody_knows_is_not_shown() {
        let renderer = super::super::install();
        let lane = LaneMetrics::new(902);
        let of = |n| Partition::new("orders", n);
        let shown = || {
            let text = renderer.render();
            [0, 1, 2].map(|n| {
                let start = format!("orch_lag_records{{lane=\"902\",topic=\"orders\",partition=\"{n}\"}}");
                line(&text, &start)
            })
        };
        lane.lag(&[(of(0), Some(7)), (of(1), Some(9)), (of(2), Some(11))]);
        assert_eq!(shown(), [Some(7.0), Some(9.0), Some(11.0)]);
        lane.lag(&[(of(0), Some(5)), (of(2), None)]);
        assert_eq!(shown(), [Some(5.0), None, None]);
        lane.lag(&[(of(0), Some(5)), (of(2), Some(0))]);
        assert_eq!(shown(), [Some(5.0), None, Some(0.0)]);
    }

    #[test]
    fn installing_twice_answers_with_the_same_metrics() {
        let first = super::super::install();
        let lane = LaneMetrics::new(903);
        lane.tracker_lost(1);
        lane.tracker_lost(3);
        let text = super::super::install().render();
        assert_eq!(line(&text, "orch_tracker_lost_total{lane=\"903\"}"), Some(4.0));
        assert!(
            text.contains("# HELP orch_tracker_lost_total Failures that"),
            "{text}"
        );
        assert!(first.render().contains("903"));
    }
}
