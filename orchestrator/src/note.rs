//! The note: the metadata that Kafka stores with each committed offset, atomically with the transaction.
//!
//! It says what the store has not confirmed yet, so that whoever owns the partition next can settle it. Anybody with
//! write access to the group can set it, so what is read back is untrusted: what is not exactly ours is *no note*.

use std::{fmt, str::FromStr, sync::Arc};

use tracker_api::{AttemptId, Gaps};
use uuid::Uuid;

use crate::kafka::{Advance, Attempt, Position};

/// An attempt that passes a failure of its own waits when so many are unconfirmed.
pub(crate) const MOST_UNCONFIRMED: usize = 16;
/// Kafka's default `offset.metadata.max.bytes`.
const MOST_BYTES: usize = 4_096;
/// Sixteen unconfirmed attempts and so many gaps of 20-digit offsets stay below [`MOST_BYTES`].
pub(crate) const MOST_GAPS: usize = 64;

/// The greatest era and term that are read: every store holds them, and no clock and no count of terms comes near.
pub(crate) const MOST: u64 = 1 << 62;

/// The era or term after `number`. It stops at [`MOST`], which only a note that somebody made up says: what we write we can
/// read, or nobody could tell any more what became of our own attempts.
pub(crate) fn after(number: u64) -> u64 {
    number.saturating_add(1).min(MOST)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// The attempt that committed it.
    pub(crate) attempt: AttemptId,
    /// Whether that attempt passed a failure.
    pub(crate) passed: bool,
    pub(crate) era: u64,
    pub(crate) term: u64,
    /// Earlier attempts that passed a failure whose `failed` is not durable in the store yet.
    pub(crate) unconfirmed: Vec<AttemptId>,
    pub(crate) gaps: Gaps,
    /// Where the era began. A store that was told of the partition later cannot know it.
    pub(crate) began: i64,
    /// The store that is told of what the owner commits, by its mark: processes with an embedded store have one each.
    pub(crate) store: u32,
    /// What this era committed below it was told to another store.
    pub(crate) since: i64,
    /// How many partitions the topic had when the group began on it: a partition of a number at or above this came later.
    /// 0: the topic was made again after that, so all of it came later. None: unknown, as older versions wrote no such thing.
    pub(crate) partitions: Option<i32>,
    /// The topic's id, as [`kafka::Topic`](crate::kafka::Topic) has it; none: unknown.
    pub(crate) topic: Option<Arc<str>>,
    /// Up to where `store` has confirmed the progress of this era, at least. A store that says less came back older.
    pub(crate) told: i64,
}

impl Note {
    /// Reads a note; none if it is not one of ours.
    pub(crate) fn read(text: Option<&str>) -> Option<Self> {
        text?.parse().ok()
    }

    /// The attempts that may have passed failures which the store does not know as `failed` yet.
    pub(crate) fn open_attempts(&self) -> Vec<AttemptId> {
        let own = self.passed.then_some(self.attempt);
        self.unconfirmed.iter().copied().chain(own).collect()
    }

    /// Keeps the gaps few enough for the note's bound; joining two says too much, never too little.
    pub(crate) fn bounded(mut self) -> Self {
        self.gaps.bound(MOST_GAPS);
        self
    }
}

/// Whether a committed note names `attempt`, as its own or as unconfirmed: then that attempt is committed.
pub(crate) fn names(note: &str, attempt: AttemptId) -> bool {
    Note::read(Some(note)).is_some_and(|note| note.attempt == attempt || note.unconfirmed.contains(&attempt))
}

/// Whether it begins an era on a topic that was made again: then its offsets begin anew, and may lie below what stands.
pub(crate) fn begins_anew(advance: &Advance) -> bool {
    let before = Note::read(advance.start_note.as_deref());
    let new = Note::read(Some(&advance.note));
    matches!((before, new), (Some(before), Some(new)) if new.era > before.era && new.partitions == Some(0))
}

/// What the committed positions say of an attempt whose outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Committed,
    Aborted,
    TakenOver,
}

/// Reads an unknown outcome from C(p) of the partitions that the attempt advances, and of those only: committed if the
/// note of any names it; aborted if any stands where the attempt started, with the note that stood there; otherwise
/// others took over. Every session settles by it.
pub(crate) fn read_outcome(attempt: &Attempt, positions: &[Position]) -> Reading {
    if positions
        .iter()
        .any(|p| p.note.as_deref().is_some_and(|note| names(note, attempt.id)))
    {
        return Reading::Committed;
    }
    let stands_at_start = |advance: &Advance| {
        let of = positions.iter().find(|p| p.partition == advance.partition);
        of.is_some_and(|p| p.offset == advance.start && p.note == advance.start_note)
    };
    if attempt.advance.iter().any(stands_at_start) {
        Reading::Aborted
    } else {
        Reading::TakenOver
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed = if self.passed { "p" } else { "-" };
        let partitions = self.partitions.map_or("-".to_owned(), |count| count.to_string());
        write!(
            f,
            "v2;{};{passed};{};{};{};{:08x};{};{};{};{};",
            self.attempt,
            self.era,
            self.term,
            self.began,
            self.store,
            self.since,
            partitions,
            self.topic.as_deref().unwrap_or("-"),
            self.told
        )?;
        for (i, attempt) in self.unconfirmed.iter().enumerate() {
            write!(f, "{}{attempt}", if i == 0 { "" } else { "," })?;
        }
        f.write_str(";")?;
        for (i, gap) in self.gaps.iter().enumerate() {
            write!(f, "{}{}-{}", if i == 0 { "" } else { "," }, gap.start, gap.end)?;
        }
        Ok(())
    }
}

/// Not one of our notes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotOurs;

impl FromStr for Note {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        if text.len() >= MOST_BYTES {
            return Err(NotOurs);
        }
        let fields: Vec<&str> = text.split(';').collect();
        let [
            version,
            attempt,
            passed,
            era,
            term,
            began,
            store,
            since,
            rest @ ..,
        ] = &fields[..]
        else {
            return Err(NotOurs);
        };
        let (partitions, topic, told, unconfirmed, gaps) = match (*version, rest) {
            ("v2", [partitions, topic, told, unconfirmed, gaps]) => (
                count(partitions)?,
                topic_id(topic)?,
                offset(told)?,
                unconfirmed,
                gaps,
            ),
            // Of an older version of ours, which promised nothing of the three: the least that can be said.
            ("v1", [unconfirmed, gaps]) => (None, None, 0, unconfirmed, gaps),
            _ => return Err(NotOurs),
        };
        let unconfirmed = list(unconfirmed).map(attempt_id).collect::<Result<Vec<_>, _>>()?;
        let ranges = list(gaps).map(range).collect::<Result<Vec<_>, _>>()?;
        let passed = match *passed {
            "p" => true,
            "-" => false,
            _ => return Err(NotOurs),
        };
        if unconfirmed.len() + usize::from(passed) > MOST_UNCONFIRMED || ranges.len() > MOST_GAPS {
            return Err(NotOurs);
        }
        Ok(Self {
            attempt: attempt_id(attempt)?,
            passed,
            era: number(era)?,
            term: number(term)?,
            unconfirmed,
            gaps: ranges.into_iter().collect(),
            began: offset(began)?,
            store: mark(store)?,
            since: offset(since)?,
            partitions,
            topic,
            told,
        })
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|item| !item.is_empty())
}

/// Attempt ids only grow, so one near the end of its range would leave no room: not ours.
fn attempt_id(text: &str) -> Result<AttemptId, NotOurs> {
    let id = Uuid::try_parse(text).map_err(|_| NotOurs)?;
    if text.len() != 32 || id.as_u128() >> 124 == 0xf {
        Err(NotOurs)
    } else {
        Ok(AttemptId(id))
    }
}

/// Eras and terms only grow, see [`after`].
fn number(text: &str) -> Result<u64, NotOurs> {
    digits(text)?.parse().ok().filter(|n| *n <= MOST).ok_or(NotOurs)
}

fn offset(text: &str) -> Result<i64, NotOurs> {
    digits(text)?.parse().map_err(|_| NotOurs)
}

/// Without a sign, as we write them.
fn digits(text: &str) -> Result<&str, NotOurs> {
    Some(text)
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
        .ok_or(NotOurs)
}

fn count(text: &str) -> Result<Option<i32>, NotOurs> {
    match text {
        "-" => Ok(None),
        text => i32::try_from(offset(text)?).map(Some).map_err(|_| NotOurs),
    }
}

fn topic_id(text: &str) -> Result<Option<Arc<str>>, NotOurs> {
    let is_digit = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    match text {
        "-" => Ok(None),
        id if id.len() == 22 && id.bytes().all(is_digit) => Ok(Some(id.into())),
        _ => Err(NotOurs),
    }
}

fn mark(text: &str) -> Result<u32, NotOurs> {
    let fits = text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
    u32::from_str_radix(text, 16).ok().filter(|_| fits).ok_or(NotOurs)
}

fn range(text: &str) -> Result<std::ops::Range<i64>, NotOurs> {
    let (start, end) = text.split_once('-').ok_or(NotOurs)?;
    let (start, end) = (offset(start)?, offset(end)?);
    if start < end { Ok(start..end) } else { Err(NotOurs) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{AttemptIds, SystemClock};

    fn note(unconfirmed: usize, gaps: usize) -> Note {
        let mut ids = AttemptIds::default();
        Note {
            attempt: ids.next(&SystemClock),
            passed: unconfirmed < MOST_UNCONFIRMED,
            era: MOST,
            term: MOST,
            unconfirmed: (0..unconfirmed).map(|_| ids.next(&SystemClock)).collect(),
            gaps: (0..gaps as i64)
                .map(|i| i64::MAX - 4 * (i + 1)..i64::MAX - 4 * i - 2)
                .collect(),
            began: i64::MAX - 1,
            store: 0xfeed_beef,
            since: i64::MAX - 2,
            partitions: Some(i32::MAX),
            topic: Some("ivMBYlx7TZ6gESIzRFVmdw".into()),
            told: i64::MAX - 3,
        }
    }

    #[test]
    fn a_note_of_the_version_before_is_read_and_promises_nothing_new() {
        let note = note(1, 1);
        let text = note.to_string();
        let fields: Vec<&str> = text.split(';').collect();
        let old = format!("v1;{};{}", fields[1..8].join(";"), fields[11..].join(";"));
        let expected = Note {
            partitions: None,
            topic: None,
            told: 0,
            ..note
        };
        assert_eq!(old.parse(), Ok(expected));
    }

    #[test]
    fn a_note_comes_back_as_it_was_written() {
        for (unconfirmed, gaps) in [(0, 0), (1, 1), (16, 64)] {
            let note = note(unconfirmed, gaps);
            assert_eq!(note.to_string().parse(), Ok(note));
        }
    }

    #[test]
    fn the_fullest_note_stays_below_kafkas_bound() {
        let note = note(MOST_UNCONFIRMED, 3 * MOST_GAPS).bounded();
        assert!(
            note.to_string().len() < MOST_BYTES,
            "{} bytes",
            note.to_string().len()
        );
        assert_eq!(note.to_string().parse(), Ok(note));
    }

    #[test]
    fn what_is_not_exactly_ours_is_no_note() {
        let good = note(1, 1).to_string();
        let ffff = "f".repeat(32);
        for bad in [
            String::new(),
            "hello".into(),
            good.replace("v2", "v1"),
            good.replace("v2", "v3"),
            good.replace("ivMBYlx7TZ6gESIzRFVmdw", "ivMBYlx7TZ6gESIzRFVmd"),
            good.replace("ivMBYlx7TZ6gESIzRFVmdw", "ivMBYlx7TZ6gESIzRFVm=="),
            good.replace(&format!(";{};", i32::MAX), ";-1;"),
            good.replace(";p;", ";x;"),
            good.replace(&format!(";{};", i64::MAX - 1), ";-1;"),
            note(16, 0).to_string().replace(";-;", ";p;"),
            format!("{good};"),
            format!("{good},5-5"),
            format!("{good},-3-5"),
            good.replacen(|c: char| c.is_ascii_hexdigit(), "g", 3),
            good.replace("feedbeef", "+eedbeef"),
            good.replace("feedbeef", "feed"),
            format!("v1;{ffff};p;1;1;0;00000000;0;;"),
            format!("v1;{};p;{};1;0;00000000;0;;", note(0, 0).attempt, MOST + 1),
            format!("v1;{};p;1;+1;0;00000000;0;;", note(0, 0).attempt),
            "x".repeat(MOST_BYTES),
        ] {
            assert_eq!(bad.parse::<Note>(), Err(NotOurs), "{bad}");
        }
    }

    /// What the next owner writes, at most: with everything grown that grows.
    fn next(found: &Note) -> Note {
        let mut ids = AttemptIds::default();
        found
            .open_attempts()
            .iter()
            .chain([&found.attempt])
            .for_each(|seen| ids.observe(*seen));
        let mut next = found.clone();
        (next.era, next.term) = (after(found.era), after(found.term));
        (next.unconfirmed, next.passed) = (found.open_attempts(), false);
        next.attempt = ids.next(&SystemClock);
        next.gaps.add(found.began..i64::MAX);
        next.bounded()
    }

    #[test]
    fn every_note_that_reads_can_be_followed_by_one_of_ours_that_reads() {
        let mut random = fastrand();
        let text = note(MOST_UNCONFIRMED, MOST_GAPS).to_string();
        let greatest = format!(
            "v1;ef{};p;{MOST};{MOST};{};ffffffff;{};;0-{}",
            "f".repeat(30),
            i64::MAX,
            i64::MAX,
            i64::MAX
        );
        let pieces = [
            "",
            ";",
            ",",
            "-",
            "p",
            "+1",
            "0",
            "-1",
            "v1",
            "é",
            "\0",
            "9223372036854775807",
            "9223372036854775808",
            "4611686018427387904",
            "4611686018427387905",
            "18446744073709551615",
            "99999999999999999999999",
        ];
        let mut read = 0;
        for start in [text, note(1, 1).to_string(), note(0, 0).to_string(), greatest] {
            read += u32::from(Note::read(Some(&start)).is_some());
            for _ in 0..20_000 {
                let mut fields: Vec<&str> = start.split_inclusive([';', ',', '-']).collect();
                for _ in 0..=random() % 3 {
                    let at = usize::try_from(random()).unwrap() % fields.len();
                    let piece = usize::try_from(random()).unwrap() % pieces.len();
                    match random() % 3 {
                        0 => fields[at] = pieces[piece],
                        1 => fields.insert(at, pieces[piece]),
                        _ if fields.len() > 1 => drop(fields.remove(at)),
                        _ => {}
                    }
                }
                let Some(found) = Note::read(Some(&fields.concat())) else {
                    continue;
                };
                read += 1;
                let mut follows = found;
                for _ in 0..2 {
                    follows = next(&follows);
                    assert_eq!(follows.to_string().parse().as_ref(), Ok(&follows));
                }
            }
        }
        assert!(read > 1_000, "{read}");
    }

    /// xorshift: the same numbers in every run.
    fn fastrand() -> impl FnMut() -> u64 {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        }
    }

    #[test]
    fn an_unknown_outcome_is_read_from_what_the_attempt_advances() {
        let partition = |n| tracker_api::Partition::new("orders", n);
        let before = note(0, 0).to_string();
        let mut own = note(0, 0);
        own.attempt = AttemptIds::default().next(&SystemClock);
        let advance = |n| Advance {
            partition: partition(n),
            start: Some(5),
            start_note: Some(before.clone()),
            next: 9,
            note: own.to_string(),
        };
        let attempt = Attempt {
            id: own.attempt,
            sends: vec![],
            advance: vec![advance(0), advance(1)],
        };
        let at = |n, offset, note: &str| Position {
            partition: partition(n),
            offset: Some(offset),
            note: Some(note.to_owned()),
        };
        let mut later = note(0, 0);
        later.unconfirmed = vec![own.attempt];
        let other = note(0, 0).to_string();
        for (positions, reading) in [
            (
                vec![at(0, 9, &own.to_string()), at(1, 9, &own.to_string())],
                Reading::Committed,
            ),
            (
                vec![at(0, 12, &other), at(1, 12, &later.to_string())],
                Reading::Committed,
            ),
            (vec![at(0, 12, &other), at(1, 5, &before)], Reading::Aborted),
            (vec![at(0, 5, &other), at(1, 12, &other)], Reading::TakenOver),
            (vec![at(0, 6, &before), at(1, 5, "")], Reading::TakenOver),
        ] {
            assert_eq!(read_outcome(&attempt, &positions), reading, "{positions:?}");
        }
    }

    #[test]
    fn a_note_names_its_own_attempt_and_the_unconfirmed_ones() {
        let note = note(2, 0);
        let text = note.to_string();
        assert!(names(&text, note.attempt));
        assert!(note.unconfirmed.iter().all(|a| names(&text, *a)));
        assert!(!names(&text, AttemptIds::default().next(&SystemClock)));
        assert!(!names("a tool's own words", note.attempt));
    }
}
