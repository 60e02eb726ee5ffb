//! How much one attempt sends: what the destination acknowledges well within the deadline of a transaction.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tracker_api::Partition;

use super::{
    Settings,
    partition::{Owned, State, Work},
};
use crate::mutant::{self, Mutant};

/// Bytes of the first attempts. A destination with a quota shows it before much is under way.
const FIRST: usize = 256 * 1024;

/// What an attempt carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Outputs and dead letters; a source record without any counts as one.
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl Load {
    fn of(work: &Work, dead_letters: bool) -> Self {
        match &work.state {
            State::Ready(prepared) => Self {
                records: prepared.len().max(1),
                bytes: prepared.iter().map(super::outputs::Prepared::size).sum(),
            },
            State::Passing if dead_letters => Self {
                records: 1,
                bytes: work.record.size(),
            },
            State::Passing | State::Todo => Self { records: 1, bytes: 0 },
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            records: self.records + other.records,
            bytes: self.bytes + other.bytes,
        }
    }

    fn exceeds(self, most: Self) -> bool {
        self.records > most.records || self.bytes > most.bytes
    }

    fn half(self) -> Self {
        Self {
            records: self.records / 2,
            bytes: self.bytes / 2,
        }
    }
}

/// The bound of the next attempt, between one record and the configured batch.
#[derive(Debug)]
pub(super) struct Pace {
    most: Load,
    now: Load,
    /// How long a transaction may wait for its acknowledgements.
    deadline: Duration,
    dead_letters: bool,
    /// The partition that the last attempt had no room for: the next begins with it.
    turn: Option<Partition>,
}

impl Pace {
    pub(super) fn new(settings: &Settings) -> Self {
        let most = Load {
            records: settings.batch_records,
            bytes: settings.batch_bytes,
        };
        let bytes = most.bytes.min(FIRST);
        Self {
            most,
            now: Load { bytes, ..most },
            deadline: settings.transaction_timeout.mul_f64(2.0 / 3.0),
            dead_letters: settings.dead_letter.is_some(),
            turn: None,
        }
    }

    /// Over how many works of each partition the next attempt advances, of those that it could: one record of each in turn,
    /// until it is full. Never none. A record that was refused travels alone, so that its next refusal undoes nobody's work.
    pub(super) fn cut(
        &mut self,
        counts: &mut BTreeMap<Partition, usize>,
        owned: &BTreeMap<Partition, Owned>,
    ) -> Load {
        let is_suspect = |work: &Work| work.refused && matches!(work.state, State::Ready(_));
        let works = |partition: &Partition| owned.get(partition).map(|owned| &owned.work);
        let alone = counts
            .keys()
            .find(|partition| works(partition).and_then(|w| w.front()).is_some_and(is_suspect))
            .cloned();
        if let Some(partition) = alone {
            let load = works(&partition).and_then(|w| w.front());
            let load = load
                .map(|work| Load::of(work, self.dead_letters))
                .unwrap_or_default();
            *counts = [(partition, 1)].into();
            return load;
        }
        let mut open: VecDeque<(Partition, usize)> = counts.keys().map(|p| (p.clone(), 0)).collect();
        let first = open.iter().position(|(p, _)| Some(p) >= self.turn.as_ref());
        open.rotate_left(first.unwrap_or(0));
        self.turn = None;
        let mut load = Load::default();
        let mut taken: BTreeMap<Partition, usize> = BTreeMap::new();
        while let Some((partition, place)) = open.pop_front() {
            let Some(work) = works(&partition)
                .and_then(|w| w.get(place))
                .filter(|w| !is_suspect(w))
            else {
                continue;
            };
            let more = load.and(Load::of(work, self.dead_letters));
            if load.records > 0 && more.exceeds(self.now) {
                self.turn = Some(partition);
                break;
            }
            load = more;
            let next = place + 1;
            let is_more = counts.get(&partition).is_some_and(|count| next < *count);
            taken.insert(partition.clone(), next);
            if is_more {
                open.push_back((partition, next));
            }
        }
        *counts = taken;
        load
    }

    /// An attempt of this load was not acknowledged in time.
    pub(super) fn late(&mut self, load: Load) {
        if mutant::active(Mutant::LateWithoutShrinking) {
            return;
        }
        let half = load.half();
        self.now = Load {
            records: half.records.clamp(1, self.now.records),
            bytes: half.bytes.clamp(1, self.now.bytes),
        };
    }

    /// One was committed, and took so long. Half of the deadline is too close to it; an eighth leaves room for half as much
    /// again.
    pub(super) fn committed(&mut self, load: Load, took: Duration) {
        if took >= self.deadline / 2 {
            self.late(load);
        } else if took < self.deadline / 8 && load.exceeds(self.now.half()) {
            self.now = Load {
                records: (self.now.records + self.now.records / 2 + 1).min(self.most.records),
                bytes: (self.now.bytes + self.now.bytes / 2 + 1).min(self.most.bytes),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::tests::settings;

    /// A destination that takes so many bytes a second; how many of 200 attempts, each as large as it may be, were late.
    fn late_of(pace: &mut Pace, bytes_a_second: u32) -> usize {
        let mut late = 0;
        for _ in 0..200 {
            let load = pace.now;
            let bytes = u32::try_from(load.bytes).unwrap();
            let took = Duration::from_secs(u64::from(bytes)) / bytes_a_second;
            if took > pace.deadline {
                late += 1;
                pace.late(load);
            } else {
                pace.committed(load, took);
            }
        }
        late
    }

    #[test]
    fn a_quota_makes_attempts_small_and_none_late() {
        let mut pace = Pace::new(&settings());
        assert_eq!(late_of(&mut pace, 100_000), 0);
        assert_eq!(late_of(&mut pace, 100_000_000), 0);
        assert_eq!(
            pace.now, pace.most,
            "a destination that is quick gets whole batches"
        );
        let late = late_of(&mut pace, 100_000);
        assert!(
            (1..=3).contains(&late),
            "{late}: until it fits a quota that is new"
        );
        assert_eq!(late_of(&mut pace, 100_000), 0, "and it does not grow out of it");
    }

    #[test]
    fn an_attempt_never_shrinks_to_nothing() {
        let mut pace = Pace::new(&settings());
        (0..50).for_each(|_| pace.late(pace.now));
        assert_eq!(pace.now, Load { records: 1, bytes: 1 });
        pace.committed(pace.now, Duration::ZERO);
        assert!(pace.now.records > 1 && pace.now.bytes > 1, "{pace:?}");
    }
}
