//! A broker that freezes (SIGSTOP) and thaws: it takes connections meanwhile and answers nothing.

use std::time::Duration;

use testkit::orders::Mix;

use crate::scene::{Scene, broker};

/// With the session timeout of a scene (6 s) a lane that is lost begins anew 66 s after it was last answered.
const BACK: Duration = Duration::from_secs(150);

#[test]
fn a_broker_that_freezes_for_longer_than_the_session_leaves_no_lane_out_and_the_service_says_so_meanwhile() {
    let rounds = match std::env::var("TEST_ALL").as_deref() {
        Ok("1") => 8,
        _ => 1,
    };
    let mut scene = Scene::new("freeze", 4, Mix::DEMO)
        .key("failure-mode", "skip-and-log")
        .key("concurrency", "4")
        .key("batch-records", "50");
    scene.seed(2_000);
    let mut service = scene.plan.start().unwrap();
    service.wait_ready(BACK).unwrap();
    for round in 0..rounds {
        scene.seed(3_000);
        // 40 to 56 s: librdkafka loses its brokers at some lengths and not at others.
        let frozen = Duration::from_secs(40 + 5 * round % 17);
        std::thread::scope(|scope| {
            let freeze = scope.spawn(|| broker().stop_cont(frozen).unwrap());
            // A transaction that is under way takes up to 17 s to be given up, and nobody looks meanwhile.
            std::thread::sleep(Duration::from_secs(36));
            let (status, said) = service.get("/readyz").unwrap();
            assert_eq!(status, 503, "round {round}: {said}");
            assert!(said.contains("kafka since"), "round {round}: {said}");
            let (status, said) = service.get("/livez").unwrap();
            assert_eq!(status, 200, "round {round}: {said}");
            freeze.join().unwrap();
        });
        scene.seed(1_000);
        service.wait_ready(BACK).unwrap();
        service.wait_drained(broker().bootstrap(), BACK).unwrap();
        service
            .wait_until("as many partitions as there are", BACK, |s| {
                Ok(s.metric("orch_assigned_partitions")? >= 4.0)
            })
            .unwrap();
        println!("round {round}: all lanes are back after {frozen:?}");
    }
    scene.assert_true();
    service.end_well(Duration::from_secs(40)).unwrap();
}
