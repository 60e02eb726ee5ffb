//! The tables: whether they are there, of which version, and what the role may do with them.

use sqlx::{Connection, Executor, PgConnection, Row, postgres::PgRow};
use tracker_api::{Error, ErrorKind, Namespace, Result};

use crate::{
    config::{Config, Migrations},
    connections::Connections,
    error, session, text,
};

/// Each takes the schema from the version before it to its own, the first from nothing to 1.
const MIGRATIONS: [&str; 2] = [
    include_str!("../../migrations/postgres/0001_entries.sql"),
    include_str!("../../migrations/postgres/0002_progress_writer.sql"),
];

/// The version that this code reads and writes.
fn ours() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

/// What was found when the store was opened.
pub(crate) struct Opened {
    pub(crate) namespace: i32,
    /// The namespace's name as it is stored.
    pub(crate) name: Vec<u8>,
}

struct Opening<'o> {
    connection: PgConnection,
    config: &'o Config,
    place: String,
}

/// Makes or checks the schema, and claims the namespace. On a connection of its own, which ends with it.
pub(crate) async fn open(
    connections: &Connections,
    config: &Config,
    namespace: &Namespace,
) -> Result<Opened> {
    let mut opening = Opening {
        connection: connections.connect().await?,
        config,
        place: format!("{}, schema {}", connections.place, config.schema),
    };
    opening.server().await?;
    opening.tables().await?;
    opening.grants().await?;
    session::apart(connections).await?;
    let (id, name) = opening.claim(namespace).await?;
    // The server need not be told for the tracker to work.
    let _ = opening.connection.close().await;
    Ok(Opened { namespace: id, name })
}

impl Opening<'_> {
    fn config_error(&self, problem: &str) -> Error {
        Error::new(
            ErrorKind::Config,
            format!("PostgreSQL at {}: {problem}", self.place),
        )
    }

    async fn row(&mut self, doing: &str, sql: &'static str) -> Result<PgRow> {
        let row = sqlx::query(sql)
            .bind(&self.config.schema)
            .fetch_one(&mut self.connection)
            .await;
        row.map_err(|error| error::of_driver(error, doing, &self.place))
    }

    fn read<'r, T>(&self, row: &'r PgRow, column: usize) -> Result<T>
    where
        T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        row.try_get(column)
            .map_err(|error| error::of_driver(error, "reading the server's answer", &self.place))
    }

    /// Whether it is a server that can be used.
    async fn server(&mut self) -> Result<()> {
        let row = self
            .row(
                "asking for the server's settings",
                "SELECT current_setting('server_version_num')::int4, current_setting('server_version'),
                    current_setting('server_encoding'), $1::text",
            )
            .await?;
        if self.read::<i32>(&row, 0)? < 140_000 {
            let version: String = self.read(&row, 1)?;
            return Err(self.config_error(&format!("it is version {version}, but at least 14 is needed")));
        }
        let encoding: String = self.read(&row, 2)?;
        if encoding != "UTF8" {
            return Err(self.config_error(&format!(
                "the database's encoding is {encoding}, which cannot hold every text: create one with ENCODING 'UTF8'"
            )));
        }
        Ok(())
    }

    /// The version of the tables; 0 where there are none.
    async fn version(&mut self) -> Result<i32> {
        let row = self
            .row(
                "looking for the schema",
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                        WHERE n.nspname = $1 AND c.relname = 'schema_version'),
                    (SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE') FROM pg_catalog.pg_namespace n WHERE n.nspname = $1)",
            )
            .await?;
        if !self.read::<bool>(&row, 0)? {
            return Ok(0);
        }
        if self.read::<Option<bool>>(&row, 1)? != Some(true) {
            return Err(self.config_error(&format!(
                "the role may not use the schema: GRANT USAGE ON SCHEMA {} TO it; docs/stores/postgres.md lists what else it needs",
                self.config.schema
            )));
        }
        let row = self
            .row(
                "reading the schema's version",
                "SELECT coalesce(max(version), 0), $1::text FROM schema_version",
            )
            .await?;
        self.read(&row, 0)
    }

    async fn tables(&mut self) -> Result<()> {
        let found = self.version().await?;
        if found > ours() {
            return Err(self.config_error(&format!(
                "the tables are of version {found}, and this program knows up to {}: it is older than the one that made them; \
                 use a newer program or another schema",
                ours()
            )));
        }
        if found == ours() {
            return Ok(());
        }
        match self.config.migrations {
            Migrations::Apply => self.migrate().await,
            Migrations::Check => {
                let is = match found {
                    0 => "the tables are missing".to_owned(),
                    _ => format!(
                        "the tables are of version {found}, and this program needs {}",
                        ours()
                    ),
                };
                Err(self.config_error(&format!(
                    "{is}, and postgres.migrations is `check`: run `tracker migrate` as a role that may create them"
                )))
            }
        }
    }

    /// One at a time, whoever else opens the store: the lock goes with the connection. Each migration is one message to the
    /// server, so that it is there whole or not at all, also when nobody waits for it any more.
    async fn migrate(&mut self) -> Result<()> {
        let doing = "making the tables";
        let lock = "SELECT pg_catalog.pg_advisory_lock(pg_catalog.hashtextextended('orchestrator ' || $1, 0)), $1::text";
        self.row("waiting for another migration", lock).await?;
        let found = self.version().await?;
        let versions = MIGRATIONS.iter().zip(1..).filter(|(_, version)| *version > found);
        for (migration, version) in versions {
            // The name was checked: small letters, digits, underscores.
            let schema = &self.config.schema;
            let sql = format!(
                "SET LOCAL statement_timeout = 0;
                CREATE SCHEMA IF NOT EXISTS \"{schema}\";
                CREATE TABLE IF NOT EXISTS schema_version (version int4 PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());
                {migration}
                INSERT INTO schema_version (version) VALUES ({version});"
            );
            let done = self
                .connection
                .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)))
                .await;
            done.map_err(|error| error::of_driver(error, doing, &self.place))?;
            tracing::info!(version, place = self.place, "the tables were made");
        }
        Ok(())
    }

    /// What a role without rights would meet only when the first record fails.
    async fn grants(&mut self) -> Result<()> {
        let row = self
            .row(
                "looking at the role's rights",
                "SELECT coalesce(string_agg(format('GRANT %s ON %I.%I TO %I', needed.what, $1::text, needed.name, current_user), '; '), '')
                FROM (VALUES ('entry', 'SELECT'), ('entry', 'INSERT'), ('entry', 'UPDATE'), ('entry', 'DELETE'),
                    ('progress', 'SELECT'), ('progress', 'INSERT'), ('progress', 'UPDATE'),
                    ('namespace', 'SELECT'), ('namespace', 'INSERT'), ('namespace', 'UPDATE')) AS needed (name, what)
                WHERE NOT has_table_privilege(format('%I.%I', $1::text, needed.name), needed.what)",
            )
            .await?;
        match self.read::<&str>(&row, 0)? {
            "" => Ok(()),
            missing => Err(self.config_error(&format!("the role lacks rights: {missing}"))),
        }
    }

    async fn claim(&mut self, namespace: &Namespace) -> Result<(i32, Vec<u8>)> {
        let name = text::stored(&namespace.name).into_owned().into_bytes();
        let claimed = sqlx::query(
            "INSERT INTO namespace AS held (name, cluster) VALUES ($1, $2)
            ON CONFLICT (sha256(name)) DO UPDATE SET cluster = coalesce(held.cluster, excluded.cluster)
            RETURNING id, cluster",
        )
        .bind(&name[..])
        .bind(namespace.cluster.as_deref().map(text::stored))
        .fetch_one(&mut self.connection)
        .await;
        let row = claimed.map_err(|error| error::of_driver(error, "claiming the namespace", &self.place))?;
        let held = self.read::<Option<&str>>(&row, 1)?;
        let held = held.map(|held| {
            text::read(held).ok_or_else(|| {
                error::corrupt(
                    "the namespace",
                    "its column `cluster` holds text that nobody stored so",
                )
            })
        });
        namespace.admit(held.transpose()?.as_deref())?;
        Ok((self.read(&row, 0)?, name))
    }
}
