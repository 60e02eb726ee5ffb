//! What the tests of the store share: servers of their own, trackers on them, and a bare client beside.

use mongodb::{
    Client, Database,
    bson::{Document, doc},
};
use test_servers::Server;
use tracker_api::{
    AttemptId, Captured, DynTracker, Entry, Error, Failure, Namespace, Outcome, Partition, Result, SecretUrl,
    Timestamp, Version,
};
use tracker_mongo::{Config, open};
use uuid::Uuid;

pub(crate) const DATABASE: &str = "orders";

pub(crate) fn config(url: &str) -> Config {
    Config {
        url: SecretUrl::new(url),
        database: DATABASE.into(),
        ..Config::default()
    }
}

pub(crate) fn namespace() -> Namespace {
    Namespace {
        name: "orders".into(),
        cluster: None,
    }
}

pub(crate) async fn opened(config: Config) -> Result<DynTracker> {
    open(config, &namespace()).await
}

/// Bounds that a fault reaches soon.
pub(crate) fn hasty(server: &Server) -> Config {
    Config {
        connect_timeout_ms: 2_000,
        call_timeout_ms: 1_500,
        ..config(&server.url())
    }
}

pub(crate) async fn bare(server: &Server) -> Client {
    Client::with_uri_str(server.url()).await.unwrap()
}

pub(crate) async fn admin(client: &Client, command: Document) -> Document {
    client.database("admin").run_command(command).await.unwrap()
}

pub(crate) async fn database(server: &Server) -> Database {
    bare(server).await.database(DATABASE)
}

/// How often the server has run these commands.
pub(crate) async fn count(client: &Client, commands: &[&str]) -> Vec<i64> {
    let status = admin(client, doc! { "serverStatus": 1 }).await;
    let ran = status
        .get_document("metrics")
        .unwrap()
        .get_document("commands")
        .unwrap();
    let total = |name: &&str| ran.get_document(*name).unwrap().get_i64("total").unwrap();
    commands.iter().map(total).collect()
}

pub(crate) fn entry(offset: i64, attempt: u128, outcome: Outcome) -> Entry {
    let version = Version {
        era: 1,
        term: 1,
        attempt: AttemptId(Uuid::from_u128(attempt)),
        outcome,
    };
    let at = Timestamp(i64::try_from(attempt).unwrap());
    Entry::new(Partition::new("orders", 0).at(offset), version, at)
}

pub(crate) fn failed(offset: i64, attempt: u128) -> Entry {
    let mut entry = entry(offset, attempt, Outcome::Failed);
    entry.failure = Some(Failure::new("malformed", "the price is not a number"));
    entry.first_failed_at = Some(entry.at);
    entry.captured = Some(Captured {
        value: Some(format!("the payload of {offset}").into()),
        ..Captured::default()
    });
    entry
}

pub(crate) async fn holds(tracker: &DynTracker, entry: &Entry) -> bool {
    tracker.get(std::slice::from_ref(&entry.id)).await.unwrap() == [Some(entry.clone())]
}

/// Waits until the tracker, the same object, answers again.
pub(crate) async fn recovered(tracker: &DynTracker) {
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while let Err(error) = tracker.ping().await {
        assert!(error.is_transient(), "{error}");
        assert!(
            tokio::time::Instant::now() < end,
            "it is not back after 60 s: {error}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<T>) -> Error {
    answer.expect_err("it is an error")
}

/// That an error says these, and nothing that is secret or a payload.
pub(crate) fn says(error: &Error, parts: &[&str]) {
    let text = format!("{error} {error:?}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing: {text}");
    }
    for secret in ["hunter2", "payload", "the price"] {
        assert!(!text.contains(secret), "{text}");
    }
}
