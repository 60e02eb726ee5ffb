//! What a lane holds of one partition, between the poll and the commit.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{task::AbortHandle, time::Instant};
use tracker_api::{AttemptId, Entry, Failure, Gaps, Outcome, Partition, Progress, Timestamp, Version};

use super::{dead_letter::Form, outputs::Prepared, pool::RecordRef, sight::Sight};
use crate::{
    kafka::{Advance, Position},
    mutant::{self, Mutant},
    note::{MOST_GAPS, MOST_UNCONFIRMED, Note},
};

/// A record from its poll to its commit.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) record: RecordRef,
    pub(super) state: State,
    /// The last failure; kept while the record is tried again.
    pub(super) failure: Option<Failure>,
    pub(super) first_failed_at: Option<Timestamp>,
    /// The last operator's decision that was acted on.
    pub(super) revision: u64,
    /// Whether the store has, or may have, an entry of it.
    pub(super) recorded: bool,
    /// How much of it its dead letter carries; less after the topic refused one.
    pub(super) letter: Form,
    /// Refused in every form so often, and not tried again before this.
    pub(super) letter_refusals: u32,
    pub(super) letter_after: Option<Instant>,
    /// Under `outbox`: the store was down, so it cannot speak about this record.
    pub(super) unknown: bool,
    /// Whether Kafka has refused an output of it.
    pub(super) refused: bool,
    /// Its output was committed in an older era: it is passed without another.
    pub(super) skipped: bool,
}

#[derive(Debug)]
pub(super) enum State {
    /// To be transformed, for the first time or again.
    Todo,
    /// Transformed; none is filtered.
    Ready(Vec<Prepared>),
    /// Failed for good: to be passed over.
    Passing,
}

impl Work {
    pub(super) fn new(record: RecordRef) -> Self {
        Self {
            record,
            state: State::Todo,
            failure: None,
            first_failed_at: None,
            revision: 0,
            recorded: false,
            letter: Form::default(),
            letter_refusals: 0,
            letter_after: None,
            unknown: false,
            refused: false,
            skipped: false,
        }
    }

    /// Bytes of the record, and of its outputs.
    fn bytes(&self) -> usize {
        let outputs = match &self.state {
            State::Ready(prepared) => prepared.iter().map(Prepared::size).sum(),
            State::Todo | State::Passing => 0,
        };
        self.record.size() + outputs
    }

    /// Keeps nothing in memory but what it is itself: it may stay for long.
    pub(super) fn detach(&mut self) {
        self.record = self.record.detached();
        if let State::Ready(prepared) = &mut self.state {
            prepared.iter_mut().for_each(Prepared::detach);
        }
    }

    pub(super) fn tries(&self) -> u32 {
        self.failure.as_ref().map_or(0, |f| f.tries)
    }

    /// Takes a failure of one more try; it passes the record, or it is tried again.
    pub(super) fn fail(&mut self, mut failure: Failure, passes: bool, at: Timestamp) {
        failure.tries = self.tries() + 1;
        failure.passes = passes;
        self.failure = Some(failure);
        self.first_failed_at.get_or_insert(at);
        self.state = if passes { State::Passing } else { State::Todo };
    }

    /// An entry of this record at `version`, without bytes.
    pub(super) fn entry(&self, version: Version, at: Timestamp) -> Entry {
        let failed = matches!(version.outcome, Outcome::Failing | Outcome::Failed);
        Entry {
            failure: self.failure.clone().filter(|_| failed),
            first_failed_at: self.first_failed_at,
            ..Entry::new(self.record.id.clone(), version, at)
        }
    }
}

/// The first record of a partition that is not done waits to be tried again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocked {
    /// Which record.
    pub(super) offset: i64,
    pub(super) until: Instant,
}

/// A partition whose term is ours.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) era: u64,
    pub(super) term: u64,
    /// C(p): what the next attempt starts from.
    pub(super) committed: i64,
    /// The note that stands there.
    pub(super) note: String,
    pub(super) unconfirmed: Vec<AttemptId>,
    /// Those of `unconfirmed` whose failures lie in gaps: not naming them makes them unknown, never wrong.
    pub(super) gapped: Vec<AttemptId>,
    pub(super) gaps: Gaps,
    /// What the store was never told, once its recovery has said so: the store's rows carry it, no note does. None until
    /// then, and no row is written: it would win over the recovery's and lose what that found.
    pub(super) missed: Option<Gaps>,
    /// Offsets below it were received.
    pub(super) received: i64,
    /// Where our term began: what this store is told for sure.
    pub(super) floor: i64,
    /// Where the era began.
    pub(super) began: i64,
    /// See [`Note::store`] and [`Note::since`].
    pub(super) store: u32,
    pub(super) since: i64,
    /// See [`Note::partitions`], [`Note::topic`] and [`Note::told`].
    pub(super) partitions: Option<i32>,
    pub(super) topic: Option<Arc<str>>,
    pub(super) told: i64,
    pub(super) failed: u64,
    pub(super) succeeded: u64,
    pub(super) work: VecDeque<Work>,
    pub(super) blocked: Option<Blocked>,
    pub(super) held: bool,
    /// The store has said that nothing at or above C(p) has succeeded in an older era.
    pub(super) fresh: bool,
    /// The store did not say what has succeeded: it is asked again then.
    pub(super) rests_until: Option<Instant>,
    pub(super) recovery: Option<AbortHandle>,
    /// What was seen of its log.
    pub(super) sight: Sight,
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(recovery) = &self.recovery {
            recovery.abort();
        }
    }
}

impl Owned {
    /// A partition at the start of our term, by the note that our term commits.
    pub(super) fn new(committed: i64, note: &Note) -> Self {
        Self {
            era: note.era,
            term: note.term,
            committed,
            note: note.to_string(),
            unconfirmed: note.unconfirmed.clone(),
            gapped: Vec::new(),
            gaps: note.gaps.clone(),
            missed: None,
            received: committed,
            floor: committed,
            began: note.began,
            store: note.store,
            since: note.since,
            partitions: note.partitions,
            topic: note.topic.clone(),
            told: note.told,
            failed: 0,
            succeeded: 0,
            work: VecDeque::new(),
            blocked: None,
            held: false,
            fresh: false,
            rests_until: None,
            recovery: None,
            sight: Sight::new(committed),
        }
    }

    pub(super) fn version(&self, attempt: AttemptId, outcome: Outcome) -> Version {
        Version {
            era: self.era,
            term: self.term,
            attempt,
            outcome,
        }
    }

    /// Whether nothing of it runs for now, so that what it holds takes no room away from the others.
    pub(super) fn stands(&self, now: Instant) -> bool {
        self.is_waiting(now) || self.rests_until.is_some()
    }

    /// Whether its first record that is not done waits to be tried again.
    pub(super) fn is_waiting(&self, now: Instant) -> bool {
        self.blocked.is_some_and(|blocked| {
            let undone = self.work.get(self.done());
            blocked.until > now && undone.is_some_and(|work| work.record.id.offset == blocked.offset)
        })
    }

    /// Whether its first record was refused: it is tried again alone, and nothing behind it runs before.
    pub(super) fn is_suspect(&self) -> bool {
        let front = self.work.front();
        front.is_some_and(|work| work.refused && !matches!(work.state, State::Passing))
    }

    /// Whether it takes no part in a batch for now.
    pub(super) fn is_resting(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| until > now)
    }

    /// Whether it has work that may run now: anything, or what is done before the record that waits.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        let front = self.work.front();
        front.is_some_and(|work| !self.is_waiting(now) || !matches!(work.state, State::Todo))
            && !self.is_resting(now)
    }

    /// The first record that is not done.
    pub(super) fn first_undone(&mut self) -> Option<&mut Work> {
        let done = self.done();
        self.work.get_mut(done)
    }

    /// The record at `offset`, if it is held. The works of one partition are in the order of their offsets.
    pub(super) fn work_at(&mut self, offset: i64) -> Option<&mut Work> {
        let place = self.work.partition_point(|work| work.record.id.offset < offset);
        let work = self.work.get_mut(place)?;
        (work.record.id.offset == offset).then_some(work)
    }

    /// Bytes of the records that it holds, and of their outputs.
    pub(super) fn bytes(&self) -> usize {
        self.work.iter().map(Work::bytes).sum()
    }

    /// Gives up what stands behind the first record that is not done, to be read again. Where to begin, and how many bytes
    /// that were; none if nothing stands there.
    pub(super) fn give_back(&mut self) -> Option<(i64, usize)> {
        let keep = self.done() + 1;
        let next = self.work.get(keep)?.record.id.offset;
        let bytes = self.work.drain(keep..).map(|work| work.bytes()).sum();
        self.received = next;
        Some((next, bytes))
    }

    /// How many works from the front are done, one way or the other: what an attempt may advance over.
    pub(super) fn done(&self) -> usize {
        self.work
            .iter()
            .take_while(|work| !matches!(work.state, State::Todo))
            .count()
    }

    /// Whether an attempt that passes a failure of its own must wait for the store to confirm earlier ones. Attempts
    /// whose failures lie in gaps make room first.
    pub(super) fn is_full(&mut self) -> bool {
        while self.unconfirmed.len() >= MOST_UNCONFIRMED && !self.gapped.is_empty() {
            let forgotten = self.gapped.remove(0);
            self.unconfirmed.retain(|attempt| *attempt != forgotten);
        }
        self.unconfirmed.len() >= MOST_UNCONFIRMED
    }

    /// The store has confirmed these attempts, holds these offsets of gaps, and did not take the failures of `unknown`.
    /// Answers whether the gaps are others now.
    pub(super) fn confirm(&mut self, attempts: &[AttemptId], closed: &[i64], unknown: &[i64]) -> bool {
        let before = (self.gaps.clone(), self.missed.clone());
        self.unconfirmed.retain(|attempt| !attempts.contains(attempt));
        self.gapped.retain(|attempt| !attempts.contains(attempt));
        for gaps in [Some(&mut self.gaps), self.missed.as_mut()].into_iter().flatten() {
            closed
                .iter()
                .for_each(|offset| gaps.remove(&(*offset..*offset + 1)));
        }
        unknown
            .iter()
            .for_each(|offset| self.gaps.add(*offset..*offset + 1));
        self.gaps.bound(MOST_GAPS);
        before != (self.gaps.clone(), self.missed.clone())
    }

    /// The step over the first `count` works, as attempt `id`.
    pub(super) fn advance(
        &self,
        partition: &Partition,
        id: AttemptId,
        count: usize,
        passed: bool,
        gaps: &Gaps,
    ) -> Advance {
        let last = count.checked_sub(1).and_then(|last| self.work.get(last));
        let behind = i64::from(!mutant::active(Mutant::WrongOffset));
        let next = last.map_or(self.committed, |work| work.record.id.offset + behind);
        let mut all = self.gaps.clone();
        gaps.iter().for_each(|gap| all.add(gap.clone()));
        let note = Note {
            attempt: id,
            passed,
            era: self.era,
            term: self.term,
            unconfirmed: self.unconfirmed.clone(),
            gaps: all,
            began: self.began,
            store: self.store,
            since: self.since,
            partitions: self.partitions,
            topic: self.topic.clone(),
            told: self.told,
        };
        Advance {
            partition: partition.clone(),
            start: Some(self.committed),
            start_note: Some(self.note.clone()),
            next,
            note: note.bounded().to_string(),
        }
    }

    /// The store's row, as our term knows it at `attempt`.
    pub(super) fn progress(&self, partition: &Partition, attempt: AttemptId, at: Timestamp) -> Progress {
        let mut gaps = self.gaps.clone();
        self.missed.iter().for_each(|missed| gaps.unite(missed));
        Progress {
            partition: partition.clone(),
            era: self.era,
            term: self.term,
            attempt,
            floor: self.floor,
            received: self.received,
            committed: self.committed,
            gaps,
            missed: self.missed.clone().unwrap_or_default(),
            failed: self.failed,
            succeeded: self.succeeded,
            at,
        }
    }

    pub(super) fn position(&self, partition: &Partition) -> Position {
        Position {
            partition: partition.clone(),
            offset: Some(self.committed),
            note: Some(self.note.clone()),
        }
    }

    /// When its front record is tried again, from now.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.blocked.map(|b| b.until.saturating_duration_since(now))
    }
}
