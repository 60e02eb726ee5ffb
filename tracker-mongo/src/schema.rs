//! What stands in the database before the first entry: the indexes, and a document for each namespace.

use mongodb::bson::{Bson, Document, doc};
use tracker_api::{Error, ErrorKind, Namespace, Result, Risk};

use crate::{
    codec::{FINISHED, Number, OPEN, UNFINISHED},
    link::{ENTRIES, Link, NAMESPACES},
    row::Row,
};

/// The format of what is written. A change of a document's shape or of an index needs another.
const FORMAT: i32 = 1;
/// The wire version of MongoDB 6.0.
const OLDEST: i32 = 17;
pub(crate) const OPENING: &str = "opening";

const DUPLICATE: i32 = 11000;

/// By id, what is unfinished.
pub(crate) const BY_UNFINISHED: &str = "unfinished";
/// Oldest first, what is finished.
pub(crate) const BY_AGE: &str = "finished";
/// Oldest first within an era, what stands open.
pub(crate) const BY_ERA: &str = "open";
/// Newest first.
pub(crate) const BY_STATUS: &str = "status";
/// Newest first in a topic.
pub(crate) const BY_TOPIC: &str = "topic";
/// Newest first in a partition.
pub(crate) const BY_PARTITION: &str = "partition";
/// Newest first of a class.
pub(crate) const BY_CLASS: &str = "class";
/// Newest first of a cause.
pub(crate) const BY_CAUSE: &str = "cause";
/// By a record's key.
pub(crate) const BY_KEY: &str = "key";

fn indexes() -> Vec<Document> {
    let index = |name: &str, key: Document, only: Document| doc! { "name": name, "key": key, "partialFilterExpression": only };
    // An index that holds only failures costs nothing for a record that succeeds.
    let newest = |name: &str, front: Document| {
        let mut key = doc! { "_id.n": 1 };
        key.extend(front);
        key.extend(doc! { "s": 1, "ff": -1, "_id": -1 });
        index(name, key, doc! { "ff": { "$gte": i64::MIN } })
    };
    let age = doc! { "at": 1, "_id": 1 };
    let aged = |front: Document| front.into_iter().chain(age.clone()).collect::<Document>();
    let empty = Bson::Binary(mongodb::bson::Binary {
        subtype: mongodb::bson::spec::BinarySubtype::Generic,
        bytes: Vec::new(),
    });
    vec![
        index(
            BY_UNFINISHED,
            doc! { "_id.n": 1, "_id": 1 },
            doc! { "s": { "$lte": UNFINISHED } },
        ),
        index(
            BY_AGE,
            aged(doc! { "_id.n": 1, "s": 1 }),
            doc! { "s": { "$gte": FINISHED } },
        ),
        index(
            BY_ERA,
            aged(doc! { "_id.n": 1, "s": 1, "v.e": 1 }),
            doc! { "s": OPEN },
        ),
        newest(BY_STATUS, doc! {}),
        newest(BY_TOPIC, doc! { "_id.t": 1 }),
        newest(BY_PARTITION, doc! { "_id.t": 1, "_id.p": 1 }),
        newest(BY_CLASS, doc! { "f.c": 1 }),
        newest(BY_CAUSE, doc! { "f.p": 1 }),
        index(
            BY_KEY,
            doc! { "_id.n": 1, "c.k": "hashed" },
            doc! { "c.k": { "$gte": empty } },
        ),
    ]
}

/// Reads what the server is. Answers what it cannot promise.
pub(crate) async fn greet(link: &Link, doing: &str) -> Result<Vec<Risk>> {
    let hello = link.command(doing, doc! { "hello": 1 }).await?;
    let wire = hello.get_i32("maxWireVersion").unwrap_or(0);
    if wire < OLDEST {
        return Err(Error::new(
            ErrorKind::Config,
            format!(
                "{} is of a server older than MongoDB 6.0 (its wire version is {wire}): use a newer one",
                link.place
            ),
        ));
    }
    let sharded = hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
    if hello.contains_key("setName") || sharded {
        return Ok(Vec::new());
    }
    Ok(vec![Risk {
        name: "mongo-standalone".to_owned(),
        what: format!(
            "{} is a single server without a replica set: what it has confirmed is on one disk only, and a majority confirms \
             nothing. Make it a replica set (replication.replSetName, then rs.initiate()), also if it stays alone",
            link.place
        ),
    }])
}

/// Makes the indexes that are missing. A user who may not make any needs them to be there.
pub(crate) async fn index(link: &Link) -> Result<()> {
    let wanted = indexes();
    // A collection that is not there has none, and another error comes again when they are made.
    let listed = link
        .command(
            OPENING,
            doc! { "listIndexes": ENTRIES, "cursor": { "batchSize": 1_000 } },
        )
        .await;
    let held: Vec<Document> = listed
        .ok()
        .and_then(|answer| {
            answer
                .get_document("cursor")
                .ok()?
                .get_array("firstBatch")
                .ok()
                .cloned()
        })
        .into_iter()
        .flatten()
        .filter_map(|index| index.as_document().cloned())
        .collect();
    if let Some(other) = held.iter().find(|index| index.contains_key("collation")) {
        return Err(Error::new(
            ErrorKind::Config,
            format!(
                "the collection `{ENTRIES}` in {} has the collation of a language (index `{}`), so ids that differ would be one: \
                 drop it or choose another mongo.database",
                link.place,
                other.get_str("name").unwrap_or_default()
            ),
        ));
    }
    let missing: Vec<Document> = wanted
        .into_iter()
        .filter(|index| {
            !held
                .iter()
                .any(|held| index.iter().all(|(field, value)| held.get(field) == Some(value)))
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let command = doc! { "createIndexes": ENTRIES, "indexes": missing, "writeConcern": link.durable() };
    link.command("making the indexes", command).await.map(drop)
}

struct Held {
    number: Number,
    cluster: Option<String>,
}

async fn held(link: &Link, name: &str) -> Result<Option<Held>> {
    let command = doc! {
        "find": NAMESPACES,
        "filter": { "_id": name },
        "limit": 1,
        "singleBatch": true,
        "readConcern": { "level": "majority" },
    };
    let answer = link.command(OPENING, command).await?;
    let rows = answer
        .get_document("cursor")
        .and_then(|cursor| cursor.get_array("firstBatch"));
    let Some(row) = rows.into_iter().flatten().find_map(Bson::as_document) else {
        return Ok(None);
    };
    let raw = mongodb::bson::RawDocumentBuf::try_from(row).map_err(|_| unreadable(link, name))?;
    let title = format!("the namespace `{}` in {}", name.escape_debug(), link.place);
    let row = Row::new(&raw, &title);
    let format = row.small("format")?;
    if format > FORMAT {
        return Err(Error::new(
            ErrorKind::Config,
            format!(
                "{title} is of format {format}, this version knows up to {FORMAT}: start the version that wrote it, or a newer \
                 one; nothing was changed"
            ),
        ));
    }
    if format < 1 {
        return Err(row.damaged("format", "a format"));
    }
    Ok(Some(Held {
        number: row.small("number")?,
        cluster: row.maybe_text("cluster")?.map(str::to_owned),
    }))
}

fn unreadable(link: &Link, name: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!(
            "the namespace `{}` in {} cannot be read",
            name.escape_debug(),
            link.place
        ),
    )
}

/// Refuses a namespace of a newer format or of another cluster before anything is written.
pub(crate) async fn check(link: &Link, namespace: &Namespace) -> Result<()> {
    match held(link, &namespace.name).await? {
        Some(held) => namespace.admit(held.cluster.as_deref()),
        None => Ok(()),
    }
}

/// The namespace's number; a new name gets the next one, and the cluster's id is written when it is first known.
pub(crate) async fn claim(link: &Link, namespace: &Namespace) -> Result<Number> {
    loop {
        let Some(row) = held(link, &namespace.name).await? else {
            register(link, namespace).await?;
            continue;
        };
        namespace.admit(row.cluster.as_deref())?;
        if row.cluster.is_some() || namespace.cluster.is_none() {
            return Ok(row.number);
        }
        // Another service may have written its own meanwhile: it is read again, and admitted or not.
        let update = doc! {
            "q": { "_id": &namespace.name, "cluster": null },
            "u": { "$set": { "cluster": namespace.cluster.clone() } },
        };
        write(link, doc! { "update": NAMESPACES, "updates": [update] }).await?;
    }
}

async fn register(link: &Link, namespace: &Namespace) -> Result<()> {
    // Its id is a number, a namespace's is text: no name can meet it. A number that is not used after all is no harm.
    let next = doc! {
        "findAndModify": NAMESPACES,
        "query": { "_id": 0 },
        "update": { "$inc": { "last": 1 } },
        "upsert": true,
        "new": true,
        "writeConcern": link.durable(),
    };
    let answer = link.command(OPENING, next).await?;
    let number = answer.get_document("value").and_then(|row| row.get_i32("last"));
    let Ok(number) = number else {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!(
                "the counter of namespaces in {} is damaged: restore the document `0` of `{NAMESPACES}`",
                link.place
            ),
        ));
    };
    let row = doc! { "_id": &namespace.name, "number": number, "cluster": namespace.cluster.clone(), "format": FORMAT };
    write(link, doc! { "insert": NAMESPACES, "documents": [row] }).await
}

async fn write(link: &Link, mut command: Document) -> Result<()> {
    command.insert("writeConcern", link.durable());
    let answer = link.command(OPENING, command).await?;
    // A duplicate is somebody who was faster; what stands is read again.
    let problem = answer
        .get_array("writeErrors")
        .into_iter()
        .flatten()
        .filter_map(Bson::as_document)
        .find(|problem| problem.get_i32("code").ok() != Some(DUPLICATE));
    problem.map_or(Ok(()), |problem| Err(link.server_error(OPENING, problem)))
}
