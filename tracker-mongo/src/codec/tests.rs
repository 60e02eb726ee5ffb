use mongodb::bson::Document;
use proptest::prelude::*;

use super::*;

fn whole() -> Entry {
    let version = Version {
        era: 1,
        term: u64::MAX,
        attempt: AttemptId(Uuid::from_u128(5)),
        outcome: Outcome::Failed,
    };
    let mut entry = Entry::new(Partition::new("orders", 3).at(42), version, Timestamp(7));
    let mut failed = Failure::new("malformed", "the price");
    failed.fingerprint = 1 << 63;
    entry.failure = Some(failed);
    entry.first_failed_at = Some(Timestamp(6));
    entry.captured = Some(Captured {
        key: Some(Bytes::from_static(b"\0\xff")),
        value: None,
        headers: vec![Header {
            name: Bytes::from_static(b"h"),
            value: None,
        }],
    });
    entry.resolution = Some(Resolution {
        decision: Decision::Replaying(Claim {
            replay: Uuid::from_u128(9),
            transactional_id: "orders-replay".into(),
            lease_until: Timestamp(8),
        }),
        about: version,
        actor: "ada".into(),
        reason: "why".into(),
        at: Timestamp(9),
    });
    entry.revision = 1;
    entry
}

/// What is stored is what other versions read: a change of it needs another format.
#[test]
fn the_shape_of_a_document_is_this() {
    let held = Document::try_from(&*entry(&whole())).unwrap();
    let most: Decimal128 = "18446744073709551615".parse().unwrap();
    let half: Decimal128 = "9223372036854775808".parse().unwrap();
    let version = doc! { "e": 1_i64, "t": most, "a": uuid(Uuid::from_u128(5)), "o": 2 };
    let expected = doc! {
        "v": version.clone(),
        "at": 7_i64,
        "f": { "c": "malformed", "m": "the price", "p": half, "n": 1_i64, "s": false, "x": null, "b": false },
        "ff": 6_i64,
        "c": { "k": binary(b"\0\xff"), "v": null, "h": [{ "n": binary(b"h"), "v": null }] },
        "s": 4,
        "r": {
            "k": "replaying",
            "a": version,
            "by": "ada",
            "why": "why",
            "at": 9_i64,
            "c": { "r": uuid(Uuid::from_u128(9)), "t": "orders-replay", "u": 8_i64 },
        },
        "n": 1_i64,
    };
    assert_eq!(held, expected);
    let id = Document::try_from(&*id(7, &whole().id)).unwrap();
    assert_eq!(id, doc! { "n": 7, "t": "orders", "p": 3, "o": 42_i64 });
}

#[test]
fn statuses_have_numbers_of_their_own_and_name_their_outcome() {
    let mut numbers: Vec<i32> = ALL.into_iter().map(status_number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..9).collect::<Vec<_>>());
    let entry = whole();
    assert_eq!(outcome_of(Status::of(&entry)), entry.version.outcome);
}

proptest! {
    #[test]
    fn every_number_comes_back(value in prop_oneof![any::<u64>(), Just(u64::MAX), Just(1 << 63), Just((1 << 63) - 1)]) {
        let mut document = RawDocumentBuf::new();
        document.append(cstr!("n"), raw_number(value));
        prop_assert_eq!(Row::new(&document, "a document").unsigned("n").unwrap(), value);
    }
}

#[test]
fn an_entry_comes_back() {
    let mut document = rawdoc! { "_id": id(7, &whole().id) };
    for item in entry(&whole()).iter() {
        let (field, value) = item.unwrap();
        document.append(field, value);
    }
    assert_eq!(read_entry(&document).unwrap(), whole());
}
