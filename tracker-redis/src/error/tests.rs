use std::io;

use super::*;

/// As the driver hands out what a server answered.
fn answered(line: &str) -> RedisError {
    let mut bytes = format!("-{line}\r\n").into_bytes();
    let value = redis::parse_redis_value(&bytes).unwrap();
    bytes.clear();
    value.extract_error().unwrap_err()
}

#[test]
fn an_answer_is_classed_by_its_code() {
    use ErrorKind::{Config, Corrupt, Refused, Unavailable};
    for (line, kind) in [
        ("NOAUTH Authentication required.", Config),
        (
            "WRONGPASS invalid username-password pair or user is disabled.",
            Config,
        ),
        (
            "NOPERM this user has no permissions to run the 'evalsha' command",
            Config,
        ),
        ("DENIED Redis is running in protected mode", Config),
        ("MOVED 3999 127.0.0.1:6381", Config),
        (
            "ERR unknown command 'EVALSHA', with args beginning with: 'swordfish'",
            Config,
        ),
        ("ERR DB index is out of range", Config),
        (
            "READONLY You can't write against a read only replica.",
            Unavailable,
        ),
        (
            "OOM command not allowed when used memory > 'maxmemory'.",
            Unavailable,
        ),
        ("MISCONF Redis is configured to save RDB snapshots", Unavailable),
        ("NOREPLICAS Not enough good replicas to write.", Unavailable),
        ("LOADING Redis is loading the dataset in memory", Unavailable),
        ("BUSY Redis is busy running a script.", Unavailable),
        ("CLUSTERDOWN The cluster is down", Unavailable),
        ("MASTERDOWN Link with MASTER is down", Unavailable),
        (
            "TRYAGAIN Multiple keys request during rehashing of slot",
            Unavailable,
        ),
        ("ASK 3999 127.0.0.1:6381", Unavailable),
        ("ERR max number of clients reached", Unavailable),
        ("ERR something that is not known", Unavailable),
        (
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            Corrupt,
        ),
        ("ERR Protocol error: invalid bulk length", Refused),
    ] {
        let error = of_server(&answered(line), "recording", "redis://127.0.0.1:6379");
        assert_eq!(error.kind(), kind, "{line}");
        let text = error.to_string();
        assert!(
            text.starts_with("recording at redis://127.0.0.1:6379 failed: "),
            "{text}"
        );
        assert!(text.contains("; ") && !text.contains("swordfish"), "{text}");
    }
}

#[test]
fn what_became_of_a_connection_is_an_outage() {
    for (kind, expected) in [
        (io::ErrorKind::ConnectionRefused, ErrorKind::Unavailable),
        (io::ErrorKind::BrokenPipe, ErrorKind::Unavailable),
        (io::ErrorKind::TimedOut, ErrorKind::Timeout),
    ] {
        let error = of_server(&RedisError::from(io::Error::from(kind)), "listing", "here");
        assert_eq!(error.kind(), expected, "{kind}");
        assert!(error.is_transient());
    }
}

#[test]
fn a_certificate_that_is_not_trusted_is_no_outage() {
    let untrusted = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
    let error = RedisError::from(io::Error::new(io::ErrorKind::InvalidData, untrusted));
    let error = of_server(&error, "connecting", "here");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}
