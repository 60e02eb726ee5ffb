//! Twenty and more broken configurations, each given to the real binary: it must end with code 78 before it touches anything, and
//! say where, why, and which name was perhaps meant.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends here")]

use std::{path::Path, process::Command};

use testkit::process;

const GOOD: &str = "orchestrator:
  bootstrap-servers: 127.0.0.1:1
  group-id: orders
  source-topic: orders
  target-topic: orders.enriched
  db-strategy: rocksdb
";

/// What is added to the good file (or replaces it), which variables are set, and what must be told.
struct Case {
    about: &'static str,
    file: String,
    variables: &'static [(&'static str, &'static str)],
    told: &'static [&'static str],
}

fn added(about: &'static str, lines: &'static str, told: &'static [&'static str]) -> Case {
    Case {
        about,
        file: format!("{GOOD}{lines}\n"),
        variables: &[],
        told,
    }
}

fn replaced(about: &'static str, old: &str, new: &str, told: &'static [&'static str]) -> Case {
    assert!(GOOD.contains(old), "{old}");
    Case {
        about,
        file: GOOD.replace(old, new),
        variables: &[],
        told,
    }
}

fn variable(
    about: &'static str,
    variables: &'static [(&'static str, &'static str)],
    told: &'static [&'static str],
) -> Case {
    Case {
        about,
        file: GOOD.to_owned(),
        variables,
        told,
    }
}

fn cases() -> Vec<Case> {
    vec![
        added(
            "a misspelt key",
            "  dead-leter-topic: dead",
            &["orchestrator.yml:7:3", "dead-letter-topic"],
        ),
        added(
            "a key of another section",
            "  transform-timout: 3s",
            &["orchestrator.yml:7:3", "transform-timeout"],
        ),
        added(
            "a section that is none of ours",
            "orchestrater:\n  group-id: x",
            &["orchestrator.yml:7:1", "did you mean"],
        ),
        added(
            "an unknown failure mode",
            "  failure-mode: skip-and-lag",
            &["orchestrator.yml:7:17", "skip-and-log"],
        ),
        added(
            "an unknown tracking",
            "  tracking: relable",
            &["orchestrator.yml:7:13", "reliable"],
        ),
        added(
            "an unknown ordering",
            "  ordering: keys",
            &["orchestrator.yml:7:13", "key"],
        ),
        added(
            "a word where a number belongs",
            "  concurrency: many",
            &["orchestrator.yml:7:16", "concurrency"],
        ),
        added(
            "no lane at all",
            "  concurrency: 0",
            &["orchestrator.yml:7:16", "concurrency", "64"],
        ),
        added(
            "too many lanes",
            "  concurrency: 65",
            &["orchestrator.yml:7:16", "64"],
        ),
        added(
            "a negative number",
            "  batch-records: -5",
            &["orchestrator.yml:7:18", "batch-records"],
        ),
        added(
            "a time without unit",
            "  transform-timeout: 30",
            &["orchestrator.yml:7:22", "30"],
        ),
        added(
            "a size that is none",
            "  batch-bytes: 4XB",
            &["orchestrator.yml:7:16", "batch-bytes"],
        ),
        added(
            "a transform timeout above the poll interval",
            "  transform-timeout: 10m",
            &["orchestrator.yml:7:22", "transform-timeout", "max-poll-interval"],
        ),
        added(
            "a transaction timeout above the poll interval",
            "  max-poll-interval: 20s\n  transaction-timeout: 30s\n  transform-timeout: 5s",
            &["orchestrator.yml:", "transaction-timeout", "max-poll-interval"],
        ),
        added(
            "an address that is none",
            "  management-address: everywhere",
            &["orchestrator.yml:7:23", "management-address"],
        ),
        added(
            "a record to skip that is none",
            "  skip: [orders/1/5]",
            &["orchestrator.yml:7:", "topic:partition:offset"],
        ),
        added(
            "a client setting that exactly-once needs",
            "  kafka:\n    consumer:\n      isolation.level: read_uncommitted",
            &["orchestrator.yml:9:", "isolation.level"],
        ),
        added(
            "a producer setting that exactly-once needs",
            "  kafka:\n    producer:\n      enable.idempotence: \"false\"",
            &["orchestrator.yml:9:", "enable.idempotence"],
        ),
        added(
            "a key that is there twice",
            "  group-id: other",
            &["orchestrator.yml:7:", "group-id"],
        ),
        added(
            "a tab as indentation",
            "\tconcurrency: 1",
            &["orchestrator.yml:7:"],
        ),
        replaced("no group", "  group-id: orders\n", "", &["group-id"]),
        replaced(
            "no broker",
            "  bootstrap-servers: 127.0.0.1:1\n",
            "",
            &["bootstrap-servers"],
        ),
        replaced(
            "an unknown store",
            "rocksdb",
            "rockdb",
            &["orchestrator.yml:6:16", "rocksdb", "memory"],
        ),
        replaced(
            "a store without its address",
            "rocksdb",
            "postgres",
            &[
                "orchestrator.yml:6:16",
                "orchestrator.postgres.url",
                "ORCHESTRATOR_POSTGRES_URL",
            ],
        ),
        variable(
            "a variable with a bad value",
            &[("ORCHESTRATOR_FAILURE_MODE", "atomics")],
            &["ORCHESTRATOR_FAILURE_MODE", "atomic"],
        ),
        variable(
            "a variable with a number out of bounds",
            &[("ORCHESTRATOR_CONCURRENCY", "1000")],
            &["ORCHESTRATOR_CONCURRENCY", "64"],
        ),
        added(
            "a second document",
            "---\nspring.kafka.bootstrap-servers: 127.0.0.1:2",
            &["orchestrator.yml:8:1", "second document"],
        ),
        added(
            "a trust store that only Java reads",
            "spring.kafka.ssl.trust-store-location: /tls/trust.jks",
            &["orchestrator.yml:7:", "keytool -list -rfc"],
        ),
        added(
            "two clusters",
            "spring.kafka.producer.bootstrap-servers: 127.0.0.1:2\nspring.kafka.consumer.bootstrap-servers: 127.0.0.1:3",
            &["orchestrator.yml:8:", "set twice", "orchestrator.yml:7:"],
        ),
        added(
            "a login module that librdkafka has not",
            "spring.kafka.properties.sasl.jaas.config: a.IAMLoginModule required;",
            &["orchestrator.yml:7:", "no such login module"],
        ),
        variable(
            "all of Spring's settings in one variable",
            &[("SPRING_APPLICATION_JSON", "{}")],
            &["SPRING_APPLICATION_JSON", "SPRING_KAFKA_"],
        ),
        variable(
            "a fault, and a warning that is the reason",
            &[
                ("ORCHESTRATOR_FAILURE_MODE", "atomics"),
                ("SPRING_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:2"),
            ],
            &[
                "ORCHESTRATOR_FAILURE_MODE",
                "SPRING_KAFKA_BOOTSTRAP_SERVERS",
                "orchestrator.yml:2:",
            ],
        ),
        variable(
            "one of the original's variables with a bad value",
            &[("MAX_POLL_RECORDS", "lots")],
            &["MAX_POLL_RECORDS"],
        ),
    ]
}

struct Ended {
    code: Option<i32>,
    told: String,
}

fn run(folder: &Path, arguments: &[&str], file: &str, variables: &[(&str, &str)]) -> Ended {
    let place = folder.join("orchestrator.yml");
    std::fs::write(&place, file).unwrap();
    let output = Command::new(process::sibling("orders-orchestrator").unwrap())
        .args(arguments)
        .arg("--config")
        .arg(&place)
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(folder)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let told = [output.stdout, output.stderr].concat();
    Ended {
        code: output.status.code(),
        told: String::from_utf8(told).unwrap(),
    }
}

#[test]
fn each_broken_configuration_is_answered_with_place_reason_and_nearest_name_and_code_78() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 20);
    for case in &cases {
        let ended = run(folder.path(), &["run"], &case.file, case.variables);
        let missing: Vec<_> = case
            .told
            .iter()
            .filter(|part| !ended.told.contains(**part))
            .collect();
        if ended.code != Some(78) || !missing.is_empty() {
            wrong.push(format!(
                "{}: code {:?}, does not say {missing:?}:\n{}",
                case.about, ended.code, ended.told
            ));
        }
        assert!(
            !folder.path().join("data").exists(),
            "{}: it touched its data directory",
            case.about
        );
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_fault_of_a_file_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("{GOOD}  concurrency: 0\n  ordering: keys\n  dead-leter-topic: x\n");
    let ended = run(folder.path(), &["run"], &file, &[]);
    assert_eq!(ended.code, Some(78), "{}", ended.told);
    for place in [
        "orchestrator.yml:7:",
        "orchestrator.yml:8:",
        "orchestrator.yml:9:",
    ] {
        assert!(ended.told.contains(place), "{place}: {}", ended.told);
    }
}

#[test]
fn a_good_configuration_is_no_fault_and_says_where_each_value_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let checked = run(folder.path(), &["config", "check"], GOOD, &[]);
    assert_eq!(checked.code, Some(0), "{}", checked.told);
    let shown = run(
        folder.path(),
        &["config", "show"],
        &format!("{GOOD}  kafka:\n    properties:\n      sasl.password: hunter2\n"),
        &[("ORCHESTRATOR_CONCURRENCY", "3")],
    );
    assert_eq!(shown.code, Some(0), "{}", shown.told);
    assert!(shown.told.contains("ORCHESTRATOR_CONCURRENCY"), "{}", shown.told);
    assert!(shown.told.contains("orchestrator.yml:3"), "{}", shown.told);
    assert!(
        !shown.told.contains("hunter2"),
        "a secret is printed: {}",
        shown.told
    );
}

#[test]
fn a_secret_in_a_broken_file_is_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("{GOOD}  kafka:\n    properties:\n      sasl.password: hunter2\n  concurrency: x\n");
    let ended = run(
        folder.path(),
        &["run"],
        &file,
        &[("ORCHESTRATOR_FAILURE_MODE", "x")],
    );
    assert_eq!(ended.code, Some(78), "{}", ended.told);
    assert!(!ended.told.contains("hunter2"), "{}", ended.told);
}
