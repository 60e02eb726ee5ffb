//! Services that share a store do not meet in it.

use std::sync::Arc;

use super::{
    Case, Verdict,
    joins::held,
    make::{change, failed, id, progress, query, succeeded},
};
use crate::{Decision, ErrorKind, Page, Timestamp};

pub(super) async fn namespaces_are_kept_apart(case: Case) -> Verdict {
    // Names that a careless key would let run into each other.
    let endings = [
        "", "a", "A", "a:b", "a/b", "a\u{1}", "a\u{1}b", "\u{e9}", "%", "{}", " ",
    ];
    let mut open = Vec::new();
    for (n, ending) in (1..).zip(endings) {
        let tracker = case.ending_in(ending).open().await?;
        same!(
            tracker.list(&query(10)).await?,
            Page::default(),
            "`{ending:?}` is new"
        );
        let mine = failed(7, n);
        tracker
            .record(std::slice::from_ref(&mine), &[progress(u64::from(n), 0..=1, 1)])
            .await?;
        open.push((ending, mine, tracker));
    }
    for (ending, mine, tracker) in &open {
        same!(
            held(tracker, &id(7)).await?.as_ref(),
            Some(mine),
            "`{ending:?}` holds its own"
        );
        same!(
            tracker.list(&query(10)).await?.entries.len(),
            1,
            "`{ending:?}` lists its own"
        );
        same!(
            tracker.progress().await?.len(),
            1,
            "`{ending:?}` has its own progress"
        );
    }
    let (_, mine, first) = &open[0];
    same!(
        first.resolve(&[change(mine, 0, Decision::Discarded)]).await?,
        [true],
        "in the first"
    );
    same!(
        super::purging::purge(first, Timestamp(i64::MAX), 100).await?,
        1,
        "in the first"
    );
    for (ending, mine, tracker) in &open[1..] {
        same!(
            held(tracker, &id(7)).await?.as_ref(),
            Some(mine),
            "`{ending:?}` after a purge of another"
        );
    }
    Ok(())
}

pub(super) async fn another_cluster_under_the_same_name_is_refused(case: Case) -> Verdict {
    let tracker = case.of_cluster("cluster-a").open().await?;
    tracker.record(&[succeeded(1, 1)], &[]).await?;
    drop(tracker);
    let refused = case.of_cluster("cluster-b").open().await;
    let error = match refused {
        Ok(_) => {
            return Err(super::Breach::new(
                "cluster-b was let into the namespace of cluster-a",
            ));
        }
        Err(error) => error,
    };
    same!(error.kind(), ErrorKind::Config, "the error's kind");
    let text = error.to_string();
    holds!(
        text.contains("cluster-a") && text.contains("cluster-b"),
        "it names both clusters: {text}"
    );
    let again = case.of_cluster("cluster-a").open().await?;
    holds!(
        held(&again, &id(1)).await?.is_some(),
        "the namespace is as it was"
    );
    case.beside().of_cluster("cluster-b").open().await?;
    Ok(())
}

pub(super) async fn a_namespace_may_be_opened_before_its_cluster_is_known(case: Case) -> Verdict {
    let tracker = case.open().await?;
    tracker.record(&[succeeded(1, 1)], &[]).await?;
    drop(tracker);
    // The first that knows the cluster writes it; one that does not know it comes in.
    drop(case.of_cluster("cluster-a").open().await?);
    let tracker = case.open().await?;
    holds!(held(&tracker, &id(1)).await?.is_some(), "the entry is there");
    drop(tracker);
    let kind = case
        .of_cluster("cluster-b")
        .open()
        .await
        .err()
        .map(|error| error.kind());
    same!(
        kind,
        Some(ErrorKind::Config),
        "another cluster, after the first was written"
    );
    Ok(())
}

pub(super) async fn two_handles_of_one_namespace_share_what_they_hold(case: Case) -> Verdict {
    if !case.harness.opens_twice() {
        return Ok(());
    }
    let one = case.open().await?;
    let two = case.open().await?;
    one.record(&[failed(1, 1)], &[]).await?;
    same!(
        two.resolve(&[change(&failed(1, 1), 0, Decision::Discarded)])
            .await?,
        [true],
        "the other resolves it"
    );
    same!(
        one.resolve(&[change(&failed(1, 1), 0, Decision::Replayed)])
            .await?,
        [false],
        "the first is too late"
    );
    drop(one);
    same!(
        held(&two, &id(1)).await?.map(|e| e.revision),
        Some(1),
        "with one handle closed"
    );
    let again = Arc::clone(&two);
    again.record(&[failed(2, 1)], &[]).await?;
    holds!(
        held(&two, &id(2)).await?.is_some(),
        "and it can still be written to"
    );
    Ok(())
}

pub(super) async fn a_healthy_store_answers_a_ping(case: Case) -> Verdict {
    let tracker = case.open().await?;
    for _ in 0..3 {
        tracker.ping().await?;
    }
    same!(
        tracker.list(&query(10)).await?,
        Page::default(),
        "a ping leaves no entry"
    );
    same!(tracker.progress().await?, [], "a ping leaves no progress");
    Ok(())
}
