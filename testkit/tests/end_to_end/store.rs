use std::time::Duration;

use testkit::{
    faults::{Faults, Tracker},
    orders::Mix,
    reader,
};

use crate::scene::{LONG, Scene, broker, failing};

const MIX: Mix = Mix {
    invalid: 20,
    ..Mix::DEMO
};

fn faults(tracker: Tracker) -> Faults {
    Faults {
        tracker,
        tracker_ms: 300,
        ..Faults::default()
    }
}

fn scene(name: &str, policy: &str) -> Scene {
    Scene::new(name, 3, MIX)
        .key("failure-mode", "skip-and-log")
        .key("on-store-failure", policy)
        .key("concurrency", "1")
        .key("batch-records", "500")
        .key("db-timeout-ms", "200")
        .key("db-tries", "2")
        .key("db-circuit-open-ms", "1000")
        .with_faults(&faults(Tracker::Fine))
}

/// A store that fails, then answers: what Kafka holds is what it holds with a store that never failed.
fn degrade(name: &str, fault: Tracker) {
    let mut scene = scene(name, "degrade");
    let mut orders = scene.seed(3_000);
    let mut service = scene.plan.start().unwrap();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    scene.switch(&faults(fault));
    orders.extend(scene.seed(3_000));
    // with a dead-letter topic nothing waits for the store
    service
        .wait_drained(broker().bootstrap(), Duration::from_secs(60))
        .unwrap();
    let verdict = scene.assert_true();
    assert_eq!(verdict.failed, failing(&orders));

    scene.switch(&faults(Tracker::Fine));
    orders.extend(scene.seed(3_000));
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    let verdict = scene.assert_true();
    assert_eq!((verdict.produced, verdict.failed), (9_000, failing(&orders)));
    // what it says, it says rightly; what it missed lies in a gap
    let mut known = 0;
    service
        .wait_until("reconciled", LONG, |_| {
            scene.operate(&scene.plan, &["tracker", "reconcile"]);
            let all = scene.failures(&scene.plan, "all");
            known = all.iter().filter(|e| e["status"] == "open").count();
            Ok(all
                .iter()
                .all(|e| e["status"] == "open" || e["status"] == "succeeded"))
        })
        .unwrap();
    assert!(
        known > 0 && known <= failing(&orders),
        "{known} of {}",
        failing(&orders)
    );
    service.end_well(Duration::from_secs(30)).unwrap();
}

/// A batch with a failure waits for the store, and says so; then everything flows, and the tracker knows all of it.
fn block(name: &str, fault: Tracker) {
    let mut scene = scene(name, "block");
    let mut orders = scene.seed(3_000);
    let mut service = scene.plan.start().unwrap();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    let before = scene.dead_letters();
    scene.switch(&faults(fault));
    orders.extend(scene.seed(3_000));
    std::thread::sleep(Duration::from_secs(4));
    let stands = reader::committed(
        broker().bootstrap(),
        &scene.plan.group,
        &scene.plan.source,
        Duration::from_secs(20),
    )
    .unwrap();
    let source = scene.read(&scene.plan.source);
    let behind = source
        .ends
        .iter()
        .any(|(partition, end)| stands.get(partition).copied().unwrap_or(0) < *end);
    assert!(
        behind,
        "a failure was passed over without the store: {stands:?} of {:?}",
        source.ends
    );
    assert_eq!(
        scene.dead_letters(),
        before,
        "nothing was dead-lettered without the store"
    );
    let (status, why) = service.get("/readyz").unwrap();
    assert_eq!(status, 503, "{why}");
    assert!(why.contains("store"), "readiness says why: {why}");
    assert_eq!(
        service.get("/livez").unwrap().0,
        200,
        "waiting for the store is no reason to be killed"
    );

    scene.switch(&faults(Tracker::Fine));
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    scene.operate(&scene.plan, &["tracker", "reconcile"]);
    let verdict = scene.assert_true();
    assert_eq!((verdict.produced, verdict.failed), (6_000, failing(&orders)));
    scene.assert_tracker_sound(&[&scene.plan]);
    service.end_well(Duration::from_secs(30)).unwrap();
}

#[test]
fn a_failing_store_holds_up_nothing_under_degrade() {
    degrade("degrade-fails", Tracker::Fails);
}

#[test]
fn a_hanging_store_holds_up_nothing_for_long_under_degrade() {
    degrade("degrade-hangs", Tracker::Hangs);
}

#[test]
fn a_slow_store_changes_nothing_under_degrade() {
    degrade("degrade-slow", Tracker::Slow);
}

#[test]
fn a_store_whose_answers_are_lost_changes_nothing_under_degrade() {
    degrade("degrade-forgets", Tracker::Forgets);
}

#[test]
fn a_failing_store_is_waited_for_under_block() {
    block("block-fails", Tracker::Fails);
}

#[test]
fn a_hanging_store_is_waited_for_under_block() {
    block("block-hangs", Tracker::Hangs);
}
