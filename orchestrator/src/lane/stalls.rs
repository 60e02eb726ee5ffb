//! What does not move, and why: of the whole lane, or of single partitions.
//!
//! A reason belongs to whom it is about, and only that one's own progress ends it: a commit of another partition says
//! nothing about one that stands.

use std::{collections::BTreeMap, sync::Arc};

use tracker_api::{Partition, Timestamp};

use super::Observer;

/// Why something does not move, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Why {
    /// Kafka, or the coordinator of the group, does not answer.
    Kafka,
    /// Nobody can tell where the partition begins: a person must say it.
    Start,
    /// An offset of somebody's transaction is pending, or a transaction hangs.
    Pending,
    /// The log cannot be read where the partition stands.
    Unreadable,
    /// Somebody's transaction on the source has been open for long, and hides what lies behind its first record. The
    /// service stays ready: what can be read is read.
    OpenTransaction,
    /// The store must answer first.
    Store,
    /// A transaction was aborted and is tried again.
    Aborted,
    /// A topic or its broker does not take what is sent.
    Destination,
    /// A dead letter cannot be sent.
    DeadLetter,
    /// Transforms do not return.
    Transform,
    /// A record fails and is tried again. The service stays ready: another instance would stand at it too.
    Blocked,
}

impl Why {
    pub(crate) const ALL: [Self; 11] = [
        Self::Kafka,
        Self::Start,
        Self::Pending,
        Self::Unreadable,
        Self::OpenTransaction,
        Self::Store,
        Self::Aborted,
        Self::Destination,
        Self::DeadLetter,
        Self::Transform,
        Self::Blocked,
    ];

    /// The label of `orch_stalled_partitions`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Start => "start",
            Self::Pending => "pending",
            Self::Unreadable => "unreadable",
            Self::OpenTransaction => "open_transaction",
            Self::Store => "store",
            Self::Aborted => "aborted",
            Self::Destination => "destination",
            Self::DeadLetter => "dead_letter",
            Self::Transform => "transform",
            Self::Blocked => "blocked",
        }
    }

    /// Whether it is about the record at the partition's front.
    fn is_of_a_record(self) -> bool {
        matches!(self, Self::Blocked | Self::Transform)
    }

    /// Whether the service is ready nevertheless.
    pub(crate) fn is_ready(self) -> bool {
        matches!(self, Self::Blocked | Self::OpenTransaction)
    }
}

/// One thing that does not move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stall {
    /// None: the whole lane.
    pub(crate) partition: Option<Partition>,
    pub(crate) why: Why,
    /// What a person reads: what happened, where, and what to do.
    pub(crate) text: String,
    /// Since when it stands for this reason, by the wall clock.
    pub(crate) since: Timestamp,
}

/// What of one lane does not move. Tells the observer at every change.
#[derive(Debug)]
pub(super) struct Stalls {
    of: BTreeMap<(Option<Partition>, Why), Stall>,
    observer: Arc<dyn Observer>,
}

impl Stalls {
    pub(super) fn new(observer: Arc<dyn Observer>) -> Self {
        Self {
            of: BTreeMap::new(),
            observer,
        }
    }

    /// `partition`, or the whole lane, does not move. A reason that is known keeps its time; its text may be newer.
    pub(super) fn stand(&mut self, partition: Option<&Partition>, why: Why, text: String, now: Timestamp) {
        let stall = self.of.entry((partition.cloned(), why)).or_insert_with(|| Stall {
            partition: partition.cloned(),
            why,
            text: String::new(),
            since: now,
        });
        if stall.text != text {
            stall.text = text;
            self.tell();
        }
    }

    /// This reason is over.
    pub(super) fn end(&mut self, partition: Option<&Partition>, why: Why) {
        if self.of.remove(&(partition.cloned(), why)).is_some() {
            self.tell();
        }
    }

    /// The record at the partition's front has failed since `since`. One record stands at the front: whatever was said of
    /// another is over.
    pub(super) fn block(&mut self, partition: &Partition, why: Why, text: String, since: Timestamp) {
        self.of
            .retain(|(of, other), _| of.as_ref() != Some(partition) || !other.is_of_a_record());
        let stall = Stall {
            partition: Some(partition.clone()),
            why,
            text,
            since,
        };
        self.of.insert((Some(partition.clone()), why), stall);
        self.tell();
    }

    /// No record at the partition's front fails.
    pub(super) fn unblock(&mut self, partition: &Partition) {
        self.forget(partition, Why::is_of_a_record);
    }

    /// The partition has advanced, up to a record that fails.
    pub(super) fn advanced(&mut self, partition: &Partition) {
        self.forget(partition, |why| !why.is_of_a_record());
    }

    /// The partition moves, or is not ours any more: no reason of its own is left.
    pub(super) fn moved(&mut self, partition: &Partition) {
        self.forget(partition, |_| true);
    }

    fn forget(&mut self, partition: &Partition, which: impl Fn(Why) -> bool) {
        let before = self.of.len();
        self.of
            .retain(|(of, why), _| of.as_ref() != Some(partition) || !which(*why));
        if self.of.len() != before {
            self.tell();
        }
    }

    fn tell(&self) {
        self.observer.stalled(self.of.values().cloned().collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::tests::Seen;

    #[test]
    fn only_its_own_progress_ends_a_partitions_reason_and_its_time_stays() {
        let seen = Arc::new(Seen::default());
        let mut stalls = Stalls::new(seen.clone());
        let (one, two) = (Partition::new("orders", 1), Partition::new("orders", 2));
        stalls.stand(Some(&one), Why::Start, "no offset".into(), Timestamp(5));
        stalls.stand(Some(&two), Why::Blocked, "orders:2:7".into(), Timestamp(6));
        stalls.stand(None, Why::Kafka, "away".into(), Timestamp(7));
        stalls.stand(Some(&one), Why::Start, "still no offset".into(), Timestamp(9));
        stalls.end(None, Why::Kafka);
        stalls.moved(&two);
        let left = seen.stalls();
        assert_eq!(
            left,
            [Stall {
                partition: Some(one.clone()),
                why: Why::Start,
                text: "still no offset".into(),
                since: Timestamp(5),
            }]
        );
        stalls.moved(&one);
        assert!(seen.stalls().is_empty());
    }
}
