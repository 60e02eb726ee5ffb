use std::time::Duration;

use rustix::process::Signal;
use testkit::orders::Mix;

use crate::scene::{LONG, Scene, broker, twin};

const MIX: Mix = Mix {
    invalid: 20,
    ..Mix::DEMO
};

fn scene(name: &str) -> Scene {
    Scene::new(name, 6, MIX)
        .key("failure-mode", "skip-and-log")
        .key("concurrency", "1")
        .key("batch-records", "200")
}

#[test]
fn two_processes_of_a_group_share_it_while_one_is_killed_and_another_joins() {
    let mut scene = scene("pair");
    let other = twin(&scene, "two", "pair-two");
    scene.seed(10_000);
    let one = scene.plan.start().unwrap();
    let mut two = other.start().unwrap();
    two.wait_ready(LONG).unwrap();
    scene.seed(10_000);
    std::thread::sleep(Duration::from_millis(700));
    one.kill().unwrap();
    scene.seed(5_000);
    std::thread::sleep(Duration::from_secs(2));
    let mut one = scene.plan.start().unwrap();
    scene.seed(5_000);
    one.wait_drained(broker().bootstrap(), LONG).unwrap();
    assert!(two.ended().unwrap().is_none(), "the survivor lives");
    scene.operate(&scene.plan, &["tracker", "reconcile"]);
    scene.operate(&other, &["tracker", "reconcile"]);
    let verdict = scene.assert_true();
    assert_eq!(verdict.produced, 30_000);
    scene.assert_tracker_sound(&[&scene.plan, &other]);
    one.end_well(Duration::from_secs(30)).unwrap();
    two.end_well(Duration::from_secs(30)).unwrap();
}

#[test]
fn an_instance_that_was_stopped_while_its_twin_took_over_wakes_and_changes_nothing() {
    let mut scene = scene("twin");
    // the same configured instance, so the same static member and the same transactional id, on another machine
    let other = twin(&scene, "two", "twin-one");
    scene.seed(10_000);
    let mut sleeper = scene.plan.start().unwrap();
    sleeper
        .wait_until("at work", LONG, |s| {
            Ok(s.metric("orch_records_ok_total").unwrap_or(0.0) > 500.0)
        })
        .unwrap();
    sleeper.signal(Signal::STOP).unwrap();
    let mut heir = other.start().unwrap();
    scene.seed(5_000);
    heir.wait_drained(broker().bootstrap(), LONG).unwrap();
    scene.seed(5_000);
    sleeper.signal(Signal::CONT).unwrap();
    let end = sleeper.wait(Duration::from_secs(60)).unwrap();
    assert_eq!(end.code(), Some(70), "fenced; it said:\n{}", sleeper.last_words());
    // As it wakes, the sleeper's client rejoins on its own under the static id that both have: then the heir is fenced
    // too, and is started again as a supervisor would.
    std::thread::sleep(Duration::from_secs(3));
    if let Some(end) = heir.ended().unwrap() {
        assert_eq!(end.code(), Some(70), "fenced; it said:\n{}", heir.last_words());
        heir = other.start().unwrap();
    }
    heir.wait_drained(broker().bootstrap(), LONG).unwrap();
    scene.operate(&other, &["tracker", "reconcile"]);
    scene.operate(&scene.plan, &["tracker", "reconcile"]);
    let verdict = scene.assert_true();
    assert_eq!(verdict.produced, 20_000);
    scene.assert_tracker_sound(&[&scene.plan, &other]);
    heir.end_well(Duration::from_secs(30)).unwrap();
}
