//! By code, never by text: a retry and a breaker must see outages, and never data errors.

use rusqlite::ErrorCode;
use tracker_api::{Error, ErrorKind};

pub(crate) fn of(error: rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ErrorKind::Unavailable,
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::ReadOnly
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::OutOfMemory,
        ) => ErrorKind::Unavailable,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ErrorKind::Corrupt,
        Some(ErrorCode::TooBig | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) => {
            ErrorKind::Refused
        }
        // A missing table or column: somebody else's file.
        Some(_) => ErrorKind::Config,
        None => ErrorKind::Corrupt,
    };
    let advice = match kind {
        ErrorKind::Unavailable => "look at the disk and at who else has the file open",
        ErrorKind::Corrupt => "restore it from a backup",
        ErrorKind::Refused => "this value is not taken",
        _ => "choose another path",
    };
    Error::new(kind, format!("SQLite: {error}; {advice}")).with_source(error)
}

pub(crate) fn cut_off(error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Unavailable, "a call of the database was cut off").with_source(error)
}
