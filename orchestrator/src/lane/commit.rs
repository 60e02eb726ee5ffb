//! An attempt: what it sends, how it ends, and what its commit makes true.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use tokio::time::Instant;
use tracker_api::{AttemptId, Entry, Gaps, Outcome, Partition, Timestamp};

use super::{
    Concluded, Error, Lane, SUSPENDED,
    dead_letter::{Form, dead_letter},
    outputs::attempt_value,
    pace::Load,
    partition::State,
    stalls::Why,
};
use crate::{
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
    /// What it sends.
    pub(super) load: Load,
    /// Where partitions go on without a record, behind what `counts` says of them: nothing.
    pub(super) onward: BTreeMap<Partition, Onward>,
}

/// A partition goes on without a record.
#[derive(Debug)]
pub(super) struct Onward {
    pub(super) to: i64,
    /// Offsets that nobody can read any more; otherwise nothing lay there to be read.
    pub(super) lost: Option<Range<i64>>,
}

impl<S: Session, T: Transform> Lane<S, T> {
    /// Transacts a plan, and takes up its end.
    pub(super) async fn commit(&mut self, plan: Plan) -> Result<(), Error> {
        if !self.is_fresh(plan.counts.keys()).await {
            self.void(&plan);
            return Ok(());
        }
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
            Aborted::Refused(refused) => {
                let in_store = plan.held == Held::Store && self.recorder.is_reliable();
                self.refused(&attempt, &sources, refused, in_store);
            }
            Aborted::Destination(why) => self.destination(&why),
            Aborted::Late(why) => {
                self.pace.late(plan.load);
                self.observer.aborted("late");
                let text =
                    format!("a transaction was not acknowledged in time and is tried again with less: {why}");
                self.stand(None, Why::Destination, text);
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
            let onward = plan.onward.get(partition);
            onward
                .and_then(|onward| onward.lost.clone())
                .into_iter()
                .for_each(|lost| gaps.add(lost));
            let step = owned.advance(partition, plan.id, *count, passed, &gaps);
            advance.push(Advance {
                next: onward.map_or(step.next, |onward| onward.to),
                ..step
            });
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
                        counts.letters_omitted += u64::from(work.letter == Form::None);
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
                            let entry = Entry {
                                captured: captured.flatten(),
                                ..work.entry(succeeded, at)
                            };
                            let of = if work.skipped {
                                &mut done.again
                            } else {
                                &mut done.entries
                            };
                            of.push(entry);
                        }
                    }
                    State::Todo => {}
                }
            }
            counts.failed += passed;
            owned.failed += passed;
            owned.succeeded += count as u64 - passed;
            owned.committed = advance.next;
            owned.received = owned.received.max(advance.next);
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
            if owned.missed.is_some() {
                done.progress
                    .push(owned.progress(&advance.partition, plan.id, at));
            }
        }
        if self.settings.dead_letter.is_some() {
            counts.dead_letters = counts.failed.saturating_sub(counts.letters_omitted);
            counts.records_out -= counts.dead_letters.min(counts.records_out);
            if counts.dead_letters > 0 {
                self.letters.taken();
            }
        }
        self.recorder.after(committed, done);
        self.aborts = 0;
        self.pace.committed(plan.load, elapsed);
        self.delay = self.settings.delay_after(elapsed);
        self.observer.committed(&counts, elapsed);
        self.observer.lost(self.recorder.lost());
        for Advance { partition, .. } in &attempt.advance {
            if self
                .owned
                .get(partition)
                .is_some_and(|o| o.is_waiting(Instant::now()))
            {
                self.stalls.advanced(partition);
            } else {
                self.stalls.moved(partition);
            }
        }
        for why in [Why::Kafka, Why::Store, Why::Aborted, Why::Destination] {
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
}
