use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Add(Range<i64>),
    Remove(Range<i64>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let range = (0..30_i64, 0..30_i64).prop_map(|(from, to)| from..to);
    let add = range.clone().prop_map(Step::Add);
    vec(prop_oneof![3 => add, 1 => range.prop_map(Step::Remove)], 0..20)
}

fn done(steps: &[Step]) -> (Gaps, BTreeSet<i64>) {
    let (mut gaps, mut naive) = (Gaps::default(), BTreeSet::new());
    for step in steps {
        match step {
            Step::Add(range) => {
                gaps.add(range.clone());
                naive.extend(range.clone());
            }
            Step::Remove(range) => {
                gaps.remove(range);
                naive.retain(|offset| !range.contains(offset));
            }
        }
    }
    (gaps, naive)
}

proptest! {
    #[test]
    fn gaps_are_a_set_of_offsets(steps in steps()) {
        let (gaps, naive) = done(&steps);
        for offset in -1..31 {
            prop_assert_eq!(gaps.contains(offset), naive.contains(&offset), "offset {}", offset);
        }
        prop_assert_eq!(gaps.is_empty(), naive.is_empty());
        let ranges: Vec<_> = gaps.iter().cloned().collect();
        prop_assert!(ranges.iter().all(|range| range.start < range.end), "none is empty: {:?}", ranges);
        prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start), "apart, in order: {:?}", ranges);
    }

    #[test]
    fn a_bounded_gap_says_too_much_and_never_too_little(steps in steps(), bound in 0..5_usize) {
        let (mut gaps, naive) = done(&steps);
        gaps.bound(bound);
        prop_assert!(gaps.iter().count() <= bound.max(1));
        prop_assert!(naive.iter().all(|offset| gaps.contains(*offset)));
        if let (Some(first), Some(last)) = (gaps.iter().next(), gaps.iter().last()) {
            prop_assert!(naive.first() == Some(&first.start) && naive.last() == Some(&(last.end - 1)));
        }
    }

    #[test]
    fn gaps_that_are_read_back_are_put_in_order(ranges in vec((0..30_i64, 0..30_i64).prop_map(|(a, b)| a..b), 0..9)) {
        let text = serde_json::to_string(&ranges).unwrap();
        let gaps: Gaps = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&gaps, &ranges.into_iter().collect::<Gaps>());
        let again: Gaps = serde_json::from_str(&serde_json::to_string(&gaps).unwrap()).unwrap();
        prop_assert_eq!(again, gaps);
    }

    #[test]
    fn joining_progress_is_commutative_associative_and_idempotent(a in rows(), b in rows(), c in rows()) {
        let joined = |a: &Progress, b: &Progress| {
            let mut joined = a.clone();
            joined.join(b);
            joined
        };
        prop_assert_eq!(joined(&a, &b), joined(&b, &a));
        prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
        prop_assert_eq!(joined(&a, &a), a);
    }
}

fn rows() -> impl Strategy<Value = Progress> {
    (
        0..3_u64,
        (0..3_u64, 0..3_u128),
        (0..9_i64, 0..9_i64, 0..9_i64),
        steps(),
        steps(),
        0..9_u64,
        0..9_i64,
    )
        .prop_map(
            |(era, (term, attempt), (floor, received, committed), gaps, missed, count, at)| Progress {
                partition: Partition::new("t", 0),
                era,
                term,
                attempt: AttemptId(uuid::Uuid::from_u128(attempt)),
                floor,
                received,
                committed,
                gaps: done(&gaps).0,
                missed: done(&missed).0,
                failed: count,
                succeeded: 9 - count,
                at: Timestamp(at),
            },
        )
}

#[test]
fn gaps_at_the_bounds_of_a_number_do_not_overflow() {
    let mut gaps: Gaps = [i64::MIN..-5, 5..i64::MAX, 0..1].into_iter().collect();
    gaps.bound(1);
    assert_eq!(gaps.iter().collect::<Vec<_>>(), [&(i64::MIN..i64::MAX)]);
    gaps.remove(&(i64::MIN..i64::MAX));
    assert!(gaps.is_empty());
}

#[test]
fn a_row_from_before_rows_named_their_writer_is_of_the_least_one() {
    let old = r#"{"partition":{"topic":"t","number":0},"era":1,"floor":0,"received":9,"committed":9,"gaps":[{"start":3,"end":5}],"failed":0,"succeeded":7,"at":1}"#;
    let old: Progress = serde_json::from_str(old).unwrap();
    assert_eq!(old.writer(), (0, AttemptId::default()));
    let mut row = old.clone();
    row.join(&Progress {
        term: 1,
        gaps: Gaps::default(),
        ..old
    });
    assert!(row.gaps.is_empty(), "whoever names himself is later: {row:?}");
}
