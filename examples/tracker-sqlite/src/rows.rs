//! What stands in the tables. The value is the whole entry as JSON; the columns beside it are there to find it.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use tracker_api::{Entry, Error, ErrorKind, Partition, Progress, RecordId, Result, Status};

use crate::error::of;

pub(crate) const VERSION: i64 = 1;

/// Topics are blobs: they compare byte by byte, and any text can be one.
pub(crate) const TABLES: &str = "
    CREATE TABLE namespace (number INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, cluster TEXT);
    CREATE TABLE entry (
        namespace INTEGER NOT NULL, topic BLOB NOT NULL, part INTEGER NOT NULL, off INTEGER NOT NULL,
        status INTEGER NOT NULL, at INTEGER NOT NULL, first_failed INTEGER, value TEXT NOT NULL,
        PRIMARY KEY (namespace, topic, part, off)
    ) WITHOUT ROWID;
    CREATE INDEX newest ON entry (namespace, first_failed, topic, part, off) WHERE first_failed IS NOT NULL;
    CREATE INDEX age ON entry (namespace, status, at, topic, part, off);
    CREATE TABLE progress (
        namespace INTEGER NOT NULL, topic BLOB NOT NULL, part INTEGER NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (namespace, topic, part)
    ) WITHOUT ROWID;
    CREATE TABLE ping (one INTEGER PRIMARY KEY);
";

pub(crate) fn status(of: Status) -> i64 {
    match of {
        Status::Received => 0,
        Status::Failing => 1,
        Status::Blocking => 2,
        Status::Open => 3,
        Status::Skipped => 4,
        Status::Replaying => 5,
        Status::Replayed => 6,
        Status::Discarded => 7,
        Status::Succeeded => 8,
    }
}

pub(crate) fn read<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        let message = format!("SQLite: the row of {what} cannot be read ({error}); restore it from a backup");
        Error::new(ErrorKind::Corrupt, message).with_source(error)
    })
}

fn text<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::new(ErrorKind::Refused, error.to_string()))
}

pub(crate) fn entry(db: &Connection, namespace: i64, id: &RecordId) -> Result<Option<Entry>> {
    let mut find = db
        .prepare_cached("SELECT value FROM entry WHERE namespace = ? AND topic = ? AND part = ? AND off = ?")
        .map_err(of)?;
    let key = params![
        namespace,
        id.partition.topic.as_bytes(),
        id.partition.number,
        id.offset
    ];
    let found: Option<String> = find.query_row(key, |row| row.get(0)).optional().map_err(of)?;
    found.map(|text| read(&text, &format!("{id:?}"))).transpose()
}

pub(crate) fn put(db: &Transaction<'_>, namespace: i64, entry: &Entry) -> Result<()> {
    let mut put = db
        .prepare_cached("INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
        .map_err(of)?;
    let id = &entry.id;
    let row = params![
        namespace,
        id.partition.topic.as_bytes(),
        id.partition.number,
        id.offset,
        status(Status::of(entry)),
        entry.at.0,
        entry.first_failed_at.map(|at| at.0),
        text(entry)?,
    ];
    put.execute(row).map_err(of).map(drop)
}

pub(crate) fn delete(db: &Transaction<'_>, namespace: i64, id: &RecordId) -> Result<()> {
    let mut delete = db
        .prepare_cached("DELETE FROM entry WHERE namespace = ? AND topic = ? AND part = ? AND off = ?")
        .map_err(of)?;
    let key = params![
        namespace,
        id.partition.topic.as_bytes(),
        id.partition.number,
        id.offset
    ];
    delete.execute(key).map_err(of).map(drop)
}

pub(crate) fn progress_of(
    db: &Connection,
    namespace: i64,
    partition: &Partition,
) -> Result<Option<Progress>> {
    let mut find = db
        .prepare_cached("SELECT value FROM progress WHERE namespace = ? AND topic = ? AND part = ?")
        .map_err(of)?;
    let key = params![namespace, partition.topic.as_bytes(), partition.number];
    let found: Option<String> = find.query_row(key, |row| row.get(0)).optional().map_err(of)?;
    found.map(|text| read(&text, &partition.to_string())).transpose()
}

pub(crate) fn put_progress(db: &Transaction<'_>, namespace: i64, row: &Progress) -> Result<()> {
    let key = row.partition.topic.as_bytes();
    db.prepare_cached("INSERT OR REPLACE INTO progress VALUES (?, ?, ?, ?)")
        .and_then(|mut put| {
            put.execute(params![
                namespace,
                key,
                row.partition.number,
                text(row).unwrap_or_default()
            ])
        })
        .map_err(of)
        .map(drop)
}

/// A row as a listing finds it: its value, and what it is called where that cannot be read.
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// The columns of a [`Found`] entry.
pub(crate) const FOUND: &str = "topic, part, off, value";

pub(crate) fn found(row: &Row<'_>) -> rusqlite::Result<Found> {
    let topic: Vec<u8> = row.get("topic")?;
    let (topic, part) = (String::from_utf8_lossy(&topic), row.get::<_, i32>("part")?);
    let name = match row.get::<_, Option<i64>>("off")? {
        Some(offset) => format!("{topic}:{part}:{offset}"),
        None => format!("progress of {topic}:{part}"),
    };
    Ok(Found {
        name,
        value: row.get("value")?,
    })
}
