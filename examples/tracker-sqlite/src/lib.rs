//! A failure tracker in SQLite: a file on a local disk, no server.
//!
//! The one decision that shapes it: the rules stay in `tracker-api`. A call is one transaction that reads what is held, asks
//! the contract's own functions what is to be kept, and writes that. The columns beside the value are there to find rows,
//! never to decide about them.

#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod backend;
mod claim;
mod config;
mod error;
mod rows;

use std::sync::Arc;

use tracker_api::{FailureTracker, Namespace, Result};

pub use config::Config;

/// Opens the namespace in the database at the configured path, which is made where there is none.
///
/// # Errors
///
/// * `Config`: no path; a database of a newer version; a namespace of another Kafka cluster.
/// * `Unavailable`: the file system refuses, or another process writes for longer than `busy-timeout-ms`.
/// * `Corrupt`: what is there is no database.
pub async fn open(config: Config, namespace: &Namespace) -> Result<Arc<dyn FailureTracker>> {
    let namespace = namespace.clone();
    let opened = tokio::task::spawn_blocking(move || backend::Tracker::open(&config, &namespace)).await;
    Ok(Arc::new(opened.map_err(error::cut_off)??))
}
