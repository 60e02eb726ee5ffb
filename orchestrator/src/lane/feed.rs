//! Where records come from: polls, within the room that is left, in every wait.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracker_api::Partition;

use super::{
    Error, Lane,
    partition::{Owned, Work},
    pool::RecordRef,
    stalls::Why,
};
use crate::{
    kafka::{ErrorKind, Membership, Polled, Position, Session, Silent},
    mutant::{self, Mutant},
    transform::Transform,
};

/// No wait is longer without a poll: the group must see us.
const BREATH: Duration = Duration::from_secs(1);
/// How long the lane waits for records before it looks around.
const IDLE: Duration = Duration::from_millis(200);
/// How long a stop waits for transforms that run.
const GRACE: Duration = Duration::from_secs(5);

/// Bytes that the lane holds.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    running: usize,
    /// In partitions that stand at a failing record.
    blocked: usize,
}

impl<S: Session, T: Transform> Lane<S, T> {
    /// Records that may run now.
    pub(super) fn ready(&self) -> usize {
        let now = Instant::now();
        self.owned
            .values()
            .filter(|o| o.is_ready(now))
            .map(|o| o.work.len())
            .sum()
    }

    /// Polls until there is a batch, or something else to do. Nothing waits while work is queued.
    pub(super) async fn collect(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let may_run = self.batch_after <= now;
        let queued = self.ready();
        let wait = if may_run && queued > 0 || self.unanswered && self.terms_after <= now {
            Duration::ZERO
        } else {
            let timers = self
                .owned
                .values()
                .filter_map(|o| o.wait(now))
                .filter(|w| !w.is_zero());
            let held_up = [self.batch_after, self.terms_after]
                .into_iter()
                .map(|t| t.saturating_duration_since(now));
            timers
                .chain(held_up.filter(|w| !w.is_zero()))
                .fold(IDLE, Duration::min)
        };
        self.poll(wait).await?;
        let deadline = Instant::now() + self.delay;
        while may_run
            && queued == 0
            && !self.unanswered
            && (1..self.settings.batch_records).contains(&self.ready())
        {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.bytes(Instant::now()).running >= self.settings.batch_bytes / 2 {
                break;
            }
            self.poll(left).await?;
        }
        Ok(())
    }

    /// One poll, within the room that is left. Partitions are paused when there is none, as the poll itself must go on.
    async fn poll(&mut self, wait: Duration) -> Result<(), Error> {
        let now = Instant::now();
        let (records, bytes) = (self.settings.batch_records, self.settings.batch_bytes);
        let is_blocked = |owned: &Owned| owned.stands(now);
        let held = self.bytes(now);
        let running: usize = self
            .owned
            .values()
            .filter(|o| !is_blocked(o))
            .map(|o| o.work.len())
            .sum();
        let room = records.saturating_sub(running);
        // What stands behind a blocked record takes nothing away from the others, and has a bound of its own. A poll brings
        // half of `batch-bytes`: both together never hold more than twice that, and one record.
        self.hold(|o| match is_blocked(o) {
            true => room == 0 || o.work.len() >= records / 2 || held.blocked >= bytes / 4,
            false => room == 0 || held.running >= bytes / 2,
        })
        .await?;
        match self.session.poll(room.max(1), wait).await {
            Ok(polled) => {
                if polled.silent.is_none() {
                    self.stalls.end(None, Why::Kafka);
                }
                self.absorb(polled)?;
            }
            Err(error) if error.kind == ErrorKind::Retriable => {
                self.warn("polling", format_args!("polling again: {error}"));
                self.stand(None, Why::Kafka, format!("waiting for Kafka: {error}"));
                tokio::time::sleep(IDLE).await;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Pauses and resumes so that exactly the partitions that `wanted` names are paused.
    async fn hold(&mut self, wanted: impl Fn(&Owned) -> bool) -> Result<(), Error> {
        for on in [true, false] {
            let change = |owned: &Owned| owned.held != on && wanted(owned) == on;
            let partitions: Vec<Partition> = self
                .owned
                .iter()
                .filter(|(_, o)| change(o))
                .map(|(p, _)| p.clone())
                .collect();
            if !partitions.is_empty() {
                self.session.hold(&partitions, on).await?;
                self.owned
                    .iter_mut()
                    .filter(|(p, _)| partitions.contains(p))
                    .for_each(|(_, o)| o.held = on);
            }
        }
        Ok(())
    }

    fn bytes(&self, now: Instant) -> Held {
        let mut held = Held::default();
        for owned in self.owned.values() {
            match owned.stands(now) {
                true => held.blocked += owned.bytes(),
                false => held.running += owned.bytes(),
            }
        }
        held
    }

    /// Gives back what stands behind failing records, beyond `batch-bytes` of all partitions together: it is read again once
    /// they are through.
    pub(super) async fn give_back(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let mut held = self.bytes(now).blocked;
        let mut back = Vec::new();
        for (partition, owned) in self.owned.iter_mut().filter(|(_, o)| o.stands(now)) {
            if held > self.settings.batch_bytes
                && let Some((next, bytes)) = owned.give_back()
            {
                held -= bytes;
                back.push(Position {
                    partition: partition.clone(),
                    offset: Some(next),
                    note: None,
                });
            }
        }
        if !back.is_empty() {
            self.session.rewind(&back).await?;
        }
        Ok(())
    }

    fn absorb(&mut self, polled: Polled) -> Result<(), Error> {
        match polled.silent {
            Some(Silent { why, lost: true }) => return Err(Error::Silent(why)),
            Some(Silent { why, .. }) => self.stand(None, Why::Kafka, why),
            None => {}
        }
        for error in &polled.errors {
            self.warn("fault", format_args!("Kafka reports a fault: {error}"));
            self.suspicious |= error.kind == ErrorKind::Refused;
            self.fault = Some((Instant::now(), error.message.clone()));
        }
        let buffer = Arc::new(polled.records);
        for (index, record) in buffer.iter().enumerate() {
            // A record of a partition that waits to be rewound will be read again.
            let Some(owned) = self.owned.get_mut(&record.id.partition) else {
                continue;
            };
            if record.id.offset >= owned.received || mutant::active(Mutant::NoReceivedFilter) {
                owned.received = record.id.offset + 1;
                let mut work = Work::new(RecordRef::new(buffer.clone(), index));
                if owned.blocked.is_some() {
                    work.detach();
                }
                owned.work.push_back(work);
            }
        }
        let changed = !polled.membership.is_empty();
        for change in polled.membership {
            match change {
                Membership::Assigned(partitions) => {
                    self.unanswered = true;
                    self.terms_after = Instant::now();
                    for partition in partitions {
                        self.owned.remove(&partition);
                        self.waiting.remove(&partition);
                        self.assigned.insert(partition, true);
                    }
                }
                Membership::Revoked(partitions) | Membership::Lost(partitions) => {
                    for partition in &partitions {
                        self.drop_partition(partition);
                    }
                }
            }
        }
        if changed {
            self.batch_after = Instant::now();
            self.observer.joined(self.owned.len() + self.assigned.len());
        }
        Ok(())
    }

    pub(super) fn drop_partition(&mut self, partition: &Partition) {
        self.owned.remove(partition);
        self.assigned.remove(partition);
        self.waiting.remove(partition);
        self.told.remove(partition);
        self.pending.remove(partition);
        self.stalls.moved(partition);
    }

    /// Drops a partition's batch although it is still ours: its term begins anew, and the consumer goes back to C(p).
    pub(super) fn restart(&mut self, partition: &Partition) {
        if let Some(owned) = self.owned.remove(partition) {
            self.told.insert(partition.clone(), (owned.era, owned.told));
            self.assigned.insert(partition.clone(), false);
        }
    }

    /// Waits for `future`, polling each second: what a poll brings meanwhile opens the next batch, and partitions that
    /// go are gone when this returns. None: the lane is to stop, and the future outlasted the grace.
    pub(super) async fn breathe_while<F: Future>(&mut self, future: F) -> Result<Option<F::Output>, Error> {
        let mut future = pin!(future);
        let mut stopping = None;
        loop {
            tokio::select! {
                biased;
                output = &mut future => return Ok(Some(output)),
                () = tokio::time::sleep(BREATH) => {}
                () = self.stop.cancelled(), if stopping.is_none() => stopping = Some(Instant::now() + GRACE),
            }
            if stopping.is_some_and(|until| until <= Instant::now()) {
                return Ok(None);
            }
            self.observer.beat();
            self.look_at_threads()?;
            self.hold(|_| true).await?;
            let polled = self.session.poll(1, Duration::ZERO).await?;
            self.absorb(polled)?;
        }
    }
}
