//! `SPRING_KAFKA_…`: what Spring Boot would have read from the environment, over its file.

use std::collections::BTreeMap;

use super::{GUARDED, Leaf, MAPS, SAME, key, leaves, ssl};
use crate::{
    config::{
        environment::is_kubernetes,
        keys::Key,
        layer::Layer,
        nearest,
        read::Reader,
        report::{Origin, Report},
        yaml::{Data, Node, Place},
    },
    registry::Registry,
};

/// Reads them into a layer of their own.
pub(crate) fn variables(
    variables: &BTreeMap<String, String>,
    registry: &Registry,
    keys: &BTreeMap<String, Key>,
    report: &mut Report,
) -> Layer {
    let mut reader = Reader::of(Layer::new("Spring's variables"), registry, keys, report);
    let mut found = Vec::new();
    // Elements of lists, by name and place.
    let mut lists: BTreeMap<String, BTreeMap<u32, (String, Origin)>> = BTreeMap::new();
    for (variable, value) in variables {
        let ours = variable.starts_with("SPRING_") || variable == "SERVER_PORT";
        if !ours || value.trim().is_empty() || is_kubernetes(variable, value) {
            continue;
        }
        let origin = Origin::Variable(variable.clone());
        if variable == "SERVER_PORT" {
            // It may be meant for something else: every other name begins with Spring's.
            let warning = "this is read as `orchestrator.management-address`, as Spring's `server.port`";
            reader.report.warn(Some(&origin), warning);
        }
        if let Some(name) = name_of(variable) {
            found.push(leaf(name, value, origin));
        } else if let Some((name, index)) = element(variable) {
            lists
                .entry(name)
                .or_default()
                .insert(index, (value.clone(), origin));
        } else {
            unknown(reader.report, &origin, variable);
        }
    }
    for (name, elements) in lists {
        let texts: Vec<&str> = elements.values().map(|(text, _)| text.trim()).collect();
        if let Some((_, origin)) = elements.values().next() {
            found.push(leaf(name, &texts.join(","), origin.clone()));
        }
    }
    leaves(&mut reader, found);
    reader.layer
}

fn leaf(name: String, value: &str, origin: Origin) -> Leaf {
    let (at, data) = (Place::default(), Data::Text(value.to_owned()));
    Leaf {
        name,
        node: Node { at, data },
        whole: Some(origin),
    }
}

/// Spring's name for a variable: `SPRING_KAFKA_BOOTSTRAP_SERVERS` and `SPRING_KAFKA_BOOTSTRAPSERVERS` are both
/// `spring.kafka.bootstrap-servers`.
fn name_of(variable: &str) -> Option<String> {
    let wanted = key(variable);
    if let Some(name) = known().find(|name| key(name) == wanted) {
        return Some(name);
    }
    MAPS.iter().find_map(|(prefix, _)| {
        let start = prefix.to_uppercase().replace('.', "_");
        let rest = variable.strip_prefix(&start).filter(|rest| !rest.is_empty())?;
        Some(format!("{prefix}{}", rest.to_lowercase().replace('_', ".")))
    })
}

/// `…_0`, `…_0_`: an element of a list.
fn element(variable: &str) -> Option<(String, u32)> {
    let (list, index) = variable.trim_end_matches('_').rsplit_once('_')?;
    Some((name_of(list)?, index.parse().ok()?))
}

/// The names of single settings.
fn known() -> impl Iterator<Item = String> {
    let single = SAME.iter().map(|(name, _)| *name);
    let guarded = GUARDED.iter().map(|(name, _)| *name);
    single
        .chain(guarded)
        .chain(["server.port"])
        .map(str::to_owned)
        .chain(ssl::known())
}

fn unknown(report: &mut Report, origin: &Origin, variable: &str) {
    let hint = match variable {
        "SPRING_APPLICATION_JSON" => {
            let reason = "Spring would lay this over its file; it is not read here: write its keys into the file, or as `SPRING_KAFKA_…` and `ORCHESTRATOR_…`";
            return report.problem(Some(origin), None, reason);
        }
        "SPRING_PROFILES_ACTIVE" | "SPRING_PROFILES_INCLUDE" => {
            ": there are no profiles; what a profile's file holds belongs into the one that is read"
                .to_owned()
        }
        name if name.starts_with("SPRING_CONFIG_") => {
            ": name the file with `--config` or ORCHESTRATOR_CONFIG".to_owned()
        }
        name if name.starts_with("SPRING_KAFKA_") => {
            let known: Vec<String> = known()
                .map(|name| name.to_uppercase().replace(['.', '-'], "_"))
                .collect();
            match nearest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("; did you mean {near}?"),
                None => ": set librdkafka's settings with SPRING_KAFKA_PROPERTIES_… or ORCHESTRATOR_KAFKA_PROPERTIES_…".to_owned(),
            }
        }
        _ => String::new(),
    };
    report.warn(
        Some(origin),
        format!("this variable of Spring's is not used{hint}"),
    );
}
