//! What the store answers, as the lane takes it up between two batches.

use tracker_api::{Decision, Partition};

use super::{
    Lane,
    partition::{Owned, State},
};
use crate::{
    kafka::Session,
    mutant::{self, Mutant},
    note::MOST_GAPS,
    recorder::Feedback,
    transform::Transform,
};

impl<S: Session, T: Transform> Lane<S, T> {
    /// Takes up what the store answered since.
    pub(super) fn take_feedback(&mut self) {
        while let Ok(feedback) = self.feedback.try_recv() {
            match feedback {
                Feedback::Confirmed {
                    partition,
                    attempts,
                    closed,
                    unknown,
                } => {
                    let owned = self.owned.get_mut(&partition);
                    if owned.is_some_and(|owned| owned.confirm(&attempts, &closed, &unknown)) {
                        self.tell(&partition);
                    }
                }
                Feedback::Missed {
                    partition,
                    term,
                    missed,
                } => {
                    let owned = self.owned.get_mut(&partition);
                    let owned =
                        owned.filter(|owned| (owned.era, owned.term) == term && owned.missed.is_none());
                    if let Some(owned) = owned {
                        owned.missed = Some(missed);
                        self.tell(&partition);
                    }
                }
                Feedback::Told {
                    partition,
                    era,
                    committed,
                } => {
                    let owned = self.owned.get_mut(&partition).filter(|o| o.era == era);
                    if let Some(owned) = owned {
                        owned.told = committed.max(owned.told);
                    }
                }
                Feedback::Lacks { partition, era, gap } => {
                    let owned = self.owned.get_mut(&partition).filter(|o| o.era == era);
                    let new =
                        |o: &&mut Owned| !o.gaps.iter().any(|g| g.start <= gap.start && gap.end <= g.end);
                    if let Some(owned) = owned.filter(new) {
                        let offsets = u64::try_from(gap.end - gap.start).unwrap_or(0);
                        tracing::warn!(%partition, ?gap, "the store came back older than what it had confirmed: nobody can tell what became of these offsets");
                        self.observer.store_behind(offsets);
                        owned.gaps.add(gap);
                        owned.gaps.bound(MOST_GAPS);
                    }
                }
                Feedback::Behind { partition, era } => {
                    if self.owned.get(&partition).is_some_and(|o| o.era == era) {
                        tracing::warn!(%partition, "the store knows less than it had confirmed: the partition begins a new term");
                        self.restart(&partition);
                    }
                }
                Feedback::Outdated { partition, era } => self.later_era(&partition, era),
                Feedback::Decided {
                    id,
                    era,
                    revision,
                    decision,
                } => {
                    let Some(owned) = self.owned.get_mut(&id.partition).filter(|o| o.era == era) else {
                        continue;
                    };
                    let is_blocked = owned.blocked.is_some();
                    let Some(work) = owned.first_undone().filter(|w| w.record.id == id) else {
                        continue;
                    };
                    if revision <= work.revision || !is_blocked {
                        continue;
                    }
                    work.revision = revision;
                    if let (Decision::Skip, Some(failure)) = (&decision, &mut work.failure) {
                        failure.passes = true;
                        failure.next_try = None;
                        work.state = State::Passing;
                    }
                    self.journal.forgive(&id);
                    owned.blocked = None;
                    tracing::info!(dedupKey = %id, ?decision, "an operator decided about a blocking record");
                }
            }
        }
    }

    /// Writes the partition's row anew, at an id of its own: of two rows of one attempt the gaps would unite, and nothing may
    /// be committed for long.
    fn tell(&mut self, partition: &Partition) {
        let id = self.ids.next(&*self.clock);
        let owned = self.owned.get(partition).filter(|owned| owned.missed.is_some());
        if let Some(owned) = owned {
            self.recorder
                .tell(owned.progress(partition, id, self.recorder.now()));
        }
    }

    /// The store knows this era of a partition. If it is later than ours, nothing that we write there would stand.
    pub(super) fn later_era(&mut self, partition: &Partition, era: u64) {
        let is_low = self.owned.get(partition).is_some_and(|owned| owned.era < era);
        if is_low && !mutant::active(Mutant::LowEraStays) {
            tracing::warn!(%partition, era, "the store knows a later era, as if a clock had gone back: beginning one above it");
            let known = self.later_eras.entry(partition.clone()).or_default();
            *known = era.max(*known);
            self.restart(partition);
        }
    }
}
