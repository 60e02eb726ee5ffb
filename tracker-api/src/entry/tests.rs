use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::resolution::Claim;

fn version(era: u64, term: u64, attempt: u128, outcome: Outcome) -> Version {
    let attempt = AttemptId(Uuid::from_u128(attempt));
    Version {
        era,
        term,
        attempt,
        outcome,
    }
}

/// Any entry for one record; two of one version may well differ.
fn entries() -> impl Strategy<Value = Entry> {
    let outcomes = vec![
        Outcome::Received,
        Outcome::Failing,
        Outcome::Failed,
        Outcome::Succeeded,
    ];
    let versions = (1..3_u64, 1..3_u64, 1..3_u128, select(outcomes));
    let failures = option::of((select(vec!["a", "b"]), 1..3_u32));
    (
        versions,
        0..3_i64,
        failures,
        option::of(0..3_i64),
        option::of(0..3_u8),
    )
        .prop_map(|(v, at, failure, first, bytes)| {
            let mut entry = Entry::new(
                Partition::new("t", 0).at(0),
                version(v.0, v.1, v.2, v.3),
                Timestamp(at),
            );
            entry.failure = failure.map(|(class, tries)| Failure {
                tries,
                ..Failure::new(class, "")
            });
            entry.first_failed_at = first.map(Timestamp);
            entry.captured = bytes.map(|byte| Captured {
                key: Some(vec![byte].into()),
                ..Captured::default()
            });
            entry
        })
}

fn joined(a: &Entry, b: &Entry) -> Entry {
    let mut joined = a.clone();
    joined.join(b);
    joined
}

proptest! {
    #[test]
    fn joining_is_commutative(a in entries(), b in entries()) {
        prop_assert_eq!(joined(&a, &b), joined(&b, &a));
    }

    #[test]
    fn joining_is_associative(a in entries(), b in entries(), c in entries()) {
        prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
    }

    #[test]
    fn joining_twice_is_joining_once(a in entries(), b in entries()) {
        let once = joined(&a, &b);
        prop_assert_eq!(joined(&once, &b), once);
        prop_assert_eq!(joined(&a, &a), a);
    }

    #[test]
    fn an_entry_stands_when_its_version_is_held_afterwards(a in entries(), b in entries()) {
        let mut held = a.clone();
        let stands = held.join(&b);
        prop_assert_eq!(stands, held.version == b.version);
        prop_assert_eq!(held.version, a.version.max(b.version));
    }

    #[test]
    fn coalescing_is_joining_in_any_order(slice in vec(entries(), 1..6)) {
        let mut reversed = slice.clone();
        reversed.reverse();
        prop_assert_eq!(coalesce(&slice), coalesce(&reversed));
        prop_assert_eq!(coalesce(&coalesce(&slice)), coalesce(&slice));
    }

    #[test]
    fn a_record_id_reads_back_from_its_text(topic in "[a-z:._-]{1,9}", number in 0..=i32::MAX, offset in 0..=i64::MAX) {
        let id = Partition::new(topic, number).at(offset);
        prop_assert_eq!(id.to_string().parse::<RecordId>(), Ok(id));
    }

    #[test]
    fn any_text_is_a_record_id_or_a_message(text in ".{0,20}") {
        if let Err(message) = text.parse::<RecordId>() {
            prop_assert!(message.contains("expected topic:partition:offset"));
        }
    }

    #[test]
    fn a_failure_holds_text_that_every_store_can_hold(class in ".{0,200}", message in "(.|\0){0,100}", times in 1..200_usize) {
        let failure = Failure::new(&class, &message.repeat(times));
        prop_assert!(failure.class.len() <= 128 && failure.message.len() <= 8 * 1024);
        prop_assert!(!failure.class.contains('\0') && !failure.message.contains('\0'));
    }
}

#[test]
fn the_resolution_half_takes_no_part_in_a_join() {
    let mut held = Entry::new(
        Partition::new("t", 0).at(0),
        version(1, 1, 1, Outcome::Failed),
        Timestamp(0),
    );
    let mut new = Entry::new(
        Partition::new("t", 0).at(0),
        version(1, 1, 2, Outcome::Failed),
        Timestamp(0),
    );
    (held.revision, new.revision) = (3, 9);
    held.join(&new);
    assert_eq!(held.revision, 3);
}

#[test]
fn what_is_not_a_record_id_says_so() {
    for text in [
        "", "a", "a:1", ":1:2", "a:1:", "a::1", "a:-1:2", "a:1:-2", "a:+1:2", "a:1:+2", "a:1:2 ", "a:x:2",
    ] {
        assert!(text.parse::<RecordId>().is_err(), "{text:?}");
    }
    for text in ["a:2147483648:0", "a:0:9223372036854775808"] {
        assert!(text.parse::<RecordId>().is_err(), "{text:?} is beyond the bounds");
    }
    assert_eq!("a:b:1:2".parse(), Ok(Partition::new("a:b", 1).at(2)));
}

#[test]
fn nul_is_replaced_and_text_is_cut_at_a_character() {
    assert_eq!(Failure::new("a\0b", "\0").class, "a\u{FFFD}b");
    assert_eq!(Failure::new("a", "\0").message, "\u{FFFD}");
    let exact = "x".repeat(128);
    assert_eq!(Failure::new(&exact, "").class, exact);
    // 127 bytes and a character of two: the bound lies inside it.
    let over = format!("{}\u{e9}", "x".repeat(127));
    assert_eq!(Failure::new(&over, "").class, "x".repeat(127));
    let message = "\u{1F4A5}".repeat(3_000);
    assert_eq!(Failure::new("a", &message).message.len(), 8 * 1024);
    assert_eq!(
        Failure::new("a", &format!("x{message}")).message.len(),
        8 * 1024 - 3
    );
}

#[test]
fn a_fingerprint_ignores_numbers_and_ids_alone() {
    let print = |class, message| Failure::new(class, message).fingerprint;
    let one = print(
        "invalid",
        "order 17: line 3 of 550e8400-e29b-41d4-a716-446655440000 has no sku",
    );
    assert_eq!(
        one,
        print(
            "invalid",
            "order 99123: line 1 of 123e4567-e89b-12d3-a456-426614174000 has no sku"
        )
    );
    assert_ne!(
        one,
        print(
            "malformed",
            "order 17: line 3 of 550e8400-e29b-41d4-a716-446655440000 has no sku"
        )
    );
    assert_ne!(
        one,
        print(
            "invalid",
            "order 17: line 3 of 550e8400-e29b-41d4-a716-446655440000 has no price"
        )
    );
    assert_ne!(print("a", "b c"), print("a", "bc"));
    assert_ne!(print("ab", ""), print("a", "b"));
    // It is stored, so it must be the same in every version.
    assert_eq!(
        print("malformed", "not JSON at byte 7"),
        18_433_088_746_495_668_669
    );
}

fn failing(passes: bool) -> Entry {
    let mut entry = Entry::new(
        Partition::new("t", 0).at(7),
        version(2, 1, 1, Outcome::Failing),
        Timestamp(0),
    );
    entry.failure = Some(Failure {
        passes,
        ..Failure::new("a", "")
    });
    entry
}

fn failed(decision: Option<Decision>) -> Entry {
    let mut entry = failing(true);
    entry.version.outcome = Outcome::Failed;
    entry.resolution = decision.map(|decision| Resolution {
        decision,
        about: entry.version,
        actor: String::new(),
        reason: String::new(),
        at: Timestamp(0),
    });
    entry
}

fn replaying() -> Decision {
    Decision::Replaying(Claim {
        replay: Uuid::nil(),
        transactional_id: String::new(),
        lease_until: Timestamp(0),
    })
}

#[test]
fn status_is_the_outcome_or_the_resolution_of_the_failure() {
    let of = |outcome| Entry {
        version: version(2, 1, 1, outcome),
        ..failed(Some(Decision::Discarded))
    };
    let expected = [
        (of(Outcome::Received), Status::Received),
        (of(Outcome::Succeeded), Status::Succeeded),
        (failing(true), Status::Failing),
        (failing(false), Status::Blocking),
        (failed(None), Status::Open),
        (failed(Some(Decision::Retry)), Status::Open),
        (failed(Some(Decision::Skip)), Status::Skipped),
        (failed(Some(replaying())), Status::Replaying),
        (failed(Some(Decision::Replayed)), Status::Replayed),
        (failed(Some(Decision::Discarded)), Status::Discarded),
    ];
    for (entry, status) in expected {
        assert_eq!(Status::of(&entry), status, "{entry:?}");
    }
}

#[test]
fn a_decision_on_a_failed_record_is_about_that_failure() {
    let mut entry = failed(Some(Decision::Discarded));
    assert_eq!(entry.decision(), Some(&Decision::Discarded));
    entry.version.attempt = AttemptId(Uuid::from_u128(2));
    assert_eq!(entry.decision(), None);
}

#[test]
fn purging_spares_what_is_unfinished_or_replayed_or_open() {
    let progress = |era, floor| Progress {
        partition: Partition::new("t", 0),
        era,
        term: 1,
        attempt: AttemptId::default(),
        floor,
        received: 0,
        committed: 0,
        gaps: crate::Gaps::default(),
        missed: crate::Gaps::default(),
        failed: 0,
        succeeded: 0,
        at: Timestamp(0),
    };
    let (now, older, older_above) = (progress(2, 0), progress(3, 7), progress(3, 8));
    let (resolved, superseded) = (Some(Purgeable::Resolved), Some(Purgeable::Superseded));
    for (entry, now_goes, below_goes, above_goes) in [
        (failing(true), None, superseded, superseded),
        (failing(false), None, superseded, superseded),
        (failed(None), None, superseded, None),
        (failed(Some(replaying())), None, None, None),
        (failed(Some(Decision::Replayed)), resolved, resolved, resolved),
    ] {
        let goes = |progress: Option<&Progress>| entry.purgeable(progress);
        assert_eq!(goes(None), now_goes, "without progress {entry:?}");
        assert_eq!(goes(Some(&now)), now_goes, "{entry:?}");
        assert_eq!(goes(Some(&older)), below_goes, "at the floor {entry:?}");
        assert_eq!(goes(Some(&older_above)), above_goes, "below the floor {entry:?}");
    }
}
