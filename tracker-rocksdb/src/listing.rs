use std::{
    cmp::Reverse,
    collections::{BTreeMap, btree_map},
};

use rocksdb::{Direction, IteratorMode, ReadOptions};
use tracker_api::{
    CorruptRows, Cursor, Entry, Error, ErrorKind, Group, Order, Outcome, Page, Query, RecordId, Result,
    Timestamp,
};

use crate::{
    codec::{self, Brief, Number},
    held::key_name,
    store::{Family, Reader},
};

type Pair = (Box<[u8]>, Box<[u8]>);

/// Where keys begin, and what is behind the last; none when nothing is behind them.
type Bounds = (Vec<u8>, Option<Vec<u8>>);

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

pub(crate) fn page(
    reader: &Reader<'_>,
    corrupt: &CorruptRows,
    number: Number,
    query: &Query,
) -> Result<Page> {
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
                if read(corrupt, &key, &value)?.is_some_and(&mut add) {
                    break;
                }
            }
        }
        Order::NewestFirst => {
            let Some((from, to)) = times(number, query)? else {
                return Ok(page);
            };
            let class = query.class.as_deref().map(codec::class_sum);
            for row in range(reader, Family::Newest, &from, to.as_deref(), true)? {
                let Some((_, id, brief)) = indexed(corrupt, &row?)? else {
                    continue;
                };
                if brief.is_some_and(|brief| !may_match(query, class, &id, &brief)) {
                    continue;
                }
                // None when a writer moved or purged it since this listing began.
                if entry(reader, corrupt, number, &id)?.is_some_and(&mut add) {
                    break;
                }
            }
        }
    }
    Ok(page)
}

pub(crate) fn groups(
    reader: &Reader<'_>,
    corrupt: &CorruptRows,
    number: Number,
    query: &Query,
) -> Result<Vec<Group>> {
    let mut groups = BTreeMap::new();
    if query.partition.is_some() {
        // One partition's entries lie together.
        let Some((from, to)) = bounds(number, query) else {
            return Ok(Vec::new());
        };
        for row in range(reader, Family::Entries, &from, to.as_deref(), false)? {
            let (key, value) = row?;
            if let Some(entry) = read(corrupt, &key, &value)? {
                count(&mut groups, entry, query);
            }
        }
    } else if let Some((from, to)) = times(number, query)? {
        let class = query.class.as_deref().map(codec::class_sum);
        let in_brief = query.class.is_none() && query.key.is_none() && query.text.is_none();
        for row in range(reader, Family::Newest, &from, to.as_deref(), false)? {
            let Some((at, id, brief)) = indexed(corrupt, &row?)? else {
                continue;
            };
            if let Some(brief) = brief {
                if !may_match(query, class, &id, &brief) {
                    continue;
                }
                // Only the entry that lends its group a message has to be read.
                if let Some(group) = brief.cause.and_then(|(cause, _)| groups.get_mut(&cause))
                    && in_brief
                    && is_failure(brief.outcome)
                    && group.sample < id
                {
                    widen(group, at);
                    continue;
                }
            }
            if let Some(entry) = entry(reader, corrupt, number, &id)? {
                count(&mut groups, entry, query);
            }
        }
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| (Reverse(group.count), group.fingerprint));
    Ok(groups)
}

fn is_failure(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failing | Outcome::Failed)
}

fn widen(group: &mut Group, at: Timestamp) {
    group.count += 1;
    group.first = group.first.min(at);
    group.last = group.last.max(at);
}

fn count(groups: &mut BTreeMap<u64, Group>, entry: Entry, query: &Query) {
    if !is_failure(entry.version.outcome) || !query.matches(&entry) {
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
            widen(group, at);
            if entry.id < group.sample {
                (group.sample, group.message, group.class) = (entry.id, failure.message, failure.class);
            }
        }
    }
}

/// An entry; none where it cannot be read.
fn read(corrupt: &CorruptRows, key: &[u8], value: &[u8]) -> Result<Option<Entry>> {
    let name = || codec::record_of(key).map_or_else(|_| key_name(key), |id| id.to_string());
    corrupt.aside(name, codec::decode_entry(key, value))
}

fn entry(reader: &Reader<'_>, corrupt: &CorruptRows, number: Number, id: &RecordId) -> Result<Option<Entry>> {
    let key = codec::record_key(number, id);
    let value = reader.ok(reader.db.get_cf(reader.family(Family::Entries)?, &key))?;
    value.map_or(Ok(None), |value| read(corrupt, &key, &value))
}

/// What the index by first failure says; none where its key cannot be read. Where only its brief cannot, the entry says it.
fn indexed(
    corrupt: &CorruptRows,
    (key, value): &Pair,
) -> Result<Option<(Timestamp, RecordId, Option<Brief>)>> {
    let Some((at, id)) = corrupt.aside(|| key_name(key), codec::timed_record_of(key))? else {
        return Ok(None);
    };
    let brief = corrupt.aside(|| key_name(key), codec::decode_brief(key, value))?;
    Ok(Some((at, id, brief.flatten())))
}

/// [`Query::matches`], as far as the index by first failure tells: of what does not pass, the entry need not be read. Time
/// is not looked at, see [`times`].
fn may_match(query: &Query, class: Option<u32>, id: &RecordId, brief: &Brief) -> bool {
    let cause = brief.cause;
    query
        .topic
        .as_ref()
        .is_none_or(|topic| *topic == id.partition.topic)
        && query.partition.as_ref().is_none_or(|p| *p == id.partition)
        && query.offsets.as_ref().is_none_or(|r| r.contains(&id.offset))
        && (query.outcomes.is_empty() || query.outcomes.contains(&brief.outcome))
        && (query.statuses.is_empty() || query.statuses.contains(&brief.status))
        && query.era.is_none_or(|era| era == brief.era)
        && query
            .fingerprint
            .is_none_or(|print| cause.is_some_and(|(held, _)| held == print))
        && class.is_none_or(|sum| cause.is_some_and(|(_, held)| held == sum))
}

/// The part of the index by first failure in which a query has to look, before its cursor; none when it is empty.
fn times(number: Number, query: &Query) -> Result<Option<Bounds>> {
    let (from, mut to) = match &query.first_failed {
        None => {
            let prefix = codec::namespace_prefix(number);
            let to = codec::behind(&prefix);
            (prefix, to)
        }
        Some(within) => (
            codec::time_prefix(number, within.start),
            Some(codec::time_prefix(number, within.end)),
        ),
    };
    if let Some(after) = &query.after {
        let at = after.first_failed_at.ok_or_else(|| {
            let message =
                "the cursor is of a listing by id, the query is newest first: start without a cursor";
            Error::new(ErrorKind::Refused, message)
        })?;
        let after = codec::time_key(number, at, &after.id);
        to = Some(to.map_or(after.clone(), |to| to.min(after)));
    }
    // RocksDB wants bounds in order.
    Ok(to.as_ref().is_none_or(|to| from < *to).then_some((from, to)))
}

/// The keys of the entries among which a query by id has to look; none when there can be none.
fn bounds(number: Number, query: &Query) -> Option<Bounds> {
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
