//! The end of a run: no more faults, until nothing moves; then everything is reconciled once and judged.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracker_api::Partition;

use super::{
    fate::Fate,
    laws::Noted,
    schedule::{Run, Verdict},
    tracker::SimTracker,
    world::{Life, Weather, World},
};
use crate::{
    config::{FailureMode, Tracking},
    kafka::Position,
    reconcile::{passed_by_reset, reconcile},
    transform::SourceRecord,
};

impl Run {
    /// Whether everything that can be passed is passed.
    fn is_drained(&self) -> bool {
        self.left().is_empty()
    }

    /// The partitions in which something that can be passed is not.
    fn left(&self) -> Vec<Partition> {
        let world = self.sim.world();
        let is_done = |partition: &Partition| {
            let Some((from, note)) = world.kafka.committed.get(partition) else {
                return world.kafka.records(partition, 0).is_empty();
            };
            let Some(noted) = note.as_deref().and_then(Noted::read) else {
                return false;
            };
            let front = world.kafka.records(partition, *from).first();
            let stands = |front: &SourceRecord| {
                self.case.mode == FailureMode::Atomic
                    && Fate::of(front).outputs().is_none()
                    // One that tracks nothing hears no operator.
                    && (!world.laws.is_skipped(noted.era, &front.id) || self.case.tracking.contains(&Tracking::None))
            };
            front.is_none_or(stands)
        };
        let all = world.kafka.source.keys();
        all.filter(|partition| !is_done(partition)).cloned().collect()
    }

    /// While an offset hangs, every other partition is drained, and the one that waits says so. Where a partition without
    /// an offset begins, the offsets of all decide.
    async fn drain_beside_hanging(&self) {
        let until = Instant::now() + Duration::from_secs(240);
        let waits = |run: &Self| {
            let left = run.left();
            let kafka = &run.sim.world().kafka;
            let others = |p: &Partition| !kafka.hanging.contains(p) && kafka.committed.contains_key(p);
            left.into_iter().filter(|p| others(p)).collect::<Vec<_>>()
        };
        while !waits(self).is_empty() && Instant::now() < until {
            sleep(Duration::from_secs(1)).await;
        }
        let waiting = waits(self);
        sleep(Duration::from_secs(20)).await;
        let left = self.left();
        let mut world = self.sim.world();
        let World {
            kafka,
            laws,
            stalls,
            processes,
            ..
        } = &mut *world;
        if !waiting.is_empty() {
            let what = format!("pending: {waiting:?} wait although only {:?} hang", kafka.hanging);
            laws.violations.push(what);
        }
        for partition in left.iter().filter(|p| kafka.hanging.contains(p)) {
            let lives = |process: &usize| processes.get(*process).is_some_and(|p| p.life == Life::Running);
            let mut said = stalls
                .iter()
                .filter(|(process, _)| lives(process))
                .flat_map(|(_, said)| said);
            if !said.any(|stall| stall.partition.as_ref() == Some(partition)) {
                let what = format!("reason: {partition} does not move, and nobody says why");
                laws.violations.push(what);
            }
        }
        kafka.hanging.clear();
    }

    /// No more faults, whoever is frozen wakes; waits until all is passed and the store was told.
    pub(super) async fn heal(&self) {
        self.sim.log("!!", || "no more faults".to_owned());
        {
            let mut world = self.sim.world();
            world.rate = 0.0;
            world.store_rate = 0.0;
            world.plan.clear();
            world.weather = Weather::Fair;
            world.fallback_weather = Weather::Fair;
        }
        self.sim.thaw();
        if !self.sim.world().kafka.hanging.is_empty() {
            self.drain_beside_hanging().await;
        }
        let until = Instant::now() + Duration::from_secs(240);
        while !self.is_drained() && Instant::now() < until {
            sleep(Duration::from_secs(1)).await;
        }
        if !self.is_drained() {
            let left = self.sim.world().kafka.lag();
            self.sim
                .world()
                .laws
                .violations
                .push(format!("I11: not drained, records left: {left:?}"));
        }
        // Late requests arrive, recoveries and marks come to their end.
        sleep(Duration::from_secs(25)).await;
    }

    /// Reconciles every partition once, as the command does.
    pub(super) async fn reconcile(&self) {
        let positions: Vec<Position> = {
            let world = self.sim.world();
            world
                .kafka
                .source
                .keys()
                .filter_map(|p| world.kafka.position(p))
                .collect()
        };
        for position in positions {
            let wrote = self.reconcile_one(&position).await;
            if let Err(error) = wrote {
                self.sim
                    .world()
                    .laws
                    .violations
                    .push(format!("reconcile: {error}"));
            }
        }
    }

    async fn reconcile_one(&self, position: &Position) -> tracker_api::Result<()> {
        let process = self.sim.spawn(usize::MAX);
        let store = SimTracker::store(self.sim.clone(), process);
        reconcile(&*store, position).await?;
        passed_by_reset(&*store, position).await.map(|_| ())
    }

    /// Stops everybody, reconciles, and judges.
    pub(super) async fn judge(&self, clean: bool) -> Verdict {
        self.reconcile().await;
        let (history, mut world) = (self.sim.history(), self.sim.world());
        let World {
            kafka, laws, struck, ..
        } = &mut *world;
        laws.at_quiescence(kafka, &self.sim.store, &self.sim.fallbacks, clean);
        Verdict {
            violations: std::mem::take(&mut laws.violations),
            history,
            struck: std::mem::take(struck),
            passed: (laws.facts.len(), laws.facts.values().filter(|f| f.failed).count()),
            rounds: kafka.group.rounds,
            skipped: laws.skipped,
        }
    }
}
