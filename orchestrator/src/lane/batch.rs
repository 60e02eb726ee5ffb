//! One batch: outbox, transform, decide, write, transact, mark.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracker_api::{AttemptId, Entry, Failure, Gaps, Outcome, Partition, Timestamp};

use super::{
    Concluded, Error, Lane, SUSPENDED,
    outputs::{attempt_value, dead_letter, prepare},
    partition::{Blocked, State},
    pool::{RecordRef, Verdict},
};
use crate::{
    config::FailureMode,
    kafka::{Aborted, Attempt, Committed, Send, Session},
    mutant::{self, Mutant},
    recorder::{Done, Held},
    telemetry::Counts,
    transform::{Transform, TransformError},
};

/// Where a record stands in the lane: its partition, and its place in that partition's work.
type Place = (Partition, usize);

/// Which failures pass their record.
#[derive(Debug)]
struct Judge {
    mode: FailureMode,
    max_attempts: u32,
    /// Tries before this one, and whether the configuration names the record to be skipped.
    records: Vec<(u32, bool)>,
}

impl Judge {
    fn passes(&self, index: usize, retryable: bool) -> bool {
        let (tries, named) = self.records.get(index).copied().unwrap_or_default();
        named || self.mode == FailureMode::SkipAndLog && (!retryable || tries + 1 >= self.max_attempts)
    }
}

/// What one attempt is to do: over how many works each partition advances, and what that makes durable first.
#[derive(Debug)]
struct Plan {
    id: AttemptId,
    counts: BTreeMap<Partition, usize>,
    /// The failures that it passes, as `failing` entries.
    passing: Vec<Entry>,
    held: Held,
}

impl<S: Session, T: Transform> Lane<S, T> {
    /// Takes what is ready through to its commit, or back to memory.
    pub(super) async fn batch(&mut self) -> Result<(), Error> {
        let id = self.ids.next(&*self.clock);
        let now = Instant::now();
        let ready: Vec<Partition> = self
            .owned
            .iter()
            .filter(|(_, o)| o.is_ready(now))
            .map(|(p, _)| p.clone())
            .collect();
        for partition in &ready {
            if let Some(owned) = self.owned.get_mut(partition) {
                owned.blocked = None;
            }
        }
        if !self.receive(&ready, id).await? || !self.transform(&ready).await? {
            return Ok(());
        }
        let Some(plan) = self.decide(&ready, id).await? else {
            return Ok(());
        };
        self.commit(plan).await
    }

    /// Under `outbox`: an entry per record, durable before its transform. False: not now.
    async fn receive(&mut self, ready: &[Partition], id: AttemptId) -> Result<bool, Error> {
        if !self.recorder.is_outbox() {
            return Ok(true);
        }
        let at = self.recorder.now();
        let mut entries = Vec::new();
        for owned in ready.iter().filter_map(|p| self.owned.get(p)) {
            let version = owned.version(id, Outcome::Received);
            for work in owned
                .work
                .iter()
                .filter(|w| !w.recorded && matches!(w.state, State::Todo))
            {
                let captured = self.recorder.capture(&work.record, false);
                entries.push(Entry {
                    captured,
                    ..work.entry(version, at)
                });
            }
        }
        if entries.is_empty() {
            return Ok(true);
        }
        let told: Vec<_> = entries.iter().map(|entry| entry.id.clone()).collect();
        let received = self.recorder.clone().received(entries);
        match self.breathe_while(received).await? {
            None => Ok(false),
            Some(Err(error)) => {
                self.put_off(format!(
                    "waiting for the store, as outbox with on-store-failure: block must: {error}"
                ));
                Ok(false)
            }
            Some(Ok(durable)) => {
                for id in told {
                    let Some(owned) = self.owned.get_mut(&id.partition) else {
                        continue;
                    };
                    // The works of one partition are in offset order.
                    let place = owned
                        .work
                        .partition_point(|work| work.record.id.offset < id.offset);
                    if let Some(work) = owned.work.get_mut(place) {
                        work.recorded = durable;
                        work.unknown = !durable;
                    }
                }
                Ok(true)
            }
        }
    }

    /// Runs what is to be transformed. False: the lane is to stop.
    async fn transform(&mut self, ready: &[Partition]) -> Result<bool, Error> {
        let mut places: Vec<Place> = Vec::new();
        let mut records: Vec<RecordRef> = Vec::new();
        let mut judge = Judge {
            mode: self.settings.failure_mode,
            max_attempts: self.settings.max_attempts,
            records: Vec::new(),
        };
        for (partition, owned) in ready.iter().filter_map(|p| Some((p, self.owned.get(p)?))) {
            for (place, work) in owned
                .work
                .iter()
                .enumerate()
                .filter(|(_, w)| matches!(w.state, State::Todo))
            {
                places.push((partition.clone(), place));
                records.push(work.record.clone());
                judge
                    .records
                    .push((work.tries(), self.settings.skip.contains(&work.record.id)));
            }
        }
        if records.is_empty() {
            return Ok(true);
        }
        let started = Instant::now();
        self.observer.in_flight(records.len());
        let judge = Arc::new(judge);
        let stops = {
            let judge = judge.clone();
            Arc::new(move |index: usize, error: &TransformError| !judge.passes(index, error.retryable))
        };
        let pool = self.pool.clone();
        let verdicts = self
            .breathe_while(async move { pool.run(records, stops).await })
            .await?;
        let Some(verdicts) = verdicts else {
            return Ok(false);
        };
        self.observer.transformed(verdicts.len(), started.elapsed());
        self.observer.in_flight(0);
        for (index, (place, verdict)) in places.into_iter().zip(verdicts).enumerate() {
            self.judge(&judge, index, &place, verdict);
        }
        Ok(true)
    }

    fn judge(&mut self, judge: &Judge, index: usize, (partition, place): &Place, verdict: Verdict) {
        // The partition may have gone meanwhile; one that is here has only grown at its end.
        let Some(work) = self.owned.get_mut(partition).and_then(|o| o.work.get_mut(*place)) else {
            return;
        };
        let error = match verdict {
            Verdict::NotRun => return,
            Verdict::Done(output) => match prepare(&work.record.id, output, &self.settings) {
                Ok(prepared) => {
                    work.state = State::Ready(prepared);
                    return;
                }
                Err(error) => error,
            },
            Verdict::Failed(error) => error,
        };
        self.observer.transform_failed(&error.class);
        let passes = judge.passes(index, error.retryable);
        work.fail(
            Failure::new(&error.class, &error.message),
            passes,
            self.recorder.now(),
        );
    }

    /// Cuts each partition before its first record that is to be tried again, and makes durable what must be before the
    /// commit. None: nothing advances now.
    async fn decide(&mut self, ready: &[Partition], id: AttemptId) -> Result<Option<Plan>, Error> {
        let at = self.recorder.now();
        let mut plan = Plan {
            id,
            counts: BTreeMap::new(),
            passing: Vec::new(),
            held: Held::Store,
        };
        let mut stopped = Vec::new();
        for partition in ready {
            stopped.extend(self.block(partition, id, at));
            let Some(owned) = self.owned.get_mut(partition) else {
                continue;
            };
            let mut count = owned.done();
            let passing = |work: &&super::partition::Work| matches!(work.state, State::Passing);
            let first = owned.work.iter().take(count).position(|w| passing(&w));
            if let Some(first) = first.filter(|_| self.recorder.is_reliable() && owned.is_full()) {
                count = first;
                let why = "waiting for the store to confirm earlier failures".to_owned();
                self.observer.reason(Some(why));
                self.batch_after = Instant::now() + Duration::from_millis(20);
            }
            let version = owned.version(id, Outcome::Failing);
            for work in owned
                .work
                .iter_mut()
                .take(count)
                .filter(|w| matches!(w.state, State::Passing))
            {
                work.recorded = true;
                let captured = self.recorder.capture(&work.record, true);
                plan.passing.push(Entry {
                    captured,
                    ..work.entry(version, at)
                });
            }
            if count > 0 {
                plan.counts.insert(partition.clone(), count);
            }
        }
        self.recorder.stopped(stopped);
        let dead_letters = self.settings.dead_letter.is_some();
        let before = self.recorder.clone().before(plan.passing.clone(), dead_letters);
        match self.breathe_while(before).await? {
            None => return Ok(None),
            Some(Err(error)) => {
                self.put_off(format!(
                    "waiting for the store to hold {} failures: {error}",
                    plan.passing.len()
                ));
                return Ok(None);
            }
            Some(Ok(Held::Superseded(ids))) => {
                for id in ids {
                    tracing::warn!(dedup_key = %id, "a newer owner wrote about this record: reading its partition's position again");
                    self.restart(&id.partition);
                }
                return Ok(None);
            }
            Some(Ok(held)) => plan.held = held,
        }
        plan.counts
            .retain(|partition, _| self.owned.contains_key(partition));
        plan.passing
            .retain(|entry| self.owned.contains_key(&entry.id.partition));
        Ok((!plan.counts.is_empty()).then_some(plan))
    }

    /// Stops a partition whose first unfinished record has failed and is to be tried again.
    fn block(&mut self, partition: &Partition, id: AttemptId, at: Timestamp) -> Option<Entry> {
        let backoff = self.settings.backoff;
        let jitter = id.0.as_u128() as u64;
        let owned = self.owned.get_mut(partition)?;
        let done = owned.done();
        let version = owned.version(id, Outcome::Failing);
        let work = owned.work.get_mut(done)?;
        let wait = backoff.after(work.tries(), jitter);
        let millis = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        work.failure.as_mut()?.next_try = Some(Timestamp(at.0.saturating_add(millis)));
        work.recorded = true;
        owned.blocked = Some(Blocked {
            until: Instant::now() + wait,
        });
        let captured = self.recorder.capture(&work.record, true);
        Some(Entry {
            captured,
            ..work.entry(version, at)
        })
    }

    /// Transacts a plan, and takes up its end.
    async fn commit(&mut self, plan: Plan) -> Result<(), Error> {
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
        tracing::warn!(attempt = %plan.id, why = %aborted, "a transaction came to nothing; its records are tried again from memory");
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
                self.observer
                    .reason(Some(format!("a transaction was aborted: {why}")));
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
                        if plan.held == Held::Elsewhere && !mutant::active(Mutant::FallbackWithoutGap) {
                            gaps.add(offset..offset + 1);
                        }
                        if let (Some(topic), Some(failure)) = (&self.settings.dead_letter, &work.failure) {
                            sends.push(dead_letter(&work.record, failure, topic, &value, &self.settings));
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
        let mut done = Done::default();
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
                        counts.filtered += u64::from(prepared.is_empty());
                        if work.recorded {
                            done.entries.push(work.entry(succeeded, at));
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
            }
            if passed > 0 {
                if self.recorder.is_reliable() {
                    owned.unconfirmed.push(plan.id);
                    if plan.held == Held::Elsewhere {
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
        self.observer.reason(None);
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
        let work = source.and_then(|(partition, place)| self.owned.get_mut(&partition)?.work.get_mut(place));
        let Some(work) = work.filter(|work| matches!(work.state, State::Ready(_))) else {
            self.observer
                .reason(Some(format!("a dead letter cannot be sent: {why}")));
            return;
        };
        let passes = self.settings.failure_mode == FailureMode::SkipAndLog || passes_named(&work.record.id);
        self.observer.transform_failed("output_refused");
        work.fail(Failure::new("output_refused", &why.message), passes, at);
        self.aborts = 0;
        self.batch_after = Instant::now();
    }

    /// Nothing of Kafka is open: the batch stays in memory and is decided again a little later.
    fn put_off(&mut self, why: String) {
        tracing::warn!("{why}");
        self.observer.reason(Some(why));
        self.batch_after = Instant::now() + Duration::from_millis(250);
    }
}
