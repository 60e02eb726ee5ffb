//! One batch, up to the attempt: outbox, transform, decide, write.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracker_api::{AttemptId, Entry, Failure, Outcome, Partition, Timestamp};

use super::{
    Backoff, Error, Lane,
    commit::{Place, Plan},
    outputs::prepare,
    pace::Load,
    partition::{Blocked, State, Work},
    pool::{RecordRef, Verdict},
    stalls::Why,
};
use crate::{
    config::FailureMode,
    kafka::Session,
    recorder::Held,
    transform::{Transform, TransformError},
};

/// The longest wait before a record is looked at again whose transform does not return.
const MOST_PATIENT: Duration = Duration::from_secs(600);

/// Which failures pass their record.
#[derive(Debug)]
struct Judge {
    mode: FailureMode,
    max_attempts: u32,
    /// Tries before this one, and whether the configuration names the record to be skipped.
    records: Vec<(u32, bool)>,
}

/// Keeps those at whose place there is `true`.
fn keep<V>(all: &mut Vec<V>, those: &[bool]) {
    let mut at = those.iter();
    all.retain(|_| at.next().copied().unwrap_or(true));
}

impl Judge {
    fn passes(&self, index: usize, retryable: bool) -> bool {
        let (tries, named) = self.records.get(index).copied().unwrap_or_default();
        named || self.mode == FailureMode::SkipAndLog && (!retryable || tries + 1 >= self.max_attempts)
    }
}

impl<S: Session, T: Transform> Lane<S, T> {
    /// Takes what is ready through to its commit, or back to memory.
    pub(super) async fn batch(&mut self) -> Result<(), Error> {
        let id = self.ids.next(&*self.clock);
        let now = Instant::now();
        let mut ready: Vec<Partition> = self
            .owned
            .iter()
            .filter(|(_, o)| o.is_ready(now))
            .map(|(p, _)| p.clone())
            .collect();
        for partition in &ready {
            if let Some(owned) = self.owned.get_mut(partition)
                && !owned.is_waiting(now)
            {
                owned.blocked = None;
            }
        }
        let judged = std::mem::take(&mut self.judged);
        if !judged && (!self.receive(&mut ready, id).await? || !self.transform(&ready).await?) {
            return Ok(());
        }
        let Some(plan) = self.decide(&ready, id).await? else {
            return Ok(());
        };
        self.commit(plan).await
    }

    /// Under `outbox`: an entry per record, durable before its transform. False: not now.
    async fn receive(&mut self, ready: &mut Vec<Partition>, id: AttemptId) -> Result<bool, Error> {
        if !self.recorder.is_outbox() {
            return Ok(true);
        }
        if !self.skip_succeeded(ready).await? {
            return Ok(false);
        }
        let (at, now) = (self.recorder.now(), Instant::now());
        let mut entries = Vec::new();
        let running = ready.iter().filter_map(|p| self.owned.get(p));
        for owned in running.filter(|o| !o.is_waiting(now)) {
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
                    if let Some(work) = owned.work_at(id.offset) {
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
        let now = Instant::now();
        let running = ready.iter().filter_map(|p| Some((p, self.owned.get(p)?)));
        for (partition, owned) in running.filter(|(_, o)| !o.is_waiting(now)) {
            let most = if owned.is_suspect() { 1 } else { usize::MAX };
            for (place, work) in owned
                .work
                .iter()
                .enumerate()
                .take(most)
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
        let admitted = self.journal.admits(&records);
        keep(&mut places, &admitted);
        keep(&mut records, &admitted);
        keep(&mut judge.records, &admitted);
        let started = Instant::now();
        self.observer.in_flight(records.len());
        let judge = Arc::new(judge);
        let stops = {
            let judge = judge.clone();
            Arc::new(move |index: usize, error: &TransformError| !judge.passes(index, error.retryable))
        };
        let (pool, journal) = (self.pool.clone(), self.journal.clone());
        let verdicts = self
            .breathe_while(async move { journal.run(&pool, records, stops).await })
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
        let failure = Failure::new(&error.class, &error.message);
        work.fail(failure, passes, self.recorder.now());
        if let Some(failure) = &work.failure {
            self.said.say(&work.record.id, failure);
        }
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
            load: Load::default(),
            onward: BTreeMap::new(),
        };
        let mut stopped = Vec::new();
        for partition in ready {
            match self.block(partition, id, at) {
                Some(entry) => stopped.push(entry),
                None => self.look_at_front(partition),
            }
            let mut count = self.done_before_kept_letter(partition);
            let Some(owned) = self.owned.get_mut(partition) else {
                continue;
            };
            let passing = |work: &&Work| matches!(work.state, State::Passing);
            let first = owned.work.iter().take(count).position(|w| passing(&w));
            if let Some(first) = first.filter(|_| self.recorder.is_reliable() && owned.is_full()) {
                count = first;
                let why = "waiting for the store to confirm earlier failures".to_owned();
                self.stalls.stand(Some(partition), Why::Store, why, at);
                self.batch_after = Instant::now() + Duration::from_millis(20);
            }
            if count > 0 {
                plan.counts.insert(partition.clone(), count);
            }
        }
        plan.load = self.pace.cut(&mut plan.counts, &self.owned);
        for (partition, count) in &plan.counts {
            let Some(owned) = self.owned.get_mut(partition) else {
                continue;
            };
            let version = owned.version(id, Outcome::Failing);
            for work in owned
                .work
                .iter_mut()
                .take(*count)
                .filter(|w| matches!(w.state, State::Passing))
            {
                work.recorded = true;
                let captured = self.recorder.capture(&work.record, true);
                plan.passing.push(Entry {
                    captured,
                    ..work.entry(version, at)
                });
            }
        }
        self.recorder.stopped(stopped);
        self.give_back().await?;
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
                let eras = self.recorder.clone().eras_of(ids.clone());
                for (partition, era) in self.breathe_while(eras).await?.unwrap_or_default() {
                    self.later_era(&partition, era);
                }
                for id in ids {
                    tracing::warn!(dedupKey = %id, "a newer owner wrote about this record: reading its partition's position again");
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
        let jitter = id.0.as_bytes()[15];
        let owned = self.owned.get_mut(partition)?;
        let done = owned.done();
        if owned.is_waiting(Instant::now()) || done > 0 && owned.is_suspect() {
            return None;
        }
        let version = owned.version(id, Outcome::Failing);
        let work = owned.work.get_mut(done)?;
        let hangs = self.pool.hangs(&work.record.id);
        let mut wait = backoff.after(work.tries(), jitter);
        if hangs {
            let patient = Backoff {
                first: self.settings.transform_timeout,
                most: MOST_PATIENT.max(self.settings.transform_timeout),
            };
            wait = wait.max(patient.after(work.tries(), 0));
        }
        let millis = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        work.failure.as_mut()?.next_try = Some(Timestamp(at.0.saturating_add(millis)));
        work.recorded = true;
        owned.blocked = Some(Blocked {
            offset: work.record.id.offset,
            until: Instant::now() + wait,
        });
        let (id, tries) = (&work.record.id, work.tries());
        let (why, text) = if hangs {
            let text = format!(
                "the transform of {id} does not return, and holds a thread of this process. It is not started again before \
                 that ends: mend the transform and restart, or pass the record over (`failures skip`, or `skip:`)"
            );
            (Why::Transform, text)
        } else {
            let text = format!("{id} fails and is tried again; tries so far: {tries}");
            (Why::Blocked, text)
        };
        let since = work.first_failed_at.unwrap_or(at);
        self.stalls.block(partition, why, text, since);
        let captured = self.recorder.capture(&work.record, true);
        let entry = Entry {
            captured,
            ..work.entry(version, at)
        };
        owned.work.iter_mut().for_each(Work::detach);
        Some(entry)
    }

    /// Takes back what was said of a front record that fails no more.
    fn look_at_front(&mut self, partition: &Partition) {
        let front = self
            .owned
            .get_mut(partition)
            .and_then(|owned| owned.first_undone());
        if front.is_none_or(|work| work.failure.is_none()) {
            self.stalls.unblock(partition);
        }
    }

    /// Nothing of Kafka is open: the batch stays in memory and is decided again a little later.
    fn put_off(&mut self, why: String) {
        self.warn("store", format_args!("{why}"));
        self.stand(None, Why::Store, why);
        self.batch_after = Instant::now() + Duration::from_millis(250);
    }
}
