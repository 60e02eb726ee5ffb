use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;
use tracker_api::{Failure, RecordId};

/// One line per cause within so long.
const ONCE_IN: Duration = Duration::from_secs(10);
/// Causes that are told apart; beyond it the oldest is forgotten.
const MOST_CAUSES: usize = 256;

/// Logs failing records: one line per cause every ten seconds, with how many were left out, so that a flood of one
/// cause hides neither the others nor the disk.
#[derive(Debug, Default)]
pub(super) struct Said {
    causes: BTreeMap<u64, (Instant, u64)>,
}

impl Said {
    /// A record failed: it is passed over, or it is tried again.
    pub(super) fn say(&mut self, id: &RecordId, failure: &Failure) {
        let Some(suppressed) = self.due(failure.fingerprint) else {
            return;
        };
        let what = if failure.passes {
            "a record failed and is passed over"
        } else {
            "a record failed and is tried again"
        };
        // The message is the transform's and may quote the record: it is logged only when somebody asks for it.
        tracing::warn!(dedupKey = %id, class = %failure.class, tries = failure.tries, suppressed, "{what}");
        tracing::debug!(dedupKey = %id, why = %failure.message.escape_debug(), "what the transform said");
    }

    /// Whether a line about this cause is due, and how many were left out since the last.
    fn due(&mut self, cause: u64) -> Option<u64> {
        let now = Instant::now();
        if let Some((last, suppressed)) = self.causes.get_mut(&cause) {
            if now.duration_since(*last) < ONCE_IN {
                *suppressed += 1;
                return None;
            }
            *last = now;
            return Some(std::mem::take(suppressed));
        }
        if self.causes.len() >= MOST_CAUSES {
            let oldest = self
                .causes
                .iter()
                .min_by_key(|(_, (last, _))| *last)
                .map(|(cause, _)| *cause);
            oldest.map(|cause| self.causes.remove(&cause));
        }
        self.causes.insert(cause, (now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_per_cause_every_ten_seconds_says_how_many_were_left_out() {
        let mut said = Said::default();
        assert_eq!(
            (said.due(1), said.due(1), said.due(1), said.due(2)),
            (Some(0), None, None, Some(0))
        );
        tokio::time::advance(ONCE_IN).await;
        assert_eq!((said.due(1), said.due(1)), (Some(2), None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_causes_takes_bounded_memory() {
        let mut said = Said::default();
        for cause in 0..10_000 {
            assert_eq!(said.due(cause), Some(0));
        }
        assert_eq!(said.causes.len(), MOST_CAUSES);
    }
}
