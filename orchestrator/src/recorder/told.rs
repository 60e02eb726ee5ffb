//! What the lane and its recorder tell each other about an attempt.

use std::ops::Range;

use tracker_api::{AttemptId, Decision, Entry, Gaps, Outcome, Partition, Progress, RecordId};

/// What the store answered, for the lane to take up when it next looks.
#[derive(Debug)]
pub(crate) enum Feedback {
    /// The failures of these attempts are `failed` in the store, or voided: the note need not name them any more.
    Confirmed {
        partition: Partition,
        attempts: Vec<AttemptId>,
        closed: Vec<i64>,
        /// Of these the store did not take the failure: they lie in a gap.
        unknown: Vec<i64>,
    },
    /// The store has confirmed the progress of this partition up to here.
    Told {
        partition: Partition,
        era: u64,
        committed: i64,
    },
    /// The store does not know any more what it had confirmed here.
    Lacks {
        partition: Partition,
        era: u64,
        gap: Range<i64>,
    },
    /// The store's row says less than the store had confirmed.
    Behind { partition: Partition, era: u64 },
    /// What the store was never told of this partition, as the recovery of our (era, term) found; its rows are to say so.
    Missed {
        partition: Partition,
        term: (u64, u64),
        missed: Gaps,
    },
    /// The store knows a later era of this partition.
    Outdated { partition: Partition, era: u64 },
    /// An operator decided about a blocking record.
    Decided {
        id: RecordId,
        era: u64,
        revision: u64,
        decision: Decision,
    },
}

impl Feedback {
    /// This row is durable.
    pub(super) fn told(row: Progress) -> Self {
        Self::Told {
            partition: row.partition,
            era: row.era,
            committed: row.committed,
        }
    }

    /// The store does not hold the failures of these records: their offsets do not close, and become gaps if they are none.
    pub(super) fn except(&mut self, missing: &[(RecordId, Outcome)]) {
        let Self::Confirmed {
            partition,
            closed,
            unknown,
            ..
        } = self
        else {
            return;
        };
        let failures = missing.iter().filter(|(_, outcome)| *outcome == Outcome::Failed);
        for (id, _) in failures.filter(|(id, _)| id.partition == *partition) {
            let before = closed.len();
            closed.retain(|offset| *offset != id.offset);
            if closed.len() < before {
                unknown.push(id.offset);
            }
        }
    }
}

/// Who holds the failures that an attempt passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Held {
    /// The store; or nobody needs to.
    #[default]
    Store,
    /// The fallback: their offsets become gaps.
    Fallback,
    /// Only the dead letter in the same transaction: their offsets become gaps.
    DeadLetter,
    /// Somebody with a newer version wrote about these records: do not commit, read C(p) again.
    Superseded(Vec<RecordId>),
}

/// What a commit made true.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// `failed` and `succeeded` entries, at the attempt's version.
    pub(crate) entries: Vec<Entry>,
    pub(crate) progress: Vec<Progress>,
    /// Partitions whose failures this attempt passed, with the gaps that close once they are in the store.
    pub(crate) passed: Vec<(Partition, Vec<i64>)>,
    /// Who holds these failures.
    pub(crate) held: Held,
}
