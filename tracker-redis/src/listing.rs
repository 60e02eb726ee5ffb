use std::{
    cmp::Reverse,
    collections::{BTreeMap, btree_map},
};

use redis::Value;
use tracker_api::{Cursor, Entry, Error, ErrorKind, Group, Order, Page, Query, Result};

use crate::{
    answer,
    codec::{self, ordered},
    error::corrupt,
    link::Link,
    plan::{Plan, statuses},
    rows, script,
};

/// Groups that one call answers at most.
const GROUPS: usize = 500;

pub(crate) async fn page(link: &Link, query: &Query) -> Result<Page> {
    let timed = query.order == Order::NewestFirst;
    let Some(mut plan) = Plan::of(query, &statuses(query, false), timed) else {
        return cursor_place(query, timed).map(|_| Page::default());
    };
    if let Some(place) = cursor_place(query, timed)? {
        plan.behind(place);
    }
    let size = query.page_size();
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        // One more than a page: whether there is a next.
        let arguments = plan.arguments(size + 1 - entries.len());
        let answer = link.run(&script::LIST, "listing", &arguments).await?;
        let damaged = || corrupt("a listing's answer", link.shown());
        let (found, rest) = answer::list_and_rest(answer).ok_or_else(damaged)?;
        let rows = answer::rows(found).ok_or_else(damaged)?;
        entries.extend(rows.iter().filter_map(|row| read(link, row)));
        match rest {
            Some(rest) if entries.len() <= size => plan.behind(rest),
            _ => break,
        }
    }
    let more = entries.len() > size;
    entries.truncate(size);
    let last = entries.last().filter(|_| more);
    Ok(Page {
        next: last.map(|entry| Cursor {
            id: entry.id.clone(),
            first_failed_at: entry.first_failed_at.filter(|_| timed),
        }),
        entries,
    })
}

fn cursor_place(query: &Query, timed: bool) -> Result<Option<Vec<u8>>> {
    let Some(after) = &query.after else {
        return Ok(None);
    };
    let id = codec::id(&after.id);
    if !timed {
        return Ok(Some(id));
    }
    let at = after.first_failed_at.ok_or_else(|| {
        let message = "the cursor is of a listing by id, the query is newest first: start without a cursor";
        Error::new(ErrorKind::Refused, message)
    })?;
    Ok(Some([ordered(at.0).as_slice(), &id].concat()))
}

/// An entry; none where it cannot be read, which is remembered.
pub(crate) fn read(link: &Link, row: &rows::Row) -> Option<Entry> {
    let entry = row.read();
    if entry.is_none() {
        met_corrupt(link, &row.id);
    }
    entry
}

pub(crate) fn met_corrupt(link: &Link, field: &[u8]) {
    link.met_corrupt(script::entry_name(field), link.keys().entries());
}

pub(crate) async fn groups(link: &Link, query: &Query) -> Result<Vec<Group>> {
    let statuses = statuses(query, true);
    let mut groups = BTreeMap::new();
    let of_causes_only = Query {
        outcomes: query.outcomes.clone(),
        statuses: query.statuses.clone(),
        fingerprint: query.fingerprint,
        ..Query::default()
    };
    let unordered = query.unordered();
    if unordered == of_causes_only {
        by_index(link, &statuses, query.fingerprint, &mut groups).await?;
    } else {
        // One partition's entries lie together; without one, those of a time do.
        let timed = query.first_failed.is_some() && query.topic.is_none() && query.partition.is_none();
        if let Some(plan) = Plan::of(query, &statuses, timed) {
            by_reading(link, plan, &mut groups).await?;
        }
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| (Reverse(group.count), group.fingerprint));
    Ok(groups)
}

async fn by_index(
    link: &Link,
    statuses: &[u8],
    print: Option<u64>,
    groups: &mut BTreeMap<u64, Group>,
) -> Result<()> {
    let only = print.map_or_else(Vec::new, |print| print.to_be_bytes().to_vec());
    let mut resume = Vec::new();
    while !statuses.is_empty() {
        let arguments = [
            GROUPS.to_string().into_bytes(),
            statuses.to_vec(),
            resume,
            only.clone(),
        ];
        let answer = link.run(&script::GROUPS, "grouping", &arguments).await?;
        match merge(link, answer, groups)? {
            Some(rest) => resume = rest,
            None => break,
        }
    }
    Ok(())
}

async fn by_reading(link: &Link, mut plan: Plan, groups: &mut BTreeMap<u64, Group>) -> Result<()> {
    loop {
        // As many as are looked at in one batch; the work bounds the call.
        let answer = link
            .run(&script::COUNT, "grouping", &plan.arguments(GROUPS))
            .await?;
        match merge(link, answer, groups)? {
            Some(rest) => plan.behind(rest),
            None => return Ok(()),
        }
    }
}

/// Takes in the groups of one answer; answers where to go on.
fn merge(link: &Link, answer: Value, groups: &mut BTreeMap<u64, Group>) -> Result<Option<Vec<u8>>> {
    let damaged = || corrupt("a count's answer", link.shown());
    let (found, rest) = answer::list_and_rest(answer).ok_or_else(damaged)?;
    for parts in answer::groups::<6>(found).ok_or_else(damaged)? {
        let Some(group) = read_group(link, parts) else {
            return Err(damaged());
        };
        match groups.entry(group.fingerprint) {
            btree_map::Entry::Vacant(place) => {
                place.insert(group);
            }
            btree_map::Entry::Occupied(mut place) => {
                let held = place.get_mut();
                held.count += group.count;
                held.first = held.first.min(group.first);
                held.last = held.last.max(group.last);
                if group.sample < held.sample {
                    (held.sample, held.class, held.message) = (group.sample, group.class, group.message);
                }
            }
        }
    }
    Ok(rest)
}

fn read_group(link: &Link, parts: [Value; 6]) -> Option<Group> {
    let [print, count, first, last, id, value] = parts.map(answer::bytes);
    let (id, value) = (id?, value?);
    // The others of a cause are still counted where the entry that lends it its words cannot be read.
    let (sample, class, message) = match rows::read_failure(&id, &value) {
        Some((id, failure)) => (id, failure.class, failure.message),
        None => {
            met_corrupt(link, &id);
            let message = "(the entry that says it cannot be read)";
            (codec::read_id(&id)?, String::new(), message.to_owned())
        }
    };
    Some(Group {
        fingerprint: codec::read_natural(&print?)?,
        class,
        count: std::str::from_utf8(&count?).ok()?.parse().ok()?,
        first: codec::read_time(&first?)?,
        last: codec::read_time(&last?)?,
        sample,
        message,
    })
}
