//! The end of a run: no more faults, until nothing moves; then everything is reconciled once and judged.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    fate::Fate,
    laws::Noted,
    schedule::{Run, Verdict},
    tracker::SimTracker,
    world::{Weather, World},
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
        let world = self.sim.world();
        world.kafka.source.keys().all(|partition| {
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
        })
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
