//! The contract's laws on SQLite.

use async_trait::async_trait;
use tracker_api::{DynTracker, Namespace, Result, conformance::Harness};
use tracker_sqlite::{Config, open};

/// A file of its own for each law, gone when the law is proven.
#[derive(Debug)]
struct File(tempfile::TempDir);

#[async_trait]
impl Harness for File {
    async fn open(&self, namespace: &Namespace) -> Result<DynTracker> {
        let path = Some(self.0.path().join("tracker.sqlite"));
        let config = Config {
            path,
            busy_timeout_ms: 10_000,
        };
        open(config, namespace).await
    }
}

tracker_api::conformance_suite!(File(tempfile::tempdir().expect("a temporary directory")));
