//! Kafka forgets what the group has committed, or the topic is made again.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};
use rustix::process::Signal;
use testkit::{
    admin,
    orders::{ID, Mix},
    reader,
};

use crate::scene::{LONG, Scene, broker};

fn scene(name: &str) -> Scene {
    Scene::new(name, 2, Mix::GOOD).key("concurrency", "1")
}

/// How often each order stands in the target, by its id.
fn enriched(scene: &Scene) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for topic in [&scene.plan.target, &scene.plan.priority] {
        for record in scene.read(topic).records {
            let id = record.header(ID).unwrap().to_owned();
            *found.entry(id).or_default() += 1;
        }
    }
    found
}

#[test]
fn a_deleted_group_waits_for_the_offset_that_its_store_knows_and_goes_on_there() {
    let mut scene = scene("forgotten");
    scene.seed(500);
    let mut service = scene.plan.start().unwrap();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    service.end_well(Duration::from_secs(30)).unwrap();
    let stood = reader::committed(broker().bootstrap(), &scene.plan.group, &scene.plan.source, LONG).unwrap();
    // A static member stays for its session's time.
    admin::delete_group(broker().bootstrap(), &scene.plan.group, LONG).unwrap();
    scene.seed(500);

    let mut service = scene.plan.start().unwrap();
    let said = |number: i32| {
        format!(
            "--topic {}:{number} --reset-offsets --to-offset {}",
            scene.plan.source, stood[&number]
        )
    };
    service
        .wait_until("waiting for a word", LONG, |service| {
            // not listening yet
            let Ok((status, _)) = service.get("/readyz") else {
                return Ok(false);
            };
            let text = scene.standing(&scene.plan);
            Ok(status == 503 && text.contains(&said(0)) && text.contains(&said(1)))
        })
        .unwrap();
    assert!(service.metric("orch_records_ok_total").unwrap() < 0.5);
    service.end_well(Duration::from_secs(30)).unwrap();

    admin::wait_until_empty(broker().bootstrap(), &scene.plan.group, LONG).unwrap();
    let tool: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker().bootstrap())
        .set("group.id", &scene.plan.group)
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for (number, offset) in &stood {
        list.add_partition_offset(&scene.plan.source, *number, Offset::Offset(*offset))
            .unwrap();
    }
    tool.commit(&list, CommitMode::Sync).unwrap();
    let mut service = scene.plan.start().unwrap();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    assert_eq!(scene.assert_true().produced, 1_000);
    service.end_well(Duration::from_secs(30)).unwrap();
}

#[test]
fn a_topic_made_again_under_a_stopped_process_is_read_from_its_start() {
    let mut scene = scene("again");
    scene.seed(300);
    let mut service = scene.plan.start().unwrap();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    // What is read and not committed when it is stopped is of the topic that goes.
    scene.seed(2_000);
    service.signal(Signal::STOP).unwrap();
    let source = scene.plan.source.clone();
    admin::delete_topics(broker().bootstrap(), &[&source]);
    std::thread::sleep(Duration::from_secs(2));
    broker().create_topic(&source, 2, &[]).unwrap();
    let orders = scene.seed(400);
    service.signal(Signal::CONT).unwrap();
    service
        .wait_until("through the new topic", LONG, |_| {
            let found = enriched(&scene);
            Ok(orders.iter().all(|order| found.contains_key(&order.id)))
        })
        .unwrap();
    // Also while it runs, and awake.
    admin::delete_topics(broker().bootstrap(), &[&source]);
    std::thread::sleep(Duration::from_secs(2));
    broker().create_topic(&source, 2, &[]).unwrap();
    let more = scene.seed(400);
    service
        .wait_until("through the third topic", LONG, |_| {
            let found = enriched(&scene);
            Ok(more.iter().all(|order| found.contains_key(&order.id)))
        })
        .unwrap();
    let twice: Vec<_> = enriched(&scene)
        .into_iter()
        .filter(|(_, times)| *times > 1)
        .collect();
    assert_eq!(twice, [], "enriched twice");
    service.end_well(Duration::from_secs(30)).unwrap();
}
