//! What a session must be for the store's promises.
//!
//! It is set after connecting, because a pooler refuses or drops what is asked for while connecting, and read back in
//! another exchange, because a pooler may give that another session: what nobody has read, nobody promises.

use sqlx::{PgConnection, Row, postgres::PgRow};
use tracker_api::{Error, ErrorKind, Result, Risk};
use uuid::Uuid;

use crate::{config::Config, connections::Connections, error};

/// A setting of ours that no server knows: what a session holds that another one does not.
const MARK: &str = "orchestrator.session";

/// The settings of each session, by name, in the server's base units.
#[derive(Clone, Debug)]
pub(crate) struct Session(Vec<(&'static str, String)>);

impl Session {
    /// What is acknowledged is on the disk, whatever the role or the database is set to; and no statement, lock or forgotten
    /// transaction outlives its call for long.
    pub(crate) fn of(config: &Config) -> Self {
        let call = u64::from(config.call_timeout_ms);
        Self(vec![
            ("search_path", config.schema.clone()),
            ("synchronous_commit", "on".to_owned()),
            ("statement_timeout", (call * 9 / 10).to_string()),
            ("lock_timeout", (call * 8 / 10).to_string()),
            ("idle_in_transaction_session_timeout", call.to_string()),
            ("plan_cache_mode", "force_custom_plan".to_owned()),
            ("jit", "off".to_owned()),
        ])
    }

    /// Makes a new connection one of these sessions.
    ///
    /// # Errors
    ///
    /// `Config` where a setting does not hold, naming it; else what the driver says.
    pub(crate) async fn begin(&self, connection: &mut PgConnection, place: &str) -> Result<()> {
        let mark = new_mark();
        let asked = self.0.iter().map(|(name, value)| (*name, value.as_str()));
        let (names, values): (Vec<&str>, Vec<&str>) = asked.chain([(MARK, mark.as_str())]).unzip();
        let set = "SELECT pg_catalog.set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS asked (name, value)";
        let done = sqlx::query(set)
            .persistent(false)
            .bind(&names)
            .bind(values)
            .fetch_all(&mut *connection)
            .await;
        done.map_err(|error| error::of_driver(error, "setting up a session", place))?;
        let read =
            "SELECT name, setting FROM pg_catalog.pg_settings WHERE name = ANY($1::text[]) AND name <> $2
            UNION ALL SELECT $2, pg_catalog.current_setting($2, true)";
        let rows = sqlx::query(read)
            .persistent(false)
            .bind(&names)
            .bind(MARK)
            .fetch_all(connection)
            .await;
        let rows = rows.map_err(|error| error::of_driver(error, "looking at a session", place))?;
        let found: Vec<(String, String)> = rows
            .iter()
            .filter_map(|row| Some((row.try_get(0).ok()?, row.try_get(1).ok()?)))
            .collect();
        if let Some(problem) = self.differs(&found) {
            return Err(not_ours(place, &problem));
        }
        if found.contains(&(MARK.to_owned(), mark)) {
            Ok(())
        } else {
            Err(not_ours(place, ANOTHER))
        }
    }

    /// The first setting that is not as it was set.
    fn differs(&self, found: &[(String, String)]) -> Option<String> {
        self.0.iter().find_map(|(name, asked)| {
            let held = found.iter().find(|(held, _)| held == name);
            match held {
                Some((_, held)) if held == asked => None,
                Some((_, held)) => Some(format!("its `{name}` was set to {asked} and is {held}")),
                None => Some(format!("it does not say its `{name}`")),
            }
        })
    }
}

/// What is wrong where the mark is another's or gone.
const ANOTHER: &str = "each statement meets another session";

fn new_mark() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Gives the session a mark that no other one has.
async fn mark(connection: &mut PgConnection, place: &str) -> Result<String> {
    let mark = new_mark();
    let set = "SELECT pg_catalog.set_config($1, $2, false)";
    let done = sqlx::query(set)
        .persistent(false)
        .bind(MARK)
        .bind(&mark)
        .fetch_one(connection)
        .await;
    done.map_err(|error| error::of_driver(error, "marking a session", place))?;
    Ok(mark)
}

/// Whether the session still has its mark: a pooler that pools transactions has given its place to somebody else.
async fn same(connection: &mut PgConnection, place: &str, mark: &str) -> Result<()> {
    let read = "SELECT pg_catalog.current_setting($1, true)";
    let found = sqlx::query(read)
        .persistent(false)
        .bind(MARK)
        .fetch_one(connection)
        .await;
    let found = found.map_err(|error| error::of_driver(error, "looking at a session", place))?;
    match found.try_get::<Option<String>, usize>(0) {
        Ok(Some(found)) if found == mark => Ok(()),
        _ => Err(not_ours(place, ANOTHER)),
    }
}

/// Looks whether two connections are two sessions. Behind a pooler that pools transactions both meet one session of the
/// server's while nothing else runs, and the second one's mark stands in the first one's place.
pub(crate) async fn apart(connections: &Connections) -> Result<()> {
    let (mut one, mut other) = (connections.connect().await?, connections.connect().await?);
    let place = &connections.place;
    let mark_of_one = mark(&mut one, place).await?;
    mark(&mut other, place).await?;
    same(&mut one, place, &mark_of_one).await
}

fn not_ours(place: &str, problem: &str) -> Error {
    Error::new(
        ErrorKind::Config,
        format!(
            "PostgreSQL at {place}: the session is not what it was set up to be: {problem}. A pooler or proxy stands in between: \
             let it pool sessions (pgbouncer: pool_mode = session for this database), or connect to the server itself; \
             docs/stores/postgres.md says what is supported"
        ),
    )
}

/// What the server and the tables, as they are set up now, cannot promise; `$1` is the schema.
pub(crate) const PROMISES: &str = "SELECT pg_catalog.current_setting('fsync'), pg_catalog.current_setting('full_page_writes'),
    pg_catalog.current_setting('synchronous_commit'),
    (SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1::text AND c.relname IN ('entry', 'progress', 'namespace') AND c.relpersistence <> 'p') > 0";

/// The risks that a row of [`PROMISES`] says.
pub(crate) fn risks(row: &PgRow) -> Result<Vec<Risk>> {
    let wrong = |error| error::of_driver(error, "reading the server's answer", "PostgreSQL");
    let mut risks = Vec::new();
    for (column, name, loss) in [
        (
            0,
            "fsync",
            "when its machine fails, what was acknowledged may be lost and the database damaged",
        ),
        (
            1,
            "full_page_writes",
            "when its machine fails during a write, the database may be damaged",
        ),
        (
            2,
            "synchronous_commit",
            "when the server fails, what was acknowledged last may be lost",
        ),
    ] {
        if row.try_get::<&str, usize>(column).map_err(wrong)? != "on" {
            risks.push(Risk {
                name: format!("postgres-no-{}", name.replace('_', "-")),
                what: format!("the server's {name} is off: {loss}; set {name} = on"),
            });
        }
    }
    if row.try_get::<bool, usize>(3).map_err(wrong)? {
        risks.push(Risk {
            name: "postgres-unlogged".to_owned(),
            what: "a table is UNLOGGED: the server empties it when it was not shut down in order; ALTER TABLE … SET LOGGED"
                .to_owned(),
        });
    }
    Ok(risks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_that_does_not_hold_is_named() {
        let session = Session::of(&Config::default());
        let mut found: Vec<(String, String)> = session
            .0
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        assert_eq!(session.differs(&found), None);
        found[1].1 = "off".to_owned();
        let told = session.differs(&found).unwrap();
        assert_eq!(told, "its `synchronous_commit` was set to on and is off");
        found.remove(1);
        let told = session.differs(&found).unwrap();
        assert!(told.contains("`synchronous_commit`"), "{told}");
    }
}
