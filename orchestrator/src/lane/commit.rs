//! An attempt: what it sends, how it ends, and what its commit makes true.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;
use tracker_api::{AttemptId, Entry, Failure, Gaps, Outcome, Partition, Timestamp};

use super::{
    Concluded, Error, Lane, SUSPENDED, dead_letter::dead_letter, outputs::attempt_value, partition::State,
    stalls::Why,
};
use crate::{
    config::FailureMode,
    kafka::{Aborted, Advance, Attempt, Committed, Send, Session},
    mutant::{self, Mutant},
    note::MOST_GAPS,
    recorder::{Done, Held},
    telemetry::Counts,
    transform::Transform,
};

/// Where a record stands in the lane: its partition, and its place in that partition's work.
pub(super) type Place = (Partition, usize);

/// What one attempt is to do: over how many works each partition advances, and what that makes durable first.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) id: AttemptId,
    pub(super) counts: BTreeMap<Partition, usize>,
    /// The failures that it passes, as `failing` entries.
    pub(super) passing: Vec<Entry>,
    pub(super) held: Held,
}

impl<S: Session, T: Transform> Lane<S, T> {
    /// Transacts a plan, and takes up its end.
    pub(super) async fn commit(&mut self, plan: Plan) -> Result<(), Error> {
        let (attempt, sources, gaps) = self.compose(&plan);
        if mutant::active(Mutant::SwapAfterSuccess) {
            let early = self.owned.iter().flat_map(|(p, o)| {
                let count = plan.counts.get(p).copied().unwrap_or(0);
                let version = o.version(plan.id, Outcome::Succeeded);
                o.work
                    .iter()
                    .take(count)
                    .map(move |w| w.entry(version, Timestamp(0)))
            });
            self.recorder.stopped(early.collect());
        }
        let started = Instant::now();
        let aborted = match self.conclude(&attempt).await? {
            Concluded::Committed(committed) => {
                self.mark(&committed, &plan, &attempt, &gaps, started.elapsed());
                return Ok(());
            }
            Concluded::TakenOver => {
                plan.counts.keys().for_each(|partition| self.restart(partition));
                return Ok(());
            }
            Concluded::NotCommitted(aborted) => aborted,
        };
        let what = "a transaction came to nothing; its records are tried again from memory";
        self.warn("aborted", format_args!("{what}: {aborted} (attempt {})", plan.id));
        self.void(&plan);
        self.aborts += 1;
        self.batch_after = Instant::now() + Duration::from_millis(10 << self.aborts.min(9));
        match aborted {
            Aborted::LostPartitions(lost) => {
                self.observer.aborted("lost partitions");
                lost.iter().for_each(|partition| self.drop_partition(partition));
                self.batch_after = Instant::now();
            }
            Aborted::NotMember(_) => {
                self.observer.aborted("not a member");
                self.batch_after = Instant::now() + SUSPENDED;
            }
            Aborted::Refused { send, why } => {
                self.observer.aborted("refused");
                let source = sources.get(send).cloned();
                self.refused(source, &why);
            }
            Aborted::Aborted(why) | Aborted::Unknown(why) | Aborted::Fenced(why) => {
                self.observer.aborted("aborted");
                self.stand(None, Why::Aborted, format!("a transaction was aborted: {why}"));
            }
        }
        Ok(())
    }

    /// The attempt, the place of each send's record, and the gaps that it opens in each partition.
    fn compose(&self, plan: &Plan) -> (Attempt, Vec<Place>, BTreeMap<Partition, Gaps>) {
        let value = attempt_value(plan.id);
        let (mut sends, mut sources): (Vec<Send>, Vec<Place>) = (Vec::new(), Vec::new());
        let (mut advance, mut all_gaps) = (Vec::new(), BTreeMap::new());
        for (partition, count) in &plan.counts {
            let Some(owned) = self.owned.get(partition) else {
                continue;
            };
            let mut gaps = Gaps::default();
            let mut passed = false;
            for (place, work) in owned.work.iter().take(*count).enumerate() {
                let offset = work.record.id.offset;
                match &work.state {
                    State::Ready(prepared) => sends.extend(prepared.iter().map(|p| p.send(&value))),
                    State::Passing => {
                        passed = true;
                        // What the store was not told before the commit, it may never be told.
                        let in_store = plan.held == Held::Store && self.recorder.is_reliable();
                        if !in_store && !mutant::active(Mutant::FallbackWithoutGap) {
                            gaps.add(offset..offset + 1);
                        }
                        if let (Some(topic), Some(failure)) = (&self.settings.dead_letter, &work.failure) {
                            let letter = dead_letter(
                                &work.record,
                                failure,
                                work.letter,
                                topic,
                                &value,
                                &self.settings,
                            );
                            sends.extend(letter);
                        }
                    }
                    State::Todo => {}
                }
                if work.unknown {
                    gaps.add(offset..offset + 1);
                }
                sources.resize(sends.len(), (partition.clone(), place));
            }
            let passed = passed && self.recorder.is_reliable();
            advance.push(owned.advance(partition, plan.id, *count, passed, &gaps));
            all_gaps.insert(partition.clone(), gaps);
        }
        (
            Attempt {
                id: plan.id,
                sends,
                advance,
            },
            sources,
            all_gaps,
        )
    }

    /// What a commit made true, in memory and in the tracker.
    fn mark(
        &mut self,
        committed: &Committed,
        plan: &Plan,
        attempt: &Attempt,
        gaps: &BTreeMap<Partition, Gaps>,
        elapsed: Duration,
    ) {
        let at = self.recorder.now();
        let mut counts = Counts {
            records_out: attempt.sends.len() as u64,
            ..Counts::default()
        };
        let mut done = Done {
            held: plan.held.clone(),
            ..Done::default()
        };
        for advance in &attempt.advance {
            let Some(owned) = self.owned.get_mut(&advance.partition) else {
                continue;
            };
            let count = plan.counts.get(&advance.partition).copied().unwrap_or(0);
            let failed = owned.version(plan.id, Outcome::Failed);
            let succeeded = owned.version(plan.id, Outcome::Succeeded);
            let mut closed = Vec::new();
            let mut passed = 0;
            for work in owned.work.drain(..count.min(owned.work.len())) {
                counts.records_in += 1;
                match &work.state {
                    State::Passing => {
                        passed += 1;
                        closed.push(work.record.id.offset);
                        let captured = self.recorder.capture(&work.record, true);
                        done.entries.push(Entry {
                            captured,
                            ..work.entry(failed, at)
                        });
                    }
                    State::Ready(prepared) => {
                        counts.filtered += u64::from(prepared.is_empty() && !work.skipped);
                        counts.skipped += u64::from(work.skipped);
                        if work.recorded {
                            // The entry of a skipped one begins afresh in this era: what is kept of successes, too.
                            let captured = work.skipped.then(|| self.recorder.capture(&work.record, false));
                            done.entries.push(Entry {
                                captured: captured.flatten(),
                                ..work.entry(succeeded, at)
                            });
                        }
                    }
                    State::Todo => {}
                }
            }
            counts.failed += passed;
            owned.failed += passed;
            owned.succeeded += count as u64 - passed;
            owned.committed = advance.next;
            owned.note.clone_from(&advance.note);
            if let Some(opened) = gaps.get(&advance.partition) {
                opened.iter().for_each(|gap| owned.gaps.add(gap.clone()));
                owned.gaps.bound(MOST_GAPS);
            }
            if passed > 0 {
                if self.recorder.is_reliable() {
                    owned.unconfirmed.push(plan.id);
                    if plan.held != Held::Store {
                        owned.gapped.push(plan.id);
                    }
                }
                done.passed.push((advance.partition.clone(), closed));
            }
            done.progress.push(owned.progress(&advance.partition, at));
        }
        if self.settings.dead_letter.is_some() {
            counts.dead_letters = counts.failed;
            counts.records_out -= counts.failed.min(counts.records_out);
        }
        self.recorder.after(committed, done);
        self.aborts = 0;
        // The cost of a commit is to be a small part of a cycle: under load the size closes a batch, idle the delay does.
        self.delay = (elapsed * 2).clamp(*self.settings.delay.start(), *self.settings.delay.end());
        self.observer.committed(&counts, elapsed);
        self.observer.lost(self.recorder.lost());
        for Advance { partition, .. } in &attempt.advance {
            if self.owned.get(partition).is_some_and(|o| o.blocked.is_some()) {
                self.stalls.advanced(partition);
            } else {
                self.stalls.moved(partition);
            }
        }
        for why in [Why::Kafka, Why::Store, Why::Aborted] {
            self.stalls.end(None, why);
        }
    }

    /// The attempt came to nothing, so its failures say nothing. The void's id lies below the next attempt's.
    fn void(&mut self, plan: &Plan) {
        if !self.recorder.is_reliable() {
            return;
        }
        let id = self.ids.next(&*self.clock);
        for (partition, owned) in &self.owned {
            let entries: Vec<Entry> = plan
                .passing
                .iter()
                .filter(|entry| entry.id.partition == *partition)
                .cloned()
                .collect();
            self.recorder.void(entries, owned.version(id, Outcome::Received));
        }
    }

    /// The broker refuses one record of the transaction: its source record becomes a failure. A dead letter that is
    /// refused holds everything up: nothing is passed over without a trace.
    fn refused(&mut self, source: Option<Place>, why: &crate::kafka::Error) {
        let at = self.recorder.now();
        let passes_named = |id| self.settings.skip.contains(id);
        let work = source
            .as_ref()
            .and_then(|(partition, place)| self.owned.get_mut(partition)?.work.get_mut(*place));
        let Some(work) = work.filter(|work| matches!(work.state, State::Ready(_))) else {
            let partition = source.map(|(partition, _)| partition);
            let text = format!("a dead letter cannot be sent: {why}");
            self.stand(partition.as_ref(), Why::DeadLetter, text);
            return;
        };
        let passes = self.settings.failure_mode == FailureMode::SkipAndLog || passes_named(&work.record.id);
        self.observer.transform_failed("output_refused");
        work.fail(Failure::new("output_refused", &why.message), passes, at);
        self.aborts = 0;
        self.batch_after = Instant::now();
    }
}
