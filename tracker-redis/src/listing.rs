use std::{
    cmp::Reverse,
    collections::{BTreeMap, btree_map},
};

use redis::Value;
use tracker_api::{Cursor, Entry, Error, ErrorKind, Group, Order, Outcome, Page, Query, Result, Status};

use crate::{
    answer,
    codec::{self, ordered},
    error::corrupt,
    link::Link,
    script,
};

/// How much one call may look at, about: a member of the index costs one, the entry behind it another, a text or captured
/// bytes more. It holds up the server for some tens of milliseconds at most; a search that needs more is more calls.
const WORK: usize = 10_000;
/// Groups that one call answers at most.
const GROUPS: usize = 500;

/// In the order of their numbers in the index.
const STATUSES: [Status; 9] = [
    Status::Received,
    Status::Failing,
    Status::Blocking,
    Status::Open,
    Status::Skipped,
    Status::Replaying,
    Status::Replayed,
    Status::Discarded,
    Status::Succeeded,
];

/// The statuses that a query lets through, as the index numbers them: outcome and status are one filter there.
fn statuses(query: &Query, failures_only: bool) -> Vec<u8> {
    let passes = |status: &Status| {
        let outcome = match status {
            Status::Received => Outcome::Received,
            Status::Failing | Status::Blocking => Outcome::Failing,
            Status::Succeeded => Outcome::Succeeded,
            _ => Outcome::Failed,
        };
        (query.outcomes.is_empty() || query.outcomes.contains(&outcome))
            && (query.statuses.is_empty() || query.statuses.contains(status))
            && !(failures_only && matches!(outcome, Outcome::Received | Outcome::Succeeded))
    };
    let numbered = STATUSES.iter().zip(0_u8..);
    numbered
        .filter(|(status, _)| passes(status))
        .map(|(_, number)| number)
        .collect()
}

/// Where in the index a query has to look.
struct Plan {
    timed: bool,
    prefixes: Vec<Vec<u8>>,
    /// Bounds of what follows a prefix: the least, and what is behind the last.
    from: Vec<u8>,
    to: Option<Vec<u8>>,
    filters: Vec<Vec<u8>>,
}

impl Plan {
    /// None when nothing can match.
    fn of(query: &Query, statuses: &[u8], timed: bool) -> Option<Self> {
        let topic = query.topic.as_deref();
        let place = match (&query.partition, topic) {
            (Some(partition), Some(topic)) if *partition.topic != *topic => return None,
            (Some(partition), _) => codec::partition(partition),
            (None, Some(topic)) => codec::topic(topic),
            (None, None) => Vec::new(),
        };
        let prefixes = statuses.iter().map(|status| {
            let letter = match (timed, query.fingerprint) {
                (true, None) => b'n',
                (false, None) => b'i',
                (true, Some(_)) => b'g',
                (false, Some(_)) => b'h',
            };
            let mut prefix = vec![letter, *status];
            prefix.extend(query.fingerprint.iter().flat_map(|print| print.to_be_bytes()));
            prefix
        });
        let (mut from, mut to) = (place.clone(), behind(&place));
        if timed {
            (from, to) = (Vec::new(), None);
            if let Some(within) = &query.first_failed {
                (from, to) = (
                    ordered(within.start.0).to_vec(),
                    Some(ordered(within.end.0).to_vec()),
                );
            }
        } else if let (Some(_), Some(offsets)) = (&query.partition, &query.offsets) {
            from.extend(ordered(offsets.start));
            to = Some([place.as_slice(), &ordered(offsets.end)].concat());
        }
        let plan = Self {
            timed,
            prefixes: prefixes.collect(),
            from,
            to,
            filters: filters(query, place),
        };
        (!plan.prefixes.is_empty()).then_some(plan)
    }

    /// Goes on behind `place`.
    fn behind(&mut self, mut place: Vec<u8>) {
        if self.timed {
            if self.to.as_ref().is_none_or(|to| place < *to) {
                self.to = Some(place);
            }
        } else {
            place.push(0);
            if place > self.from {
                self.from = place;
            }
        }
    }

    fn arguments(&self, wanted: usize) -> Vec<Vec<u8>> {
        let number = |number: usize| number.to_string().into_bytes();
        let skip = self.prefixes.first().map_or(0, Vec::len);
        let mut arguments = vec![
            if self.timed {
                b"time".to_vec()
            } else {
                b"id".to_vec()
            },
            number(skip),
            if self.timed {
                b"down".to_vec()
            } else {
                b"up".to_vec()
            },
            number(wanted),
            number(WORK),
            number(self.prefixes.len()),
        ];
        for prefix in &self.prefixes {
            arguments.push([b"[".as_slice(), prefix, &self.from].concat());
            let to = match &self.to {
                Some(to) => [prefix.as_slice(), to].concat(),
                None => behind(prefix).unwrap_or_default(),
            };
            arguments.push([b"(".as_slice(), &to].concat());
        }
        arguments.extend(self.filters.iter().cloned());
        arguments
    }
}

/// The least bytes that are greater than everything that starts with `prefix`; none when there are no such.
fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

/// The filters that the ranges do not say, as name and value.
fn filters(query: &Query, place: Vec<u8>) -> Vec<Vec<u8>> {
    let mut filters: Vec<(&str, Vec<u8>)> = Vec::new();
    if !place.is_empty() {
        filters.push(("prefix", place));
    }
    if let Some(offsets) = &query.offsets {
        filters.push(("from", ordered(offsets.start).to_vec()));
        filters.push(("to", ordered(offsets.end).to_vec()));
    }
    if let Some(era) = query.era {
        filters.push(("era", era.to_be_bytes().to_vec()));
    }
    if let Some(class) = &query.class {
        filters.push(("class", codec::topic(class)));
    }
    if let Some(print) = query.fingerprint {
        filters.push(("fingerprint", print.to_be_bytes().to_vec()));
    }
    if let Some(key) = &query.key {
        let mut bytes = Vec::new();
        codec::push_optional(&mut bytes, Some(key));
        filters.push(("key", bytes));
    }
    if let Some(within) = &query.first_failed {
        filters.push(("since", ordered(within.start.0).to_vec()));
        filters.push(("before", ordered(within.end.0).to_vec()));
    }
    if let Some(text) = &query.text {
        let mut bytes = Vec::new();
        codec::push_escaped(&mut bytes, text.to_ascii_lowercase().as_bytes());
        filters.push(("text", bytes));
    }
    let pairs = filters.into_iter();
    pairs
        .flat_map(|(name, value)| [name.as_bytes().to_vec(), value])
        .collect()
}

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
    let (id, failure) = codec::read_failure(&id, &value).ok_or_else(|| damaged_row(link, &id))?;
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
