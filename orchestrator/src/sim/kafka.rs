//! A broker without a network: source logs, transactions, producer epochs, the group's committed offsets.
//!
//! Pure and synchronous; time and faults are added around it. What it answers is what Apache Kafka 4.3 answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use tokio::time::Instant;
use tracker_api::{AttemptId, Partition};

use super::group::{Group, Metadata, Refusal};
use crate::{
    kafka::{Position, Send, Topic},
    transform::SourceRecord,
};

/// What a transactional id stands for at the coordinator.
#[derive(Debug, Default)]
pub(super) struct Producer {
    /// Requests of an older epoch are refused.
    pub(super) epoch: u32,
    /// The transaction that is open, if one is.
    pub(super) open: Option<Open>,
}

/// A transaction that has neither been committed nor aborted.
#[derive(Clone, Debug)]
pub(super) struct Open {
    /// The attempt of its first request; only the laws look at it.
    pub(super) attempt: AttemptId,
    /// What was produced, in order.
    pub(super) sends: Vec<Send>,
    /// The pending offsets with their notes.
    pub(super) offsets: BTreeMap<Partition, (i64, String)>,
    /// When its first request came.
    pub(super) since: Instant,
}

/// Why the transaction coordinator refused a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The epoch is not the current one: code 47.
    Fenced,
    /// The group refused the offsets.
    Group(Refusal),
}

/// The broker.
#[derive(Debug)]
pub(super) struct Kafka {
    /// The visible records of each source partition; offsets rise and may leave gaps, as markers do.
    pub(super) source: BTreeMap<Partition, Vec<SourceRecord>>,
    /// Records of aborted transactions, which nobody may read.
    pub(super) aborted: BTreeMap<Partition, Vec<SourceRecord>>,
    /// First offset and end of each source log.
    pub(super) bounds: BTreeMap<Partition, Range<i64>>,
    /// Everything committed, in the order of the commits.
    pub(super) written: Vec<Send>,
    /// C(p) and its note.
    pub(super) committed: BTreeMap<Partition, (i64, Option<String>)>,
    /// By transactional id.
    pub(super) producers: BTreeMap<String, Producer>,
    /// Partitions with an offset of ours in somebody's transaction that nobody ends.
    pub(super) hanging: BTreeSet<Partition>,
    /// Our consumer group.
    pub(super) group: Group,
    /// How often the source topic was made again.
    pub(super) made: u32,
}

impl Kafka {
    pub(super) fn new(source: BTreeMap<Partition, Vec<SourceRecord>>) -> Self {
        let bounds = source
            .iter()
            .map(|(p, records)| (p.clone(), 0..records.last().map_or(0, |r| r.id.offset + 1)))
            .collect();
        let group = Group::new(source.keys().cloned().collect());
        Self {
            source,
            aborted: BTreeMap::new(),
            bounds,
            written: Vec::new(),
            committed: BTreeMap::new(),
            producers: BTreeMap::new(),
            hanging: BTreeSet::new(),
            group,
            made: 0,
        }
    }

    /// The source topic, as it is now.
    pub(super) fn topic(&self) -> Topic {
        Topic {
            id: Some(format!("{:022}", self.made).into()),
            partitions: i32::try_from(self.source.len()).unwrap_or(i32::MAX),
        }
    }

    /// InitProducerId: the predecessor's open transaction is aborted, its epoch is over.
    pub(super) fn init_producer(&mut self, id: &str) -> u32 {
        let producer = self.producers.entry(id.to_owned()).or_default();
        producer.open = None;
        producer.epoch += 1;
        producer.epoch
    }

    fn current(&mut self, id: &str, epoch: u32) -> Result<&mut Producer, Fault> {
        self.producers
            .get_mut(id)
            .filter(|p| p.epoch == epoch)
            .ok_or(Fault::Fenced)
    }

    fn open(&mut self, id: &str, epoch: u32, attempt: AttemptId) -> Result<&mut Open, Fault> {
        let producer = self.current(id, epoch)?;
        Ok(producer.open.get_or_insert_with(|| Open {
            attempt,
            sends: Vec::new(),
            offsets: BTreeMap::new(),
            since: Instant::now(),
        }))
    }

    /// AddPartitionsToTxn and Produce.
    pub(super) fn produce(
        &mut self,
        id: &str,
        epoch: u32,
        attempt: AttemptId,
        send: &Send,
    ) -> Result<(), Fault> {
        self.open(id, epoch, attempt)?.sends.push(send.clone());
        Ok(())
    }

    /// AddOffsetsToTxn and TxnOffsetCommit. Also how a late copy arrives: it needs a current epoch, and no more.
    pub(super) fn offsets(
        &mut self,
        id: &str,
        epoch: u32,
        attempt: AttemptId,
        metadata: &Metadata,
        offsets: &BTreeMap<Partition, (i64, String)>,
    ) -> Result<(), Fault> {
        self.current(id, epoch)?;
        self.group.check(metadata).map_err(Fault::Group)?;
        let open = self.open(id, epoch, attempt)?;
        open.offsets.extend(offsets.clone());
        Ok(())
    }

    /// EndTxn. Answers the transaction that is now to be applied, if it was a commit and one was open.
    pub(super) fn end(&mut self, id: &str, epoch: u32, commit: bool) -> Result<Option<Open>, Fault> {
        let open = self.current(id, epoch)?.open.take();
        Ok(open.filter(|_| commit))
    }

    /// What a commit does, at one stroke.
    pub(super) fn apply(&mut self, open: Open) {
        self.written.extend(open.sends);
        for (partition, (next, note)) in open.offsets {
            self.committed.insert(partition, (next, Some(note)));
        }
    }

    /// The coordinator aborts what was open for too long, and its producer is fenced. Answers how many.
    pub(super) fn expire(&mut self, older_than: Instant) -> usize {
        let mut expired = 0;
        for producer in self.producers.values_mut() {
            if producer.open.as_ref().is_some_and(|open| open.since < older_than) {
                producer.open = None;
                producer.epoch += 1;
                expired += 1;
            }
        }
        expired
    }

    /// Whether an offset of this partition is pending in an open transaction.
    pub(super) fn is_pending(&self, partition: &Partition) -> bool {
        let mut open = self.producers.values().filter_map(|p| p.open.as_ref());
        self.hanging.contains(partition) || open.any(|open| open.offsets.contains_key(partition))
    }

    /// C(p) and its note; none while a transaction is pending on it.
    pub(super) fn position(&self, partition: &Partition) -> Option<Position> {
        if self.is_pending(partition) {
            return None;
        }
        let held = self.committed.get(partition);
        Some(Position {
            partition: partition.clone(),
            offset: held.map(|(offset, _)| *offset),
            note: held.and_then(|(_, note)| note.clone()),
        })
    }

    /// The visible records of a partition at or behind `from`.
    pub(super) fn records(&self, partition: &Partition, from: i64) -> &[SourceRecord] {
        let Some(records) = self.source.get(partition) else {
            return &[];
        };
        let first = records.partition_point(|r| r.id.offset < from);
        &records[first..]
    }

    /// The visible records below `range.end` at or behind `range.start`.
    pub(super) fn between(&self, partition: &Partition, range: &Range<i64>) -> Vec<SourceRecord> {
        self.records(partition, range.start)
            .iter()
            .take_while(|r| r.id.offset < range.end)
            .cloned()
            .collect()
    }

    /// An operator's tool sets C(p), with a note of its own or none.
    pub(super) fn reset(&mut self, partition: &Partition, to: i64, note: Option<&str>) {
        let note = note.map(str::to_owned);
        self.committed.insert(partition.clone(), (to, note));
    }

    /// The topic grows by one partition.
    pub(super) fn grow(&mut self) {
        let number = i32::try_from(self.source.len()).unwrap_or(i32::MAX);
        let partition = Partition::new(source_topic(), number);
        self.source.insert(partition.clone(), Vec::new());
        self.bounds.insert(partition.clone(), 0..0);
        self.group.add(partition);
    }

    /// The source topic is deleted and made again, empty. The group's offsets go with it, or are left behind.
    pub(super) fn make_again(&mut self, keeps_offsets: bool) {
        self.made += 1;
        self.aborted.clear();
        self.source.values_mut().for_each(Vec::clear);
        self.bounds.values_mut().for_each(|bounds| *bounds = 0..0);
        if !keeps_offsets {
            self.committed.clear();
        }
    }

    /// The end of a source log.
    pub(super) fn end_of(&self, partition: &Partition) -> i64 {
        self.bounds.get(partition).map_or(0, |b| b.end)
    }

    /// A record at the end of a source log whose transaction is aborted.
    pub(super) fn append_aborted(&mut self, record: SourceRecord) {
        self.mark(&record.id.partition, 1);
        self.aborted
            .entry(record.id.partition.clone())
            .or_default()
            .push(record);
    }

    /// Markers at the end of a source log: nothing to be read.
    pub(super) fn mark(&mut self, partition: &Partition, count: i64) {
        self.bounds.entry(partition.clone()).or_insert(0..0).end += count;
    }

    /// A new record.
    pub(super) fn append(&mut self, record: SourceRecord) {
        let partition = record.id.partition.clone();
        self.bounds.entry(partition.clone()).or_insert(0..0).end = record.id.offset + 1;
        self.source.entry(partition).or_default().push(record);
    }

    /// How many visible records lie at or behind C(p), per partition.
    pub(super) fn lag(&self) -> BTreeMap<Partition, usize> {
        self.source
            .keys()
            .map(|p| {
                let from = self.committed.get(p).map_or(0, |(offset, _)| *offset);
                (p.clone(), self.records(p, from).len())
            })
            .collect()
    }

    /// Whether any transaction is open: the last stable offset stands before the high watermark.
    pub(super) fn has_open(&self) -> bool {
        self.producers.values().any(|p| p.open.is_some())
    }
}

/// The one source topic of the simulation.
pub(super) fn source_topic() -> Arc<str> {
    Arc::from("source")
}
