//! Resolutions are compare-and-set, and bound to what they resolved.

use std::sync::Arc;

use super::{
    Breach, Case, Verdict,
    joins::held,
    make::{blocking, change, claim, entry, failed, id, of_era, resolution, succeeded},
};
use crate::{Change, Decision, DynTracker, Entry, Outcome, Status};

async fn with(case: &Case, entries: &[Entry]) -> Result<DynTracker, Breach> {
    let tracker = case.open().await?;
    tracker.record(entries, &[]).await?;
    Ok(tracker)
}

pub(super) async fn a_change_takes_only_on_the_held_revision(case: Case) -> Verdict {
    let dead = failed(1, 1);
    let tracker = with(&case, std::slice::from_ref(&dead)).await?;
    let wrong = tracker.resolve(&[change(&dead, 1, Decision::Discarded)]).await?;
    same!(wrong, [false], "revision 1 while 0 is held");
    for revision in 0..3 {
        let taken = tracker
            .resolve(&[change(&dead, revision, Decision::Discarded)])
            .await?;
        same!(taken, [true], "the held revision {revision}");
        let again = tracker
            .resolve(&[change(&dead, revision, Decision::Replayed)])
            .await?;
        same!(again, [false], "revision {revision} once more");
        let found = held(&tracker, &dead.id).await?;
        same!(
            found.as_ref().map(|e| e.revision),
            Some(revision + 1),
            "it rises by one"
        );
        same!(
            found.as_ref().and_then(Entry::decision),
            Some(&Decision::Discarded),
            "the one that took"
        );
    }
    Ok(())
}

pub(super) async fn of_two_claims_in_one_call_one_wins(case: Case) -> Verdict {
    let dead = failed(1, 1);
    let tracker = with(&case, std::slice::from_ref(&dead)).await?;
    let taken = tracker
        .resolve(&[change(&dead, 0, claim(1)), change(&dead, 0, claim(2))])
        .await?;
    same!(
        taken.iter().filter(|took| **took).count(),
        1,
        "claims that won, of {taken:?}"
    );
    let winner = if taken == [true, false] {
        claim(1)
    } else {
        claim(2)
    };
    let found = held(&tracker, &dead.id).await?;
    same!(
        found.as_ref().and_then(Entry::decision),
        Some(&winner),
        "the claim that is held"
    );
    Ok(())
}

pub(super) async fn of_two_racing_claims_one_wins(case: Case) -> Verdict {
    let tracker = case.open().await?;
    for round in 0..20 {
        let dead = failed(round, 1);
        tracker.record(std::slice::from_ref(&dead), &[]).await?;
        let barrier = Arc::new(tokio::sync::Barrier::new(2));
        let mut claimants = tokio::task::JoinSet::new();
        for n in [1, 2] {
            let (tracker, barrier) = (Arc::clone(&tracker), Arc::clone(&barrier));
            let claim = change(&dead, 0, claim(n));
            claimants.spawn(async move {
                barrier.wait().await;
                tracker.resolve(&[claim]).await.map(|took| (n, took))
            });
        }
        let mut winners = Vec::new();
        while let Some(done) = claimants.join_next().await {
            let (n, took) = done.map_err(|error| Breach::new(format!("a claimant panicked: {error}")))??;
            if took == [true] {
                winners.push(n);
            }
        }
        same!(winners.len(), 1, "claims that won in round {round}");
        let found = held(&tracker, &dead.id).await?;
        let winner = winners.first().map(|n| claim(*n));
        same!(
            found.as_ref().and_then(Entry::decision),
            winner.as_ref(),
            "the claim that is held"
        );
    }
    Ok(())
}

pub(super) async fn a_claim_about_an_older_failure_is_refused(case: Case) -> Verdict {
    let (old, new) = (failed(1, 1), failed(1, 2));
    let tracker = with(&case, &[old.clone(), new]).await?;
    let before = held(&tracker, &id(1)).await?;
    for decision in [claim(1), Decision::Replayed, Decision::Discarded] {
        let taken = tracker.resolve(&[change(&old, 0, decision)]).await?;
        same!(taken, [false], "about a failure that is not held any more");
    }
    same!(held(&tracker, &id(1)).await?, before, "nothing was written");
    Ok(())
}

pub(super) async fn a_resolution_does_not_outlive_its_failure(case: Case) -> Verdict {
    let dead = failed(1, 1);
    let tracker = with(&case, std::slice::from_ref(&dead)).await?;
    tracker.resolve(&[change(&dead, 0, Decision::Discarded)]).await?;
    let status = |found: Option<Entry>| found.as_ref().map(Status::of);
    same!(
        status(held(&tracker, &id(1)).await?),
        Some(Status::Discarded),
        "while its failure stands"
    );
    tracker.record(&[failed(1, 2)], &[]).await?;
    let found = held(&tracker, &id(1)).await?;
    same!(
        found.as_ref().and_then(Entry::decision),
        None,
        "the record failed anew"
    );
    same!(status(found), Some(Status::Open), "the record failed anew");
    let listed = tracker.list(&super::make::query(1)).await?.entries;
    same!(
        listed.iter().map(Status::of).collect::<Vec<_>>(),
        [Status::Open],
        "also in a listing"
    );
    tracker.record(&[succeeded(1, 3)], &[]).await?;
    same!(
        status(held(&tracker, &id(1)).await?),
        Some(Status::Succeeded),
        "a success wins over every resolution"
    );
    Ok(())
}

pub(super) async fn a_decision_on_a_blocking_record_stands_while_it_is_retried(case: Case) -> Verdict {
    let stuck = blocking(1, 1);
    let tracker = with(&case, std::slice::from_ref(&stuck)).await?;
    // The lane tried again between the operator's look and the operator's word.
    tracker.record(&[blocking(1, 2)], &[]).await?;
    let taken = tracker.resolve(&[change(&stuck, 0, Decision::Skip)]).await?;
    same!(taken, [true], "it is about the record, not about one try");
    tracker.record(&[blocking(1, 3)], &[]).await?;
    let found = held(&tracker, &id(1)).await?;
    same!(
        found.as_ref().and_then(Entry::decision),
        Some(&Decision::Skip),
        "after the next try"
    );
    tracker.record(&[failed(1, 4)], &[]).await?;
    let found = held(&tracker, &id(1)).await?;
    same!(
        found.as_ref().map(Status::of),
        Some(Status::Skipped),
        "once its commit passed it"
    );
    Ok(())
}

pub(super) async fn a_decision_on_a_blocking_record_ends_with_its_era(case: Case) -> Verdict {
    let stuck = blocking(1, 1);
    let tracker = with(&case, std::slice::from_ref(&stuck)).await?;
    tracker.resolve(&[change(&stuck, 0, Decision::Skip)]).await?;
    let reset = of_era(blocking(1, 1), 2);
    tracker.record(std::slice::from_ref(&reset), &[]).await?;
    let found = held(&tracker, &id(1)).await?;
    same!(found.as_ref().and_then(Entry::decision), None, "after a reset");
    let late = tracker.resolve(&[change(&stuck, 1, Decision::Skip)]).await?;
    same!(late, [false], "a word about the older era");
    let now = tracker.resolve(&[change(&reset, 1, Decision::Retry)]).await?;
    same!(now, [true], "a word about this era");
    Ok(())
}

pub(super) async fn a_void_leaves_a_resolution_standing(case: Case) -> Verdict {
    let stuck = blocking(1, 1);
    let tracker = with(&case, std::slice::from_ref(&stuck)).await?;
    tracker.resolve(&[change(&stuck, 0, Decision::Retry)]).await?;
    tracker.record(&[entry(1, 2, Outcome::Received)], &[]).await?;
    tracker.record(&[blocking(1, 3)], &[]).await?;
    let found = held(&tracker, &id(1)).await?;
    same!(
        found.as_ref().and_then(Entry::decision),
        Some(&Decision::Retry),
        "within its era"
    );
    same!(found.map(|e| e.revision), Some(1), "its revision");
    Ok(())
}

pub(super) async fn record_never_touches_a_resolution(case: Case) -> Verdict {
    let dead = failed(1, 1);
    let tracker = with(&case, std::slice::from_ref(&dead)).await?;
    tracker.resolve(&[change(&dead, 0, Decision::Discarded)]).await?;
    let mut foreign = failed(1, 2);
    foreign.resolution = Some(resolution(Decision::Replayed, &foreign));
    foreign.revision = 77;
    for write in [dead.clone(), foreign.clone()] {
        tracker.record(&[write], &[]).await?;
        let found = held(&tracker, &id(1)).await?;
        same!(found.as_ref().map(|e| e.revision), Some(1), "the revision");
        let expected = Some(resolution(Decision::Discarded, &dead));
        same!(found.and_then(|e| e.resolution), expected, "the resolution");
    }
    foreign.id = id(2);
    tracker.record(&[foreign], &[]).await?;
    let found = held(&tracker, &id(2)).await?;
    same!(
        found.as_ref().map(|e| e.revision),
        Some(0),
        "a new entry's revision"
    );
    same!(found.and_then(|e| e.resolution), None, "a new entry's resolution");
    Ok(())
}

pub(super) async fn resolve_never_touches_an_outcome(case: Case) -> Verdict {
    let dead = failed(1, 1);
    let tracker = with(&case, std::slice::from_ref(&dead)).await?;
    tracker.resolve(&[change(&dead, 0, claim(1))]).await?;
    let expected = Entry {
        resolution: Some(resolution(claim(1), &dead)),
        revision: 1,
        ..dead
    };
    same!(
        held(&tracker, &id(1)).await?,
        Some(expected),
        "all but the resolution half"
    );
    Ok(())
}

pub(super) async fn only_what_is_blocking_can_be_retried_or_skipped(case: Case) -> Verdict {
    let mut passing = blocking(4, 1);
    passing
        .failure
        .iter_mut()
        .for_each(|failure| failure.passes = true);
    let others = [
        failed(1, 1),
        succeeded(2, 1),
        entry(3, 1, Outcome::Received),
        passing,
    ];
    let stuck = blocking(5, 1);
    let tracker = with(&case, &others).await?;
    tracker.record(std::slice::from_ref(&stuck), &[]).await?;
    for other in &others {
        for decision in [Decision::Retry, Decision::Skip] {
            let taken = tracker.resolve(&[change(other, 0, decision)]).await?;
            same!(
                taken,
                [false],
                "on {:?}, which does not block",
                other.version.outcome
            );
        }
    }
    for decision in [claim(1), Decision::Replayed, Decision::Discarded] {
        let taken = tracker.resolve(&[change(&stuck, 0, decision)]).await?;
        same!(taken, [false], "a decision for a failed record on a blocking one");
    }
    Ok(())
}

pub(super) async fn a_failure_can_be_opened_again(case: Case) -> Verdict {
    let dead = failed(1, 1);
    let tracker = with(&case, std::slice::from_ref(&dead)).await?;
    tracker.resolve(&[change(&dead, 0, Decision::Discarded)]).await?;
    let reopen = |revision| Change {
        id: dead.id.clone(),
        revision,
        to: None,
    };
    same!(
        tracker.resolve(&[reopen(0)]).await?,
        [false],
        "on an older revision"
    );
    same!(
        tracker.resolve(&[reopen(1)]).await?,
        [true],
        "on the held revision"
    );
    let found = held(&tracker, &id(1)).await?;
    same!(found.as_ref().map(Status::of), Some(Status::Open), "open again");
    same!(found.map(|e| e.revision), Some(2), "its revision");
    Ok(())
}

pub(super) async fn an_unknown_record_is_not_resolved(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let taken = tracker
        .resolve(&[change(&failed(1, 1), 0, Decision::Discarded)])
        .await?;
    same!(taken, [false], "nothing is held");
    same!(held(&tracker, &id(1)).await?, None, "and nothing was made");
    Ok(())
}

pub(super) async fn resolve_answers_each_change_in_order(case: Case) -> Verdict {
    let dead = [failed(1, 1), failed(2, 1), failed(3, 1)];
    let tracker = with(&case, &dead).await?;
    let changes = [
        change(&dead[2], 0, Decision::Discarded),
        change(&dead[0], 9, Decision::Discarded),
        change(&failed(99, 1), 0, Decision::Discarded),
        change(&dead[1], 0, claim(1)),
        change(&dead[2], 1, Decision::Replayed),
    ];
    let taken = tracker.resolve(&changes).await?;
    same!(
        taken,
        [true, false, false, true, true],
        "each change on what the one before left"
    );
    same!(
        held(&tracker, &id(3)).await?.map(|e| e.revision),
        Some(2),
        "two changes of one record"
    );
    Ok(())
}
