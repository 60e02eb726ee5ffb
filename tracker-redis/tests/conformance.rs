//! The contract's laws on Redis.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

use async_trait::async_trait;
use tracker_api::{DynTracker, Namespace, Result, SecretUrl, conformance::Harness};
use tracker_redis::{Config, open};

/// One server for all laws: each has a namespace of its own.
#[derive(Debug)]
struct Server;

#[async_trait]
impl Harness for Server {
    async fn open(&self, namespace: &Namespace) -> Result<DynTracker> {
        let config = Config {
            url: SecretUrl::new(test_servers::redis().url()),
            ..Config::default()
        };
        open(config, namespace).await
    }
}

tracker_api::conformance_suite!(Server);
