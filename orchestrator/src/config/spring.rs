//! What else the original's `application.yml` and its environment hold: read where it plainly means one of our keys, in every
//! spelling that Spring's relaxed binding knows.

pub(crate) mod jaas;
mod ssl;
mod variables;

pub(crate) use variables::variables;

use super::{
    protected::refused,
    read::Reader,
    report::Origin,
    yaml::{Data, Node},
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
    (
        "spring.kafka.consumer.security.protocol",
        &["kafka", "consumer", "security.protocol"],
    ),
    (
        "spring.kafka.producer.security.protocol",
        &["kafka", "producer", "security.protocol"],
    ),
    ("spring.kafka.listener.concurrency", &["concurrency"]),
    // librdkafka's consumer and producer talk to one cluster: another word than the common one is told as a fault.
    ("spring.kafka.consumer.bootstrap-servers", &["bootstrap-servers"]),
    ("spring.kafka.producer.bootstrap-servers", &["bootstrap-servers"]),
    ("spring.kafka.client-id", &["kafka", "properties", "client.id"]),
    (
        "spring.kafka.consumer.client-id",
        &["kafka", "consumer", "client.id"],
    ),
    (
        "spring.kafka.producer.client-id",
        &["kafka", "producer", "client.id"],
    ),
    ("spring.kafka.producer.retries", &["kafka", "producer", "retries"]),
    (
        "spring.kafka.jaas.options.username",
        &["kafka", "properties", "sasl.username"],
    ),
    (
        "spring.kafka.jaas.options.password",
        &["kafka", "properties", "sasl.password"],
    ),
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

/// One setting by Spring's name, as it was written.
pub(crate) struct Leaf {
    name: String,
    node: Node,
    /// The variable that it comes from; none in a file, where its place says it.
    whole: Option<Origin>,
}

/// Reads single settings. Those of TLS belong together: a store's type stands beside its place.
pub(crate) fn leaves(reader: &mut Reader<'_>, found: Vec<Leaf>) {
    let mut stores = ssl::Stores::default();
    for leaf in found {
        if let Some(leaf) = stores.take(leaf) {
            reader.whole.clone_from(&leaf.whole);
            one(reader, &leaf.name, &leaf.node);
        }
    }
    stores.read(reader);
}

fn one(reader: &mut Reader<'_>, name: &str, node: &Node) {
    let origin = reader.origin(node.at);
    let Some(text) = text(&node.data) else {
        return reader.report.warn(Some(&origin), format!("`{name}` is not used"));
    };
    let (at, data) = (node.at, Data::Text(text.clone()));
    let node = Node { at, data };
    if let Some((_, path)) = SAME.iter().find(|(known, _)| key(known) == key(name)) {
        let path: Vec<String> = path.iter().map(|&part| part.to_owned()).collect();
        return match reader.keys.get(&path[0]).cloned() {
            Some(key) if path.len() == 1 => reader.value(&path, node, &key),
            _ => reader.property(&path, node),
        };
    }
    if let Some((_, rdkafka)) = GUARDED.iter().find(|(known, _)| key(known) == key(name)) {
        let value = text.replace('-', "_").to_lowercase();
        if let Some(reason) = refused(rdkafka, &value) {
            reader.report.problem(Some(&origin), Some(name), reason);
        }
        return;
    }
    if let Some((section, property)) = property(name) {
        let path = ["kafka", section, property].map(str::to_owned);
        // Java's word for it is no word at all, librdkafka's is one.
        if property == "ssl.endpoint.identification.algorithm" && text.trim().is_empty() {
            let data = Data::Text("none".to_owned());
            return reader.property(&path, Node { at, data });
        }
        return reader.property(&path, node);
    }
    if key(name) == key("server.port") {
        let data = Data::Text(format!("0.0.0.0:{}", text.trim()));
        if let Some(key) = reader.keys.get("management-address").cloned() {
            reader.value(&["management-address".to_owned()], Node { at, data }, &key);
        }
        return;
    }
    let hint = match name {
        name if name.starts_with("spring.datasource") => {
            ": databases belong to the postgres store, which comes with a crate of its own"
        }
        name if name.starts_with("spring.profiles") || name.starts_with("spring.config") => {
            ": one file is read, without profiles and imports"
        }
        name if name.starts_with("logging.level") => ": set the variable RUST_LOG or LOGGING_LEVEL_ROOT",
        _ => "",
    };
    reader
        .report
        .warn(Some(&origin), format!("`{name}` is not used{hint}"));
}

/// A single value, or a list as Spring writes it in one line.
fn text(data: &Data) -> Option<String> {
    match data {
        Data::Text(text) => Some(text.clone()),
        Data::List(items) => {
            let texts: Option<Vec<String>> = items.iter().map(|item| text(&item.data)).collect();
            texts.map(|texts| texts.join(","))
        }
        Data::Null | Data::Map(_) => None,
    }
}

/// Our section and librdkafka's name of a setting among Spring's `properties`.
fn property(name: &str) -> Option<(&'static str, &str)> {
    MAPS.iter().find_map(|(prefix, section)| {
        let depth = prefix.matches('.').count();
        let (end, _) = name.match_indices('.').nth(depth - 1)?;
        let property = name[end + 1..].trim_matches(|c| matches!(c, '[' | ']' | '"'));
        (key(&name[..end]) == key(prefix)).then_some((*section, property))
    })
}

/// A name as relaxed binding compares it: a variable has `_` for a dot, and either nothing or `_` for a dash.
fn key(name: &str) -> String {
    super::keys::relaxed(name).replace('.', "")
}

/// The single settings below a name.
pub(crate) fn flatten(name: String, node: Node, found: &mut Vec<Leaf>) {
    match node.data {
        Data::Map(pairs) => {
            for (below, node) in pairs {
                flatten(format!("{name}.{}", below.text), node, found);
            }
        }
        data => {
            let (at, whole) = (node.at, None);
            let node = Node { at, data };
            // As in a properties file: the elements of a list, one by one.
            let list = name.strip_suffix(']').and_then(|name| name.rsplit_once('['));
            let list = list.filter(|(_, index)| index.parse::<u32>().is_ok());
            match list.map(|(list, _)| list.to_owned()) {
                Some(list) => match found.iter_mut().find(|leaf| leaf.name == list) {
                    Some(Leaf { node: first, .. }) => {
                        let items = text(&first.data).into_iter().chain(text(&node.data));
                        first.data = Data::Text(items.collect::<Vec<_>>().join(","));
                    }
                    None => found.push(Leaf {
                        name: list,
                        node,
                        whole,
                    }),
                },
                None => found.push(Leaf { name, node, whole }),
            }
        }
    }
}
