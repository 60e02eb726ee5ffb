use std::time::{Duration, Instant};

use testkit::{
    check::{Check, Expected},
    faults::{Faults, Poison},
    orders::{Fate, Mix, Order},
    reader,
    service::Service,
    stores::Store,
};

use crate::scene::{LONG, Scene, broker};

on_each_store!(
    a_poison_record_stops_its_partition_exactly_there_and_flows_once_the_fault_is_gone,
    an_operator_retries_a_poison_record_at_once,
    an_operator_skips_a_poison_record_and_the_rest_flows,
);

const POISON: Faults = Faults {
    drop: None,
    poison: Poison::Fails,
    delay_ms: 0,
    tracker: testkit::faults::Tracker::Fine,
    tracker_ms: 0,
};

/// 3 000 good orders in three partitions, one of them poison; the service is up and everything else is done.
fn blocked(store: Store, name: &str, backoff: &str) -> (Scene, Service, String, i32, i64) {
    let mut scene = Scene::on(store, name, 3, Mix::GOOD)
        .key("failure-mode", "atomic")
        .key("backoff", backoff)
        .key("max-backoff", "1m")
        .key("concurrency", "1")
        .with_faults(&POISON);
    let poison = |order: &mut Order| {
        if order.id == "order-001500" {
            order.fate = Fate::Poison;
        }
    };
    scene.seed_with(3_000, poison);
    let (place, partition, offset) = scene.place("order-001500");
    let source = scene.read(&scene.plan.source);
    let mut service = scene.plan.start().unwrap();
    service
        .wait_until("blocked by the poison", LONG, |_| {
            let stands = committed(&scene);
            Ok(source.ends.iter().all(|(p, end)| {
                let goal = if *p == partition { offset } else { *end };
                stands.get(p).copied().unwrap_or(0) >= goal
            }))
        })
        .unwrap();
    (scene, service, place, partition, offset)
}

fn committed(scene: &Scene) -> std::collections::BTreeMap<i32, i64> {
    let plan = &scene.plan;
    reader::committed(
        broker().bootstrap(),
        &plan.group,
        &plan.source,
        Duration::from_secs(20),
    )
    .unwrap()
}

#[track_caller]
fn assert_blocks(scene: &Scene, place: &str, partition: i32, offset: i64, least_tries: u64) {
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(
        committed(scene)[&partition],
        offset,
        "its partition stops exactly there"
    );
    let begun = Instant::now();
    let listed = loop {
        let listed = scene.failures(&scene.plan, "blocking");
        // between two tries the entry may be rewritten
        if !listed.is_empty() || begun.elapsed() > Duration::from_secs(5) {
            break listed;
        }
    };
    let ids: Vec<_> = listed.iter().map(|e| e["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [place], "{listed:?}");
    assert_eq!(listed[0]["class"], "poison");
    assert!(
        listed[0]["next_try"].is_string(),
        "it says when it is tried next: {}",
        listed[0]
    );
    assert!(
        listed[0]["tries"].as_u64().unwrap() >= least_tries,
        "{}",
        listed[0]
    );
}

fn a_poison_record_stops_its_partition_exactly_there_and_flows_once_the_fault_is_gone(store: Store) {
    let (scene, mut service, place, partition, offset) = blocked(store, "atomic", "100ms");
    assert_blocks(&scene, &place, partition, offset, 2);
    let table = scene.operate(&scene.plan, &["failures", "list"]);
    assert!(table.contains(&place), "{table}");

    scene.switch(&Faults::default());
    service
        .wait_drained(broker().bootstrap(), Duration::from_secs(30))
        .unwrap();
    let check = Check {
        poison: Expected::Enriched,
        ..scene.check()
    };
    scene.assert(&check);
    assert!(scene.failures(&scene.plan, "blocking").is_empty());
    service.end_well(Duration::from_secs(30)).unwrap();
}

fn an_operator_retries_a_poison_record_at_once(store: Store) {
    let (scene, mut service, place, partition, offset) = blocked(store, "retry", "1m");
    // The next try by itself is at least half a minute away: what flows before that flows because it was told to.
    assert_blocks(&scene, &place, partition, offset, 1);
    scene.switch(&Faults::default());
    scene.operate(
        &scene.plan,
        &["failures", "retry", &place, "--reason", "the fault is gone"],
    );
    service
        .wait_drained(broker().bootstrap(), Duration::from_secs(15))
        .unwrap();
    let check = Check {
        poison: Expected::Enriched,
        ..scene.check()
    };
    scene.assert(&check);
}

fn an_operator_skips_a_poison_record_and_the_rest_flows(store: Store) {
    let (scene, mut service, place, partition, offset) = blocked(store, "skip", "100ms");
    assert_blocks(&scene, &place, partition, offset, 2);
    scene.operate(
        &scene.plan,
        &["failures", "skip", &place, "--reason", "a test order"],
    );
    service
        .wait_drained(broker().bootstrap(), Duration::from_secs(30))
        .unwrap();
    scene.assert_true();
    scene.operate(&scene.plan, &["tracker", "reconcile"]);
    let skipped = scene.failures(&scene.plan, "skipped");
    assert_eq!(skipped.len(), 1, "{skipped:?}");
    assert_eq!(skipped[0]["id"], place.as_str());
    assert_eq!(skipped[0]["resolution"]["reason"], "a test order");
}
