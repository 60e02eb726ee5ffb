//! An operator resets offsets, and what has succeeded is read again.

use std::time::Duration;

use testkit::{
    admin,
    check::DEDUP_KEY,
    orders::Mix,
    service::{Plan, Service},
    stores::Store,
};

use crate::scene::{LONG, Scene, broker};

on_each_store!(what_has_succeeded_is_not_produced_again_after_a_reset);

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
    let plan = &scene.plan;
    admin::reset_offsets(broker().bootstrap(), &plan.group, &plan.source, PARTITIONS, 0).unwrap();
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
