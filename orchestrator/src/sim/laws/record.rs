//! What a commit may make of one record.

use tracker_api::{MemoryTracker, Outcome, RecordId};

use super::{
    Fact, Laws, Stores, is_reliable,
    reading::{Noted, header, held},
};
use crate::{config::Tracking, kafka::Send, sim::fate::Fate, transform::SourceRecord};

impl Laws {
    pub(super) fn check_record(
        &mut self,
        record: &SourceRecord,
        sends: &[&Send],
        (attempt, noted): (&str, &Noted),
        stores: &Stores<'_>,
    ) {
        let id = &record.id;
        let fate = Fate::of(record);
        let is_dead = |send: &&&Send| Some(&send.topic) == self.rules.dead_letter.as_ref();
        let dead = sends.iter().filter(is_dead).count();
        let outputs: Vec<_> = sends.iter().filter(|s| !is_dead(s)).copied().collect();
        let tracking = self.tracking_of(attempt);
        let skipped = self.rules.skips
            && tracking == Tracking::Outbox
            && sends.is_empty()
            && self.has_succeeded_before(noted.era, id);
        self.skipped += u32::from(skipped);
        let produced = skipped || fate.outputs() == Some(outputs.len()) && dead == 0;
        let failed = !produced;
        if outputs.is_empty() && failed {
            self.check_failure(record, dead, (attempt, noted), stores);
        } else if failed {
            self.broken(
                "I2/I4",
                format!(
                    "{attempt} commits {} outputs and {dead} dead letters of {id}, {fate:?}",
                    outputs.len()
                ),
            );
        }
        for (i, send) in outputs.iter().enumerate() {
            let number = format!("{}/{}", i + 1, outputs.len());
            if outputs.len() > 1 && header(send, "orchestrator-output") != Some(&number) {
                self.broken(
                    "I4",
                    format!(
                        "{attempt}: output {number} of {id} says {:?}",
                        header(send, "orchestrator-output")
                    ),
                );
            }
            let key = (
                id.partition.clone(),
                send.topic.clone(),
                send.key.clone().unwrap_or_default().to_vec(),
            );
            let last = self.order.insert(key, (id.offset, i));
            if last.is_some_and(|last| last >= (id.offset, i)) {
                self.broken("I5", format!("{id} output {i} follows {last:?} of the same key"));
            }
        }
        if produced && !skipped && tracking == Tracking::Outbox && !noted.has_gap(id.offset) {
            let known = held(stores.store, id).is_some_and(|e| e.version.era == noted.era);
            if !known {
                self.broken(
                    "outbox",
                    format!("{attempt} passes {id}, which the store was not told of, and leaves no gap"),
                );
            }
        }
        let fact = Fact {
            attempt: attempt.to_owned(),
            failed,
            tracking,
        };
        if let Some(first) = self.facts.insert((noted.era, id.clone()), fact) {
            self.broken(
                "I2",
                format!("{id} is passed by {attempt}, and was by {}", first.attempt),
            );
        }
    }

    /// Whether a commit of an older era made a success of this record.
    fn has_succeeded_before(&self, era: u64, id: &RecordId) -> bool {
        let since = self.since.get(&id.partition).copied().unwrap_or(0);
        let older = self
            .facts
            .iter()
            .filter(|((of, about), _)| (since..era).contains(of) && about == id);
        older.into_iter().any(|(_, fact)| !fact.failed)
    }

    /// A record is passed without output although its fate is not to be filtered.
    fn check_failure(
        &mut self,
        record: &SourceRecord,
        dead: usize,
        (attempt, noted): (&str, &Noted),
        stores: &Stores<'_>,
    ) {
        let id = &record.id;
        self.passed += 1;
        if !Fate::of(record).may_fail() && !self.excused.contains(id) && !self.is_skipped(noted.era, id) {
            self.broken("I1", format!("{attempt} passes {id} without output: lost"));
            return;
        }
        if self.rules.is_atomic && !self.is_skipped(noted.era, id) {
            self.broken(
                "I13",
                format!("{attempt} passes {id}, which failed and was not resolved"),
            );
        }
        if dead != usize::from(self.rules.dead_letter.is_some()) {
            self.broken("I1", format!("{attempt} passes {id} with {dead} dead letters"));
        }
        let tracking = self.tracking_of(attempt);
        let traced = |tracker: &MemoryTracker| {
            held(tracker, id).is_some_and(|e| {
                e.version.era == noted.era
                    && e.version.outcome >= Outcome::Failing
                    && e.version.attempt.to_string() == attempt
                    && e.failure.is_some_and(|f| f.passes)
            })
        };
        let elsewhere = stores.fallbacks.iter().any(traced) || dead > 0;
        if is_reliable(tracking) && !traced(stores.store) && !elsewhere {
            self.broken(
                "before",
                format!("{attempt} passes {id}, whose failure is durable nowhere"),
            );
        } else if !(is_reliable(tracking) && traced(stores.store) || noted.has_gap(id.offset)) {
            self.broken(
                "gap",
                format!("{attempt} passes {id}, whose failure the store does not hold, and leaves no gap"),
            );
        }
        self.open.insert(
            id.clone(),
            Fact {
                attempt: attempt.to_owned(),
                failed: true,
                tracking,
            },
        );
    }
}
