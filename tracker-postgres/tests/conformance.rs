//! The contract's laws on PostgreSQL.

use async_trait::async_trait;
use tracker_api::{DynTracker, Namespace, Result, SecretUrl, conformance::Harness};
use tracker_postgres::{Config, open};

/// The server that all tests of this process share; each law has a namespace of its own in it.
#[derive(Debug)]
struct Server;

#[async_trait]
impl Harness for Server {
    async fn open(&self, namespace: &Namespace) -> Result<DynTracker> {
        let config = Config {
            url: SecretUrl::new(test_servers::postgres().url()),
            // As many laws at once as there are cores wait for the disk.
            connect_timeout_ms: 60_000,
            call_timeout_ms: 60_000,
            ..Config::default()
        };
        open(config, namespace).await
    }
}

tracker_api::conformance_suite!(Server);
