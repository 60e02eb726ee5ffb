//! Short ways to make what the laws write.

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    AttemptId, Captured, Change, Claim, Decision, Entry, Failure, Gaps, Header, Order, Outcome, Partition,
    Progress, Query, RecordId, Resolution, Timestamp, Version,
};

pub(super) fn id(offset: i64) -> RecordId {
    Partition::new("orders", 0).at(offset)
}

pub(super) fn version(era: u64, term: u64, attempt: u128, outcome: Outcome) -> Version {
    let attempt = AttemptId(Uuid::from_u128(attempt));
    Version {
        era,
        term,
        attempt,
        outcome,
    }
}

/// An entry of era 1, term 1, written at its attempt's number.
pub(super) fn entry(offset: i64, attempt: u32, outcome: Outcome) -> Entry {
    let at = Timestamp(1_000 + i64::from(attempt));
    let mut entry = Entry::new(id(offset), version(1, 1, u128::from(attempt), outcome), at);
    if matches!(outcome, Outcome::Failing | Outcome::Failed) {
        let mut failure = Failure::new("malformed", &format!("byte {offset} is not JSON, try {attempt}"));
        failure.tries = attempt;
        failure.passes = outcome == Outcome::Failed;
        entry.failure = Some(failure);
        entry.first_failed_at = Some(at);
    }
    entry
}

/// A passing failure that a commit passed, with its bytes.
pub(super) fn failed(offset: i64, attempt: u32) -> Entry {
    let mut entry = entry(offset, attempt, Outcome::Failed);
    entry.captured = Some(captured(format!("order {offset}").as_bytes()));
    entry
}

/// A failure that blocks its partition.
pub(super) fn blocking(offset: i64, attempt: u32) -> Entry {
    entry(offset, attempt, Outcome::Failing)
}

pub(super) fn succeeded(offset: i64, attempt: u32) -> Entry {
    entry(offset, attempt, Outcome::Succeeded)
}

pub(super) fn of_era(mut entry: Entry, era: u64) -> Entry {
    entry.version.era = era;
    entry
}

pub(super) fn captured(bytes: &[u8]) -> Captured {
    let bytes = Bytes::copy_from_slice(bytes);
    Captured {
        key: Some(bytes.clone()),
        value: Some(bytes.clone()),
        headers: vec![Header {
            name: bytes.clone(),
            value: Some(bytes),
        }],
    }
}

pub(super) fn resolution(decision: Decision, about: &Entry) -> Resolution {
    Resolution {
        decision,
        about: about.version,
        actor: "ada".into(),
        reason: "the price list was wrong".into(),
        at: Timestamp(5_000),
    }
}

pub(super) fn change(about: &Entry, revision: u64, decision: Decision) -> Change {
    Change {
        id: about.id.clone(),
        revision,
        to: Some(resolution(decision, about)),
    }
}

pub(super) fn claim(replay: u128) -> Decision {
    Decision::Replaying(Claim {
        replay: Uuid::from_u128(replay),
        transactional_id: format!("orders-replay-{replay}"),
        lease_until: Timestamp(9_000),
    })
}

pub(super) fn progress(era: u64, positions: std::ops::RangeInclusive<i64>, received: i64) -> Progress {
    Progress {
        partition: Partition::new("orders", 0),
        era,
        term: 1,
        attempt: AttemptId(Uuid::from_u128(1)),
        floor: *positions.start(),
        received,
        committed: *positions.end(),
        gaps: Gaps::default(),
        missed: Gaps::default(),
        failed: 0,
        succeeded: 0,
        at: Timestamp(1_000),
    }
}

pub(super) fn query(limit: usize) -> Query {
    Query {
        limit,
        ..Query::default()
    }
}

pub(super) fn offsets(entries: &[Entry]) -> Vec<i64> {
    entries.iter().map(|entry| entry.id.offset).collect()
}

pub(super) fn newest_first(limit: usize) -> Query {
    Query {
        order: Order::NewestFirst,
        ..query(limit)
    }
}
