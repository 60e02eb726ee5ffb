//! The contract's laws on a cluster of three nodes: each namespace is on the node that has its slot.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

mod common;

use std::sync::OnceLock;

use async_trait::async_trait;
use test_servers::Server;
use tracker_api::{DynTracker, Namespace, Result, conformance::Harness};
use tracker_redis::open;

#[derive(Debug)]
struct Cluster;

impl Cluster {
    /// One for all laws of this process.
    fn nodes() -> &'static [Server] {
        static NODES: OnceLock<Vec<Server>> = OnceLock::new();
        NODES.get_or_init(|| {
            let begun = std::thread::spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(common::cluster())
            });
            begun.join().unwrap()
        })
    }
}

#[async_trait]
impl Harness for Cluster {
    async fn open(&self, namespace: &Namespace) -> Result<DynTracker> {
        open(common::of_cluster(Self::nodes()), namespace).await
    }
}

tracker_api::conformance_suite!(Cluster);
