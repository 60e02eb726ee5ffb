//! Logs that are not all records, offsets that are not in them, and transactions that nobody ends.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use serde_json::Value;
use testkit::{admin, orders::Mix, reader::Progress, service::Service};

use crate::scene::{LONG, Scene, broker};

const MIX: Mix = Mix::DEMO;
const PARTITIONS: i32 = 3;

fn scene(name: &str) -> Scene {
    Scene::new(name, PARTITIONS, MIX)
        .key("failure-mode", "skip-and-log")
        .key("concurrency", "1")
        .key("transaction-timeout", "10s")
}

/// Whoever writes to the source in transactions.
fn transactional(id: &str) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker().bootstrap())
        .set("transactional.id", id)
        .set("transaction.timeout.ms", "600000")
        .set("log_level", "0")
        .create()
        .unwrap();
    producer.init_transactions(LONG).unwrap();
    producer
}

/// Records that are no orders, as many in each partition, in a transaction that is aborted.
fn abort_some(producer: &BaseProducer, topic: &str, count: usize) {
    producer.begin_transaction().unwrap();
    for partition in 0..PARTITIONS {
        for _ in 0..count {
            let record: BaseRecord<'_, str, str> =
                BaseRecord::to(topic).partition(partition).payload("aborted");
            producer.send(record).unwrap();
        }
    }
    producer.flush(LONG).unwrap();
    producer.abort_transaction(LONG).unwrap();
}

/// What the service says of a partition in `tracker progress`; nothing before its socket answers.
fn said(scene: &Scene, partition: i32) -> Value {
    let output = scene
        .plan
        .operate(&["tracker", "progress", "-o", "json"])
        .unwrap();
    let all: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let of = all
        .as_array()
        .and_then(|all| all.iter().find(|p| p["partition"] == partition));
    of.cloned().unwrap_or_default()
}

/// Waits until the reasons of a partition satisfy `is`.
#[track_caller]
fn wait_said(scene: &Scene, service: &mut Service, partition: i32, what: &str, is: impl Fn(&str) -> bool) {
    service
        .wait_until(what, LONG, |_| {
            Ok(is(&said(scene, partition)["stalls"].to_string()))
        })
        .unwrap();
}

/// Records of these partitions that are not behind the group's offset, in Kafka's own view.
fn left(scene: &Scene, of: impl Iterator<Item = i32>) -> i64 {
    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker().bootstrap())
        .set("group.id", &scene.plan.group)
        .set("isolation.level", "read_committed")
        .create()
        .unwrap();
    of.map(|partition| {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&scene.plan.source, partition);
        let committed = reader.committed_offsets(asked, LONG).unwrap();
        let (_, end) = reader
            .fetch_watermarks(&scene.plan.source, partition, LONG)
            .unwrap();
        match committed.elements()[0].offset() {
            Offset::Offset(offset) => end - offset,
            _ => end,
        }
    })
    .sum()
}

#[test]
fn on_a_transactional_source_with_aborts_the_lag_reaches_nought_in_kafkas_view_and_in_ours() {
    let mut scene = scene("markers");
    let producer = transactional("markers-writer");
    scene.seed(300);
    abort_some(&producer, &scene.plan.source, 1_000);
    let mut service = scene.plan.start().unwrap();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    scene.seed(30);
    abort_some(&producer, &scene.plan.source, 10);
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    service
        .wait_until("known to be read up", LONG, |s| {
            let (_, metrics) = s.get("/metrics")?;
            let lag: Vec<&str> = metrics
                .lines()
                .filter(|l| l.starts_with("orch_lag_records{"))
                .collect();
            Ok(lag.len() == PARTITIONS as usize && lag.iter().all(|l| l.ends_with(" 0")))
        })
        .unwrap();
    assert_eq!(scene.assert_true().produced, 330);
    service.end_well(Duration::from_secs(30)).unwrap();
}

#[test]
fn records_deleted_unread_stop_their_partition_alone_until_an_operator_says_how_to_go_on() {
    let mut scene = scene("deleted");
    scene.seed(300);
    let mut service = scene.plan.start().unwrap();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    service.end_well(Duration::from_secs(30)).unwrap();
    scene.seed(300);
    let lost = left(&scene, 0..1);
    admin::delete_records(broker().bootstrap(), &scene.plan.source, 0).unwrap();

    let mut service = scene.plan.start().unwrap();
    wait_said(&scene, &mut service, 0, "said to be unreadable", |said| {
        said.contains("unreadable") && said.contains("--reset-offsets") && said.contains("skip-to-log-start")
    });
    service
        .wait_until("done with the others", LONG, |_| {
            Ok(left(&scene, 1..PARTITIONS) == 0)
        })
        .unwrap();
    let (status, body) = service.get("/readyz").unwrap();
    assert!(status == 503 && body.contains("unreadable"), "{status} {body}");
    assert!(
        service
            .metric("orch_stalled_partitions{lane=\"0\",why=\"unreadable\"}")
            .unwrap()
            == 1.0
    );
    assert_eq!(said(&scene, 0)["lag"], lost, "counted from the broker's bounds");
    service.end_well(Duration::from_secs(30)).unwrap();

    let mut scene = scene.key("on-unreadable", "skip-to-log-start");
    let mut service = scene.plan.start().unwrap();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    assert_eq!(service.metric("orch_offsets_lost_total").unwrap(), lost as f64);
    // The client had given the partition up: it is read again.
    scene.seed(300);
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    service.wait_ready(LONG).unwrap();
    let gaps = said(&scene, 0)["gaps"].clone();
    assert_eq!(
        gaps[0][1].as_i64().unwrap() - gaps[0][0].as_i64().unwrap(),
        lost,
        "{gaps}"
    );
    service.end_well(Duration::from_secs(30)).unwrap();
}

#[test]
fn a_hanging_transaction_on_one_offset_stops_that_partition_alone_and_is_named() {
    let mut scene = scene("hanging");
    scene.seed(300);
    let mut service = scene.plan.start().unwrap();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    service.end_well(Duration::from_secs(30)).unwrap();

    let member: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker().bootstrap())
        .set("group.id", &scene.plan.group)
        .create()
        .unwrap();
    let stranger = transactional("hanging-stranger");
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(&scene.plan.source, 0, Offset::Offset(1))
        .unwrap();
    stranger.begin_transaction().unwrap();
    stranger
        .send_offsets_to_transaction(&offsets, &member.group_metadata().unwrap(), LONG)
        .unwrap();
    scene.seed(300);

    let mut service = scene.plan.start().unwrap();
    service
        .wait_until("done with the others", LONG, |_| {
            Ok(left(&scene, 1..PARTITIONS) == 0)
        })
        .unwrap();
    wait_said(&scene, &mut service, 0, "said to be pending", |said| {
        said.contains("pending")
    });
    wait_said(&scene, &mut service, 0, "said to hang", |said| {
        said.contains("a hanging transaction")
            && said.contains("abort --topic __consumer_offsets --partition")
            && !said.contains("--partition N")
    });
    let (status, body) = service.get("/readyz").unwrap();
    assert!(status == 503 && body.contains("pending"), "{status} {body}");
    stranger.abort_transaction(LONG).unwrap();
    service.wait_drained(broker().bootstrap(), LONG).unwrap();
    service.wait_ready(LONG).unwrap();
    assert_eq!(scene.assert_true().produced, 600);
    let mut progress = Progress::of(broker().bootstrap(), &scene.plan.group, &scene.plan.source).unwrap();
    assert_eq!(progress.left().unwrap(), 0);
    service.end_well(Duration::from_secs(30)).unwrap();
}
