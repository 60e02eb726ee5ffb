use std::{sync::Arc, time::Duration};

use redis::{Cmd, RedisError, Value, aio::MultiplexedConnection};
use tokio::{sync::Mutex, time::timeout};
use tracker_api::{CorruptRows, Error, ErrorKind, Result};

use crate::{
    config::{Config, Mode},
    error::{corrupt, of_server, too_late},
    route::{Failed, Route},
    script::{Keys, Script},
};

/// A connection, and which one it is: only the one that failed is given up.
#[derive(Clone)]
struct Held {
    number: u64,
    connection: MultiplexedConnection,
    place: String,
}

/// The one connection of a tracker. Calls share it, each waits for its own answer; after an outage, and after an answer that
/// came too late, the next call makes a new one.
pub(crate) struct Link {
    route: Route,
    keys: Keys,
    held: Mutex<(u64, Option<Held>)>,
    corrupt: CorruptRows,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("url", &self.route.target.shown)
            .finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(config: &Config, keys: Keys) -> Result<Arc<Self>> {
        let route = Route::new(config, keys.format())?;
        Ok(Arc::new(Self {
            route,
            keys,
            held: Mutex::new((0, None)),
            corrupt: CorruptRows::default(),
        }))
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The namespace's rows that could not be read.
    pub(crate) fn corrupt(&self) -> &CorruptRows {
        &self.corrupt
    }

    /// Puts a row aside that is not as we write it.
    pub(crate) fn met_corrupt(&self, row: String, key: &str) {
        let why = corrupt(format!("its value in the key `{key}`"), self.shown());
        self.corrupt.met(row, why.to_string());
    }

    /// The address for a person.
    pub(crate) fn shown(&self) -> &str {
        &self.route.target.shown
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
            let answer = self
                .once(doing, &call("EVALSHA", script.hash()), script.may_be_repeated())
                .await;
            match answer {
                Err(Failed::Server(error)) if error.code() == Some("NOSCRIPT") => {
                    self.once(doing, &call("EVAL", script.code()), script.may_be_repeated())
                        .await
                }
                answer => answer,
            }
        })
        .await
    }

    /// Sends one command, which may be repeated.
    pub(crate) async fn send(&self, doing: &str, command: &Cmd) -> Result<Value> {
        self.bounded(doing, self.once(doing, command, true)).await
    }

    async fn bounded(
        &self,
        doing: &str,
        work: impl Future<Output = std::result::Result<Value, Failed>>,
    ) -> Result<Value> {
        // Where a connection is to be made first, that has a bound of its own.
        let within = self.route.target.connect + self.route.target.call;
        match timeout(within, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Failed::Made(error))) => Err(error),
            Ok(Err(Failed::Server(error))) => Err(self.explained(&error, doing).await),
            Err(_) => Err(too_late(doing, self.shown(), within)),
        }
    }

    /// Says which key somebody else wrote.
    async fn explained(&self, error: &RedisError, doing: &str) -> Error {
        let place = self.shown();
        match error.code() {
            // Worth another look, to say of which key.
            Some("WRONGTYPE") => match self.foreign(doing).await {
                Some(key) => corrupt(key, place),
                None => of_server(error, doing, place),
            },
            _ => of_server(error, doing, place),
        }
    }

    /// The key that is of another type than ours.
    async fn foreign(&self, doing: &str) -> Option<String> {
        for (key, kind) in self.keys.all().iter().zip(Keys::TYPES) {
            let mut look = redis::cmd("TYPE");
            look.arg(key);
            if let Ok(Value::SimpleString(found)) = self.once(doing, &look, true).await
                && found != kind
                && found != "none"
            {
                return Some(format!(
                    "the key `{key}`, a {found} where this program keeps a {kind},"
                ));
            }
        }
        None
    }

    /// Asks, once in effect: where it may be `repeated`, a connection that turns out to be gone, as one is that nobody used for
    /// long, is made anew.
    async fn once(&self, doing: &str, command: &Cmd, repeated: bool) -> std::result::Result<Value, Failed> {
        // A server that no longer has the slot did nothing: the next one is asked.
        for attempt in 0..3 {
            let held = self.connection().await?;
            let mut connection = held.connection.clone();
            let answer = match timeout(
                self.route.target.call,
                command.query_async::<Value>(&mut connection),
            )
            .await
            {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(_) => {
                    // What comes later on this connection nobody reads.
                    self.give_up(held.number).await;
                    return Err(Failed::Made(too_late(
                        doing,
                        self.shown(),
                        self.route.target.call,
                    )));
                }
            };
            let code = answer.code();
            let moved = self.route.target.mode == Mode::Cluster && code == Some("MOVED");
            let elsewhere = matches!(code, Some("READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "NOAUTH"));
            // After a protocol error the server hangs up.
            let ended = code.is_none()
                || answer
                    .detail()
                    .is_some_and(|said| said.contains("Protocol error"));
            if moved || elsewhere || ended {
                self.give_up(held.number).await;
            }
            let gone = attempt == 0 && repeated && answer.is_connection_dropped();
            if !moved && !gone {
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
        let made = timeout(self.route.target.connect, self.route.find()).await;
        let (connection, place) =
            made.map_err(|_| Failed::Made(too_late("connecting", self.shown(), self.route.target.connect)))??;
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

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.route.target.connect
    }

    pub(crate) fn mode(&self) -> Mode {
        self.route.target.mode
    }
}
