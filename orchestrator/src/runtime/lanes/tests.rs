//! The supervisor of a lane against sessions that end badly.

use std::{
    future::Future,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tracker_api::Partition;

use super::*;
use crate::{
    clock::SystemClock,
    http::Phase,
    kafka::{
        Aborted, Attempt, Committed, Instance, Log, Polled, Position, Positions, Settled, Silent, Topic,
    },
    lane::tests::Seen,
    transform::{Output, SourceRecord, TransformError},
};

#[derive(Clone, Copy)]
enum Fate {
    Panics,
    /// The group does not answer, and will not.
    Silent,
    Idles,
}

struct Scripted(Fate);

impl Positions for Scripted {
    async fn positions(&mut self, _: &[Partition]) -> kafka::Result<Vec<Option<Position>>> {
        Ok(Vec::new())
    }

    async fn topic(&mut self, _: &str) -> kafka::Result<Topic> {
        Ok(Topic::default())
    }

    async fn partitions(&mut self, _: &str) -> kafka::Result<Vec<Partition>> {
        Ok(Vec::new())
    }

    async fn bounds(&mut self, _: &[Partition]) -> kafka::Result<Vec<std::ops::Range<i64>>> {
        Ok(Vec::new())
    }
}

impl Session for Scripted {
    async fn poll(&mut self, _: usize, wait: Duration) -> kafka::Result<Polled> {
        tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        match self.0 {
            Fate::Panics => panic!("a bug\nwith a forged line"),
            Fate::Silent => Ok(Polled {
                silent: Some(Silent {
                    why: "no coordinator".into(),
                    lost: true,
                }),
                ..Polled::default()
            }),
            Fate::Idles => Ok(Polled::default()),
        }
    }

    async fn start(&mut self, _: &[Position]) -> kafka::Result<()> {
        Ok(())
    }

    async fn rewind(&mut self, _: &[Position]) -> kafka::Result<()> {
        Ok(())
    }

    async fn hold(&mut self, _: &[Partition], _: bool) -> kafka::Result<()> {
        Ok(())
    }

    async fn transact(&mut self, _: &Attempt) -> Result<Committed, Aborted> {
        unreachable!("nothing is sent")
    }

    async fn settle(&mut self, _: &Attempt) -> kafka::Result<Settled> {
        unreachable!("nothing is sent")
    }

    fn reached(&mut self) -> Vec<(Partition, i64)> {
        Vec::new()
    }

    fn logs(&mut self) -> Vec<(Partition, Log)> {
        Vec::new()
    }

    async fn close(self, _: Duration) {}
}

struct Nothing;

impl Transform for Nothing {
    async fn transform(&self, _: &SourceRecord) -> Result<Output, TransformError> {
        Ok(Output::Filtered)
    }
}

struct Service {
    shared: Shared<Nothing>,
    sessions: AtomicUsize,
    reasons: Mutex<Vec<String>>,
}

fn service() -> Service {
    let settings = Settings::new("localhost:9092", "orders", "orders", "enriched", "memory");
    let instance = Instance {
        id: "i".into(),
        configured: false,
    };
    let health = Health::new(1, Duration::from_secs(240));
    health.phase(Phase::Ready);
    let (sender, _) = mpsc::unbounded_channel();
    let shared = Shared {
        transform: Arc::new(Nothing),
        kafka: Arc::new(kafka::Settings::new(
            "localhost:9092",
            "orders",
            "orders",
            instance,
        )),
        customizer: None,
        mark: 0,
        store: None,
        fallback: None,
        stores: Handle::current(),
        users: Handle::current(),
        journal: Arc::default(),
        begun: Begun::forgetful(),
        abandoned: Arc::default(),
        clock: Arc::new(SystemClock),
        health,
        stop: CancellationToken::new(),
        ended: sender,
        deadline: settings.shutdown_timeout,
        settings,
    };
    Service {
        shared,
        sessions: AtomicUsize::new(0),
        reasons: Mutex::default(),
    }
}

impl Service {
    /// Runs a lane whose sessions end so, the last for ever.
    async fn run(&self, fates: &[Fate]) -> Result<(), lane::Error> {
        let next = || {
            self.reasons
                .lock()
                .unwrap()
                .extend(self.shared.health.ready().reasons);
            let at = self.sessions.fetch_add(1, Relaxed);
            Ok(Scripted(fates[at.min(fates.len() - 1)]))
        };
        Box::pin(lane::caught(keep(
            &self.shared,
            0,
            Arc::new(Seen::default()),
            next,
        )))
        .await
    }
}

/// Runs a test under paused time.
fn paused(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

#[test]
fn a_lane_that_panics_gets_a_new_session_and_goes_on() {
    paused(async {
        let service = service();
        let run = service.run(&[Fate::Panics, Fate::Panics, Fate::Idles]);
        let ended = tokio::time::timeout(Duration::from_secs(600), run).await;
        assert!(ended.is_err(), "it goes on: {ended:?}");
        assert_eq!(service.sessions.load(Relaxed), 3);
        let reasons = service.reasons.lock().unwrap().join("\n");
        assert!(
            reasons.contains(r"the session broke: the lane panicked: a bug\nwith a forged line"),
            "{reasons}"
        );
        assert!(reasons.contains("has not joined the group"), "{reasons}");
    });
}

#[test]
fn a_lane_that_panics_again_and_again_ends_the_process_with_1() {
    paused(async {
        let service = service();
        let error = service.run(&[Fate::Panics]).await.unwrap_err();
        assert_eq!(service.sessions.load(Relaxed), 1 + MOST_BREAKS);
        let ended = Ended {
            lane: 0,
            result: Err(error),
        };
        let error = ended.outcome().unwrap_err();
        assert_eq!(error.exit_code(), 1, "{error}");
        assert!(
            error.to_string().contains(r"lane 0: the lane panicked: a bug\n"),
            "{error}"
        );
    });
}

#[test]
fn a_group_that_does_not_answer_is_met_by_a_new_session_however_often() {
    paused(async {
        let service = service();
        let run = service.run(&[Fate::Silent]);
        let ended = tokio::time::timeout(Duration::from_secs(60), run).await;
        assert!(ended.is_err(), "it goes on: {ended:?}");
        assert!(service.sessions.load(Relaxed) > 2 * MOST_BREAKS);
        assert!(!service.shared.health.ready().ok);
    });
}

#[test]
fn a_broker_that_stays_away_leaves_a_lane_live() {
    paused(async {
        let service = service();
        let health = service.shared.health.clone();
        let watch = Watch::new(0, health.clone(), Arc::default());
        watch.beat();
        let away = || -> kafka::Result<Scripted> {
            Err(kafka::Error {
                kind: ErrorKind::Retriable,
                message: "no broker".into(),
            })
        };
        let run = Box::pin(keep(&service.shared, 0, Arc::new(watch), away));
        let ended = tokio::time::timeout(Duration::from_secs(900), run).await;
        assert!(ended.is_err(), "{ended:?}");
        assert!(health.live().ok, "{:?}", health.live());
        let ready = health.ready();
        assert!(
            ready.reasons[1].contains("waiting for Kafka: no broker"),
            "{ready:?}"
        );
    });
}

#[test]
fn a_service_whose_lanes_have_ended_without_a_word_ends_with_1() {
    assert_eq!(outcome(None).unwrap_err().exit_code(), 1);
}
