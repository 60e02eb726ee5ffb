use std::time::Duration;

use tracker_api::{Failure, RecordId};

use crate::telemetry::Repeated;

/// One line per cause within so long.
const ONCE_IN: Duration = Duration::from_secs(10);

/// Logs failing records: one line per cause every ten seconds, with how many were left out, so that a flood of one
/// cause hides neither the others nor the disk.
#[derive(Debug)]
pub(super) struct Said(Repeated<u64>);

impl Default for Said {
    fn default() -> Self {
        Self(Repeated::every(ONCE_IN))
    }
}

impl Said {
    /// A record failed: it is passed over, or it is tried again.
    pub(super) fn say(&mut self, id: &RecordId, failure: &Failure) {
        let Some(suppressed) = self.0.due(failure.fingerprint) else {
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
}
