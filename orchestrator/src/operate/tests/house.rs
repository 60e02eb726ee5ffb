//! Moving house: copy, verify, files, what is interrupted.

use tracker_api::{Claim, DynTracker, Resolution};

use super::*;
use crate::operate::house::{Side, compare, copy};

/// Entries of every kind, with bytes, decisions and odd text.
async fn furnished(count: i64) -> DynTracker {
    let tracker = MemoryTracker::default();
    let entries: Vec<Entry> = (0..count)
        .map(|n| {
            let outcome = [
                Outcome::Failed,
                Outcome::Succeeded,
                Outcome::Failing,
                Outcome::Received,
            ][usize::try_from(n % 4).unwrap()];
            let mut entry = entry(n, outcome, "mal\u{0}formed");
            entry.id.partition = Partition::new(
                ["orders", "a:b", "o\nrders"][usize::try_from(n % 3).unwrap()],
                i32::try_from(n % 2).unwrap(),
            );
            entry.captured = (n % 2 == 0).then(|| Captured {
                key: Some(Bytes::from_static(b"\0\xff")),
                value: None,
                headers: vec![Header {
                    name: Bytes::new(),
                    value: Some(Bytes::from_static(b"x")),
                }],
            });
            entry.resolution = (n % 4 == 0).then(|| Resolution {
                decision: Decision::Replaying(Claim {
                    replay: uuid::Uuid::from_u128(3),
                    transactional_id: "t".into(),
                    lease_until: Timestamp(9),
                }),
                about: entry.version,
                actor: "ada".into(),
                reason: "because".into(),
                at: Timestamp(1),
            });
            entry.revision = u64::from(entry.resolution.is_some()) * 3;
            entry
        })
        .collect();
    tracker
        .import(&entries, &[progress("orders", 5, 0), progress("a:b", 7, 2)])
        .await
        .unwrap();
    Arc::new(tracker)
}

fn empty() -> DynTracker {
    Arc::new(MemoryTracker::default())
}

async fn same(a: &Side, b: &Side) -> bool {
    compare(a, b, |_, _| {}).await.unwrap().is_same()
}

#[tokio::test]
async fn a_store_that_went_through_a_file_is_the_same_and_the_file_too() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("a.ndjson"), dir.path().join("b.ndjson"));
    let at = dir.path().join("checkpoint.json");
    let (old, new) = (Side::Store(furnished(2_500).await), Side::Store(empty()));
    let file = Side::File(first.clone());
    let moved = copy(&old, &file, &at, |_, _| {}).await.unwrap();
    assert_eq!((moved.entries, moved.progress), (2_500, 2));
    let moved = copy(&file, &new, &at, |_, _| {}).await.unwrap();
    assert_eq!((moved.entries, moved.refused.len()), (2_500, 0));
    copy(&new, &Side::File(second.clone()), &at, |_, _| {})
        .await
        .unwrap();
    assert_eq!(
        std::fs::read(&first).unwrap(),
        std::fs::read(&second).unwrap(),
        "byte by byte"
    );
    let found = compare(&old, &new, |_, _| {}).await.unwrap();
    assert!(
        found.is_same() && found.left == (2_500, 2) && found.left_sha256 == found.right_sha256,
        "{found:?}"
    );
    assert!(same(&file, &new).await);
    // Once more changes nothing.
    copy(&old, &new, &at, |_, _| {}).await.unwrap();
    assert!(same(&old, &new).await);
}

#[tokio::test]
async fn a_copy_that_was_cut_off_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("checkpoint.json");
    let (old, target) = (Side::Store(furnished(5_500).await), empty());
    let new = Side::Store(target.clone());
    {
        // Dropped in the middle, as a kill would.
        let mut pages = 0;
        let mut seen = |_: u64, _: Option<f64>| pages += 1;
        let copying = copy(&old, &new, &at, &mut seen);
        tokio::pin!(copying);
        futures::future::poll_fn(|context| {
            let _begun = Future::poll(copying.as_mut(), context);
            std::task::Poll::Ready(())
        })
        .await;
    }
    // A memory store answers at once, so that copy ended; what a real crash leaves is a checkpoint and half the entries.
    let half = MemoryTracker::default();
    let Side::Store(source) = &old else { unreachable!() };
    let page = source
        .list(&Query {
            limit: 1_000,
            ..Query::default()
        })
        .await
        .unwrap();
    half.import(&page.entries, &[]).await.unwrap();
    let last = page.entries.last().unwrap().id.clone();
    let text = serde_json::json!({"after": last, "entries": 1_000}).to_string();
    std::fs::write(&at, text).unwrap();
    let half = Side::Store(Arc::new(half));
    let (mut told, mut shares) = (Vec::new(), Vec::new());
    let moved = copy(&old, &half, &at, |count, share| {
        told.push(count);
        shares.extend(share);
    });
    let moved = moved.await.unwrap();
    assert!(moved.resumed && moved.entries == 5_500, "{moved:?}");
    assert_eq!(told.first(), Some(&2_000), "the first thousand is not read again");
    assert!(
        shares.is_sorted() && shares.iter().all(|share| (0.0..=1.0).contains(share)),
        "{shares:?}"
    );
    assert!(same(&old, &half).await);
    assert!(!at.exists(), "what is done leaves no checkpoint");
}

#[tokio::test]
async fn what_differs_is_named() {
    let (old, other) = (furnished(40).await, furnished(40).await);
    other
        .record(&[entry(77, Outcome::Failed, "new")], &[])
        .await
        .unwrap();
    other.record(&[], &[progress("orders", 6, 0)]).await.unwrap();
    let found = compare(&Side::Store(old), &Side::Store(other), |_, _| {})
        .await
        .unwrap();
    assert_eq!(
        found.differing,
        ["orders:0:77", "progress of orders:0"],
        "{found:?}"
    );
    assert_ne!(found.left_sha256, found.right_sha256);
}

#[tokio::test]
async fn a_file_that_was_cut_or_changed_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let (path, at) = (dir.path().join("a.ndjson"), dir.path().join("c.json"));
    copy(
        &Side::Store(furnished(3).await),
        &Side::File(path.clone()),
        &at,
        |_, _| {},
    )
    .await
    .unwrap();
    let whole = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    for (text, why) in [
        (
            lines[..3].join("\n") + "\n",
            ":4: the file ends before its last line",
        ),
        (whole.replace("ada", "bob"), "counts or hash differ"),
        (
            whole.replacen("\"format\":1", "\"format\":2", 1),
            ":1: format 2 is not known",
        ),
        (
            whole.replacen("\"era\"", "\"ere\"", 1),
            ":2: no line of a tracker",
        ),
        ("hello\n".to_owned(), ":1: this is no file of a tracker"),
        (String::new(), ":1: the file ends"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = copy(&Side::File(path.clone()), &Side::Store(empty()), &at, |_, _| {})
            .await
            .unwrap_err();
        assert!(error.message.contains(why), "{why}: {error}");
    }
    let missing = Side::File(dir.path().join("nowhere"));
    assert!(
        copy(&missing, &Side::Store(empty()), &at, |_, _| {})
            .await
            .unwrap_err()
            .message
            .contains("nowhere")
    );
}
