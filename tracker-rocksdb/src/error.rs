use std::{io, path::Path};

use rocksdb::ErrorKind as Cause;
use tracker_api::{Error, ErrorKind};

/// What a caller can do about an error of RocksDB's, decided by its kind, never by its text.
pub(crate) fn kind_of(cause: &Cause) -> ErrorKind {
    match cause {
        Cause::Corruption | Cause::ColumnFamilyDropped => ErrorKind::Corrupt,
        // At open: options that do not fit what is there. A call makes neither.
        Cause::InvalidArgument | Cause::NotSupported => ErrorKind::Config,
        Cause::TimedOut => ErrorKind::Timeout,
        // A full disk, a lost mount, no permission; and what passes by itself.
        Cause::IOError
        | Cause::NotFound
        | Cause::MergeInProgress
        | Cause::Incomplete
        | Cause::ShutdownInProgress
        | Cause::Aborted
        | Cause::Busy
        | Cause::Expired
        | Cause::TryAgain
        | Cause::CompactionTooLarge
        | Cause::Unknown => ErrorKind::Unavailable,
    }
}

/// An error of RocksDB's, with what was being done and where.
pub(crate) fn of_database(error: rocksdb::Error, doing: &str, path: &Path) -> Error {
    let kind = kind_of(&error.kind());
    let advice = match kind {
        ErrorKind::Corrupt => "restore the directory from a backup, or move it away to begin a new one",
        ErrorKind::Config => "it does not fit this version",
        _ => "look at the disk's space, health and permissions",
    };
    let message = format!(
        "{doing} failed in the database {}: {error}; {advice}",
        path.display()
    );
    Error::new(kind, message).with_source(error)
}

/// An error of the file system's.
pub(crate) fn of_files(error: io::Error, doing: &str, path: &Path) -> Error {
    let message = format!("{doing} {}: {error}", path.display());
    let kind = match error.kind() {
        // Another's directory: no waiting mends it.
        io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory => ErrorKind::Config,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, message).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_transient_and_bad_data_is_not() {
        for outage in [
            Cause::IOError,
            Cause::Busy,
            Cause::TryAgain,
            Cause::Incomplete,
            Cause::Unknown,
        ] {
            assert!(Error::new(kind_of(&outage), "").is_transient());
        }
        for data in [Cause::Corruption, Cause::InvalidArgument, Cause::NotSupported] {
            assert!(!Error::new(kind_of(&data), "").is_transient());
        }
        assert_eq!(kind_of(&Cause::TimedOut), ErrorKind::Timeout);
    }
}
