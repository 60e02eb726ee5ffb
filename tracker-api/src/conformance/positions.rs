//! Progress joins too: one row per partition, of its greatest era.

use uuid::Uuid;

use super::{
    Case, Verdict,
    joins::held,
    make::{failed, id, progress},
};
use crate::{AttemptId, Gaps, Partition, Progress, Timestamp};

pub(super) async fn progress_keeps_the_greatest_positions_and_the_least_floor(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let mut first = progress(1, 10..=40, 50);
    (first.failed, first.succeeded, first.at) = (3, 30, Timestamp(2_000));
    let mut second = progress(1, 5..=45, 44);
    (second.failed, second.succeeded, second.at) = (4, 20, Timestamp(1_000));
    let mut joined = progress(1, 5..=45, 50);
    (joined.failed, joined.succeeded, joined.at) = (4, 30, Timestamp(2_000));
    for pair in [[first.clone(), second.clone()], [second, first]] {
        let apart = case.beside().open().await?;
        apart.record(&[], &pair[..1]).await?;
        apart.record(&[], &pair[1..]).await?;
        same!(apart.progress().await?, [joined.clone()], "in two calls");
        let together = case.beside().open().await?;
        together.record(&[], &pair).await?;
        same!(together.progress().await?, [joined.clone()], "in one call");
    }
    tracker.record(&[failed(1, 1)], &[joined.clone()]).await?;
    same!(tracker.progress().await?, [joined], "beside an entry");
    holds!(
        held(&tracker, &id(1)).await?.is_some(),
        "the entry beside a progress"
    );
    Ok(())
}

pub(super) async fn progress_of_one_writer_unites_its_gaps(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let with = |ranges: &[std::ops::Range<i64>]| Progress {
        gaps: ranges.iter().cloned().collect::<Gaps>(),
        ..progress(1, 0..=100, 100)
    };
    tracker.record(&[], &[with(&[10..20, 40..50])]).await?;
    tracker.record(&[], &[with(&[20..25, 45..60, 80..81])]).await?;
    same!(
        tracker.progress().await?,
        [with(&[10..25, 40..60, 80..81])],
        "the union"
    );
    Ok(())
}

/// A gap that was closed leaves the row, and a row that comes late does not bring it back.
pub(super) async fn the_gaps_are_those_of_the_later_writer(case: Case) -> Verdict {
    // Each is later than the one before, by one part of its writer alone.
    let writers = [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 2),
        (1, 16),
        (1, u128::MAX),
        (2, 1),
        (u64::MAX, 0),
    ];
    let rows: Vec<Progress> = (0_i64..)
        .zip(writers)
        .map(|(n, (term, attempt))| Progress {
            term,
            attempt: AttemptId(Uuid::from_u128(attempt)),
            gaps: [10 * n..10 * n + 5, 200..201].into_iter().collect(),
            missed: std::iter::once(10 * n..10 * n + 1).collect(),
            ..progress(1, 0..=300, 300)
        })
        .collect();
    for (n, earlier) in rows.iter().enumerate() {
        for later in rows.iter().skip(n + 1) {
            // The earlier one has come further: positions do not follow the writer.
            let mut earlier = earlier.clone();
            (earlier.committed, earlier.received, earlier.succeeded) = (400, 410, 9);
            let mut joined = later.clone();
            (joined.committed, joined.received, joined.succeeded) = (400, 410, 9);
            for pair in [[earlier.clone(), later.clone()], [later.clone(), earlier.clone()]] {
                let apart = case.beside().open().await?;
                apart.record(&[], &pair[..1]).await?;
                apart.record(&[], &pair[1..]).await?;
                same!(
                    apart.progress().await?,
                    [joined.clone()],
                    "in two calls: {pair:?}"
                );
            }
        }
    }
    let together = case.open().await?;
    together.record(&[], &rows).await?;
    same!(together.progress().await?, rows[rows.len() - 1..], "in one call");
    let closed = Progress {
        gaps: Gaps::default(),
        missed: Gaps::default(),
        ..rows[rows.len() - 1].clone()
    };
    together.record(&[], &[closed]).await?;
    same!(
        together.progress().await?,
        rows[rows.len() - 1..],
        "one writer's rows unite, so a gap that closes is written by a later one"
    );
    Ok(())
}

pub(super) async fn progress_of_a_greater_era_wins_whole(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let mut old = progress(1, 0..=900, 950);
    old.gaps.add(5..7);
    old.missed.add(5..6);
    (old.failed, old.succeeded) = (50, 800);
    // Its writer is the later one in its era, which counts for nothing in another.
    old.term = 9;
    let new = progress(2, 100..=120, 130);
    tracker.record(&[], std::slice::from_ref(&old)).await?;
    tracker.record(&[], std::slice::from_ref(&new)).await?;
    same!(
        tracker.progress().await?,
        [new.clone()],
        "nothing of the older era is left"
    );
    tracker.record(&[], &[old]).await?;
    same!(tracker.progress().await?, [new], "the older era came late");
    Ok(())
}

pub(super) async fn progress_is_one_row_per_partition_in_order(case: Case) -> Verdict {
    let tracker = case.open().await?;
    let of = |topic: &str, number| Progress {
        partition: Partition::new(topic, number),
        ..progress(1, 0..=1, 1)
    };
    let rows = [of("a", 10), of("b", 0), of("a", 2), of("a-b", 1), of("a", 0)];
    tracker.record(&[], &rows).await?;
    let expected = [of("a", 0), of("a", 2), of("a", 10), of("a-b", 1), of("b", 0)];
    same!(
        tracker.progress().await?,
        expected,
        "by topic, the numbers as numbers"
    );
    Ok(())
}
