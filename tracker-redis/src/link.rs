use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, TlsCertificates, Value, aio::MultiplexedConnection,
};
use tokio::{sync::Mutex, time::timeout};
use tracker_api::{Error, ErrorKind, Result};

use crate::{
    config::{Config, Host, Login, Mode, Target},
    error::{of_server, too_late},
    script::{Keys, Script},
};

/// A connection, and which one it is: only the one that failed is given up.
#[derive(Clone)]
struct Held {
    number: u64,
    connection: MultiplexedConnection,
    place: String,
}

/// The one connection of a tracker. Calls share it, each waits for its own answer; after an outage the next call makes a
/// new one. A namespace lives on one server, also in a cluster, so the server that has its slot is looked for, not driven
/// by the driver's own cluster client: that one repeats a command whose answer was lost, and a repeated claim would say
/// that it did not take.
pub(crate) struct Link {
    target: Target,
    certificates: Option<TlsCertificates>,
    keys: Keys,
    held: Mutex<(u64, Option<Held>)>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("url", &self.target.shown)
            .finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(config: &Config, keys: Keys) -> Result<Arc<Self>> {
        let target = config.checked()?;
        let read = |name: &str, path: &Option<std::path::PathBuf>| {
            let bytes = path.as_ref().map(std::fs::read).transpose();
            bytes.map_err(|error| {
                let path = path.as_deref().unwrap_or(std::path::Path::new("")).display();
                Error::new(
                    ErrorKind::Config,
                    format!("redis.{name} {path} cannot be read: {error}"),
                )
            })
        };
        let root_cert = read("tls-ca", &config.tls_ca)?;
        let pair = (
            read("tls-cert", &config.tls_cert)?,
            read("tls-key", &config.tls_key)?,
        );
        let client_tls = match pair {
            (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig {
                client_cert,
                client_key,
            }),
            _ => None,
        };
        if target.tls {
            // Two drivers in one program may bring two providers, and then the library asks which one is meant.
            rustls::crypto::ring::default_provider().install_default().ok();
        }
        let certificates = (target.tls).then_some(TlsCertificates {
            client_tls,
            root_cert,
        });
        Ok(Arc::new(Self {
            target,
            certificates,
            keys,
            held: Mutex::new((0, None)),
        }))
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The address for a person.
    pub(crate) fn shown(&self) -> &str {
        &self.target.shown
    }

    /// Runs a script over the namespace's keys: one exchange, but for a server that has not seen the script yet.
    pub(crate) async fn run(&self, script: &Script, doing: &str, arguments: &[Vec<u8>]) -> Result<Value> {
        let call = |name: &str, code: &str| {
            let mut cmd = Cmd::new();
            cmd.arg(name)
                .arg(code)
                .arg(self.keys.all().len())
                .arg(self.keys.all())
                .arg(arguments);
            cmd
        };
        self.bounded(doing, async {
            let answer = self.once(doing, &call("EVALSHA", script.hash())).await;
            match answer {
                Err(Failed::Server(error)) if error.code() == Some("NOSCRIPT") => {
                    self.once(doing, &call("EVAL", script.code())).await
                }
                answer => answer,
            }
        })
        .await
    }

    /// Sends one command.
    pub(crate) async fn send(&self, doing: &str, command: &Cmd) -> Result<Value> {
        self.bounded(doing, self.once(doing, command)).await
    }

    async fn bounded(
        &self,
        doing: &str,
        work: impl Future<Output = std::result::Result<Value, Failed>>,
    ) -> Result<Value> {
        // Where a connection is to be made first, that has a bound of its own.
        let within = self.target.connect + self.target.call;
        match timeout(within, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Failed::Made(error))) => Err(error),
            Ok(Err(Failed::Server(error))) => Err(self.explained(&error, doing).await),
            Err(_) => Err(too_late(doing, self.shown(), within)),
        }
    }

    /// A wrong type is worth another look, to say of which key.
    async fn explained(&self, error: &RedisError, doing: &str) -> Error {
        let explained = of_server(error, doing, self.shown());
        if error.code() != Some("WRONGTYPE") {
            return explained;
        }
        for (key, kind) in self.keys.all().iter().zip(Keys::TYPES) {
            let mut look = redis::cmd("TYPE");
            look.arg(key);
            if let Ok(Value::SimpleString(found)) = self.once(doing, &look).await {
                if found != kind && found != "none" {
                    return Error::new(
                        ErrorKind::Corrupt,
                        format!(
                            "{doing} at {} failed: the key `{key}` is a {found}, where this program keeps a {kind}: somebody \
                             else wrote it; move it away, or restore it from a backup",
                            self.shown()
                        ),
                    );
                }
            }
        }
        explained
    }

    async fn once(&self, doing: &str, command: &Cmd) -> std::result::Result<Value, Failed> {
        // A server that no longer has the slot did nothing: the next one is asked.
        for _ in 0..3 {
            let held = self.connection().await?;
            let mut connection = held.connection.clone();
            let answer = match timeout(self.target.call, command.query_async::<Value>(&mut connection)).await
            {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(_) => {
                    // What comes later on this connection nobody reads.
                    self.give_up(held.number).await;
                    return Err(Failed::Made(too_late(doing, self.shown(), self.target.call)));
                }
            };
            let moved = self.target.mode == Mode::Cluster && answer.code() == Some("MOVED");
            let elsewhere = matches!(answer.code(), Some("READONLY" | "MASTERDOWN" | "CLUSTERDOWN"));
            if moved || elsewhere || answer.code().is_none() {
                self.give_up(held.number).await;
            }
            if !moved {
                return Err(Failed::Server(answer));
            }
        }
        Err(Failed::Made(Error::new(
            ErrorKind::Unavailable,
            format!(
                "{doing} at {} failed: its nodes name each other as the one that has the slot; wait",
                self.shown()
            ),
        )))
    }

    async fn give_up(&self, number: u64) {
        let mut held = self.held.lock().await;
        if held.1.as_ref().is_some_and(|held| held.number == number) {
            held.1 = None;
        }
    }

    async fn connection(&self) -> std::result::Result<Held, Failed> {
        let mut slot = self.held.lock().await;
        if let Some(held) = &slot.1 {
            return Ok(held.clone());
        }
        let made = timeout(self.target.connect, self.make()).await;
        let (connection, place) =
            made.map_err(|_| Failed::Made(too_late("connecting", self.shown(), self.target.connect)))??;
        slot.0 += 1;
        let held = Held {
            number: slot.0,
            connection,
            place,
        };
        tracing::debug!(server = %held.place, "connected");
        slot.1 = Some(held.clone());
        Ok(held)
    }

    /// A connection to the server that has the namespace.
    async fn make(&self) -> std::result::Result<(MultiplexedConnection, String), Failed> {
        let mut last = None;
        for host in &self.target.hosts {
            let found = match self.target.mode {
                Mode::Standalone => self.connect(host, &self.target.login, self.target.database).await,
                Mode::Sentinel => self.by_sentinel(host).await,
                Mode::Cluster => self.by_cluster(host).await,
            };
            match found {
                Ok(found) => return Ok(found),
                Err(failed) => last = Some(failed),
            }
        }
        Err(last.unwrap_or_else(|| Failed::Made(Error::new(ErrorKind::Config, "redis.url names no host"))))
    }

    async fn by_sentinel(
        &self,
        sentinel: &Host,
    ) -> std::result::Result<(MultiplexedConnection, String), Failed> {
        let (mut connection, place) = self.connect(sentinel, &self.target.sentinel_login, 0).await?;
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("get-master-addr-by-name").arg(&self.target.master);
        let answer: Option<(String, u16)> = ask.query_async(&mut connection).await?;
        let Some((name, port)) = answer else {
            let message = format!(
                "the sentinel at {place} knows no group `{}`: correct redis.sentinel-master",
                self.target.master.escape_debug()
            );
            return Err(Failed::Made(Error::new(ErrorKind::Config, message)));
        };
        let (mut connection, place) = self
            .connect(&Host::Tcp(name, port), &self.target.login, self.target.database)
            .await?;
        // A sentinel may not have noticed yet that the master has changed.
        let role: Vec<Value> = redis::cmd("ROLE").query_async(&mut connection).await?;
        match role.first() {
            Some(Value::BulkString(role)) if role == b"master" => Ok((connection, place)),
            _ => Err(Failed::Made(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "{place} is no master, though the sentinels say so: wait for the end of the failover"
                ),
            ))),
        }
    }

    async fn by_cluster(&self, seed: &Host) -> std::result::Result<(MultiplexedConnection, String), Failed> {
        let mut host = seed.clone();
        for _ in 0..4 {
            let (mut connection, place) = self.connect(&host, &self.target.login, 0).await?;
            let asked: redis::RedisResult<Value> = redis::cmd("EXISTS")
                .arg(self.keys.format())
                .query_async(&mut connection)
                .await;
            match asked {
                Ok(_) => return Ok((connection, place)),
                Err(error) if error.code() == Some("MOVED") => host = moved_to(&error, &host).ok_or(error)?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failed::Made(Error::new(
            ErrorKind::Unavailable,
            format!(
                "the nodes of the cluster at {} name each other as the one that has the slot: wait",
                self.shown()
            ),
        )))
    }

    async fn connect(
        &self,
        host: &Host,
        login: &Login,
        database: u32,
    ) -> std::result::Result<(MultiplexedConnection, String), Failed> {
        self.target.admit(host)?;
        let (address, place) = match host {
            Host::Unix(path) => (ConnectionAddr::Unix(path.clone()), path.display().to_string()),
            Host::Tcp(name, port) if self.target.tls => {
                let address = ConnectionAddr::TcpTls {
                    host: name.clone(),
                    port: *port,
                    insecure: false,
                    tls_params: None,
                };
                (address, format!("{name}:{port}"))
            }
            Host::Tcp(name, port) => (ConnectionAddr::Tcp(name.clone(), *port), format!("{name}:{port}")),
        };
        let doing = |error: RedisError| Failed::Made(of_server(&error, "connecting", &place));
        let info = address
            .into_connection_info()
            .map_err(doing)?
            // The driver's own login takes every answer for a wrong password.
            .set_redis_settings(RedisConnectionInfo::default().set_skip_set_lib_name());
        let client = match &self.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
            None => Client::open(info),
        };
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.target.connect))
            .set_response_timeout(None);
        let client = client.map_err(doing)?;
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&settings)
            .await
            .map_err(doing)?;
        let named = |error: RedisError| {
            let user = login.username.as_deref().unwrap_or("default");
            let doing = format!("logging in as `{}`", user.escape_debug());
            Failed::Made(of_server(&error, &doing, &place))
        };
        if let Some(password) = &login.password {
            let mut auth = redis::cmd("AUTH");
            if let Some(username) = &login.username {
                auth.arg(username);
            }
            let _: Value = auth
                .arg(password)
                .query_async(&mut connection)
                .await
                .map_err(named)?;
        }
        if database != 0 {
            let mut select = redis::cmd("SELECT");
            let _: Value = select
                .arg(database)
                .query_async(&mut connection)
                .await
                .map_err(named)?;
        }
        Ok((connection, place))
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.target.connect
    }

    pub(crate) fn mode(&self) -> Mode {
        self.target.mode
    }
}

/// The node of `MOVED slot host:port`; a node that does not know its own name answers none, and means the one that was asked.
fn moved_to(error: &RedisError, asked: &Host) -> Option<Host> {
    let (name, port) = error
        .detail()?
        .split_ascii_whitespace()
        .nth(1)?
        .rsplit_once(':')?;
    let port = port.parse().ok()?;
    match asked {
        Host::Tcp(same, _) if name.is_empty() => Some(Host::Tcp(same.clone(), port)),
        _ if name.is_empty() => None,
        _ => Some(Host::Tcp(name.trim_matches(['[', ']']).to_owned(), port)),
    }
}

/// A failure that has its words already, or one of the server's or the connection's.
enum Failed {
    Made(Error),
    Server(RedisError),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Made(error)
    }
}

impl From<RedisError> for Failed {
    fn from(error: RedisError) -> Self {
        Self::Server(error)
    }
}
