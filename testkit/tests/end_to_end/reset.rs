//! An operator resets offsets, and what has succeeded is read again.

use std::time::{Duration, Instant};

use testkit::{
    admin,
    check::DEDUP_KEY,
    faults::{Faults, Poison},
    orders::{Fate, Mix, Order},
    service::{Plan, Service},
    stores::Store,
};

use crate::scene::{LONG, Scene, broker};

on_each_store!(
    what_has_succeeded_is_not_produced_again_after_a_reset,
    a_blocking_record_that_a_reset_jumps_over_is_open_and_can_be_discarded,
);

const PARTITIONS: i32 = 2;

fn outbox(store: Store, name: &str, skip: bool) -> Scene {
    Scene::on(store, name, PARTITIONS, Mix::GOOD)
        .key("tracking", "outbox")
        .key("outbox", &format!("{{skip-succeeded: {skip}}}"))
}

/// Runs the service until all is passed, and stops it.
fn drained(plan: &Plan) -> Service {
    let mut service = plan.start().unwrap();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    service
}

fn reset(scene: &Scene) {
    reset_to(scene, PARTITIONS, 0);
}

fn reset_to(scene: &Scene, partitions: i32, offset: i64) {
    let plan = &scene.plan;
    admin::reset_offsets(
        broker().bootstrap(),
        &plan.group,
        &plan.source,
        partitions,
        offset,
    )
    .unwrap();
}

/// How many outputs there are, and how many of them are of one record more than once.
fn produced(scene: &Scene) -> (usize, usize) {
    let topics = [&scene.plan.target, &scene.plan.priority].map(|topic| scene.read(topic));
    let records = topics.iter().flat_map(|topic| &topic.records);
    let keys: Vec<_> = records
        .filter_map(|r| r.header(DEDUP_KEY))
        .map(str::to_owned)
        .collect();
    let once: std::collections::BTreeSet<_> = keys.iter().collect();
    (keys.len(), keys.len() - once.len())
}

fn what_has_succeeded_is_not_produced_again_after_a_reset(store: Store) {
    let mut scene = outbox(store, "reset", true);
    scene.seed(1_000);
    drained(&scene.plan).end_well(Duration::from_secs(30)).unwrap();
    scene.assert_true();
    let (before, twice) = produced(&scene);
    assert_eq!(twice, 0);

    reset(&scene);
    scene.seed(200);
    let service = drained(&scene.plan);
    assert!((service.metric("orch_records_skipped_total").unwrap() - 1_000.0).abs() < 0.5);
    service.end_well(Duration::from_secs(30)).unwrap();
    let verdict = scene.assert_true();
    let (after, twice) = produced(&scene);
    println!("{store}: {before} outputs, after the reset and 200 more orders {after}: {verdict}");
    assert_eq!(twice, 0, "produced twice");
    assert!(after > before, "what is new is produced");
    assert_eq!(scene.failures(&scene.plan, "unresolved").len(), 0);

    // Known in the new era too, so that a second reset finds it.
    reset(&scene);
    drained(&scene.plan).end_well(Duration::from_secs(30)).unwrap();
    assert_eq!(produced(&scene), (after, 0), "after a second reset");
}

/// Failures of this status, as soon as there is one.
fn soon(scene: &Scene, status: &str) -> Vec<serde_json::Value> {
    let begun = Instant::now();
    loop {
        let found = scene
            .failures_if_answered(&scene.plan, status)
            .unwrap_or_default();
        if !found.is_empty() || begun.elapsed() > Duration::from_secs(30) {
            return found;
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn a_blocking_record_that_a_reset_jumps_over_is_open_and_can_be_discarded(store: Store) {
    let mut scene = Scene::on(store, "jump", 1, Mix::GOOD)
        .key("failure-mode", "atomic")
        .with_faults(&Faults {
            poison: Poison::Fails,
            ..Faults::default()
        });
    scene.seed_with(200, |order: &mut Order| {
        if order.id == "order-000100" {
            order.fate = Fate::Poison;
        }
    });
    let (place, _, offset) = scene.place("order-000100");
    let mut service = scene.plan.start().unwrap();
    service.wait_ready(LONG).unwrap();
    let blocking = soon(&scene, "blocking");
    assert_eq!(blocking.len(), 1, "{blocking:?}");
    service.end_well(Duration::from_secs(30)).unwrap();

    reset_to(&scene, 1, offset + 1);
    let service = drained(&scene.plan);
    let open = soon(&scene, "open");
    assert_eq!(
        (open.len(), open[0]["id"].as_str()),
        (1, Some(&*place)),
        "{open:?}"
    );
    let message = open[0]["message"].as_str().unwrap();
    assert!(
        message.starts_with("an offset reset passed this record"),
        "{message}"
    );
    assert_eq!(open[0]["class"], "poison");
    let discard = ["failures", "discard", &*place, "--reason", "passed on purpose"];
    scene.operate(&scene.plan, &discard);
    assert!(scene.failures(&scene.plan, "unresolved").is_empty());
    service.end_well(Duration::from_secs(30)).unwrap();
}

/// The test of the test: without the switch a reset is what it says.
#[test]
fn without_the_switch_a_reset_produces_again() {
    let mut scene = outbox(Store::Rocksdb, "reset-again", false);
    scene.seed(100);
    drained(&scene.plan).end_well(Duration::from_secs(30)).unwrap();
    let (before, _) = produced(&scene);
    reset(&scene);
    drained(&scene.plan).end_well(Duration::from_secs(30)).unwrap();
    assert_eq!(produced(&scene), (2 * before, before));
}
