//! The other process of `tests/store.rs`: `other_process hold|write|fill PATH`. Not an example to copy.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracker_api::{
    AttemptId, Captured, DynTracker, Entry, ErrorKind, Namespace, Outcome, Partition, Timestamp, Version,
};
use tracker_rocksdb::{Config, open};

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, what, path] = &arguments[..] else {
        panic!("hold|write|fill PATH")
    };
    let config = Config {
        path: Some(Path::new(path).to_owned()),
        ..Config::default()
    };
    let namespace = Namespace {
        name: "orders".into(),
        cluster: None,
    };
    let tracker = open(config, &namespace).await.unwrap();
    match what.as_str() {
        "hold" => hold(&tracker).await,
        "write" => write(&tracker).await,
        "fill" => fill(&tracker).await,
        other => panic!("{other}?"),
    }
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

/// Writes one entry and holds the database until it is killed, or whoever started it has gone.
async fn hold(tracker: &DynTracker) {
    tracker.record(&[entry(1)], &[]).await.unwrap();
    println!("holding");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// Writes, and says of each entry that it is durable, until it is killed.
async fn write(tracker: &DynTracker) {
    let first = i64::from(std::process::id()) * 1_000_000;
    for offset in first..first + 1_000_000 {
        tracker.record(&[entry(offset)], &[]).await.unwrap();
        println!("durable {offset}");
    }
}

/// Writes until the disk is full, makes space, and finds all that was acknowledged.
async fn fill(tracker: &DynTracker) {
    let large = |offset| {
        let mut large = entry(offset);
        large.captured = Some(Captured {
            key: Some(vec![7; 60 * 1024].into()),
            ..Captured::default()
        });
        large
    };
    let whole = getrlimit(Resource::Fsize);
    let full = Rlimit {
        current: Some(1 << 20),
        ..whole
    };
    setrlimit(Resource::Fsize, full).unwrap();
    let mut acknowledged = 0;
    let error = loop {
        match tracker.record(&[large(acknowledged)], &[]).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 100, "the disk is full");
    };
    assert!(acknowledged > 2, "some were written before");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_transient());

    setrlimit(Resource::Fsize, whole).unwrap();
    tracker.ping().await.expect("there is space again");
    tracker.record(&[large(2_000)], &[]).await.unwrap();
    for offset in (0..acknowledged).chain([2_000]) {
        let found = tracker.get(&[large(offset).id]).await.unwrap();
        assert_eq!(found, [Some(large(offset))], "entry {offset} was acknowledged");
    }
    println!("all acknowledged entries are there");
}
