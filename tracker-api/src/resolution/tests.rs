use uuid::Uuid;

use super::*;
use crate::entry::{AttemptId, Partition};

fn version(era: u64, attempt: u128, outcome: Outcome) -> Version {
    let attempt = AttemptId(Uuid::from_u128(attempt));
    Version {
        era,
        term: 1,
        attempt,
        outcome,
    }
}

fn change(decision: Decision, about: Version) -> Change {
    let (actor, reason) = (String::new(), String::new());
    let at = Timestamp(0);
    let to = Some(Resolution {
        decision,
        about,
        actor,
        reason,
        at,
    });
    let id = Partition::new("t", 0).at(0);
    Change { id, revision: 4, to }
}

#[test]
fn a_change_takes_on_its_revision_only() {
    let held = version(1, 1, Outcome::Failed);
    let change = change(Decision::Discarded, held);
    assert!(change.takes(4, &held, false));
    assert!(!change.takes(3, &held, false) && !change.takes(5, &held, false));
    let reopen = Change { to: None, ..change };
    assert!(reopen.takes(4, &held, false) && !reopen.takes(5, &held, false));
}

#[test]
fn a_change_on_a_failed_record_takes_on_that_failure_only() {
    let held = version(1, 2, Outcome::Failed);
    for decision in [Decision::Replayed, Decision::Discarded] {
        assert!(change(decision.clone(), held).takes(4, &held, false));
        for other in [
            version(1, 1, Outcome::Failed),
            version(2, 2, Outcome::Failed),
            version(1, 2, Outcome::Failing),
        ] {
            assert!(
                !change(decision.clone(), other).takes(4, &held, false),
                "about {other:?}"
            );
        }
        let done = version(1, 2, Outcome::Succeeded);
        assert!(
            !change(decision, done).takes(4, &done, false),
            "nothing has failed"
        );
    }
}

#[test]
fn a_change_on_a_blocking_record_takes_in_its_era_while_it_blocks() {
    let held = version(1, 5, Outcome::Failing);
    for decision in [Decision::Retry, Decision::Skip] {
        assert!(change(decision.clone(), held).takes(4, &held, true));
        assert!(
            change(decision.clone(), version(1, 1, Outcome::Failing)).takes(4, &held, true),
            "about an earlier try"
        );
        assert!(
            !change(decision.clone(), version(2, 5, Outcome::Failing)).takes(4, &held, true),
            "another era"
        );
        assert!(
            !change(decision, held).takes(4, &held, false),
            "it does not block"
        );
    }
}
