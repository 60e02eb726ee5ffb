use rusqlite::{OptionalExtension, Transaction, params};
use tracker_api::{Error, ErrorKind, Namespace, Result};

use crate::{error::of, rows};

/// Makes the tables of a new file, looks whose an old one is, and answers the namespace's number.
pub(crate) fn claim(db: &Transaction<'_>, namespace: &Namespace) -> Result<i64> {
    let version: i64 = db
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(of)?;
    if version > rows::VERSION {
        let message = format!(
            "the SQLite database is of version {version}, this program knows up to {}: start the program that wrote it, or a \
             newer one; nothing was changed",
            rows::VERSION
        );
        return Err(Error::new(ErrorKind::Config, message));
    }
    if version == 0 {
        db.execute_batch(rows::TABLES).map_err(of)?;
        db.pragma_update(None, "user_version", rows::VERSION)
            .map_err(of)?;
    }
    let name = namespace.name.as_bytes();
    let held: Option<(i64, Option<String>)> = db
        .query_row(
            "SELECT number, cluster FROM namespace WHERE name = ?",
            [name],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()
        .map_err(of)?;
    let Some((number, cluster)) = held else {
        let row = params![name, namespace.cluster];
        db.execute("INSERT INTO namespace (name, cluster) VALUES (?, ?)", row)
            .map_err(of)?;
        return Ok(db.last_insert_rowid());
    };
    namespace.admit(cluster.as_deref())?;
    if cluster.is_none() && namespace.cluster.is_some() {
        let row = params![namespace.cluster, number];
        db.execute("UPDATE namespace SET cluster = ? WHERE number = ?", row)
            .map_err(of)?;
    }
    Ok(number)
}
