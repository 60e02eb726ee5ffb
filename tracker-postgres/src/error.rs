use sqlx::postgres::{PgDatabaseError, PgSeverity};
use tracker_api::{Error, ErrorKind};

/// What a caller can do about an error of the server's, decided by its code (SQLSTATE), and the advice for a person.
pub(crate) fn kind_of(code: &str) -> (ErrorKind, &'static str) {
    let class = code.get(..2).unwrap_or_default();
    match (class, code) {
        ("28", _) => (
            ErrorKind::Config,
            "check postgres.username, postgres.password and the server's pg_hba.conf",
        ),
        (_, "3D000") => (
            ErrorKind::Config,
            "create the database, or name another one in postgres.url",
        ),
        (_, "42501") => (
            ErrorKind::Config,
            "grant the role what docs/stores/postgres.md lists, or connect as another one",
        ),
        // What a pooler in between makes of us, wherever the server's own errors of these codes would be ours.
        (_, "08P01") => (
            ErrorKind::Config,
            "a pooler in between refuses what is said while connecting: let it pass (pgbouncer: ignore_startup_parameters), or \
             connect to the server itself",
        ),
        ("26", _) | (_, "42P05") => (
            ErrorKind::Config,
            "a pooler in between gives each statement another session: let it pool sessions (pgbouncer: pool_mode = session), \
             or connect to the server itself",
        ),
        ("3F" | "42" | "0A", _) => (
            ErrorKind::Config,
            "the schema is not the one that this version made: look who changed it, or restore it and run `tracker migrate`",
        ),
        (_, "25006") => (
            ErrorKind::Unavailable,
            "the server only reads: a standby, or default_transaction_read_only is on; connect to the primary",
        ),
        (_, "53100") => (
            ErrorKind::Unavailable,
            "the server's disk is full: make room on it",
        ),
        (_, "53200") => (
            ErrorKind::Unavailable,
            "the server is out of memory: give it more, or lower what others use",
        ),
        (_, "53300") => (
            ErrorKind::Unavailable,
            "the server has no connection left: raise max_connections, or lower postgres.connections",
        ),
        (_, "57014") => (
            ErrorKind::Timeout,
            "the server was too slow or somebody cancelled the statement: look at its load, or raise postgres.call-timeout-ms",
        ),
        (_, "55P03") => (
            ErrorKind::Timeout,
            "another session holds a lock on it for too long: look at pg_locks",
        ),
        ("40", _) => (
            ErrorKind::Unavailable,
            "it ran into other writers each time: try again",
        ),
        (_, "XX001" | "XX002") => (
            ErrorKind::Corrupt,
            "the server's files are damaged: restore them from a backup",
        ),
        ("08" | "53" | "55" | "57" | "58" | "XX" | "25" | "F0", _) => {
            (ErrorKind::Unavailable, "look at the server's log; try again")
        }
        _ => (ErrorKind::Refused, "the server does not take this value"),
    }
}

/// An error of the server's, with what was being done and where. Its own words are kept unless they may quote a value.
pub(crate) fn of_server(code: &str, words: &str, doing: &str, place: &str) -> Error {
    let (kind, advice) = kind_of(code);
    let words = match kind {
        ErrorKind::Refused => String::new(),
        _ => format!(": {words}"),
    };
    Error::new(
        kind,
        format!("{doing} in PostgreSQL at {place} failed with {code}{words}; {advice}"),
    )
}

/// An error of the driver's: the server's answer, or none.
pub(crate) fn of_driver(error: sqlx::Error, doing: &str, place: &str) -> Error {
    let failed =
        |kind, what: &str| Error::new(kind, format!("{doing} in PostgreSQL at {place} failed: {what}"));
    match error {
        sqlx::Error::Database(answer) => {
            let code = answer.code().unwrap_or_default();
            of_server(&code, answer.message(), doing, place)
        }
        // The driver calls what its TLS layer says by the socket's name; no later time heals a certificate.
        sqlx::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => failed(
            ErrorKind::Config,
            &format!(
                "the two sides do not trust each other's certificate: {error}; check postgres.tls-ca-file and the name in the server's certificate"
            ),
        ),
        sqlx::Error::Io(error) => failed(
            ErrorKind::Unavailable,
            &format!("{error}; is the server up, and does a network or firewall stand between?"),
        )
        .with_source(error),
        sqlx::Error::Tls(error) => failed(
            ErrorKind::Config,
            &format!(
                "no TLS connection: {error}; name the authority's certificate in postgres.tls-ca-file, or set sslmode in postgres.url"
            ),
        ),
        sqlx::Error::Configuration(_) => failed(
            ErrorKind::Config,
            "the settings do not fit together: check postgres.url",
        ),
        // Values are what is encoded, so its own words are not repeated.
        sqlx::Error::Encode(_) => failed(ErrorKind::Refused, "a value is too long for PostgreSQL"),
        sqlx::Error::Protocol(_) => failed(
            ErrorKind::Unavailable,
            "the answer is not PostgreSQL's: is it a PostgreSQL server, without a pooler in between that changes statements?",
        ),
        _ => failed(ErrorKind::Unavailable, "the connection cannot be used; try again"),
    }
}

/// Whether the statement was rolled back only because of who else was writing, so that it may be sent again at once.
pub(crate) fn lost_to_others(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|answer| answer.code());
    matches!(code.as_deref(), Some("40001" | "40P01"))
}

/// Whether a session may say this of itself alone: that it only reads, is in a transaction that failed, or holds a plan or
/// a path that is out of date. Never of a value, and never only because the server is slow.
pub(crate) fn may_be_the_sessions(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|answer| answer.code());
    let kind = code.map(|code| kind_of(&code).0);
    matches!(
        kind,
        Some(ErrorKind::Config | ErrorKind::Unavailable | ErrorKind::Corrupt)
    )
}

/// Whether the connection is over with this error. The server says so itself; of any other failure nobody knows what is still on its way.
pub(crate) fn ends_the_connection(error: &sqlx::Error) -> bool {
    match error.as_database_error() {
        Some(answer) => {
            let severity = answer
                .try_downcast_ref::<PgDatabaseError>()
                .map(PgDatabaseError::severity);
            !matches!(severity, Some(PgSeverity::Error))
        }
        None => true,
    }
}

/// A stored value that cannot be read back.
pub(crate) fn corrupt(row: &str, what: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!(
            "{row} cannot be read back: {what}; somebody else wrote it, or the schema was changed: look at the row"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_what_a_caller_can_do() {
        for (kind, codes) in [
            (
                ErrorKind::Config,
                &[
                    "28P01", "28000", "3D000", "3F000", "42501", "42P01", "42703", "42804", "08P01", "26000",
                    "42P05",
                ][..],
            ),
            (
                ErrorKind::Unavailable,
                &[
                    "08006", "25006", "40001", "40P01", "53100", "53200", "53300", "57P01", "57P03", "58030",
                ],
            ),
            (ErrorKind::Timeout, &["57014", "55P03"]),
            (
                ErrorKind::Refused,
                &["22021", "22P05", "22003", "23502", "54000", "99999"],
            ),
            (ErrorKind::Corrupt, &["XX001", "XX002"]),
        ] {
            for code in codes {
                assert_eq!(kind_of(code).0, kind, "{code}");
            }
        }
    }

    #[test]
    fn a_refused_value_is_not_repeated() {
        let error = of_server("22P02", "invalid input: \"4111 1111\"", "writing", "db");
        assert!(!error.to_string().contains("4111"), "{error}");
        let error = of_server("53100", "could not extend file", "writing", "db");
        assert!(error.to_string().contains("could not extend file"), "{error}");
    }
}
