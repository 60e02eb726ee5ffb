use bytes::Bytes;
use proptest::{
    collection::vec,
    option,
    prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest},
    sample::select,
};
use tracker_api::{Partition, Timestamp};

use super::*;

fn few_bytes() -> impl Strategy<Value = Bytes> {
    vec(select(vec![0_u8, 0, 1, 0xff, b'a']), 0..4).prop_map(Bytes::from)
}

fn bytes_of_records() -> impl Strategy<Value = Captured> {
    let header = (few_bytes(), option::of(few_bytes())).prop_map(|(name, value)| Header { name, value });
    (
        option::of(few_bytes()),
        option::of(few_bytes()),
        vec(header, 0..3),
    )
        .prop_map(|(key, value, headers)| Captured { key, value, headers })
}

fn failures() -> impl Strategy<Value = Failure> {
    let texts = || select(vec!["", "\0", "a", "a\0", "ab", "\u{fffd}"]);
    let numbers = (
        select(vec![0, 1, u64::MAX]),
        select(vec![0, 1, u32::MAX]),
        option::of(select(vec![i64::MIN, -1, 0, i64::MAX])),
    );
    (texts(), texts(), numbers, any::<bool>(), any::<bool>()).prop_map(
        |(class, message, (fingerprint, tries, next), passes, bytes_refused)| Failure {
            class: class.into(),
            message: message.into(),
            fingerprint,
            tries,
            passes,
            next_try: next.map(Timestamp),
            bytes_refused,
        },
    )
}

fn entries() -> impl Strategy<Value = Entry> {
    let outcomes = vec![
        Outcome::Received,
        Outcome::Failing,
        Outcome::Failed,
        Outcome::Succeeded,
    ];
    let version = (
        select(vec![0, 1, u64::MAX]),
        select(vec![0, 255, 256]),
        any::<bool>(),
        select(outcomes),
    );
    (
        version,
        select(vec![i64::MIN, -1, 0, 1, i64::MAX]),
        option::of(failures()),
    )
        .prop_map(|((era, term, attempt, outcome), at, failure)| {
            let attempt = AttemptId(uuid::Uuid::from_u128(u128::from(attempt) << 64));
            let version = Version {
                era,
                term,
                attempt,
                outcome,
            };
            Entry {
                failure,
                ..Entry::new(Partition::new("orders", 0).at(1), version, Timestamp(at))
            }
        })
}

proptest! {
    #[test]
    fn a_greater_rank_is_greater_bytes(a in entries(), b in entries()) {
        // As the contract says it: what is kept when the one is held and the other comes.
        let mut kept = a.clone();
        kept.join(&b);
        let greater = if rank(&b) > rank(&a) { &b } else { &a };
        prop_assert_eq!((kept.version, kept.at, &kept.failure), (greater.version, greater.at, &greater.failure));
    }

    #[test]
    fn greater_captured_bytes_are_greater_bytes(a in bytes_of_records(), b in bytes_of_records()) {
        prop_assert_eq!(captured(&a).cmp(&captured(&b)), a.cmp(&b));
        prop_assert!(!captured(&a).is_empty());
        prop_assert_eq!(read_captured(&captured(&a)), Some(a));
    }

    #[test]
    fn bytes_that_nobody_wrote_are_none_and_no_panic(id in any::<Vec<u8>>(), value in any::<Vec<u8>>()) {
        let row = Row { id: id.clone(), value: value.clone(), captured: Some(value.clone()), resolution: Some(value.clone()) };
        row.read();
        read_progress(&id, &value);
        read_failure(&id, &value);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What format 1 is. If this has to change, so does the format's number.
#[test]
fn the_stored_bytes_are_those_of_format_1() {
    let version = Version {
        era: 1,
        term: 2,
        attempt: AttemptId(uuid::Uuid::from_u128(3)),
        outcome: Outcome::Failed,
    };
    let mut entry = Entry::new(Partition::new("t", 1).at(7), version, Timestamp(9));
    let mut failure = Failure::new("c", "m");
    (failure.fingerprint, failure.passes) = (5, true);
    entry.failure = Some(failure);
    let version = "000000000000000100000000000000020000000000000000000000000000000302";
    assert_eq!(
        hex(&crate::codec::id(&entry.id)),
        "740000800000018000000000000007"
    );
    assert_eq!(
        hex(&rank(&entry)),
        version.to_owned()
            + "01"
            + "8000000000000009"
            + "630000"
            + "6d0000"
            + "0000000000000005"
            + "00000001"
            + "01"
            + "00"
            + "0000000000000000"
            + "00"
    );
    let resolution = Resolution {
        decision: Decision::Discarded,
        about: entry.version,
        actor: "a".into(),
        reason: "r".into(),
        at: Timestamp(0),
    };
    assert_eq!(
        hex(&super::resolution(Some(&resolution))),
        format!("05{version}6100007200008000000000000000")
    );
    let bytes = Captured {
        key: Some(Bytes::from_static(b"k\0")),
        value: None,
        headers: vec![Header {
            name: Bytes::from_static(b"h"),
            value: None,
        }],
    };
    assert_eq!(
        hex(&captured(&bytes)),
        "016b00ff00000001680000".to_owned() + "0000"
    );
    let mut row = Progress {
        partition: entry.id.partition,
        era: 1,
        term: 8,
        attempt: AttemptId(uuid::Uuid::from_u128(9)),
        floor: 2,
        received: 3,
        committed: 4,
        gaps: Gaps::default(),
        missed: Gaps::default(),
        failed: 5,
        succeeded: 6,
        at: Timestamp(7),
    };
    row.gaps.add(0..1);
    let numbers = [
        "0000000000000001",
        "8000000000000002",
        "8000000000000003",
        "8000000000000004",
        "0000000000000005",
    ];
    let others = ["0000000000000006", "8000000000000007"];
    let writer = ["0000000000000008", "00000000000000000000000000000009"];
    let gap = ["8000000000000000", "8000000000000001"];
    let head = numbers.concat() + &others.concat();
    let read = |row: &Progress, bytes: &[u8]| read_progress(&crate::codec::partition(&row.partition), bytes);
    let bytes = progress(&row);
    assert_eq!(hex(&bytes), head.clone() + &writer.concat() + &gap.concat());
    assert_eq!(read(&row, &bytes), Some(row.clone()));
    // As format 1 wrote it, without a writer.
    let old = [&bytes[..56], &bytes[80..]].concat();
    let nobody = Progress {
        term: 0,
        attempt: AttemptId::default(),
        ..row.clone()
    };
    assert_eq!(read(&row, &old), Some(nobody));
    row.missed.add(0..1);
    let bytes = progress(&row);
    let missed = ["ffffffffffffffffffffffffffffffff"].concat();
    assert_eq!(
        hex(&bytes),
        head + &writer.concat() + &gap.concat() + &missed + &gap.concat()
    );
    assert_eq!(read(&row, &bytes), Some(row));
}
