//! Beginning a term: what stands in Kafka is read, raised and committed before the first fetch and before the first write
//! to the tracker. Only Kafka is waited for.

use std::time::Duration;

use tokio::time::Instant;
use tracker_api::{AttemptId, Outcome, Partition};

use super::{Concluded, Error, Lane, partition::Owned, stalls::Why};
use crate::{
    config::InitialOffset,
    kafka::{Aborted, Advance, Attempt, ErrorKind, Position, Session},
    mutant::{self, Mutant},
    note::Note,
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

impl<S: Session, T: Transform> Lane<S, T> {
    /// Tries to begin the terms of all partitions that wait for theirs. What cannot begin yet stays waiting.
    pub(super) async fn begin_terms(&mut self) -> Result<(), Error> {
        if self.terms_after > Instant::now() || (self.assigned.is_empty() && !self.unanswered) {
            return Ok(());
        }
        self.terms_after = Instant::now() + AGAIN;
        let partitions: Vec<Partition> = self.assigned.keys().cloned().collect();
        let positions = match self.session.committed(&partitions).await {
            Ok(positions) => positions,
            Err(error) if error.kind == ErrorKind::Retriable => {
                let text = format!("waiting for the group's committed offsets: {error}");
                self.stand(None, Why::Kafka, text);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.stalls.end(None, Why::Kafka);
        let mut terms = Vec::with_capacity(positions.len());
        for position in positions {
            match self.term(position).await {
                Ok(Some(term)) => terms.push(term),
                Ok(None) => {}
                Err(Error::Kafka(error)) if error.kind == ErrorKind::Retriable => return Ok(()),
                Err(error) => return Err(error),
            }
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
                progress: owned.progress(&advance.partition, self.clock.now()),
            });
            let fresh = self.assigned.remove(&advance.partition).unwrap_or(true);
            tracing::info!(partition = %advance.partition, offset = advance.next, era = note.era, term = note.term, "a term begins");
            self.stalls.moved(&advance.partition);
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
        self.observer.joined(self.owned.len() + self.assigned.len());
        Ok(())
    }

    /// The term that would begin at `position`; none if nobody can tell where to start.
    async fn term(&mut self, position: Position) -> Result<Option<Term>, Error> {
        let next = match position.offset {
            Some(offset) => offset,
            None => match self.first_start(&position.partition).await? {
                Some(offset) => offset,
                None => return Ok(None),
            },
        };
        let found = Note::read(position.note.as_deref());
        let mut note = match found {
            Some(found) => {
                let unconfirmed = found.open_attempts();
                unconfirmed
                    .iter()
                    .chain([&found.attempt])
                    .for_each(|seen| self.ids.observe(*seen));
                let raised = u64::from(!mutant::active(Mutant::TwinWithoutTerm));
                let same = found.store == self.recorder.store_mark();
                Note {
                    passed: false,
                    term: found.term + raised,
                    unconfirmed,
                    store: self.recorder.store_mark(),
                    since: if same { found.since } else { next },
                    ..found
                }
            }
            None => {
                let known = self.recorder.clone().known_era(position.partition.clone());
                let known = self.breathe_while(known).await?.flatten();
                let clock = u64::try_from(self.clock.now().0).unwrap_or(0);
                let era = known.map_or(clock, |known| clock.max(known + 1));
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
            (note.era, note.term) = (later + 1, 1);
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

    /// Where a partition without a committed offset starts; none if nobody can tell.
    async fn first_start(&mut self, partition: &Partition) -> Result<Option<i64>, Error> {
        let all = self.session.partitions(&partition.topic).await?;
        let positions = self.session.committed(&all).await?;
        let [log] = &self.session.bounds(std::slice::from_ref(partition)).await?[..] else {
            return Ok(None);
        };
        // Lanes that start together commit their first positions one after another: the group is still new while every
        // position that there is belongs to a first term.
        let is_first = |p: &Position| Note::read(p.note.as_deref()).is_some_and(|note| note.term == 1);
        if positions.iter().filter(|p| p.offset.is_some()).all(is_first) {
            return Ok(Some(match self.settings.initial_offset {
                InitialOffset::Earliest => log.start,
                InitialOffset::Latest => log.end,
            }));
        }
        let known = self.recorder.clone().known_era(partition.clone());
        let seen = self.breathe_while(known).await?.flatten().is_some();
        if log.start == 0 && !seen {
            return Ok(Some(0));
        }
        let why = format!(
            "{partition} has no committed offset, although the group has some on this topic: its offset expired or was deleted. \
             Where to go on is yours to say: commit an offset for it with kafka-consumer-groups --reset-offsets"
        );
        tracing::error!("{why}");
        self.stand(Some(partition), Why::Start, why);
        self.terms_after = Instant::now() + 25 * AGAIN;
        Ok(None)
    }
}
