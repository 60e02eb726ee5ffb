use std::{path::Path, time::Duration};

use rand::Rng;
use testkit::{
    faults::{Faults, Poison},
    orders::{Fate, Mix},
    reader::Progress,
    service::Service,
    stores::Store,
};

use crate::scene::{LONG, Scene, broker, failing};

on_each_store!(
    many_orders_on_two_lanes_come_out_exactly_once_and_in_order,
    killed_ten_times_while_it_drains_every_id_comes_out_once_and_the_tracker_is_right,
    of_one_percent_poison_each_is_once_in_the_dead_letters_and_once_in_the_tracker_with_its_bytes,
);

fn many_orders_on_two_lanes_come_out_exactly_once_and_in_order(store: Store) {
    let count: u32 = if store == Store::Rocksdb { 100_000 } else { 20_000 };
    let mut scene = Scene::on(store, "drain", 6, Mix::DEMO)
        .key("failure-mode", "skip-and-log")
        .key("concurrency", "2");
    let orders = scene.seed(count as usize);
    let mut service = scene.plan.start().unwrap();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    let told = service.metric("orch_records_in_total").unwrap();
    assert!(
        (told - f64::from(count)).abs() < 0.5,
        "orch_records_in_total says {told}"
    );
    service.end_well(Duration::from_secs(30)).unwrap();

    let verdict = scene.assert_true();
    assert_eq!(
        (verdict.produced, verdict.failed),
        (count as usize, failing(&orders))
    );
    scene.assert_tracker_sound(&[&scene.plan]);
}

fn killed_ten_times_while_it_drains_every_id_comes_out_once_and_the_tracker_is_right(store: Store) {
    let each = if store == Store::Rocksdb { 3_000 } else { 2_000 };
    let mix = Mix {
        invalid: 30,
        ..Mix::DEMO
    };
    let mut scene = Scene::on(store, "kill", 4, mix)
        .key("failure-mode", "skip-and-log")
        .key("concurrency", "2")
        .key("batch-records", "150");
    let mut random = rand::rng();
    let mut progress = Progress::of(broker().bootstrap(), &scene.plan.group, &scene.plan.source).unwrap();
    let (mut in_the_midst, mut round) = (0, 0);
    // Ten at least; more where luck let too few meet it at work.
    while round < 10 || (in_the_midst < 4 && round < 40) {
        scene.seed(each);
        let before = progress.left().unwrap();
        let mut service = scene.plan.start().unwrap();
        let moment = if round % 3 == 0 {
            random.random_range(50..1_500) // also while it starts
        } else {
            let begun = |_: &Service| Ok(progress.left()? < before);
            service.wait_until("at work", LONG, begun).unwrap();
            random.random_range(0..300)
        };
        std::thread::sleep(Duration::from_millis(moment));
        service.kill().unwrap();
        let left = progress.left().unwrap();
        println!("kill {round}: {before} orders to do, {left} left");
        in_the_midst += u32::from(left > 0 && left < before);
        round += 1;
    }
    assert!(
        in_the_midst >= 4,
        "only {in_the_midst} of {round} kills met it at work"
    );
    let mut service = scene.plan.start().unwrap();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    scene.operate(&scene.plan, &["tracker", "reconcile"]);
    let verdict = scene.assert_true();
    assert_eq!(verdict.produced, round * each);
    assert!(verdict.failed > each / 5, "{verdict}");
    scene.assert_tracker_sound(&[&scene.plan]);
    service.end_well(Duration::from_secs(30)).unwrap();
}

fn of_one_percent_poison_each_is_once_in_the_dead_letters_and_once_in_the_tracker_with_its_bytes(
    store: Store,
) {
    let mix = Mix {
        poison: 10,
        ..Mix::DEMO
    };
    let mut scene = Scene::on(store, "poison", 3, mix)
        .key("failure-mode", "skip-and-log")
        .key("max-attempts", "2")
        .key("backoff", "20ms")
        .key("store-payload", "bytes")
        .key("concurrency", "1")
        .with_faults(&Faults {
            poison: Poison::Refuses,
            ..Faults::default()
        });
    let orders = scene.seed(10_000);
    let mut service = scene.plan.start().unwrap();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    scene.operate(&scene.plan, &["tracker", "reconcile"]);

    let verdict = scene.assert_true();
    assert_eq!(verdict.failed, failing(&orders));
    assert_eq!(scene.dead_letters(), failing(&orders));
    scene.assert_tracker_sound(&[&scene.plan]);
    let open = scene.failures(&scene.plan, "open");
    assert_eq!(open.len(), failing(&orders), "one entry each");

    // bytes that are no text come back as they were, beside those that are
    for fate in [Fate::Malformed, Fate::Poison, Fate::Invalid] {
        let order = orders.iter().find(|o| o.fate == fate).unwrap();
        let (place, ..) = scene.place(&order.id);
        let shown = scene.operate(
            &scene.plan,
            &["failures", "show", &place, "--payload", "-o", "json"],
        );
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let value = &shown["payload"]["value"];
        let data = value["data"].as_str().unwrap();
        let bytes = match value["encoding"].as_str() {
            Some("hex") => unhex(data),
            _ => data.as_bytes().to_vec(),
        };
        assert_eq!(bytes, order.value, "{fate}: {shown}");
    }
    service.end_well(Duration::from_secs(30)).unwrap();
}

#[test]
fn poison_that_panics_or_hangs_is_a_failed_record_and_never_a_dead_service() {
    let mix = Mix {
        poison: 3,
        ..Mix::GOOD
    };
    let mut scene = Scene::new("panic", 2, mix)
        .key("failure-mode", "skip-and-log")
        .key("max-attempts", "1")
        .key("transform-timeout", "1s")
        .key("concurrency", "1")
        .with_faults(&Faults {
            poison: Poison::Panics,
            ..Faults::default()
        });
    let mut orders = scene.seed(1_500);
    let mut service = scene.plan.start().unwrap();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    scene.switch(&Faults {
        poison: Poison::Hangs,
        ..Faults::default()
    });
    orders.extend(scene.seed(1_500));
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    let verdict = scene.assert_true();
    assert_eq!(verdict.failed, failing(&orders));
    service.end_well(Duration::from_secs(30)).unwrap();
}

#[test]
fn the_demo_is_true_and_its_sabotage_is_found_by_name() {
    let testkit = testkit::process::sibling("testkit").unwrap();
    let demo = |arguments: &[&str]| {
        let mut command = testkit::process::bound_to_us(Path::new(&testkit));
        let output = command
            .arg("demo")
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (
            output.status.code(),
            text,
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, text, errors) = demo(&["--records", "3000", "--seed", "3"]);
    assert_eq!(code, Some(0), "{text}{errors}");
    assert!(text.contains("produced 3 000 = enriched 2 9"), "{text}");
    assert!(text.contains("; lost 0; duplicated 0; out of order 0"), "{text}");

    for store in Store::SERVERS {
        let (code, text, errors) = demo(&["--records", "1000", "--store", &store.to_string()]);
        assert_eq!(code, Some(0), "{text}{errors}");
        assert!(text.contains(&format!("(db-strategy: {store})")), "{text}");
        assert!(text.contains("; lost 0; duplicated 0; out of order 0"), "{text}");
    }
    let (code, _, errors) = demo(&["--store", "mysql"]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(
        errors.contains("mysql") && errors.contains("postgres"),
        "{errors}"
    );

    let (code, text, errors) = demo(&["--records", "3000", "--sabotage", "drop-one"]);
    assert_eq!(code, Some(1), "{text}{errors}");
    let dropped = text
        .split("the sabotage dropped ")
        .nth(1)
        .unwrap()
        .trim_end()
        .trim_end_matches(')');
    assert!(text.contains(&format!("1 lost: {dropped}")), "{text}");
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
