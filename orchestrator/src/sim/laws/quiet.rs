//! The laws of quiet: nothing moves any more, and everything was reconciled once.

use std::collections::BTreeMap;

use tracker_api::{Entry, MemoryTracker, Outcome, Partition, Progress, Query, RecordId};

use super::{
    Laws, is_reliable,
    reading::{Noted, held, listed, progress, show, source_of},
};
use crate::{
    config::Tracking,
    reconcile::visible,
    sim::{fate::Fate, kafka::Kafka},
    transform::SourceRecord,
};

impl Laws {
    /// Nothing moves any more, the store is well, and everything was reconciled once. `clean`: the store never failed.
    pub(in crate::sim) fn at_quiescence(
        &mut self,
        kafka: &Kafka,
        store: &MemoryTracker,
        fallbacks: &[MemoryTracker],
        clean: bool,
    ) {
        if kafka.has_open() {
            self.broken("I11", "a transaction is still open");
        }
        if !self.was_reset {
            self.check_target(kafka);
        }
        let rows = progress(store);
        for (partition, records) in &kafka.source {
            let Some((next, Some(text))) = kafka.committed.get(partition) else {
                self.broken("I11", format!("{partition} has no position of ours"));
                continue;
            };
            if kafka.records(partition, *next).is_empty() && *next != kafka.end_of(partition) {
                let end = kafka.end_of(partition);
                self.broken(
                    "lag",
                    format!("{partition} is read up, C(p) is {next} and the log's end {end}"),
                );
            }
            let Some(noted) = Noted::read(text) else { continue };
            let row = rows
                .iter()
                .find(|row| row.partition == *partition && row.era == noted.era);
            if self.rules.is_reliable() && row.is_none_or(|row| row.committed != *next) {
                self.broken("I8", format!("C({partition}) is {next}, progress says {row:?}"));
            }
            let floor = self.floors.get(partition).copied().unwrap_or(0);
            if let Some(row) = row.filter(|row| self.rules.is_reliable() && row.floor != floor) {
                self.broken(
                    "era hides",
                    format!("{partition}: the era began at {floor}, progress says {row:?}"),
                );
            }
            self.check_gaps(row, &noted);
            self.check_passed_by_reset(partition, floor, noted.era, store);
            for record in records.iter().filter(|r| r.id.offset >= floor) {
                let gap = noted.has_gap(record.id.offset)
                    || row.is_some_and(|row| row.gaps.contains(record.id.offset));
                self.check_entry(record, *next, noted.era, gap, store);
                self.check_trace(record, noted.era, store, fallbacks);
                // A store that was never told of this era, as `none` leaves it, shows the one it knows.
                if row.is_some() || !self.rules.tracking.contains(&Tracking::None) {
                    self.check_reader(record, noted.era, &rows, store);
                }
                if noted.has_gap(record.id.offset) && clean && self.rules.is_reliable() {
                    self.broken(
                        "I8",
                        format!("{} is unknown, and the store never failed", record.id),
                    );
                }
            }
        }
    }

    /// A gap that was closed leaves the row: what the row names, the note names too, or no note ever did.
    fn check_gaps(&mut self, row: Option<&Progress>, noted: &Noted) {
        let Some(row) = row else { return };
        for gap in row.gaps.iter() {
            let mut offsets = gap.clone();
            let closed = offsets.find(|offset| !noted.has_gap(*offset) && !row.missed.contains(*offset));
            if let Some(offset) = closed {
                self.broken(
                    "closed gap",
                    format!(
                        "{}:{offset} is no gap of {noted:?}, progress says {row:?}",
                        row.partition
                    ),
                );
            }
        }
    }

    /// Reads the target once more, as a stranger would: every record below C(p) has its outputs, or one dead letter, once.
    fn check_target(&mut self, kafka: &Kafka) {
        let mut found: BTreeMap<(RecordId, bool), usize> = BTreeMap::new();
        for send in &kafka.written {
            let is_dead = Some(&send.topic) == self.rules.dead_letter.as_ref();
            if let Some(id) = source_of(send) {
                *found.entry((id, is_dead)).or_default() += 1;
            }
        }
        for (partition, records) in &kafka.source {
            let next = kafka.committed.get(partition).map_or(0, |(next, _)| *next);
            for record in records.iter().filter(|r| r.id.offset < next) {
                let outputs = found.remove(&(record.id.clone(), false)).unwrap_or(0);
                let dead = found.remove(&(record.id.clone(), true)).unwrap_or(0);
                let failed = self.rules.dead_letter.is_none() || dead == 1;
                let may_fail = Fate::of(record).may_fail()
                    || self.excused.contains(&record.id)
                    || self.named.contains(&record.id);
                let done = Fate::of(record).outputs() == Some(outputs) && dead == 0;
                let was_failed = outputs == 0 && failed && may_fail;
                if !done && !was_failed {
                    self.broken(
                        "I1/I2",
                        format!(
                            "the target holds {outputs} outputs and {dead} dead letters of {}",
                            record.id
                        ),
                    );
                }
            }
        }
        for (id, _) in found.keys() {
            self.broken(
                "I3",
                format!("the target holds records of {id}, which is not passed"),
            );
        }
    }

    /// What was passed with a durable trace has one still: gaps excuse what a reader is told, not what is lost. And in the
    /// end no failure waits in a fallback.
    fn check_trace(
        &mut self,
        record: &SourceRecord,
        era: u64,
        store: &MemoryTracker,
        fallbacks: &[MemoryTracker],
    ) {
        let id = &record.id;
        let fact = self.facts.get(&(era, id.clone()));
        let is_kept = |tracker: &MemoryTracker| {
            held(tracker, id).is_some_and(|entry| entry.version.era == era && entry.failure.is_some())
        };
        let needs_one = fact.is_some_and(|fact| fact.failed && is_reliable(fact.tracking));
        if needs_one && self.rules.dead_letter.is_none() && !is_kept(store) {
            self.broken(
                "trace",
                format!(
                    "{id} was passed as a failure of which the store has nothing, although it is well again"
                ),
            );
        }
        if fallbacks.iter().any(is_kept) {
            self.broken("trace", format!("{id} still waits in a fallback"));
        }
    }

    /// What a reset has jumped over while it was failing does not stand for ever.
    fn check_passed_by_reset(&mut self, partition: &Partition, floor: i64, era: u64, store: &MemoryTracker) {
        let query = Query {
            partition: Some(partition.clone()),
            offsets: Some(0..floor),
            outcomes: vec![Outcome::Failing],
            limit: 1_000,
            ..Query::default()
        };
        for entry in listed(store, &query)
            .iter()
            .filter(|entry| entry.version.era < era)
        {
            self.broken(
                "reset",
                format!("{} lies below {floor}, where era {era} began", show(entry)),
            );
        }
    }

    /// What a replaced owner left failing at or above C(p), the next one has voided: nobody tries it in that term any more.
    /// To be asked while everybody still runs: one that begins only to stop voids nothing.
    pub(in crate::sim) fn check_voids(&mut self, kafka: &Kafka, store: &MemoryTracker) {
        // An owner that tracks nothing voids nothing.
        if self.rules.tracking.contains(&Tracking::None) {
            return;
        }
        for (partition, (next, text)) in &kafka.committed {
            let Some(noted) = text.as_deref().and_then(Noted::read) else {
                continue;
            };
            let query = Query {
                partition: Some(partition.clone()),
                offsets: Some(*next..i64::MAX),
                outcomes: vec![Outcome::Failing],
                era: Some(noted.era),
                limit: 1_000,
                ..Query::default()
            };
            let of_older = |entry: &&Entry| entry.version.term < noted.term;
            for entry in listed(store, &query).iter().filter(of_older) {
                if !self.outdated.contains(&entry.id) {
                    self.broken("void", format!("{} stands in term {}", show(entry), noted.term));
                }
            }
        }
    }

    /// What the commands and the console show must not contradict what is committed now.
    fn check_reader(&mut self, record: &SourceRecord, era: u64, rows: &[Progress], store: &MemoryTracker) {
        let Some(fact) = self.facts.get(&(era, record.id.clone())) else {
            return;
        };
        let Some(shown) = held(store, &record.id).and_then(|entry| visible(entry, rows)) else {
            return;
        };
        let wrong = match shown.version.outcome {
            Outcome::Failed => !fact.failed,
            Outcome::Succeeded => fact.failed,
            Outcome::Received | Outcome::Failing => false,
        };
        if wrong {
            self.broken(
                "era hides",
                format!("a reader is shown {}; era {era} committed {fact:?}", show(&shown)),
            );
        }
    }

    fn check_entry(&mut self, record: &SourceRecord, next: i64, era: u64, gap: bool, store: &MemoryTracker) {
        let id = &record.id;
        // What an older era knew of it counts as absent.
        let entry = held(store, id).filter(|e| e.version.era == era);
        let outcome = entry.as_ref().map(|e| e.version.outcome);
        let fact = self.facts.get(&(era, id.clone())).cloned();
        let shown = entry.as_ref().map(show);
        if id.offset >= next {
            if matches!(outcome, Some(Outcome::Failed | Outcome::Succeeded)) {
                self.broken("I7", format!("{shown:?} is final, and C(p) is {next}"));
            }
            let is_known = self.rules.is_atomic && self.rules.is_reliable() && !self.is_skipped(era, id);
            if id.offset == next && is_known && outcome != Some(Outcome::Failing) {
                self.broken(
                    "stands",
                    format!("C(p) stands at {id}, and the tracker says {shown:?}"),
                );
            }
            return;
        }
        let Some(fact) = fact else {
            if gap {
                return;
            }
            self.broken(
                "I1",
                format!("{id} lies below C(p) {next} and no commit of era {era} passed it"),
            );
            return;
        };
        match outcome {
            Some(Outcome::Failed) if !fact.failed => {
                self.broken("I7", format!("{shown:?}, its output is committed"))
            }
            Some(Outcome::Succeeded) if fact.failed => {
                self.broken("I7", format!("{shown:?}, it was passed as a failure"))
            }
            Some(Outcome::Failed | Outcome::Succeeded) => {}
            _ if gap => {}
            Some(_) => self.broken("I8", format!("{shown:?} is not settled, and C(p) is {next}")),
            None if fact.failed => self.broken(
                "I8",
                format!("{id} was passed as a failure, the tracker knows nothing of it"),
            ),
            None if fact.tracking == Tracking::Outbox => self.broken("I8", format!("{id} has no entry")),
            None => {}
        }
    }
}
