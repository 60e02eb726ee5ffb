//! What every test needs: its turn, the broker, topics of its own, orders, the service, the verdict.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{
    Broker,
    check::{Check, DEDUP_KEY, Verdict},
    faults::Faults,
    orders::{Fate, ID, Mix, Order, Orders},
    process,
    reader::{self, Topic},
    seed::Seeder,
    service::Plan,
    stores::Store,
};

pub(crate) const LONG: Duration = Duration::from_secs(90);

pub(crate) fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| Broker::start().expect("a broker"))
}

/// One test at a time: two cores, and timing that is worth something.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `cargo test -p testkit` does not build the other package's binary: an old one, or one of another clone, would be judged
/// in its place. Cargo lists beside the binary what it was made from.
fn assert_built() {
    let changed = |file: &Path| file.metadata().and_then(|data| data.modified());
    let binary = process::sibling("orders-orchestrator").unwrap();
    let made = changed(&binary).unwrap();
    let sources = std::fs::read_to_string(binary.with_extension("d")).unwrap();
    let (_, sources) = sources.split_once(": ").unwrap();
    let clone = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let sources: Vec<&Path> = sources.split_whitespace().map(Path::new).collect();
    let ours = sources.iter().any(|source| source.starts_with(clone));
    let fresh = sources
        .iter()
        .all(|source| changed(source).is_ok_and(|at| at <= made));
    assert!(
        ours && fresh,
        "{} is not what this clone makes: run `make build` first",
        binary.display()
    );
}

pub(crate) struct Scene {
    pub(crate) plan: Plan,
    orders: Orders,
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Scene {
    /// Topics named after the test, with so many partitions; the real binary, static membership, the rocksdb store.
    pub(crate) fn new(name: &str, partitions: i32, mix: Mix) -> Self {
        let turn = turn();
        assert_built();
        let folder = tempfile::Builder::new().prefix("orders-test-").tempdir().unwrap();
        let plan = Plan::new(&folder.path().join("one"), broker().bootstrap(), name)
            .key("instance", format!("{name}-one"))
            .key("session-timeout", "6s")
            .key("log-format", "text");
        for topic in [&plan.source, &plan.target] {
            broker().create_topic(topic, partitions, &[]).unwrap();
        }
        broker().create_topic(&plan.priority, 2, &[]).unwrap();
        broker()
            .create_topic(plan.dead_letters.as_ref().unwrap(), 1, &[])
            .unwrap();
        Self {
            plan,
            orders: Orders::new(20_261_123, mix),
            folder,
            _turn: turn,
        }
    }

    /// The same on a store, in topics and a group of that name.
    pub(crate) fn on(store: Store, name: &str, partitions: i32, mix: Mix) -> Self {
        let mut scene = Self::new(&format!("{name}-{store}"), partitions, mix);
        scene.plan = scene.plan.on(store);
        scene
    }

    pub(crate) fn key(mut self, name: &str, value: &str) -> Self {
        self.plan = self.plan.key(name, value);
        self
    }

    /// The service with faults instead of the real binary.
    pub(crate) fn with_faults(mut self, faults: &Faults) -> Self {
        let file = self.folder.path().join("faults.json");
        faults.write(&file).unwrap();
        self.plan.faults = Some(file);
        self
    }

    pub(crate) fn switch(&self, faults: &Faults) {
        faults.write(self.plan.faults.as_ref().unwrap()).unwrap();
        // the service looks every 20 ms
        std::thread::sleep(Duration::from_millis(100));
    }

    pub(crate) fn folder(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// The next orders of the stream.
    pub(crate) fn seed(&mut self, count: usize) -> Vec<Order> {
        self.seed_with(count, |_| {})
    }

    /// The next orders of the stream, changed before they are sent.
    pub(crate) fn seed_with(&mut self, count: usize, change: impl Fn(&mut Order)) -> Vec<Order> {
        let seeder = Seeder::new(broker().bootstrap()).unwrap();
        let mut seeded = Vec::new();
        for mut order in self.orders.by_ref().take(count) {
            change(&mut order);
            seeder.send(&self.plan.source, &order).unwrap();
            seeded.push(order);
        }
        seeder.finish().unwrap();
        seeded
    }

    pub(crate) fn check(&self) -> Check {
        let plan = &self.plan;
        Check::new(
            broker().bootstrap(),
            &plan.source,
            &[&plan.target, &plan.priority],
            plan.dead_letters.as_deref(),
            &plan.group,
        )
    }

    #[track_caller]
    pub(crate) fn assert_true(&self) -> Verdict {
        self.assert(&self.check())
    }

    #[track_caller]
    pub(crate) fn assert(&self, check: &Check) -> Verdict {
        let verdict = check.run().unwrap();
        assert!(verdict.is_true(), "{verdict}");
        println!("{verdict}");
        verdict
    }

    pub(crate) fn read(&self, topic: &str) -> Topic {
        reader::read(broker().bootstrap(), topic, Duration::from_secs(40)).unwrap()
    }

    /// Where an order stands: `topic:partition:offset`.
    pub(crate) fn place(&self, id: &str) -> (String, i32, i64) {
        let source = self.read(&self.plan.source);
        let record = source.records.iter().find(|r| r.header(ID) == Some(id)).unwrap();
        let place = format!("{}:{}:{}", self.plan.source, record.partition, record.offset);
        (place, record.partition, record.offset)
    }

    /// What an operator's command prints, which must succeed.
    #[track_caller]
    pub(crate) fn operate(&self, plan: &Plan, arguments: &[&str]) -> String {
        let output = plan.operate(arguments).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {} {said}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// What does not move, and why, in full: as the operator is told. Nothing while nobody answers.
    pub(crate) fn standing(&self, plan: &Plan) -> String {
        let told = plan.operate(&["tracker", "progress"]).unwrap();
        String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned()
    }

    /// What the tracker knows of failures, as its operator is told.
    #[track_caller]
    pub(crate) fn failures(&self, plan: &Plan, status: &str) -> Vec<Value> {
        self.failures_if_answered(plan, status)
            .unwrap_or_else(|said| panic!("{said}"))
    }

    /// The same; why not, if the store is away.
    #[track_caller]
    pub(crate) fn failures_if_answered(&self, plan: &Plan, status: &str) -> Result<Vec<Value>, String> {
        let all = [
            "failures", "list", "--status", status, "--limit", "1000000", "-o", "ndjson",
        ];
        let output = plan.operate(&all).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(69) {
            return Err(format!("{all:?}: {said}"));
        }
        // 3: nothing matches
        assert!(
            matches!(output.status.code(), Some(0 | 3)),
            "{all:?}: {} {said}",
            output.status
        );
        Ok(String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect())
    }

    /// After quiescence and reconcile, over all stores of the group: the tracker says nothing that the topics deny, and
    /// knows every dead letter.
    #[track_caller]
    pub(crate) fn assert_tracker_sound(&self, plans: &[&Plan]) {
        let keys = |topic: &str| -> BTreeSet<String> {
            let topic = self.read(topic);
            topic
                .records
                .iter()
                .filter_map(|r| r.header(DEDUP_KEY))
                .map(str::to_owned)
                .collect()
        };
        let dead = keys(self.plan.dead_letters.as_ref().unwrap());
        let mut done = keys(&self.plan.target);
        done.extend(keys(&self.plan.priority));
        let (mut known, mut unknown) = (BTreeSet::new(), BTreeSet::new());
        for plan in plans {
            let store = plan.folder.file_name().unwrap().display();
            for entry in self.failures(plan, "all") {
                let id = entry["id"].as_str().unwrap().to_owned();
                match entry["status"].as_str().unwrap() {
                    "open" => {
                        assert!(
                            dead.contains(&id),
                            "store {store}: {id} is said to have failed, and has no dead letter: {entry}"
                        );
                        assert!(
                            !done.contains(&id),
                            "store {store}: {id} is said to have failed, and was enriched: {entry}"
                        );
                        known.insert(id);
                    }
                    "succeeded" => assert!(
                        done.contains(&id),
                        "store {store}: {id} is said to have succeeded, and was not enriched: {entry}"
                    ),
                    // what was committed while another process with a store of its own had the partition
                    "received" | "failing" if plans.len() > 1 => {
                        unknown.insert(id);
                    }
                    other => panic!(
                        "store {store}: {id} is still {other} after all is done and reconciled: {entry}"
                    ),
                }
            }
        }
        let missing: Vec<_> = dead
            .difference(&known)
            .filter(|id| !unknown.contains(*id))
            .collect();
        assert!(
            missing.is_empty(),
            "no store knows of the dead letters {missing:?}"
        );
        println!("{} failures known, {} left unknown", known.len(), unknown.len());
    }

    pub(crate) fn dead_letters(&self) -> usize {
        self.read(self.plan.dead_letters.as_ref().unwrap()).records.len()
    }
}

/// How many of these must fail.
pub(crate) fn failing(orders: &[Order]) -> usize {
    orders
        .iter()
        .filter(|o| o.fate.fails() || o.fate == Fate::Poison)
        .count()
}

/// A second process's plan in the same scene.
pub(crate) fn twin(scene: &Scene, folder: &str, instance: &str) -> Plan {
    scene.plan.twin(Path::new(&scene.folder(folder)), Some(instance))
}
