//! The store is chosen by its name, in a service that no crate of the main workspace knows of.

use std::{path::Path, process::Command};

use orchestrator::registry::Registry;
use tracker_api::{AttemptId, Entry, ErrorKind, Namespace, Outcome, Partition, Query, Timestamp, Version};

const LEAST: [&str; 8] = [
    "--bootstrap-servers",
    "localhost:9092",
    "--group-id",
    "copier",
    "--source-topic",
    "in",
    "--target-topic",
    "out",
];

fn service(arguments: &[&str]) -> (i32, String) {
    // Beside the tests' own folder: cargo builds examples with the tests.
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/service");
    let output = Command::new(&program)
        .args(arguments)
        .args(LEAST)
        .env_clear()
        .output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[test]
fn the_service_takes_its_name_and_its_section() {
    let (code, told) = service(&[
        "config",
        "show",
        "--set",
        "db-strategy=sqlite",
        "--set",
        "sqlite.busy-timeout-ms=50",
    ]);
    assert_eq!(code, 0, "{told}");
    assert!(
        told.contains("orchestrator.sqlite.busy-timeout-ms") && told.contains("50"),
        "{told}"
    );
}

#[test]
fn a_wrong_name_or_key_is_answered_with_the_nearest() {
    let (code, told) = service(&["config", "check", "--set", "db-strategy=sqlight"]);
    assert_eq!(code, 78, "{told}");
    assert!(
        told.contains("memory, sqlite, none") && told.contains("did you mean `sqlite`?"),
        "{told}"
    );
    let (code, told) = service(&[
        "config",
        "check",
        "--set",
        "db-strategy=sqlite",
        "--set",
        "sqlite.busy-timeout=1",
    ]);
    assert_eq!(code, 78, "{told}");
    assert!(told.contains("busy-timeout-ms"), "{told}");
}

#[tokio::test]
async fn the_registry_opens_it_in_the_data_directory_and_a_newer_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::default().with("sqlite", tracker_sqlite::open);
    let namespace = Namespace {
        name: "copier".into(),
        cluster: None,
    };
    let open = async |data_dir: &Path| {
        registry
            .open("SQLite", &Default::default(), &namespace, data_dir)
            .await
    };
    let tracker = open(dir.path()).await.unwrap().unwrap();
    tracker.ping().await.unwrap();
    drop(tracker);
    let file = dir.path().join("sqlite");
    let db = rusqlite::Connection::open(&file).unwrap();
    db.pragma_update(None, "user_version", 2).unwrap();
    drop(db);
    let error = open(dir.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("version 2"), "{error}");

    let other = tempfile::tempdir().unwrap();
    std::fs::write(
        other.path().join("sqlite"),
        "this is a letter, not a database, and long enough to be read as one".repeat(20),
    )
    .unwrap();
    assert_eq!(open(other.path()).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_left_out_and_named_and_one_of_an_older_program_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::default().with("sqlite", tracker_sqlite::open);
    let namespace = Namespace {
        name: "copier".into(),
        cluster: None,
    };
    let opened = registry
        .open("sqlite", &Default::default(), &namespace, dir.path())
        .await;
    let tracker = opened.unwrap().unwrap();
    let version = Version {
        era: 1,
        term: 1,
        attempt: AttemptId::default(),
        outcome: Outcome::Succeeded,
    };
    let entry = |offset| Entry::new(Partition::new("orders", 0).at(offset), version, Timestamp(0));
    tracker.record(&[entry(1), entry(2)], &[]).await.unwrap();
    let db = rusqlite::Connection::open(dir.path().join("sqlite")).unwrap();
    db.execute("UPDATE entry SET value = '{' WHERE off = 1", [])
        .unwrap();
    let old = r#"{"partition":{"topic":"orders","number":0},"era":1,"floor":0,"received":9,"committed":9,
        "gaps":[{"start":3,"end":5}],"failed":0,"succeeded":7,"at":1}"#;
    let row = rusqlite::params![b"orders", old];
    db.execute("INSERT INTO progress VALUES (1, ?, 0, ?)", row)
        .unwrap();

    let found = tracker.get(&[entry(1).id, entry(2).id]).await.unwrap();
    assert_eq!(found, [None, Some(entry(2))]);
    let listed = tracker.list(&Query::default()).await.unwrap();
    assert_eq!(listed.entries, [entry(2)]);
    let rows = tracker.corrupt_rows();
    assert_eq!((rows.len(), rows[0].row.as_str()), (1, "orders:0:1"), "{rows:?}");
    assert_eq!(tracker.record(&[entry(1)], &[]).await.unwrap(), [true]);
    assert_eq!(tracker.list(&Query::default()).await.unwrap().entries.len(), 2);
    let progress = tracker.progress().await.unwrap();
    assert_eq!((progress[0].term, progress[0].gaps.is_empty()), (0, false));
}
