//! Where a partition begins for which the group has no offset: decided by what Kafka, the store and the mark in the data
//! directory know. An offset that is missing says nothing by itself; nothing here is guessed.

use std::collections::BTreeMap;

use tracker_api::{Partition, Progress};

use super::{Error, Lane, Settings, stalls::Why};
use crate::{
    begun::Seen,
    kafka::{Position, Session, Topic},
    mutant::{self, Mutant},
    note::Note,
    transform::Transform,
};

/// What is known of the whole group on the source topic.
#[derive(Debug)]
pub(super) struct Evidence {
    /// C(p) and note of every partition of the topic.
    group: Vec<Position>,
    /// The topic, as it is now.
    topic: Topic,
    /// What the group had committed once, by partition, as far as the store and the mark know.
    known: BTreeMap<i32, i64>,
    /// The topic's id when the mark was last written.
    seen: Option<String>,
}

/// Where a partition without an offset begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// The group is new: where `initial-offset` says.
    Initial,
    /// At its log's start: nobody can have read it before.
    LogStart,
    /// At its log's start if that is 0; if not, nobody can tell what was passed.
    Zero,
    /// It was committed once, here if that is known.
    Lost(Option<i64>),
    /// It has an offset by now.
    Begun,
}

impl<S: Session, T: Transform> Lane<S, T> {
    /// Asks whoever may know of progress on this topic. `Ok(Err)`: the store does not answer, which is no answer.
    pub(super) async fn evidence(&mut self) -> Result<Result<Evidence, (Why, String)>, Error> {
        // The store and the mark first: what they know was committed before, so that Kafka shows it too unless it is lost.
        let seen = self.begun.seen();
        let rows = self.recorder.clone().rows();
        let rows = match self.breathe_while(rows).await? {
            Some(Ok(rows)) => rows,
            Some(Err(_)) if mutant::active(Mutant::NoAnswerIsNeverSeen) => Vec::new(),
            Some(Err(error)) => return Ok(Err((Why::Store, format!("the store: {error}")))),
            None => return Ok(Err((Why::Store, "the service is stopping".to_owned()))),
        };
        let all = self.session.partitions(&self.settings.source).await?;
        let group = self.session.committed(&all).await?;
        Ok(Ok(Evidence::of(group, self.topic.clone(), &rows, seen)))
    }
}

impl Evidence {
    fn of(group: Vec<Position>, topic: Topic, rows: &[Progress], seen: Seen) -> Self {
        let mut known = BTreeMap::new();
        if !topic.is_another(seen.id.as_deref()) {
            let of_topic = |row: &&Progress| group.iter().any(|p| p.partition.topic == row.partition.topic);
            let rows = rows.iter().filter(of_topic).filter(|row| row.era >= seen.since);
            let rows = rows.map(|row| (row.partition.number, row.committed));
            for (number, committed) in rows.chain(seen.committed) {
                let held = known.entry(number).or_insert(committed);
                *held = committed.max(*held);
            }
        }
        if mutant::active(Mutant::VacuousFirstStart) {
            known.clear();
        }
        Self {
            group,
            topic,
            known,
            seen: seen.id,
        }
    }

    /// The notes of the group that speak of this topic, not of one that had its name.
    fn notes(&self) -> impl Iterator<Item = Option<Note>> {
        let notes = self
            .group
            .iter()
            .filter(|p| p.offset.is_some())
            .map(|p| Note::read(p.note.as_deref()));
        notes.filter(move |note| !note.as_ref().is_some_and(|note| self.is_of_another(note)))
    }

    fn is_of_another(&self, note: &Note) -> bool {
        self.topic.is_another(note.topic.as_deref())
    }

    /// Whether nobody has begun on this topic yet, and somebody had on another of its name.
    fn was_made_again(&self) -> bool {
        let of_another = |p: &Position| Note::read(p.note.as_deref()).is_some_and(|n| self.is_of_another(&n));
        self.topic.is_another(self.seen.as_deref())
            || self.seen.is_none() && self.group.iter().any(of_another)
    }

    /// What the note of a partition that begins says of [`Note::partitions`].
    pub(super) fn partitions(&self) -> Option<i32> {
        let now = Some(self.topic.partitions).filter(|count| *count > 0);
        if self.was_made_again() {
            Some(0)
        } else {
            self.counted().or(now)
        }
    }

    /// How many partitions the topic had when the group began on it, as the notes say: the first of them decided it.
    fn counted(&self) -> Option<i32> {
        self.notes().flatten().filter_map(|note| note.partitions).min()
    }

    /// Where `partition`, which has no offset, begins.
    pub(super) fn first(&self, partition: &Partition) -> First {
        let stands = |number: i32| {
            let of = self.group.iter().find(|p| p.partition.number == number);
            of.is_some_and(|p| p.offset.is_some())
        };
        if stands(partition.number) {
            return First::Begun;
        }
        if self.was_made_again() {
            return First::LogStart;
        }
        if let Some(committed) = self.known.get(&partition.number) {
            return First::Lost(Some(*committed));
        }
        if self.counted().is_some_and(|count| partition.number >= count) {
            return First::LogStart;
        }
        if !self.known.keys().all(|number| stands(*number)) {
            return First::Lost(None);
        }
        if self.notes().next().is_none() {
            return First::Initial;
        }
        // Lanes that start together commit their first positions one after another: the group is still new while every
        // position that there is belongs to a first term.
        if self.notes().all(|note| note.is_some_and(|note| note.term == 1)) {
            return First::Initial;
        }
        First::Zero
    }
}

/// What an operator reads of a partition whose offset is lost.
pub(super) fn lost(partition: &Partition, committed: Option<i64>, settings: &Settings) -> String {
    let (known, to) = match committed {
        Some(offset) => (
            format!("{offset} was committed there, as the store and the data directory know"),
            format!("--to-offset {offset}"),
        ),
        None => (
            "the group has committed on this topic before".to_owned(),
            "--to-earliest".to_owned(),
        ),
    };
    format!(
        "{partition} has no committed offset, although {known}: it expired or was deleted, and where to go on is yours to \
         say. Stop every instance of group `{}`, run `kafka-consumer-groups.sh --bootstrap-server {} --group {} --topic {}:{} \
         --reset-offsets {to} --execute`, and start them again",
        settings.group, settings.bootstrap, settings.group, partition.topic, partition.number
    )
}

#[cfg(test)]
mod tests {
    use tracker_api::{AttemptId, Gaps, Timestamp};

    use super::*;

    const ONE: &str = "AAAAAAAAAAAAAAAAAAAAAA";
    const TWO: &str = "BBBBBBBBBBBBBBBBBBBBBA";

    fn partition(number: i32) -> Partition {
        Partition::new("orders", number)
    }

    fn note(term: u64, count: i32, topic: Option<&str>) -> String {
        let note = Note {
            attempt: AttemptId::default(),
            passed: false,
            era: 100,
            term,
            unconfirmed: Vec::new(),
            gaps: Gaps::default(),
            began: 0,
            store: 0,
            since: 0,
            partitions: Some(count),
            topic: topic.map(Into::into),
            told: 0,
        };
        note.to_string()
    }

    fn at(number: i32, held: Option<(i64, String)>) -> Position {
        Position {
            partition: partition(number),
            offset: held.as_ref().map(|h| h.0),
            note: held.map(|h| h.1),
        }
    }

    fn row(number: i32, era: u64, committed: i64) -> Progress {
        Progress {
            partition: partition(number),
            era,
            term: 1,
            attempt: AttemptId::default(),
            missed: Gaps::default(),
            floor: 0,
            received: committed,
            committed,
            gaps: Gaps::default(),
            failed: 0,
            succeeded: 0,
            at: Timestamp(0),
        }
    }

    fn seen(id: Option<&str>, since: u64, committed: &[(i32, i64)]) -> Seen {
        Seen {
            id: id.map(str::to_owned),
            since,
            committed: committed.iter().copied().collect(),
            ..Seen::default()
        }
    }

    /// Two partitions of topic `ONE`; the second is asked about.
    fn first(zero: Option<String>, rows: &[Progress], seen: Seen) -> First {
        let group = vec![at(0, zero.map(|note| (7, note))), at(1, None)];
        let topic = Topic {
            id: Some(ONE.into()),
            partitions: 2,
        };
        Evidence::of(group, topic, rows, seen).first(&partition(1))
    }

    #[test]
    fn a_group_without_offsets_is_new_only_if_neither_store_nor_mark_knows_progress() {
        let none = || seen(None, 0, &[]);
        assert_eq!(first(None, &[], none()), First::Initial);
        assert_eq!(first(None, &[row(1, 9, 150)], none()), First::Lost(Some(150)));
        assert_eq!(
            first(None, &[row(0, 9, 150)], none()),
            First::Lost(None),
            "another partition's progress"
        );
        assert_eq!(
            first(None, &[], seen(Some(ONE), 0, &[(1, 150)])),
            First::Lost(Some(150))
        );
        let elsewhere = Progress {
            partition: Partition::new("others", 1),
            ..row(1, 9, 150)
        };
        assert_eq!(
            first(None, &[elsewhere], none()),
            First::Initial,
            "of another topic"
        );
    }

    #[test]
    fn one_missing_offset_of_several_is_judged_alike() {
        let none = || seen(None, 0, &[]);
        let zero = |term| Some(note(term, 2, Some(ONE)));
        for term in [1, 2] {
            let known = first(zero(term), &[row(0, 9, 7), row(1, 9, 150)], none());
            assert_eq!(known, First::Lost(Some(150)));
            let marked = first(zero(term), &[], seen(None, 0, &[(1, 20)]));
            assert_eq!(marked, First::Lost(Some(20)));
        }
        assert_eq!(first(zero(1), &[row(0, 9, 7)], none()), First::Initial);
        assert_eq!(first(zero(2), &[row(0, 9, 7)], none()), First::Zero);
        assert_eq!(
            first(Some("a tool's words".into()), &[], none()),
            First::Zero,
            "an offset that is not ours"
        );
    }

    #[test]
    fn a_partition_that_the_topic_did_not_have_when_the_group_began_is_read_from_its_start() {
        let none = || seen(None, 0, &[]);
        for term in [1, 2] {
            let late = Some(note(term, 1, Some(ONE)));
            assert_eq!(first(late, &[row(0, 9, 7)], none()), First::LogStart);
        }
        let lost = first(Some(note(1, 1, Some(ONE))), &[row(1, 9, 150)], none());
        assert_eq!(lost, First::Lost(Some(150)), "its offset was there once");
        // That another one's offset is lost is no reason to wait.
        let group = vec![at(0, Some((7, note(2, 1, Some(ONE))))), at(1, None), at(2, None)];
        let evidence = Evidence::of(group, Topic::default(), &[row(2, 9, 3)], none());
        assert_eq!(evidence.first(&partition(1)), First::LogStart);
        // Two partitions came; the note of the first that began does not make the second an old one.
        let group = vec![
            at(0, Some((7, note(1, 1, Some(ONE))))),
            at(1, None),
            at(2, Some((0, note(1, 3, Some(ONE))))),
        ];
        let evidence = Evidence::of(group, Topic::default(), &[], none());
        assert_eq!(
            (evidence.first(&partition(1)), evidence.partitions()),
            (First::LogStart, Some(1))
        );
    }

    #[test]
    fn what_is_known_of_a_topic_that_is_gone_says_nothing_of_the_one_that_has_its_name() {
        let rows = [row(0, 50, 7), row(1, 50, 150)];
        let again = first(None, &rows, seen(Some(TWO), 0, &[(1, 150)]));
        assert_eq!(again, First::LogStart, "the mark knows another id");
        let again = first(Some(note(3, 2, Some(TWO))), &rows, seen(None, 0, &[]));
        assert_eq!(again, First::LogStart, "a note knows another id");
        // The group has begun on the new topic, from era 60 on; the rows are older.
        let begun = first(Some(note(1, 0, Some(ONE))), &rows, seen(Some(ONE), 60, &[(0, 7)]));
        assert_eq!(begun, First::LogStart, "also where `initial-offset` is `latest`");
        let lost = first(None, &[row(1, 70, 3)], seen(Some(ONE), 60, &[(0, 7)]));
        assert_eq!(lost, First::Lost(Some(3)));
    }

    #[test]
    fn an_id_that_is_not_known_is_no_other_id() {
        let rows = [row(1, 50, 150)];
        let group = vec![at(0, Some((7, note(3, 2, Some(TWO))))), at(1, None)];
        let evidence = Evidence::of(group, Topic::default(), &rows, seen(Some(ONE), 0, &[]));
        assert_eq!(evidence.first(&partition(1)), First::Lost(Some(150)));
    }

    #[test]
    fn the_operator_reads_what_to_type() {
        let settings = crate::lane::tests::settings();
        let text = lost(&partition(1), Some(150), &settings);
        assert!(
            text.contains("kafka-consumer-groups.sh --bootstrap-server b:9092 --group group --topic orders:1 --reset-offsets --to-offset 150 --execute"),
            "{text}"
        );
    }
}
