//! The contract's laws on MongoDB, a real server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

use async_trait::async_trait;
use tracker_api::{DynTracker, Namespace, Result, SecretUrl, conformance::Harness};
use tracker_mongo::{Config, open};

/// The shared server; each law has a namespace of its own on it.
#[derive(Debug)]
struct Server;

#[async_trait]
impl Harness for Server {
    async fn open(&self, namespace: &Namespace) -> Result<DynTracker> {
        let config = Config {
            url: SecretUrl::new(test_servers::mongo().url()),
            database: "conformance".into(),
            // All laws share one server, and their tests run at once.
            connect_timeout_ms: 60_000,
            call_timeout_ms: 60_000,
            ..Config::default()
        };
        open(config, namespace).await
    }
}

tracker_api::conformance_suite!(Server);
