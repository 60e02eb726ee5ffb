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
        for row in answer::rows(found).ok_or_else(damaged)? {
            entries.push(row.read().ok_or_else(|| damaged_row(link, &row.id))?);
        }
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

/// An entry that cannot be read back, by its id if that can.
pub(crate) fn damaged_row(link: &Link, id: &[u8]) -> Error {
    let name = match codec::read_id(id) {
        Some(id) => format!("the entry {id}", id = id.to_string().escape_debug()),
        None => format!("the field `{}`", id.escape_ascii()),
    };
    corrupt(
        format!("{name} in the key `{}`", link.keys().entries()),
        link.shown(),
    )
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
        let Some(group) = read(link, parts)? else {
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

fn read(link: &Link, parts: [Value; 6]) -> Result<Option<Group>> {
    let parts = parts.map(answer::bytes);
    let [
        Some(print),
        Some(count),
        Some(first),
        Some(last),
        Some(id),
        Some(value),
    ] = parts
    else {
        return Ok(None);
    };
    let (id, failure) = rows::read_failure(&id, &value).ok_or_else(|| damaged_row(link, &id))?;
    let numbers = (
        codec::read_natural(&print),
        std::str::from_utf8(&count)
            .ok()
            .and_then(|count| count.parse().ok()),
        codec::read_time(&first),
        codec::read_time(&last),
    );
    let (Some(fingerprint), Some(count), Some(first), Some(last)) = numbers else {
        return Ok(None);
    };
    Ok(Some(Group {
        fingerprint,
        class: failure.class,
        count,
        first,
        last,
        sample: id,
        message: failure.message,
    }))
}
