use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    message::Message as _,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use tracker_api::{AttemptId, Header, Partition};
use uuid::Uuid;

use super::{
    Aborted, Advance, Attempt, ErrorKind, Instance, KafkaSession, Membership, Position, Positions as _,
    Reader, Recycle, Send, Session as _, Settings, Settled, Stats, What,
    native::{
        self,
        mock::{
            ADD_OFFSETS, ADD_PARTITIONS, Answer, END_TXN, INIT_PRODUCER_ID, JOIN_GROUP, Mock, PRODUCE,
            TXN_OFFSET_COMMIT,
        },
    },
};

struct Lane {
    mock: Mock,
    settings: Settings,
    stats: Arc<Stats>,
    session: KafkaSession,
}

async fn lane(change: impl FnOnce(&mut Settings)) -> Lane {
    let mock = Mock::new(&[("in", 1), ("out", 1)]);
    let instance = Instance {
        id: "one".into(),
        configured: false,
    };
    let mut settings = Settings::new(mock.servers(), "group", "in", instance);
    change(&mut settings);
    let stats = Arc::new(Stats::default());
    let mut session = KafkaSession::connect(&settings, 0, None, stats.clone()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let polled = session.poll(10, Duration::from_millis(50)).await.unwrap();
        if let Some(Membership::Assigned(of)) = polled.membership.into_iter().next() {
            assert_eq!(of, [Partition::new("in", 0)]);
            break;
        }
        assert!(Instant::now() < deadline, "no assignment came");
    }
    let position = Position {
        partition: Partition::new("in", 0),
        offset: Some(0),
        note: None,
    };
    session.start(&[position]).await.unwrap();
    Lane {
        mock,
        settings,
        stats,
        session,
    }
}

fn send(value: &'static str) -> Send {
    Send {
        topic: "out".into(),
        partition: None,
        key: None,
        value: Some(value.into()),
        headers: Vec::new(),
        timestamp: None,
    }
}

/// Sends these and moves C(p) to `next`.
fn attempt(sends: Vec<Send>, next: i64) -> Attempt {
    let id = AttemptId(Uuid::now_v7());
    let advance = Advance {
        partition: Partition::new("in", 0),
        start: None,
        start_note: None,
        next,
        note: format!("v1;{id};-;1;1;0;;"),
    };
    Attempt {
        id,
        sends,
        advance: vec![advance],
    }
}

#[tokio::test]
async fn half_of_all_commits_take_less_than_ten_milliseconds() {
    let mut lane = lane(|_| {}).await;
    let mut times = Vec::new();
    for next in 1..=40 {
        let committed = lane.session.transact(&attempt(vec![send("a"); 20], next)).await;
        assert!(committed.is_ok(), "{committed:?}");
        times.push(lane.stats.last_commit());
    }
    times.sort_unstable();
    assert!(times[20] < Duration::from_millis(10), "median {:?}", times[20]);
    assert_eq!(lane.stats.commits(), 40);
    assert_eq!(Recycle::ALL.map(|why| lane.stats.recycles(why)), [0; 5]);
}

#[tokio::test]
async fn what_a_broker_refuses_becomes_the_right_kind_of_abort() {
    use Answer::{
        RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS as LOADING,
        RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED as GROUP,
        RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION as GENERATION,
        RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH as EPOCH, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE as STATE,
        RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE as SIZE, RD_KAFKA_RESP_ERR_POLICY_VIOLATION as POLICY,
        RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED as TOPIC, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID as MEMBER,
    };
    let table = [
        (END_TXN, LOADING, "Ok"),
        (TXN_OFFSET_COMMIT, GENERATION, "NotMember"),
        (TXN_OFFSET_COMMIT, MEMBER, "NotMember"),
        (PRODUCE, SIZE, "Refused 0 Record"),
        (PRODUCE, TOPIC, "Refused 0 Topic"),
        (ADD_OFFSETS, GROUP, "Aborted Refused"),
        (ADD_PARTITIONS, TOPIC, "Refused 0 Topic"),
        (PRODUCE, POLICY, "Destination"),
        (END_TXN, STATE, "Unknown"),
        (TXN_OFFSET_COMMIT, EPOCH, "Fenced"),
        (END_TXN, EPOCH, "Fenced"),
    ];
    for (api, answer, expected) in table {
        let mut lane = lane(|_| {}).await;
        lane.mock.answer(api, &[answer]);
        let one = attempt(vec![send("a")], 1);
        let told = lane.session.transact(&one).await;
        let kind = match &told {
            Ok(_) => "Ok".to_owned(),
            Err(Aborted::Refused(all)) => format!("Refused {} {:?}", all[0].send, all[0].what),
            Err(Aborted::Aborted(why)) if why.kind == ErrorKind::Refused => "Aborted Refused".into(),
            Err(other) => format!("{other:?}").split('(').next().unwrap().to_owned(),
        };
        assert!(kind.starts_with(expected), "{api} {answer:?}: {told:?}");
        if kind == "Fenced" {
            continue;
        }
        if kind == "Unknown" {
            let settled = lane.session.settle(&one).await.unwrap();
            assert!(matches!(settled, Settled::Aborted), "{settled:?}");
        }
        // Whatever it was, the next one commits.
        let next = lane.session.transact(&attempt(vec![send("b")], 1)).await;
        assert!(next.is_ok(), "after {api} {answer:?}: {next:?}");
    }
}

#[tokio::test]
async fn a_commit_whose_request_failed_on_its_way_replaces_the_producer() {
    for api in [END_TXN, TXN_OFFSET_COMMIT, ADD_OFFSETS, ADD_PARTITIONS] {
        let mut lane = lane(|_| {}).await;
        lane.mock.answer(api, &[Answer::RD_KAFKA_RESP_ERR__TRANSPORT]);
        let told = lane.session.transact(&attempt(vec![send("a")], 1)).await;
        assert!(told.is_ok(), "{api}: {told:?}");
        assert_eq!(lane.stats.recycles(Recycle::Unanswered), 1, "{api}");
    }
}

#[tokio::test]
async fn the_rule_can_be_switched_off_by_a_test() {
    let mut lane = lane(|settings| settings.recycle = false).await;
    lane.mock.answer(END_TXN, &[Answer::RD_KAFKA_RESP_ERR__TRANSPORT]);
    let told = lane.session.transact(&attempt(vec![send("a")], 1)).await;
    assert!(told.is_ok(), "{told:?}");
    assert_eq!(Recycle::ALL.map(|why| lane.stats.recycles(why)), [0; 5]);
}

#[tokio::test]
async fn a_fence_after_an_own_unanswered_init_is_no_other_instance() {
    let mut lane = lane(|_| {}).await;
    lane.mock
        .answer(INIT_PRODUCER_ID, &[Answer::RD_KAFKA_RESP_ERR__TRANSPORT]);
    lane.mock
        .answer(PRODUCE, &[Answer::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let refused = lane.session.transact(&attempt(vec![send("a")], 1)).await;
    assert!(matches!(refused, Err(Aborted::Refused(_))), "{refused:?}");
    lane.mock.answer(
        TXN_OFFSET_COMMIT,
        &[Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH],
    );
    let fenced = attempt(vec![send("b")], 1);
    let told = lane.session.transact(&fenced).await;
    assert!(matches!(told, Err(Aborted::Unknown(_))), "{told:?}");
    assert!(matches!(lane.session.settle(&fenced).await, Ok(Settled::Aborted)));
}

#[tokio::test]
async fn a_coordinator_that_takes_long_keeps_the_lane_for_moments_only() {
    let mut lane = lane(|_| {}).await;
    lane.mock
        .answer(PRODUCE, &[Answer::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let loading = [Answer::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; 8];
    lane.mock.answer(INIT_PRODUCER_ID, &loading);
    let mut calls = 0;
    let begun = Instant::now();
    loop {
        let asked = Instant::now();
        let told = lane.session.transact(&attempt(vec![send("a")], 1)).await;
        assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
        calls += 1;
        match told {
            Ok(_) => break,
            Err(Aborted::Refused(_)) => assert_eq!(calls, 1),
            Err(other) => assert!(matches!(other, Aborted::Aborted(_)), "{other:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "never initialised");
    }
    assert!(calls > 2, "one call waited for it all");
    assert_eq!(lane.stats.recycles(Recycle::Abort), 1);
}

#[tokio::test]
async fn the_record_that_cannot_be_sent_is_named_by_its_place() {
    let mut lane = lane(|settings| {
        settings
            .producer
            .insert("message.max.bytes".into(), "2000".into());
    })
    .await;
    let large = Send {
        value: Some(vec![0; 5_000].into()),
        ..send("")
    };
    let refused = attempt(vec![send("a"), large.clone(), send("b"), large, send("c")], 1);
    let told = lane.session.transact(&refused).await;
    assert_eq!(named(&told), [1, 3], "{told:?}");
    let partition = Send {
        partition: Some(7),
        ..send("d")
    };
    let told = lane
        .session
        .transact(&attempt(vec![send("a"), partition], 1))
        .await;
    assert_eq!(named(&told), [1], "{told:?}");
    assert!(matches!(&told, Err(Aborted::Refused(all)) if all[0].what == What::Partition));
}

/// The places of the records that were refused.
fn named<T>(told: &Result<T, Aborted>) -> Vec<usize> {
    match told {
        Err(Aborted::Refused(refused)) => refused.iter().map(|r| r.send).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn an_answer_about_a_request_names_nobody_until_each_travels_alone() {
    let mut lane = lane(|_| {}).await;
    let size = Answer::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    let four = ["a", "bb", "ccc", "dddd"].map(send).to_vec();
    lane.mock.answer(PRODUCE, &[size]);
    let begun = Instant::now();
    let told = lane.session.transact(&attempt(four.clone(), 1)).await;
    assert!(matches!(told, Err(Aborted::Aborted(_))), "{told:?}");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "it waited for what never comes"
    );
    // The third and the fourth of four requests.
    let good = Answer::RD_KAFKA_RESP_ERR_NO_ERROR;
    lane.mock.answer(PRODUCE, &[good, good, size, size]);
    let told = lane.session.transact(&attempt(four.clone(), 1)).await;
    assert_eq!(named(&told), [2, 3], "{told:?}");
    let two = four[..2].to_vec();
    assert!(lane.session.transact(&attempt(two, 1)).await.is_ok());
    // Afterwards many travel together again.
    lane.mock.answer(PRODUCE, &[size]);
    let told = lane.session.transact(&attempt(four, 2)).await;
    assert!(matches!(told, Err(Aborted::Aborted(_))), "{told:?}");
}

#[tokio::test]
async fn a_topic_that_the_transaction_may_not_write_to_is_named() {
    let mut lane = lane(|_| {}).await;
    let denied = Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    lane.mock.answer(ADD_PARTITIONS, &[denied]);
    let begun = Instant::now();
    let told = lane
        .session
        .transact(&attempt(vec![send("a"), send("b")], 1))
        .await;
    assert_eq!(named(&told), [0, 1], "{told:?}");
    let Err(Aborted::Refused(all)) = told else {
        unreachable!()
    };
    assert!(
        all.iter()
            .all(|r| r.what == What::Topic && r.why.message.contains("`out`")),
        "{all:?}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "it waited for what never comes"
    );
}

#[tokio::test]
async fn a_partition_that_is_not_ours_begins_no_transaction() {
    let mut lane = lane(|_| {}).await;
    let mut foreign = attempt(vec![send("a")], 1);
    foreign.advance[0].partition = Partition::new("in", 9);
    let told = lane.session.transact(&foreign).await;
    assert_eq!(
        told.map(|_| ()),
        Err(Aborted::LostPartitions(vec![Partition::new("in", 9)]))
    );
    assert_eq!(lane.stats.aborts(), 0);
}

#[tokio::test]
async fn an_offset_never_goes_back() {
    let mut lane = lane(|_| {}).await;
    let mut back = attempt(vec![], 4);
    back.advance[0].start = Some(5);
    let told = lane.session.transact(&back).await;
    assert!(
        matches!(&told, Err(Aborted::Aborted(why)) if why.kind == ErrorKind::Refused),
        "{told:?}"
    );
}

#[tokio::test]
async fn bytes_are_bytes_through_a_session() {
    let mut lane = lane(|_| {}).await;
    let header = |name: &'static [u8], value: Option<&'static [u8]>| Header {
        name: name.into(),
        value: value.map(Into::into),
    };
    let headers = vec![
        header(b"plain", Some(b"1")),
        header(b"\xff\xfe", Some(b"\x00\xff")),
        header(b"null", None),
        header(b"empty", Some(b"")),
        header(b"plain", Some(b"2")),
    ];
    let sends = vec![
        Send {
            key: Some(b"\xff\x00"[..].into()),
            headers: headers.clone(),
            timestamp: Some(1_234),
            ..send("v")
        },
        Send {
            key: Some(b""[..].into()),
            value: None,
            ..send("")
        },
        Send {
            value: Some(b""[..].into()),
            ..send("")
        },
    ];
    let told = lane.session.transact(&attempt(sends, 1)).await;
    assert!(told.is_ok(), "{told:?}");
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &lane.settings.bootstrap_servers)
        .set("group.id", "check")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    consumer.subscribe(&["out"]).unwrap();
    let mut copier = super::copy::Copier::new("out".into());
    let deadline = Instant::now() + Duration::from_secs(20);
    while copier.len() < 3 && Instant::now() < deadline {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            assert_eq!(message.topic(), "out");
            copier.add(&message);
        }
    }
    let [first, second, third] = &copier.finish()[..] else {
        panic!("three records were sent");
    };
    assert_eq!(first.key.as_deref(), Some(&b"\xff\x00"[..]));
    assert_eq!(first.value.as_deref(), Some(&b"v"[..]));
    assert_eq!(first.timestamp, Some(1_234));
    assert_eq!(first.headers, headers);
    assert_eq!((second.key.as_deref(), &second.value), (Some(&b""[..]), &None));
    assert_eq!((&third.key, third.value.as_deref()), (&None, Some(&b""[..])));
    assert!(third.headers.is_empty());
}

fn feed(lane: &Lane, count: usize) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &lane.settings.bootstrap_servers)
        .create()
        .unwrap();
    for _ in 0..count {
        producer
            .send(BaseRecord::<(), str>::to("in").payload("a"))
            .unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
}

/// The offsets of the next `count` records.
async fn offsets(session: &mut KafkaSession, count: usize) -> Vec<i64> {
    let mut offsets = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while offsets.len() < count && Instant::now() < deadline {
        let max = (count - offsets.len()).min(2);
        let polled = session.poll(max, Duration::from_millis(100)).await.unwrap();
        assert!(polled.records.len() <= max);
        offsets.extend(polled.records.iter().map(|r| r.id.offset));
    }
    offsets
}

fn at(offset: i64) -> Position {
    Position {
        partition: Partition::new("in", 0),
        offset: Some(offset),
        note: None,
    }
}

#[tokio::test]
async fn no_record_is_lost_or_repeated_by_a_transaction_a_pause_or_a_rewind() {
    let mut lane = lane(|_| {}).await;
    feed(&lane, 20);
    let session = &mut lane.session;
    assert_eq!(offsets(session, 4).await, [0, 1, 2, 3]);
    // Each serves callbacks and finds a record that waits.
    for next in 1..=3 {
        assert!(session.transact(&attempt(vec![], next)).await.is_ok());
    }
    assert_eq!(
        session.consumer.stashed(),
        3,
        "nothing waited: the test shows nothing"
    );
    session.hold(&[Partition::new("in", 0)], true).await.unwrap();
    let held = session.poll(10, Duration::from_millis(300)).await.unwrap();
    assert_eq!(held.records, []);
    session.hold(&[Partition::new("in", 0)], false).await.unwrap();
    assert_eq!(offsets(session, 8).await, [4, 5, 6, 7, 8, 9, 10, 11]);
    assert!(session.transact(&attempt(vec![], 4)).await.is_ok());
    session.rewind(&[at(2)]).await.unwrap();
    assert_eq!(offsets(session, 18).await, (2..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_offset_that_is_not_in_the_log_is_told_with_the_logs_bounds_and_the_partition_is_read_again_after_a_rewind()
 {
    let mut lane = lane(|_| {}).await;
    feed(&lane, 3);
    lane.session.rewind(&[at(1_000)]).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut told = false;
    while !told || lane.session.logs().is_empty() {
        let polled = lane.session.poll(10, Duration::from_millis(100)).await.unwrap();
        assert!(polled.records.iter().all(|r| r.id.offset < 3));
        told |= polled.errors.iter().any(|e| e.kind == ErrorKind::Refused);
        assert!(Instant::now() < deadline, "nobody was told");
    }
    let (partition, log) = lane.session.logs().remove(0);
    assert_eq!((partition, log.start, log.end), (Partition::new("in", 0), 0, 3));
    assert!(lane.session.reached().is_empty(), "nothing was handed out since");
    lane.session.rewind(&[at(1)]).await.unwrap();
    let mut offsets = Vec::new();
    while offsets.len() < 2 {
        let polled = lane.session.poll(10, Duration::from_millis(100)).await.unwrap();
        offsets.extend(polled.records.iter().map(|r| r.id.offset));
        assert!(Instant::now() < deadline, "it is not read again: {offsets:?}");
    }
    assert_eq!(offsets, [1, 2]);
    assert_eq!(lane.session.reached(), [(Partition::new("in", 0), 3)]);
}

#[tokio::test]
async fn a_topic_tells_its_partitions_and_its_id() {
    let mut lane = lane(|_| {}).await;
    let first = lane.session.topic("in").await.unwrap();
    assert_eq!(first.partitions, 1);
    assert_eq!(lane.session.topic("in").await.unwrap(), first, "asked twice");
    let other = lane.session.topic("out").await.unwrap();
    if let Some(id) = &first.id {
        assert!(other.is_another(Some(id)), "{first:?} {other:?}");
    }
}

#[tokio::test]
async fn whoever_did_not_poll_for_too_long_has_lost_its_partitions() {
    // Two seconds: a busy machine may take one to set the lane up.
    let mut lane = lane(|settings| {
        settings.session_timeout = Duration::from_secs(2);
        settings.max_poll_interval = Duration::from_secs(2);
    })
    .await;
    let lost = Aborted::LostPartitions(vec![Partition::new("in", 0)]);
    // librdkafka looks by a timer of its own, which a busy machine may delay past one sleep; each look of ours starts its clock anew.
    let mut told = Ok(());
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(4_500));
        told = lane
            .session
            .transact(&attempt(vec![send("a")], 1))
            .await
            .map(drop);
        if told.is_err() {
            break;
        }
    }
    assert_eq!(told, Err(lost));
    let polled = lane.session.poll(1, Duration::ZERO).await.unwrap();
    // On a busy machine the group may have answered already, and the next assignment follows.
    assert_eq!(
        polled.membership.first(),
        Some(&Membership::Lost(vec![Partition::new("in", 0)]))
    );
}

/// Threads and open files of this process.
fn held() -> (usize, usize) {
    let count = |dir: &str| fs::read_dir(dir).unwrap().count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

/// Runs alone in a process of its own: other tests' threads would be counted.
#[test]
fn fifty_replacements_leave_no_thread_and_no_file_behind() {
    const ALONE: &str = "ORCHESTRATOR_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "kafka::tests::fifty_replacements_leave_no_thread_and_no_file_behind",
            ])
            .env(ALONE, "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let mock = Mock::new(&[("in", 1)]);
    let instance = Instance {
        id: "one".into(),
        configured: false,
    };
    let settings = Settings::new(mock.servers(), "group", "in", instance);
    let client = settings
        .client(super::ClientKind::Producer { lane: 0 }, None)
        .unwrap();
    let replace = || {
        let producer = native::Producer::new(&client).unwrap();
        producer.init(Duration::from_secs(10)).unwrap();
        producer
    };
    drop(replace());
    std::thread::sleep(Duration::from_millis(200));
    let before = held();
    for _ in 0..50 {
        drop(replace());
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while held() != before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(held(), before);
}

#[tokio::test]
async fn a_reader_says_what_is_missing() {
    let mock = Mock::new(&[("in", 2)]);
    let instance = Instance {
        id: "one".into(),
        configured: false,
    };
    let settings = Settings::new(mock.servers(), "group", "in", instance);
    let mut reader = Reader::connect(&settings, None).unwrap();
    let both = [Partition::new("in", 0), Partition::new("in", 1)];
    assert_eq!(reader.partitions("in").await.unwrap(), both);
    let positions = reader.committed(&both).await.unwrap();
    assert!(
        positions.iter().all(|p| p.offset.is_none() && p.note.is_none()),
        "{positions:?}"
    );
    assert_eq!(reader.bounds(&both).await.unwrap(), [0..0, 0..0]);
}

#[tokio::test]
async fn another_members_assignor_is_named_until_the_group_takes_us() {
    use Answer::RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL as OTHER;
    let mock = Mock::new(&[("in", 1)]);
    mock.answer(JOIN_GROUP, &[OTHER; 2]);
    let instance = Instance {
        id: "one".into(),
        configured: false,
    };
    let settings = Settings::new(mock.servers(), "group", "in", instance);
    let stats = Arc::new(Stats::default());
    let mut session = KafkaSession::connect(&settings, 0, None, stats.clone()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut named = false;
    loop {
        assert!(
            Instant::now() < deadline,
            "named: {named}, and no assignment came"
        );
        let polled = session.poll(10, Duration::from_millis(50)).await.unwrap();
        if let Some(why) = stats.refusal() {
            named = why.contains("another member of group `group`")
                && why.contains("partition.assignment.strategy")
                && why.contains("cooperative-sticky");
            assert!(named, "{why}");
        }
        if !polled.membership.is_empty() {
            break;
        }
    }
    assert!(named, "nothing was said");
    assert_eq!(stats.refusal(), None, "the group took us");
}

#[tokio::test]
async fn a_poll_stops_at_batch_bytes() {
    let mut lane = lane(|settings| settings.max_poll_bytes = 3_000).await;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &lane.settings.bootstrap_servers)
        .create()
        .unwrap();
    let kilobyte = [b'x'; 1_000];
    for _ in 0..20 {
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to("in").payload(&kilobyte);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(20)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut left = 20;
    while left > 0 {
        assert!(Instant::now() < deadline, "{left} records never came");
        let polled = lane.session.poll(100, Duration::from_millis(200)).await.unwrap();
        assert!(polled.records.len() <= 3, "{} KB at once", polled.records.len());
        left -= polled.records.len();
    }
}

#[tokio::test]
async fn the_brokers_are_asked_about_the_logs_without_a_wait_and_lag_is_none_before_they_answered() {
    let mut lane = lane(|_| {}).await;
    let partition = Partition::new("in", 0);
    assert_eq!(lane.session.lag(), [(partition.clone(), None)]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while lane.session.logs().is_empty() {
        lane.session.poll(10, Duration::from_millis(20)).await.unwrap();
        assert!(Instant::now() < deadline, "nobody answered");
    }
    let [(of, log)] = &lane.session.logs()[..] else {
        panic!("one partition is read");
    };
    assert_eq!((of, log.start, log.stable, log.end), (&partition, 0, 0, 0));
    assert_eq!(lane.session.lag(), [(partition, Some(0))]);
}
