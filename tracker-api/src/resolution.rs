use serde::{Deserialize, Serialize};

use crate::entry::{Outcome, RecordId, Timestamp, Version};

/// What an operator decided about a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Decision {
    /// On a blocking record: try it again now.
    Retry,
    /// On a blocking record: pass it over; it becomes a failed one.
    Skip,
    /// On a failed record: somebody is replaying it.
    Replaying(Claim),
    /// On a failed record: its replay is committed.
    Replayed,
    /// On a failed record: nobody wants it any more.
    Discarded,
}

impl Decision {
    /// Whether it is about a blocking record; the others are about a failed one.
    pub fn is_for_blocking(&self) -> bool {
        matches!(self, Self::Retry | Self::Skip)
    }
}

/// Who replays a record, so that a successor can settle what a crash left open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The replay's id.
    pub replay: uuid::Uuid,
    /// The claimant's transactional id: whoever takes over initialises it first.
    pub transactional_id: String,
    /// Until when nobody else needs to look. Affects speed only, never correctness.
    pub lease_until: Timestamp,
}

/// A decision, who made it, when, why, and about which version of the outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// What was decided.
    pub decision: Decision,
    /// The version that was held when it was made.
    pub about: Version,
    /// Who decided.
    pub actor: String,
    /// Why; a person's words.
    pub reason: String,
    /// When, by the caller's clock.
    pub at: Timestamp,
}

impl Resolution {
    /// Whether it applies to an outcome of version `held` that is `blocking` or not.
    pub fn applies_to(&self, held: &Version, blocking: bool) -> bool {
        if self.decision.is_for_blocking() {
            // It stands within its era: each retry has a new version. A skipped record that was passed stays skipped.
            let skipped = self.decision == Decision::Skip && held.outcome == Outcome::Failed;
            self.about.era == held.era && (blocking || skipped || held.outcome <= Outcome::Failing)
        } else {
            held.outcome == Outcome::Failed && self.about == *held
        }
    }
}

/// A compare-and-set on the resolution half of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The record.
    pub id: RecordId,
    /// The revision that must be held.
    pub revision: u64,
    /// What to write: a resolution, or none to open the failure again.
    pub to: Option<Resolution>,
}

impl Change {
    /// Whether it takes on an entry: the revision is the held one, and the resolution is about what is held: on a
    /// failed record this version of the failure, on a blocking one this era while it blocks. Backends call it, so
    /// that the rule stands once.
    pub fn takes(&self, revision: u64, held: &Version, blocking: bool) -> bool {
        revision == self.revision
            && self.to.as_ref().is_none_or(|resolution| {
                if resolution.decision.is_for_blocking() {
                    blocking && resolution.about.era == held.era
                } else {
                    held.outcome == Outcome::Failed && resolution.about == *held
                }
            })
    }
}

#[cfg(test)]
mod tests;
