//! Listings: orders and pages.

use super::{
    Breach, Case, Verdict,
    make::{blocking, change, entry, failed, id, newest_first, offsets, query, succeeded},
};
use crate::{Cursor, Decision, DynTracker, Entry, ErrorKind, Order, Outcome, Partition, Query, Timestamp};

pub(super) async fn ids_order_as_numbers(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let mut expected = Vec::new();
    for number in [0, 2, 10, 100] {
        for offset in [0, 9, 10, 99, 100, 1_000, 5_000_000_000] {
            let id = Partition::new("orders", number).at(offset);
            expected.push(Entry { id, ..failed(0, 1) });
        }
    }
    let mut shuffled = expected.clone();
    shuffled.reverse();
    tracker.record(&shuffled, &[]).await?;
    let ids = |entries: &[Entry]| entries.iter().map(|e| e.id.to_string()).collect::<Vec<_>>();
    same!(
        ids(&tracker.list(&query(100)).await?.entries),
        ids(&expected),
        "offset 9 before 10, partition 2 before 10"
    );
    let range = Query {
        partition: Some(Partition::new("orders", 2)),
        offsets: Some(9..101),
        ..query(100)
    };
    same!(
        offsets(&tracker.list(&range).await?.entries),
        [9, 10, 99, 100],
        "a range of offsets"
    );
    Ok(())
}

/// Reads page after page; `meddle` writes between two pages. Answers the offsets in the order they came.
async fn pages(
    tracker: &DynTracker,
    mut query: Query,
    meddle: impl AsyncFn(usize) -> Result<(), Breach>,
) -> Result<Vec<i64>, Breach> {
    let mut seen = Vec::new();
    for page in 0.. {
        holds!(page < 100, "a listing of a few entries has no end");
        let found = tracker.list(&query).await?;
        holds!(
            found.entries.len() <= query.page_size(),
            "a page of {} of {}",
            found.entries.len(),
            query.limit
        );
        seen.extend(offsets(&found.entries));
        let Some(next) = found.next else { break };
        query.after = Some(next);
        meddle(page).await?;
    }
    Ok(seen)
}

pub(super) async fn pages_by_id_neither_repeat_nor_skip_under_writes(case: Case) -> Verdict {
    for size in [1, 3, 7] {
        let tracker = case.beside().open().await?;
        let there: Vec<Entry> = (1..=20).map(|n| failed(n * 100, 1)).collect();
        tracker.record(&there, &[]).await?;
        let meddle = async |page: usize| {
            // One in front of everything read, one behind, and a new version of one that was read.
            // The few behind let the listing end.
            let n = i64::try_from(page).unwrap_or(0);
            tracker
                .record(
                    &[failed(1 + n, 1), failed(5_000 + n % 3, 1), failed(100, 50)],
                    &[],
                )
                .await?;
            Ok(())
        };
        let seen = pages(&tracker, query(size), meddle).await?;
        let old: Vec<i64> = seen
            .iter()
            .copied()
            .filter(|n| n % 100 == 0 && *n < 5_000)
            .collect();
        same!(
            old,
            offsets(&there),
            "each entry that was there, once, in order, {size} a page"
        );
        let mut sorted = seen.clone();
        sorted.dedup();
        same!(sorted, seen, "nothing twice, {size} a page");
        holds!(seen.is_sorted(), "in order: {seen:?}");
    }
    Ok(())
}

pub(super) async fn pages_newest_first_neither_repeat_nor_skip_under_writes(case: Case) -> Verdict {
    for size in [1, 3, 7] {
        let tracker = case.beside().open().await?;
        // Pairs share a time, so that a page can end between two of one time.
        let at = |n: i64| Some(Timestamp(10_000 + n / 2));
        let there: Vec<Entry> = (1..=20)
            .map(|n| Entry {
                first_failed_at: at(n),
                ..failed(n, 1)
            })
            .collect();
        tracker.record(&there, &[]).await?;
        let meddle = async |page: usize| {
            // Newer ones come in front; one that was listed fails again, which keeps its place.
            let n = i64::try_from(page).unwrap_or(0);
            let newer = Entry {
                first_failed_at: Some(Timestamp(90_000 + n)),
                ..failed(1_000 + n, 1)
            };
            let again = Entry {
                first_failed_at: Some(Timestamp(95_000)),
                ..failed(10, 2 + u32::try_from(page).unwrap_or(0))
            };
            tracker.record(&[newer, again], &[]).await?;
            Ok(())
        };
        let seen = pages(&tracker, newest_first(size), meddle).await?;
        let expected: Vec<i64> = (1..=20).rev().collect();
        same!(
            seen,
            expected,
            "each entry that was there, once, newest first, {size} a page"
        );
    }
    Ok(())
}

pub(super) async fn newest_first_is_by_the_first_failure(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let at = |offset, attempt, first: i64, written: i64| Entry {
        first_failed_at: Some(Timestamp(first)),
        at: Timestamp(written),
        ..failed(offset, attempt)
    };
    // The one that failed first was written last, and is retried.
    tracker
        .record(
            &[
                at(1, 1, 100, 9_000),
                at(2, 1, 300, 300),
                at(3, 1, 200, 200),
                at(4, 1, -5, 50),
            ],
            &[],
        )
        .await?;
    tracker.record(&[at(1, 2, 9_500, 9_500)], &[]).await?;
    let found = tracker.list(&newest_first(10)).await?;
    same!(
        offsets(&found.entries),
        [2, 3, 1, 4],
        "by first failure, not by the last write"
    );
    Ok(())
}

pub(super) async fn newest_first_breaks_ties_by_id_descending(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let entries: Vec<Entry> = [9, 10, 100]
        .map(|n| Entry {
            first_failed_at: Some(Timestamp(1)),
            ..failed(n, 1)
        })
        .into();
    tracker.record(&entries, &[]).await?;
    same!(
        offsets(&tracker.list(&newest_first(10)).await?.entries),
        [100, 10, 9],
        "of one time"
    );
    Ok(())
}

pub(super) async fn newest_first_lists_only_what_has_failed_once(case: Case) -> Verdict {
    let tracker = case.open().await?;
    tracker
        .record(
            &[
                succeeded(1, 1),
                entry(2, 1, Outcome::Received),
                failed(3, 1),
                failed(4, 1),
            ],
            &[],
        )
        .await?;
    tracker.record(&[succeeded(4, 2)], &[]).await?;
    same!(
        offsets(&tracker.list(&newest_first(10)).await?.entries),
        [4, 3],
        "one failed once and succeeded since"
    );
    Ok(())
}

pub(super) async fn the_last_page_has_no_next(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let entries: Vec<Entry> = (0..4).map(|n| failed(n, 1)).chain([succeeded(4, 1)]).collect();
    tracker.record(&entries, &[]).await?;
    let failures = Query {
        outcomes: vec![Outcome::Failed],
        ..query(4)
    };
    for whole in [failures.clone(), newest_first(4), query(5), query(9)] {
        let page = tracker.list(&whole).await?;
        holds!(
            page.entries.len() >= 4,
            "a page of {} of {whole:?}",
            page.entries.len()
        );
        same!(page.next, None, "nothing that matches is left behind {whole:?}");
    }
    for (first, last) in [(query(4), None), (newest_first(2), Some(Timestamp(1_001)))] {
        let page = tracker.list(&first).await?;
        let id = page.entries.last().map(|e| e.id.clone()).unwrap_or_else(|| id(0));
        let expected = Cursor {
            id,
            first_failed_at: last,
        };
        same!(page.next, Some(expected), "the cursor is the page's last entry");
    }
    Ok(())
}

pub(super) async fn a_page_is_bounded(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let entries: Vec<Entry> = (0..1_200).map(|n| failed(n, 1)).collect();
    tracker.record(&entries, &[]).await?;
    for (asked, given) in [(0, 100), (1, 1), (1_000, 1_000), (5_000, 1_000)] {
        same!(
            tracker.list(&query(asked)).await?.entries.len(),
            given,
            "by id, asked for {asked}"
        );
        same!(
            tracker.list(&newest_first(asked)).await?.entries.len(),
            given,
            "newest first, asked for {asked}"
        );
    }
    Ok(())
}

pub(super) async fn a_cursor_of_the_other_order_is_refused(case: Case) -> Verdict {
    let tracker = case.open().await?;
    tracker.record(&[failed(1, 1)], &[]).await?;
    let after = Some(Cursor {
        id: id(1),
        first_failed_at: None,
    });
    let foreign = Query {
        after,
        ..newest_first(10)
    };
    let kind = tracker.list(&foreign).await.err().map(|error| error.kind());
    same!(
        kind,
        Some(ErrorKind::Refused),
        "a newest-first listing from a cursor by id"
    );
    Ok(())
}

pub(super) async fn a_listing_follows_what_is_written(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let of = |outcome| Query {
        outcomes: vec![outcome],
        ..query(10)
    };
    tracker.record(&[failed(1, 1), blocking(2, 1)], &[]).await?;
    same!(
        offsets(&tracker.list(&of(Outcome::Failed)).await?.entries),
        [1],
        "failed"
    );
    tracker.record(&[succeeded(1, 2), failed(2, 2)], &[]).await?;
    same!(
        offsets(&tracker.list(&of(Outcome::Failed)).await?.entries),
        [2],
        "failed, later"
    );
    same!(
        offsets(&tracker.list(&of(Outcome::Succeeded)).await?.entries),
        [1],
        "succeeded, later"
    );
    tracker
        .resolve(&[change(&failed(2, 2), 0, Decision::Discarded)])
        .await?;
    for order in [Order::Id, Order::NewestFirst] {
        let listed = tracker.list(&Query { order, ..query(10) }).await?.entries;
        let discarded = listed.iter().find(|e| e.id.offset == 2).and_then(Entry::decision);
        same!(
            discarded,
            Some(&Decision::Discarded),
            "a resolution shows, {order:?}"
        );
    }
    // A failure that came late and was earlier moves in the newest-first order, and is listed once.
    let early = Entry {
        first_failed_at: Some(Timestamp(5)),
        ..failed(2, 1)
    };
    tracker.record(&[early], &[]).await?;
    same!(
        offsets(&tracker.list(&newest_first(10)).await?.entries),
        [1, 2],
        "an earlier first failure"
    );
    Ok(())
}
