//! A real server goes away while orders flow, and comes back.

use std::{
    fmt,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use test_servers::Server;
use testkit::{
    orders::{Mix, Order},
    service::Service,
    stores::Store,
};

use crate::scene::{LONG, Scene, broker, failing};

/// About one order of a hundred fails.
const MIX: Mix = Mix {
    invalid: 10,
    ..Mix::GOOD
};
const OUTAGE: Duration = Duration::from_secs(8);
/// What the operator is promised after the store is back.
const SOON: Duration = Duration::from_secs(60);

/// How the server goes away.
#[derive(Clone, Copy)]
enum Outage {
    /// SIGKILL, nothing flushed; started again on the same data.
    Killed,
    /// SIGSTOP: it accepts and never answers.
    Frozen,
    /// Ended in order: connections are refused.
    Refused,
}

impl Outage {
    fn begin(self, server: &Server) {
        match self {
            Self::Killed => server.kill(),
            Self::Frozen => server.freeze(),
            Self::Refused => server.stop(),
        }
        .unwrap();
    }

    fn end(self, server: &Server) {
        match self {
            Self::Killed | Self::Refused => server.start_again(),
            Self::Frozen => server.thaw(),
        }
        .unwrap();
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Killed => "killed",
            Self::Frozen => "frozen",
            Self::Refused => "refused",
        })
    }
}

/// The service on a server of its own, at work.
struct Stage {
    scene: Scene,
    server: Server,
    service: Service,
    orders: Vec<Order>,
}

impl Stage {
    fn set(store: Store, outage: Outage, policy: &str, what: &str) -> Self {
        let server = Server::start(store.kind().unwrap()).unwrap();
        let mut scene = Scene::new(&format!("{what}-{store}-{outage}"), 3, MIX)
            .key("failure-mode", "skip-and-log")
            .key("on-store-failure", policy)
            .key("store-payload", "bytes")
            .key("concurrency", "2")
            .key("batch-records", "500")
            .key("db-timeout-ms", "500")
            .key("db-tries", "2")
            .key("db-circuit-open-ms", "1000");
        scene.plan = scene.plan.on_server(store, Some(&server));
        if policy == "degrade" {
            scene = scene.key("fallback", "rocksdb");
        }
        let orders = scene.seed(2_000);
        let mut service = scene.plan.start().unwrap();
        service.wait_drained(broker().bootstrap(), LONG).unwrap();
        Self {
            scene,
            server,
            service,
            orders,
        }
    }

    /// Orders, some hundreds a second.
    fn flow(&mut self, lasting: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < lasting {
            self.orders.extend(self.scene.seed(200));
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn goes_away(&mut self, outage: Outage) {
        self.flow(Duration::from_secs(1));
        let before = failing(&self.orders);
        outage.begin(&self.server);
        self.flow(OUTAGE);
        let meanwhile = failing(&self.orders) - before;
        assert!(meanwhile >= 10, "only {meanwhile} failures fall into the outage");
    }

    /// Kafka's side exact, and within the promised time every failure in the store, and nothing else.
    fn comes_back(mut self, outage: Outage) {
        outage.end(&self.server);
        let back = Instant::now();
        self.flow(Duration::from_secs(1));
        self.service.wait_drained(broker().bootstrap(), LONG).unwrap();
        let failed = failing(&self.orders);
        let known = loop {
            // for a moment it may still be left alone
            let known = self
                .scene
                .failures_if_answered(&self.scene.plan, "open")
                .map_or(0, |open| open.len());
            if known == failed || back.elapsed() > SOON {
                break known;
            }
            std::thread::sleep(Duration::from_millis(500));
        };
        println!(
            "{}: {known} of {failed} failures in the store {:.1} s after it was back",
            self.scene.plan.group,
            back.elapsed().as_secs_f32()
        );
        let verdict = self.scene.assert_true();
        assert_eq!(
            (verdict.produced, verdict.failed),
            (self.orders.len(), failed),
            "{verdict}"
        );
        assert_eq!(known, failed, "failures that the store knows after {SOON:?}");
        self.scene.operate(&self.scene.plan, &["tracker", "reconcile"]);
        self.scene.assert_tracker_sound(&[&self.scene.plan]);
        self.service.end_well(Duration::from_secs(30)).unwrap();
    }
}

/// Nothing waits for the store.
fn degrade(store: Store, outage: Outage) {
    let mut stage = Stage::set(store, outage, "degrade", "degrade");
    stage.goes_away(outage);
    stage
        .service
        .wait_drained(broker().bootstrap(), Duration::from_secs(30))
        .unwrap();
    let verdict = stage.scene.assert_true();
    assert_eq!(verdict.failed, failing(&stage.orders), "with the store away");
    stage.comes_back(outage);
}

/// Service and store die one after the other: the next service does not wait for the store, and what the dead one kept, it
/// brings.
fn killed_meanwhile(store: Store, outage: Outage) {
    let mut stage = Stage::set(store, outage, "degrade", "outlived");
    stage.goes_away(outage);
    stage
        .service
        .wait_drained(broker().bootstrap(), Duration::from_secs(30))
        .unwrap();
    stage.service.signal(Signal::KILL).unwrap();
    stage.service.wait(LONG).unwrap();
    stage.service = stage.scene.plan.start().unwrap();
    stage.flow(Duration::from_secs(1));
    stage
        .service
        .wait_drained(broker().bootstrap(), Duration::from_secs(30))
        .unwrap();
    stage.comes_back(outage);
}

/// A batch with a failure waits for the store.
fn block(store: Store, outage: Outage) {
    let mut stage = Stage::set(store, outage, "block", "block");
    stage.goes_away(outage);
    let passed = stage.scene.dead_letters();
    assert!(
        passed < failing(&stage.orders),
        "all {passed} failures were passed over without the store"
    );
    let (status, why) = stage.service.get("/readyz").unwrap();
    assert_eq!(status, 503, "{why}");
    assert!(why.contains("store"), "readiness says why: {why}");
    assert_eq!(stage.service.get("/livez").unwrap().0, 200);
    stage.comes_back(outage);
}

macro_rules! outages {
    ($($module:ident $store:ident)+) => {
        $(mod $module {
            use super::{Outage, Store, degrade, killed_meanwhile};

            #[test]
            fn killed_as_the_service_is_it_gets_what_the_dead_one_kept() {
                killed_meanwhile(Store::$store, Outage::Killed);
            }

            #[test]
            fn killed_it_holds_up_nothing_and_gets_every_failure_afterwards() {
                degrade(Store::$store, Outage::Killed);
            }

            #[test]
            fn frozen_it_holds_up_nothing_and_gets_every_failure_afterwards() {
                degrade(Store::$store, Outage::Frozen);
            }

            #[test]
            fn refusing_it_holds_up_nothing_and_gets_every_failure_afterwards() {
                degrade(Store::$store, Outage::Refused);
            }
        })+
    };
}

outages!(on_postgres Postgres on_mongo Mongo on_redis Redis);

/// `make test` sees one store waited for, `make test-all` all of them.
fn blocked_by() -> &'static [Store] {
    match std::env::var("TEST_ALL").as_deref() {
        Ok("1") => &Store::SERVERS,
        _ => &[Store::Postgres],
    }
}

#[test]
fn a_killed_store_is_waited_for_under_block() {
    for store in blocked_by() {
        block(*store, Outage::Killed);
    }
}

#[test]
fn a_frozen_store_is_waited_for_under_block() {
    for store in blocked_by() {
        block(*store, Outage::Frozen);
    }
}

#[test]
fn a_store_that_refuses_is_waited_for_under_block() {
    for store in blocked_by() {
        block(*store, Outage::Refused);
    }
}
