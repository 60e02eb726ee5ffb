//! A lane's consumer: librdkafka's, with the assignment answered outside the callback and every record copied once.

mod assignment;
mod faults;
mod look;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    client::Client,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _},
    topic_partition_list::TopicPartitionListElem,
};
use tracker_api::Partition;

use self::look::Look;
use super::{
    ClientSettings, Error, ErrorKind, Log, Membership, Polled, Position, Result,
    context::{Context, Noted, answer, decline},
    copy::Copier,
    native,
    presence::Coordinator,
    reader::Committed,
    verdict,
};
use crate::transform::SourceRecord;

/// How a partition of ours stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Owned {
    started: bool,
    held: bool,
    /// Where it was last started or put back to.
    from: i64,
}

pub(super) struct Consumer {
    /// Before the client, which must outlive its questions.
    look: Look,
    committed: Committed,
    base: BaseConsumer<Context>,
    topic: Arc<str>,
    max_bytes: usize,
    owned: BTreeMap<Partition, Owned>,
    /// Whether the group waits for an assignment to be answered.
    awaited: bool,
    /// Changes that the lane was not told of yet.
    membership: VecDeque<Membership>,
    /// Records that came while only callbacks were to be served, and those of held partitions.
    stash: VecDeque<SourceRecord>,
    errors: Vec<Error>,
    /// Why we are refused, and when that was last told.
    refused: Option<(Instant, String)>,
    group: String,
    strategy: String,
}

/// A consumer that has not subscribed to anything.
pub(super) fn create(settings: &ClientSettings) -> Result<BaseConsumer<Context>> {
    native::check(settings)?;
    let mut config = ClientConfig::new();
    for (key, value) in settings.iter() {
        config.set(key, value);
    }
    config.set_log_level(RDKafkaLogLevel::Info);
    config
        .create_with_context(Context::default())
        .map_err(|error| verdict::of_kafka("the Kafka consumer could not be created", &error))
}

impl Consumer {
    pub(super) fn subscribe(settings: &ClientSettings, topic: &str, max_bytes: usize) -> Result<Self> {
        let base = create(settings)?;
        base.subscribe(&[topic])
            .map_err(|error| verdict::of_kafka(&format!("subscribing to `{topic}`"), &error))?;
        let setting = |key| settings.get(key).unwrap_or_default().to_owned();
        Ok(Self {
            look: Look::default(),
            committed: Committed::of(settings),
            base,
            topic: topic.into(),
            max_bytes,
            owned: BTreeMap::new(),
            awaited: false,
            membership: VecDeque::new(),
            stash: VecDeque::new(),
            errors: Vec::new(),
            refused: None,
            group: setting("group.id"),
            strategy: setting("partition.assignment.strategy"),
        })
    }

    /// See [`Positions::positions`](super::Positions::positions).
    pub(super) fn positions(&mut self, of: &[Partition]) -> Result<Vec<Option<Position>>> {
        self.committed.ask(&self.base, of)
    }

    /// What the client's statistics tell of its group's coordinator.
    pub(super) fn coordinator(&self) -> Coordinator {
        self.base.context().coordinator()
    }

    /// Serves what is queued, records lost: for a consumer that has failed, to hear the last of it.
    pub(super) fn hear_out(&self) {
        for _ in 0..1_000 {
            drop(self.base.poll(Duration::ZERO));
            if native::waiting(self.client()) == 0 {
                return;
            }
        }
    }

    pub(super) fn client(&self) -> &Client<Context> {
        self.base.client()
    }

    /// Partitions that are read now.
    pub(super) fn started(&self) -> impl Iterator<Item = &Partition> {
        self.owned
            .iter()
            .filter(|(_, owned)| owned.started)
            .map(|(p, _)| p)
    }

    /// Asks the brokers about the logs of started partitions, and takes up their answers. Waits for nothing.
    pub(super) fn look(&mut self) {
        if self.look.is_due() {
            let started: Vec<Partition> = self.started().cloned().collect();
            self.look.turn(self.base.client(), &started);
        }
    }

    /// See [`Session::logs`](super::Session::logs).
    pub(super) fn logs(&self) -> impl Iterator<Item = (&Partition, Log)> {
        self.look.logs()
    }

    /// See [`Session::reached`](super::Session::reached). librdkafka's position passes what it hands out, and markers when
    /// they stand at the front of its queue; a seek forgets it until something is handed out again.
    pub(super) fn reached(&self) -> Vec<(Partition, i64)> {
        let Ok(list) = self.base.position() else {
            return Vec::new();
        };
        let position = |e: TopicPartitionListElem<'_>| {
            let partition = Partition::new(e.topic(), e.partition());
            let offset = e.offset().to_raw().filter(|offset| *offset >= 0)?;
            let from = self.owned.get(&partition).filter(|o| o.started)?.from;
            let waits = self.stash.iter().any(|r| r.id.partition == partition);
            (offset >= from && !waits).then_some((partition, offset))
        };
        list.elements().into_iter().filter_map(position).collect()
    }

    /// Those that are not ours now, or were not ours for a while since the lane was last told.
    pub(super) fn lost_of<'a>(&self, of: impl Iterator<Item = &'a Partition>) -> Vec<Partition> {
        of.filter(|partition| {
            !self.owned.contains_key(*partition)
                || self.membership.iter().any(|change| match change {
                    Membership::Revoked(gone) | Membership::Lost(gone) => gone.contains(partition),
                    Membership::Assigned(_) => false,
                })
        })
        .cloned()
        .collect()
    }

    #[cfg(test)]
    pub(super) fn stashed(&self) -> usize {
        self.stash.len()
    }

    /// Serves callbacks. A record that comes meanwhile opens the next poll.
    pub(super) fn serve(&mut self) -> Result<()> {
        let mut copier = Copier::new(self.topic.clone());
        // Bounded: what comes without end (log lines, errors) must not keep a batch waiting.
        for _ in 0..100 {
            match self.base.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    copier.add(&message);
                    break;
                }
                Some(Err(error)) => self.note_error(&error),
                None if self.context_noted() => self.answer_noted(),
                // A log line ends a poll that does not wait, whatever stands behind it.
                None if native::waiting(self.client()) > 0 => {}
                None => break,
            }
        }
        self.stash.extend(copier.finish());
        self.answer_noted();
        self.check_fatal()
    }

    pub(super) fn poll(&mut self, max: usize, wait: Duration) -> Result<Polled> {
        self.check_fatal()?;
        let deadline = Instant::now() + wait;
        let max = max.max(1);
        let mut polled = Polled::default();
        self.take_stashed(max, &mut polled.records);
        let mut copier = Copier::new(self.topic.clone());
        while self.membership.is_empty()
            && polled.records.len() + copier.len() < max
            && copier.bytes() < self.max_bytes
        {
            let some = !polled.records.is_empty() || copier.len() > 0;
            let wait = if some {
                Duration::ZERO
            } else {
                deadline.saturating_duration_since(Instant::now())
            };
            match self.base.poll(wait) {
                Some(Ok(message)) => copier.add(&message),
                Some(Err(error)) => self.note_error(&error),
                None => {
                    if self.context_noted() {
                        self.answer_noted();
                    } else if some || Instant::now() >= deadline {
                        break;
                    }
                }
            }
        }
        let fresh = copier.finish();
        let (kept, held): (Vec<_>, Vec<_>) = fresh.into_iter().partition(|r| !self.is_held(&r.id.partition));
        polled.records.extend(kept);
        self.stash.extend(held);
        polled.membership = self.membership.drain(..).collect();
        self.collect_errors();
        polled.errors = std::mem::take(&mut self.errors);
        Ok(polled)
    }

    fn is_held(&self, partition: &Partition) -> bool {
        self.owned.get(partition).is_some_and(|owned| owned.held)
    }

    fn take_stashed(&mut self, max: usize, into: &mut Vec<SourceRecord>) {
        if self.stash.is_empty() {
            return;
        }
        let mut left = VecDeque::new();
        for record in std::mem::take(&mut self.stash) {
            if into.len() < max && !self.is_held(&record.id.partition) {
                into.push(record);
            } else {
                left.push_back(record);
            }
        }
        self.stash = left;
    }

    fn context_noted(&self) -> bool {
        self.base.context().has_noted()
    }

    /// Answers what was revoked or lost, outside the callback, and keeps it for the lane.
    fn answer_noted(&mut self) {
        while let Some(noted) = self.base.context().next_noted() {
            if let Err(error) = answer(&self.base, &noted) {
                self.errors.push(error);
            }
            match noted {
                Noted::Assigned(partitions) => {
                    for partition in &partitions {
                        self.owned.insert(partition.clone(), Owned::default());
                    }
                    self.awaited = true;
                    self.membership.push_back(Membership::Assigned(partitions));
                }
                Noted::Revoked(partitions) => self.give_up(partitions, Membership::Revoked),
                Noted::Lost(partitions) => self.give_up(partitions, Membership::Lost),
            }
        }
    }

    fn give_up(&mut self, partitions: Vec<Partition>, told: fn(Vec<Partition>) -> Membership) {
        self.stash.retain(|r| !partitions.contains(&r.id.partition));
        let ours: Vec<_> = partitions
            .into_iter()
            .filter(|p| self.owned.remove(p).is_some())
            .collect();
        if !ours.is_empty() {
            self.membership.push_back(told(ours));
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.base.context().close();
        // What was noted and never answered would keep librdkafka waiting for us, for ever.
        self.answer_noted();
        if self.awaited
            && let Err(error) = decline(&self.base)
        {
            super::logs::line(4, "CLOSE", &error.message);
        }
    }
}
