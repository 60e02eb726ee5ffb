use super::*;

fn settings(pairs: &[(&str, &str)]) -> Option<Value> {
    let bytes = |text: &str| Value::BulkString(text.as_bytes().to_vec());
    Some(Value::Array(
        pairs
            .iter()
            .flat_map(|(name, value)| [bytes(name), bytes(value)])
            .collect(),
    ))
}

fn names(said: &Said, mode: Mode) -> Vec<String> {
    said.risks(mode).into_iter().map(|risk| risk.name).collect()
}

const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nconnected_slaves:0\r\naof_enabled:1\r\n\
                    maxmemory_policy:noeviction\r\n";

#[test]
fn a_server_that_keeps_everything_is_no_risk() {
    let said = Said::read(Some(INFO), settings(&[("appendfsync", "always")]));
    assert_eq!(names(&said, Mode::Standalone), [""; 0]);
    assert_eq!(said.version.as_deref(), Some("7.0.15"));
    assert_eq!(names(&said, Mode::Sentinel), ["redis-failover"]);
    assert_eq!(names(&said, Mode::Cluster), ["redis-failover"]);
}

#[test]
fn what_is_not_said_is_a_risk_that_names_it() {
    let unknown = |said: &Said| {
        said.risks(Mode::Standalone)
            .pop()
            .map(|risk| (risk.name, risk.what))
    };
    let (name, what) = unknown(&Said::read(None, None)).unwrap();
    assert_eq!(name, "redis-unknown");
    for part in ["appendonly", "appendfsync", "maxmemory-policy", "replicas"] {
        assert!(what.contains(part), "{what}");
    }
    let (_, what) = unknown(&Said::read(Some(INFO), None)).unwrap();
    assert!(what.contains("(appendfsync)"), "{what}");
    let without = INFO.replace("aof_enabled:1", "aof_enabled:0");
    assert_eq!(
        names(&Said::read(Some(&without), None), Mode::Standalone),
        ["redis-no-aof"]
    );
}

#[test]
fn replicas_of_a_single_server_are_a_failover_that_may_come() {
    let with = INFO.replace("connected_slaves:0", "connected_slaves:2");
    let said = Said::read(Some(&with), settings(&[("appendfsync", "always")]));
    assert_eq!(names(&said, Mode::Standalone), ["redis-failover"]);
}

#[test]
fn a_version_before_7_is_old() {
    for (version, old) in [
        ("6.2.14", true),
        ("5.0", true),
        ("7.0.0", false),
        ("10.1", false),
        ("8.0-rc1", false),
        ("x", false),
    ] {
        assert_eq!(is_old(version), old, "{version}");
    }
}
