//! A warning that repeats: said at once, then now and then, with how often it was left out.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// Causes that are told apart; beyond it the one that was said longest ago is forgotten.
const MOST_CAUSES: usize = 256;

/// Decides which of many equal log lines are written, so that an outage of an hour fills no disk and a flood of one cause
/// hides no other. Per cause, at most [`lines`](Self::lines) lines (1 unless set) within each period; the first line of the
/// next period says how many were left out. Memory is bounded: 256 causes.
///
/// ```ignore
/// if let Some(left_out) = self.said.due(partition.clone()) {
///     tracing::warn!(%partition, %error, left_out, "the store did not answer; trying again");
/// }
/// ```
#[derive(Debug)]
pub(crate) struct Repeated<K> {
    period: Duration,
    lines: u64,
    causes: BTreeMap<K, Period>,
}

#[derive(Debug)]
struct Period {
    begun: Instant,
    /// Of this period, also those that were left out.
    lines: u64,
}

impl<K: Ord + Clone> Repeated<K> {
    /// One line per cause and `period`.
    pub(crate) const fn every(period: Duration) -> Self {
        Self {
            period,
            lines: 1,
            causes: BTreeMap::new(),
        }
    }

    /// Allows `lines` lines per cause and period; 0 means 1.
    #[must_use]
    pub(crate) const fn lines(mut self, lines: u64) -> Self {
        self.lines = if lines == 0 { 1 } else { lines };
        self
    }

    /// Whether a line about `cause` is due now, and how many were left out since the last one.
    pub(crate) fn due(&mut self, cause: K) -> Option<u64> {
        let now = Instant::now();
        if let Some(period) = self.causes.get_mut(&cause) {
            let mut left_out = 0;
            if now.duration_since(period.begun) >= self.period {
                left_out = period.lines.saturating_sub(self.lines);
                *period = Period { begun: now, lines: 0 };
            }
            period.lines += 1;
            return (period.lines <= self.lines).then_some(left_out);
        }
        if self.causes.len() >= MOST_CAUSES {
            let oldest = self.causes.iter().min_by_key(|(_, period)| period.begun);
            let oldest = oldest.map(|(cause, _)| cause.clone());
            oldest.map(|cause| self.causes.remove(&cause));
        }
        self.causes.insert(cause, Period { begun: now, lines: 1 });
        Some(0)
    }

    /// The cause is over: its next line is said at once. How many lines were left out since the last one; none if there
    /// was no line about it, so that only what was said is taken back.
    pub(crate) fn over(&mut self, cause: &K) -> Option<u64> {
        let period = self.causes.remove(cause)?;
        Some(period.lines.saturating_sub(self.lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn one_line_per_cause_and_period_says_how_many_were_left_out() {
        let mut said = Repeated::every(PERIOD);
        assert_eq!(
            (said.due(1), said.due(1), said.due(1), said.due(2)),
            (Some(0), None, None, Some(0))
        );
        tokio::time::advance(PERIOD).await;
        assert_eq!((said.due(1), said.due(1)), (Some(2), None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_lines_may_be_said_at_once() {
        let mut said = Repeated::every(PERIOD).lines(5);
        assert_eq!((0..100).filter(|_| said.due("flood").is_some()).count(), 5);
        tokio::time::advance(PERIOD).await;
        assert_eq!((said.due("flood"), said.due("flood")), (Some(95), Some(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_is_taken_back_once_and_said_at_once_when_it_comes_again() {
        let mut said = Repeated::every(PERIOD);
        assert_eq!(said.over(&1), None, "nothing was said");
        said.due(1);
        said.due(1);
        assert_eq!((said.over(&1), said.over(&1)), (Some(1), None));
        assert_eq!(said.due(1), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_causes_takes_bounded_memory() {
        let mut said = Repeated::every(PERIOD);
        for cause in 0..10_000 {
            assert_eq!(said.due(cause), Some(0));
        }
        assert_eq!(said.causes.len(), MOST_CAUSES);
    }
}
