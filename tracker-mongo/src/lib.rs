//! A failure tracker in MongoDB 6.0 or newer.
//!
//! The one decision that shapes it: a write is one `update` command with a statement for each entry, whose filter is
//! equality on `_id` alone and whose pipeline keeps the greater version. So two upserts of one absent entry cannot lose the
//! greater one, nothing is read before it is written, and no transaction is held open. Where a pipeline keeps what is held,
//! it fails for that one document on purpose, and by that the answer tells which entries stand: what is new or greater
//! costs one exchange. What loses, and what the server cannot join in an expression, is read and replaced if nobody was faster.
//!
//! Everything is written with `majority` and journal, and read from the primary with `majority`. `docs/stores/mongo.md`
//! has the documents, the indexes and the costs.
//!
//! ```no_run
//! use tracker_api::{Namespace, Partition, SecretUrl};
//! use tracker_mongo::{Config, open};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> tracker_api::Result<()> {
//! let config = Config { url: SecretUrl::new("mongodb://localhost:27017/?replicaSet=rs0"), ..Config::default() };
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
mod link;
mod listing;
mod pipelines;
mod purge;
mod row;
mod schema;

use std::sync::Arc;

use mongodb::Client;
use tracker_api::{Error, ErrorKind, FailureTracker, Namespace, Result};

pub use config::Config;

/// Opens the namespace in the configured database; collections and indexes are made where they are missing.
///
/// # Errors
///
/// * `Config`: no address, or a wrong one; a connection to another host without TLS; wrong credentials or too few rights; a
///   server older than 6.0; a namespace of a newer format or of another Kafka cluster; an index of ours that was changed.
/// * `Unavailable`, `Timeout`: no server that can be written to within `connect-timeout-ms`.
/// * `Corrupt`: what is there cannot be read.
pub async fn open(config: Config, namespace: &Namespace) -> Result<Arc<dyn FailureTracker>> {
    let mut options = config.options().await?;
    let place = config.place(&mut options);
    let client =
        Client::with_options(options).map_err(|problem| error::of_driver(&problem, "opening", &place))?;
    let link = link::Link::new(&client, place, config.call_timeout());
    // All of it together waits no longer than the bound.
    let opening = link.with_timeout(config.connect_timeout());
    let opened = async {
        schema::greet(&opening, schema::OPENING).await?;
        schema::check(&opening, namespace).await?;
        schema::index(&opening).await?;
        schema::claim(&opening, namespace).await
    };
    let number = match tokio::time::timeout(config.connect_timeout(), opened).await {
        Ok(opened) => opened?,
        Err(_) => {
            let message = format!(
                "opening failed in {}: no answer in {} ms; look at the server and the network, or raise mongo.connect-timeout-ms",
                link.place, config.connect_timeout_ms
            );
            return Err(Error::new(ErrorKind::Timeout, message));
        }
    };
    Ok(Arc::new(backend::Tracker {
        link,
        number,
        name: namespace.name.clone(),
    }))
}
