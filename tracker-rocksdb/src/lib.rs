//! A failure tracker in an embedded RocksDB: a store for one process that needs no server.
//!
//! The one decision that shapes it: every call is one read of what is held and one write batch, under one writer's lock,
//! fsync'd before it answers. So the law of *join* needs no transaction, and durable means on the disk: a batch of 2 000
//! entries costs the same one sync as a batch of one.
//!
//! Several namespaces may share a path: inside a process all trackers on one path share one database. Another process
//! is told who holds it.
//!
//! ```
//! use tracker_api::{Namespace, Partition};
//! use tracker_rocksdb::{Config, open};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> tracker_api::Result<()> {
//! # let dir = tempfile::tempdir().expect("a temporary directory");
//! let config = Config { path: Some(dir.path().join("tracker")), ..Config::default() };
//! let namespace = Namespace { name: "orders".into(), cluster: None };
//! let tracker = open(config, &namespace).await?;
//! assert_eq!(tracker.get(&[Partition::new("orders", 3).at(42)]).await?, [None]);
//! # Ok(()) }
//! ```

#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod backend;
mod codec;
mod config;
mod error;
mod held;
mod listing;
mod place;
mod store;

use std::sync::Arc;

use tracker_api::{Error, ErrorKind, FailureTracker, Namespace, Result};

pub use config::Config;

/// Opens the namespace in the database at the configured path, which is made (with mode 0700) where there is none.
///
/// While a database is open in this process, a second namespace on its path shares it, with the first one's settings.
///
/// # Errors
///
/// * `Config`: no path; a database of a newer format or of somebody else; a namespace of another Kafka cluster.
/// * `InUse`: another process holds the database; the message says which.
/// * `Unavailable`: the file system refuses.
/// * `Corrupt`: what is there cannot be read.
pub async fn open(config: Config, namespace: &Namespace) -> Result<Arc<dyn FailureTracker>> {
    let namespace = namespace.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let store = store::Store::at(&config)?;
        backend::Tracker::new(store, &namespace)
    });
    let tracker = opened.await.map_err(|error| {
        Error::new(ErrorKind::Unavailable, "opening the database was cut off").with_source(error)
    })??;
    Ok(Arc::new(tracker))
}
