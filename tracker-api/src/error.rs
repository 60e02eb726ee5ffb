use std::error::Error as StdError;

/// What the caller of a tracker can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration or the store's schema is wrong: correct it and start again.
    Config,
    /// Another process holds the store; the message says who.
    InUse,
    /// The store is not there, or refuses every write: try again later.
    Unavailable,
    /// No answer in time: the write may have happened or may happen later. Try again.
    Timeout,
    /// What the store holds cannot be read back.
    Corrupt,
    /// The store refuses this value, whatever the time: a data error, never an outage.
    Refused,
}

/// One error for every tracker: a kind, a message for a person, and the source.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of a tracker's call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`. The message says what happened, where, and what to do; it never holds a secret or a payload.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// Keeps what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether trying again later may help: an outage, never a data error. Retry and breaker ask only this.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Timeout)
    }
}
