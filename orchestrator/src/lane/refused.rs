//! What Kafka does not take of an attempt, and whose fault that is.
//!
//! The record's, if it or its transform chose what is refused: bytes, a timestamp, a partition or a topic of its own. Everything
//! else is the destination's: the lane waits, condemns nothing and goes on by itself.

use std::collections::BTreeSet;

use tokio::time::Instant;
use tracker_api::Failure;

use super::{Lane, Settings, commit::Place, partition::State, stalls::Why};
use crate::{
    config::FailureMode,
    kafka::{Attempt, Error, Refused, Send, Session, What},
    mutant::{self, Mutant},
    transform::Transform,
};

/// The class of a failure that Kafka found.
const CLASS: &str = "output_refused";

/// Whether the record, or its transform for this record, chose what is refused.
fn is_own(send: &Send, what: What, settings: &Settings) -> bool {
    match what {
        What::Record => true,
        What::Timestamp => send.timestamp.is_some(),
        What::Partition => send.partition.is_some(),
        What::Topic => send.topic != settings.target && !settings.declared.contains(&send.topic),
    }
}

impl<S: Session, T: Transform> Lane<S, T> {
    /// Takes up that these records of an attempt were refused. A failure found here takes the path of one found by the
    /// transform: the next batch begins with `decide`, which stops before it or passes it over, as the failure mode says.
    pub(super) fn refused(
        &mut self,
        attempt: &Attempt,
        sources: &[Place],
        refused: Vec<Refused>,
        in_store: bool,
    ) {
        let at = self.recorder.now();
        let mut failed: BTreeSet<&Place> = BTreeSet::new();
        let mut destination = None;
        for Refused { send, what, why } in refused {
            let (Some(sent), Some(place)) = (attempt.sends.get(send), sources.get(send)) else {
                continue;
            };
            let (partition, index) = place;
            let work = self.owned.get_mut(partition).and_then(|o| o.work.get_mut(*index));
            let Some(work) = work.filter(|_| !failed.contains(place)) else {
                continue;
            };
            if !matches!(work.state, State::Ready(_)) {
                failed.insert(place);
                self.letter_refused(place, what, &why, in_store);
            } else if is_own(sent, what, &self.settings) {
                let passes = self.settings.failure_mode == FailureMode::SkipAndLog
                    || self.settings.skip.contains(&work.record.id);
                self.observer.transform_failed(CLASS);
                work.fail(Failure::new(CLASS, &why.message), passes, at);
                work.refused = true;
                if let Some(failure) = &work.failure {
                    self.said.say(&work.record.id, failure);
                }
                failed.insert(place);
            } else {
                destination.get_or_insert(why);
            }
        }
        if !failed.is_empty() {
            self.observer.aborted("refused");
            self.aborts = 0;
            self.batch_after = Instant::now();
            self.judged = true;
            if mutant::active(Mutant::RefusedWithoutBlock) {
                self.judged = false;
                self.batch_after += std::time::Duration::from_secs(1);
            }
        } else if let Some(why) = destination {
            self.destination(&why);
        }
    }

    /// A topic or its broker takes nothing, whatever the record.
    pub(super) fn destination(&mut self, why: &Error) {
        self.observer.aborted("destination");
        let text = format!(
            "{why}. No record is at fault: nothing fails for it, and it goes on by itself when this is mended"
        );
        self.stand(None, Why::Destination, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::tests::settings;

    #[test]
    fn a_refusal_is_the_records_only_if_it_chose_what_is_refused() {
        let settings = Settings {
            declared: ["declared".into()].into(),
            ..settings()
        };
        let send = |topic: &str| Send {
            topic: topic.into(),
            partition: None,
            key: None,
            value: None,
            headers: vec![],
            timestamp: None,
        };
        let chosen = Send {
            partition: Some(7),
            timestamp: Some(7),
            ..send("enriched")
        };
        let table = [
            (send("enriched"), What::Topic, false),
            (send("declared"), What::Topic, false),
            (send("by its data"), What::Topic, true),
            (send("enriched"), What::Record, true),
            (send("enriched"), What::Timestamp, false),
            (send("enriched"), What::Partition, false),
            (chosen.clone(), What::Timestamp, true),
            (chosen, What::Partition, true),
        ];
        for (send, what, own) in table {
            assert_eq!(is_own(&send, what, &settings), own, "{what:?} of {send:?}");
        }
    }
}
