use std::{path::PathBuf, time::Duration};

use mongodb::options::{ClientOptions, ServerAddress, Tls, TlsOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_api::{Error, ErrorKind, Result, Secret, SecretUrl};

use crate::error::{self, Heard, Place};

/// The section `mongo` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// The server's address, such as `mongodb://db1,db2/?replicaSet=rs0&tls=true` or `mongodb+srv://…`. It must be set. Read and
    /// write concern are not taken from it: what must be durable is written with `majority` and journal.
    pub url: SecretUrl,
    /// The user; instead of the one in the address.
    pub username: Option<String>,
    /// The user's password; instead of the one in the address, so that it can come from a file. Empty means none.
    pub password: Secret,
    /// The database, which holds the collections `tracker_entries` and `tracker_namespaces` (1 to 63 bytes).
    pub database: String,
    /// Connections at most (1 to 1000).
    pub connections: u32,
    /// How long opening waits for the server, and every call for a server that can be written to, in milliseconds
    /// (10 to 600000).
    pub connect_timeout_ms: u64,
    /// How long a call may take, in milliseconds (10 to 600000). The server is told the same bound.
    pub call_timeout_ms: u64,
    /// Whether a connection without TLS to another host is accepted. Without it only loopback and sockets may go without.
    pub allow_plaintext: bool,
    /// A file with the certificates of the authorities that may sign the server's (PEM). Setting it turns TLS on.
    pub tls_ca_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: SecretUrl::default(),
            username: None,
            password: Secret::default(),
            database: "orchestrator".to_owned(),
            connections: 8,
            connect_timeout_ms: 5_000,
            call_timeout_ms: 10_000,
            allow_plaintext: false,
            tls_ca_file: None,
        }
    }
}

fn wrong(problem: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, problem)
}

impl Config {
    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(crate) fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms)
    }

    fn check(&self) -> Result<()> {
        if self.url.expose().is_empty() {
            return Err(wrong(
                "mongo.url is not set: name the server, such as mongodb://localhost:27017/",
            ));
        }
        let within = |name: &str, value: u64, least: u64, most: u64| {
            let problem = || {
                wrong(format!(
                    "mongo.{name} is {value}, but must lie between {least} and {most}"
                ))
            };
            (least..=most).contains(&value).then_some(()).ok_or_else(problem)
        };
        within("connections", self.connections.into(), 1, 1_000)?;
        within("connect-timeout-ms", self.connect_timeout_ms, 10, 600_000)?;
        within("call-timeout-ms", self.call_timeout_ms, 10, 600_000)?;
        let fits = |c: char| !c.is_control() && !"/\\. \"$*<>:|?".contains(c);
        if !(1..=63).contains(&self.database.len()) || !self.database.chars().all(fits) {
            return Err(wrong(format!(
                "mongo.database is `{}`: a name of 1 to 63 bytes, without control characters, spaces and any of /\\.\"$*<>:|?",
                self.database.escape_debug()
            )));
        }
        Ok(())
    }

    /// What the driver is told.
    pub(crate) async fn options(&self) -> Result<ClientOptions> {
        self.check()?;
        // An address with `+srv` asks the name server.
        let parsed = tokio::time::timeout(
            self.connect_timeout(),
            ClientOptions::parse(self.url.expose()).into_future(),
        );
        let mut options = match parsed.await {
            Ok(parsed) => parsed.map_err(|problem| error::of_address(&problem, &self.url))?,
            Err(_) => {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    format!(
                        "the name server did not say in {} ms which hosts mongo.url means",
                        self.connect_timeout_ms
                    ),
                ));
            }
        };
        if let Some(file) = &self.tls_ca_file {
            // The driver would not say which file it misses.
            std::fs::File::open(file)
                .map_err(|error| wrong(format!("mongo.tls-ca-file: {}: {error}", file.display())))?;
            let mut tls = match options.tls.take() {
                Some(Tls::Enabled(tls)) => tls,
                _ => TlsOptions::default(),
            };
            tls.ca_file_path = Some(file.clone());
            options.tls = Some(Tls::Enabled(tls));
        }
        self.refuse_plaintext(&options)?;
        let user = self.username.as_deref().filter(|user| !user.is_empty());
        if user.is_some() || !self.password.expose().is_empty() {
            let mut credential = options.credential.take().unwrap_or_default();
            if let Some(user) = user {
                credential.username = Some(user.to_owned());
            }
            if credential.username.is_none() {
                return Err(wrong("mongo.password is set, but no user: set mongo.username"));
            }
            if !self.password.expose().is_empty() {
                credential.password = Some(self.password.expose().to_owned());
            }
            options.credential = Some(credential);
        }
        options
            .app_name
            .get_or_insert_with(|| "orders-orchestrator".to_owned());
        options.max_pool_size = Some(self.connections);
        options.connect_timeout = Some(self.connect_timeout());
        // A little less than a call may take, so that a missing primary is told as that, not as a call without an answer.
        options.server_selection_timeout = Some(self.connect_timeout().min(self.call_timeout()).mul_f32(0.8));
        // A read that the network cut is asked again by the driver; a write never: the commands that write are ours, they
        // join, and who retries them is the caller.
        options.retry_reads = Some(true);
        options.retry_writes = Some(false);
        Ok(options)
    }

    fn refuse_plaintext(&self, options: &ClientOptions) -> Result<()> {
        if self.allow_plaintext || matches!(options.tls, Some(Tls::Enabled(_))) {
            return Ok(());
        }
        match options.hosts.iter().find(|host| !is_local(host)) {
            None => Ok(()),
            Some(host) => Err(wrong(format!(
                "mongo.url connects to `{host}` without TLS, so anybody on the way can read and change what is tracked: add \
                 tls=true to the address, or set mongo.allow-plaintext to true if the network is yours alone"
            ))),
        }
    }

    /// Where errors say that something happened.
    pub(crate) fn place(&self, options: &mut ClientOptions) -> Place {
        let hosts: Vec<String> = options.hosts.iter().map(ToString::to_string).collect();
        let user = options
            .credential
            .as_ref()
            .and_then(|credential| credential.username.clone());
        Place {
            hosts: hosts.join(","),
            database: self.database.clone(),
            user,
            heard: Heard::listen(options),
        }
    }
}

fn is_local(host: &ServerAddress) -> bool {
    match host {
        ServerAddress::Tcp { host, .. } => {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            bare.eq_ignore_ascii_case("localhost")
                || bare
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        }
        // A socket of this machine.
        _ => true,
    }
}

#[cfg(test)]
mod tests;
