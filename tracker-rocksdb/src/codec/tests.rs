use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*, sample::Index};
use tracker_api::{AttemptId, Gaps, Header, Outcome};
use uuid::Uuid;

use super::*;

/// Topics of any text, NUL and prefixes of each other included.
fn ids() -> impl Strategy<Value = RecordId> {
    let topic = prop_oneof!["[ab\0\u{1}]{0,4}", ".{0,6}"];
    (topic, any::<i32>(), any::<i64>())
        .prop_map(|(topic, number, offset)| Partition::new(topic, number).at(offset))
}

fn bytes() -> impl Strategy<Value = Option<Bytes>> {
    option::of(vec(any::<u8>(), 0..12).prop_map(Bytes::from))
}

fn versions() -> impl Strategy<Value = Version> {
    let outcomes = [
        Outcome::Received,
        Outcome::Failing,
        Outcome::Failed,
        Outcome::Succeeded,
    ];
    (any::<u64>(), any::<u64>(), any::<u128>(), 0..4_usize).prop_map(move |(era, term, attempt, outcome)| {
        Version {
            era,
            term,
            attempt: AttemptId(Uuid::from_u128(attempt)),
            outcome: outcomes[outcome],
        }
    })
}

fn failures() -> impl Strategy<Value = Failure> {
    (
        ".{0,9}",
        ".{0,30}",
        any::<(u32, bool, bool)>(),
        option::of(any::<i64>()),
    )
        .prop_map(
            |(class, message, (tries, passes, bytes_refused), next_try)| Failure {
                tries,
                passes,
                bytes_refused,
                next_try: next_try.map(Timestamp),
                ..Failure::new(&class, &message)
            },
        )
}

fn resolutions() -> impl Strategy<Value = Resolution> {
    let claims =
        (any::<u128>(), ".{0,9}", any::<i64>()).prop_map(|(replay, transactional_id, until)| Claim {
            replay: Uuid::from_u128(replay),
            transactional_id,
            lease_until: Timestamp(until),
        });
    let decisions = prop_oneof![
        Just(Decision::Retry),
        Just(Decision::Skip),
        claims.prop_map(Decision::Replaying),
        Just(Decision::Replayed),
        Just(Decision::Discarded),
    ];
    (decisions, versions(), ".{0,9}", ".{0,9}", any::<i64>()).prop_map(
        |(decision, about, actor, reason, at)| Resolution {
            decision,
            about,
            actor,
            reason,
            at: Timestamp(at),
        },
    )
}

fn captures() -> impl Strategy<Value = Captured> {
    let header = (bytes(), bytes()).prop_map(|(name, value)| Header {
        name: name.unwrap_or_default(),
        value,
    });
    (bytes(), bytes(), vec(header, 0..4)).prop_map(|(key, value, headers)| Captured { key, value, headers })
}

fn entries() -> impl Strategy<Value = Entry> {
    let parts = (
        option::of(failures()),
        option::of(any::<i64>()),
        option::of(captures()),
        option::of(resolutions()),
    );
    (ids(), versions(), any::<i64>(), parts, any::<u64>()).prop_map(
        |(id, version, at, (failure, first, captured, resolution), revision)| Entry {
            failure,
            first_failed_at: first.map(Timestamp),
            captured,
            resolution,
            revision,
            ..Entry::new(id, version, Timestamp(at))
        },
    )
}

/// A value whose checksum is right, whatever stands in it.
fn summed(key: &[u8], body: &[u8]) -> Vec<u8> {
    [body, &sum(key, body).to_le_bytes()].concat()
}

fn is_corrupt<T: std::fmt::Debug>(answer: Result<T>, key: &[u8]) -> bool {
    answer.is_err_and(|error| {
        error.kind() == ErrorKind::Corrupt && error.to_string().contains(&key.escape_ascii().to_string())
    })
}

proptest! {
    #[test]
    fn keys_order_as_ids(a in ids(), b in ids(), number in any::<u32>()) {
        prop_assert_eq!(record_key(number, &a).cmp(&record_key(number, &b)), a.cmp(&b));
        let partitions = partition_key(number, &a.partition).cmp(&partition_key(number, &b.partition));
        prop_assert_eq!(partitions, a.partition.cmp(&b.partition));
    }

    #[test]
    fn keys_by_time_order_as_time_and_id(a in ids(), b in ids(), at in any::<i64>(), step in 0..2_i64) {
        let (early, late) = (Timestamp(at), Timestamp(at.saturating_add(step)));
        prop_assert_eq!(time_key(7, early, &a).cmp(&time_key(7, late, &b)), (early, &a).cmp(&(late, &b)));
        prop_assert_eq!(time_key(7, early, &a) < time_prefix(7, late), early < late);
    }

    #[test]
    fn a_key_reads_back(id in ids(), at in any::<i64>(), number in any::<u32>()) {
        let (found, timed) = timed_record_of(&time_key(number, Timestamp(at), &id)).unwrap();
        prop_assert_eq!((found, &timed), (Timestamp(at), &id));
        prop_assert_eq!(record_of(&record_key(number, &id)).unwrap(), id);
    }

    #[test]
    fn a_partitions_records_lie_between_its_key_and_the_one_behind_it(id in ids(), other in ids()) {
        let (from, to) = (partition_key(7, &id.partition), behind(&partition_key(7, &id.partition)).unwrap());
        let inside = |id: &RecordId| (from.clone()..to.clone()).contains(&record_key(7, id));
        prop_assert!(inside(&id));
        prop_assert_eq!(inside(&other), other.partition == id.partition);
    }

    #[test]
    fn garbage_for_a_key_is_corrupt_or_a_record_and_never_a_panic(key in vec(prop_oneof![Just(0), any::<u8>()], 0..40)) {
        match record_of(&key) {
            Ok(id) => prop_assert_eq!(&record_key(u32::from_be_bytes(key[..4].try_into().unwrap()), &id), &key),
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Corrupt),
        }
        if let Err(error) = timed_record_of(&key) {
            prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn an_entry_reads_back(entry in entries()) {
        let key = record_key(1, &entry.id);
        prop_assert_eq!(decode_entry(&key, &encode_entry(&key, &entry).unwrap()).unwrap(), entry);
    }

    #[test]
    fn a_brief_says_what_the_entry_says_and_reads_back(entry in entries(), at in any::<i64>()) {
        let brief = Brief::of(&entry);
        prop_assert_eq!(brief.status, Status::of(&entry));
        prop_assert_eq!(brief.cause.map(|(print, _)| print), entry.failure.as_ref().map(|f| f.fingerprint));
        let key = time_key(1, Timestamp(at), &entry.id);
        let value = encode(&key, &brief).unwrap();
        prop_assert_eq!(decode_brief(&key, &value).unwrap(), Some(brief));
        prop_assert!(is_corrupt(decode_brief(&key, &value[1..]), &key));
    }

    #[test]
    fn progress_reads_back(era in any::<u64>(), numbers in any::<[i64; 4]>(), gaps in vec((0..99_i64, 0..99_i64), 0..5)) {
        let progress = Progress {
            partition: Partition::new("orders", 3),
            era,
            term: !era,
            attempt: AttemptId(Uuid::from_u64_pair(era, 7)),
            floor: numbers[0],
            received: numbers[1],
            committed: numbers[2],
            gaps: gaps.iter().map(|(from, to)| *from..*to).collect::<Gaps>(),
            missed: gaps.iter().map(|(from, to)| *from..*to - 1).collect::<Gaps>(),
            failed: era,
            succeeded: !era,
            at: Timestamp(numbers[3]),
        };
        let value = encode_progress(b"key", &progress).unwrap();
        let decoded = decode_progress(b"key", &value).unwrap();
        prop_assert_eq!(&decoded, &progress);
        let old = OldProgress {
            partition: progress.partition.clone(),
            era: progress.era,
            floor: progress.floor,
            received: progress.received,
            committed: progress.committed,
            gaps: progress.gaps.clone(),
            failed: progress.failed,
            succeeded: progress.succeeded,
            at: progress.at,
        };
        let value = encode(b"key", &old).unwrap();
        let nobodys = Progress { term: 0, attempt: AttemptId::default(), missed: Gaps::default(), ..progress };
        prop_assert_eq!(decode_progress(b"key", &value).unwrap(), nobodys);
    }

    #[test]
    fn each_flipped_bit_is_seen(entry in entries(), at in any::<Index>(), bit in 0..8_u8) {
        let key = record_key(1, &entry.id);
        let mut value = encode_entry(&key, &entry).unwrap();
        let at = at.index(value.len());
        value[at] ^= 1 << bit;
        prop_assert!(is_corrupt(decode_entry(&key, &value), &key));
    }

    #[test]
    fn each_cut_is_seen(entry in entries(), at in any::<Index>()) {
        let key = record_key(1, &entry.id);
        let value = encode_entry(&key, &entry).unwrap();
        prop_assert!(is_corrupt(decode_entry(&key, &value[..at.index(value.len())]), &key));
    }

    #[test]
    fn garbage_is_corrupt_and_never_a_panic(body in vec(any::<u8>(), 0..80)) {
        let key = record_key(1, &Partition::new("t", 0).at(0));
        prop_assert!(is_corrupt(decode_entry(&key, &body), &key));
        // With a checksum that is right it comes as far as the row.
        let row = summed(&key, &[&[FORMAT], &body[..]].concat());
        prop_assert!(decode_entry(&key, &row).is_ok() || is_corrupt(decode_entry(&key, &row), &key));
    }

    #[test]
    fn a_damaged_row_under_a_right_checksum_is_never_a_panic(entry in entries(), at in any::<Index>(), byte in any::<u8>()) {
        let key = record_key(1, &entry.id);
        let value = encode_entry(&key, &entry).unwrap();
        let mut body = value[..value.len() - 4].to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        let row = summed(&key, &body);
        prop_assert!(decode_entry(&key, &row).is_ok() || is_corrupt(decode_entry(&key, &row), &key));
    }
}

#[test]
fn a_value_under_anothers_key_is_damage() {
    let (one, two) = (Partition::new("t", 0).at(1), Partition::new("t", 0).at(2));
    let version = Version {
        era: 1,
        term: 1,
        attempt: AttemptId::default(),
        outcome: Outcome::Succeeded,
    };
    let value = encode_entry(
        &record_key(1, &one),
        &Entry::new(one.clone(), version, Timestamp(0)),
    )
    .unwrap();
    assert!(decode_entry(&record_key(1, &one), &value).is_ok());
    let key = record_key(1, &two);
    assert!(is_corrupt(decode_entry(&key, &value), &key));
}

#[test]
fn a_row_of_an_unknown_format_says_so() {
    let key = record_key(1, &Partition::new("t", 0).at(1));
    let error = decode_entry(&key, &summed(&key, &[9, 1, 2, 3])).unwrap_err();
    assert!(error.to_string().contains("its format 9 is unknown"), "{error}");
}

/// What is on the disks of users. When this fails, the shape of a row has changed: give it another format byte, and keep
/// reading this one.
#[test]
fn the_format_is_the_one_that_was_shipped() {
    let id = Partition::new("orders", 3).at(42);
    let version = Version {
        era: 1,
        term: 2,
        attempt: AttemptId(Uuid::from_u128(3)),
        outcome: Outcome::Failed,
    };
    let mut entry = Entry::new(id, version, Timestamp(5));
    entry.failure = Some(Failure::new("bad", "no"));
    entry.first_failed_at = Some(Timestamp(4));
    entry.captured = Some(Captured {
        key: Some(Bytes::from_static(b"k")),
        value: None,
        headers: vec![],
    });
    entry.resolution = Some(Resolution {
        decision: Decision::Discarded,
        about: version,
        actor: "ada".into(),
        reason: "old".into(),
        at: Timestamp(6),
    });
    entry.revision = 7;
    let key = record_key(1, &entry.id);
    assert_eq!(key.escape_ascii().to_string(), KEY);
    let value = encode_entry(&key, &entry).unwrap();
    assert_eq!(value.escape_ascii().to_string(), VALUE);
    let key = time_key(1, Timestamp(4), &entry.id);
    let brief = encode(&key, &Brief::of(&entry)).unwrap();
    assert_eq!(brief.escape_ascii().to_string(), BRIEF);
}

const KEY: &str = r"\x00\x00\x00\x01orders\x00\x00\x80\x00\x00\x03\x80\x00\x00\x00\x00\x00\x00*";
const VALUE: &str = r"\x01\x01\x02\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x02\n\x01\x03bad\x02no\xc5\xa3\x9f\xe9\x9c\xbc\xca\xf4\xf5\x01\x01\x00\x00\x00\x01\x08\x01\x01\x01k\x00\x00\x01\x04\x01\x02\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x02\x03ada\x03old\x0c\x07\xad\xc8\x06\x1a";
const BRIEF: &str =
    r"\x01\x02\x07\x01\x01\xc5\xa3\x9f\xe9\x9c\xbc\xca\xf4\xf5\x01\xfb\xf3\xac\x91\x08\x9fS\xedx";
