use tracker_api::{Outcome, Query, Status};

use crate::codec::{self, ordered};

/// How much one call may look at, about: a member of the index costs one, the entry behind it another, a text or captured
/// bytes more. It holds up the server for some tens of milliseconds at most; a search that needs more is more calls.
const WORK: usize = 10_000;
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
pub(crate) fn statuses(query: &Query, failures_only: bool) -> Vec<u8> {
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
pub(crate) struct Plan {
    timed: bool,
    prefixes: Vec<Vec<u8>>,
    /// Bounds of what follows a prefix: the least, and what is behind the last.
    from: Vec<u8>,
    to: Option<Vec<u8>>,
    filters: Vec<Vec<u8>>,
}

impl Plan {
    /// None when nothing can match.
    pub(crate) fn of(query: &Query, statuses: &[u8], timed: bool) -> Option<Self> {
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
    pub(crate) fn behind(&mut self, mut place: Vec<u8>) {
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

    pub(crate) fn arguments(&self, wanted: usize) -> Vec<Vec<u8>> {
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
