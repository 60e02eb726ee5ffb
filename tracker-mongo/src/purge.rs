use std::collections::HashMap;

use mongodb::bson::{Bson, Document, RawDocument, doc};
use tracker_api::{Partition, Progress, Purgeable, RecordId, Result, Status, Timestamp};

use crate::{
    backend::Tracker,
    codec::{self, OPEN, UNFINISHED},
    link::{ENTRIES, Find},
    row::Row,
    schema::{BY_AGE, BY_ERA, BY_UNFINISHED},
};

// What one delete takes at most, so that none holds others up.
const SLICE: usize = 1_000;
const PURGING: &str = "purging";

/// What may go, as it was found; it goes only if it is still so.
struct Found {
    at: i64,
    id: RecordId,
    status: i32,
    era: u64,
}

fn read(document: &RawDocument) -> Result<Found> {
    let row = Row::new(document, "an entry");
    let id = codec::read_id(&row.row("_id")?)?;
    let name = format!("the entry `{id}`");
    let row = row.named(&name);
    Ok(Found {
        at: row.whole("at")?,
        status: row.small("s")?,
        era: row.row("v")?.unsigned("e")?,
        id,
    })
}

pub(crate) async fn purge(
    tracker: &Tracker,
    what: Purgeable,
    before: Timestamp,
    limit: usize,
) -> Result<u64> {
    let mut gone = 0;
    while gone < limit {
        let slice = SLICE.min(limit - gone);
        let found = match what {
            Purgeable::Succeeded => finished(tracker, &[Status::Succeeded], before, slice).await?,
            Purgeable::Resolved => {
                let resolved = [Status::Skipped, Status::Replayed, Status::Discarded];
                finished(tracker, &resolved, before, slice).await?
            }
            Purgeable::Superseded => superseded(tracker, before, slice).await?,
        };
        if found.is_empty() {
            break;
        }
        gone += delete(tracker, &found).await?;
    }
    Ok(u64::try_from(gone).unwrap_or(u64::MAX))
}

fn find(filter: Document, index: &'static str, limit: usize) -> Find {
    Find {
        filter,
        sort: doc! { "at": 1, "_id": 1 },
        index,
        fields: doc! { "at": 1, "s": 1, "v.e": 1 },
        limit,
    }
}

async fn finished(
    tracker: &Tracker,
    statuses: &[Status],
    before: Timestamp,
    limit: usize,
) -> Result<Vec<Found>> {
    let statuses: Vec<i32> = statuses
        .iter()
        .map(|status| codec::status_number(*status))
        .collect();
    let filter = doc! { "_id.n": tracker.number, "s": { "$in": statuses }, "at": { "$lt": before.0 } };
    tracker
        .link
        .find(PURGING, find(filter, BY_AGE, limit), read)
        .await
}

/// What an older era left: where it is unfinished, and at or above the floor also what stands open.
async fn superseded(tracker: &Tracker, before: Timestamp, limit: usize) -> Result<Vec<Found>> {
    let progress = tracker_api::FailureTracker::progress(tracker).await?;
    let Some(latest) = progress.iter().map(|row| row.era).max() else {
        return Ok(Vec::new());
    };
    let progress: HashMap<Partition, Progress> = progress
        .into_iter()
        .map(|row| (row.partition.clone(), row))
        .collect();
    let absent = |found: &Found| {
        progress.get(&found.id.partition).is_some_and(|row| {
            found.era < row.era && (found.status <= UNFINISHED || found.id.offset >= row.floor)
        })
    };
    let older = |statuses: Bson| {
        doc! {
            "_id.n": tracker.number,
            "s": statuses,
            "v.e": { "$lt": codec::number(latest) },
            "at": { "$lt": before.0 },
        }
    };
    let unfinished = find(older(doc! { "$lte": UNFINISHED }.into()), BY_UNFINISHED, 0);
    let open = find(older(OPEN.into()), BY_ERA, 0);
    let mut found = tracker
        .link
        .find_first(PURGING, unfinished, read, limit, absent)
        .await?;
    found.extend(
        tracker
            .link
            .find_first(PURGING, open, read, limit, absent)
            .await?,
    );
    found.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    found.truncate(limit);
    Ok(found)
}

async fn delete(tracker: &Tracker, found: &[Found]) -> Result<usize> {
    let deletes: Vec<Document> = found
        .iter()
        .map(|found| {
            let id = codec::bound(tracker.number, &found.id.partition, Some(found.id.offset.into()));
            let still =
                doc! { "_id": id, "s": found.status, "at": found.at, "v.e": codec::number(found.era) };
            doc! { "q": still, "limit": 1 }
        })
        .collect();
    let command = doc! { "delete": ENTRIES, "deletes": deletes, "ordered": false, "writeConcern": tracker.link.durable() };
    let answer = tracker.link.command(PURGING, command).await?;
    if let Some(problem) = answer
        .get_array("writeErrors")
        .into_iter()
        .flatten()
        .find_map(Bson::as_document)
    {
        return Err(tracker.link.server_error(PURGING, problem));
    }
    Ok(answer
        .get_i32("n")
        .ok()
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(0))
}
