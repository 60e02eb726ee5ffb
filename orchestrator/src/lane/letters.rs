//! What becomes of a dead letter that its topic does not take. It is never the lane that waits, and nothing is passed over
//! without a trace.

use std::time::Duration;

use tokio::time::Instant;
use tracker_api::Partition;

use super::{
    Backoff, Lane, Settings,
    commit::Place,
    dead_letter::Form,
    partition::{Owned, State, Work},
    stalls::Why,
};
use crate::{
    kafka::{Error, Session, What},
    transform::Transform,
};

/// How long letters are kept back after refusals in a row. Not longer: somebody mends a topic by hand, and is not to wait long
/// for the effect.
const KEPT: Backoff = Backoff {
    first: Duration::from_secs(1),
    most: Duration::from_secs(30),
};

/// Dead letters that are kept back because their topic takes none, whatever is in them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Letters {
    until: Option<Instant>,
    refusals: u32,
}

impl Letters {
    /// The topic takes nothing now.
    fn refused(&mut self, now: Instant) {
        self.refusals = self.refusals.saturating_add(1);
        self.until = Some(now + KEPT.after(self.refusals, 0));
    }

    /// One was taken.
    pub(super) fn taken(&mut self) {
        *self = Self::default();
    }

    /// The first of the next `count` works whose letter is kept back, and until when.
    pub(super) fn first_kept(
        &self,
        owned: &Owned,
        count: usize,
        settings: &Settings,
        now: Instant,
    ) -> Option<(usize, Instant)> {
        settings.dead_letter.as_ref()?;
        let kept = |work: &Work| {
            let has_letter = matches!(work.state, State::Passing) && work.letter != Form::None;
            let until = self.until.max(work.letter_after).filter(|until| *until > now);
            until.filter(|_| has_letter)
        };
        let works = owned.work.iter().take(count).enumerate();
        works
            .filter_map(|(place, work)| Some((place, kept(work)?)))
            .next()
    }
}

impl<S: Session, T: Transform> Lane<S, T> {
    /// A dead letter was refused. If the topic takes nothing, it is waited for, by the partitions that have one to send.
    /// Otherwise a shorter one is tried; where the store holds the failure durably (`in_store`), or the configuration names the
    /// record to be skipped, it may be passed without any; else its partition stands before it, and the letter is tried
    /// again whole later.
    pub(super) fn letter_refused(
        &mut self,
        (partition, place): &Place,
        what: What,
        why: &Error,
        in_store: bool,
    ) {
        let now = Instant::now();
        let topic = self.settings.dead_letter.clone().unwrap_or_default();
        let Some(work) = self.owned.get_mut(partition).and_then(|o| o.work.get_mut(*place)) else {
            return;
        };
        let id = &work.record.id;
        let text = if what == What::Topic {
            self.letters.refused(now);
            format!("the dead letter of {id} waits for its topic `{topic}`: {why}")
        } else {
            let shorter = work.letter.shorter();
            if shorter != Form::None || in_store || self.settings.skip.contains(id) {
                if shorter == Form::None {
                    tracing::warn!(dedupKey = %id, %why, "the topic `{topic}` refuses its dead letter in every form; it is passed without one, and the store's entry says it");
                }
                work.letter = shorter;
                return;
            }
            work.letter = Form::Whole;
            work.letter_refusals = work.letter_refusals.saturating_add(1);
            work.letter_after = Some(now + KEPT.after(work.letter_refusals, 0));
            format!(
                "`{topic}` refuses the dead letter of {id} in every form, and nothing else holds the failure: {why}. \
                 Mend the topic, track failures in a store (`tracking: reliable`), or configure `skip: [{id}]`"
            )
        };
        self.stand(Some(partition), Why::DeadLetter, text);
    }

    /// How many works of a partition an attempt may advance over: those that are done, up to a letter that is kept back. With
    /// nothing before that one, the partition rests until then.
    pub(super) fn done_before_kept_letter(&mut self, partition: &Partition) -> usize {
        let now = Instant::now();
        let Some(owned) = self.owned.get_mut(partition) else {
            return 0;
        };
        let count = owned.done();
        let kept = self.letters.first_kept(owned, count, &self.settings, now);
        owned.rests_until = kept.filter(|(first, _)| *first == 0).map(|(_, until)| until);
        kept.map_or(count, |(first, _)| first)
    }
}
