//! Beginning a term: what stands in Kafka is read, raised and committed before the first fetch and before the first write
//! to the tracker. Only Kafka is waited for, but where a partition has no offset: then whoever may know of one is asked.

use std::time::Duration;

use tokio::time::Instant;
use tracker_api::{AttemptId, Outcome, Partition};

use super::{
    Concluded, Error, Lane,
    first::{Evidence, First, lost},
    partition::Owned,
    stalls::Why,
    waiting::Waiting,
};
use crate::{
    config::InitialOffset,
    kafka::{Aborted, Advance, Attempt, ErrorKind, Position, Session},
    mutant::{self, Mutant},
    note::{self, Note},
    recorder::Recovery,
    transform::Transform,
};

/// How long to wait before terms are tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// A partition, where its term begins and the note that says so.
struct Term {
    advance: Advance,
    note: Note,
}

/// Where an era begins, and what its notes say of [`Note::partitions`].
struct Start {
    next: i64,
    partitions: Option<i32>,
}

impl<S: Session, T: Transform> Lane<S, T> {
    /// Tries to begin the terms of all partitions that wait for theirs. What cannot begin yet stays waiting.
    pub(super) async fn begin_terms(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if self.terms_after > now || (self.assigned.is_empty() && !self.unanswered) {
            return Ok(());
        }
        self.terms_after = now + AGAIN;
        // At once, with nothing: whatever a partition waits for, the group does not wait with it.
        if self.unanswered && !mutant::active(Mutant::PendingBlocksAll) {
            self.session.start(&[]).await?;
            self.unanswered = false;
        }
        let waits = |waiting: &Waiting| waiting.until > now;
        let is_due = |partition: &&Partition| !self.waiting.get(*partition).is_some_and(waits);
        if !self.unanswered && !self.assigned.keys().any(|partition| is_due(&partition)) {
            return Ok(());
        }
        let partitions: Vec<Partition> = self.assigned.keys().filter(is_due).cloned().collect();
        // Where nobody has said which topic this is, what its notes speak of may be one that is gone.
        if let Err(error) = self.look_at_topic().await {
            let text = format!(
                "waiting to hear which topic `{}` is: {error}",
                self.settings.source
            );
            self.stand(None, Why::Kafka, text);
            return Ok(());
        }
        let positions = match self.session.positions(&partitions).await {
            Ok(positions) => positions,
            Err(error) if error.kind == ErrorKind::Retriable => {
                let text = format!("waiting for the group's committed offsets: {error}");
                self.stand(None, Why::Kafka, text);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.stalls.end(None, Why::Kafka);
        let evidence = if positions
            .iter()
            .flatten()
            .any(|position| position.offset.is_none())
        {
            match self.evidence().await {
                Ok(evidence) => evidence,
                Err(Error::Kafka(error)) if error.kind == ErrorKind::Retriable => {
                    Err((Why::Kafka, error.to_string()))
                }
                Err(error) => return Err(error),
            }
        } else {
            Err((Why::Start, String::new()))
        };
        let mut terms = Vec::with_capacity(positions.len());
        for (partition, position) in partitions.into_iter().zip(positions) {
            let Some(position) = position else {
                if mutant::active(Mutant::PendingBlocksAll) {
                    return Ok(());
                }
                self.stand_pending(&partition).await;
                continue;
            };
            self.pending.remove(&partition);
            self.stalls.end(Some(&partition), Why::Pending);
            self.stalls.end(Some(&partition), Why::Kafka);
            match self.term(position, &evidence).await {
                Ok(Some(term)) => terms.push(term),
                Ok(None) => {}
                Err(Error::Kafka(error)) if error.kind == ErrorKind::Retriable => {
                    let text = format!("waiting to begin on {partition}: {error}");
                    self.let_wait(&partition, Why::Kafka, text, None);
                }
                Err(error) => return Err(error),
            }
        }
        if terms.is_empty()
            && !self.assigned.is_empty()
            && let Some(wait) = self.pending_wait()
        {
            self.terms_after = Instant::now() + wait;
        }
        let void = self.ids.next(&*self.clock);
        let id = self.ids.next(&*self.clock);
        for term in &mut terms {
            term.note.attempt = id;
            term.advance.note = term.note.to_string();
        }
        if !terms.is_empty() {
            let advance = terms.iter().map(|term| term.advance.clone()).collect();
            let attempt = Attempt {
                id,
                sends: Vec::new(),
                advance,
            };
            match self.conclude(&attempt).await? {
                Concluded::Committed(_) => {}
                Concluded::TakenOver => return Ok(()),
                Concluded::NotCommitted(Aborted::LostPartitions(lost)) => {
                    lost.iter().for_each(|partition| self.drop_partition(partition));
                    self.terms_after = Instant::now();
                    return Ok(());
                }
                Concluded::NotCommitted(aborted) => {
                    self.warn(
                        "term",
                        format_args!("a term could not begin; trying again: {aborted}"),
                    );
                    let text = format!("waiting to begin on its partitions: {aborted}");
                    self.stand(None, Why::Aborted, text);
                    return Ok(());
                }
            }
        }
        self.started(terms, void).await
    }

    /// The terms are committed: the consumer starts there, and what the last owners left open is settled behind us.
    async fn started(&mut self, terms: Vec<Term>, void: AttemptId) -> Result<(), Error> {
        let (mut start, mut rewind) = (Vec::new(), Vec::new());
        for Term { advance, note } in terms {
            let mut owned = Owned::new(advance.next, &note);
            let position = owned.position(&advance.partition);
            owned.recovery = self.recorder.recover(Recovery {
                position: position.clone(),
                void: owned.version(void, Outcome::Received),
                carried: note.unconfirmed.clone(),
                began: note.began,
                since: note.since,
                told: note.told,
                progress: owned.progress(&advance.partition, void, self.clock.now()),
            });
            let fresh = self.assigned.remove(&advance.partition).unwrap_or(true);
            tracing::info!(partition = %advance.partition, offset = advance.next, era = note.era, term = note.term, "a term begins");
            self.stalls.moved(&advance.partition);
            self.waiting.remove(&advance.partition);
            self.told.remove(&advance.partition);
            self.owned.insert(advance.partition, owned);
            if fresh {
                start.push(position)
            } else {
                rewind.push(position)
            }
        }
        if self.unanswered || !start.is_empty() {
            self.session.start(&start).await?;
            self.unanswered = false;
        }
        // A pause belongs to the client, not to the term: whatever the last one left, these are to be read.
        let all: Vec<Partition> = start.iter().chain(&rewind).map(|p| p.partition.clone()).collect();
        self.session.hold(&all, false).await?;
        if !rewind.is_empty() && !mutant::active(Mutant::NoRewindOnDrop) {
            self.session.rewind(&rewind).await?;
        }
        self.stalls.end(None, Why::Aborted);
        self.remember(std::iter::empty());
        self.observer.joined(self.owned.len() + self.assigned.len());
        Ok(())
    }

    /// The term that would begin at `position`; none if nobody can tell where to start.
    async fn term(
        &mut self,
        position: Position,
        evidence: &Result<Evidence, (Why, String)>,
    ) -> Result<Option<Term>, Error> {
        let found = Note::read(position.note.as_deref());
        if let Some(found) = &found {
            let open = found.open_attempts();
            open.iter()
                .chain([&found.attempt])
                .for_each(|seen| self.ids.observe(*seen));
        }
        let again = found
            .as_ref()
            .filter(|found| self.topic.is_another(found.topic.as_deref()));
        let again = again.map(|found| found.era);
        let now = Some(self.topic.partitions).filter(|count| *count > 0);
        let start = match position.offset {
            // What the note speaks of is another log.
            Some(_) if again.is_some() => {
                let Some(next) = self.log(&position.partition).await?.map(|log| log.start) else {
                    return Ok(None);
                };
                Start {
                    next,
                    partitions: Some(0),
                }
            }
            Some(next) => Start {
                next,
                partitions: found.as_ref().and_then(|found| found.partitions).or(now),
            },
            None => match self.first_start(&position.partition, evidence).await? {
                Some(start) => start,
                None => return Ok(None),
            },
        };
        let Start { next, partitions } = start;
        let before = self.told.get(&position.partition).copied();
        let topic = self.topic.id.clone();
        let mut note = match found.filter(|_| again.is_none()) {
            Some(found) => {
                let raised = !mutant::active(Mutant::TwinWithoutTerm);
                let same = found.store == self.recorder.store_mark();
                let told = before
                    .filter(|(era, _)| *era == found.era)
                    .map_or(0, |(_, told)| told);
                Note {
                    passed: false,
                    term: if raised {
                        note::after(found.term)
                    } else {
                        found.term
                    },
                    unconfirmed: found.open_attempts(),
                    store: self.recorder.store_mark(),
                    since: if same { found.since } else { next },
                    partitions,
                    topic: topic.or_else(|| found.topic.clone()),
                    told: if same { told.max(found.told) } else { 0 },
                    ..found
                }
            }
            None => {
                let rows = self.recorder.clone().rows();
                let rows = self
                    .breathe_while(rows)
                    .await?
                    .and_then(Result::ok)
                    .unwrap_or_default();
                let known = rows.iter().find(|row| row.partition == position.partition);
                let known = known
                    .map(|row| row.era)
                    .max(again)
                    .max(before.map(|(era, _)| era));
                let clock = u64::try_from(self.clock.now().0).unwrap_or(0);
                let era = known.map_or(clock, |known| clock.max(note::after(known)));
                Note {
                    attempt: AttemptId::default(),
                    passed: false,
                    era,
                    term: 1,
                    unconfirmed: Vec::new(),
                    gaps: tracker_api::Gaps::default(),
                    began: next,
                    store: self.recorder.store_mark(),
                    since: next,
                    partitions,
                    topic,
                    told: next,
                }
            }
        };
        if let Some(later) = self
            .later_eras
            .remove(&position.partition)
            .filter(|era| *era > note.era)
        {
            // What the lower era passed, nothing in the store can tell.
            note.gaps.add(note.began..next);
            (note.era, note.term, note.told) = (note::after(later), 1, note.began);
            note.unconfirmed.clear();
            note = note.bounded();
        }
        if mutant::active(Mutant::ForgetUnconfirmed) {
            note.unconfirmed.clear();
        }
        let Position {
            partition,
            offset,
            note: start_note,
        } = position;
        let advance = Advance {
            partition,
            start: offset,
            start_note,
            next,
            note: String::new(),
        };
        Ok(Some(Term { advance, note }))
    }

    async fn log(&mut self, partition: &Partition) -> Result<Option<std::ops::Range<i64>>, Error> {
        let bounds = self.session.bounds(std::slice::from_ref(partition)).await?;
        Ok(bounds.into_iter().next())
    }

    /// Where a partition without a committed offset starts; none if it has to wait.
    async fn first_start(
        &mut self,
        partition: &Partition,
        evidence: &Result<Evidence, (Why, String)>,
    ) -> Result<Option<Start>, Error> {
        let Some(log) = self.log(partition).await? else {
            return Ok(None);
        };
        let evidence = match evidence {
            Ok(evidence) => evidence,
            Err((why, error)) => {
                let text = format!(
                    "{partition} has no committed offset, and whoever may know whether it was read before does not answer: {error}"
                );
                self.let_wait(partition, *why, text, Some(log.end));
                return Ok(None);
            }
        };
        let next = match evidence.first(partition) {
            First::Initial => match self.settings.initial_offset {
                InitialOffset::Earliest => log.start,
                InitialOffset::Latest => self.waiting.get(partition).and_then(|w| w.end).unwrap_or(log.end),
            },
            First::LogStart => log.start,
            First::Zero if log.start == 0 => 0,
            First::Zero => {
                self.let_wait(partition, Why::Start, lost(partition, None, &self.settings), None);
                return Ok(None);
            }
            First::Lost(committed) => {
                self.let_wait(
                    partition,
                    Why::Start,
                    lost(partition, committed, &self.settings),
                    None,
                );
                return Ok(None);
            }
            First::Begun => return Ok(None),
        };
        Ok(Some(Start {
            next,
            partitions: evidence.partitions(),
        }))
    }
}
