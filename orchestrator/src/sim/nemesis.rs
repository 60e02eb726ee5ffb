//! What befalls the processes, the stores and the offsets while a run lasts.

use std::time::Duration;

use rand::{Rng, seq::IndexedRandom};
use tokio::time::{Instant, sleep};
use tracker_api::{Change, Decision, FailureTracker, Outcome, Partition, Query, Resolution, Timestamp};

use super::{
    schedule::Run,
    world::{Life, Weather, World},
};
use crate::config::Tracking;

impl Run {
    /// Troubles a run for its span.
    pub(super) async fn nemesis(self) {
        let until = Instant::now() + self.case.span;
        let mut left = self.case.records;
        while Instant::now() < until {
            let burst = usize::try_from(self.draw(0..20)).unwrap_or(0).min(left);
            left -= burst;
            self.produce(burst);
            self.sim.stir();
            let pause = self.draw(50..2_500);
            sleep(Duration::from_millis(pause)).await;
            self.strike().await;
        }
        self.produce(left);
    }

    async fn strike(&self) {
        let span = Duration::from_millis(self.draw(100..20_000));
        let drawn = self.draw(0..14);
        match self.case.only.filter(|_| self.draw(0..2) == 0).unwrap_or(drawn) {
            0 if self.case.rate > 0.0 => {
                if let Some(process) = self.any(Life::Running) {
                    self.sim.log("!!", || format!("kill p{process}"));
                    self.sim.set_life(process, Life::Dead);
                }
            }
            1 if self.case.rate > 0.0 => {
                if let Some(process) = self.any(Life::Running) {
                    self.sim.log("!!", || format!("freeze p{process} for {span:?}"));
                    self.sim.freeze(process, span);
                }
            }
            2 if self.case.rate > 0.0 => {
                if let Some(process) = self.any(Life::Running) {
                    self.sim.log("!!", || {
                        format!("freeze p{process} for {span:?}, its twin takes over")
                    });
                    self.sim.freeze(process, span);
                    self.sim.hand_over(process);
                }
            }
            3 if self.case.rate > 0.0 => {
                if let Some(process) = self.any(Life::Running) {
                    self.sim.log("!!", || format!("evict p{process}"));
                    self.sim.evict(process);
                }
            }
            4..=5 if self.case.storms => {
                let weather = if self.draw(0..2) == 0 {
                    Weather::Down
                } else {
                    Weather::Silent
                };
                self.sim.log("!!", || format!("store {weather:?} for {span:?}"));
                self.sim.world().weather = weather;
                let run = self.clone();
                tokio::spawn(async move {
                    sleep(span).await;
                    run.sim.world().weather = Weather::Fair;
                });
            }
            6 if self.case.storms => self.sim.world().fallback_weather = Weather::Down,
            7 => self.sim.world().fallback_weather = Weather::Fair,
            13 if self.case.recreates => self.recreate().await,
            8 if self.case.resets => self.reset().await,
            // What tracks nothing asks no store.
            8 if self.case.forgets && !self.case.tracking.contains(&Tracking::None) => self.forget().await,
            9..=10 => self.operate(false).await,
            11 => {
                let mut world = self.sim.world();
                if world.kafka.source.len() < 5 && world.rng.random_bool(0.3) {
                    world.kafka.grow();
                }
            }
            12 if self.case.hangs => self.hang(),
            _ => {}
        }
    }

    /// Somebody's transaction with an offset of ours is ended by nobody; the next time, by an operator.
    fn hang(&self) {
        let mut world = self.sim.world();
        let World { kafka, rng, .. } = &mut *world;
        let partitions: Vec<Partition> = kafka.committed.keys().cloned().collect();
        let hung = partitions
            .choose(rng)
            .filter(|_| kafka.hanging.is_empty())
            .cloned();
        kafka.hanging = hung.into_iter().collect();
        let hanging = kafka.hanging.clone();
        drop(world);
        self.sim.log("!!", || format!("hangs: {hanging:?}"));
    }

    /// Everybody stops, and Kafka forgets some offsets; then they are started, wait, and stop again, and an operator says
    /// with a tool where to go on. Now and then the data directories are gone too.
    async fn forget(&self) {
        self.close().await;
        let rows = self.sim.store.progress().await.unwrap_or_default();
        let mut forgotten = Vec::new();
        {
            let mut world = self.sim.world();
            let World { kafka, rng, laws, .. } = &mut *world;
            kafka.group.unbalanced = true;
            let whole = rng.random_bool(0.5);
            for row in rows {
                let partition = row.partition;
                let Some((offset, _)) = kafka.committed.get(&partition).cloned() else {
                    continue;
                };
                // What no store knows, nobody can tell.
                let stands = kafka.group.len() > 0 || kafka.is_pending(&partition);
                if !stands && (whole || rng.random_bool(0.5)) {
                    kafka.committed.remove(&partition);
                    laws.forgets(&partition);
                    forgotten.push((partition, offset));
                }
            }
            if rng.random_bool(0.5) {
                self.sim.begun.iter().for_each(|begun| begun.forget());
            }
        }
        self.sim.log("!!", || format!("Kafka forgets {forgotten:?}"));
        *self.closed.lock().unwrap() = false;
        let pause = self.draw(500..15_000);
        sleep(Duration::from_millis(pause)).await;
        while !forgotten.is_empty() {
            self.close().await;
            let mut world = self.sim.world();
            let World { kafka, .. } = &mut *world;
            kafka.group.unbalanced = true;
            // Frozen ones who woke up are members again: then the tool is refused, and the operator stops them once more.
            if kafka.group.len() == 0 {
                for (partition, offset) in std::mem::take(&mut forgotten) {
                    // One that was frozen may have committed its own meanwhile.
                    if !kafka.committed.contains_key(&partition) && !kafka.is_pending(&partition) {
                        kafka.reset(&partition, offset, None);
                    }
                }
            }
        }
        self.sim.log("!!", || "a tool puts offsets back".to_owned());
        *self.closed.lock().unwrap() = false;
    }

    /// Everybody stops, and the source topic is deleted and made again. The group's offsets stay now and then.
    async fn recreate(&self) {
        self.close().await;
        {
            let mut world = self.sim.world();
            let World { kafka, rng, laws, .. } = &mut *world;
            kafka.group.unbalanced = true;
            let is_pending = kafka.source.keys().any(|partition| kafka.is_pending(partition));
            if kafka.group.len() == 0 && !is_pending {
                // Who has seen no topic before and finds no offset, waits for a word: the store may know of this topic or that.
                let knows = self.case.slots == 1 && self.sim.begun[0].seen().id.is_some();
                kafka.make_again(!knows || rng.random_bool(0.5));
                laws.made_again(kafka.source.keys());
            }
        }
        self.sim.log("!!", || {
            format!("the source topic is {:?}", self.sim.world().kafka.topic())
        });
        *self.closed.lock().unwrap() = false;
    }

    /// Everybody stops, and nobody starts until `closed` is taken back.
    async fn close(&self) {
        *self.closed.lock().unwrap() = true;
        let processes = self.sim.world().processes.len();
        for process in 0..processes {
            if self.sim.life(process) == Life::Running {
                self.sim.set_life(process, Life::Dead);
            }
            self.sim.evict(process);
        }
        let pause = self.draw(20..2_000);
        sleep(Duration::from_millis(pause)).await;
    }

    /// A tool moves some offsets. Those who are frozen meanwhile know nothing of it.
    async fn reset(&self) {
        self.close().await;
        let mut moved = Vec::new();
        {
            let mut world = self.sim.world();
            let World { kafka, rng, laws, .. } = &mut *world;
            kafka.group.unbalanced = true;
            let partitions: Vec<Partition> = kafka.committed.keys().cloned().collect();
            for partition in partitions {
                // Kafka refuses a tool while the group is not empty; frozen ones who woke up are members again.
                if rng.random_bool(0.6) && kafka.group.len() == 0 && !kafka.is_pending(&partition) {
                    let to = rng.random_range(0..=kafka.end_of(&partition));
                    let note = [None, Some(""), Some("somebody else's words")];
                    kafka.reset(&partition, to, note.choose(rng).copied().flatten());
                    laws.reset(&partition);
                    moved.push(format!("{partition} to {to}"));
                }
            }
        }
        self.sim
            .log("!!", || format!("a tool moves {}", moved.join(", ")));
        *self.closed.lock().unwrap() = false;
    }

    /// An operator decides about what blocks.
    async fn operate(&self, all: bool) {
        if self.sim.world().weather != Weather::Fair {
            return;
        }
        let query = Query {
            outcomes: vec![Outcome::Failing],
            limit: 1_000,
            ..Query::default()
        };
        let Ok(page) = self.sim.store.list(&query).await else {
            return;
        };
        for entry in page
            .entries
            .into_iter()
            .filter(|e| e.is_blocking() && e.decision() != Some(&Decision::Skip))
        {
            let skip = all || self.draw(0..3) == 0;
            if !all && self.draw(0..2) == 0 {
                continue;
            }
            let resolution = Resolution {
                decision: if skip { Decision::Skip } else { Decision::Retry },
                about: entry.version,
                actor: "operator".to_owned(),
                reason: "because".to_owned(),
                at: Timestamp(0),
            };
            let change = Change {
                id: entry.id.clone(),
                revision: entry.revision,
                to: Some(resolution),
            };
            let took = self.sim.store.resolve(&[change]).await;
            if skip && took.is_ok_and(|took| took == [true]) {
                self.sim.log("!!", || format!("skip {}", entry.id));
                self.sim
                    .world()
                    .laws
                    .resolved
                    .insert((entry.version.era, entry.id));
            }
        }
    }
}
