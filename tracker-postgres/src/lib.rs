//! A failure tracker in PostgreSQL, version 14 or newer: a store that many processes share and that people can query.
//!
//! The one decision that shapes it: every call is one statement that commits by itself. The law of *join* is an
//! `INSERT … ON CONFLICT DO UPDATE`, compare-and-set an `UPDATE` of rows that the same statement has locked; so two writers need
//! no transaction between them, a call that is dropped half way leaves none open, and a slice of 2 000 entries is one exchange.
//!
//! The tables are made by `migrations/postgres`, when the store is opened or by a role of its own; see [`Migrations`] and
//! `docs/stores/postgres.md`, which has the grants, the statements that people need, and the limits.
//!
//! ```
//! use tracker_api::{ErrorKind, Namespace, SecretUrl};
//! use tracker_postgres::{Config, open};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> tracker_api::Result<()> {
//! let url = SecretUrl::new("postgres://orders@127.0.0.1:1/orders");
//! let config = Config { url, ..Config::default() };
//! let namespace = Namespace { name: "orders".into(), cluster: None };
//! // Nobody listens there: an outage, which passes.
//! let error = open(config, &namespace).await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Unavailable);
//! # Ok(()) }
//! ```

#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod address;
mod answers;
mod backend;
mod config;
mod connections;
mod error;
mod listing;
mod rows;
mod schema;
mod session;
mod statements;
mod text;

use std::sync::Arc;

use tokio::time::timeout;
use tracker_api::{Error, ErrorKind, FailureTracker, Namespace, Result};

pub use config::{Config, Migrations};

/// Opens the namespace in the database at the configured URL.
///
/// # Errors
///
/// * `Config`: an address or a setting that cannot be, wrong credentials, a database that is missing, a right that is missing, tables
///   of a newer version or (with `migrations: check`) none or older ones; a namespace of another Kafka cluster.
/// * `Unavailable`: nobody there, or a server that only reads or refuses.
/// * `Timeout`: no answer within `connect-timeout-ms`.
pub async fn open(config: Config, namespace: &Namespace) -> Result<Arc<dyn FailureTracker>> {
    config.checked()?;
    let connections = connections_of(&config, address::options(&config)?);
    let opening = schema::open(&connections, &config, namespace);
    let opened = timeout(config.connect_timeout(), opening).await.map_err(|_| {
        let message = format!(
            "PostgreSQL at {} was not opened within {} ms: look at its load, or raise postgres.connect-timeout-ms",
            connections.place, config.connect_timeout_ms
        );
        Error::new(ErrorKind::Timeout, message)
    })??;
    Ok(Arc::new(backend::Tracker {
        connections,
        namespace: opened.namespace,
        name: opened.name,
        schema: config.schema.clone(),
        corrupt: tracker_api::CorruptRows::default(),
    }))
}

fn connections_of(config: &Config, options: sqlx::postgres::PgConnectOptions) -> connections::Connections {
    connections::Connections::new(
        options,
        session::Session::of(config),
        usize::try_from(config.connections).unwrap_or(usize::MAX),
        config.connect_timeout(),
        config.call_timeout(),
    )
}
