use std::collections::BTreeMap;

use serde_json::Value;

use super::written::Written;
use crate::registry::Registry;

/// A key that may be written, and what may stand there.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    /// A single value.
    Leaf(Kind),
    /// Keys below it.
    Section(BTreeMap<String, Key>),
    /// Any keys: librdkafka's.
    Properties,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Integer,
    Boolean,
    Number,
    List,
    /// A backend's own affair.
    Any,
}

/// Names of the original and of Spring that mean one of ours: below `orchestrator`.
pub(crate) const ALIASES: &[(&str, &[&str])] = &[
    ("max-poll-records", &["batch-records"]),
    ("tracking-mode", &["tracking"]),
    ("non-atomic-max-attempts", &["max-attempts"]),
    ("fetch-min-bytes", &["kafka", "consumer", "fetch.min.bytes"]),
    ("fetch-max-wait-ms", &["kafka", "consumer", "fetch.wait.max.ms"]),
    (
        "max-partition-fetch-bytes",
        &["kafka", "consumer", "fetch.message.max.bytes"],
    ),
];

/// Names of the original that mean nothing here, and why.
pub(crate) const OBSOLETE: &[(&str, &str)] = &[
    (
        "commit-batch-size",
        "entries are written with the batch that they belong to; `batch-records` bounds it",
    ),
    (
        "commit-flush-interval-ms",
        "entries are written with the batch that they belong to; nothing waits for an interval",
    ),
    (
        "error-table",
        "it belongs to the postgres store, which comes with a crate of its own",
    ),
];

/// The original's variables without a prefix; each is the name of the key below `orchestrator`, an alias or obsolete.
pub(crate) const BARE: &[(&str, &str)] = &[
    ("KAFKA_BOOTSTRAP_SERVERS", "bootstrap-servers"),
    ("GROUP_ID", "group-id"),
    ("SOURCE_TOPIC", "source-topic"),
    ("TARGET_TOPIC", "target-topic"),
    ("CONCURRENCY", "concurrency"),
    ("MAX_POLL_RECORDS", "max-poll-records"),
    ("FETCH_MIN_BYTES", "fetch-min-bytes"),
    ("FETCH_MAX_WAIT_MS", "fetch-max-wait-ms"),
    ("MAX_PARTITION_FETCH_BYTES", "max-partition-fetch-bytes"),
    ("FAILURE_MODE", "failure-mode"),
    ("NON_ATOMIC_MAX_ATTEMPTS", "non-atomic-max-attempts"),
    ("DB_TIMEOUT_MS", "db-timeout-ms"),
    ("DB_CIRCUIT_FAILURE_THRESHOLD", "db-circuit-failure-threshold"),
    ("DB_CIRCUIT_OPEN_MS", "db-circuit-open-ms"),
    ("STORE_PAYLOAD", "store-payload"),
    ("STORE_PAYLOAD_ON_FAILURE_ONLY", "store-payload-on-failure-only"),
    ("COMMIT_BATCH_SIZE", "commit-batch-size"),
    ("COMMIT_FLUSH_INTERVAL_MS", "commit-flush-interval-ms"),
    ("ERROR_TABLE", "error-table"),
    ("DB_STRATEGY", "db-strategy"),
];

/// Without case, dashes and underscores, as Spring's relaxed binding compares.
pub(crate) fn relaxed(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '-' | '_'))
        .flat_map(char::to_lowercase)
        .collect()
}

/// All keys below `orchestrator`: ours and a section for each backend.
pub(crate) fn known(registry: &Registry) -> BTreeMap<String, Key> {
    let mut keys = section(&Written::schema().to_value());
    for (name, schema) in registry.schemas() {
        keys.insert(name.to_owned(), Key::Section(section(&schema.to_value())));
    }
    keys
}

fn section(schema: &Value) -> BTreeMap<String, Key> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return BTreeMap::new();
    };
    properties
        .iter()
        .map(|(name, schema)| (name.clone(), key(schema)))
        .collect()
}

fn key(schema: &Value) -> Key {
    if schema.get("properties").is_some() {
        return Key::Section(section(schema));
    }
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(some)) => some.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let has = |wanted| types.contains(&wanted);
    if has("object")
        && schema
            .get("additionalProperties")
            .is_some_and(|p| p["type"] == "string")
    {
        return Key::Properties;
    }
    Key::Leaf(match () {
        () if has("string") => Kind::Text,
        () if has("integer") => Kind::Integer,
        () if has("number") => Kind::Number,
        () if has("boolean") => Kind::Boolean,
        () if has("array") => Kind::List,
        () => Kind::Any,
    })
}

/// The variable that sets a key, in its documented form.
pub(crate) fn variable(path: &[String]) -> String {
    let name = path.join("_").to_uppercase().replace(['-', '.'], "_");
    format!("ORCHESTRATOR_{name}")
}

/// Every path that takes a value or properties.
pub(crate) fn paths(keys: &BTreeMap<String, Key>) -> Vec<(Vec<String>, Key)> {
    let mut found = Vec::new();
    for (name, key) in keys {
        match key {
            Key::Section(below) => {
                for (mut path, key) in paths(below) {
                    path.insert(0, name.clone());
                    found.push((path, key));
                }
            }
            key => found.push((vec![name.clone()], key.clone())),
        }
    }
    found
}
