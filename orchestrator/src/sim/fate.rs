//! What is to become of a record travels in the record: neither the laws nor a process needs to remember it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use rand::Rng;
use tokio::time::sleep;
use tracker_api::RecordId;

use super::world::Sim;
use crate::transform::{Output, SourceRecord, TargetRecord, Transform, TransformError};

/// The value of an output that the broker does not take.
pub(super) const REFUSED: &str = "refused";

/// A record's fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// So many outputs.
    Outputs(usize),
    Filtered,
    /// Fails, and says that a retry does not help.
    Rejected,
    /// Fails at every try.
    Fails,
    /// Fails at the first so many tries, whoever makes them; then has one output.
    FailsFirst(u32),
    /// Has one output, which the broker never takes.
    Refused,
}

impl Fate {
    pub(super) fn value(self) -> Bytes {
        Bytes::from(match self {
            Self::Outputs(n) => format!("outputs {n}"),
            Self::Filtered => "filtered 0".to_owned(),
            Self::Rejected => "rejected 0".to_owned(),
            Self::Fails => "fails 0".to_owned(),
            Self::FailsFirst(n) => format!("first {n}"),
            Self::Refused => "refused 0".to_owned(),
        })
    }

    pub(super) fn of(record: &SourceRecord) -> Self {
        let text = record
            .value
            .as_deref()
            .map(String::from_utf8_lossy)
            .unwrap_or_default();
        let (word, number) = text.split_once(' ').unwrap_or((&text, "0"));
        let number: u32 = number.parse().unwrap_or(0);
        match word {
            "outputs" => Self::Outputs(number as usize),
            "filtered" => Self::Filtered,
            "rejected" => Self::Rejected,
            "fails" => Self::Fails,
            "refused" => Self::Refused,
            _ => Self::FailsFirst(number),
        }
    }

    /// How many outputs it has if it succeeds; none if it cannot.
    pub(super) fn outputs(self) -> Option<usize> {
        match self {
            Self::Outputs(n) => Some(n),
            Self::Filtered => Some(0),
            Self::FailsFirst(_) => Some(1),
            Self::Rejected | Self::Fails | Self::Refused => None,
        }
    }

    /// Whether a try of it may fail.
    pub(super) fn may_fail(self) -> bool {
        matches!(
            self,
            Self::Rejected | Self::Fails | Self::FailsFirst(_) | Self::Refused
        )
    }
}

/// The transform of every simulated process.
#[derive(Debug)]
pub(super) struct Fates {
    pub(super) sim: Arc<Sim>,
    /// Tries so far, of all processes.
    pub(super) tries: Arc<std::sync::Mutex<BTreeMap<RecordId, u32>>>,
    pub(super) timeout: Duration,
}

impl Transform for Fates {
    async fn transform(&self, record: &SourceRecord) -> Result<Output, TransformError> {
        let slow = {
            let mut world = self.sim.world();
            let rate = world.rate;
            // One without outputs looks the same to the laws whether it failed or not.
            let shows = Fate::of(record).outputs() != Some(0);
            if shows && rate > 0.0 && world.rng.random_bool(rate) {
                world.rng.random_range(1..3_000)
            } else {
                0
            }
        };
        if Duration::from_millis(slow) >= self.timeout {
            self.sim.world().laws.excuse(record.id.clone());
        }
        if slow > 0 {
            sleep(Duration::from_millis(slow)).await;
        }
        let tries = {
            let mut tries = self
                .tries
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let tries = tries.entry(record.id.clone()).or_default();
            *tries += 1;
            *tries
        };
        let output = |i: usize| TargetRecord::new(record.key.clone(), format!("{} {i}", record.id));
        match Fate::of(record) {
            Fate::Filtered => Ok(Output::Filtered),
            Fate::Outputs(n) => Ok(Output::Records((0..n).map(output).collect())),
            Fate::Refused => Ok(TargetRecord::new(record.key.clone(), REFUSED).into()),
            Fate::FailsFirst(k) if tries > k => Ok(Output::Records(vec![output(0)])),
            Fate::Rejected => Err(TransformError::permanent("rejected", "as fated")),
            Fate::Fails | Fate::FailsFirst(_) => Err(TransformError::retryable("fails", "as fated")),
        }
    }
}
