use std::time::Duration;

use tracker_api::{Failure, RecordId};

use crate::{panics::message, telemetry::Repeated};

/// One line per cause within so long.
const ONCE_IN: Duration = Duration::from_secs(10);

/// Logs failing records: one line per cause every ten seconds, with how many were left out, so that a flood of one
/// cause hides neither the others nor the disk.
#[derive(Debug)]
pub(super) struct Said {
    causes: Repeated<u64>,
    messages: bool,
}

impl Said {
    /// With `messages` each line carries what the transform said.
    pub(super) fn new(messages: bool) -> Self {
        Self {
            causes: Repeated::every(ONCE_IN),
            messages,
        }
    }

    /// The transform's message. It may quote the record: so it is cut and escaped, and a key turns it off.
    fn why(&self, failure: &Failure) -> Option<String> {
        self.messages.then(|| message(&failure.message))
    }

    /// A record failed: it is passed over, or it is tried again.
    pub(super) fn say(&mut self, id: &RecordId, failure: &Failure) {
        let Some(suppressed) = self.causes.due(failure.fingerprint) else {
            return;
        };
        let what = if failure.passes {
            "a record failed and is passed over"
        } else {
            "a record failed and is tried again"
        };
        let why = self.why(failure);
        tracing::warn!(dedupKey = %id, class = %failure.class, tries = failure.tries, why, suppressed, "{what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_failed_record_carries_its_message_cut_and_escaped_unless_a_key_turns_it_off() {
        let failure = Failure::new("malformed", &format!("no price\n\u{1b}[2J{}", "x".repeat(5_000)));
        let why = Said::new(true).why(&failure).unwrap();
        assert!(why.starts_with(r"no price\n\u{1b}[2Jxxx"), "{why}");
        assert!(why.chars().count() <= 301 && !why.contains('\n'), "{why}");
        assert_eq!(Said::new(false).why(&failure), None);
    }
}
