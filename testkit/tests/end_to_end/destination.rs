//! What the target topic does not take, and whose fault that is.

use std::{
    collections::BTreeSet,
    thread::sleep,
    time::{Duration, Instant},
};

use testkit::{
    admin,
    check::DEDUP_KEY,
    orders::{Fate, Mix, Order},
};

use crate::scene::{LONG, Scene, broker};

/// Bytes that a batch in the target topic may have.
const LIMIT: &str = "4000";

#[test]
fn a_target_that_is_deleted_and_made_again_with_fewer_partitions_fails_no_record() {
    let mut scene = Scene::new("target-deleted", 3, Mix::GOOD)
        .key("failure-mode", "skip-and-log")
        .key("concurrency", "1");
    scene.seed(300);
    let mut service = scene.plan.start().unwrap();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();

    admin::delete_topics(broker().bootstrap(), &[&scene.plan.target]);
    let before = scene.read(&scene.plan.priority).records.len();
    let orders = scene.seed(50);
    let gone = Instant::now();
    service
        .wait_until("not ready, and why", LONG, |service| {
            let (status, body) = service.get("/readyz")?;
            let is_said = status == 503 && body.contains("destination since");
            Ok(is_said && scene.standing(&scene.plan).contains(&scene.plan.target))
        })
        .unwrap();
    assert!(service.metric("orch_stalled_partitions").unwrap() >= 1.0);
    sleep(Duration::from_secs(20).saturating_sub(gone.elapsed()));
    broker().create_topic(&scene.plan.target, 1, &[]).unwrap();
    let back = Instant::now();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    println!(
        "drained {:.1} s after the topic was back",
        back.elapsed().as_secs_f64()
    );

    assert_eq!(scene.dead_letters(), 0);
    assert_eq!(scene.failures(&scene.plan, "all").len(), 0);
    let enriched = scene.read(&scene.plan.target).records;
    let priority = scene.read(&scene.plan.priority).records;
    let keys: BTreeSet<_> = enriched
        .iter()
        .chain(&priority[before..])
        .filter_map(|r| r.header(DEDUP_KEY))
        .collect();
    assert_eq!(keys.len(), orders.len(), "each once");
    assert_eq!(enriched.len() + priority.len() - before, orders.len());
    service.wait_ready(LONG).unwrap();
    service.end_well(Duration::from_secs(30)).unwrap();
}

/// A good order that grows beyond the target's limit.
fn grow(order: &mut Order) {
    order.fate = Fate::Poison;
    assert_eq!(order.value.pop(), Some(b'}'));
    order.value.extend_from_slice(b",\"note\":\"");
    order.value.resize(order.value.len() + 6_000, b'x');
    order.value.extend_from_slice(b"\"}");
}

/// Good orders, some of which are too large for a target whose limit is less than what travels together. How long they took,
/// and how many transactions came to nothing.
fn too_large(name: &str, count: usize, which: impl Fn(usize) -> bool) -> (f64, f64) {
    let mut scene = Scene::new(name, 1, Mix::GOOD)
        .key("failure-mode", "skip-and-log")
        .key("concurrency", "1");
    scene.plan.target = format!("{name}-small");
    scene.plan.priority = format!("{name}-small-priority");
    for topic in [&scene.plan.target, &scene.plan.priority] {
        broker()
            .create_topic(topic, 1, &[("max.message.bytes", LIMIT)])
            .unwrap();
    }
    scene.seed_with(count, |order| {
        let number: usize = order.id["order-".len()..].parse().unwrap();
        if which(number) {
            grow(order);
        }
    });
    let begun = Instant::now();
    let mut service = scene.plan.start().unwrap();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    let (took, aborts) = (
        begun.elapsed().as_secs_f64(),
        service.metric("orch_transactions_aborted_total").unwrap(),
    );
    scene.assert_true();
    let refused = (0..count).filter(|number| which(*number)).count();
    assert_eq!(scene.dead_letters(), refused);
    assert_eq!(scene.failures(&scene.plan, "open").len(), refused);
    service.end_well(Duration::from_secs(30)).unwrap();
    (took, aborts)
}

#[test]
fn outputs_too_large_for_the_topic_are_told_apart_within_a_few_aborts() {
    // Large orders are more than one attempt carries at first: each attempt names its own.
    for (name, count, step, most) in [("two-of-eight", 8, 4, 4.0), ("every-second", 300, 2, 12.0)] {
        let (took, aborts) = too_large(name, count, |number| number % step == 1);
        println!("{name}: {took:.1} s from the start of the process, {aborts} aborts");
        assert!(aborts <= most, "{name}: {aborts} aborts");
        assert!(took < 30.0, "{name}: {took:.1} s");
    }
}
