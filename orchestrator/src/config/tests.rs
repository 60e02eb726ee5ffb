use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_api::{Error, ErrorKind, Namespace, Secret};

use super::{
    FailureMode, InitialOffset, Loaded, Origin, Problems, Properties, Settings, Sources, Tracking,
    keys::{BARE, known, paths, variable},
};
use crate::{
    kafka::{ClientKind, Instance},
    registry::{Registry, Tracker},
};

mod canary;
mod effects;
mod spring;

/// The least that a file must say.
const LEAST: &str = "\
orchestrator:
  bootstrap-servers: localhost:9092
  group-id: orders
  source-topic: orders
  target-topic: enriched
  db-strategy: rocksdb
";

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Config {
    path: PathBuf,
    #[serde(default)]
    sync_writes: bool,
    #[serde(default)]
    cache_mb: u16,
    #[serde(default)]
    pass: Secret,
    #[serde(default)]
    url: Option<String>,
}

async fn open(_: Config, _: &Namespace) -> tracker_api::Result<Tracker> {
    Err(Error::new(ErrorKind::Unavailable, "not in this test"))
}

fn registry() -> Registry {
    Registry::default().with("rocksdb", open).with("other", open)
}

fn load_with(text: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orchestrator.yml");
    std::fs::write(&file, text).unwrap();
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let sources = Sources {
        file: Some(file),
        environment: variables.iter().map(owned).collect(),
        flags: flags
            .iter()
            .map(|(key, value)| (format!("--{key}"), (*key).to_owned(), (*value).to_owned()))
            .collect(),
    };
    Settings::load(&sources, &registry())
}

fn good(text: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Loaded {
    load_with(text, variables, flags).unwrap_or_else(|problems| panic!("{problems}"))
}

fn bad(text: &str, variables: &[(&str, &str)]) -> String {
    match load_with(text, variables, &[]) {
        Ok(_) => panic!("this loads: {text}"),
        Err(problems) => problems.to_string(),
    }
}

fn origin<'a>(loaded: &'a Loaded, key: &str) -> &'a Origin {
    let key = format!("orchestrator.{key}");
    &loaded
        .values
        .iter()
        .find(|shown| shown.key == key)
        .unwrap()
        .origin
}

#[test]
fn the_least_file_leaves_the_rest_at_its_defaults() {
    let settings = good(LEAST, &[], &[]).settings;
    let wanted = Settings::new("localhost:9092", "orders", "orders", "enriched", "rocksdb");
    assert_eq!(format!("{settings:#?}"), format!("{wanted:#?}"));
}

#[test]
fn each_layer_lies_over_the_one_before() {
    let file = format!("{LEAST}  max-attempts: 4\n  transform-timeout: 20s\n  ordering: none\n");
    let variables = [
        ("ORCHESTRATOR_MAX_ATTEMPTS", "5"),
        ("ORCHESTRATOR_TRANSFORMTIMEOUT", "21s"),
        ("NON_ATOMIC_MAX_ATTEMPTS", "9"),
    ];
    let loaded = good(&file, &variables, &[("max-attempts", "6")]);
    assert_eq!(loaded.settings.retry.max_attempts, 6);
    assert_eq!(loaded.settings.transforms.timeout, Duration::from_secs(21));
    assert_eq!(
        *origin(&loaded, "max-attempts"),
        Origin::Flag("--max-attempts".into())
    );
    assert_eq!(
        *origin(&loaded, "transform-timeout"),
        Origin::Variable("ORCHESTRATOR_TRANSFORMTIMEOUT".into())
    );
    assert_eq!(*origin(&loaded, "backoff"), Origin::Default);
    assert!(matches!(
        origin(&loaded, "ordering"),
        Origin::File {
            line: 9,
            column: 13,
            ..
        }
    ));
    let loaded = good(&file, &variables[..2], &[]);
    assert_eq!(loaded.settings.retry.max_attempts, 5);
    let loaded = good(&file, &variables[2..], &[]);
    assert_eq!(loaded.settings.retry.max_attempts, 9);
    assert_eq!(
        *origin(&loaded, "max-attempts"),
        Origin::Variable("NON_ATOMIC_MAX_ATTEMPTS".into())
    );
}

#[test]
fn every_key_has_a_variable_in_two_spellings() {
    let registry = registry();
    for (path, key) in paths(&known(&registry)) {
        if matches!(key, super::keys::Key::Properties) {
            continue;
        }
        let canonical = variable(&path);
        let relaxed = format!(
            "ORCHESTRATOR_{}",
            path.iter()
                .map(|p| p.replace('-', ""))
                .collect::<Vec<_>>()
                .join("_")
                .to_uppercase()
        );
        for name in [canonical, relaxed] {
            // A value that no key takes: so the answer shows that the variable was read, and as which key.
            let environment = BTreeMap::from([(name.clone(), "\u{1}".to_owned())]);
            let sources = Sources {
                environment,
                ..Sources::default()
            };
            let told = Settings::load(&sources, &registry).unwrap_err().faults;
            let free = ["group-id", "namespace", "data-dir", "path", "pass", "url"];
            let takes_text = path.last().is_some_and(|last| free.contains(&last.as_str()));
            let named = told
                .iter()
                .any(|p| p.origin == Some(Origin::Variable(name.clone())));
            assert!(named || takes_text, "{name}: {told:?}");
        }
    }
}

#[test]
fn the_originals_variables_are_understood() {
    let values = [
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:29092"),
        ("GROUP_ID", "g"),
        ("SOURCE_TOPIC", "in"),
        ("TARGET_TOPIC", "out"),
        ("CONCURRENCY", "2"),
        ("MAX_POLL_RECORDS", "77"),
        ("FETCH_MIN_BYTES", "5"),
        ("FETCH_MAX_WAIT_MS", "6"),
        ("MAX_PARTITION_FETCH_BYTES", "7000"),
        ("FAILURE_MODE", "SKIP_AND_LOG"),
        ("NON_ATOMIC_MAX_ATTEMPTS", "8"),
        ("DB_TIMEOUT_MS", "150"),
        ("DB_CIRCUIT_FAILURE_THRESHOLD", "9"),
        ("DB_CIRCUIT_OPEN_MS", "10001"),
        ("STORE_PAYLOAD", "BYTES"),
        ("STORE_PAYLOAD_ON_FAILURE_ONLY", "false"),
        ("COMMIT_BATCH_SIZE", "1"),
        ("COMMIT_FLUSH_INTERVAL_MS", "1"),
        ("ERROR_TABLE", "event_failures"),
        ("DB_STRATEGY", "OUTBOX"),
        ("JDBC_URL", "jdbc:postgresql://u:hunter2@h/db"),
    ];
    assert!(
        BARE.iter()
            .all(|(name, _)| values.iter().any(|(given, _)| given == name))
    );
    let loaded = good("orchestrator: {db-strategy: rocksdb}\n", &values, &[]);
    let s = &loaded.settings;
    assert_eq!(
        (s.bootstrap_servers.as_str(), s.group_id.as_str()),
        ("kafka:29092", "g")
    );
    assert_eq!((&*s.source_topic, &*s.target_topic), ("in", "out"));
    assert_eq!((s.concurrency, s.batch.records, s.retry.max_attempts), (2, 77, 8));
    assert_eq!(s.kafka.consumer.get("fetch.min.bytes"), Some("5"));
    assert_eq!(s.kafka.consumer.get("fetch.wait.max.ms"), Some("6"));
    assert_eq!(s.kafka.consumer.get("fetch.message.max.bytes"), Some("7000"));
    assert_eq!(s.failure_mode, FailureMode::SkipAndLog);
    assert_eq!(s.store.timeout, Duration::from_millis(150));
    assert_eq!(
        (s.store.circuit_failure_threshold, s.store.circuit_open),
        (9, Duration::from_millis(10_001))
    );
    assert!(!s.payload.on_failure_only);
    assert_eq!(
        (s.tracking, s.store.backend.name.as_str()),
        (Tracking::Outbox, "rocksdb")
    );
    let warnings = loaded.warnings.join("\n");
    for word in [
        "`tracking: outbox`",
        "commit-batch-size",
        "commit-flush-interval-ms",
        "error-table",
        "postgres store",
    ] {
        assert!(warnings.contains(word), "{word} in {warnings}");
    }
    assert!(!warnings.contains("hunter2"));
}

#[derive(Debug, Default, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Database {
    url: tracker_api::SecretUrl,
    username: Option<String>,
    password: Secret,
}

async fn nowhere(_: Database, _: &Namespace) -> tracker_api::Result<Tracker> {
    Ok(Arc::new(tracker_api::MemoryTracker::default()))
}

#[test]
fn the_originals_database_is_the_postgres_store() {
    let registry = Registry::default().with("postgres", nowhere);
    let load = |file: &str, variables: &[(&str, &str)]| {
        let least = [
            ("KAFKA_BOOTSTRAP_SERVERS", "b:1"),
            ("GROUP_ID", "g"),
            ("SOURCE_TOPIC", "in"),
            ("TARGET_TOPIC", "out"),
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orchestrator.yml");
        std::fs::write(&path, file).unwrap();
        let environment = least.iter().chain(variables);
        let sources = Sources {
            file: Some(path),
            environment: environment
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..Sources::default()
        };
        Settings::load(&sources, &registry)
    };
    let database = [
        ("JDBC_URL", "jdbc:postgresql://h/db"),
        ("JDBC_USER", "ada"),
        ("JDBC_PASSWORD", "hunter2"),
        ("DB_STRATEGY", "OUTBOX"),
    ];
    let loaded = load("orchestrator: {}\n", &database).unwrap();
    let backend = &loaded.settings.store.backend;
    assert_eq!(
        (backend.name.as_str(), loaded.settings.tracking),
        ("postgres", Tracking::Outbox)
    );
    assert_eq!(backend.section["url"], "jdbc:postgresql://h/db");
    assert_eq!(backend.section["username"], "ada");
    assert!(!format!("{loaded:?}").contains("hunter2"));
    // Whoever names a store means it.
    let loaded = load("orchestrator: {db-strategy: memory}\n", &database).unwrap();
    assert_eq!(loaded.settings.store.backend.name, "memory");
    // A store that has an address is asked for it before anything starts.
    let problems = load("orchestrator: {db-strategy: postgres}\n", &[])
        .unwrap_err()
        .to_string();
    assert!(
        problems.contains("`orchestrator.postgres.url`") && problems.contains("ORCHESTRATOR_POSTGRES_URL"),
        "{problems}"
    );
}

#[test]
fn the_originals_file_is_understood() {
    let file = "\
spring:
  application: {name: orders}
  kafka:
    bootstrap-servers: ${KAFKA_BOOTSTRAP_SERVERS:localhost:9092}
    consumer:
      group-id: ${GROUP_ID:orders-group}
      auto-offset-reset: latest
      enable-auto-commit: false
      isolation-level: read_committed
      properties:
        '[fetch.min.bytes]': 1024
    producer:
      acks: all
      compression-type: lz4
      transaction-id-prefix: tx-
    properties:
      security.protocol: SASL_SSL
server:
  port: 8081
logging.level.root: INFO
orchestrator:
  db-strategy: RELIABLE
  failure-mode: ATOMIC
  source-topic: orders
  targetTopic: ${TARGET_TOPIC:enriched}
  max_poll_records: 500
orchestrator.concurrency: 3
";
    let loaded = good(file, &[("GROUP_ID", "g2")], &[("db-strategy", "rocksdb")]);
    let s = &loaded.settings;
    assert_eq!(
        (s.bootstrap_servers.as_str(), s.group_id.as_str()),
        ("localhost:9092", "g2")
    );
    assert_eq!(
        (s.initial_offset, s.tracking),
        (InitialOffset::Latest, Tracking::Reliable)
    );
    assert_eq!(
        (s.batch.records, s.concurrency, &*s.target_topic),
        (500, 3, "enriched")
    );
    assert_eq!(s.kafka.producer.get("compression.type"), Some("lz4"));
    assert_eq!(s.kafka.consumer.get("fetch.min.bytes"), Some("1024"));
    assert_eq!(s.kafka.common.get("security.protocol"), Some("SASL_SSL"));
    assert_eq!(
        (
            s.kafka.transactional_id_prefix.as_str(),
            s.management_address.port()
        ),
        ("tx-", 8081)
    );
    let warnings = loaded.warnings.join("\n");
    assert!(
        warnings.contains("`spring.application.name` is not used"),
        "{warnings}"
    );
    assert!(warnings.contains("RUST_LOG"), "{warnings}");
}

type Broken = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static [&'static str],
);

/// Each broken file or variable: what is added to the least file, the variables, and what the answer must say.
const BROKEN: &[Broken] = &[
    // unknown keys
    (
        "  failure-mod: atomic\n",
        &[],
        &[
            "yml:7:3: `orchestrator.failure-mod`",
            "did you mean `failure-mode`?",
            "7 |   failure-mod: ***",
            "  |   ^",
        ],
    ),
    (
        "  rocksdb:\n    paht: /x\n",
        &[],
        &["yml:8:5: `orchestrator.rocksdb.paht`", "did you mean `path`?"],
    ),
    (
        "  kafka:\n    consummer: {a: b}\n",
        &[],
        &["yml:8:5:", "did you mean `consumer`?"],
    ),
    (
        "tracking: outbox\n",
        &[],
        &["yml:7:1: `tracking`", "belongs below `orchestrator:`"],
    ),
    (
        "  postgres: {url: x}\n",
        &[],
        &["yml:7:3:", "built without that store: it knows ", "rocksdb"],
    ),
    // words
    (
        "  failure-mode: atomicc\n",
        &[],
        &[
            "yml:7:17: `orchestrator.failure-mode`",
            "none of atomic, skip-and-log",
            "did you mean `atomic`?",
        ],
    ),
    (
        "  tracking: relyable\n",
        &[],
        &["yml:7:13:", "did you mean `reliable`?"],
    ),
    (
        "  on-store-failure: explode\n",
        &[],
        &["yml:7:21:", "none of degrade, block"],
    ),
    // types and units
    (
        "  concurrency: four\n",
        &[],
        &["yml:7:16: `orchestrator.concurrency`: `four` is not a whole number"],
    ),
    (
        "  transform-timeout: 30\n",
        &[],
        &["yml:7:22:", "`30` has no unit: write `30s` or `30ms`"],
    ),
    (
        "  store-payload-on-failure-only: perhaps\n",
        &[],
        &["yml:7:34:", "neither true nor false"],
    ),
    (
        "  ordering: [key, none]\n",
        &[],
        &["yml:7:13:", "a single value is expected, not a list"],
    ),
    (
        "  kafka: yes\n",
        &[],
        &["yml:7:10: `orchestrator.kafka`: keys are expected"],
    ),
    (
        "  rocksdb: {cache-mb: 70000}\n",
        &[],
        &["yml:7:23: `orchestrator.rocksdb.cache-mb`", "u16"],
    ),
    // bounds
    (
        "  concurrency: 65\n",
        &[],
        &["yml:7:16:", "65 is outside 1 to 64"],
    ),
    (
        "  session-timeout: 31m\n",
        &[],
        &["yml:7:20:", "31m is outside 1s to 30m"],
    ),
    (
        "  batch-bytes: 1GiB\n",
        &[],
        &["yml:7:16:", "1GiB is outside 1KiB to 256MiB"],
    ),
    (
        "  skip: ['orders:0:1', 'orders:1']\n",
        &[],
        &["`orchestrator.skip`", "`orders:1` is not a record id"],
    ),
    (
        "  skip: ['other:0:1']\n",
        &[],
        &["`other:0:1` is not a record of the source topic"],
    ),
    (
        "  management-address: everywhere\n",
        &[],
        &["yml:7:23:", "`everywhere` is not an address and a port"],
    ),
    (
        "  dead-letter-topic: 'no spaces'\n",
        &[],
        &["yml:7:22:", "`no spaces` is not a topic"],
    ),
    // relations
    (
        "  transform-timeout: 6m\n",
        &[],
        &[
            "yml:7:22:",
            "6m is not below `max-poll-interval` (5m): a slow transform",
        ],
    ),
    (
        "  transaction-timeout: 5m\n",
        &[],
        &[
            "yml:7:24:",
            "not below `max-poll-interval`",
            "nothing is polled while a transaction is open",
        ],
    ),
    (
        "  db-timeout-ms: 10000\n",
        &[],
        &["yml:7:18:", "30s is not below `shutdown-timeout` (25s)"],
    ),
    (
        "  backoff: 1m\n",
        &[],
        &["yml:7:12:", "1m is above `max-backoff` (30s)"],
    ),
    (
        "  dead-letter-topic: orders\n",
        &[],
        &["yml:7:22:", "this is the source topic"],
    ),
    (
        "  fallback: rocksdb\n",
        &[],
        &["yml:7:13:", "this is the store itself"],
    ),
    (
        "  fallback: rokcsdb\n",
        &[],
        &[
            "yml:7:13:",
            "no store is called `rokcsdb`",
            "did you mean `rocksdb`?",
        ],
    ),
    (
        "  outbox: {skip-succeeded: true}\n",
        &[],
        &[
            "yml:7:28: `orchestrator.outbox.skip-succeeded`",
            "only `tracking: outbox`",
        ],
    ),
    (
        "  tracking: outbox\n",
        &[("DB_STRATEGY", "none"), ("ORCHESTRATOR_TRACKING", "outbox")],
        &["variable ORCHESTRATOR_TRACKING", "`outbox` needs a store"],
    ),
    // what exactly-once needs
    (
        "  kafka:\n    consumer:\n      isolation.level: read_uncommitted\n",
        &[],
        &[
            "yml:9:24: `orchestrator.kafka.consumer.isolation.level`",
            "aborted records",
            "always `read_committed`",
        ],
    ),
    (
        "  kafka: {producer: {enable: {idempotence: false}}}\n",
        &[],
        &["`orchestrator.kafka.producer.enable.idempotence`", "idempotent"],
    ),
    (
        "spring: {kafka: {consumer: {enable-auto-commit: true}}}\n",
        &[],
        &[
            "yml:7:49: `spring.kafka.consumer.enable-auto-commit`",
            "in the transaction",
        ],
    ),
    (
        "",
        &[("ORCHESTRATOR_KAFKA_PRODUCER_ACKS", "1")],
        &[
            "variable ORCHESTRATOR_KAFKA_PRODUCER_ACKS: `orchestrator.kafka.producer.acks`",
            "all replicas",
        ],
    ),
    (
        "  kafka: {properties: {sasl.mecanism: PLAIN}}\n",
        &[],
        &[
            "`orchestrator.kafka.properties.sasl.mecanism`: librdkafka has no such setting; did you mean `sasl.mechanism`?",
        ],
    ),
    (
        "  kafka: {producer: {linger.ms: soon}}\n",
        &[],
        &["yml:7:33: `orchestrator.kafka.producer.linger.ms`: librdkafka does not take this value"],
    ),
    (
        "  kafka: {consumer: {max.poll.records: 5}}\n",
        &[],
        &["a setting of the Java clients: use `orchestrator.batch-records`"],
    ),
    (
        "  kafka: {consumer: {session.timeout.ms: 6000}}\n",
        &[],
        &["use `orchestrator.session-timeout`"],
    ),
    // the file itself
    ("  group-id: again\n", &[], &["yml:7:3: ", "duplicate"]),
    (
        "\tordering: key\n",
        &[],
        &["yml:7:1: this is not YAML: a tab cannot indent"],
    ),
    ("  ordering: [key\n", &[], &["this is not YAML"]),
    (
        "  max-poll-records: 1\n  batch-records: 2\n",
        &[],
        &[
            "yml:8:18: `orchestrator.batch-records`: this is set twice",
            ":7:21",
        ],
    ),
    (
        "  dead-letter-topic: ${DLT}\n",
        &[],
        &[
            "yml:7:22: `orchestrator.dead-letter-topic`",
            "the variable `DLT` is not set",
        ],
    ),
    // variables
    (
        "",
        &[("ORCHESTRATOR_FAILURE_MODE", "atomik")],
        &[
            "variable ORCHESTRATOR_FAILURE_MODE: `orchestrator.failure-mode`",
            "did you mean `atomic`?",
        ],
    ),
    (
        "",
        &[("ORCHESTRATOR_DB_STRATEGY", "rockdb")],
        &[
            "variable ORCHESTRATOR_DB_STRATEGY",
            "no store is called `rockdb`: this program knows",
            "did you mean `rocksdb`?",
        ],
    ),
    (
        "",
        &[("KAFKA_BOOTSTRAP_SERVERS", "kafka")],
        &[
            "variable KAFKA_BOOTSTRAP_SERVERS",
            "`kafka` has no port",
            "kafka:9092",
        ],
    ),
    (
        "",
        &[("ORCHESTRATOR_INSTANCE", "pod/1")],
        &["variable ORCHESTRATOR_INSTANCE", "letters, digits"],
    ),
    (
        "",
        &[("ORCHESTRATOR_ROCKSDB_PATH_FILE", "/does/not/exist")],
        &["variable ORCHESTRATOR_ROCKSDB_PATH_FILE", "cannot be read"],
    ),
];

#[test]
fn every_broken_configuration_is_answered_with_place_reason_and_nearest_name() {
    assert!(BROKEN.len() >= 20);
    for (added, variables, wanted) in BROKEN {
        let problems = load_with(&format!("{LEAST}{added}"), variables, &[]).expect_err(added);
        let told = problems.to_string();
        for part in *wanted {
            assert!(
                told.contains(part),
                "{added}{variables:?}: {part:?} is missing in\n{told}"
            );
        }
        assert_eq!(problems.faults.len(), 1, "one fault, one answer:\n{told}");
    }
}

#[test]
fn no_file_whatever_it_holds_ends_in_a_panic() {
    let whole = include_str!("../../../orchestrator.example.yml");
    let text = uncommented_properties(whole);
    for end in (0..text.len())
        .filter(|end| text.is_char_boundary(*end))
        .step_by(29)
    {
        let _ = load_with(&text[..end], &[], &[]);
        let mangled = format!("{}\u{1f980}\t[{{${{x:-}}: &a *a\n{}", &text[..end], &text[end..]);
        let _ = load_with(&mangled, &[], &[]);
    }
    for odd in [
        "&a [*a]",
        "? [a, b]\n: c",
        "--- a\n--- b",
        "- a",
        "!!binary x",
        "a: !t {b: c}",
        "orchestrator: [x]",
        "<<: {orchestrator: {}}",
        "\u{feff}orchestrator:",
        "%YAML 1.2\n---\n{}",
    ] {
        let _ = load_with(odd, &[], &[]);
    }
}

/// The example with its properties of clients, which are only shown.
fn uncommented_properties(text: &str) -> String {
    text.replace("      #", "      ")
}

#[test]
fn several_faults_are_told_together_in_the_order_of_the_file() {
    let told = bad(
        &format!("{LEAST}  concurrency: 0\n  ordring: key\n"),
        &[("ORCHESTRATOR_BACKOFF", "5")],
    );
    let at = |part: &str| {
        told.find(part)
            .unwrap_or_else(|| panic!("{part} is missing in\n{told}"))
    };
    assert!(
        at(":7:16") < at(":8:3") && at(":8:3") < at("ORCHESTRATOR_BACKOFF"),
        "{told}"
    );
}

#[test]
fn what_is_required_is_told_with_every_way_to_set_it() {
    let told = bad("", &[]);
    for key in [
        "bootstrap-servers",
        "group-id",
        "source-topic",
        "target-topic",
        "db-strategy",
    ] {
        assert!(
            told.contains(&format!("`orchestrator.{key}`: this is required")),
            "{told}"
        );
    }
    assert!(told.contains("ORCHESTRATOR_BOOTSTRAP_SERVERS"), "{told}");
}

#[test]
fn a_file_that_is_named_but_not_there_is_an_error() {
    let file = Some(PathBuf::from("/does/not/exist.yml"));
    let sources = Sources {
        file,
        ..Sources::default()
    };
    let told = Settings::load(&sources, &registry()).unwrap_err().to_string();
    assert!(
        told.contains("/does/not/exist.yml: the file cannot be read"),
        "{told}"
    );
}

#[test]
fn an_unknown_variable_is_a_warning_with_the_nearest() {
    let warnings = good(LEAST, &[("ORCHESTRATOR_FAILURE_MOD", "x")], &[]).warnings;
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("did you mean ORCHESTRATOR_FAILURE_MODE?"),
        "{warnings:?}"
    );
}

#[test]
fn no_secret_is_ever_printed() {
    let secrets = "  kafka:\n    properties:\n      sasl: {username: me, password: hunter2}\n      ssl.key.pem: hunter2\n  rocksdb: {pass: hunter2, url: 'x://u:hunter2@h'}\n";
    let loaded = good(&format!("{LEAST}{secrets}"), &[], &[]);
    assert_eq!(loaded.settings.kafka.common.get("sasl.password"), Some("hunter2"));
    assert_eq!(loaded.settings.store.backend.section["pass"], "hunter2");
    let printed = format!("{loaded:?}");
    assert!(!printed.contains("hunter2"), "{printed}");
    assert!(printed.contains("***@h"), "{printed}");
    // Nor where something is wrong with it, or beside it.
    for broken in [
        "  rocksdb: {pass: [hunter2]}\n",
        "  rocksdb:\n    pass: {hunter2: x}\n",
        "  kafka: {properties: {sasl.password: [hunter2]}}\n",
        "  kafka:\n    properties:\n      ssl.key.pem: |\n        -----BEGIN-----\n     hunter2\n",
        "  password: hunter2\n",
        "  rocksdb: {pass: &x hunter2}\n  concurrency: *x\n",
        "  bootstrap-servers: 'http://u:hunter2@h'\n",
        "  kafka: {properties: {sasl.password: hunter2, sasl.passwrd: [x]}}\n",
    ] {
        let file = LEAST.replace("  bootstrap-servers: localhost:9092\n", "") + broken;
        let told = bad(&file, &[]);
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn what_looks_like_a_secret_is_one_also_when_it_is_misspelt() {
    for name in [
        "sasl.password",
        "sasl.pasword",
        "ssl.key.pem",
        "ssl.keystore.password",
        "sasl.oauthbearer.config",
        "api_token",
    ] {
        assert!(Properties::is_secret(name), "{name}");
    }
    for name in [
        "ssl.key.location",
        "sasl.username",
        "security.protocol",
        "linger.ms",
        "sasl.oauthbearer.token.endpoint.url",
    ] {
        assert!(!Properties::is_secret(name), "{name}");
    }
}

#[test]
fn clients_are_made_from_what_is_configured() {
    let file = format!(
        "{LEAST}  instance: a\n  session-timeout: 7s\n  transactional-id-prefix: x-\n  kafka: {{producer: {{compression.type: lz4}}, properties: {{security.protocol: SSL}}}}\n"
    );
    let instance = Instance {
        id: "a".into(),
        configured: true,
    };
    let clients = good(&file, &[], &[]).settings.clients(instance);
    let producer = clients.client(ClientKind::Producer { lane: 1 }, None).unwrap();
    let consumer = clients.client(ClientKind::Consumer { lane: 1 }, None).unwrap();
    assert_eq!(producer.get("transactional.id"), Some("x-orders-a-1.6.1"));
    assert_eq!(producer.get("compression.type"), Some("lz4"));
    assert_eq!(producer.get("transaction.timeout.ms"), Some("15000"));
    assert_eq!(consumer.get("session.timeout.ms"), Some("7000"));
    assert_eq!(consumer.get("group.instance.id"), Some("a-1"));
    assert_eq!(consumer.get("security.protocol"), Some("SSL"));
}

#[test]
fn a_secret_may_come_from_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "hunter2\n").unwrap();
    let path = file.to_str().unwrap();
    let variables = [
        ("ORCHESTRATOR_KAFKA_PROPERTIES_SASL_PASSWORD_FILE", path),
        ("ORCHESTRATOR_ROCKSDB_PASS_FILE", path),
    ];
    let loaded = good(LEAST, &variables, &[]);
    assert_eq!(loaded.settings.kafka.common.get("sasl.password"), Some("hunter2"));
    assert_eq!(loaded.settings.store.backend.section["pass"], "hunter2");
}

#[test]
fn a_backends_values_have_the_types_that_it_wants() {
    let variables = [
        ("ORCHESTRATOR_ROCKSDB_SYNC_WRITES", "true"),
        ("ORCHESTRATOR_ROCKSDB_CACHE_MB", "64"),
    ];
    let section = good(&format!("{LEAST}  rocksdb: {{path: 17}}\n"), &variables, &[])
        .settings
        .store
        .backend
        .section;
    assert_eq!(
        serde_json::Value::Object(section),
        serde_json::json!({"path": "17", "sync-writes": true, "cache-mb": 64})
    );
}

#[test]
fn no_store_means_no_tracking_unless_somebody_insists() {
    let least = LEAST.replace("rocksdb", "none");
    assert_eq!(good(&least, &[], &[]).settings.tracking, Tracking::None);
    let file = format!("{LEAST}  tracking: outbox\n");
    assert_eq!(
        good(&file, &[("DB_STRATEGY", "NONE")], &[]).settings.tracking,
        Tracking::None
    );
    assert!(bad(&format!("{least}  tracking: outbox\n"), &[]).contains("`outbox` needs a store"));
}

#[test]
fn every_key_is_shown_with_its_value_and_origin() {
    let loaded = good(LEAST, &[], &[]);
    for (path, _) in paths(&known(&Registry::default())) {
        let key = format!("orchestrator.{}", path.join("."));
        assert!(loaded.values.iter().any(|shown| shown.key == key), "{key}");
    }
    let path = loaded
        .values
        .iter()
        .find(|shown| shown.key == "orchestrator.rocksdb.path")
        .unwrap();
    assert_eq!(path.value, "./data/rocksdb");
    let Origin::File {
        path: file,
        line: 3,
        column: 13,
    } = origin(&loaded, "group-id")
    else {
        panic!()
    };
    assert!(Arc::as_ref(file).ends_with("orchestrator.yml"));
}
