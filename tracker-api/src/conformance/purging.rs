//! What a purge may take, and what never.

use super::{
    Breach, Case, Verdict,
    joins::held,
    make::{blocking, change, claim, entry, failed, id, of_era, offsets, progress, query, succeeded},
};
use crate::{Decision, DynTracker, Entry, Order, Outcome, Purgeable, Query, Timestamp};

const EVER: Timestamp = Timestamp(i64::MAX);

async fn with(case: &Case, entries: &[Entry]) -> Result<DynTracker, Breach> {
    let tracker = case.open().await?;
    tracker.record(entries, &[progress(1, 0..=100, 100)]).await?;
    Ok(tracker)
}

/// Purges every kind.
pub(super) async fn purge(tracker: &DynTracker, before: Timestamp, limit: usize) -> Result<u64, Breach> {
    let mut gone = 0;
    for what in Purgeable::ALL {
        gone += tracker.purge(what, before, limit).await?;
    }
    Ok(gone)
}

async fn left(tracker: &DynTracker) -> Result<Vec<i64>, Breach> {
    Ok(offsets(&tracker.list(&query(1_000)).await?.entries))
}

pub(super) async fn purge_never_takes_what_is_in_flight_or_blocking(case: Case) -> Verdict {
    let mut passing = blocking(3, 1);
    passing
        .failure
        .iter_mut()
        .for_each(|failure| failure.passes = true);
    let kept = [entry(1, 1, Outcome::Received), blocking(2, 1), passing];
    let tracker = with(&case, &kept).await?;
    same!(purge(&tracker, EVER, 100).await?, 0, "purged");
    same!(left(&tracker).await?, [1, 2, 3], "left");
    // Where no progress is known, no era is known to be over.
    let tracker = case.beside().open().await?;
    tracker.record(&kept, &[]).await?;
    same!(purge(&tracker, EVER, 100).await?, 0, "purged without progress");
    Ok(())
}

pub(super) async fn purge_never_takes_what_is_being_replayed(case: Case) -> Verdict {
    let dead = failed(1, 1);
    let tracker = with(&case, &[dead.clone(), succeeded(2, 1)]).await?;
    tracker.resolve(&[change(&dead, 0, claim(1))]).await?;
    same!(purge(&tracker, EVER, 100).await?, 1, "purged");
    same!(left(&tracker).await?, [1], "left");
    tracker.record(&[], &[progress(2, 0..=100, 100)]).await?;
    same!(purge(&tracker, EVER, 100).await?, 0, "purged in the next era");
    same!(left(&tracker).await?, [1], "left in the next era");
    Ok(())
}

pub(super) async fn purge_never_takes_an_open_failure(case: Case) -> Verdict {
    let (open, anew) = (failed(1, 1), failed(2, 1));
    let tracker = with(&case, &[open, anew.clone()]).await?;
    // Discarded once, but the record failed anew.
    tracker.resolve(&[change(&anew, 0, Decision::Discarded)]).await?;
    tracker.record(&[failed(2, 2)], &[]).await?;
    same!(purge(&tracker, EVER, 100).await?, 0, "purged");
    same!(left(&tracker).await?, [1, 2], "left");
    Ok(())
}

pub(super) async fn purge_takes_what_is_finished(case: Case) -> Verdict {
    let dead = [failed(1, 1), failed(2, 1)];
    let stuck = blocking(3, 1);
    let tracker = with(
        &case,
        &[dead[0].clone(), dead[1].clone(), stuck.clone(), succeeded(4, 1)],
    )
    .await?;
    let changes = [
        change(&dead[0], 0, Decision::Discarded),
        change(&dead[1], 0, Decision::Replayed),
        change(&stuck, 0, Decision::Skip),
    ];
    same!(tracker.resolve(&changes).await?, [true; 3], "each takes");
    tracker.record(&[failed(3, 2)], &[]).await?;
    same!(
        purge(&tracker, EVER, 100).await?,
        4,
        "discarded, replayed, skipped, succeeded"
    );
    same!(left(&tracker).await?, [0; 0], "left");
    Ok(())
}

pub(super) async fn purge_takes_what_an_older_era_left(case: Case) -> Verdict {
    let old = [
        entry(1, 1, Outcome::Received),
        blocking(2, 1),
        failed(3, 1),
        failed(60, 1),
        entry(61, 1, Outcome::Received),
    ];
    let tracker = with(&case, &old).await?;
    tracker
        .record(&[of_era(blocking(62, 1), 2)], &[progress(2, 50..=70, 70)])
        .await?;
    same!(purge(&tracker, EVER, 100).await?, 4, "purged");
    same!(
        left(&tracker).await?,
        [3, 62],
        "below the floor an open failure is still a fact, and this era's stay"
    );
    Ok(())
}

pub(super) async fn purge_takes_only_what_was_written_before(case: Case) -> Verdict {
    let at = |offset, ms| Entry {
        at: Timestamp(ms),
        ..succeeded(offset, 1)
    };
    let tracker = with(&case, &[at(1, 99), at(2, 100), at(3, 101), at(4, -7)]).await?;
    same!(purge(&tracker, Timestamp(100), 100).await?, 2, "purged");
    same!(
        left(&tracker).await?,
        [2, 3],
        "left: what was written at that time or later"
    );
    Ok(())
}

pub(super) async fn purge_takes_no_more_than_its_limit_the_oldest_first(case: Case) -> Verdict {
    let at = |offset, ms| Entry {
        at: Timestamp(ms),
        ..succeeded(offset, 1)
    };
    let tracker = with(
        &case,
        &[
            at(1, 50),
            at(2, 10),
            at(3, 40),
            at(4, 10),
            at(5, 20),
            failed(6, 1),
        ],
    )
    .await?;
    same!(
        tracker.purge(Purgeable::Succeeded, EVER, 0).await?,
        0,
        "of a limit of 0"
    );
    for (limit, gone, expected) in [
        (2, 2, vec![1, 3, 5, 6]),
        (1, 1, vec![1, 3, 6]),
        (9, 2, vec![6]),
        (9, 0, vec![6]),
    ] {
        same!(
            tracker.purge(Purgeable::Succeeded, EVER, limit).await?,
            gone,
            "of a limit of {limit}"
        );
        same!(left(&tracker).await?, expected, "left after a limit of {limit}");
    }
    Ok(())
}

pub(super) async fn purge_takes_only_the_kind_it_was_asked_for(case: Case) -> Verdict {
    let dead = failed(2, 1);
    let tracker = with(
        &case,
        &[
            succeeded(1, 1),
            dead.clone(),
            entry(3, 1, Outcome::Received),
            failed(4, 1),
        ],
    )
    .await?;
    tracker.resolve(&[change(&dead, 0, Decision::Discarded)]).await?;
    // What the first era left at 3 and 4 counts as absent from here on.
    tracker.record(&[], &[progress(2, 0..=100, 100)]).await?;
    for (what, gone, expected) in [
        (Purgeable::Resolved, 1, vec![1, 3, 4]),
        (Purgeable::Superseded, 2, vec![1]),
        (Purgeable::Superseded, 0, vec![1]),
        (Purgeable::Succeeded, 1, vec![]),
    ] {
        same!(tracker.purge(what, EVER, 100).await?, gone, "{what:?}");
        same!(left(&tracker).await?, expected, "left after {what:?}");
    }
    Ok(())
}

pub(super) async fn what_was_purged_is_gone_from_every_answer(case: Case) -> Verdict {
    let dead = failed(1, 1);
    let tracker = with(&case, std::slice::from_ref(&dead)).await?;
    tracker.resolve(&[change(&dead, 0, Decision::Discarded)]).await?;
    same!(purge(&tracker, EVER, 10).await?, 1, "purged");
    same!(held(&tracker, &id(1)).await?, None, "get");
    for order in [Order::Id, Order::NewestFirst] {
        let page = tracker.list(&Query { order, ..query(10) }).await?;
        same!(page, crate::Page::default(), "list, {order:?}");
    }
    same!(tracker.groups(&query(0)).await?, [], "groups");
    same!(purge(&tracker, EVER, 10).await?, 0, "purged again");
    // Written again, it starts afresh.
    tracker.record(std::slice::from_ref(&dead), &[]).await?;
    same!(
        held(&tracker, &id(1)).await?,
        Some(dead),
        "without the old resolution"
    );
    Ok(())
}
