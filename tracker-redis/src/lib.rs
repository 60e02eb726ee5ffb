//! A failure tracker in Redis 7.0 or newer: one server, sentinels or a cluster.
//!
//! The one decision that shapes it: every call is one Lua script over the six keys of a namespace, which share a hash tag and
//! so a slot. A script is atomic and alone, so the law of *join* needs no transaction; what it compares is encoded so that
//! comparing bytes is comparing versions. All indexes are one sorted set whose members order as bytes: Redis' scores are
//! floating-point numbers, which round a time in milliseconds that is large enough.
//!
//! What a server cannot promise as it is set up (no append-only file, not synced at every write, eviction, failover) it
//! tells in [`risks`](tracker_api::FailureTracker::risks).
//!
//! ```no_run
//! use tracker_api::{Namespace, Partition};
//! use tracker_redis::{Config, open};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> tracker_api::Result<()> {
//! let namespace = Namespace { name: "orders".into(), cluster: None };
//! let tracker = open(Config::default(), &namespace).await?;
//! assert_eq!(tracker.get(&[Partition::new("orders", 3).at(42)]).await?, [None]);
//! # Ok(()) }
//! ```

#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod answer;
mod backend;
mod codec;
mod config;
mod error;
mod link;
mod listing;
mod plan;
mod promise;
mod route;
mod rows;
mod script;

use std::sync::Arc;

use tracker_api::{FailureTracker, Namespace, Result};

pub use config::{Config, Mode};

/// Opens the namespace at the configured address; a new name is a new namespace. Waits at most `connect-timeout-ms`.
///
/// # Errors
///
/// * `Config`: an address that is none, wrong credentials, a missing permission, an untrusted certificate, a connection in
///   plain text that would leave the machine, a server before 7.0; a namespace of a newer format or of another Kafka cluster.
/// * `Unavailable`, `Timeout`: no server, or one that takes no writes now; the message says why.
/// * `Corrupt`: what is there cannot be read.
pub async fn open(config: Config, namespace: &Namespace) -> Result<Arc<dyn FailureTracker>> {
    let link = link::Link::new(&config, script::Keys::of(&namespace.name))?;
    Ok(Arc::new(backend::open(link, namespace).await?))
}
