//! The tests of the test: each wrong variant of the loop breaks a law that names it, and the right one keeps it.
//!
//! Each draws its runs around what its mutant needs, so that a change of the loop which shifts every schedule does not
//! blind it.

use std::time::Duration;

use tokio::{task::spawn_local, time::sleep};
use tracker_api::{AttemptId, Entry, FailureTracker, Outcome, Partition, Timestamp, Version};

use crate::{
    config::{FailureMode, OnStoreFailure, Tracking},
    mutant::{self, Mutant},
};

use super::{
    case::Case,
    fate::Fate,
    faults::Step,
    kafka::source_topic,
    laws::Noted,
    schedule::{Run, fated, in_paused_time, run},
};

/// The first of the drawn runs in which `mutant` breaks a law is one that holds without it, and the law is one of `laws`.
fn caught(mutant: Mutant, laws: &[&str], tune: impl Fn(&mut Case)) {
    const MOST: u64 = 600;
    for seed in 0..MOST {
        let mut case = Case::of(seed);
        case.mode = FailureMode::SkipAndLog;
        case.tracking = vec![Tracking::Reliable];
        (case.skews, case.recreates) = ([0; 3], false);
        tune(&mut case);
        let broken = mutant::with(Some(mutant), || run(case.clone(), false)).violations;
        let Some(first) = broken.first() else { continue };
        println!("caught at the {}. run: {first}", seed + 1);
        let sound = run(case, true);
        assert!(
            sound.violations.is_empty(),
            "seed {seed} breaks a law without the mutant:\n{}\n{:#?}",
            sound.history.join("\n"),
            sound.violations
        );
        assert!(
            laws.iter().any(|law| first.starts_with(&format!("{law}:"))),
            "seed {seed} breaks another law first: {broken:#?}"
        );
        return;
    }
    panic!("{mutant:?} broke no law in {MOST} runs");
}

#[test]
fn a_failure_written_only_after_its_commit_is_caught() {
    caught(Mutant::SwapBeforeAndAfterFailure, &["before", "gap"], |case| {
        case.bad = true
    });
}

#[test]
fn an_answer_about_a_request_that_is_taken_for_one_about_its_first_record_is_caught() {
    caught(Mutant::BlameTheFirst, &["I1"], |case| {
        (case.bad, case.rate, case.batch) = (false, 0.0, 20);
    });
}

/// One partition with a record that the broker never takes between two good ones.
fn one_refused() -> super::schedule::Verdict {
    in_paused_time(async {
        let mut case = Case::of(0);
        (case.mode, case.tracking, case.slots) = (FailureMode::SkipAndLog, vec![Tracking::Reliable], 1);
        (case.rate, case.store_rate, case.batch, case.dead_letters) = (0.0, 0.0, 500, false);
        let partition = Partition::new(source_topic(), 0);
        let fates = [Fate::Outputs(1), Fate::Refused, Fate::Outputs(1)];
        let records = (0..).zip(fates).map(|(at, fate)| fated(&partition, at, fate, 0));
        let run = Run::new(case, Some([(partition.clone(), records.collect())].into()), true);
        let ticking = spawn_local(run.clone().tick());
        let (_, process) = run.start(0);
        run.heal().await;
        run.end(vec![process]).await;
        ticking.abort();
        run.judge(true).await
    })
}

#[test]
fn a_record_that_the_broker_never_takes_fails_alone() {
    let verdict = one_refused();
    assert_eq!(
        (verdict.violations, verdict.passed),
        (Vec::new(), (3, 1)),
        "{}",
        verdict.history.join("\n")
    );
    let broken = mutant::with(Some(Mutant::BlameTheFirst), one_refused);
    assert!(
        broken.violations.iter().any(|law| law.starts_with("I1:")),
        "{}",
        broken.history.join("\n")
    );
}

#[test]
fn a_refused_record_that_is_tried_again_at_once_is_caught() {
    caught(Mutant::RefusedWithoutBlock, &["stands", "I11"], |case| {
        (case.mode, case.bad, case.rate) = (FailureMode::Atomic, true, 0.0);
    });
}

#[test]
fn what_was_late_and_is_sent_again_as_it_was_is_caught() {
    caught(Mutant::LateWithoutShrinking, &["I11"], |case| {
        (case.cost, case.batch, case.slots) = (Duration::from_secs(1), 500, 1);
        // What waits then, waits for its own transaction.
        case.hangs = false;
    });
}

#[test]
fn a_success_written_before_its_commit_is_caught() {
    caught(Mutant::SwapAfterSuccess, &["I7"], |case| {
        case.tracking = vec![Tracking::Outbox]
    });
}

#[test]
fn committing_the_last_offset_instead_of_the_next_is_caught() {
    caught(Mutant::WrongOffset, &["I2/I3", "I7"], |_| ());
}

#[test]
fn confirming_a_failure_of_an_aborted_attempt_is_caught() {
    caught(Mutant::ConfirmAborted, &["I7"], |case| {
        case.bad = true;
        case.rate = 0.03;
        case.bias = Some(Step::Delivered);
    });
}

#[test]
fn confirming_a_failure_that_was_only_stopped_before_is_caught() {
    caught(Mutant::ConfirmStopped, &["I7"], |case| {
        case.bad = true;
        case.rate = 0.03;
        case.store_rate = 0.2;
        case.bias = Some(Step::Committed);
    });
}

#[test]
fn a_void_at_assignment_with_a_fresh_id_is_caught() {
    caught(Mutant::VoidWithFreshId, &["I7", "unconfirmed", "gap"], |case| {
        case.bad = true;
        case.rate = 0.02;
        case.store_rate = 0.3;
    });
}

#[test]
fn a_replaced_static_twin_that_wakes_is_caught_when_terms_do_not_rise() {
    caught(
        Mutant::TwinWithoutTerm,
        &["I7", "before", "unconfirmed"],
        |case| {
            case.bad = true;
            case.is_static = true;
            case.rate = 0.03;
            case.bias = Some(Step::Polled);
            case.only = Some(2);
        },
    );
}

#[test]
fn a_new_owner_that_forgets_the_notes_unconfirmed_attempts_is_caught() {
    caught(Mutant::ForgetUnconfirmed, &["unconfirmed"], |case| {
        case.bad = true;
        case.rate = 0.03;
        case.store_rate = 0.2;
    });
}

#[test]
fn a_reconcile_that_sleeps_across_a_reset_is_caught() {
    caught(Mutant::ReconcileSleepsAcrossReset, &["I7"], |case| {
        case.bad = true;
        case.resets = true;
        case.store_rate = 0.2;
        case.only = Some(8);
    });
}

#[test]
fn an_unknown_outcome_settled_by_a_partition_that_was_not_advanced_is_caught() {
    caught(
        Mutant::SettleByUnadvanced,
        &["I2/I3", "unconfirmed", "I7", "I6"],
        |case| {
            case.partitions = 4;
            case.slots = 1;
            case.rate = 0.03;
            case.bias = Some(Step::Commit);
        },
    );
}

#[test]
fn a_failure_that_only_the_fallback_holds_is_caught_without_its_gap() {
    caught(Mutant::FallbackWithoutGap, &["gap"], |case| {
        case.bad = true;
        case.fallback = true;
        case.on_store_failure = OnStoreFailure::Degrade;
        case.storms = true;
        case.only = Some(4);
    });
}

#[test]
fn a_fallback_that_forgets_before_the_store_has_it_is_caught() {
    caught(Mutant::ForgetBeforeDrained, &["trace", "before"], |case| {
        case.bad = true;
        case.fallback = true;
        case.on_store_failure = OnStoreFailure::Degrade;
        case.storms = true;
    });
}

#[test]
fn an_old_eras_failure_that_hides_a_new_success_is_caught() {
    caught(Mutant::OldEraHides, &["era hides"], |case| {
        case.bad = true;
        case.resets = true;
        case.only = Some(8);
    });
}

#[test]
fn a_record_that_is_skipped_without_a_success_is_caught() {
    caught(
        Mutant::SkipWithoutSuccess,
        &["I1", "before", "gap", "outbox"],
        |case| {
            case.tracking = vec![Tracking::Outbox];
            case.skip_succeeded = true;
            case.resets = true;
            case.only = Some(8);
        },
    );
}

#[test]
fn a_skipped_success_that_its_owner_could_not_tell_is_caught_when_nobody_else_does() {
    caught(Mutant::SkippedUntold, &["I8"], |case| {
        (case.tracking, case.skip_succeeded) = (vec![Tracking::Outbox], true);
        (case.resets, case.only) = (true, Some(8));
        (case.rate, case.bias, case.slots) = (0.03, Some(Step::Committed), 1);
        case.span = Duration::from_secs(40);
    });
}

#[test]
fn what_a_reset_has_jumped_over_and_stays_failing_is_caught() {
    caught(Mutant::ResetLeavesFailing, &["reset"], |case| {
        case.mode = FailureMode::Atomic;
        case.bad = true;
        case.resets = true;
        case.only = Some(8);
    });
}

#[test]
fn an_era_below_the_one_that_the_store_knows_is_caught() {
    caught(Mutant::LowEraStays, &["I11"], |case| {
        case.bad = true;
        case.resets = true;
        case.slots = 3;
        case.skews = [3_600_000, 0, -3_600_000];
        case.store_rate = 0.3;
        case.only = Some(8);
    });
}

/// Kafka forgets offsets that the store knows.
fn forgets(case: &mut Case) {
    (case.resets, case.forgets, case.only) = (false, true, Some(8));
    case.span = Duration::from_secs(40);
}

#[test]
fn a_group_that_is_new_whatever_the_store_knows_is_caught() {
    caught(
        Mutant::VacuousFirstStart,
        &["I5", "I1", "I2", "I7", "I1/I2"],
        forgets,
    );
}

#[test]
fn a_store_without_an_answer_that_has_never_seen_a_partition_is_caught() {
    caught(
        Mutant::NoAnswerIsNeverSeen,
        &["I5", "I1", "I2", "I7", "I1/I2"],
        |case| {
            forgets(case);
            case.store_rate = 0.3;
        },
    );
}

#[test]
fn a_topic_that_is_taken_for_the_one_that_had_its_name_is_caught() {
    let laws = ["start", "era", "term", "I6", "I1", "I11"];
    caught(Mutant::TopicIdIgnored, &laws, |case| {
        (case.recreates, case.resets, case.forgets) = (true, false, false);
        case.only = Some(13);
    });
}

#[test]
fn a_row_whose_gaps_only_grow_is_caught() {
    caught(Mutant::GapsOnlyGrow, &["closed gap"], |case| {
        case.bad = true;
        case.on_store_failure = OnStoreFailure::Degrade;
        case.dead_letters = true;
        case.storms = true;
        case.only = Some(4);
    });
}

#[test]
fn one_pending_offset_that_keeps_all_partitions_waiting_is_caught() {
    caught(Mutant::PendingBlocksAll, &["pending", "reason"], |case| {
        case.partitions = 4;
        case.hangs = true;
        case.rate = 0.01;
        case.only = Some(12);
    });
}

#[test]
fn a_position_committed_over_work_in_memory_is_caught() {
    caught(Mutant::PositionOverWork, &["I1", "I2/I3"], |case| {
        case.bad = true;
        case.rate = 0.0;
        case.span = Duration::from_secs(40);
    });
}

#[test]
fn a_send_error_that_is_ignored_is_caught() {
    caught(Mutant::SendErrorIgnored, &["I2/I4", "I1"], |case| {
        (case.rate, case.bias) = (0.02, Some(Step::Produce));
    });
}

#[test]
fn offsets_that_are_sent_without_the_groups_metadata_are_caught() {
    let laws = [
        "I2",
        "I6",
        "term",
        "attempt ids grow",
        "I2/I3",
        "I7",
        "unconfirmed",
    ];
    caught(Mutant::OffsetsWithoutGroup, &laws, |case| {
        (case.slots, case.rate, case.bias) = (3, 0.03, Some(Step::Delivered));
        case.only = Some(3);
    });
}

#[test]
fn a_source_that_is_read_before_it_is_committed_is_caught() {
    caught(Mutant::UncommittedSource, &["I2/I3"], |case| case.rate = 0.0);
}

#[test]
fn a_failure_that_is_passed_although_its_write_failed_is_caught() {
    caught(Mutant::FailureWriteSwallowed, &["before", "gap"], |case| {
        case.bad = true;
        case.store_rate = 0.2;
    });
}

#[test]
fn what_is_settled_by_its_age_is_caught() {
    caught(Mutant::SweepByAge, &["I7"], |case| {
        (case.mode, case.bad) = (FailureMode::Atomic, true);
    });
}

#[test]
fn a_reconcile_that_settles_the_record_at_the_committed_offset_is_caught() {
    caught(Mutant::ReconcileAtCommitted, &["I7"], |case| {
        (case.mode, case.bad) = (FailureMode::Atomic, true);
    });
}

#[test]
fn what_a_replaced_owner_left_failing_is_caught_when_nobody_voids_it() {
    caught(Mutant::NoVoidAtAssignment, &["void"], |case| {
        (case.mode, case.bad, case.rate) = (FailureMode::Atomic, true, 0.03);
    });
}

#[test]
fn a_record_that_the_client_hands_out_twice_is_caught_when_it_is_taken_twice() {
    caught(
        Mutant::NoReceivedFilter,
        &["I6", "I2", "I2/I3", "I2/I4"],
        |case| {
            case.batch = 5;
        },
    );
}

#[test]
fn a_failure_that_is_passed_although_a_later_version_stands_is_caught() {
    caught(Mutant::SupersededIgnored, &["before", "gap"], |case| {
        (case.bad, case.resets, case.slots) = (true, true, 3);
        case.skews = [3_600_000, 0, -3_600_000];
        (case.store_rate, case.only) = (0.3, Some(8));
    });
}

/// One partition; a process that owns it, and a store in which a newer term than its own has written about record 1.
fn superseded() -> Vec<String> {
    in_paused_time(async {
        let mut case = Case::of(0);
        (case.mode, case.tracking, case.slots) = (FailureMode::SkipAndLog, vec![Tracking::Reliable], 1);
        (case.rate, case.store_rate, case.batch, case.dead_letters) = (0.0, 0.0, 500, false);
        let partition = Partition::new(source_topic(), 0);
        let first = fated(&partition, 0, Fate::Outputs(1), 0);
        let run = Run::new(case, Some([(partition.clone(), vec![first])].into()), false);
        let append = |offset, fate| run.sim.world().kafka.append(fated(&partition, offset, fate, 0));
        let ticking = spawn_local(run.clone().tick());
        let (_, process) = run.start(0);
        sleep(Duration::from_secs(2)).await;
        let (next, note) = run.sim.world().kafka.committed[&partition].clone();
        let noted = Noted::read(&note.unwrap_or_default()).expect("a note");
        assert_eq!(next, 1, "the first record is passed");
        let attempt = AttemptId::default();
        let version = Version {
            era: noted.era,
            term: noted.term + 1,
            attempt,
            outcome: Outcome::Failing,
        };
        let entry = Entry::new(partition.at(1), version, Timestamp(0));
        run.sim
            .store
            .record(&[entry], &[])
            .await
            .expect("the memory tracker takes it");
        append(1, Fate::Rejected);
        append(2, Fate::Outputs(1));
        sleep(Duration::from_secs(3)).await;
        append(3, Fate::Outputs(1));
        run.heal().await;
        run.end(vec![process]).await;
        ticking.abort();
        run.judge(false).await.violations
    })
}

#[test]
fn a_dropped_batch_whose_partition_is_not_rewound_is_caught() {
    let broken = mutant::with(Some(Mutant::NoRewindOnDrop), superseded);
    assert!(broken.iter().any(|law| law.starts_with("I1:")), "{broken:#?}");
    assert_eq!(superseded(), Vec::<String>::new(), "without the mutant");
}

#[test]
fn a_late_request_of_a_producer_that_is_not_recycled_is_caught() {
    for seed in 0..300 {
        let mut case = Case::of(seed);
        (case.rate, case.bias, case.recycles) = (0.03, Some(Step::Commit), false);
        let broken = run(case.clone(), false).violations;
        let expected = |law: &String| {
            ["I1:", "I2", "I3", "I6:"]
                .iter()
                .any(|name| law.starts_with(name))
        };
        if broken.iter().any(expected) {
            case.recycles = true;
            assert_eq!(run(case, false).violations, Vec::<String>::new(), "with the rule");
            return;
        }
    }
    panic!("the recycle rule was never needed");
}
