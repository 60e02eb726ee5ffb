//! What else the original's `application.yml` holds: read where it plainly means one of our keys.

use super::{
    protected::refused,
    read::Reader,
    yaml::{Data, Name, Node},
};

/// A key of Spring and the path of ours that it means.
const SAME: &[(&str, &[&str])] = &[
    ("spring.kafka.bootstrap-servers", &["bootstrap-servers"]),
    ("spring.kafka.consumer.group-id", &["group-id"]),
    ("spring.kafka.consumer.max-poll-records", &["batch-records"]),
    ("spring.kafka.consumer.auto-offset-reset", &["initial-offset"]),
    (
        "spring.kafka.consumer.fetch-min-size",
        &["kafka", "consumer", "fetch.min.bytes"],
    ),
    (
        "spring.kafka.producer.transaction-id-prefix",
        &["transactional-id-prefix"],
    ),
    (
        "spring.kafka.producer.compression-type",
        &["kafka", "producer", "compression.type"],
    ),
    (
        "spring.kafka.producer.batch-size",
        &["kafka", "producer", "batch.size"],
    ),
    (
        "spring.kafka.security.protocol",
        &["kafka", "properties", "security.protocol"],
    ),
    ("spring.kafka.listener.concurrency", &["concurrency"]),
];

/// Keys that are librdkafka's by another name: refused unless they say what is so anyhow.
const GUARDED: &[(&str, &str)] = &[
    ("spring.kafka.consumer.isolation-level", "isolation.level"),
    ("spring.kafka.consumer.enable-auto-commit", "enable.auto.commit"),
    ("spring.kafka.producer.acks", "acks"),
];

/// Sections of librdkafka's names.
const MAPS: &[(&str, &str)] = &[
    ("spring.kafka.properties.", "properties"),
    ("spring.kafka.consumer.properties.", "consumer"),
    ("spring.kafka.producer.properties.", "producer"),
];

/// Spring's keys whose values are read.
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    let same = SAME.iter().map(|(name, _)| *name);
    same.chain(GUARDED.iter().map(|(name, _)| *name))
        .chain(["server.port"])
}

/// The names at the top of a file that are Spring's.
pub(crate) const ROOTS: &[&str] = &["spring", "logging", "server", "management", "info", "eureka"];

/// Reads one of them.
pub(crate) fn read(reader: &mut Reader<'_>, root: &Name, node: Node) {
    let mut leaves = Vec::new();
    flatten(root.text.clone(), node, &mut leaves);
    for (name, node) in leaves {
        one(reader, &name, node);
    }
}

fn one(reader: &mut Reader<'_>, name: &str, node: Node) {
    let origin = reader.origin(node.at);
    let Data::Text(text) = &node.data else {
        return reader.report.warn(Some(&origin), format!("`{name}` is not used"));
    };
    if let Some((_, path)) = SAME.iter().find(|(known, _)| *known == name) {
        let path: Vec<String> = path.iter().map(|&part| part.to_owned()).collect();
        return match reader.keys.get(&path[0]).cloned() {
            Some(key) if path.len() == 1 => reader.value(&path, node, &key),
            _ => reader.property(&path, node),
        };
    }
    if let Some((_, rdkafka)) = GUARDED.iter().find(|(known, _)| *known == name) {
        let value = text.replace('-', "_").to_lowercase();
        if let Some(reason) = refused(rdkafka, &value) {
            reader.report.problem(Some(&origin), Some(name), reason);
        }
        return;
    }
    let property = MAPS
        .iter()
        .find_map(|(prefix, section)| Some((section, name.strip_prefix(prefix)?)));
    if let Some((section, property)) = property {
        let property = property.trim_matches(|c| matches!(c, '[' | ']' | '"'));
        let path = ["kafka", section, property].map(str::to_owned);
        return reader.property(&path, node);
    }
    if name == "server.port" {
        let (at, data) = (node.at, Data::Text(format!("0.0.0.0:{}", text.trim())));
        if let Some(key) = reader.keys.get("management-address").cloned() {
            reader.value(&["management-address".to_owned()], Node { at, data }, &key);
        }
        return;
    }
    let hint = match name {
        name if name.starts_with("spring.datasource") => {
            ": databases belong to the postgres store, which comes with a crate of its own"
        }
        name if name.starts_with("logging.level") => ": set the variable RUST_LOG or LOGGING_LEVEL_ROOT",
        _ => "",
    };
    reader
        .report
        .warn(Some(&origin), format!("`{name}` is not used{hint}"));
}

fn flatten(name: String, node: Node, leaves: &mut Vec<(String, Node)>) {
    match node.data {
        Data::Map(pairs) => {
            for (below, node) in pairs {
                flatten(format!("{name}.{}", below.text), node, leaves);
            }
        }
        _ => leaves.push((name, node)),
    }
}
