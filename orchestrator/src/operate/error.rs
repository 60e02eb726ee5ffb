use serde::{Deserialize, Serialize};

/// Why an operation was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What the caller can do.
    pub kind: Kind,
    /// What happened, and what to do.
    pub message: String,
}

/// What the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The request says something impossible: correct it.
    Invalid,
    /// There is no such record.
    NotFound,
    /// The record is not at a point where this can be done.
    NotBlocking,
    /// Somebody else changed the record meanwhile: look again.
    Conflict,
    /// Another process holds the data directory: ask that one, or wait.
    Held,
    /// Service, store or broker cannot be reached: try again.
    Unavailable,
    /// Nothing is kept: tracking is `none`, or the store is gone with its process.
    NoTracker,
    /// The configuration is wrong.
    Config,
    /// Anything else.
    Failed,
}

/// The result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// What a command exits with.
    pub fn exit_code(&self) -> i32 {
        match self.kind {
            Kind::Invalid => 2,
            Kind::NotFound => 3,
            Kind::NotBlocking | Kind::Failed => 1,
            Kind::Conflict | Kind::Held => 75,
            Kind::Unavailable => 69,
            Kind::NoTracker | Kind::Config => 78,
        }
    }

    pub(crate) fn status(&self) -> u16 {
        match self.kind {
            Kind::Invalid => 422,
            Kind::NotFound => 404,
            Kind::NotBlocking | Kind::Conflict | Kind::Held => 409,
            Kind::Unavailable => 503,
            Kind::NoTracker => 501,
            Kind::Config | Kind::Failed => 500,
        }
    }
}

impl From<tracker_api::Error> for Error {
    fn from(error: tracker_api::Error) -> Self {
        let kind = match error.kind() {
            tracker_api::ErrorKind::Unavailable | tracker_api::ErrorKind::Timeout => Kind::Unavailable,
            tracker_api::ErrorKind::InUse => Kind::Held,
            tracker_api::ErrorKind::Config => Kind::Config,
            _ => Kind::Failed,
        };
        Self::new(kind, error.to_string())
    }
}
