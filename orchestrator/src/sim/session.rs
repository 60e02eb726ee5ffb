//! A [`Session`] without a network: what the librdkafka session does, step by step, with a fault at each.

mod transact;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use rand::Rng;
use tokio::time::{Instant, sleep};
use tracker_api::Partition;

use self::transact::{fenced, retriable};
use super::{
    faults::{Step, Strike},
    group::Refusal,
    world::{Sim, short},
};
use crate::{
    config::Tracking,
    kafka::{
        Aborted, Attempt, Committed, Error, ErrorKind, Log, Membership, Polled, Position, Positions, Result,
        Session, Settled, Topic,
    },
    mutant::{self, Mutant},
    note::{self, Reading},
    transform::SourceRecord,
};

/// A partition that the group gave us.
#[derive(Clone, Copy, Debug, Default)]
struct Reader {
    /// None until it is started.
    next: Option<i64>,
    held: bool,
}

/// One process's consumer and producer.
#[derive(Debug)]
pub(super) struct SimSession {
    sim: Arc<Sim>,
    process: usize,
    transactional_id: String,
    instance: Option<String>,
    /// Whether each record travels in a request of its own, until a commit.
    alone: bool,
    /// Only the laws look at it.
    tracking: Tracking,
    epoch: u32,
    member: String,
    readers: BTreeMap<Partition, Reader>,
    /// Callbacks that were served and that the lane has not heard of yet.
    news: VecDeque<Membership>,
}

impl SimSession {
    /// Creates the producer, which fences its predecessor, and subscribes.
    pub(super) async fn open(sim: Arc<Sim>, process: usize, is_static: bool, tracking: Tracking) -> Self {
        let slot = sim.slot(process);
        let instance = is_static.then(|| format!("slot-{slot}"));
        let mut session = Self {
            process,
            transactional_id: format!("orders-slot-{slot}-0"),
            epoch: 0,
            alone: false,
            member: String::new(),
            readers: BTreeMap::new(),
            news: VecDeque::new(),
            instance,
            tracking,
            sim,
        };
        session.recycle().await;
        session.join();
        session
    }

    fn who(&self) -> String {
        format!("p{}", self.process)
    }

    async fn step(&self, step: Step) -> Strike {
        self.sim.step(self.process, step, 1.0).await
    }

    fn join(&mut self) {
        self.member = self
            .sim
            .world()
            .kafka
            .group
            .join(self.process, self.instance.as_deref());
        self.sim.log(&self.who(), || format!("joins as {}", self.member));
    }

    /// The next producer with the same id: every late request of the last one is refused from now on.
    async fn recycle(&mut self) {
        loop {
            let strike = self.step(Step::Init).await;
            if strike != Strike::Fail {
                self.epoch = self.sim.world().kafka.init_producer(&self.transactional_id);
                self.sim.log(&self.who(), || {
                    format!("producer {} epoch {}", self.transactional_id, self.epoch)
                });
                self.sim.stir();
            }
            if !matches!(strike, Strike::Fail | Strike::AnswerLost) {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Serves the callbacks.
    fn serve(&mut self) -> Result<()> {
        let known = self
            .sim
            .world()
            .kafka
            .group
            .known(&self.member, self.instance.as_deref());
        match known {
            Ok(()) => {}
            Err(Refusal::FencedInstance) => return Err(fenced("another member uses our group.instance.id")),
            Err(_) => {
                let lost: Vec<_> = std::mem::take(&mut self.readers).into_keys().collect();
                self.sim.log(&self.who(), || format!("lost {}", names(&lost)));
                self.news.push_back(Membership::Lost(lost));
                self.join();
                return Ok(());
            }
        }
        let told = self.sim.world().kafka.group.serve(&self.member);
        for news in told {
            self.sim.log(&self.who(), || format!("{news:?}"));
            match &news {
                Membership::Assigned(partitions) => {
                    self.readers
                        .extend(partitions.iter().map(|p| (p.clone(), Reader::default())));
                }
                Membership::Revoked(partitions) | Membership::Lost(partitions) => {
                    self.readers.retain(|p, _| !partitions.contains(p));
                }
            }
            self.news.push_back(news);
        }
        Ok(())
    }

    /// What there is to read, up to `max` records.
    fn take(&mut self, max: usize) -> Vec<SourceRecord> {
        let mut records = Vec::new();
        let mut world = self.sim.world();
        for (partition, reader) in &mut self.readers {
            let Some(next) = reader.next.filter(|_| !reader.held) else {
                continue;
            };
            let left = max.saturating_sub(records.len());
            let share = world.rng.random_range(0..=left.min(6));
            let end = world.kafka.end_of(partition);
            let visible = world.kafka.records(partition, next);
            let mut all = Vec::new();
            if mutant::active(Mutant::UncommittedSource) {
                let aborted = world.kafka.aborted.get(partition).into_iter().flatten();
                all = visible
                    .iter()
                    .chain(aborted.filter(|r| r.id.offset >= next))
                    .cloned()
                    .collect();
                all.sort_by_key(|r: &SourceRecord| r.id.offset);
            }
            let found = if all.is_empty() { visible } else { &all };
            let taken = found.get(..share.min(found.len())).unwrap_or_default();
            if taken.len() == found.len() {
                // Markers stand between the last record and the end.
                reader.next = Some(end.max(next));
            } else if let Some(last) = taken.last() {
                reader.next = Some(last.id.offset + 1);
            }
            records.extend_from_slice(taken);
        }
        records
    }

    fn has_more(&self) -> bool {
        let world = self.sim.world();
        let mut started = self.readers.iter().filter(|(_, r)| !r.held);
        started.any(|(p, r)| {
            r.next
                .is_some_and(|next| !world.kafka.records(p, next).is_empty())
        })
    }
}

fn names(partitions: &[Partition]) -> String {
    let names: Vec<_> = partitions.iter().map(ToString::to_string).collect();
    names.join(" ")
}

impl Positions for SimSession {
    async fn positions(&mut self, of: &[Partition]) -> Result<Vec<Option<Position>>> {
        if self.step(Step::Read).await == Strike::Fail {
            return Err(retriable("OffsetFetch"));
        }
        let world = self.sim.world();
        Ok(of.iter().map(|p| world.kafka.position(p)).collect())
    }

    async fn topic(&mut self, _: &str) -> Result<Topic> {
        if self.step(Step::Read).await == Strike::Fail {
            return Err(retriable("DescribeTopics"));
        }
        Ok(self.sim.world().kafka.topic())
    }

    async fn partitions(&mut self, _: &str) -> Result<Vec<Partition>> {
        self.sim.gate(self.process).await;
        Ok(self.sim.world().kafka.source.keys().cloned().collect())
    }

    async fn bounds(&mut self, of: &[Partition]) -> Result<Vec<Range<i64>>> {
        if self.step(Step::Read).await == Strike::Fail {
            return Err(retriable("ListOffsets"));
        }
        let world = self.sim.world();
        Ok(of
            .iter()
            .map(|p| world.kafka.bounds.get(p).cloned().unwrap_or(0..0))
            .collect())
    }
}

impl Session for SimSession {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Polled> {
        if self.step(Step::Poll).await == Strike::Fail {
            return Err(retriable("poll"));
        }
        let until = Instant::now() + wait;
        loop {
            self.sim.gate(self.process).await;
            // What lies in the client's queue may come before a callback or after it.
            let first = if self.sim.world().rng.random_bool(0.5) {
                self.take(max)
            } else {
                Vec::new()
            };
            self.serve()?;
            let records = if first.is_empty() && self.news.is_empty() {
                self.take(max)
            } else {
                first
            };
            if !records.is_empty() || !self.news.is_empty() || Instant::now() >= until {
                if let (Some(first), Some(last)) = (records.first(), records.last()) {
                    self.sim.log(&self.who(), || {
                        format!("polls {} .. {} ({})", first.id, last.id, records.len())
                    });
                }
                if !records.is_empty() {
                    self.step(Step::Polled).await;
                }
                return Ok(Polled {
                    records,
                    membership: self.news.drain(..).collect(),
                    errors: Vec::new(),
                    silent: None,
                });
            }
            let left = until.saturating_duration_since(Instant::now());
            if !self.has_more() {
                self.sim.wait(left.min(Duration::from_millis(500))).await;
            }
        }
    }

    async fn start(&mut self, at: &[Position]) -> Result<()> {
        if self.step(Step::Start).await == Strike::Fail {
            return Err(retriable("assign"));
        }
        for position in at {
            let Some(offset) = position.offset else {
                return Err(Error {
                    kind: ErrorKind::Refused,
                    message: "start without an offset".to_owned(),
                });
            };
            if let Some(reader) = self.readers.get_mut(&position.partition) {
                *reader = Reader {
                    next: Some(offset),
                    held: false,
                };
            }
            self.sim.log(&self.who(), || {
                format!("starts {} at {offset}", position.partition)
            });
        }
        Ok(())
    }

    async fn rewind(&mut self, at: &[Position]) -> Result<()> {
        if self.step(Step::Start).await == Strike::Fail {
            return Err(retriable("seek"));
        }
        for position in at {
            let reader = self
                .readers
                .get_mut(&position.partition)
                .filter(|r| r.next.is_some());
            if let (Some(reader), Some(offset)) = (reader, position.offset) {
                reader.next = Some(offset);
                self.sim.log(&self.who(), || {
                    format!("rewinds {} to {offset}", position.partition)
                });
            }
        }
        Ok(())
    }

    async fn hold(&mut self, partitions: &[Partition], on: bool) -> Result<()> {
        self.sim.gate(self.process).await;
        for partition in partitions {
            if let Some(reader) = self.readers.get_mut(partition) {
                // A client that goes on after a pause may hand out again what it fetched before.
                let again = if reader.held && !on {
                    self.sim.world().rng.random_range(-9..4).max(0)
                } else {
                    0
                };
                reader.held = on;
                reader.next = reader.next.map(|next| (next - again).max(0));
            }
        }
        Ok(())
    }

    fn reached(&mut self) -> Vec<(Partition, i64)> {
        let started = self.readers.iter();
        started
            .filter_map(|(p, reader)| Some((p.clone(), reader.next?)))
            .collect()
    }

    fn logs(&mut self) -> Vec<(Partition, Log)> {
        let world = self.sim.world();
        let log = |p: &Partition| {
            let Range { start, end } = world.kafka.bounds.get(p).cloned()?;
            let (stable, age) = (end, Duration::ZERO);
            Some((
                p.clone(),
                Log {
                    start,
                    stable,
                    end,
                    age,
                },
            ))
        };
        self.readers.keys().filter_map(log).collect()
    }

    async fn transact(&mut self, attempt: &Attempt) -> std::result::Result<Committed, Aborted> {
        self.sim.log(&self.who(), || {
            let steps: Vec<_> = attempt
                .advance
                .iter()
                .map(|a| format!("{} {:?}->{}", a.partition, a.start, a.next))
                .collect();
            format!(
                "transact {} with {} records: {}",
                short(attempt.id),
                attempt.sends.len(),
                steps.join(", ")
            )
        });
        self.sim.world().laws.attempts(attempt.id, self.tracking);
        let outcome = self.try_transact(attempt).await;
        self.sim.gate(self.process).await;
        self.sim.log(&self.who(), || match &outcome {
            Ok(_) => format!("committed {}", short(attempt.id)),
            Err(aborted) => format!("{} {aborted:?}", short(attempt.id)),
        });
        outcome
    }

    async fn settle(&mut self, attempt: &Attempt) -> Result<Settled> {
        if self.step(Step::Settle).await == Strike::Fail {
            return Err(retriable("settle"));
        }
        self.recycle().await;
        let mut asked: Vec<Partition> = attempt.advance.iter().map(|a| a.partition.clone()).collect();
        let unadvanced = self.readers.keys().find(|p| !asked.contains(p)).cloned();
        let is_wrong = mutant::active(Mutant::SettleByUnadvanced) && unadvanced.is_some();
        if is_wrong {
            asked = unadvanced.into_iter().collect();
        }
        let positions = self.positions(&asked).await?;
        let positions: Vec<Position> = positions.into_iter().flatten().collect();
        let settled = match note::read_outcome(attempt, &positions) {
            Reading::Committed => Settled::Committed(Committed::by_session(attempt.id)),
            // It stands where it stood, as one does that is not advanced.
            _ if is_wrong => Settled::Aborted,
            Reading::Aborted => Settled::Aborted,
            Reading::TakenOver => Settled::TakenOver,
        };
        self.sim.gate(self.process).await;
        self.sim.log(&self.who(), || {
            format!("settles {}: {settled:?}", short(attempt.id))
        });
        Ok(settled)
    }

    async fn close(self, _: Duration) {
        self.sim.gate(self.process).await;
        if self.instance.is_none() {
            self.sim.world().kafka.group.remove(&self.member);
        }
        self.sim.log(&self.who(), || "leaves".to_owned());
    }
}
