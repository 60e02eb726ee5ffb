//! The contract's laws on RocksDB.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

use async_trait::async_trait;
use tracker_api::{DynTracker, Namespace, Result, conformance::Harness};
use tracker_rocksdb::{Config, open};

/// A directory of its own for each law, gone when the law is proven.
#[derive(Debug)]
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }
}

#[async_trait]
impl Harness for Directory {
    async fn open(&self, namespace: &Namespace) -> Result<DynTracker> {
        let path = Some(self.0.path().join("tracker"));
        let config = Config {
            path,
            ..Config::default()
        };
        open(config, namespace).await
    }
}

tracker_api::conformance_suite!(Directory::new());
