//! librdkafka's log lines, as ours. Each broker that goes away makes many, again and again: a few are enough.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::telemetry::Repeated;

/// A few lines of one facility in each window: the brokers of one cluster go away together, and each has its own.
static SAID: Mutex<Repeated<String>> = Mutex::new(Repeated::every(Duration::from_secs(10)).lines(5));

/// Logs a line, unless its facility said enough lately. `level` is syslog's.
pub(super) fn line(level: i32, facility: &str, line: &str) {
    let due = SAID
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .due(facility.to_owned());
    let Some(passed_over) = due else {
        return;
    };
    match level {
        ..=3 => tracing::error!(target: "librdkafka", facility, passed_over, "{line}"),
        4 => tracing::warn!(target: "librdkafka", facility, passed_over, "{line}"),
        5 | 6 => tracing::info!(target: "librdkafka", facility, passed_over, "{line}"),
        _ => tracing::debug!(target: "librdkafka", facility, passed_over, "{line}"),
    }
}
