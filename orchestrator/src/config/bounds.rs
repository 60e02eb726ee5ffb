//! Bounds of single values, and relations between them.

use std::{path::Path, time::Duration};

use super::{
    check::{Checks, count},
    units::show,
    words::Tracking,
    written::Written,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const MILLISECOND: Duration = Duration::from_millis(1);

impl Checks<'_> {
    fn range(&mut self, key: &str, value: u64, from: u64, to: u64) {
        if !(from..=to).contains(&value) {
            self.wrong(key, format!("{value} is outside {from} to {to}"));
        }
    }

    fn span(&mut self, key: &str, value: Duration, from: Duration, to: Duration) {
        if !(from..=to).contains(&value) {
            let (value, from, to) = (show(value), show(from), show(to));
            self.wrong(key, format!("{value} is outside {from} to {to}"));
        }
    }

    pub(super) fn bounds(&mut self, w: &Written) {
        self.range("concurrency", w.concurrency.unwrap_or(1), 1, 64);
        self.range("batch-records", w.batch_records, 1, 100_000);
        if !((1 << 10)..=(256 << 20)).contains(&w.batch_bytes.0) {
            self.wrong(
                "batch-bytes",
                format!("{} is outside 1KiB to 256MiB", w.batch_bytes),
            );
        }
        self.span("batch-min-delay", w.batch_min_delay.0, Duration::ZERO, SECOND);
        self.span("batch-max-delay", w.batch_max_delay.0, MILLISECOND, 10 * SECOND);
        self.range("transform-concurrency", w.transform_concurrency, 1, 4_096);
        self.span(
            "transform-timeout",
            w.transform_timeout.0,
            MILLISECOND,
            60 * MINUTE,
        );
        self.range("max-attempts", w.max_attempts, 1, 1_000);
        self.span("backoff", w.backoff.0, MILLISECOND, 60 * MINUTE);
        self.span("max-backoff", w.max_backoff.0, MILLISECOND, 60 * MINUTE);
        self.span("db-timeout-ms", w.db_timeout_ms.0, MILLISECOND, MINUTE);
        self.range("db-tries", w.db_tries, 1, 10);
        self.range(
            "db-circuit-failure-threshold",
            w.db_circuit_failure_threshold,
            1,
            1_000,
        );
        self.span(
            "db-circuit-open-ms",
            w.db_circuit_open_ms.0,
            100 * MILLISECOND,
            10 * MINUTE,
        );
        self.span("shutdown-timeout", w.shutdown_timeout.0, SECOND, 10 * MINUTE);
        self.span("session-timeout", w.session_timeout.0, SECOND, 30 * MINUTE);
        self.span(
            "transaction-timeout",
            w.transaction_timeout.0,
            SECOND,
            15 * MINUTE,
        );
        self.span(
            "max-poll-interval",
            w.max_poll_interval.0,
            10 * SECOND,
            24 * 60 * MINUTE,
        );
        for (key, keep) in [
            ("retention.succeeded", w.retention.succeeded.0),
            ("retention.resolved", w.retention.resolved.0),
        ] {
            self.span(key, keep.unwrap_or(MINUTE), MINUTE, 3_650 * 24 * 60 * MINUTE);
        }
        if w.session_timeout.0 >= SECOND && w.session_timeout.0 < 6 * SECOND {
            let warning = "`session-timeout` is below 6s: a broker refuses that unless its `group.min.session.timeout.ms` was lowered";
            self.report
                .warn((self.origin)(&["session-timeout"]).as_ref(), warning);
        }
        if let Err(why) = crate::http::socket_fits(Path::new(&w.data_dir)) {
            self.wrong("data-dir", why);
        }
        if w.data_dir.chars().any(char::is_control) {
            self.wrong("data-dir", "control characters cannot stand here");
        }
        self.part_of_ids("transactional-id-prefix", &w.transactional_id_prefix, 250);
        self.part_of_ids("group-id", w.group_id.as_deref().unwrap_or_default(), 500);
    }

    pub(super) fn relations(&mut self, w: &Written) {
        let poll = w.max_poll_interval.0;
        let mut below = |key: &str, value: Duration, limit_key: &str, limit: Duration, why: &str| {
            if value >= limit && !self.report.has(&format!("orchestrator.{key}")) {
                let (value, limit) = (show(value), show(limit));
                self.wrong(
                    key,
                    format!("{value} is not below `{limit_key}` ({limit}): {why}"),
                );
            }
        };
        below(
            "transform-timeout",
            w.transform_timeout.0,
            "max-poll-interval",
            poll,
            "a slow transform would cost the lane its partitions",
        );
        below(
            "transaction-timeout",
            w.transaction_timeout.0,
            "max-poll-interval",
            poll,
            "nothing is polled while a transaction is open, so the group would expel a lane that waits for one",
        );
        below(
            "session-timeout",
            w.session_timeout.0,
            "max-poll-interval",
            poll,
            "librdkafka refuses it otherwise",
        );
        below(
            "shutdown-timeout",
            w.shutdown_timeout.0,
            "max-poll-interval",
            poll,
            "a lane that drains for longer is expelled while it does",
        );
        let store = w.db_timeout_ms.0.saturating_mul(count(w.db_tries));
        below(
            "db-timeout-ms",
            store,
            "shutdown-timeout",
            w.shutdown_timeout.0,
            "with `db-tries`, this is how long a stop waits for the store",
        );
        if w.batch_min_delay.0 > w.batch_max_delay.0 {
            self.wrong(
                "batch-min-delay",
                format!(
                    "{} is above `batch-max-delay` ({})",
                    w.batch_min_delay, w.batch_max_delay
                ),
            );
        }
        if w.backoff.0 > w.max_backoff.0 {
            self.wrong(
                "backoff",
                format!("{} is above `max-backoff` ({})", w.backoff, w.max_backoff),
            );
        }
        if w.outbox.skip_succeeded && w.tracking != Tracking::Outbox {
            let origin = (self.origin)(&["outbox", "skip-succeeded"]);
            let reason = format!(
                "only `tracking: outbox` knows what has succeeded; `tracking` is `{}`",
                w.tracking
            );
            self.report.problem(
                origin.as_ref(),
                Some("orchestrator.outbox.skip-succeeded"),
                reason,
            );
        }
    }
}
