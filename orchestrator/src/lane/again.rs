//! `outbox.skip-succeeded`: what has succeeded in an older era is passed without output when it is read again.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;
use tracker_api::{Partition, RecordId};

use super::{Error, Lane, partition::State, pool::RecordRef, stalls::Why};
use crate::{kafka::Session, transform::Transform};

/// How long to wait before the store is asked again.
const AGAIN: Duration = Duration::from_millis(250);

impl<S: Session, T: Transform> Lane<S, T> {
    /// Marks what the store says has succeeded already, before its `received` would stand over it. A partition about
    /// which the store does not answer leaves the batch and waits, whatever `on-store-failure` says: no answer is not
    /// "no". Once the store has said that nothing behind has succeeded, a partition waits for no such answer any more.
    /// False: not now.
    pub(super) async fn skip_succeeded(&mut self, ready: &mut Vec<Partition>) -> Result<bool, Error> {
        if !self.recorder.skips_succeeded() {
            return Ok(true);
        }
        let owned = ready.iter().filter_map(|partition| self.owned.get(partition));
        let works = owned.filter(|owned| !owned.fresh).flat_map(|owned| &owned.work);
        let asked: Vec<RecordRef> = works
            .filter(|work| !work.recorded && matches!(work.state, State::Todo))
            .map(|work| work.record.clone())
            .collect();
        if asked.is_empty() {
            return Ok(true);
        }
        let answer = self.recorder.clone().succeeded(asked.clone());
        match self.breathe_while(answer).await? {
            None => Ok(false),
            Some(Err(error)) => {
                for (partition, first) in firsts(&asked) {
                    ready.retain(|ready| *ready != partition);
                    if let Some(owned) = self.owned.get_mut(&partition) {
                        owned.rests_until = Some(Instant::now() + AGAIN);
                        let why = format!(
                            "waiting for the store to say what has succeeded already, from {first} on (outbox.skip-succeeded): {error}"
                        );
                        self.stand(Some(&partition), Why::Store, why);
                    }
                }
                Ok(!ready.is_empty())
            }
            Some(Ok(again)) => {
                for partition in firsts(&asked).keys() {
                    self.stalls.end(Some(partition), Why::Store);
                    if let Some(owned) = self.owned.get_mut(partition) {
                        owned.rests_until = None;
                    }
                }
                for id in again.done {
                    let Some(owned) = self.owned.get_mut(&id.partition) else {
                        continue;
                    };
                    if let Some(work) = owned.work_at(id.offset) {
                        work.state = State::Ready(Vec::new());
                        work.skipped = true;
                        // Its success is written anew after the commit: the new era hides the old one's from readers.
                        work.recorded = true;
                    }
                }
                for partition in again.fresh {
                    if let Some(owned) = self.owned.get_mut(&partition) {
                        owned.fresh = true;
                    }
                }
                Ok(true)
            }
        }
    }
}

/// The first record of each partition.
fn firsts(records: &[RecordRef]) -> BTreeMap<Partition, &RecordId> {
    let of = |record: &'_ RecordRef| record.id.partition.clone();
    records
        .iter()
        .rev()
        .map(|record| (of(record), &record.id))
        .collect()
}
