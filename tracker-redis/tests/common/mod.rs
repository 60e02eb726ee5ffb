//! What the tests of this crate share.

#![allow(dead_code, reason = "each test program uses its own part of it")]

use test_servers::{Kind, Server};
use tracker_api::{
    AttemptId, Captured, DynTracker, Entry, Error, Failure, Namespace, Outcome, Partition, Result, SecretUrl,
    Timestamp, Version,
};
use tracker_redis::{Config, open};

pub fn namespace(name: &str) -> Namespace {
    Namespace {
        name: name.into(),
        cluster: None,
    }
}

pub fn config(url: &str) -> Config {
    Config {
        url: SecretUrl::new(url),
        ..Config::default()
    }
}

pub async fn opened(url: &str, name: &str) -> Result<DynTracker> {
    open(config(url), &namespace(name)).await
}

pub fn own(settings: &[(&str, &str)]) -> Server {
    Server::start_with(Kind::Redis, settings).unwrap()
}

pub fn entry(offset: i64, term: u64, outcome: Outcome) -> Entry {
    let version = Version {
        era: 1,
        term,
        attempt: AttemptId::default(),
        outcome,
    };
    Entry::new(Partition::new("orders", 0).at(offset), version, Timestamp(offset))
}

pub fn succeeded(offset: i64) -> Entry {
    entry(offset, 1, Outcome::Succeeded)
}

pub fn failed(offset: i64) -> Entry {
    let mut entry = entry(offset, 1, Outcome::Failed);
    entry.failure = Some(Failure::new("malformed", &format!("byte {offset} is not JSON")));
    entry.first_failed_at = Some(entry.at);
    entry.captured = Some(Captured {
        key: Some(format!("order {offset}").into_bytes().into()),
        ..Captured::default()
    });
    entry
}

pub async fn holds(tracker: &DynTracker, entry: &Entry) -> bool {
    tracker.get(std::slice::from_ref(&entry.id)).await.unwrap() == [Some(entry.clone())]
}

pub fn refused<T>(answer: Result<T>) -> Error {
    match answer {
        Ok(_) => panic!("it is not refused"),
        Err(error) => error,
    }
}

/// A connection of the test's own, past the tracker.
pub async fn beside(server: &Server) -> redis::aio::MultiplexedConnection {
    let settings = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let client = redis::Client::open(server.url()).unwrap();
    client
        .get_multiplexed_async_connection_with_config(&settings)
        .await
        .unwrap()
}

/// Sends a command, its words apart.
pub async fn tell(server: &Server, words: &[&str]) -> redis::Value {
    let mut command = redis::Cmd::new();
    words.iter().for_each(|word| drop(command.arg(*word)));
    command.query_async(&mut beside(server).await).await.unwrap()
}

/// The keys that a namespace has, by what their names end in.
pub async fn key(server: &Server, part: &str) -> String {
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg(format!("*:{part}"))
        .query_async(&mut beside(server).await)
        .await
        .unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys[0].clone()
}
