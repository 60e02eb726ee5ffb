use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, TlsCertificates, Value, aio::MultiplexedConnection,
};
use tokio::time::timeout;
use tracker_api::{Error, ErrorKind, Result};

use crate::{
    config::{Config, Host, Login, Mode, Target},
    error::{of_server, too_late},
};

/// A connection, and the server that it leads to, for a person.
pub(crate) type Found = (MultiplexedConnection, String);

/// The way to the server that has a namespace: itself, the master that sentinels name, or the node of a cluster that has the
/// slot. So a namespace needs one connection, and the driver's own cluster client is not taken: that one repeats a command
/// whose answer was lost, and a claim that is repeated would say that it did not take.
pub(crate) struct Route {
    pub(crate) target: Target,
    certificates: Option<TlsCertificates>,
    /// A key of the namespace, to ask for its slot.
    key: String,
}

impl Route {
    pub(crate) fn new(config: &Config, key: &str) -> Result<Self> {
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
        let root_cert = read("tls-ca-file", &config.tls_ca_file)?;
        let pair = (
            read("tls-cert-file", &config.tls_cert_file)?,
            read("tls-key-file", &config.tls_key_file)?,
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
        Ok(Self {
            target,
            certificates,
            key: key.to_owned(),
        })
    }

    /// A connection to the server that has the namespace.
    pub(crate) async fn find(&self) -> std::result::Result<Found, Failed> {
        // One that does not answer must leave the others their time.
        let hosts = u32::try_from(self.target.hosts.len()).unwrap_or(u32::MAX).max(1);
        let within = self.target.connect / hosts;
        let mut last = None;
        for host in &self.target.hosts {
            match timeout(within, self.by(host)).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(failed)) => last = Some(failed),
                Err(_) => last = Some(Failed::Made(too_late("connecting", &self.target.shown, within))),
            }
        }
        Err(last.unwrap_or_else(|| Failed::Made(Error::new(ErrorKind::Config, "redis.url names no host"))))
    }

    async fn by(&self, host: &Host) -> std::result::Result<Found, Failed> {
        match self.target.mode {
            Mode::Standalone => self.connect(host, &self.target.login, self.target.database).await,
            Mode::Sentinel => self.by_sentinel(host).await,
            Mode::Cluster => self.by_cluster(host).await,
        }
    }

    async fn by_sentinel(&self, sentinel: &Host) -> std::result::Result<Found, Failed> {
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

    async fn by_cluster(&self, seed: &Host) -> std::result::Result<Found, Failed> {
        let mut host = seed.clone();
        for _ in 0..4 {
            let (mut connection, place) = self.connect(&host, &self.target.login, 0).await?;
            let asked: redis::RedisResult<Value> = redis::cmd("EXISTS")
                .arg(&self.key)
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
                self.target.shown
            ),
        )))
    }

    async fn connect(&self, host: &Host, login: &Login, database: u32) -> std::result::Result<Found, Failed> {
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
        let mut knock = redis::cmd("PING");
        if let Some(password) = &login.password {
            knock = redis::cmd("AUTH");
            if let Some(username) = &login.username {
                knock.arg(username);
            }
            knock.arg(password);
        }
        match knock.query_async::<Value>(&mut connection).await {
            // That it may not ping does not mean that it may not work.
            Err(error) if error.code() != Some("NOPERM") => return Err(named(error)),
            _ => {}
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
pub(crate) enum Failed {
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
