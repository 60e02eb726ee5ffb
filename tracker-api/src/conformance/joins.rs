//! Writing joins: order, repetition and lateness decide nothing.

use std::{sync::Arc, task::Poll};

use super::{
    Case, Verdict,
    make::{captured, entry, failed, id, of_era, progress, succeeded, version},
};
use crate::{DynTracker, Entry, Outcome, RecordId, Result, Timestamp};

pub(super) async fn held(tracker: &DynTracker, id: &RecordId) -> Result<Option<Entry>> {
    Ok(tracker.get(std::slice::from_ref(id)).await?.pop().flatten())
}

pub(super) async fn the_greater_version_stays_whichever_comes_first(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let lesser = entry(1, 1, Outcome::Failing);
    let greater = succeeded(1, 2);
    tracker.record(std::slice::from_ref(&lesser), &[]).await?;
    tracker.record(std::slice::from_ref(&greater), &[]).await?;
    let rising = held(&tracker, &id(1)).await?;

    let tracker = case.beside().open().await?;
    tracker.record(std::slice::from_ref(&greater), &[]).await?;
    tracker.record(std::slice::from_ref(&lesser), &[]).await?;
    let falling = held(&tracker, &id(1)).await?;

    same!(
        rising.as_ref().map(|e| e.version),
        Some(greater.version),
        "after the lesser, then the greater"
    );
    same!(falling, rising, "both orders end alike");
    Ok(())
}

pub(super) async fn each_part_of_a_version_counts_in_its_order(case: Case) -> Verdict {
    let tracker = case.open().await?;
    // Each is greater than the one before by one part alone, and less in every part that counts for less.
    let rising = [
        version(1, 1, 1, Outcome::Received),
        version(1, 1, 1, Outcome::Failing),
        version(1, 1, 1, Outcome::Failed),
        version(1, 1, 1, Outcome::Succeeded),
        version(1, 1, 2, Outcome::Received),
        version(1, 1, 16, Outcome::Received),
        version(1, 1, u128::MAX, Outcome::Received),
        version(1, 2, 0, Outcome::Received),
        version(1, u64::MAX, 0, Outcome::Received),
        version(2, 0, 0, Outcome::Received),
        version(u64::MAX, 0, 0, Outcome::Received),
    ];
    for (n, lesser) in rising.iter().enumerate() {
        for (m, greater) in rising.iter().enumerate().skip(n + 1) {
            let offset = i64::try_from(n * rising.len() + m).unwrap_or(0);
            let first = Entry::new(id(offset), *greater, Timestamp(1));
            let late = Entry::new(id(offset), *lesser, Timestamp(2));
            same!(
                tracker.record(&[first], &[]).await?,
                [true],
                "{greater:?} on nothing"
            );
            same!(
                tracker.record(&[late], &[]).await?,
                [false],
                "{lesser:?} after {greater:?}"
            );
            let found = held(&tracker, &id(offset)).await?.map(|e| e.version);
            same!(found, Some(*greater), "{lesser:?} came after {greater:?}");
        }
    }
    Ok(())
}

pub(super) async fn a_late_write_of_an_older_version_changes_nothing(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let settled = succeeded(1, 9);
    tracker.record(std::slice::from_ref(&settled), &[]).await?;
    let late = Entry {
        at: Timestamp(99_000),
        ..entry(1, 3, Outcome::Received)
    };
    tracker.record(&[late], &[]).await?;
    same!(
        held(&tracker, &id(1)).await?,
        Some(settled),
        "a zombie wrote late"
    );
    Ok(())
}

pub(super) async fn a_write_may_be_repeated(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let slice = [failed(1, 1), succeeded(2, 1), entry(3, 1, Outcome::Received)];
    let mut row = progress(1, 0..=4, 4);
    row.failed = 1;
    row.succeeded = 2;
    for time in 1..=3 {
        let stands = tracker.record(&slice, std::slice::from_ref(&row)).await?;
        same!(stands, [true, true, true], "write {time} of the same slice");
    }
    let ids = slice.clone().map(|e| e.id);
    same!(
        tracker.get(&ids).await?,
        slice.map(Some),
        "after three equal writes"
    );
    same!(tracker.progress().await?, [row], "after three equal writes");
    Ok(())
}

pub(super) async fn a_slice_may_repeat_an_id(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let slice = [
        entry(1, 1, Outcome::Received),
        succeeded(1, 3),
        failed(1, 2),
        failed(2, 1),
    ];
    let stands = tracker.record(&slice, &[]).await?;
    same!(
        stands,
        [false, true, false, true],
        "of three entries for one id, which stands"
    );
    let found = held(&tracker, &id(1)).await?;
    same!(
        found.as_ref().map(|e| e.version),
        Some(slice[1].version),
        "the greatest of the three stays"
    );
    same!(
        found.and_then(|e| e.captured),
        slice[2].captured,
        "the bytes of the one that had some stay"
    );
    Ok(())
}

pub(super) async fn the_last_entry_of_a_slice_is_kept(case: Case) -> Verdict {
    let tracker = case.open().await?;
    for size in [1_i64, 2, 3, 100] {
        let slice: Vec<Entry> = (0..size).map(|n| failed(size * 1_000 + n, 1)).collect();
        tracker.record(&slice, &[]).await?;
        let ids: Vec<RecordId> = slice.iter().map(|e| e.id.clone()).collect();
        let found = tracker.get(&ids).await?;
        holds!(
            found.last().is_some_and(Option::is_some),
            "the last of {size} is lost"
        );
        holds!(found.iter().all(Option::is_some), "one of {size} is lost");
    }
    Ok(())
}

pub(super) async fn record_says_which_entries_stand(case: Case) -> Verdict {
    let tracker = case.open().await?;
    tracker
        .record(&[failed(1, 5), failed(2, 5), failed(3, 5)], &[])
        .await?;
    let slice = [failed(3, 6), failed(1, 4), failed(4, 1), failed(2, 5)];
    let stands = tracker.record(&slice, &[]).await?;
    same!(stands, [true, false, true, true], "newer, older, new and equal");
    Ok(())
}

pub(super) async fn two_thousand_entries_fit_one_call(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let slice: Vec<Entry> = (0..2_000).map(|n| succeeded(n, 1)).collect();
    let stands = tracker.record(&slice, &[]).await?;
    same!(stands.len(), 2_000, "answers");
    holds!(stands.iter().all(|stands| *stands), "each stands");
    let ids: Vec<RecordId> = slice.iter().map(|e| e.id.clone()).collect();
    let found = tracker.get(&ids).await?;
    same!(found.iter().flatten().count(), 2_000, "entries held");
    Ok(())
}

pub(super) async fn captured_bytes_survive_later_writes_without_them(case: Case) -> Verdict {
    let tracker = case.open().await?;
    tracker.record(&[failed(1, 1)], &[]).await?;
    for later in [
        entry(1, 2, Outcome::Received),
        entry(1, 3, Outcome::Failing),
        succeeded(1, 4),
    ] {
        tracker.record(std::slice::from_ref(&later), &[]).await?;
        let found = held(&tracker, &id(1)).await?.and_then(|e| e.captured);
        same!(
            found,
            failed(1, 1).captured,
            "after a later write of {:?}",
            later.version.outcome
        );
    }
    // An older write that alone has the bytes brings them too.
    tracker.record(&[entry(2, 5, Outcome::Failing)], &[]).await?;
    tracker.record(&[failed(2, 1)], &[]).await?;
    let found = held(&tracker, &id(2)).await?;
    same!(
        found.as_ref().map(|e| e.version),
        Some(entry(2, 5, Outcome::Failing).version),
        "the version"
    );
    same!(
        found.and_then(|e| e.captured),
        failed(2, 1).captured,
        "bytes that came late"
    );
    Ok(())
}

pub(super) async fn the_first_failure_is_remembered(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let at = |ms| Some(Timestamp(ms));
    let writes = [
        (failed(1, 5), at(700), at(700)),
        (entry(1, 6, Outcome::Received), None, at(700)),
        (failed(1, 7), at(900), at(700)),
        (failed(1, 2), at(300), at(300)),
        (succeeded(1, 8), None, at(300)),
    ];
    for (mut write, first, expected) in writes {
        write.first_failed_at = first;
        tracker.record(&[write], &[]).await?;
        let found = held(&tracker, &id(1)).await?.and_then(|e| e.first_failed_at);
        same!(found, expected, "after a write that says {first:?}");
    }
    Ok(())
}

pub(super) async fn a_failure_without_a_first_time_first_failed_when_it_was_written(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let mut bare = failed(1, 1);
    bare.first_failed_at = None;
    tracker.record(std::slice::from_ref(&bare), &[]).await?;
    same!(
        held(&tracker, &id(1)).await?.and_then(|e| e.first_failed_at),
        Some(bare.at),
        "the first failure"
    );
    Ok(())
}

pub(super) async fn a_greater_era_starts_afresh(case: Case) -> Verdict {
    let tracker = case.open().await?;
    tracker.record(&[failed(1, 7), failed(2, 7)], &[]).await?;
    // A topic was recreated: another record stands at offset 1, and nobody captured it.
    let fresh = of_era(entry(1, 1, Outcome::Received), 2);
    let mut other = of_era(failed(2, 1), 2);
    other.captured = Some(captured(b"a"));
    tracker.record(&[fresh.clone(), other.clone()], &[]).await?;
    // What the old era writes late does not come through either.
    tracker.record(&[failed(1, 8), failed(2, 8)], &[]).await?;
    same!(
        held(&tracker, &id(1)).await?,
        Some(fresh),
        "bytes and first failure of the older era are another record's"
    );
    same!(held(&tracker, &id(2)).await?, Some(other), "the new era's bytes");
    Ok(())
}

pub(super) async fn concurrent_writers_end_in_the_greater_version(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let ids: Vec<RecordId> = (0..20).map(id).collect();
    for round in 0..10_u32 {
        let barrier = Arc::new(tokio::sync::Barrier::new(4));
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..4_u32 {
            let (tracker, barrier) = (Arc::clone(&tracker), Arc::clone(&barrier));
            // Each writer is the greatest for a quarter of the ids.
            let slice: Vec<Entry> = (0..20)
                .map(|n| succeeded(n, 1 + round * 10 + (writer + u32::try_from(n).unwrap_or(0)) % 4))
                .collect();
            writers.spawn(async move {
                barrier.wait().await;
                tracker.record(&slice, &[]).await
            });
        }
        while let Some(done) = writers.join_next().await {
            done.map_err(|error| super::Breach::new(format!("a writer panicked: {error}")))??;
        }
        let expected = version(1, 1, u128::from(4 + round * 10), Outcome::Succeeded);
        for found in tracker.get(&ids).await? {
            same!(
                found.as_ref().map(|e| e.version),
                Some(expected),
                "after four writers raced, round {round}"
            );
        }
    }
    Ok(())
}

/// The trap of an upsert that finds nothing to update: both writers insert, and the lesser one may stay.
pub(super) async fn writers_racing_on_an_absent_entry_leave_the_greater_version(case: Case) -> Verdict {
    let trackers = [case.open().await?, case.open_beside_itself().await?];
    for round in 0..8_i64 {
        let barrier = Arc::new(tokio::sync::Barrier::new(2));
        let mut writers = tokio::task::JoinSet::new();
        for (writer, tracker) in (0..2_u32).zip(&trackers) {
            let (tracker, barrier) = (Arc::clone(tracker), Arc::clone(&barrier));
            let slice: Vec<Entry> = (0..50)
                .map(|n| failed(round * 50 + n, 1 + (writer + u32::try_from(n).unwrap_or(0)) % 2))
                .collect();
            writers.spawn(async move {
                barrier.wait().await;
                tracker.record(&slice, &[]).await
            });
        }
        while let Some(done) = writers.join_next().await {
            done.map_err(|error| super::Breach::new(format!("a writer panicked: {error}")))??;
        }
        let ids: Vec<RecordId> = (0..50).map(|n| id(round * 50 + n)).collect();
        for (id, found) in ids.iter().zip(trackers[0].get(&ids).await?) {
            let mut expected = failed(id.offset, 2);
            expected.first_failed_at = failed(id.offset, 1).first_failed_at;
            same!(found, Some(expected), "after two writers raced, round {round}");
        }
    }
    Ok(())
}

pub(super) async fn a_call_that_is_dropped_may_be_repeated(case: Case) -> Verdict {
    let tracker = case.open().await?;
    for round in 0..10 {
        let slice: Vec<Entry> = (0..20).map(|n| failed(round * 100 + n, 1)).collect();
        let mut call = tracker.record(&slice, &[]);
        // It begins, and nobody waits for it: a timeout, or a lane that stops.
        std::future::poll_fn(|context| {
            let _begun = call.as_mut().poll(context);
            Poll::Ready(())
        })
        .await;
        drop(call);
        same!(
            tracker.record(&slice, &[]).await?,
            [true; 20],
            "the same slice once more"
        );
        let ids: Vec<RecordId> = slice.iter().map(|e| e.id.clone()).collect();
        let found: Vec<Entry> = tracker.get(&ids).await?.into_iter().flatten().collect();
        same!(found, slice, "after the second call");
    }
    tracker.ping().await?;
    Ok(())
}

pub(super) async fn an_empty_call_changes_nothing(case: Case) -> Verdict {
    let tracker = case.open().await?;
    same!(tracker.record(&[], &[]).await?, [false; 0], "no entries");
    same!(tracker.resolve(&[]).await?, [false; 0], "no changes");
    same!(tracker.get(&[]).await?, [], "no ids");
    same!(tracker.progress().await?, [], "no progress");
    same!(
        tracker.list(&super::make::query(10)).await?,
        crate::Page::default(),
        "no entries to list"
    );
    same!(tracker.groups(&super::make::query(10)).await?, [], "no groups");
    same!(
        super::purging::purge(&tracker, Timestamp(i64::MAX), 10).await?,
        0,
        "nothing to purge"
    );
    Ok(())
}
