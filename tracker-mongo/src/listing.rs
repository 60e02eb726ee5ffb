use std::cmp::Reverse;

use mongodb::bson::{Bson, Document, RawDocument, bson, doc};
use tracker_api::{
    Cursor, Entry, Error, ErrorKind, Group, Order, Page, Query, RecordId, Result, Status, Timestamp,
};

use crate::{
    backend::Tracker,
    codec::{self, Number, UNFINISHED},
    link::{ENTRIES, Find},
    row::Row,
    schema::{BY_CAUSE, BY_CLASS, BY_KEY, BY_PARTITION, BY_STATUS, BY_TOPIC, BY_UNFINISHED},
};

/// A query as the server is asked it: which index, its first fields, and what is left to be looked at.
#[derive(Debug)]
struct Asked {
    number: Number,
    index: &'static str,
    /// Equalities that the index begins with, behind the namespace.
    front: Document,
    /// As the documents number them; never empty.
    statuses: Vec<i32>,
    rest: Vec<Document>,
}

/// What a query may find; none where that is nothing.
fn asked(number: Number, query: &Query) -> Option<Asked> {
    let statuses: Vec<i32> = codec::ALL
        .into_iter()
        .filter(|status| query.statuses.is_empty() || query.statuses.contains(status))
        .filter(|status| query.outcomes.is_empty() || query.outcomes.contains(&codec::outcome_of(*status)))
        .map(codec::status_number)
        .collect();
    let topic = match (&query.topic, &query.partition) {
        (Some(topic), Some(partition)) if *topic != partition.topic => return None,
        (Some(topic), _) => Some(topic),
        (None, Some(partition)) => Some(&partition.topic),
        (None, None) => None,
    };
    let empty = |range: &std::ops::Range<i64>| range.start >= range.end;
    let times = query
        .first_failed
        .as_ref()
        .map(|range| range.start.0..range.end.0);
    if statuses.is_empty() || query.offsets.as_ref().is_some_and(empty) || times.as_ref().is_some_and(empty) {
        return None;
    }
    let mut rest = Vec::new();
    // The most selective equality finds the index; the others are looked at.
    let mut equal = Vec::new();
    if let Some(key) = &query.key {
        let bytes = key.to_vec();
        let key = mongodb::bson::Binary {
            subtype: mongodb::bson::spec::BinarySubtype::Generic,
            bytes,
        };
        equal.push((BY_KEY, doc! { "c.k": key }));
    }
    if let Some(fingerprint) = query.fingerprint {
        equal.push((BY_CAUSE, doc! { "f.p": codec::number(fingerprint) }));
    }
    if let (Some(partition), Some(topic)) = (&query.partition, topic) {
        equal.push((
            BY_PARTITION,
            doc! { "_id.t": &**topic, "_id.p": partition.number },
        ));
    }
    if let Some(class) = &query.class {
        equal.push((BY_CLASS, doc! { "f.c": class }));
    }
    if let (None, Some(topic)) = (&query.partition, topic) {
        equal.push((BY_TOPIC, doc! { "_id.t": &**topic }));
    }
    let mut equal = equal.into_iter();
    let (index, front) = equal.next().unwrap_or((BY_STATUS, doc! {}));
    rest.extend(equal.map(|(_, looked_at)| looked_at));
    if let Some(offsets) = &query.offsets {
        rest.push(match &query.partition {
            // The whole id is in the indexes, its parts are not.
            Some(partition) => doc! { "_id": {
                "$gte": codec::bound(number, partition, Some(offsets.start.into())),
                "$lt": codec::bound(number, partition, Some(offsets.end.into())),
            } },
            None => doc! { "_id.o": { "$gte": offsets.start, "$lt": offsets.end } },
        });
    }
    if let Some(era) = query.era {
        rest.push(doc! { "v.e": codec::number(era) });
    }
    if let Some(text) = &query.text {
        // The server's lower case is that of the letters A to Z.
        let found =
            bson!({ "$indexOfBytes": [{ "$toLower": "$f.m" }, { "$literal": text.to_ascii_lowercase() }] });
        rest.push(doc! { "f.m": { "$type": "string" } });
        rest.push(doc! { "$expr": { "$gte": [found, 0] } });
    }
    Some(Asked {
        number,
        index,
        front,
        statuses,
        rest,
    })
}

fn together(parts: Vec<Document>) -> Document {
    doc! { "$and": parts }
}

impl Asked {
    fn statuses(&self) -> Document {
        doc! { "s": { "$in": self.statuses.clone() } }
    }

    /// Newest first: one range of the index for each status, which the server merges.
    fn newest(mut self, query: &Query) -> Result<Find> {
        let (from, to) = query
            .first_failed
            .as_ref()
            .map_or((i64::MIN, None), |range| (range.start.0, Some(range.end.0)));
        let mut times = doc! { "$gte": from };
        if let Some(to) = to {
            times.insert("$lt", to);
        }
        let mut parts = vec![doc! { "_id.n": self.number }, self.front.clone()];
        match &query.after {
            None => parts.extend([self.statuses(), doc! { "ff": times }]),
            Some(after) => {
                let at = after.first_failed_at.ok_or_else(|| {
                    let message =
                        "the cursor is of a listing by id, the query is newest first: start without a cursor";
                    Error::new(ErrorKind::Refused, message)
                })?;
                parts.clear();
                let before = doc! { "$gte": from, "$lt": to.map_or(at.0, |to| to.min(at.0)) };
                let same = doc! { "_id": { "$lt": id(self.number, &after.id) } };
                let tied = from <= at.0 && to.is_none_or(|to| at.0 < to);
                let mut branches = Vec::new();
                for status in &self.statuses {
                    let mut front = doc! { "_id.n": self.number };
                    front.extend(self.front.clone());
                    front.insert("s", *status);
                    let mut older = front.clone();
                    older.insert("ff", before.clone());
                    branches.push(older);
                    if tied {
                        front.insert("ff", at.0);
                        front.extend(same.clone());
                        branches.push(front);
                    }
                }
                parts.push(doc! { "$or": branches });
            }
        }
        parts.append(&mut self.rest);
        Ok(self.find(together(parts), doc! { "ff": -1, "_id": -1 }, query))
    }

    /// By id: the range of ids, in it what matches; or what is unfinished, which is little.
    fn by_id(mut self, query: &Query) -> Find {
        let (mut from, to) = match (&query.partition, &query.topic) {
            (Some(partition), _) => (
                codec::bound(self.number, partition, None),
                codec::bound(self.number, partition, Some(Bson::MaxKey)),
            ),
            (None, Some(topic)) => (
                doc! { "n": self.number, "t": &**topic },
                doc! { "n": self.number, "t": &**topic, "p": Bson::MaxKey },
            ),
            (None, None) => (
                doc! { "n": self.number },
                doc! { "n": self.number, "t": Bson::MaxKey },
            ),
        };
        let mut range = doc! { "$lt": to };
        let mut parts = Vec::new();
        if let Some(after) = &query.after {
            parts.push(doc! { "_id": { "$gt": id(self.number, &after.id) } });
        }
        range.insert("$gte", std::mem::take(&mut from));
        parts.push(doc! { "_id": range });
        let unfinished = self.statuses.iter().all(|status| *status <= UNFINISHED);
        if unfinished || self.index == BY_KEY {
            parts.push(doc! { "_id.n": self.number });
        }
        if unfinished {
            self.index = BY_UNFINISHED;
        } else if self.index != BY_KEY {
            self.index = "_id_";
        }
        if self.statuses.len() < codec::ALL.len() {
            parts.push(self.statuses());
        }
        if !self.front.is_empty() {
            parts.push(self.front.clone());
        }
        parts.append(&mut self.rest);
        if let Some(range) = &query.first_failed {
            parts.push(doc! { "ff": { "$gte": range.start.0, "$lt": range.end.0 } });
        }
        self.find(together(parts), doc! { "_id": 1 }, query)
    }

    fn find(self, filter: Document, sort: Document, query: &Query) -> Find {
        Find {
            filter,
            sort,
            index: self.index,
            fields: doc! {},
            limit: query.page_size() + 1,
        }
    }
}

fn id(number: Number, id: &RecordId) -> Document {
    codec::bound(number, &id.partition, Some(id.offset.into()))
}

/// How a page is asked for; none where nothing can match.
pub(crate) fn find(number: Number, query: &Query) -> Result<Option<Find>> {
    match (query.order, asked(number, query)) {
        (Order::NewestFirst, asked) => {
            if query
                .after
                .as_ref()
                .is_some_and(|after| after.first_failed_at.is_none())
            {
                let message =
                    "the cursor is of a listing by id, the query is newest first: start without a cursor";
                return Err(Error::new(ErrorKind::Refused, message));
            }
            asked.map(|asked| asked.newest(query)).transpose()
        }
        (Order::Id, asked) => Ok(asked.map(|asked| asked.by_id(query))),
    }
}

pub(crate) async fn page(tracker: &Tracker, query: &Query) -> Result<Page> {
    let Some(mut find) = find(tracker.number, query)? else {
        return Ok(Page::default());
    };
    let mut entries: Vec<Entry>;
    loop {
        let (found, count) = tracker
            .link
            .find_counted("listing", find.clone(), codec::read_entry)
            .await?;
        entries = found;
        // In place of what was left out, as many more: otherwise the page would seem to be the last one.
        let left_out = count - entries.len();
        if entries.len() > query.page_size() || count < find.limit || left_out == 0 {
            break;
        }
        find.limit = query.page_size() + 1 + left_out;
    }
    let more = entries.len() > query.page_size();
    entries.truncate(query.page_size());
    let next = entries.last().filter(|_| more).map(|last| Cursor {
        id: last.id.clone(),
        first_failed_at: last.first_failed_at.filter(|_| query.order == Order::NewestFirst),
    });
    Ok(Page { entries, next })
}

/// How groups are asked for: which index, and the pipeline.
pub(crate) fn grouped(number: Number, query: &Query) -> Option<(&'static str, Vec<Document>)> {
    let mut asked = asked(number, query)?;
    asked
        .statuses
        .retain(|status| *status > 0 && *status < codec::status_number(Status::Succeeded));
    if asked.statuses.is_empty() {
        return None;
    }
    if asked.index == BY_STATUS {
        // All that a group needs stands in this index, so no document is read.
        asked.index = BY_CAUSE;
    }
    let mut parts = vec![
        doc! { "_id.n": number, "f.p": { "$gte": i64::MIN } },
        asked.front.clone(),
        asked.statuses(),
    ];
    parts.append(&mut asked.rest);
    let mut times = doc! { "$gte": query.first_failed.as_ref().map_or(i64::MIN, |range| range.start.0) };
    if let Some(range) = &query.first_failed {
        times.insert("$lt", range.end.0);
    }
    parts.push(doc! { "ff": times });
    let pipeline = vec![
        doc! { "$match": together(parts) },
        doc! { "$group": {
            "_id": "$f.p",
            "count": { "$sum": 1_i64 },
            "first": { "$min": "$ff" },
            "last": { "$max": "$ff" },
            "sample": { "$min": "$_id" },
        } },
        doc! { "$lookup": { "from": ENTRIES, "localField": "sample", "foreignField": "_id", "as": "entry" } },
        doc! { "$project": { "count": 1, "first": 1, "last": 1, "sample": 1, "entry.f.c": 1, "entry.f.m": 1 } },
    ];
    Some((asked.index, pipeline))
}

fn read_group(document: &RawDocument) -> Result<Option<Group>> {
    let row = Row::new(document, "a group of failures");
    let sample = codec::read_id(&row.row("sample")?)?;
    let name = format!("the entry `{sample}`");
    let Some(entry) = row.rows("entry")?.into_iter().next() else {
        return Ok(None);
    };
    let Some(failure) = entry.named(&name).maybe_row("f")? else {
        return Ok(None);
    };
    Ok(Some(Group {
        fingerprint: row.unsigned("_id")?,
        class: failure.text("c")?.to_owned(),
        count: row.unsigned("count")?,
        first: Timestamp(row.whole("first")?),
        last: Timestamp(row.whole("last")?),
        sample,
        message: failure.text("m")?.to_owned(),
    }))
}

// A sample that leaves between the counting and the reading of its message asks for another look.
const LOOKS: usize = 3;

pub(crate) async fn groups(tracker: &Tracker, query: &Query) -> Result<Vec<Group>> {
    let Some((index, pipeline)) = grouped(tracker.number, &query.unordered()) else {
        return Ok(Vec::new());
    };
    let mut groups = Vec::new();
    for _ in 0..LOOKS {
        let found = tracker
            .link
            .aggregate("grouping", pipeline.clone(), index, |group| {
                let name = || codec::name(group, "sample");
                Ok(tracker.link.corrupt.aside(name, read_group(group))?.flatten())
            })
            .await?;
        let whole = found.iter().all(Option::is_some);
        groups = found.into_iter().flatten().collect();
        if whole {
            break;
        }
    }
    groups.sort_by_key(|group: &Group| (Reverse(group.count), group.fingerprint));
    Ok(groups)
}

#[cfg(test)]
mod tests;
