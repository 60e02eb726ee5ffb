use metrics::{Counter, Gauge, Histogram, Label, Unit};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets; the upper bounds.
    Histogram(&'static [f64]),
}

/// One metric of the service.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name in Prometheus.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it counts in: `records`, `seconds`, …; empty for a state of 0 or 1.
    pub unit: &'static str,
    /// Its labels, all bounded.
    pub labels: &'static [&'static str],
    /// What it says, for a person.
    pub help: &'static str,
}

/// 1 ms to 60 s: transactions, store calls, batches.
const CALLS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// 1 µs to 10 s: one record's share of a batch.
const RECORDS: &[f64] = &[
    1e-6, 5e-6, 1e-5, 5e-5, 1e-4, 5e-4, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0,
];

macro_rules! catalogue {
    ($($constant:ident: $kind:expr, $name:literal, $unit:literal, [$($label:literal),*], $help:literal;)+) => {
        $(pub(super) const $constant: Metric = Metric {
            name: $name,
            kind: $kind,
            unit: $unit,
            labels: &[$($label),*],
            help: $help,
        };)+

        /// Every metric, in the order of the documentation.
        pub const CATALOGUE: &[Metric] = &[$($constant),+];
    };
}

catalogue! {
    RECORDS_OK: Kind::Counter, "orch_records_ok_total", "records", ["lane"],
        "Source records whose success is committed, filtered and skipped ones included";
    BATCH_OK: Kind::Counter, "orch_batch_ok_total", "batches", ["lane"],
        "Batches committed, each in one Kafka transaction";
    RECORDS_IN: Kind::Counter, "orch_records_in_total", "records", ["lane"],
        "Source records that committed transactions passed";
    RECORDS_OUT: Kind::Counter, "orch_records_out_total", "records", ["lane"],
        "Records produced in committed transactions, dead letters apart";
    RECORDS_FAILED: Kind::Counter, "orch_records_failed_total", "records", ["lane"],
        "Source records that committed transactions passed as failures";
    RECORDS_FILTERED: Kind::Counter, "orch_records_filtered_total", "records", ["lane"],
        "Source records for which the transform returned nothing";
    RECORDS_SKIPPED: Kind::Counter, "orch_records_skipped_total", "records", ["lane", "reason"],
        "Source records passed without output because the store holds their success (outbox.skip-succeeded)";
    DEAD_LETTERS: Kind::Counter, "orch_dead_letters_total", "records", ["lane"],
        "Dead letters produced in committed transactions";
    LETTERS_OMITTED: Kind::Counter, "orch_dead_letters_omitted_total", "records", ["lane"],
        "Failures that committed transactions passed without a dead letter, as the topic refused it in every form; the store holds them";
    TRANSFORM_FAIL: Kind::Counter, "orch_transform_fail_total", "tries", ["lane", "error_class"],
        "Tries of a transform that failed; the first 64 classes by name, the rest as other";
    TRANSFORMATION_TIME: Kind::Histogram(RECORDS), "orch_transformation_time_seconds", "seconds", ["lane"],
        "Time to transform a batch, divided by its records; one observation per batch";
    RECORDS_TIME: Kind::Histogram(RECORDS), "orch_records_processing_time_seconds", "seconds", ["lane"],
        "Time from transform to commit of a batch, divided by its records; one observation per batch";
    BATCH_TIME: Kind::Histogram(CALLS), "orch_batch_processing_time_seconds", "seconds", ["lane"],
        "Time to transform a batch and to commit it";
    TRANSACTION_TIME: Kind::Histogram(CALLS), "orch_transaction_duration_seconds", "seconds", ["lane"],
        "Time of a committed Kafka transaction from begin to commit";
    COMMIT_TIME: Kind::Histogram(CALLS), "orch_commit_duration_seconds", "seconds", ["lane"],
        "Time of the commit call alone";
    ABORTS: Kind::Counter, "orch_transactions_aborted_total", "transactions", ["lane", "kind"],
        "Transactions that did not commit, by kind";
    UNKNOWN: Kind::Counter, "orch_unknown_outcomes_total", "transactions", ["lane", "outcome"],
        "Commits without an answer, by what reading Kafka settled them to";
    RECYCLES: Kind::Counter, "orch_producer_recycles_total", "producers", ["lane", "reason"],
        "Producers replaced so that the broker refuses late requests, by reason";
    IN_FLIGHT: Kind::Gauge, "orch_in_flight_records", "records", ["lane"],
        "Records polled and not yet committed";
    LAG: Kind::Gauge, "orch_lag_records", "records", ["lane", "topic", "partition"],
        "Offsets between the committed offset and the last stable one; absent where that is not known, or the lane does not read the partition";
    OFFSETS_LOST: Kind::Counter, "orch_offsets_lost_total", "offsets", ["lane", "topic", "partition"],
        "Offsets that were deleted before they were read, and passed over as on-unreadable says";
    PARTITIONS: Kind::Gauge, "orch_assigned_partitions", "partitions", ["lane"],
        "Partitions that the lane owns";
    BLOCKED: Kind::Gauge, "orch_blocked_partitions", "partitions", ["lane"],
        "Partitions that stand at a failing record";
    STALLED: Kind::Gauge, "orch_stalled_partitions", "partitions", ["lane", "why"],
        "Partitions that do not move, by why; a reason of the whole lane counts once";
    ABANDONED: Kind::Gauge, "orch_abandoned_threads", "threads", [],
        "Threads that transforms hold and never give back; at 64 the process ends, to be started anew";
    LAST_PROGRESS: Kind::Gauge, "orch_last_progress_timestamp_seconds", "seconds", ["lane"],
        "When the lane last committed, or began, in seconds since the epoch";
    TRACKER_LOST: Kind::Counter, "orch_tracker_lost_total", "entries", ["lane"],
        "Failures that the tracker did not keep: its queue was full for too long an outage, or the store did not take them";
    STORE_BEHIND: Kind::Counter, "orch_store_behind_total", "offsets", ["lane"],
        "Offsets that the store had confirmed and did not know any more: it came back older, or was emptied";
    TRACKER_CALLS: Kind::Counter, "orch_tracker_calls_total", "calls", ["operation", "outcome"],
        "Calls to the store by outcome; circuit_open and probe_busy were not sent";
    TRACKER_TIME: Kind::Histogram(CALLS), "orch_tracker_call_duration_seconds", "seconds", ["operation"],
        "Time of a call to the store, its retries included";
    TRACKER_RETRIES: Kind::Counter, "orch_tracker_retries_total", "calls", ["operation"],
        "Calls to the store that were sent again after an outage";
    TRACKER_SLICE: Kind::Gauge, "orch_tracker_slice_entries", "entries", [],
        "Entries that one write to the store carries at most: halved when one comes too late, doubled while they are quick";
    PURGED: Kind::Counter, "orch_tracker_purged_total", "entries", ["kind"],
        "Entries that the retention has deleted: succeeded, resolved, or superseded by a newer era";
    DRAINED: Kind::Counter, "orch_fallback_drained_total", "entries", [],
        "Failures that were brought from the fallback into the store";
    CORRUPT_ROWS: Kind::Gauge, "orch_tracker_corrupt_rows", "rows", [],
        "Rows of the store that were met since it was opened and cannot be read: they are put aside";
    STORE_RISK: Kind::Gauge, "orch_tracker_risk", "", ["risk"],
        "1 for a promise that the tracking needs and that the store, as it is set up now, does not give";
    FALLBACK_HOLDS: Kind::Gauge, "orch_fallback_holds", "", [],
        "1 while the fallback holds failures that the store has not taken yet";
    CIRCUIT: Kind::Gauge, "orch_circuit_state", "", ["state"],
        "1 for the state that the store's circuit breaker is in, 0 for the others";
    CIRCUIT_OPEN: Kind::Gauge, "orch_db_circuit_open", "", [],
        "1 while the store's circuit breaker is open";
    DEGRADED: Kind::Gauge, "orch_db_degraded", "", [],
        "1 while the store does not answer, its circuit breaker is not closed, or it answers with errors that no waiting mends";
    BUILD_INFO: Kind::Gauge, "orch_build_info", "", ["version", "librdkafka"],
        "Always 1; the labels name the build";
}

impl Metric {
    pub(super) fn describe(&self) {
        let unit = match self.unit {
            "seconds" => Unit::Seconds,
            _ => Unit::Count,
        };
        match self.kind {
            Kind::Counter => metrics::describe_counter!(self.name, unit, self.help),
            Kind::Gauge => metrics::describe_gauge!(self.name, unit, self.help),
            Kind::Histogram(_) => metrics::describe_histogram!(self.name, unit, self.help),
        }
    }

    pub(super) fn counter(&self, labels: &[(&'static str, &str)]) -> Counter {
        metrics::counter!(self.name, self.with(labels))
    }

    pub(super) fn gauge(&self, labels: &[(&'static str, &str)]) -> Gauge {
        metrics::gauge!(self.name, self.with(labels))
    }

    pub(super) fn histogram(&self, labels: &[(&'static str, &str)]) -> Histogram {
        metrics::histogram!(self.name, self.with(labels))
    }

    fn with(&self, labels: &[(&'static str, &str)]) -> Vec<Label> {
        debug_assert!(
            labels
                .iter()
                .map(|(name, _)| *name)
                .eq(self.labels.iter().copied()),
            "{} is labelled otherwise than the catalogue says",
            self.name
        );
        labels
            .iter()
            .map(|(name, value)| Label::new(*name, (*value).to_owned()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let mut names = BTreeSet::new();
        for metric in CATALOGUE {
            let name = metric.name;
            assert!(names.insert(name), "{name} twice");
            assert!(name.starts_with("orch_"), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert_eq!(name.ends_with("_seconds"), metric.unit == "seconds", "{name}");
            assert!(metric.help.len() > 10 && !metric.help.contains('|'), "{name}");
        }
    }

    #[test]
    fn buckets_rise() {
        for metric in CATALOGUE {
            if let Kind::Histogram(buckets) = metric.kind {
                assert!(!buckets.is_empty(), "{}", metric.name);
                assert!(buckets.is_sorted_by(|a, b| a < b), "{}", metric.name);
            }
        }
    }

    #[test]
    fn the_names_of_the_original_are_kept() {
        for name in [
            "orch_records_ok_total",
            "orch_batch_ok_total",
            "orch_transform_fail_total",
            "orch_db_circuit_open",
            "orch_db_degraded",
            "orch_records_processing_time_seconds",
            "orch_batch_processing_time_seconds",
            "orch_transformation_time_seconds",
        ] {
            assert!(CATALOGUE.iter().any(|metric| metric.name == name), "{name}");
        }
    }
}
