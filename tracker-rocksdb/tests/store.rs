//! The database as a place: who may open it, what it refuses, what survives.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use tracker_api::{
    AttemptId, DynTracker, Entry, Error, ErrorKind, Namespace, Outcome, Partition, Result, Timestamp, Version,
};
use tracker_rocksdb::{Config, open};

async fn opened(path: &Path, name: &str) -> Result<DynTracker> {
    let config = Config {
        path: Some(path.to_owned()),
        ..Config::default()
    };
    let namespace = Namespace {
        name: name.into(),
        cluster: None,
    };
    open(config, &namespace).await
}

fn entry(offset: i64) -> Entry {
    let version = Version {
        era: 1,
        term: 1,
        attempt: AttemptId::default(),
        outcome: Outcome::Succeeded,
    };
    Entry::new(Partition::new("orders", 0).at(offset), version, Timestamp(0))
}

async fn holds(tracker: &DynTracker, offset: i64) -> bool {
    tracker.get(&[entry(offset).id]).await.unwrap() == [Some(entry(offset))]
}

fn refused(answer: Result<DynTracker>) -> Error {
    answer.expect_err("it is refused")
}

/// Another process that uses the database at `path`: `examples/other_process.rs`, which cargo builds with the tests.
fn child(what: &str, path: &Path) -> Command {
    let mut program = std::env::current_exe().unwrap();
    program.pop();
    program.pop();
    let program = program.join("examples/other_process");
    assert!(
        program.exists(),
        "{} is missing: `cargo test -p tracker-rocksdb` builds it, `--test store` alone does not",
        program.display()
    );
    let mut command = Command::new(program);
    command
        .arg(what)
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test]
async fn another_process_is_told_who_holds_the_database_and_finds_what_a_killed_one_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tracker");
    let mut holder = Killed(child("hold", &path).spawn().unwrap());
    let lines = BufReader::new(holder.0.stdout.take().unwrap()).lines();
    let ready = lines
        .map_while(|line| line.ok())
        .any(|line| line.contains("holding"));
    assert!(ready, "the other process holds it");

    let error = refused(opened(&path, "orders").await);
    assert_eq!(error.kind(), ErrorKind::InUse);
    let text = error.to_string();
    assert!(text.contains(&format!("process {} (", holder.0.id())), "{text}");
    assert!(
        text.contains(" since 2") && text.contains("stop it first"),
        "{text}"
    );

    // kill -9: the hold goes with the process, what it was told to be durable stays.
    holder.0.kill().unwrap();
    holder.0.wait().unwrap();
    let tracker = opened(&path, "orders").await.unwrap();
    assert!(holds(&tracker, 1).await);
}

#[tokio::test]
async fn what_a_killed_process_was_told_is_durable_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tracker");
    let mut acknowledged = Vec::new();
    for round in 1..=5_usize {
        let mut writer = Killed(child("write", &path).spawn().unwrap());
        let lines = BufReader::new(writer.0.stdout.take().unwrap()).lines();
        for line in lines.map_while(|line| line.ok()) {
            if let Some(offset) = line.strip_prefix("durable ") {
                acknowledged.push(offset.parse::<i64>().unwrap());
            }
            // Killed while it writes on: what it says after this nobody has read.
            if acknowledged.len() >= round * 20 {
                break;
            }
        }
        writer.0.kill().unwrap();
        writer.0.wait().unwrap();
    }
    assert!(acknowledged.len() >= 100, "each round wrote some");
    let tracker = opened(&path, "orders").await.unwrap();
    for offset in acknowledged {
        assert!(holds(&tracker, offset).await, "entry {offset} was acknowledged");
    }
}

#[test]
fn a_full_disk_is_an_outage_that_passes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tracker");
    let test = child("fill", &path);
    // A file may not grow, and the signal that says so is ignored: then the system answers as a full disk does.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(test.get_program())
        .args(test.get_args())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("all acknowledged"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tracker");
    let tracker = opened(&path, "orders").await.unwrap();
    tracker.record(&[entry(1)], &[]).await.unwrap();
    drop(tracker);
    let format = fs::read_to_string(path.join("FORMAT")).unwrap();
    fs::write(path.join("FORMAT"), format.replace("format 1", "format 2")).unwrap();
    let listing = || {
        let mut names: Vec<_> = fs::read_dir(&path)
            .unwrap()
            .map(|file| file.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    let before = listing();
    let error = refused(opened(&path, "orders").await);
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    assert!(
        text.contains("format 2") && text.contains("up to 1") && text.contains("newer"),
        "{text}"
    );
    assert_eq!(listing(), before, "nothing was touched");

    fs::write(path.join("FORMAT"), format).unwrap();
    assert!(holds(&opened(&path, "orders").await.unwrap(), 1).await);
}

#[tokio::test]
async fn a_directory_of_somebody_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("CURRENT"), "MANIFEST-000001\n").unwrap();
    assert_eq!(
        refused(opened(dir.path(), "orders").await).kind(),
        ErrorKind::Config
    );
    fs::write(dir.path().join("FORMAT"), "something else").unwrap();
    assert_eq!(
        refused(opened(dir.path(), "orders").await).kind(),
        ErrorKind::Config
    );

    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = refused(opened(&file, "orders").await);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("file"), "{error}");
}

#[tokio::test]
async fn a_damaged_database_is_corrupt_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tracker");
    drop(opened(&path, "orders").await.unwrap());
    let manifest = fs::read_dir(&path).unwrap().map(|file| file.unwrap().path());
    for file in manifest.filter(|file| file.to_string_lossy().contains("MANIFEST")) {
        fs::write(file, "garbage").unwrap();
    }
    assert_eq!(refused(opened(&path, "orders").await).kind(), ErrorKind::Corrupt);
}

#[cfg(unix)]
#[tokio::test]
async fn the_directory_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data/tracker");
    let _tracker = opened(&path, "orders").await.unwrap();
    for made in [path.clone(), dir.path().join("data")] {
        assert_eq!(
            fs::metadata(&made).unwrap().permissions().mode() & 0o777,
            0o700,
            "{made:?}"
        );
    }
}

#[tokio::test]
async fn namespaces_on_one_path_share_one_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tracker");
    let one = opened(&path, "one").await.unwrap();
    let two = opened(&dir.path().join("./tracker"), "two").await.unwrap();
    one.record(&[entry(1)], &[]).await.unwrap();
    assert!(holds(&one, 1).await && !holds(&two, 1).await);
    drop(one);
    two.record(&[entry(2)], &[]).await.unwrap();
    drop(two);
    let one = opened(&path, "one").await.unwrap();
    assert!(holds(&one, 1).await && !holds(&one, 2).await);
}

/// Whoever opens a path while its last user closes it waits, and is never told that this process itself is in the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn opening_races_with_closing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tracker");
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..4 {
        let path = path.clone();
        tasks.spawn(async move {
            for round in 0..8 {
                let tracker = opened(&path, "orders").await.unwrap();
                tracker.record(&[entry(task * 100 + round)], &[]).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let tracker = opened(&path, "orders").await.unwrap();
    for task in 0..4 {
        for round in 0..8 {
            assert!(holds(&tracker, task * 100 + round).await);
        }
    }
}
