//! librdkafka's log lines, as ours. Each broker that goes away makes many, again and again: a few are enough.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// So many lines of one facility in each window.
const LINES: u32 = 5;
const WINDOW: Duration = Duration::from_secs(10);

struct Window {
    begun: Instant,
    lines: u32,
}

static WINDOWS: Mutex<Option<HashMap<String, Window>>> = Mutex::new(None);

/// Logs a line, unless its facility said enough lately. `level` is syslog's.
pub(super) fn line(level: i32, facility: &str, line: &str) {
    let Some(passed_over) = admit(facility, Instant::now()) else {
        return;
    };
    match level {
        ..=3 => tracing::error!(target: "librdkafka", facility, passed_over, "{line}"),
        4 => tracing::warn!(target: "librdkafka", facility, passed_over, "{line}"),
        5 | 6 => tracing::info!(target: "librdkafka", facility, passed_over, "{line}"),
        _ => tracing::debug!(target: "librdkafka", facility, passed_over, "{line}"),
    }
}

/// How many lines were passed over since the last one that was admitted; none if this one is passed over too.
fn admit(facility: &str, now: Instant) -> Option<u32> {
    let mut windows = WINDOWS.lock().unwrap_or_else(PoisonError::into_inner);
    let windows = windows.get_or_insert_default();
    let window = windows
        .entry(facility.to_owned())
        .or_insert(Window { begun: now, lines: 0 });
    let mut passed_over = 0;
    if now.saturating_duration_since(window.begun) >= WINDOW {
        passed_over = window.lines.saturating_sub(LINES);
        *window = Window { begun: now, lines: 0 };
    }
    window.lines += 1;
    (window.lines <= LINES).then_some(passed_over)
}

#[cfg(test)]
mod tests {
    use super::{LINES, WINDOW, admit};
    use std::time::Instant;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let now = Instant::now();
        let admitted = (0..100).filter(|_| admit("FLOOD", now).is_some()).count();
        assert_eq!(admitted, LINES as usize);
        assert_eq!(admit("FLOOD", now + WINDOW), Some(100 - LINES));
    }
}
