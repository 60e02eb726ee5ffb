use redis::{ErrorKind as Cause, RedisError};
use tracker_api::{Error, ErrorKind};

/// What a caller can do, and what to tell, decided by the code that the server answered, or by what became of the connection.
fn class(error: &RedisError) -> (ErrorKind, &'static str) {
    use ErrorKind::{Config, Corrupt, Refused, Timeout, Unavailable};
    let detail = error.detail().unwrap_or_default();
    match error.code() {
        Some("NOAUTH") => (
            Config,
            "it asks for a password: set redis.password, and redis.username if it is not the default user's",
        ),
        Some("WRONGPASS") => (
            Config,
            "it knows no such user with this password: correct redis.username and redis.password",
        ),
        Some("NOPERM") => (
            Config,
            "the user lacks a permission: docs/stores/redis.md lists what to grant",
        ),
        Some("DENIED") => (
            Config,
            "it admits only this machine until it has a password (protected mode)",
        ),
        Some("MOVED" | "CROSSSLOT") => (Config, "it is a node of a cluster: set redis.mode to cluster"),
        Some("READONLY") => (
            Unavailable,
            "it is a replica and takes no writes: wait for the end of the failover, or name the master",
        ),
        Some("OOM") => (
            Unavailable,
            "its memory is used up to `maxmemory`: purge, or give it more",
        ),
        Some("MISCONF") => (
            Unavailable,
            "it cannot write to its disk: look at the disk's space, health and permissions",
        ),
        Some("NOREPLICAS") => (
            Unavailable,
            "fewer replicas than `min-replicas-to-write` are attached",
        ),
        Some("LOADING") => (Unavailable, "it is reading its data after a start: wait"),
        Some("BUSY") => (
            Unavailable,
            "it runs somebody's script that does not end: see SCRIPT KILL",
        ),
        Some("CLUSTERDOWN") => (
            Unavailable,
            "the cluster misses a part of its slots: bring its nodes back",
        ),
        Some("MASTERDOWN") => (
            Unavailable,
            "its link with the master is down: wait for the failover",
        ),
        Some("TRYAGAIN" | "ASK") => (
            Unavailable,
            "the namespace's slot is being moved to another node: wait",
        ),
        Some("UNKILLABLE" | "NOTBUSY") => (Unavailable, "try again"),
        Some("WRONGTYPE") => (
            Corrupt,
            "a key of the namespace holds a value of another type, which somebody else wrote",
        ),
        Some("ERR") if detail.contains("max number of clients") => {
            (Unavailable, "its `maxclients` are all taken")
        }
        Some("ERR") if detail.contains("ACL failure") || detail.contains("user executing the script") => (
            Config,
            "the user lacks a permission: docs/stores/redis.md lists what to grant",
        ),
        Some("ERR") if detail.contains("DB index") || detail.contains("without any password") => {
            (Config, "correct the section redis")
        }
        Some("ERR") if detail.contains("unknown command") || detail.contains("compiling script") => (
            Config,
            "it is no Redis 7.0 or newer, or its commands were renamed: the tracker needs Lua scripts with flags",
        ),
        Some("ERR") if detail.contains("runtime error") || detail.contains("user_script") => (
            Corrupt,
            "a value of the namespace is not as this program writes it",
        ),
        Some("ERR") if detail.contains("maximum allowed size") || detail.contains("invalid bulk length") => {
            (Refused, "a value is larger than its `proto-max-bulk-len`")
        }
        Some(_) => (Unavailable, "see the server's log"),
        None if error.is_timeout() => (Timeout, "look at the server's load and at the network"),
        None => match error.kind() {
            Cause::Io if is_tls(error) => (
                Config,
                "check redis.tls-ca-file and the name in the server's certificate",
            ),
            Cause::InvalidClientConfig => (Config, "correct the section redis"),
            _ => (Unavailable, "see that it runs and that the address is right"),
        },
    }
}

/// Whether the two sides do not trust each other: no later time heals a certificate.
fn is_tls(error: &RedisError) -> bool {
    // The driver hands out its cause in the pointer that it shares it by.
    let shared = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Shared>());
    let io = shared.and_then(|cause| cause.downcast_ref::<std::io::Error>());
    let inner = io.and_then(std::io::Error::get_ref);
    inner.is_some_and(|inner| inner.is::<rustls::Error>())
}

type Shared = std::sync::Arc<dyn std::error::Error + Send + Sync>;

/// What the server said, without what it repeats of the arguments: among them are passwords and payloads.
fn said(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), detail) => {
            let detail = detail.unwrap_or_default();
            let detail = detail.split(", with args beginning").next().unwrap_or_default();
            let detail = detail.split(" script: ").next().unwrap_or_default();
            format!("{code} {detail}").trim_end().to_owned()
        }
        // What the driver says of itself names neither address nor argument.
        (None, _) => error.to_string(),
    }
}

/// An error of the server's or of the connection's, with what was being done and where.
pub(crate) fn of_server(error: &RedisError, doing: &str, place: &str) -> Error {
    let (kind, advice) = class(error);
    let message = format!("{doing} at {place} failed: {}; {advice}", said(error));
    Error::new(kind, message)
}

/// No answer within the bound.
pub(crate) fn too_late(doing: &str, place: &str, within: std::time::Duration) -> Error {
    let message = format!(
        "{doing} at {place}: no answer within {} ms; look at the server's load and at the network",
        within.as_millis()
    );
    Error::new(ErrorKind::Timeout, message)
}

/// What is held is not ours.
pub(crate) fn corrupt(what: impl std::fmt::Display, place: &str) -> Error {
    let message = format!("{what} at {place} is not as this program writes it: restore it from a backup");
    Error::new(ErrorKind::Corrupt, message)
}

#[cfg(test)]
mod tests;
