use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_api::{Error, ErrorKind, Result, Secret, SecretUrl};

/// The section `redis` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Must be set. The server's address, `redis://host:6379/0`, with TLS `rediss://host:6379/0`, or `unix:///path/to/redis.sock`. Of a
    /// cluster or of sentinels several hosts may be named, with commas between them.
    pub url: SecretUrl,
    /// What stands at the address. Without it: sentinels where `sentinel-master` is set, a cluster where several hosts are
    /// named, otherwise one server.
    pub mode: Option<Mode>,
    /// The user's name, in place of the one in the address.
    pub username: Option<String>,
    /// The user's password, in place of the one in the address.
    pub password: Option<Secret>,
    /// The database's number (0 to 1000000), in place of the one in the address. A cluster has only 0.
    pub database: Option<u32>,
    /// What the sentinels call the group of servers.
    pub sentinel_master: Option<String>,
    /// The user's name at the sentinels, where they ask for one.
    pub sentinel_username: Option<String>,
    /// The password at the sentinels, where they ask for one.
    pub sentinel_password: Option<Secret>,
    /// A file with the certificates (PEM) of those who may sign the server's, in place of the system's.
    pub tls_ca_file: Option<PathBuf>,
    /// A file with our own certificate (PEM), where the server asks for one; with `tls-key-file`.
    pub tls_cert_file: Option<PathBuf>,
    /// A file with the key (PEM) of our own certificate.
    pub tls_key_file: Option<PathBuf>,
    /// Whether a connection without TLS may leave this machine.
    pub allow_plaintext: bool,
    /// How long a connection may take to be made, in milliseconds (100 to 600000).
    pub connect_timeout_ms: u64,
    /// How long an answer may take, in milliseconds (100 to 600000).
    pub call_timeout_ms: u64,
}

/// What stands at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// One server.
    Standalone,
    /// Sentinels, who know which server is the master.
    Sentinel,
    /// A cluster's nodes.
    Cluster,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: SecretUrl::default(),
            mode: None,
            username: None,
            password: None,
            database: None,
            sentinel_master: None,
            sentinel_username: None,
            sentinel_password: None,
            tls_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            allow_plaintext: false,
            connect_timeout_ms: 5_000,
            call_timeout_ms: 5_000,
        }
    }
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// Who asks.
#[derive(Clone, Default)]
pub(crate) struct Login {
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
}

/// A configuration that has been checked and taken apart.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) shown: String,
    pub(crate) mode: Mode,
    pub(crate) hosts: Vec<Host>,
    pub(crate) tls: bool,
    pub(crate) login: Login,
    pub(crate) sentinel_login: Login,
    pub(crate) master: String,
    pub(crate) database: u32,
    pub(crate) allow_plaintext: bool,
    pub(crate) connect: Duration,
    pub(crate) call: Duration,
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message)
}

impl Config {
    pub(crate) fn checked(&self) -> Result<Target> {
        let within = |name: &str, value: u64| {
            let problem =
                format!("redis.{name} is {value}, but must lie between 100 and 600000 milliseconds");
            if (100..=600_000).contains(&value) {
                Ok(Duration::from_millis(value))
            } else {
                Err(wrong(problem))
            }
        };
        let connect = within("connect-timeout-ms", self.connect_timeout_ms)?;
        let call = within("call-timeout-ms", self.call_timeout_ms)?;
        let shown = self.url.shown();
        if self.url.expose().is_empty() {
            return Err(wrong(
                "redis.url is not set: name the server, such as redis://localhost:6379/0",
            ));
        }
        let url = parse(self.url.expose()).map_err(|problem| {
            wrong(format!(
                "redis.url `{shown}` {problem}: write redis://host:6379, rediss://host:6379 or unix:///path"
            ))
        })?;
        let several = url.hosts.len() > 1;
        let mode = match self.mode {
            Some(mode) => mode,
            None if self.sentinel_master.is_some() => Mode::Sentinel,
            None if several => Mode::Cluster,
            None => Mode::Standalone,
        };
        let database = self.database.unwrap_or(url.database);
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let opened = |secret: &Option<Secret>| {
            let text = secret.as_ref().map(Secret::expose);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let master = filled(&self.sentinel_master);
        match mode {
            Mode::Standalone if several => {
                return Err(wrong(format!(
                    "redis.url `{shown}` names several hosts, but redis.mode is standalone: name one, or say cluster or sentinel"
                )));
            }
            Mode::Sentinel if master.is_none() => {
                return Err(wrong(
                    "redis.mode is sentinel, but redis.sentinel-master is not set: say what the sentinels call the group",
                ));
            }
            Mode::Cluster if database != 0 => {
                return Err(wrong(format!(
                    "redis.database is {database}, but a cluster has only 0"
                )));
            }
            _ => {}
        }
        if database > 1_000_000 {
            return Err(wrong(format!(
                "redis.database is {database}, but must lie between 0 and 1000000"
            )));
        }
        if self.tls_cert_file.is_some() != self.tls_key_file.is_some() {
            return Err(wrong(
                "redis.tls-cert-file and redis.tls-key-file belong together: set both, or neither",
            ));
        }
        let target = Target {
            shown,
            mode,
            hosts: url.hosts,
            tls: url.tls,
            login: Login {
                username: filled(&self.username).or(url.login.username),
                password: opened(&self.password).or(url.login.password),
            },
            sentinel_login: Login {
                username: filled(&self.sentinel_username),
                password: opened(&self.sentinel_password),
            },
            master: master.unwrap_or_default(),
            database,
            allow_plaintext: self.allow_plaintext,
            connect,
            call,
        };
        target.hosts.iter().try_for_each(|host| target.admit(host))?;
        Ok(target)
    }
}

impl Target {
    /// Refuses a host to which a connection would leave this machine in plain text. Asked of what sentinels and clusters
    /// answer too.
    pub(crate) fn admit(&self, host: &Host) -> Result<()> {
        let Host::Tcp(name, port) = host else {
            return Ok(());
        };
        let loopback = name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        if self.tls || loopback || self.allow_plaintext {
            return Ok(());
        }
        Err(wrong(format!(
            "the connection to redis at {name}:{port} would cross the network in plain text: use rediss:// in redis.url, or \
             set redis.allow-plaintext if the network is trusted"
        )))
    }
}

struct Url {
    tls: bool,
    hosts: Vec<Host>,
    login: Login,
    database: u32,
}

fn parse(url: &str) -> Result<Url, &'static str> {
    let (scheme, rest) = url.split_once("://").ok_or("is no address")?;
    let (tls, unix) = match scheme {
        "redis" => (false, false),
        "rediss" => (true, false),
        "unix" | "redis+unix" => (false, true),
        _ => return Err("is of an unknown kind"),
    };
    let (login, rest) = match rest.rsplit_once('@') {
        Some((who, rest)) => (login(who)?, rest),
        None => (Login::default(), rest),
    };
    if rest.contains(['?', '#']) {
        return Err("has a query, which nothing reads (each setting has a name of its own in this section)");
    }
    if unix {
        let hosts = vec![Host::Unix(PathBuf::from(rest))];
        if !rest.starts_with('/') {
            return Err("has no path that begins with /");
        }
        return Ok(Url {
            tls,
            hosts,
            login,
            database: 0,
        });
    }
    let (places, database) = match rest.split_once('/') {
        None | Some((_, "")) => (rest.trim_end_matches('/'), 0),
        Some((places, number)) => (
            places,
            number.parse().map_err(|_| "names a database that is no number")?,
        ),
    };
    let hosts = places.split(',').map(host).collect::<Result<Vec<_>, _>>()?;
    Ok(Url {
        tls,
        hosts,
        login,
        database,
    })
}

fn host(place: &str) -> Result<Host, &'static str> {
    let (name, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']').ok_or("has a [ without a ]")?;
            (name, port.strip_prefix(':'))
        }
        None => match place.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (place, None),
        },
    };
    if name.is_empty() {
        return Err("names no host");
    }
    let port = match port {
        Some(port) => port
            .parse()
            .map_err(|_| "has a port that is no number up to 65535")?,
        None => 6379,
    };
    Ok(Host::Tcp(name.to_owned(), port))
}

fn login(who: &str) -> Result<Login, &'static str> {
    let (username, password) = match who.split_once(':') {
        Some((username, password)) => (username, Some(password)),
        None => (who, None),
    };
    let read = |text: &str| -> Result<Option<String>, &'static str> {
        let text = decoded(text).ok_or("has a % that is not followed by two hexadecimal digits")?;
        Ok((!text.is_empty()).then_some(text))
    };
    Ok(Login {
        username: read(username)?,
        password: password.map(read).transpose()?.flatten(),
    })
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first == b'%' {
            let (digits, tail) = rest.split_first_chunk::<2>()?;
            rest = tail;
            let digits = std::str::from_utf8(digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
