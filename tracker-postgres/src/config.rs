use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_api::{Error, ErrorKind, Result, Secret, SecretUrl};

/// The section `postgres` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// The database: `postgres://user@host:5432/database?sslmode=verify-full`, or the same with `jdbc:postgresql://`. Must be set.
    /// Of the parameters `sslmode`, `sslrootcert`, `sslcert`, `sslkey`, `user`, `password` and `application_name` are read.
    pub url: SecretUrl,
    /// The role; goes before one in the URL.
    pub username: Option<String>,
    /// The role's password; goes before one in the URL. Empty: the URL's, or none.
    pub password: Secret,
    /// The schema with the tracker's tables: small letters, digits and underscores, at most 63.
    pub schema: String,
    /// Who makes the tables.
    pub migrations: Migrations,
    /// At most so many connections at once (1 to 100).
    pub connections: u32,
    /// How long to wait for a connection, and at start for all that is looked at, in milliseconds (100 to 600000).
    pub connect_timeout_ms: u32,
    /// How long to wait for the answer to a call, in milliseconds (100 to 600000). The server ends a statement after nine tenths of it.
    pub call_timeout_ms: u32,
    /// Whether a host that is not this machine may be spoken to without TLS.
    pub allow_plaintext: bool,
    /// A file with the certificates of the authorities to trust (PEM), instead of the system's.
    pub tls_ca_file: Option<PathBuf>,
}

/// Who makes the tables of the schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Migrations {
    /// Opening the store does, where they are missing or older.
    #[default]
    Apply,
    /// Somebody else does (`tracker migrate`); the role needs no right to. Opening refuses what is missing or older.
    Check,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: SecretUrl::default(),
            username: None,
            password: Secret::default(),
            schema: "orchestrator".to_owned(),
            migrations: Migrations::default(),
            connections: 4,
            connect_timeout_ms: 5_000,
            call_timeout_ms: 5_000,
            allow_plaintext: false,
            tls_ca_file: None,
        }
    }
}

impl Config {
    pub(crate) fn checked(&self) -> Result<()> {
        let config = |problem: String| Err(Error::new(ErrorKind::Config, problem));
        let within = |name: &str, value: u32, least: u32, most: u32| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                config(format!(
                    "postgres.{name} is {value}, but must lie between {least} and {most}"
                ))
            }
        };
        within("connections", self.connections, 1, 100)?;
        within("connect-timeout-ms", self.connect_timeout_ms, 100, 600_000)?;
        within("call-timeout-ms", self.call_timeout_ms, 100, 600_000)?;
        let mut letters = self.schema.bytes();
        let begins = letters
            .next()
            .is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
        let goes_on = letters.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !begins || !goes_on || self.schema.len() > 63 || self.schema.starts_with("pg_") {
            return config(format!(
                "postgres.schema is `{}`, but must be of small letters, digits and underscores, begin with no digit and not \
                 with `pg_`, and have at most 63",
                self.schema.escape_debug()
            ));
        }
        Ok(())
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms.into())
    }

    pub(crate) fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_checked_and_unknown_keys_are_refused() {
        let read = |text: &str| serde_json::from_str::<Config>(text);
        assert_eq!(read("{}").unwrap(), Config::default());
        assert!(read(r#"{"urll": "x"}"#).unwrap_err().to_string().contains("urll"));
        assert!(
            read(r#"{"schema": "_o2", "migrations": "check"}"#)
                .unwrap()
                .checked()
                .is_ok()
        );
        for wrong in [
            r#"{"connections": 0}"#,
            r#"{"connect-timeout-ms": 99}"#,
            r#"{"call-timeout-ms": 600001}"#,
            r#"{"schema": ""}"#,
            r#"{"schema": "Orders"}"#,
            r#"{"schema": "1a"}"#,
            r#"{"schema": "a;b"}"#,
            r#"{"schema": "pg_a"}"#,
        ] {
            let error = read(wrong).unwrap().checked().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{wrong}");
        }
        let long = Config {
            schema: "a".repeat(64),
            ..Config::default()
        };
        assert!(long.checked().is_err());
    }

    #[test]
    fn a_configuration_shows_no_secret() {
        let config = Config {
            url: SecretUrl::new("postgres://ada:hunter2@db/orders"),
            password: Secret::new("hunter3"),
            ..Config::default()
        };
        let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
