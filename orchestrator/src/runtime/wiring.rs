//! What is configured reaches the parts that it is for. That each part does what it is told, its own tests show.

use super::{
    lanes::{Lanes, Shared, lane_settings, pool_settings, recorder_settings, refused},
    *,
};
use crate::{
    config::Sources,
    kafka::ClientKind,
    transform::{Output, SourceRecord, TransformError},
};

struct Drop;

impl Transform for Drop {
    async fn transform(&self, _: &SourceRecord) -> Result<Output, TransformError> {
        Ok(Output::Filtered)
    }
}

/// Keys whose value goes into a part's settings, each with a value that is not its default.
const WIRED: &[(&str, &str)] = &[
    ("backoff", "1s"),
    ("batch-bytes", "1MiB"),
    ("batch-max-delay", "1s"),
    ("batch-min-delay", "9ms"),
    ("batch-records", "7"),
    ("bootstrap-servers", "other:1"),
    ("db-circuit-failure-threshold", "7"),
    ("db-circuit-open-ms", "777"),
    ("db-timeout-ms", "77"),
    ("db-tries", "2"),
    ("dead-letter-headers", "spring"),
    ("dead-letter-topic", "dead"),
    ("failure-mode", "skip-and-log"),
    ("group-id", "other"),
    ("initial-offset", "latest"),
    ("instance", "eu-0"),
    ("kafka.consumer.fetch.min.bytes", "7"),
    ("kafka.producer.linger.ms", "7"),
    ("kafka.properties.client.id", "other"),
    ("log-failure-messages", "false"),
    ("max-attempts", "7"),
    ("max-backoff", "1m"),
    ("max-poll-interval", "7m"),
    ("on-store-failure", "block"),
    ("ordering", "partition"),
    ("session-timeout", "7s"),
    ("skip", "in:0:7"),
    ("source-topic", "other"),
    ("store-payload", "text"),
    ("store-payload-on-failure-only", "false"),
    ("target-topic", "other"),
    ("tracking", "lightweight"),
    ("transaction-timeout", "7s"),
    ("transactional-id-prefix", "p-"),
    ("transform-concurrency", "7"),
    ("transform-timeout", "7s"),
];

fn load(flags: &[(&str, &str)]) -> Settings {
    let least = [
        ("bootstrap-servers", "localhost:9092"),
        ("group-id", "orders"),
        ("source-topic", "in"),
        ("target-topic", "out"),
        ("db-strategy", "memory"),
    ];
    let given = |name: &str| flags.iter().any(|(key, _)| *key == name);
    let flag = |(key, value): (&str, &str)| (format!("--{key}"), key.to_owned(), value.to_owned());
    let least = least.into_iter().filter(|(key, _)| !given(key));
    let sources = Sources {
        flags: least.chain(flags.iter().copied()).map(flag).collect(),
        ..Sources::default()
    };
    Settings::load(&sources, &Registry::default()).unwrap().settings
}

/// All that lanes, their pools, recorders, clients and the guard of the store are made from.
fn parts(settings: &Settings) -> String {
    let instance = Instance {
        id: settings.instance.clone().unwrap_or_else(|| "made".to_owned()),
        configured: settings.instance.is_some(),
    };
    let clients = settings.clients(instance);
    let kinds = [
        ClientKind::Consumer { lane: 0 },
        ClientKind::Producer { lane: 0 },
        ClientKind::Reader,
    ];
    let each = kinds.map(|kind| {
        let client = clients.client(kind, None).unwrap();
        client
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
    });
    format!(
        "{:?}\n{:?}\n{:?}\n{:?}\n{} {} {each:?}",
        lane_settings(settings, 1, Vec::new()),
        pool_settings(settings),
        recorder_settings(settings, 0),
        guard(settings),
        clients.source_topic,
        clients.max_poll_bytes,
    )
}

#[test]
fn every_key_reaches_the_part_that_it_is_for() {
    let default = parts(&load(&[]));
    for (key, value) in WIRED {
        let changed = parts(&load(&[(key, value)]));
        assert_ne!(changed, default, "`{key}` is read by nobody");
    }
    // This one is refused without its tracking.
    let outbox = |skip| parts(&load(&[("tracking", "outbox"), ("outbox.skip-succeeded", skip)]));
    assert_ne!(outbox("true"), outbox("false"));
}

/// What lanes of these settings share, with nobody behind it, and where their ends are told.
fn shared(settings: Settings, stop: CancellationToken) -> (Shared<Drop>, mpsc::UnboundedReceiver<Ended>) {
    let (sender, ended) = mpsc::unbounded_channel();
    let instance = Instance {
        id: "a".into(),
        configured: false,
    };
    let runtime = tokio::runtime::Handle::current();
    let shared = Shared {
        transform: Arc::new(Drop),
        kafka: Arc::new(settings.clients(instance)),
        customizer: None,
        begun: Begun::forgetful(),
        journal: Arc::default(),
        abandoned: Arc::default(),
        mark: 0,
        store: None,
        fallback: None,
        stores: runtime.clone(),
        users: runtime,
        clock: Arc::new(SystemClock),
        health: Health::new(settings.concurrency, Duration::from_secs(1)),
        stop,
        ended: sender,
        deadline: settings.shutdown_timeout,
        settings,
    };
    (shared, ended)
}

#[tokio::test]
async fn as_many_lanes_run_as_concurrency_says_and_no_longer_than_they_may() {
    let settings = load(&[("concurrency", "3"), ("shutdown-timeout", "7s")]);
    let stop = CancellationToken::new();
    stop.cancel();
    let (shared, mut ended) = shared(settings, stop);
    let lanes = Lanes::start(shared).unwrap();
    assert_eq!(lanes.deadline(), Duration::from_secs(7));
    let mut count = 0;
    while ended.recv().await.is_some() {
        count += 1;
    }
    assert_eq!(count, 3);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_kafka_refuses_later_says_so_and_tries_again_within_half_a_minute() {
    let (shared, _ended) = shared(load(&[("concurrency", "1")]), CancellationToken::new());
    let error = kafka::Error {
        kind: kafka::ErrorKind::Refused,
        message: "Group authorization failed".into(),
    };
    let mut refusals = 0;
    for wait in [1, 2, 4, 8, 16, 30, 30] {
        let begun = tokio::time::Instant::now();
        refused(&shared, 0, &error, &mut refusals).await;
        assert_eq!(begun.elapsed().as_secs(), wait);
        let told = shared.health.ready().reasons.join("; ");
        assert!(
            told.contains("Kafka refuses it: Group authorization failed"),
            "{told}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_takes_longer_than_shutdown_timeout_is_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let (_never_ends, ended) = mpsc::unbounded_channel();
    let deadline = Duration::from_secs(7);
    let running = Running {
        stop: CancellationToken::new(),
        deadline,
        health: Health::new(1, Duration::from_secs(60)),
        management: SocketAddr::from(([127, 0, 0, 1], 1)),
        lanes: Lanes::none(deadline),
        journal: Arc::default(),
        ended,
        servers: Vec::new(),
        serving: CancellationToken::new().drop_guard(),
        users: None,
        _data_dir: DataDir::hold(folder.path(), None).unwrap(),
    };
    let begun = tokio::time::Instant::now();
    let outcome = running.stop().await;
    assert!(
        matches!(outcome, Err(Error::Deadline(told)) if told == deadline),
        "{outcome:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(9));
}
