//! What of our partitions is read, and from where.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{Consumer as _, RebalanceProtocol},
    types::RDKafkaErrorCode as Code,
};
use tracker_api::Partition;

use super::{Consumer, Error, ErrorKind, Owned, Position, Result, verdict};

impl Consumer {
    pub(in crate::kafka) fn start(&mut self, at: &[Position]) -> Result<()> {
        if let Some(gone) = at.iter().find(|p| !self.owned.contains_key(&p.partition)) {
            return Err(Error {
                kind: ErrorKind::Retriable,
                message: format!("{} was taken away before it was started: poll", gone.partition),
            });
        }
        let list = positions(at)?;
        self.assign(at, "starting partitions")?;
        self.awaited = false;
        if !at.is_empty() {
            // A pause outlives a revocation inside librdkafka.
            self.base
                .resume(&list)
                .map_err(|error| verdict::of_kafka("starting partitions", &error))?;
        }
        for position in at {
            self.look.forget(&position.partition);
            let started = Owned {
                started: true,
                held: false,
                from: position.offset.unwrap_or(0),
            };
            self.owned.insert(position.partition.clone(), started);
        }
        Ok(())
    }

    /// Adds these to what is read. An eager protocol takes the whole assignment each time: the others go on where they are.
    fn assign(&self, at: &[Position], what: &str) -> Result<()> {
        let assigned = match self.base.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.base.incremental_assign(&positions(at)?),
            RebalanceProtocol::Eager | RebalanceProtocol::None => {
                let mut all: BTreeMap<&Partition, i64> = self
                    .owned
                    .iter()
                    .filter(|(_, owned)| owned.started)
                    .map(|(partition, owned)| (partition, owned.from))
                    .collect();
                let list = self
                    .base
                    .position()
                    .map_err(|error| verdict::of_kafka(what, &error))?;
                for element in list.elements() {
                    let partition = Partition::new(element.topic(), element.partition());
                    let read = element.offset().to_raw().filter(|offset| *offset >= 0);
                    if let (Some(from), Some(read)) = (all.get_mut(&partition), read) {
                        *from = read;
                    }
                }
                all.extend(at.iter().filter_map(|p| Some((&p.partition, p.offset?))));
                let all: Vec<Position> = all
                    .into_iter()
                    .map(|(partition, offset)| Position {
                        partition: partition.clone(),
                        offset: Some(offset),
                        note: None,
                    })
                    .collect();
                self.base.assign(&positions(&all)?)
            }
        };
        assigned.map_err(|error| verdict::of_kafka(what, &error))
    }

    pub(in crate::kafka) fn rewind(&mut self, at: &[Position]) -> Result<()> {
        let mut at: Vec<_> = at
            .iter()
            .filter(|p| self.owned.get(&p.partition).is_some_and(|o| o.started))
            .cloned()
            .collect();
        if at.is_empty() {
            return Ok(());
        }
        self.stash
            .retain(|r| !at.iter().any(|p| p.partition == r.id.partition));
        let what = "putting partitions back to an offset";
        let sought = self
            .base
            .seek_partitions(positions(&at)?, Duration::from_secs(5))
            .map_err(|error| verdict::of_kafka(what, &error))?;
        for position in &at {
            self.look.forget(&position.partition);
            if let Some(owned) = self.owned.get_mut(&position.partition) {
                owned.from = position.offset.unwrap_or(0);
            }
        }
        let mut stopped = Vec::new();
        for element in sought.elements() {
            match element.error() {
                Ok(()) => {}
                // A partition whose offset is not in its log is not read any more, and what is not read cannot be sought in.
                Err(error) if error.rdkafka_error_code() == Some(Code::State) => {
                    stopped.push(Partition::new(element.topic(), element.partition()));
                }
                Err(error) => {
                    let what = format!("{what}, {}:{}", element.topic(), element.partition());
                    return Err(verdict::of_kafka(&what, &error));
                }
            }
        }
        at.retain(|p| stopped.contains(&p.partition));
        self.revive(&at)
    }

    /// Reads partitions again that the client has given up.
    fn revive(&self, at: &[Position]) -> Result<()> {
        if at.is_empty() {
            return Ok(());
        }
        let what = "reading partitions again";
        let list = positions(at)?;
        if matches!(self.base.rebalance_protocol(), RebalanceProtocol::Cooperative) {
            self.base
                .incremental_unassign(&list)
                .map_err(|error| verdict::of_kafka(what, &error))?;
        }
        self.assign(at, what)?;
        let held = |p: &&Position| !self.is_held(&p.partition);
        let resumed: Vec<Position> = at.iter().filter(held).cloned().collect();
        self.base
            .resume(&positions(&resumed)?)
            .map_err(|error| verdict::of_kafka(what, &error))
    }

    pub(in crate::kafka) fn hold(&mut self, partitions: &[Partition], on: bool) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            if let Some(owned) = self.owned.get_mut(partition).filter(|o| o.started) {
                owned.held = on;
                list.add_partition(&partition.topic, partition.number);
            }
        }
        if list.count() == 0 {
            return Ok(());
        }
        let held = if on {
            self.base.pause(&list)
        } else {
            self.base.resume(&list)
        };
        held.map_err(|error| verdict::of_kafka("pausing or resuming partitions", &error))
    }
}

/// A list with absolute offsets: librdkafka passes over logical ones in silence.
fn positions(at: &[Position]) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(at.len());
    for position in at {
        let offset = position.offset.filter(|o| *o >= 0).ok_or_else(|| Error {
            kind: ErrorKind::Refused,
            message: format!("{} cannot be started without an offset", position.partition),
        })?;
        list.add_partition_offset(
            &position.partition.topic,
            position.partition.number,
            Offset::Offset(offset),
        )
        .map_err(|error| verdict::of_kafka("an offset to start at", &error))?;
    }
    Ok(list)
}
