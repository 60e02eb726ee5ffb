//! What the tests of the store share.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use test_servers::{Kind, Server};
use tracker_api::{
    AttemptId, Captured, DynTracker, Entry, Error, Failure, Namespace, Outcome, Partition, Result, SecretUrl,
    Timestamp, Version,
};
use tracker_postgres::{Config, open};

/// A server that one test may break.
pub(crate) fn own() -> Server {
    Server::start(Kind::Postgres).expect("a PostgreSQL server of the test's own")
}

/// A configuration with a schema of the test's own.
pub(crate) fn config(server: &Server, schema: &str) -> Config {
    Config {
        url: SecretUrl::new(server.url()),
        schema: schema.to_owned(),
        ..Config::default()
    }
}

pub(crate) async fn opened(config: &Config) -> Result<DynTracker> {
    let namespace = Namespace {
        name: "orders".into(),
        cluster: None,
    };
    open(config.clone(), &namespace).await
}

pub(crate) fn refused(answer: Result<DynTracker>) -> Error {
    answer.expect_err("it is refused")
}

/// The superuser's own connection.
pub(crate) async fn admin(server: &Server) -> PgConnection {
    PgConnection::connect(&server.url()).await.expect("a connection")
}

pub(crate) async fn run(admin: &mut PgConnection, sql: &str) {
    admin
        .execute(sqlx::raw_sql(AssertSqlSafe(sql)))
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

pub(crate) async fn number(admin: &mut PgConnection, sql: &str) -> i64 {
    let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(admin).await;
    row.unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

/// Waits until it is so, ten seconds at most.
pub(crate) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..200 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never happened: {what}");
}

pub(crate) fn entry(offset: i64, attempt: u128, outcome: Outcome) -> Entry {
    let version = Version {
        era: 1,
        term: 1,
        attempt: AttemptId(uuid::Uuid::from_u128(attempt)),
        outcome,
    };
    Entry::new(Partition::new("orders", 0).at(offset), version, Timestamp(1_000))
}

pub(crate) fn succeeded(offset: i64) -> Entry {
    entry(offset, 1, Outcome::Succeeded)
}

/// An open failure with its bytes.
pub(crate) fn failed(offset: i64, attempt: u128) -> Entry {
    let mut entry = entry(offset, attempt, Outcome::Failed);
    let mut failure = Failure::new("malformed", &format!("order {offset} is not JSON"));
    failure.passes = true;
    entry.failure = Some(failure);
    entry.first_failed_at = Some(Timestamp(1_000));
    entry.captured = Some(Captured {
        key: Some(format!("key {offset}").into()),
        value: Some("4111 1111".into()),
        headers: Vec::new(),
    });
    entry
}

pub(crate) async fn holds(tracker: &DynTracker, offset: i64) -> bool {
    tracker.get(&[succeeded(offset).id]).await.unwrap() == [Some(succeeded(offset))]
}
