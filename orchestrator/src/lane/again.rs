//! `outbox.skip-succeeded`: what has succeeded in an older era is passed without output when it is read again.

use tracker_api::Partition;

use super::{Error, Lane, partition::State, pool::RecordRef, stalls::Why};
use crate::{kafka::Session, transform::Transform};

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
                ready.retain(|partition| asked.iter().all(|record| record.id.partition != *partition));
                let first = asked.first().map(|record| record.id.to_string());
                let why = format!(
                    "waiting for the store to say what has succeeded already, from {} on (outbox.skip-succeeded): {error}",
                    first.unwrap_or_default()
                );
                if ready.is_empty() {
                    self.put_off(why);
                    return Ok(false);
                }
                for record in asked {
                    self.stand(Some(&record.id.partition), Why::Store, why.clone());
                }
                Ok(true)
            }
            Some(Ok(again)) => {
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
