//! What is written: failures with the bytes of an order of 300 bytes, and batches of 1 000 records.

use tracker_api::{
    AttemptId, Captured, Change, Claim, Decision, Entry, Failure, Header, Outcome, Partition, Progress,
    RecordId, Resolution, Timestamp, Version,
};
use uuid::Uuid;

/// The contract's bound of a call.
pub(super) const MOST: i64 = 2_000;
/// Records of a batch.
pub(super) const BATCH: i64 = 1_000;
/// Failures among them.
pub(super) const FAILED: i64 = 10;
/// Failures claimed in one call.
pub(super) const CLAIMED: i64 = 10;

const PARTITIONS: i64 = 6;
/// Causes, each with a fingerprint of its own.
const CAUSES: [&str; 8] = [
    "is not in our tables",
    "no lines",
    "the price is negative",
    "the currency is not ours",
    "the country is not served",
    "the quantity is out of bounds",
    "expected value at the end",
    "the customer is closed",
];
/// 1 January 2026.
const EPOCH: i64 = 1_767_225_600_000;

fn partition(number: i64) -> Partition {
    Partition::new("orders", i32::try_from(number).unwrap_or(0))
}

fn version(attempt: i64, outcome: Outcome) -> Version {
    let id = u128::from(attempt.unsigned_abs());
    Version {
        era: 1,
        term: 1,
        attempt: AttemptId(Uuid::from_u128(id)),
        outcome,
    }
}

/// The open failure of this number: they are dealt out to the partitions, and each is a millisecond younger than the last.
pub(super) fn open_failure(number: i64) -> Entry {
    failure(
        partition(number % PARTITIONS).at(number / PARTITIONS),
        version(number / BATCH, Outcome::Failed),
        EPOCH + number,
    )
}

fn failure(id: RecordId, version: Version, at: i64) -> Entry {
    let cause = usize::try_from(at).unwrap_or(0) % CAUSES.len();
    let mut failure = Failure::new("invalid", &format!("line {}: {}", at % 9, CAUSES[cause]));
    failure.passes = true;
    let header = |name: &str, value: String| Header {
        name: name.as_bytes().to_vec().into(),
        value: Some(value.into_bytes().into()),
    };
    let mut value =
        format!("{{\"order_id\":\"order-{at}\",\"country\":\"DE\",\"currency\":\"EUR\",\"note\":\"");
    value.push_str(&"x".repeat(298 - value.len()));
    value.push_str("\"}");
    Entry {
        failure: Some(failure),
        first_failed_at: Some(Timestamp(at)),
        captured: Some(Captured {
            key: Some(format!("customer-{:05}", at % 100_000).into_bytes().into()),
            value: Some(value.into_bytes().into()),
            headers: vec![
                header("id", format!("order-{at}")),
                header("place", at.to_string()),
            ],
        }),
        ..Entry::new(id, version, Timestamp(at))
    }
}

/// The first number of how many were claimed after so many rounds.
pub(super) fn claimed(rounds: i64) -> i64 {
    rounds * CLAIMED
}

/// Ten failures from this number on are to be replayed.
pub(super) fn claim(from: i64) -> Vec<Change> {
    let change = |number| {
        let entry = open_failure(number);
        Change {
            id: entry.id,
            revision: 0,
            to: Some(Resolution {
                decision: Decision::Replaying(Claim {
                    replay: Uuid::from_u128(7),
                    transactional_id: "bench".to_owned(),
                    lease_until: Timestamp(EPOCH),
                }),
                about: entry.version,
                actor: "bench".to_owned(),
                reason: "to see what it costs".to_owned(),
                at: Timestamp(EPOCH),
            }),
        }
    };
    (from..from + CLAIMED).map(change).collect()
}

/// Batches as they flow, in a partition that the filled ones are not in.
pub(super) struct Live {
    pub(super) number: usize,
    partition: Partition,
}

impl Live {
    pub(super) fn new(number: usize) -> Self {
        let partition = Partition::new("orders.live", i32::try_from(number).unwrap_or(0));
        Self { number, partition }
    }

    /// As it stands after the batch of this round.
    pub(super) fn progress(&self, round: i64) -> Progress {
        let behind = (round + 1) * BATCH;
        Progress {
            partition: self.partition.clone(),
            era: 1,
            term: 1,
            attempt: version(round, Outcome::Succeeded).attempt,
            floor: 0,
            received: behind,
            committed: behind,
            gaps: tracker_api::Gaps::default(),
            missed: tracker_api::Gaps::default(),
            failed: 0,
            succeeded: behind.unsigned_abs(),
            at: Timestamp(EPOCH + round),
        }
    }

    /// What `reliable` writes of a batch in which 10 failed: before its commit and after it. Offsets below 0 are of no batch.
    pub(super) fn failures(&self, round: i64) -> (Vec<Entry>, Vec<Entry>, Progress) {
        let of = |outcome| {
            let one = |number| {
                let id = self.partition.at(-1 - round * FAILED - number);
                failure(id, version(round, outcome), EPOCH - 1_000_000 + round)
            };
            (0..FAILED).map(one).collect()
        };
        (of(Outcome::Failing), of(Outcome::Failed), self.progress(round))
    }

    /// What `outbox` writes before a batch.
    pub(super) fn received(&self, round: i64) -> (Vec<Entry>, Progress) {
        (self.batch(round, Outcome::Received), self.progress(round))
    }

    /// And after its commit.
    pub(super) fn succeeded(&self, round: i64) -> (Vec<Entry>, Progress) {
        (self.batch(round, Outcome::Succeeded), self.progress(round))
    }

    fn batch(&self, round: i64, outcome: Outcome) -> Vec<Entry> {
        let (version, at) = (version(round, outcome), Timestamp(EPOCH + round));
        (round * BATCH..(round + 1) * BATCH)
            .map(|offset| Entry::new(self.partition.at(offset), version, at))
            .collect()
    }
}
