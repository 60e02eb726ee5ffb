//! Notes, headers and entries, in the checker's own reading.

use std::{fmt::Write as _, ops::Range};

use futures::FutureExt;
use tracker_api::{Entry, FailureTracker, MemoryTracker, Progress, Query, RecordId};

use crate::{kafka::Send, sim::world::short};

/// A note, as the checker reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sim) struct Noted {
    pub(in crate::sim) attempt: String,
    pub(in crate::sim) passed: bool,
    pub(in crate::sim) era: u64,
    pub(in crate::sim) term: u64,
    pub(in crate::sim) began: i64,
    pub(in crate::sim) topic: String,
    /// Up to where the store has confirmed progress.
    pub(in crate::sim) told: i64,
    pub(super) unconfirmed: Vec<String>,
    pub(super) gaps: Vec<Range<i64>>,
}

impl Noted {
    pub(in crate::sim) fn read(text: &str) -> Option<Self> {
        let mut fields = text.split(';');
        let mut next = || fields.next();
        if next()? != "v2" || text.len() >= 4_096 {
            return None;
        }
        let attempt = next()?.to_owned();
        let passed = next()? == "p";
        let (era, term) = (next()?.parse().ok()?, next()?.parse().ok()?);
        let began = next()?.parse().ok()?;
        // In a simulation there is one store.
        let (_store, _since) = (next()?, next()?.parse::<i64>().ok()?);
        let (_partitions, topic) = (next()?, next()?.to_owned());
        let told = next()?.parse().ok()?;
        let unconfirmed = next()?
            .split(',')
            .filter(|a| !a.is_empty())
            .map(str::to_owned)
            .collect();
        let range = |text: &str| {
            let (start, end) = text.split_once('-')?;
            Some(start.parse().ok()?..end.parse().ok()?)
        };
        let gaps = next()?
            .split(',')
            .filter(|g| !g.is_empty())
            .map(range)
            .collect::<Option<_>>()?;
        Some(Self {
            attempt,
            passed,
            era,
            term,
            began,
            topic,
            told,
            unconfirmed,
            gaps,
        })
    }

    pub(super) fn names(&self, attempt: &str) -> bool {
        (self.passed && self.attempt == attempt) || self.unconfirmed.iter().any(|a| a == attempt)
    }

    pub(super) fn has_gap(&self, offset: i64) -> bool {
        self.gaps.iter().any(|gap| gap.contains(&offset))
    }
}

pub(super) fn held(tracker: &MemoryTracker, id: &RecordId) -> Option<Entry> {
    tracker
        .get(std::slice::from_ref(id))
        .now_or_never()?
        .ok()?
        .pop()?
}

pub(super) fn listed(tracker: &MemoryTracker, query: &Query) -> Vec<Entry> {
    let page = tracker.list(query).now_or_never().and_then(Result::ok);
    page.unwrap_or_default().entries
}

pub(super) fn progress(tracker: &MemoryTracker) -> Vec<Progress> {
    tracker
        .progress()
        .now_or_never()
        .and_then(Result::ok)
        .unwrap_or_default()
}

pub(super) fn header<'a>(send: &'a Send, name: &str) -> Option<&'a str> {
    let header = send.headers.iter().find(|h| h.name == name.as_bytes())?;
    std::str::from_utf8(header.value.as_deref()?).ok()
}

pub(super) fn source_of(send: &Send) -> Option<RecordId> {
    header(send, "orchestrator-dedup-key")?.parse().ok()
}

/// An entry, short enough for a line.
pub(in crate::sim) fn show(entry: &Entry) -> String {
    let mut text = format!(
        "{} {:?} era {} term {} {}",
        entry.id,
        entry.version.outcome,
        entry.version.era % 100_000_000,
        entry.version.term,
        short(entry.version.attempt)
    );
    if let Some(failure) = &entry.failure {
        let _ = write!(
            text,
            " {} try {}",
            if failure.passes { "passes" } else { "stops" },
            failure.tries
        );
    }
    text
}
