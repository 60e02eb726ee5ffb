//! Filters, groups, and decisions about many records.

use super::*;

async fn scene() -> (Arc<MemoryTracker>, Access) {
    let mut entries: Vec<Entry> = (0..6)
        .map(|n| entry(n, Outcome::Failed, if n < 4 { "malformed" } else { "invalid" }))
        .collect();
    entries[1].captured = Some(Captured {
        key: Some(Bytes::from_static(b"\xff\0")),
        ..Captured::default()
    });
    entries.push(entry(6, Outcome::Failing, "down"));
    let tracker = tracker(&entries).await;
    let access = Access::Store(operations(tracker.clone()), None);
    (tracker, access)
}

async fn listed(access: &Access, line: &str) -> Vec<i64> {
    let (_, out, err) = run(access, &format!("failures list -o ndjson {line}")).await;
    let offsets = out.lines().map(|line| {
        let value: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}; {err}"));
        value["offset"].as_i64().unwrap()
    });
    offsets.collect()
}

#[tokio::test]
async fn each_filter_of_the_command_line_reaches_the_store() {
    let (_, access) = scene().await;
    for (line, expected) in [
        ("", vec![6, 5, 4, 3, 2, 1, 0]),
        ("--status open", vec![5, 4, 3, 2, 1, 0]),
        ("--status blocking", vec![6]),
        (
            "--topic orders --partition 0 --from-offset 2 --to-offset 4",
            vec![3, 2],
        ),
        ("--topic other", vec![]),
        ("--key 0xff00", vec![1]),
        ("--key ff00", vec![]),
        ("--class invalid", vec![5, 4]),
        ("--since 2023-11-14T22:13:24Z", vec![6, 5, 4]),
        ("--until 2023-11-14T22:13:24Z --class malformed", vec![3, 2, 1, 0]),
        ("--since 1h", vec![]),
        ("--text IS --class invalid", vec![5, 4]),
        ("--text %", vec![]),
    ] {
        assert_eq!(listed(&access, line).await, expected, "{line}");
    }
    let group = run(&access, "failures groups --class invalid -o ndjson").await.1;
    let group: serde_json::Value = serde_json::from_str(&group).unwrap();
    assert_eq!(
        (&group["count"], &group["sample"]),
        (&2.into(), &"orders:0:4".into())
    );
    let by_cause = format!("--fingerprint {}", group["fingerprint"].as_str().unwrap());
    assert_eq!(listed(&access, &by_cause).await, [5, 4]);
    for (line, code) in [
        ("failures list --key 0x1", 2),
        ("failures list --fingerprint xyz", 2),
        ("failures groups --topic other", 3),
    ] {
        assert_eq!(run(&access, line).await.0, code, "{line}");
    }
}

#[test]
fn a_time_is_a_date_or_so_long_ago() {
    use crate::operate::command::moment;
    assert_eq!(moment("2026-11-27T08:00:00Z").unwrap().as_second(), 1_795_766_400);
    let ago = jiff::Timestamp::now().as_second() - moment("2h").unwrap().as_second();
    assert!((7_199..=7_201).contains(&ago), "{ago}");
    for wrong in ["", "h", "2", "2 hours", "-1h", "99999999999999999d", "yesterday"] {
        assert!(moment(wrong).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn what_was_discarded_can_be_opened_again() {
    let (tracker, access) = scene().await;
    let (code, out, _) = run(
        &access,
        "failures discard orders:0:0 orders:0:6 orders:0:99 --actor ada --reason test-data",
    )
    .await;
    assert_eq!(code, 4, "{out}");
    assert!(
        out.contains("discarded: 1 of 3") && out.contains("orders:0:6: it is blocking"),
        "{out}"
    );
    assert!(out.contains("orders:0:99: nothing is kept"), "{out}");
    assert_eq!(listed(&access, "--status discarded").await, [0]);
    let held = tracker.get(&[id("orders:0:0")]).await.unwrap().remove(0).unwrap();
    assert_eq!(
        (held.revision, held.resolution.unwrap().actor.as_str()),
        (1, "ada")
    );

    assert_eq!(
        run(&access, "failures discard orders:0:0 --reason test-data")
            .await
            .0,
        1,
        "discarded already"
    );
    assert_eq!(
        run(&access, "failures restore orders:0:0 --reason a-mistake")
            .await
            .0,
        0
    );
    assert_eq!(listed(&access, "--status open").await, [5, 4, 3, 2, 1, 0]);
    assert_eq!(
        run(&access, "failures restore orders:0:0 --reason a-mistake")
            .await
            .0,
        1,
        "open already"
    );
    assert_eq!(
        run(&access, "failures discard orders:0:1 --reason no").await.0,
        2,
        "a reason says why"
    );
}

#[tokio::test]
async fn a_filter_decides_about_many_only_when_somebody_agreed() {
    let (_, access) = scene().await;
    let (code, _, told) = run(&access, "failures discard --class malformed --dry-run").await;
    assert_eq!(
        (code, told.contains("would discard 4 records")),
        (0, true),
        "{told}"
    );
    assert_eq!(listed(&access, "--status discarded").await, [0; 0]);
    assert_eq!(
        run(&access, "failures discard --reason everything --yes").await.0,
        2,
        "no filter at all"
    );
    assert_eq!(
        run(
            &access,
            "failures discard orders:0:1 --class a --reason both-ways --yes"
        )
        .await
        .0,
        2
    );
    assert_eq!(
        run(&access, "failures discard --class nothing --reason nothing --yes")
            .await
            .0,
        3
    );
    let (code, out, _) = run(
        &access,
        "failures discard --class malformed --reason test-data --yes",
    )
    .await;
    assert_eq!((code, out.as_str()), (0, "discarded: 4 of 4\n"));
    assert_eq!(listed(&access, "").await, [6, 5, 4]);
    assert_eq!(
        run(
            &access,
            "failures restore --class malformed --reason wrong-filter --yes"
        )
        .await
        .0,
        0
    );
    assert_eq!(listed(&access, "--class malformed").await, [3, 2, 1, 0]);
}

#[tokio::test]
async fn a_decision_about_what_has_changed_meanwhile_does_not_take() {
    let (tracker, _) = scene().await;
    let operations = Operations::new(tracker);
    let many = |revision| crate::operate::Many {
        records: vec![("orders:0:0".into(), Some(revision))],
        resolve: because("test data"),
    };
    let verb = crate::operate::Verb::Discard;
    let twice = crate::operate::Many {
        records: ["orders:0:3", "orders:0:2", "orders:0:3"]
            .map(|id| (id.to_owned(), None))
            .into(),
        ..many(0)
    };
    let settled = operations.settle(verb, &twice).await.unwrap();
    let done: Vec<bool> = settled.iter().map(|settled| settled.done).collect();
    assert_eq!(done, [true, true, false], "named twice, it is decided once");
    let settled = operations.settle(verb, &many(7)).await.unwrap();
    assert!(!settled[0].done && settled[0].changed, "{settled:?}");
    assert!(operations.settle(verb, &many(0)).await.unwrap()[0].done);
    let too_many = crate::operate::Many {
        records: vec![("orders:0:0".into(), None); 201],
        ..many(0)
    };
    assert_eq!(
        operations.settle(verb, &too_many).await.unwrap_err().kind,
        Kind::Invalid
    );
}

#[tokio::test]
async fn a_purge_counts_first_and_deletes_only_when_told_to() {
    let (tracker, access) = scene().await;
    tracker
        .record(&[entry(20, Outcome::Succeeded, "")], &[])
        .await
        .unwrap();
    run(
        &access,
        "failures discard --class invalid --reason test-data --yes",
    )
    .await;
    let (code, out, _) = run(&access, "tracker purge --dry-run").await;
    assert_eq!(code, 0);
    let counts: Vec<&str> = out
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(counts, ["1", "2", "0"], "{out}");
    let (code, _, told) = run(&access, "tracker purge").await;
    assert_eq!(
        (
            code,
            told.contains("1 succeeded, 2 resolved, 0 superseded for good"),
            told.contains("say --yes")
        ),
        (2, true, true),
        "nobody can be asked: {told}"
    );
    assert_eq!(run(&access, "tracker purge --resolved-before 2023-01-01T00:00:00Z --succeeded-before 2023-01-01T00:00:00Z --yes").await.0, 0);
    assert_eq!(
        tracker.list(&Query::default()).await.unwrap().entries.len(),
        8,
        "nothing is that old"
    );
    let (code, out, _) = run(&access, "tracker purge --yes").await;
    assert_eq!(
        (code, out.contains("resolved            2 gone")),
        (0, true),
        "{out}"
    );
    assert_eq!(tracker.list(&Query::default()).await.unwrap().entries.len(), 5);
}

#[tokio::test]
async fn the_stores_own_word_is_told() {
    let (_, access) = scene().await;
    let (code, out, _) = run(&access, "tracker info").await;
    assert_eq!(code, 0);
    assert!(
        out.contains("answers") && out.contains("yes") && out.contains("partitions"),
        "{out}"
    );
}

#[tokio::test]
async fn rows_that_cannot_be_read_are_said_below_every_listing_and_explained_by_info() {
    use crate::resilience::scripted::{Act, Scripted};
    let store = Scripted::new(Act::Answer);
    let row = |row: &str| tracker_api::CorruptRow {
        row: row.to_owned(),
        why: "its checksum is another's\u{1b}[2J".to_owned(),
    };
    store.set_up(Vec::new(), vec![row("orders:0:7"), row("progress of orders:0")]);
    let access = Access::Store(Operations::new(store), None);
    for line in ["failures list", "failures groups", "tracker progress"] {
        let (_, _, told) = run(&access, line).await;
        assert!(
            told.contains(
                "2 rows of the store cannot be read and are left out: orders:0:7, progress of orders:0"
            ),
            "{line}: {told}"
        );
    }
    let (_, out, _) = run(&access, "tracker info").await;
    assert!(
        out.contains("orders:0:7: its checksum is another's") && !out.contains('\u{1b}'),
        "{out}"
    );
}

#[tokio::test]
async fn a_purge_says_once_who_deletes_and_why() {
    #[derive(Clone, Default)]
    struct Log(Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _default = tracing::subscriber::set_default(subscriber);
    let (tracker, access) = scene().await;
    let done: Vec<Entry> = (100..1_200).map(|n| entry(n, Outcome::Succeeded, "")).collect();
    tracker.record(&done, &[]).await.unwrap();
    let line = "tracker purge --yes --actor ada --reason disk-is-full";
    assert_eq!(run(&access, line).await.0, 0);
    let told = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let purges: Vec<&str> = told
        .lines()
        .filter(|line| line.contains("decision=\"purge\""))
        .collect();
    assert_eq!(purges.len(), 3, "one for each kind, however many slices: {told}");
    assert!(
        purges
            .iter()
            .all(|line| line.contains("actor=ada") && line.contains("reason=disk-is-full")),
        "{told}"
    );
    let (code, _, told) = run(&access, "tracker purge --yes --reason no").await;
    assert_eq!((code, told.contains("5 to 500 characters")), (2, true), "{told}");
}
