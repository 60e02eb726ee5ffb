use std::collections::BTreeMap;

use figment::value::Value;
use serde::Deserialize;

use super::{
    disclosure::quoted,
    keys::{ALIASES, Key, Kind, OBSOLETE, relaxed},
    layer::Layer,
    nearest,
    report::{Origin, Report},
    settings::Properties,
    spring::jaas,
    words::Tracking,
    written::Written,
    yaml::{Data, Name, Node, Place},
};
use crate::registry::Registry;

/// Reads one source into one layer.
pub(crate) struct Reader<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) keys: &'a BTreeMap<String, Key>,
    pub(crate) report: &'a mut Report,
    pub(crate) layer: Layer,
    /// A variable's or flag's origin; in a file, it is the place.
    pub(crate) whole: Option<Origin>,
}

impl<'a> Reader<'a> {
    /// Reads into `layer`; each value is where it stands in a file until `whole` says otherwise.
    pub(crate) fn of(
        layer: Layer,
        registry: &'a Registry,
        keys: &'a BTreeMap<String, Key>,
        report: &'a mut Report,
    ) -> Self {
        Self {
            registry,
            keys,
            report,
            layer,
            whole: None,
        }
    }

    pub(crate) fn origin(&self, at: Place) -> Origin {
        self.whole.clone().unwrap_or_else(|| self.report.at(at))
    }

    /// The keys below `orchestrator`.
    pub(crate) fn root(&mut self, pairs: Vec<(Name, Node)>) {
        let keys = self.keys;
        for (name, node) in pairs {
            self.named(&name, node, &[], keys);
        }
    }

    /// One key of a section.
    pub(crate) fn named(&mut self, name: &Name, node: Node, above: &[String], keys: &BTreeMap<String, Key>) {
        let wanted = relaxed(&name.text);
        let same = |known: &&str| relaxed(known) == wanted;
        let mut path = above.to_vec();
        if let Some(known) = keys.keys().map(String::as_str).find(same) {
            path.push(known.to_owned());
            return self.value(&path, node, &keys[known]);
        }
        if above.is_empty() {
            if let Some((_, target)) = ALIASES.iter().find(|(alias, _)| relaxed(alias) == wanted) {
                let path: Vec<String> = target.iter().map(|&part| part.to_owned()).collect();
                return match keys.get(target[0]) {
                    Some(key) if target.len() == 1 => self.value(&path, node, key),
                    _ => self.property(&path, node),
                };
            }
            if let Some((name, why)) = OBSOLETE.iter().find(|(name, _)| relaxed(name) == wanted) {
                let origin = self.origin(node.at);
                return self
                    .report
                    .warn(Some(&origin), format!("`{name}` is not used: {why}"));
            }
            if let Ok(store) = self.registry.resolve(&name.text)
                && let Some(key) = keys.get(store)
            {
                path.push(store.to_owned());
                return self.value(&path, node, key);
            }
        }
        self.unknown(name, above, keys);
    }

    fn unknown(&mut self, name: &Name, above: &[String], keys: &BTreeMap<String, Key>) {
        let aliases = ALIASES
            .iter()
            .map(|(alias, _)| *alias)
            .filter(|_| above.is_empty());
        let known = keys.keys().map(String::as_str).chain(aliases);
        let reason = match nearest(&name.text, known) {
            Some(near) => format!("there is no such key; did you mean `{near}`?"),
            None if above.is_empty() && STORES.contains(&name.text.as_str()) => format!(
                "this program was built without that store: it knows {}",
                self.registry.names().join(", ")
            ),
            None if keys.is_empty() => "there is no such key: this section has none".to_owned(),
            None => format!(
                "there is no such key here: {}",
                keys.keys().cloned().collect::<Vec<_>>().join(", ")
            ),
        };
        let origin = self.origin(name.at);
        self.report
            .problem(Some(&origin), Some(&full(above, &name.text)), reason);
    }

    /// What stands at a known key.
    pub(crate) fn value(&mut self, path: &[String], node: Node, key: &Key) {
        match (key, node.data) {
            (_, Data::Null) => {}
            (Key::Section(below), Data::Map(pairs)) => {
                for (name, node) in pairs {
                    self.named(&name, node, path, below);
                }
            }
            (Key::Properties, Data::Map(pairs)) => {
                for (name, node) in pairs {
                    let mut path = path.to_vec();
                    path.push(name.text);
                    self.property(&path, node);
                }
            }
            (Key::Leaf(kind), data) => self.leaf(path, node.at, data, *kind),
            (Key::Section(_) | Key::Properties, Data::Text(text)) if text.trim().is_empty() => {}
            (Key::Section(_) | Key::Properties, _) => {
                let origin = self.origin(node.at);
                let reason = "keys are expected below this one, each on a line of its own";
                self.report
                    .problem(Some(&origin), Some(&full(&[], &path.join("."))), reason);
            }
        }
    }

    /// A client's property. Sections are names with dots: `sasl: {mechanism: x}` is `sasl.mechanism: x`.
    pub(crate) fn property(&mut self, path: &[String], node: Node) {
        match node.data {
            Data::Text(text) if path.last().is_some_and(|name| name == "sasl.jaas.config") => {
                self.login_module(path, node.at, &text);
            }
            Data::Text(text) => self.set(path, &text.into(), node.at),
            Data::Null => {}
            Data::List(_) => self.wrong(path, node.at, "a single value is expected, not a list"),
            Data::Map(pairs) => {
                for (name, node) in pairs {
                    let mut path = path.to_vec();
                    if let Some(last) = path.last_mut() {
                        *last = format!("{last}.{}", name.text);
                    }
                    self.property(&path, node);
                }
            }
        }
    }

    /// Java's way to write user and password.
    fn login_module(&mut self, path: &[String], at: Place, text: &str) {
        let section = &path[..path.len() - 1];
        match jaas::settings(text) {
            Ok(settings) => {
                for (name, value) in settings {
                    if Properties::is_secret(name) {
                        self.report.secrets.push(value.clone());
                    }
                    self.set(&[section, &[name.to_owned()]].concat(), &value.into(), at);
                }
            }
            // Its reasons hold no value.
            Err(reason) => {
                let origin = self.origin(at);
                self.report
                    .problem(Some(&origin), Some(&full(&[], &path.join("."))), reason);
            }
        }
    }

    fn leaf(&mut self, path: &[String], at: Place, data: Data, kind: Kind) {
        let value = match (kind, data) {
            (_, Data::Null) => return,
            (Kind::List, Data::Text(text)) => Ok(list(text.split(',').map(str::to_owned))),
            (Kind::List, Data::List(items)) => texts(items).map(list),
            (Kind::Text, Data::List(items)) if path == ["bootstrap-servers"] => {
                texts(items).map(|texts| texts.join(",").into())
            }
            (Kind::Any, data) => Ok(any(data)),
            // As Spring has it, nothing between the quotes is nothing written.
            (_, Data::Text(text)) if text.trim().is_empty() => return,
            (kind, Data::Text(text)) => scalar(kind, &text),
            (_, Data::List(_)) => Err("a single value is expected, not a list".to_owned()),
            (_, Data::Map(_)) => Err("a single value is expected, not keys".to_owned()),
        };
        let value = match value {
            Ok(value) => value,
            Err(reason) => return self.wrong(path, at, &reason),
        };
        if path == ["db-strategy"] && self.store_in_the_originals_words(&value, at) {
            return;
        }
        if self.understood(path, &value, at) {
            self.set(path, &value, at);
        }
    }

    /// `db-strategy` once said what is written, not where.
    fn store_in_the_originals_words(&mut self, value: &Value, at: Place) -> bool {
        let Some(word) = value.as_str().and_then(|text| text.parse::<Tracking>().ok()) else {
            return false;
        };
        if word == Tracking::None {
            return false; // the name of a store, too: it keeps nothing, and nothing is tracked
        }
        self.set(&["tracking".to_owned()], &word.as_str().into(), at);
        let origin = self.origin(at);
        let warning = format!(
            "`db-strategy: {word}` is read as `tracking: {word}`; `db-strategy` names the store now: {}",
            self.registry.names().join(", ")
        );
        self.report.warn(Some(&origin), warning);
        true
    }

    /// Whether our own section takes this value. A backend's section is checked as a whole, when all layers are known.
    fn understood(&mut self, path: &[String], value: &Value, at: Place) -> bool {
        let one = path.iter().rev().fold(value.clone(), |inner, name| {
            figment::value::Dict::from([(name.clone(), inner)]).into()
        });
        let backend = path
            .first()
            .is_some_and(|first| self.registry.schema(first).is_some());
        match Written::deserialize(&one) {
            _ if backend => true,
            Ok(_) => true,
            Err(e) => {
                self.wrong(path, at, &e.kind.to_string());
                false
            }
        }
    }

    fn set(&mut self, path: &[String], value: &Value, at: Place) {
        let origin = self.origin(at);
        if let Some(earlier) = self.layer.set(path, value, origin.clone()) {
            let reason = format!("this is set twice, to different values; the other one: {earlier}");
            let key = full(&[], &path.join("."));
            self.report.problem(Some(&origin), Some(&key), reason);
        }
    }

    /// The reason may repeat the value.
    pub(crate) fn wrong(&mut self, path: &[String], at: Place, reason: &str) {
        let origin = self.origin(at);
        self.report
            .misfit(Some(&origin), &full(&[], &path.join(".")), reason);
    }
}

/// Stores that a program may have been built without.
const STORES: &[&str] = &["postgres", "mongo", "mongodb", "redis", "rocksdb", "memory"];

fn full(above: &[String], name: &str) -> String {
    let name = name.escape_debug();
    match above {
        [] => format!("orchestrator.{name}"),
        above => format!("orchestrator.{}.{name}", above.join(".")),
    }
}

fn list(items: impl IntoIterator<Item = String>) -> Value {
    let trimmed = items.into_iter().map(|item| item.trim().to_owned());
    trimmed.filter(|item| !item.is_empty()).collect::<Vec<_>>().into()
}

fn texts(items: Vec<Node>) -> Result<Vec<String>, String> {
    let text = |item: Node| match item.data {
        Data::Text(text) => Ok(text),
        _ => Err("a list of single values is expected".to_owned()),
    };
    items.into_iter().map(text).collect()
}

fn any(data: Data) -> Value {
    match data {
        Data::Null => Value::from(figment::value::Empty::None),
        Data::Text(text) => {
            let typed = [Kind::Integer, Kind::Number, Kind::Boolean];
            let read = typed.iter().find_map(|kind| scalar(*kind, &text).ok());
            read.unwrap_or_else(|| text.into())
        }
        Data::List(items) => items
            .into_iter()
            .map(|item| any(item.data))
            .collect::<Vec<_>>()
            .into(),
        Data::Map(pairs) => pairs
            .into_iter()
            .map(|(name, node)| (name.text, any(node.data)))
            .collect::<figment::value::Dict>()
            .into(),
    }
}

fn scalar(kind: Kind, text: &str) -> Result<Value, String> {
    let plain = text.trim();
    let shown = quoted(plain);
    match kind {
        Kind::Integer => {
            let digits = plain.replace('_', "");
            let unsigned = digits.parse::<u64>().map(Value::from);
            unsigned
                .or_else(|_| digits.parse::<i64>().map(Value::from))
                .map_err(|_| format!("{shown} is not a whole number"))
        }
        Kind::Number => match plain.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number.into()),
            _ => Err(format!("{shown} is not a number")),
        },
        Kind::Boolean => match plain.to_lowercase().as_str() {
            "true" | "yes" | "on" => Ok(true.into()),
            "false" | "no" | "off" => Ok(false.into()),
            _ => Err(format!("{shown} is neither true nor false")),
        },
        Kind::Text | Kind::List | Kind::Any => Ok(plain.into()),
    }
}
