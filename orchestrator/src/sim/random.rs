//! Random schedules.

use std::collections::BTreeMap;

use super::case::Case;
use super::schedule::{Verdict, run};
use crate::config::Tracking;

/// A run of many seeds without these proves little.
const MUST_STRIKE: &[&str] = &[
    "AnswerLost at Commit",
    "AnswerLost at Init",
    "AnswerLost at Store",
    "Copy at Abort",
    "Copy at Commit",
    "Copy at Offsets",
    "Crash at Begin",
    "Crash at Commit",
    "Crash at Committed",
    "Crash at Delivered",
    "Crash at Group",
    "Crash at Init",
    "Crash at Offsets",
    "Crash at Poll",
    "Crash at Produce",
    "Crash at Store",
    "Evict at Commit",
    "Fail at Begin",
    "Fail at Commit",
    "Fail at Delivered",
    "Fail at Offsets",
    "Fail at Produce",
    "Fail at Read",
    "Fail at Settle",
    "Fail at Store",
    "Freeze at Commit",
    "Freeze at Polled",
    "Freeze at Store",
    "Late at Commit",
    "Late at Store",
    "Refuse at Produce",
    "RequestLost at Commit",
    "Slow at Store",
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a seed; a broken law ends the test with the seed, the case and the history.
fn hold(seed: u64) -> Verdict {
    let verdict = run(Case::of(seed), false);
    if verdict.violations.is_empty() {
        return verdict;
    }
    let again = run(Case::of(seed), true);
    let same = if again.violations == verdict.violations {
        ""
    } else {
        " (the repetition went another way)"
    };
    panic!(
        "SIM_SEED={seed} breaks{same}:\n{}\n\n{:#?}\n\n{}\n{}",
        verdict.violations.join("\n"),
        Case::of(seed),
        again.history.join("\n"),
        again.violations.join("\n"),
    );
}

#[test]
fn every_law_holds_under_every_schedule() {
    if let Some(seed) = number("SIM_SEED") {
        let verdict = run(Case::of(seed), true);
        println!(
            "{:#?}\n{}\n{:#?}",
            Case::of(seed),
            verdict.history.join("\n"),
            verdict.violations
        );
        assert!(
            verdict.violations.is_empty(),
            "SIM_SEED={seed}: {:#?}",
            verdict.violations
        );
        return;
    }
    let seeds = number("SEEDS").unwrap_or(2_000);
    let threads = 2;
    let verdicts: Vec<Vec<Verdict>> = std::thread::scope(|scope| {
        let share = |first| scope.spawn(move || (first..seeds).step_by(threads).map(hold).collect());
        let shares: Vec<_> = (0..threads as u64).map(share).collect();
        let joined = shares.into_iter().map(|share| share.join());
        joined
            .map(|verdicts| verdicts.unwrap_or_else(|broken| std::panic::resume_unwind(broken)))
            .collect()
    });
    let mut struck: BTreeMap<String, u32> = BTreeMap::new();
    let (mut passed, mut failed, mut rounds) = (0, 0, 0);
    for verdict in verdicts.into_iter().flatten() {
        passed += verdict.passed.0;
        failed += verdict.passed.1;
        rounds += verdict.rounds;
        for (name, times) in verdict.struck {
            *struck.entry(name).or_default() += times;
        }
    }
    for fault in MUST_STRIKE {
        assert!(
            seeds < 1_000 || struck.contains_key(*fault),
            "{fault} was not exercised: {struck:#?}"
        );
    }
    println!(
        "{seeds} schedules, {passed} records passed, {failed} of them as failures, {rounds} rebalances, faults: {struck:#?}"
    );
}

/// Only what an operator does befalls these: what the store knows when a record is read again is what decides.
#[test]
fn what_has_succeeded_is_not_produced_again_however_often_offsets_are_reset() {
    let mut skipped = 0;
    for seed in 0..100 {
        let mut case = Case::of(seed);
        (case.rate, case.store_rate, case.storms) = (0.0, 0.0, false);
        (case.tracking, case.skip_succeeded) = (vec![Tracking::Outbox], true);
        (case.resets, case.only, case.skews) = (true, Some(8), [0; 3]);
        case.recreates = false;
        let verdict = run(case, false);
        assert_eq!(verdict.violations, Vec::<String>::new(), "seed {seed}");
        skipped += verdict.skipped;
    }
    assert!(skipped > 1_000, "only {skipped} records were met again");
}

#[test]
fn a_seed_repeats_its_history_to_the_line() {
    for seed in [3, 17, 77] {
        let (first, second) = (run(Case::of(seed), true), run(Case::of(seed), true));
        for (a, b) in first.history.iter().zip(&second.history) {
            assert_eq!(a, b, "SIM_SEED={seed}");
        }
        assert_eq!(first.history.len(), second.history.len(), "SIM_SEED={seed}");
    }
}
