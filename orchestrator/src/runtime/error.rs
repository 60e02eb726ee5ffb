use std::time::Duration;

use crate::{kafka::ErrorKind, lane, operate, reconcile};

/// Why a service did not start, or ended before it was told to. [`Error::exit_code`] says with which code a program ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot work with what is there: topics, permissions, the store's schema.
    #[error("{0}")]
    Config(String),
    /// Another process holds the data directory or the embedded store.
    #[error("{0}")]
    Held(String),
    /// Another instance took over our identity.
    #[error("{0}")]
    Fenced(lane::Error),
    /// Something that no setting mends; the message says what.
    #[error("{0}")]
    Failed(String),
    /// It was told to stop while it still waited for a broker or a store.
    #[error("stopped before it could start: {0}")]
    Stopped(String),
    /// Lanes did not stop in time: what was open is settled at the next start.
    #[error("the shutdown took longer than {0:?}; what was open is settled at the next start")]
    Deadline(Duration),
}

impl Error {
    /// The exit code: 78 configuration, 75 held by another process, 70 fenced, 0 stopped as it was told, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 78,
            Self::Held(_) => 75,
            Self::Fenced(_) => 70,
            Self::Stopped(_) => 0,
            Self::Failed(_) | Self::Deadline(_) => 1,
        }
    }
}

/// A data directory that cannot be held: another's, or not fit.
pub(super) fn unheld(error: &operate::Error) -> Error {
    match error.kind {
        operate::Kind::Held => Error::Held(error.to_string()),
        _ => Error::Config(error.to_string()),
    }
}

impl From<reconcile::Error> for operate::Error {
    fn from(error: reconcile::Error) -> Self {
        let away = match &error {
            reconcile::Error::Kafka(kafka) => kafka.kind == ErrorKind::Retriable,
            reconcile::Error::Tracker(tracker) => tracker.is_transient(),
        };
        let kind = if away {
            operate::Kind::Unavailable
        } else {
            operate::Kind::Failed
        };
        Self::new(kind, error.to_string())
    }
}
