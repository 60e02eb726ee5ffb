//! The stores that a service can be started on, each with the server that it needs.

use std::{fmt, str::FromStr};

use test_servers::{Kind, Server};

use crate::service::Plan;

/// A store, by the word that `db-strategy` knows it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Store {
    /// Embedded, below the service's data directory.
    Rocksdb,
    /// A PostgreSQL server.
    Postgres,
    /// A MongoDB server, a replica set of one node.
    Mongo,
    /// A Redis server that writes to disk before it answers.
    Redis,
    /// In the service's process, and gone with it.
    Memory,
}

impl Store {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Rocksdb,
        Self::Postgres,
        Self::Mongo,
        Self::Redis,
        Self::Memory,
    ];
    /// Those that are servers of their own.
    pub const SERVERS: [Self; 3] = [Self::Postgres, Self::Mongo, Self::Redis];

    fn word(self) -> &'static str {
        match self {
            Self::Rocksdb => "rocksdb",
            Self::Postgres => "postgres",
            Self::Mongo => "mongo",
            Self::Redis => "redis",
            Self::Memory => "memory",
        }
    }

    /// What people call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Rocksdb => "embedded RocksDB",
            Self::Postgres => "PostgreSQL",
            Self::Mongo => "MongoDB",
            Self::Redis => "Redis",
            Self::Memory => "memory, gone with the service",
        }
    }

    /// The server that it needs, if any.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Self::Postgres => Some(Kind::Postgres),
            Self::Mongo => Some(Kind::Mongo),
            Self::Redis => Some(Kind::Redis),
            Self::Rocksdb | Self::Memory => None,
        }
    }

    /// The server of this process, started when it is first asked for; every group has a namespace of its own there.
    /// Panics if the server cannot be had, and says why.
    pub fn shared(self) -> Option<&'static Server> {
        match self {
            Self::Postgres => Some(test_servers::postgres()),
            Self::Mongo => Some(test_servers::mongo()),
            Self::Redis => Some(test_servers::redis()),
            Self::Rocksdb | Self::Memory => None,
        }
    }

    /// The keys that put a service on it: on this server, if it needs one.
    pub fn keys(self, server: Option<&Server>) -> Vec<(String, String)> {
        let mut keys = vec![("db-strategy".to_owned(), self.to_string())];
        if let Some(server) = server {
            keys.push((self.to_string(), format!("{{url: \"{}\"}}", server.url())));
        }
        keys
    }
}

impl Plan {
    /// On this store: on the server of this process, if it needs one.
    #[must_use]
    pub fn on(self, store: Store) -> Self {
        self.on_server(store, store.shared())
    }

    /// On this store, on this server.
    #[must_use]
    pub fn on_server(mut self, store: Store, server: Option<&Server>) -> Self {
        self.keys.extend(store.keys(server));
        self
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Store {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "mongodb" {
            return Ok(Self::Mongo);
        }
        let known = Self::ALL.into_iter().find(|store| store.word() == text);
        known.ok_or_else(|| {
            let words = Self::ALL.map(Self::word).join(", ");
            format!("`{text}` is no store of this demo; it knows {words}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Store;

    #[test]
    fn a_store_is_known_by_the_word_it_is_shown_as_and_by_no_other() {
        for store in Store::ALL {
            assert_eq!(store.to_string().parse(), Ok(store));
        }
        assert_eq!("mongodb".parse(), Ok(Store::Mongo));
        let why = "Postgres".parse::<Store>().unwrap_err();
        assert!(why.contains("`Postgres`") && why.contains("postgres"), "{why}");
    }
}
