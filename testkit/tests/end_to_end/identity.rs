use std::time::Duration;

use rdkafka::{
    ClientConfig,
    error::RDKafkaErrorCode as Code,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use testkit::orders::Mix;

use crate::scene::{LONG, Scene, broker};

const PATIENCE: Duration = Duration::from_secs(20);

/// A producer under the id that lane 0 had before lengths were part of it, with an open transaction in the target.
fn predecessor(scene: &Scene) -> BaseProducer {
    let (group, instance) = (&scene.plan.group, &scene.plan.keys["instance"]);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker().bootstrap())
        .set("transactional.id", format!("{group}-{instance}-0"))
        .set("transaction.timeout.ms", "600000")
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&scene.plan.target).payload(b"left open");
    producer.send(record).map_err(|(e, _)| e).unwrap();
    producer.flush(PATIENCE).unwrap();
    producer
}

#[test]
fn an_upgrade_ends_once_what_its_predecessor_left_open_under_the_former_id() {
    let mut scene = Scene::new("former", 1, Mix::DEMO)
        .key("failure-mode", "skip-and-log")
        .key("concurrency", "1");
    scene.seed(50);
    let before = predecessor(&scene);
    let mut service = scene.plan.start().unwrap();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    let error = before.commit_transaction(PATIENCE).unwrap_err();
    assert_eq!(error.rdkafka_error_code(), Some(Code::Fenced), "{error}");
    // A transaction that is still open would keep every reader waiting for ten minutes.
    assert_eq!(
        scene
            .read(&scene.plan.target)
            .records
            .iter()
            .filter(|r| r.value.as_deref() == Some(b"left open"))
            .count(),
        0
    );
    service.end_well(PATIENCE).unwrap();

    let other = predecessor(&scene);
    let mut service = scene.plan.start().unwrap();
    service.wait_ready(LONG).unwrap();
    scene.seed(50);
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    other
        .abort_transaction(PATIENCE)
        .expect("the second start leaves the former id alone");
    service.end_well(PATIENCE).unwrap();
}
