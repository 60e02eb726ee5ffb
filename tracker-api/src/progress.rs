use std::{cmp::Ordering, ops::Range};

use serde::{Deserialize, Serialize};

use crate::entry::{AttemptId, Partition, Timestamp};

/// Ranges of offsets about which a tracker cannot speak. Kept sorted, disjoint and not touching.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Range<i64>>", into = "Vec<Range<i64>>")]
pub struct Gaps(Vec<Range<i64>>);

impl Gaps {
    /// Adds a range; an empty one changes nothing.
    pub fn add(&mut self, range: Range<i64>) {
        if range.start >= range.end {
            return;
        }
        let first = self.0.partition_point(|held| held.end < range.start);
        let last = self.0.partition_point(|held| held.start <= range.end);
        let mut joined = range;
        if let Some(touched) = self.0.get(first..last) {
            for held in touched {
                joined = joined.start.min(held.start)..joined.end.max(held.end);
            }
        }
        self.0.splice(first..last.max(first), [joined]);
    }

    /// Takes a range out.
    pub fn remove(&mut self, range: &Range<i64>) {
        let held = std::mem::take(&mut self.0);
        for gap in held {
            self.add(gap.start..gap.end.min(range.start));
            self.add(gap.start.max(range.end)..gap.end);
        }
    }

    /// Adds all of another's.
    pub fn unite(&mut self, other: &Self) {
        other.iter().for_each(|gap| self.add(gap.clone()));
    }

    /// Whether `offset` lies in a gap.
    pub fn contains(&self, offset: i64) -> bool {
        let next = self.0.partition_point(|held| held.end <= offset);
        self.0.get(next).is_some_and(|held| held.contains(&offset))
    }

    /// Joins the nearest gaps until at most `bound` (at least 1) are left: a gap may say too much, never too little.
    pub fn bound(&mut self, bound: usize) {
        while self.0.len() > bound.max(1) {
            let distance = |pair: &[Range<i64>]| match pair {
                [a, b] => b.start.saturating_sub(a.end),
                _ => i64::MAX,
            };
            let nearest = self
                .0
                .windows(2)
                .enumerate()
                .min_by_key(|(_, pair)| distance(pair))
                .map(|(i, _)| i);
            let Some(i) = nearest else { return };
            let after = self.0.remove(i + 1);
            if let Some(before) = self.0.get_mut(i) {
                before.end = after.end;
            }
        }
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Range<i64>> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

// Read back from a note or a store, ranges are anybody's: sorted and joined anew.
impl From<Vec<Range<i64>>> for Gaps {
    fn from(ranges: Vec<Range<i64>>) -> Self {
        ranges.into_iter().collect()
    }
}

impl From<Gaps> for Vec<Range<i64>> {
    fn from(gaps: Gaps) -> Self {
        gaps.0
    }
}

impl FromIterator<Range<i64>> for Gaps {
    fn from_iter<I: IntoIterator<Item = Range<i64>>>(ranges: I) -> Self {
        let mut gaps = Self::default();
        ranges.into_iter().for_each(|range| gaps.add(range));
        gaps
    }
}

/// How far a partition has come: one row per partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The partition.
    pub partition: Partition,
    /// The partition's era; a greater one wins whole.
    pub era: u64,
    /// The term of the owner that wrote the row; 0 in a row from before rows said so.
    #[serde(default)]
    pub term: u64,
    /// The attempt id at which the owner wrote it: ids only grow within a term, so of two rows the one with the greater id
    /// knows more. Nil in a row from before rows said so.
    #[serde(default)]
    pub attempt: AttemptId,
    /// The least offset at which this store began to be told.
    pub floor: i64,
    /// Offsets below it were read.
    pub received: i64,
    /// Offsets below it are committed.
    pub committed: i64,
    /// Ranges below `committed` about which this store cannot speak. One that closes leaves the row.
    pub gaps: Gaps,
    /// The part of `gaps` that this store was never told, as another store was: no note in Kafka names it, so it is carried
    /// from owner to owner in this row alone.
    #[serde(default)]
    pub missed: Gaps,
    /// Records that a commit passed as failures, at least.
    pub failed: u64,
    /// Records whose success was committed (filtered ones included), at least.
    pub succeeded: u64,
    /// When it was written, by the caller's clock.
    pub at: Timestamp,
}

impl Progress {
    /// The join: a greater era wins whole. Within one, the greatest positions and counts and the least floor stay, and the
    /// gaps are those of the later writer, which is the one with the greater (term, attempt): it knows which gaps have
    /// closed since the earlier one wrote, and a union would keep those for ever. Two rows of one writer unite their gaps.
    ///
    /// Commutative, associative and idempotent, as each part is: a maximum, a minimum, or a union below a total order.
    pub fn join(&mut self, new: &Self) {
        match new.era.cmp(&self.era) {
            Ordering::Less => {}
            Ordering::Greater => *self = new.clone(),
            Ordering::Equal => {
                self.floor = self.floor.min(new.floor);
                self.received = self.received.max(new.received);
                self.committed = self.committed.max(new.committed);
                self.failed = self.failed.max(new.failed);
                self.succeeded = self.succeeded.max(new.succeeded);
                self.at = self.at.max(new.at);
                self.join_gaps(new);
            }
        }
    }

    fn join_gaps(&mut self, new: &Self) {
        match new.writer().cmp(&self.writer()) {
            Ordering::Less => {}
            Ordering::Greater => {
                (self.term, self.attempt) = new.writer();
                self.gaps.clone_from(&new.gaps);
                self.missed.clone_from(&new.missed);
            }
            Ordering::Equal => {
                self.gaps.unite(&new.gaps);
                self.missed.unite(&new.missed);
            }
        }
    }

    /// What decides whose gaps stay within an era.
    pub fn writer(&self) -> (u64, AttemptId) {
        (self.term, self.attempt)
    }
}

#[cfg(test)]
mod tests;
