use std::{
    cmp::Reverse,
    collections::{BTreeMap, btree_map},
};

use rocksdb::{Direction, IteratorMode, ReadOptions};
use tracker_api::{Cursor, Entry, Error, ErrorKind, Group, Order, Outcome, Page, Query, Result};

use crate::{
    codec::{self, Number},
    store::{Family, Reader},
};

type Pair = (Box<[u8]>, Box<[u8]>);

/// The rows of a family with `from <= key < to`, forwards or backwards, as of one moment.
pub(crate) fn range<'a>(
    reader: &'a Reader<'_>,
    family: Family,
    from: &[u8],
    to: Option<&[u8]>,
    backwards: bool,
) -> Result<impl Iterator<Item = Result<Pair>> + 'a> {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(from);
    let mode = match (backwards, to) {
        (true, Some(to)) => IteratorMode::From(to, Direction::Reverse),
        (true, None) => IteratorMode::End,
        (false, _) => IteratorMode::Start,
    };
    if let Some(to) = to {
        options.set_iterate_upper_bound(to);
    }
    let rows = reader.db.iterator_cf_opt(reader.family(family)?, options, mode);
    Ok(rows.map(|row| reader.ok(row)))
}

pub(crate) fn page(reader: &Reader<'_>, number: Number, query: &Query) -> Result<Page> {
    let mut page = Page::default();
    let mut add = |entry: Entry| {
        if !query.matches(&entry) {
            return false;
        }
        if page.entries.len() == query.page_size() {
            // One more matches: the page has a next.
            page.next = page.entries.last().map(|last| Cursor {
                id: last.id.clone(),
                first_failed_at: last.first_failed_at.filter(|_| query.order == Order::NewestFirst),
            });
            return true;
        }
        page.entries.push(entry);
        false
    };
    match query.order {
        Order::Id => {
            let Some((from, to)) = bounds(number, query) else {
                return Ok(page);
            };
            for row in range(reader, Family::Entries, &from, to.as_deref(), false)? {
                let (key, value) = row?;
                if add(codec::decode_entry(&key, &value)?) {
                    break;
                }
            }
        }
        Order::NewestFirst => {
            let prefix = codec::namespace_prefix(number);
            let to = match &query.after {
                None => codec::behind(&prefix),
                Some(after) => {
                    let at = after.first_failed_at.ok_or_else(|| {
                        let message = "the cursor is of a listing by id, the query is newest first: start without a cursor";
                        Error::new(ErrorKind::Refused, message)
                    })?;
                    Some(codec::time_key(number, at, &after.id))
                }
            };
            for row in range(reader, Family::Newest, &prefix, to.as_deref(), true)? {
                let (_, id) = codec::timed_record_of(&row?.0)?;
                // None when a writer moved or purged it since this listing began.
                let Some(entry) = reader.entry(number, &id)? else {
                    continue;
                };
                if add(entry) {
                    break;
                }
            }
        }
    }
    Ok(page)
}

pub(crate) fn groups(reader: &Reader<'_>, number: Number, query: &Query) -> Result<Vec<Group>> {
    let mut groups = BTreeMap::new();
    if query.partition.is_some() {
        // One partition's entries lie together.
        let Some((from, to)) = bounds(number, query) else {
            return Ok(Vec::new());
        };
        for row in range(reader, Family::Entries, &from, to.as_deref(), false)? {
            let (key, value) = row?;
            count(&mut groups, codec::decode_entry(&key, &value)?, query);
        }
    } else {
        let prefix = codec::namespace_prefix(number);
        for row in range(
            reader,
            Family::Newest,
            &prefix,
            codec::behind(&prefix).as_deref(),
            false,
        )? {
            let (_, id) = codec::timed_record_of(&row?.0)?;
            if let Some(entry) = reader.entry(number, &id)? {
                count(&mut groups, entry, query);
            }
        }
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| (Reverse(group.count), group.fingerprint));
    Ok(groups)
}

fn count(groups: &mut BTreeMap<u64, Group>, entry: Entry, query: &Query) {
    let failed = matches!(entry.version.outcome, Outcome::Failing | Outcome::Failed);
    if !failed || !query.matches(&entry) {
        return;
    }
    let (Some(failure), Some(at)) = (entry.failure, entry.first_failed_at) else {
        return;
    };
    match groups.entry(failure.fingerprint) {
        btree_map::Entry::Vacant(place) => {
            place.insert(Group {
                fingerprint: failure.fingerprint,
                class: failure.class,
                count: 1,
                first: at,
                last: at,
                sample: entry.id,
                message: failure.message,
            });
        }
        btree_map::Entry::Occupied(mut place) => {
            let group = place.get_mut();
            group.count += 1;
            group.first = group.first.min(at);
            group.last = group.last.max(at);
            if entry.id < group.sample {
                (group.sample, group.message, group.class) = (entry.id, failure.message, failure.class);
            }
        }
    }
}

/// The keys of the entries among which a query by id has to look; none when there can be none.
fn bounds(number: Number, query: &Query) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let (mut from, mut to) = match &query.partition {
        None => {
            let prefix = codec::namespace_prefix(number);
            let to = codec::behind(&prefix);
            (prefix, to)
        }
        Some(partition) => {
            let prefix = codec::partition_key(number, partition);
            let to = codec::behind(&prefix);
            (prefix, to)
        }
    };
    if let (Some(partition), Some(offsets)) = (&query.partition, &query.offsets) {
        from = codec::record_key(number, &partition.at(offsets.start));
        to = Some(codec::record_key(number, &partition.at(offsets.end)));
    }
    if let Some(after) = &query.after {
        let mut next = codec::record_key(number, &after.id);
        next.push(0);
        from = from.max(next);
    }
    // RocksDB wants bounds in order.
    to.as_ref().is_none_or(|to| from < *to).then_some((from, to))
}
