//! The connections to the server. The driver's own pool asks the server whether a connection lives before and after each use,
//! and takes back one whose call was dropped half way; here a call is one exchange, and a connection is used again only when
//! the call on it has come to its end.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions, PgConnection,
    postgres::{PgArguments, PgConnectOptions, PgRow},
};
use tokio::{sync::Semaphore, time::timeout};
use tracker_api::{Error, ErrorKind, Result};

use crate::{error, rows::Parameters, session::Session};

/// What stands between us and the server may have forgotten a connection that was idle for longer.
const IDLE: Duration = Duration::from_secs(60);
/// Deadlocks and serialization failures of one call, before it is the caller's to try again.
const COLLISIONS: u32 = 5;

/// What may be done when the answer to a statement was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// To send it again leads to the same answer.
    Same,
    /// A second answer could not be told from somebody else's doing.
    Never,
}

/// One statement: a text that depends on nothing stored, and what it is given.
pub(crate) struct Statement<'s> {
    /// What it does, for an error: `writing entries`.
    pub(crate) doing: &'s str,
    pub(crate) sql: Arc<str>,
    pub(crate) parameters: &'s (dyn Fn() -> Result<Parameters> + Sync),
    pub(crate) again: Again,
}

/// At most so many connections, made when they are needed.
pub(crate) struct Connections {
    options: PgConnectOptions,
    session: Session,
    /// The server, the database and the user, for errors.
    pub(crate) place: String,
    connect_timeout: Duration,
    call_timeout: Duration,
    permits: Semaphore,
    idle: Mutex<Vec<(PgConnection, Instant)>>,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Connections {
    pub(crate) fn new(
        options: PgConnectOptions,
        session: Session,
        most: usize,
        connect_timeout: Duration,
        call_timeout: Duration,
    ) -> Self {
        let at = options.get_socket().map_or_else(
            || format!("{}:{}", options.get_host(), options.get_port()),
            |socket| format!("{} (port {})", socket.display(), options.get_port()),
        );
        let database = options.get_database().unwrap_or(options.get_username());
        let place = format!("{at}/{database} as {}", options.get_username());
        Self {
            options,
            session,
            place,
            connect_timeout,
            call_timeout,
            permits: Semaphore::new(most),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// A new connection, outside of those that are shared.
    pub(crate) async fn connect(&self) -> Result<PgConnection> {
        let connecting = async {
            let connected = self.options.connect().await;
            let mut connection =
                connected.map_err(|error| error::of_driver(error, "connecting", &self.place))?;
            self.session.begin(&mut connection, &self.place).await?;
            Ok(connection)
        };
        match timeout(self.connect_timeout, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(self.late("connecting", self.connect_timeout, "postgres.connect-timeout-ms")),
        }
    }

    fn late(&self, doing: &str, within: Duration, setting: &str) -> Error {
        let message = format!(
            "{doing} in PostgreSQL at {} was not answered within {} ms: look at the server's load and the network, or raise {setting}",
            self.place,
            within.as_millis()
        );
        Error::new(ErrorKind::Timeout, message)
    }

    /// The rows that a statement answers. When the future is dropped, the connection is closed, never used again: the server
    /// ends the statement or rolls it back, and no other call reads its answer.
    pub(crate) async fn fetch(&self, statement: &Statement<'_>) -> Result<Vec<PgRow>> {
        match timeout(self.call_timeout, self.rows(statement)).await {
            Ok(rows) => rows,
            Err(_) => Err(self.late(statement.doing, self.call_timeout, "postgres.call-timeout-ms")),
        }
    }

    async fn rows(&self, statement: &Statement<'_>) -> Result<Vec<PgRow>> {
        let closed = |_| Error::new(ErrorKind::Unavailable, "the connections are closed");
        let _permit = self.permits.acquire().await.map_err(closed)?;
        let mut collisions = 0;
        loop {
            let (mut connection, used) = match self.take() {
                Some(connection) => (connection, true),
                None => (self.connect().await?, false),
            };
            let arguments: PgArguments = (statement.parameters)()?.into();
            let sql = sqlx::AssertSqlSafe(Arc::clone(&statement.sql));
            let error = match sqlx::query_with(sql, arguments).fetch_all(&mut connection).await {
                Ok(rows) => {
                    self.keep(connection);
                    return Ok(rows);
                }
                Err(error) => error,
            };
            if error::lost_to_others(&error) {
                self.keep(connection);
                if collisions < COLLISIONS {
                    collisions += 1;
                    tokio::time::sleep(jitter(collisions)).await;
                    continue;
                }
            } else if error::ends_the_connection(&error) {
                // The others were made before the server went, too.
                self.idle().clear();
                if used && statement.again == Again::Same {
                    continue;
                }
            } else if error::may_be_the_sessions(&error) {
                // A session may remember a fault that is over, and so may the others of its age; a new one does not. The
                // server has said that it did nothing, so the statement may be sent again whatever it is.
                self.idle().clear();
                if used {
                    continue;
                }
            } else {
                self.keep(connection);
            }
            return Err(error::of_driver(error, statement.doing, &self.place));
        }
    }

    fn take(&self) -> Option<PgConnection> {
        let mut idle = self.idle();
        idle.retain(|(_, since)| since.elapsed() < IDLE);
        idle.pop().map(|(connection, _)| connection)
    }

    fn keep(&self, connection: PgConnection) {
        self.idle().push((connection, Instant::now()));
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(PgConnection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So that two which collided do not collide again.
fn jitter(collisions: u32) -> Duration {
    let random = uuid::Uuid::new_v4().as_bytes()[0];
    Duration::from_micros(u64::from(random) * 40 * u64::from(collisions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn no_more_connections_are_made_at_once_than_configured() {
        let config: Config = serde_json::from_str(r#"{"connections": 3}"#).unwrap();
        let connections = crate::connections_of(&config, PgConnectOptions::new());
        assert_eq!(connections.permits.available_permits(), 3);
    }
}
