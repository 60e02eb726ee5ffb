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
    kafka::{ErrorKind, Membership, Polled, Session},
    mutant::{self, Mutant},
    transform::Transform,
};

/// No wait is longer without a poll: the group must see us.
const BREATH: Duration = Duration::from_secs(1);
/// How long the lane waits for records before it looks around.
const IDLE: Duration = Duration::from_millis(200);
/// How long a stop waits for transforms that run.
const GRACE: Duration = Duration::from_secs(5);

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
            if left.is_zero() || self.bytes() >= self.settings.batch_bytes {
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
        let running: usize = self
            .owned
            .values()
            .filter(|o| !is_blocked(o))
            .map(|o| o.work.len())
            .sum();
        let room = records.saturating_sub(running);
        // What stands behind a blocked record takes nothing away from the others, and has a bound of its own.
        self.hold(|o| room == 0 || is_blocked(o) && (o.work.len() >= records / 2 || o.bytes() >= bytes))
            .await?;
        match self.session.poll(room.max(1), wait).await {
            Ok(polled) => {
                self.stalls.end(None, Why::Kafka);
                self.absorb(polled);
            }
            Err(error) if error.kind == ErrorKind::Retriable => {
                tracing::warn!(%error, "polling again");
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

    fn bytes(&self) -> usize {
        self.owned.values().map(Owned::bytes).sum()
    }

    fn absorb(&mut self, polled: Polled) {
        for error in &polled.errors {
            tracing::warn!(%error, "Kafka reports a fault");
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
                owned
                    .work
                    .push_back(Work::new(RecordRef::new(buffer.clone(), index)));
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
            self.hold(|_| true).await?;
            let polled = self.session.poll(1, Duration::ZERO).await?;
            self.absorb(polled);
        }
    }
}
