//! The laws, checked at every commit, at every write to a store, and when all is quiet.
//!
//! The checker has its own reading of notes and headers: it must not agree with the loop by sharing its mistakes. The
//! names of the laws are those of the protocol's invariants.

mod quiet;
mod reading;
mod record;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use tracker_api::{AttemptId, Entry, MemoryTracker, Outcome, Partition, Progress, RecordId};

pub(super) use self::reading::{Noted, show};
use self::reading::{header, held, source_of};

use super::kafka::{Kafka, Open};
use crate::{config::Tracking, kafka::Send};

/// What the run promised.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) is_atomic: bool,
    /// What processes track; more than one if a restart may change it.
    pub(super) tracking: Vec<Tracking>,
    pub(super) dead_letter: Option<Arc<str>>,
    /// Whether a process that keeps an outbox passes what has succeeded in an older era without output.
    pub(super) skips: bool,
    /// Whether no fault strikes, so that nobody writes anything late.
    pub(super) is_calm: bool,
    /// Whether clocks differ by less than the time between two eras, so that an era always rises, also when no store says
    /// from where. Where they do not, what Kafka holds is exact all the same, and so is what must be durable before.
    pub(super) clocks_agree: bool,
}

impl Rules {
    /// Whether every process writes each failure before the commit that passes it.
    fn is_reliable(&self) -> bool {
        self.tracking.iter().copied().all(is_reliable)
    }
}

fn is_reliable(tracking: Tracking) -> bool {
    matches!(tracking, Tracking::Reliable | Tracking::Outbox)
}

/// What a commit made of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    /// The attempt, as the headers and notes write it.
    pub(super) attempt: String,
    pub(super) failed: bool,
    /// What the process that committed it tracks.
    pub(super) tracking: Tracking,
}

/// The stores, as they stand.
pub(super) struct Stores<'a> {
    pub(super) store: &'a MemoryTracker,
    pub(super) fallbacks: &'a [MemoryTracker],
}

/// The outputs of one key of one source partition in one topic.
type Stream = (Partition, Arc<str>, Vec<u8>);

/// The checker.
#[derive(Debug)]
pub(super) struct Laws {
    rules: Rules,
    /// By era and record: what was committed.
    pub(super) facts: BTreeMap<(u64, RecordId), Fact>,
    /// Eras and terms that were committed, by partition, each with the greatest offset that it committed.
    terms: BTreeMap<Partition, BTreeMap<(u64, u64), i64>>,
    /// Where the current era of each partition began.
    pub(super) floors: BTreeMap<Partition, i64>,
    /// Failures whose `failed` the store has not taken yet, by the current era's partitions.
    open: BTreeMap<RecordId, Fact>,
    /// The last output of each key: source offset and number.
    order: BTreeMap<Stream, (i64, usize)>,
    /// What the process of each attempt tracks.
    tracking: BTreeMap<String, Tracking>,
    /// Records whose output was refused, or whose transform was too slow, once.
    excused: BTreeSet<RecordId>,
    /// Records that the configuration names to be skipped.
    pub(super) named: BTreeSet<RecordId>,
    /// Records that an operator skipped, and in which era.
    pub(super) resolved: BTreeSet<(u64, RecordId)>,
    /// Partitions of a topic that was made again, until something is committed on it.
    made_again: BTreeSet<Partition>,
    /// In which era a partition was first begun on the topic that there is now.
    since: BTreeMap<Partition, u64>,
    /// Records about which an owner wrote that had been replaced, as seen when it arrived.
    outdated: BTreeSet<RecordId>,
    /// Whether a tool has moved an offset.
    was_reset: bool,
    /// What was broken.
    pub(super) violations: Vec<String>,
    /// Commits that passed a failure.
    pub(super) passed: u32,
    /// Records that were passed because they had succeeded in an older era.
    pub(super) skipped: u32,
}

impl Laws {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            facts: BTreeMap::new(),
            terms: BTreeMap::new(),
            floors: BTreeMap::new(),
            open: BTreeMap::new(),
            order: BTreeMap::new(),
            tracking: BTreeMap::new(),
            excused: BTreeSet::new(),
            named: BTreeSet::new(),
            resolved: BTreeSet::new(),
            made_again: BTreeSet::new(),
            since: BTreeMap::new(),
            outdated: BTreeSet::new(),
            was_reset: false,
            violations: Vec::new(),
            passed: 0,
            skipped: 0,
        }
    }

    fn broken(&mut self, law: &str, what: impl AsRef<str>) {
        let of_the_index = [
            "I7",
            "I8",
            "reset",
            "era",
            "era hides",
            "term",
            "outbox",
            "unconfirmed",
            "attempt ids grow",
        ];
        if !self.rules.clocks_agree && of_the_index.contains(&law) {
            return;
        }
        self.violations.push(format!("{law}: {}", what.as_ref()));
    }

    /// A record's output is refused: it may fail although its fate says otherwise.
    pub(super) fn refused(&mut self, send: &Send) {
        self.excused.extend(source_of(send));
    }

    /// A process that tracks so much makes an attempt.
    pub(super) fn attempts(&mut self, attempt: AttemptId, tracking: Tracking) {
        self.tracking.insert(attempt.to_string(), tracking);
    }

    fn tracking_of(&self, attempt: &str) -> Tracking {
        self.tracking.get(attempt).copied().unwrap_or(Tracking::Reliable)
    }

    /// A record's transform outlasts its time.
    pub(super) fn excuse(&mut self, id: RecordId) {
        self.excused.insert(id);
    }

    /// Whether somebody said that this record is to be skipped.
    pub(super) fn is_skipped(&self, era: u64, id: &RecordId) -> bool {
        self.named.contains(id) || self.resolved.contains(&(era, id.clone()))
    }

    /// An operator's tool has moved C(p): what was before says nothing of what comes.
    pub(super) fn reset(&mut self, partition: &Partition) {
        self.was_reset = true;
        self.order.retain(|(p, _, _), _| p != partition);
        self.open.retain(|id, _| id.partition != *partition);
    }

    /// Kafka has lost C(p) and its note: what the note alone knew is gone.
    pub(super) fn forgets(&mut self, partition: &Partition) {
        self.open.retain(|id, _| id.partition != *partition);
    }

    /// The source topic was deleted and made again: what was before is about other records.
    pub(super) fn made_again<'a>(&mut self, partitions: impl Iterator<Item = &'a Partition>) {
        self.was_reset = true;
        self.order.clear();
        self.open.clear();
        self.made_again.extend(partitions.cloned());
    }

    /// A transaction is about to be applied.
    pub(super) fn at_commit(&mut self, kafka: &Kafka, open: &Open, stores: &Stores<'_>) {
        let attempt = open.attempt.to_string();
        let mut sends: BTreeMap<RecordId, Vec<&Send>> = BTreeMap::new();
        for send in &open.sends {
            match source_of(send) {
                Some(id) => sends.entry(id).or_default().push(send),
                None => self.broken("I1", format!("{attempt} sends a record without dedup key")),
            }
            if header(send, "orchestrator-attempt") != Some(&attempt) {
                self.broken("I4", format!("{attempt} commits an output of another attempt"));
            }
        }
        for (partition, (next, text)) in &open.offsets {
            let is_another = self.made_again.remove(partition);
            let of_another =
                |note: &Option<String>| is_another && note.as_deref().and_then(Noted::read).is_some();
            let before = kafka
                .committed
                .get(partition)
                .filter(|(_, note)| !of_another(note));
            // Late copies of both requests, before the recycle, repeat what stands.
            if before.is_some_and(|(offset, note)| offset == next && note.as_ref() == Some(text)) {
                continue;
            }
            let Some(noted) = Noted::read(text) else {
                self.broken(
                    "note",
                    format!("{attempt} commits {partition} with a note that is not ours: {text}"),
                );
                continue;
            };
            if is_another {
                self.since.insert(partition.clone(), noted.era);
            }
            let from = before.map_or(*next, |(offset, _)| *offset);
            if *next < from {
                self.broken("I6", format!("C({partition}) goes back from {from} to {next}"));
            }
            let old = before.and_then(|(_, note)| Noted::read(note.as_deref()?));
            self.check_term(
                kafka,
                partition,
                before.is_none(),
                old.as_ref(),
                &noted,
                from..*next,
            );
            for record in kafka.between(partition, &(from..*next)) {
                let of_record = sends.remove(&record.id).unwrap_or_default();
                self.check_record(&record, &of_record, (&attempt, &noted), stores);
            }
            self.check_note(partition, &noted, stores.store);
        }
        for id in sends.keys() {
            self.broken(
                "I2/I3",
                format!("{attempt} commits outputs of {id}, which it does not pass"),
            );
        }
    }

    fn check_term(
        &mut self,
        kafka: &Kafka,
        partition: &Partition,
        is_first: bool,
        old: Option<&Noted>,
        new: &Noted,
        step: Range<i64>,
    ) {
        let terms = self.terms.entry(partition.clone()).or_default();
        let greatest = terms.keys().next_back().copied().unwrap_or_default();
        let at = terms.entry((new.era, new.term)).or_default();
        *at = step.end.max(*at);
        match old {
            Some(old) => {
                if (new.era, new.term) < (old.era, old.term)
                    || new.era != old.era
                    || (new.era, new.term) < greatest
                {
                    self.broken("term", format!("{partition}: {old:?} is followed by {new:?}"));
                }
                if new.attempt <= old.attempt {
                    self.broken(
                        "attempt ids grow",
                        format!("{partition}: {old:?} is followed by {new:?}"),
                    );
                }
            }
            None => {
                if new.era <= greatest.0 {
                    // Where clocks differ, one number may stand for two eras: the first one's facts are not the second's.
                    let is_again = |era: u64, id: &RecordId| era == new.era && id.partition == *partition;
                    self.facts
                        .retain(|(era, id), _| !is_again(*era, id) || id.offset < step.end);
                    self.broken(
                        "era",
                        format!(
                            "{partition}: a new era does not rise above {}: {new:?}",
                            greatest.0
                        ),
                    );
                }
                if !step.is_empty() {
                    self.broken(
                        "start",
                        format!("{partition} advances {step:?} before a start of ours is committed"),
                    );
                }
                let start = kafka.bounds.get(partition).map_or(0, |b| b.start);
                if is_first && step.end != start {
                    self.broken(
                        "start",
                        format!("{partition} starts at {}, its log at {start}", step.end),
                    );
                }
                self.floors.insert(partition.clone(), step.end);
            }
        }
        let began = self.floors.get(partition).copied();
        if began != Some(new.began) {
            self.broken(
                "era",
                format!("{partition}: the era began at {began:?}, the note says {new:?}"),
            );
        }
    }

    /// The note says what the store has not confirmed.
    fn check_note(&mut self, partition: &Partition, noted: &Noted, store: &MemoryTracker) {
        let mut forgotten = Vec::new();
        self.open.retain(|id, fact| {
            if id.partition != *partition {
                return true;
            }
            let confirmed = held(store, id)
                .is_some_and(|e| e.version.era == noted.era && e.version.outcome == Outcome::Failed);
            if !confirmed && !noted.names(&fact.attempt) && !noted.has_gap(id.offset) {
                forgotten.push(format!("{id}, passed by {}", fact.attempt));
            }
            !confirmed
        });
        for what in forgotten {
            self.broken(
                "unconfirmed",
                format!("the note of {} forgets {what}", noted.attempt),
            );
        }
    }

    /// Whether an entry is the failure of an older era that a reset has jumped over. Nobody reads its record again, so what
    /// it was before the reset is settled so.
    fn is_passed_by_reset(&self, entry: &Entry) -> bool {
        let (id, version) = (&entry.id, &entry.version);
        let terms = self
            .terms
            .get(&id.partition)
            .and_then(|terms| terms.keys().next_back());
        let began = self.floors.get(&id.partition).copied().unwrap_or(0);
        let is_older = terms.is_some_and(|(era, _)| version.era < *era);
        version.outcome == Outcome::Failed && is_older && id.offset < began
    }

    /// Entries arrive at the store.
    pub(super) fn arrives(&mut self, entries: &[Entry]) {
        for entry in entries {
            let terms = self.terms.get(&entry.id.partition);
            let greatest = terms.and_then(|terms| terms.keys().next_back());
            if greatest.is_some_and(|greatest| (entry.version.era, entry.version.term) < *greatest) {
                self.outdated.insert(entry.id.clone());
            }
        }
    }

    /// A process asks a store to record something.
    pub(super) fn at_write(&mut self, entries: &[Entry], progress: &[Progress], store: &MemoryTracker) {
        for entry in entries {
            let version = &entry.version;
            let since = self.since.get(&entry.id.partition).copied().unwrap_or(0);
            let forgets = |held: Entry| {
                held.version.outcome == Outcome::Succeeded && (since..version.era).contains(&held.version.era)
            };
            if version.outcome == Outcome::Received
                && self.rules.skips
                && self.rules.is_calm
                && self.rules.tracking == [Tracking::Outbox]
                && held(store, &entry.id).is_some_and(forgets)
            {
                self.broken(
                    "skip",
                    format!("{} is processed again, and has succeeded", show(entry)),
                );
            }
            let fact = self.facts.get(&(version.era, entry.id.clone()));
            let wrong = match version.outcome {
                Outcome::Succeeded => fact.is_none_or(|f| f.failed),
                Outcome::Failed => fact.is_none_or(|f| !f.failed || f.attempt != version.attempt.to_string()),
                Outcome::Received | Outcome::Failing => false,
            };
            if wrong && !self.is_passed_by_reset(entry) {
                self.broken("I7", format!("{} is written; committed is {fact:?}", show(entry)));
            }
            let terms = self.terms.get(&entry.id.partition);
            if terms.is_none_or(|t| !t.contains_key(&(version.era, version.term))) {
                self.broken(
                    "term",
                    format!("{} is written in a term that was not committed", show(entry)),
                );
            }
        }
        for progress in progress {
            let of_era = self.terms.get(&progress.partition).into_iter().flatten();
            let most = of_era
                .filter(|((era, _), _)| *era == progress.era)
                .map(|(_, at)| *at)
                .max();
            if most.is_none_or(|most| progress.committed > most) {
                self.broken(
                    "I7",
                    format!("progress {progress:?} is written; committed is {most:?}"),
                );
            }
        }
    }
}
