//! Starts PostgreSQL, MongoDB and Redis for tests: the real programs, on free loopback ports, in temporary folders.
//!
//! [`postgres`], [`redis`] and [`mongo()`] answer one server per test process, started when it is first asked for. A test that
//! kills, stops or freezes takes a [`Server`] of its own. However the process that holds a server ends, by a panic and
//! SIGKILL too, server and folder are gone a moment later: see [`Server`].
//!
//! A program that is missing is an error which names it and says what brings it; nothing is skipped.

mod authority;
mod family;
mod mongo;
mod ports;
mod probe;
mod programs;
mod server;
mod watchdog;

use std::{fmt, sync::OnceLock};

pub use authority::Authority;
pub use server::Server;

/// Which program, and how it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// PostgreSQL 15 or newer. Superuser `postgres`, trusted on loopback; its collation is ICU's English, so that an order
    /// that forgot `COLLATE "C"` is seen.
    Postgres,
    /// Redis 7, every write on disk before it is answered, nothing evicted.
    Redis,
    /// Redis 7 as a sentinel: it is told whom to watch by the setting `("sentinel monitor", "NAME 127.0.0.1 PORT 1")`.
    RedisSentinel,
    /// MongoDB 6, a replica set `rs0` of this one node.
    Mongo,
    /// MongoDB 6 without a replica set: it has neither transactions nor majority writes.
    MongoStandalone,
}

impl Kind {
    /// The environment variable that names a server to use instead of a shared one.
    fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "TEST_POSTGRES_URL",
            Self::Redis | Self::RedisSentinel => "TEST_REDIS_URL",
            Self::Mongo | Self::MongoStandalone => "TEST_MONGO_URL",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::RedisSentinel => "redis-sentinel",
            Self::Mongo => "mongo",
            Self::MongoStandalone => "mongo-standalone",
        })
    }
}

/// The PostgreSQL of this process, or the one that `TEST_POSTGRES_URL` names. Panics if it cannot be had, and says why.
pub fn postgres() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| shared(Kind::Postgres))
}

/// The Redis of this process, or the one that `TEST_REDIS_URL` names. Panics if it cannot be had, and says why.
pub fn redis() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| shared(Kind::Redis))
}

/// The MongoDB of this process, or the one that `TEST_MONGO_URL` names. Panics if it cannot be had, and says why.
pub fn mongo() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| shared(Kind::Mongo))
}

#[allow(clippy::panic, reason = "a test without its server must fail, and say why")]
fn shared(kind: Kind) -> Server {
    match std::env::var(kind.variable()) {
        Ok(url) if !url.is_empty() => Server::given(kind, url),
        _ => Server::start(kind).unwrap_or_else(|why| panic!("{why}")),
    }
}
