//! The server fails: what a call answers, how soon, and that the same tracker recovers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

#[allow(dead_code, reason = "each file uses a part of it")]
mod common;

use std::time::{Duration, Instant};

use common::{admin, bare, config, failed, hasty, holds, opened, recovered, refused, says};
use mongodb::bson::{Document, doc};
use test_servers::{Kind, Server};
use tracker_api::ErrorKind;
use tracker_mongo::Config;

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_within_the_bound() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config = Config {
        connect_timeout_ms: 1_000,
        ..config(&format!("mongodb://ada:hunter2@{free}/"))
    };
    let began = Instant::now();
    let error = refused(opened(config).await);
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    says(&error, &[&free.to_string(), "mongo.url"]);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_times_out_within_the_bound() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap();
    let config = Config {
        connect_timeout_ms: 1_000,
        ..config(&format!("mongodb://{at}/"))
    };
    let began = Instant::now();
    let error = refused(opened(config).await);
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    says(&error, &[&at.to_string()]);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_frozen_server_times_out_and_the_tracker_recovers() {
    let server = Server::start(Kind::Mongo).unwrap();
    let tracker = opened(hasty(&server)).await.unwrap();
    tracker.record(&[failed(1, 5)], &[]).await.unwrap();
    server.freeze().unwrap();
    for _ in 0..3 {
        let began = Instant::now();
        let error = refused(tracker.record(&[failed(2, 5)], &[]).await);
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
    server.thaw().unwrap();
    recovered(&tracker).await;
    tracker.record(&[failed(2, 5)], &[]).await.unwrap();
    assert!(holds(&tracker, &failed(1, 5)).await && holds(&tracker, &failed(2, 5)).await);
}

#[tokio::test]
async fn what_a_killed_server_confirmed_is_there_and_the_tracker_recovers() {
    let server = Server::start(Kind::Mongo).unwrap();
    let tracker = opened(hasty(&server)).await.unwrap();
    let mut confirmed = Vec::new();
    for round in 0..3_i64 {
        for offset in round * 20..round * 20 + 20 {
            tracker.record(&[failed(offset, 5)], &[]).await.unwrap();
            confirmed.push(failed(offset, 5));
        }
        server.kill().unwrap();
        let began = Instant::now();
        let error = refused(tracker.record(&[failed(1_000, 5)], &[]).await);
        assert!(error.is_transient(), "{error}");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        server.start_again().unwrap();
        recovered(&tracker).await;
    }
    for entry in confirmed {
        assert!(holds(&tracker, &entry).await, "{} was confirmed", entry.id);
    }
}

#[tokio::test]
async fn a_primary_that_steps_down_is_read_only_and_passes() {
    let server = Server::start(Kind::Mongo).unwrap();
    let tracker = opened(hasty(&server)).await.unwrap();
    let client = bare(&server).await;
    let stepped = client
        .database("admin")
        .run_command(doc! { "replSetStepDown": 4, "force": true })
        .await;
    stepped.unwrap();
    let error = refused(tracker.record(&[failed(1, 5)], &[]).await);
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    says(&error, &["primary"]);
    recovered(&tracker).await;
    tracker.record(&[failed(1, 5)], &[]).await.unwrap();
    assert!(holds(&tracker, &failed(1, 5)).await);
}

#[tokio::test]
async fn writes_that_are_held_up_time_out() {
    let server = Server::start(Kind::Mongo).unwrap();
    let tracker = opened(hasty(&server)).await.unwrap();
    let client = bare(&server).await;
    admin(&client, doc! { "fsync": 1, "lock": true }).await;
    let began = Instant::now();
    let error = refused(tracker.record(&[failed(1, 5)], &[]).await);
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(refused(tracker.ping().await).kind(), ErrorKind::Timeout);
    admin(&client, doc! { "fsyncUnlock": 1 }).await;
    recovered(&tracker).await;
    tracker.record(&[failed(1, 5)], &[]).await.unwrap();
}

fn fail(data: Document) -> Document {
    let mut all = doc! { "failCommands": ["update", "find", "delete"] };
    all.extend(data);
    doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": all }
}

#[tokio::test]
async fn a_full_disk_and_what_a_server_answers_besides_are_classed_by_their_codes() {
    let server = Server::start_with(Kind::Mongo, &[("setParameter", "enableTestCommands=1")]).unwrap();
    let client = bare(&server).await;
    let tracker = opened(hasty(&server)).await.unwrap();
    for (fault, kind, part) in [
        // OutOfDiskSpace, InterruptedAtShutdown, NotWritablePrimary, MaxTimeMSExpired, Unauthorized.
        (
            doc! { "errorCode": 14031 },
            ErrorKind::Unavailable,
            "disk is full",
        ),
        (doc! { "errorCode": 11600 }, ErrorKind::Unavailable, "11600"),
        (doc! { "errorCode": 10107 }, ErrorKind::Unavailable, "primary"),
        (doc! { "errorCode": 50 }, ErrorKind::Timeout, "call-timeout-ms"),
        (doc! { "errorCode": 13 }, ErrorKind::Config, "readWrite"),
        (
            doc! { "closeConnection": true },
            ErrorKind::Unavailable,
            "connection broke",
        ),
        // The write took place, and no majority has confirmed it.
        (
            doc! { "writeConcernError": { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "the payload" } },
            ErrorKind::Timeout,
            "majority",
        ),
    ] {
        admin(&client, fail(fault)).await;
        let error = refused(tracker.record(&[failed(1, 5)], &[]).await);
        assert_eq!(error.kind(), kind, "{error}");
        says(&error, &[part]);
        refused(tracker.ping().await);
        admin(
            &client,
            doc! { "configureFailPoint": "failCommand", "mode": "off" },
        )
        .await;
        recovered(&tracker).await;
    }
    // A duplicate key is another writer who was faster, never a success: it is written again.
    let twice = doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": {
        "failCommands": ["update"], "errorCode": 11000,
    } };
    admin(&client, twice).await;
    let error = refused(tracker.record(&[failed(1, 5)], &[]).await);
    assert!(error.is_transient(), "{error}");
    tracker.record(&[failed(1, 5)], &[]).await.unwrap();
    assert!(holds(&tracker, &failed(1, 5)).await);
}
