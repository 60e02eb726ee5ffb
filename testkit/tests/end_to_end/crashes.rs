//! A record whose transform ends the whole process, again and again.

use std::time::Duration;

use testkit::{
    faults::{Faults, Poison},
    orders::{Fate, Mix},
    reader,
};

use crate::scene::{LONG, Scene, broker};

const ABORTS: Faults = Faults {
    drop: None,
    poison: Poison::Aborts,
    delay_ms: 0,
    tracker: testkit::faults::Tracker::Fine,
    tracker_ms: 0,
};

/// Starts that may die before the record is found: three together, two alone, and those that made progress in between.
const MOST_STARTS: usize = 12;

fn scene(name: &str, mode: &str) -> (Scene, String) {
    let mut scene = Scene::new(name, 3, Mix::GOOD)
        .key("failure-mode", mode)
        .key("concurrency", "1")
        .with_faults(&ABORTS);
    scene.seed_with(3_000, |order| {
        if order.id == "order-001500" {
            order.fate = Fate::Poison;
        }
    });
    let (place, ..) = scene.place("order-001500");
    (scene, place)
}

#[test]
fn a_record_that_kills_the_process_is_found_and_passed_over_and_no_other() {
    let (scene, place) = scene("crash", "skip-and-log");
    let mut starts = 0;
    let mut service = loop {
        starts += 1;
        assert!(starts <= MOST_STARTS, "still dying after {MOST_STARTS} starts");
        let mut service = scene.plan.start().unwrap();
        if service.wait_drained(broker().bootstrap(), LONG).is_ok() {
            break service;
        }
        assert!(service.ended().unwrap().is_some(), "{}", service.last_words());
    };
    println!("done after {starts} starts");
    assert!(starts > 5, "it was condemned after {starts} starts");
    let failures = scene.failures(&scene.plan, "open");
    let [failure] = &failures[..] else {
        panic!("{failures:?}")
    };
    assert_eq!(
        (failure["id"].as_str(), failure["class"].as_str()),
        (Some(&*place), Some("crash"))
    );
    scene.assert_true();
    let journal = scene.plan.folder.join("data/in-flight.json");
    assert!(journal.exists());
    service.signal(rustix::process::Signal::TERM).unwrap();
    assert!(service.wait(Duration::from_secs(30)).unwrap().success());
    assert!(!journal.exists(), "an end in good order leaves nothing behind");
    assert_eq!(
        reader::read(broker().bootstrap(), &scene.plan.source, LONG)
            .unwrap()
            .records
            .len(),
        3_000
    );
}
