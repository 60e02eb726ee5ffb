//! The tour of the four stores, as `docs/moving-house.md` tells it: the service runs on one store while most of it is copied,
//! is stopped, the rest is copied, one value is changed, and it is started.

use std::{
    collections::HashSet,
    fs,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use test_servers::Server;
use testkit::{
    orders::{Mix, Order},
    service::Plan,
    stores::Store,
};

use crate::scene::{LONG, Scene, broker, failing};

/// One order of fifty fails, so that there is something to decide about.
const MIX: Mix = Mix {
    invalid: 14,
    malformed: 3,
    unknown_sku: 3,
    ..Mix::GOOD
};

/// `make test` takes a small house along, `make test-all` a large one.
fn entries() -> usize {
    match std::env::var("TEST_ALL").as_deref() {
        Ok("1") => 200_000,
        _ => 2_000,
    }
}

struct Tour {
    scene: Scene,
    store: Store,
    orders: Vec<Order>,
}

impl Tour {
    fn plan(&self) -> &Plan {
        &self.scene.plan
    }

    /// Everything that a store holds, as lines. The service is stopped.
    fn export(&self, store: Store, name: &str) -> String {
        let file = self.scene.folder(name);
        let to = format!("ndjson:{}", file.display());
        self.scene.operate(
            self.plan(),
            &["tracker", "copy", "--from", &store.to_string(), "--to", &to],
        );
        let lines = fs::read_to_string(&file).unwrap();
        // No copy writes over a file, and the next leg has the same names.
        fs::remove_file(file).unwrap();
        lines
    }

    fn begin_copy(&self, to: Store) -> Child {
        let (from, to) = (self.store.to_string(), to.to_string());
        let mut copy = self
            .plan()
            .command(&["tracker", "copy", "--from", &from, "--to", &to])
            .unwrap();
        copy.stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Orders flow until the copy ends. Its exit code and what it said.
    fn copied_under_load(&mut self, copy: Child) -> (Option<i32>, String) {
        let mut copy = copy;
        while copy.try_wait().unwrap().is_none() {
            self.orders.extend(self.scene.seed(100));
            std::thread::sleep(Duration::from_millis(100));
        }
        let output = copy.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// From its store to another one.
    fn moves_to(&mut self, to: Store) {
        let begun = Instant::now();
        let mut service = self.plan().start().unwrap();
        service.wait_ready(LONG).unwrap();
        self.orders.extend(self.scene.seed(200));

        // killed as soon as it has something to go on with, if it is not done before
        let checkpoint = format!("copy-{}-{to}.json", self.store);
        let checkpoint = self.plan().folder.join("data").join(checkpoint);
        let mut copy = self.begin_copy(to);
        while !checkpoint.exists() && copy.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        copy.kill().unwrap();
        copy.wait().unwrap();
        let killed = checkpoint.exists();

        let copy = self.begin_copy(to);
        let (code, said) = self.copied_under_load(copy);
        // 4: what was written meanwhile is not there yet
        assert!(matches!(code, Some(0 | 4)), "{code:?} {said}");
        assert_eq!(said.contains("gone on with"), killed, "{said}");
        service.wait_drained(broker().bootstrap(), LONG).unwrap();
        service.end_well(Duration::from_secs(30)).unwrap();
        let stopped = Instant::now();

        let from = self.store;
        self.scene.operate(self.plan(), &["tracker", "reconcile"]);
        let sides = ["--from", &from.to_string(), "--to", &to.to_string()];
        self.scene
            .operate(self.plan(), &[&["tracker", "copy"], &sides[..]].concat());
        self.scene
            .operate(self.plan(), &[&["tracker", "verify"], &sides[..]].concat());
        let away = stopped.elapsed();
        let (left, right) = (self.export(from, "left.ndjson"), self.export(to, "right.ndjson"));
        assert!(left == right, "{from} and {to} are written differently");
        println!(
            "{from} → {to}: {} entries, {:.1} s beside the service{}, {:.1} s without it",
            left.lines().count() - 2,
            (stopped - begun).as_secs_f64(),
            if killed { " (killed and gone on with)" } else { "" },
            away.as_secs_f64()
        );
        self.store = to;
        self.scene.plan = self.scene.plan.clone().key("db-strategy", to.to_string());
    }
}

#[test]
fn a_service_moves_through_all_stores_and_takes_everything_along() {
    let mut scene = Scene::new("tour", 3, MIX)
        .key("failure-mode", "skip-and-log")
        .key("tracking", "outbox")
        .key("store-payload", "bytes")
        .key("concurrency", "2");
    for store in Store::SERVERS {
        scene.plan = scene.plan.on(store);
    }
    scene.plan = scene.plan.on(Store::Postgres);
    let orders = scene.seed(entries());
    let mut tour = Tour {
        scene,
        store: Store::Postgres,
        orders,
    };
    let mut service = tour.plan().start().unwrap();
    service.wait_drained(broker().bootstrap(), LONG * 3).unwrap();
    let unwanted = [
        "failures",
        "discard",
        "--class",
        "malformed",
        "--reason",
        "the sender knows",
        "--yes",
    ];
    tour.scene.operate(tour.plan(), &unwanted);
    service.end_well(Duration::from_secs(30)).unwrap();
    tour.scene.operate(tour.plan(), &["tracker", "reconcile"]);
    let first = tour.export(Store::Postgres, "first.ndjson");
    let is_entry = |line: &&str| line.starts_with("{\"kind\":\"entry\"");
    assert_eq!(first.lines().filter(is_entry).count(), entries());
    assert!(first.contains("the sender knows"));

    // the last one is a PostgreSQL that has never seen any of it
    let other = Server::start(Store::Postgres.kind().unwrap()).unwrap();
    for to in [Store::Mongo, Store::Redis, Store::Rocksdb] {
        tour.moves_to(to);
    }
    let url = format!("{{url: \"{}\"}}", other.url());
    tour.scene.plan = tour.scene.plan.clone().key("postgres", url);
    tour.moves_to(Store::Postgres);

    let last = tour.export(Store::Postgres, "last.ndjson");
    let held: HashSet<&str> = last.lines().filter(is_entry).collect();
    let lost = first
        .lines()
        .filter(is_entry)
        .filter(|line| !held.contains(line))
        .count();
    assert_eq!(lost, 0, "entries that are not byte for byte as they were");
    assert_eq!(held.len(), tour.orders.len());

    let mut service = tour.plan().start().unwrap();
    tour.orders.extend(tour.scene.seed(200));
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    let verdict = tour.scene.assert_true();
    assert_eq!(
        (verdict.produced, verdict.failed),
        (tour.orders.len(), failing(&tour.orders))
    );
    tour.scene.operate(tour.plan(), &["tracker", "reconcile"]);
    let open = tour.scene.failures(tour.plan(), "open").len();
    let discarded = tour.scene.failures(tour.plan(), "discarded").len();
    assert!(discarded > 0);
    assert_eq!(open + discarded, failing(&tour.orders));
    service.end_well(Duration::from_secs(30)).unwrap();
}
