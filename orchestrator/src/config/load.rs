use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use figment::value::Value;

use super::{
    check::Checks,
    environment,
    keys::{Key, known},
    layer::{Layer, Merged},
    nearest,
    placeholder::expand,
    read::Reader,
    report::{File, Origin, Problems, Report},
    settings::{Properties, Settings},
    show::{Shown, shown},
    spring,
    written::Written,
    yaml::{self, Data, Node},
};
use crate::registry::{Registry, Section};

/// Where a configuration is looked for when nobody says where.
const PLACES: &[&str] = &["./orchestrator.yml", "/etc/orchestrator/orchestrator.yml"];

/// What a configuration is made of: the file, the environment, the flags; each lays over the one before it.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file. None: the one that `ORCHESTRATOR_CONFIG` names, else `./orchestrator.yml`, else
    /// `/etc/orchestrator/orchestrator.yml`, else no file.
    pub file: Option<PathBuf>,
    /// The variables.
    pub environment: BTreeMap<String, String>,
    /// The flags: as it was written, the key that it stands for (without `orchestrator.`), the value.
    pub flags: Vec<(String, String, String)>,
}

/// A configuration that was read, with all there is to say about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the runtime uses.
    pub settings: Settings,
    /// Every key with its value, secrets hidden, and its origin.
    pub values: Vec<Shown>,
    /// What is odd, but no reason to stop.
    pub warnings: Vec<String>,
}

impl Sources {
    /// The environment of this process, without a file and flags.
    pub fn from_process() -> Self {
        let pairs = std::env::vars_os();
        let environment =
            pairs.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self {
            environment: environment.collect(),
            ..Self::default()
        }
    }

    fn file(&self) -> Option<PathBuf> {
        let named = self
            .environment
            .get("ORCHESTRATOR_CONFIG")
            .filter(|path| !path.is_empty());
        let named = self.file.clone().or_else(|| named.map(PathBuf::from));
        named.or_else(|| PLACES.iter().map(PathBuf::from).find(|path| path.exists()))
    }
}

impl std::fmt::Debug for Sources {
    /// Without values, which may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads and checks a configuration. Everything that is wrong is told at once, each with its place and reason.
    pub fn load(sources: &Sources, registry: &Registry) -> Result<Loaded, Problems> {
        let mut report = Report::default();
        let keys = known(registry);
        let file = read_file(sources, registry, &keys, &mut report);
        if !report.problems.is_empty() && report.file.as_ref().is_none_or(|file| file.broken) {
            // Whatever else would be told follows from this.
            return Err(Problems(report.problems));
        }
        let layers = vec![
            defaults(),
            file,
            environment::bare(&sources.environment, registry, &keys, &mut report),
            environment::prefixed(&sources.environment, registry, &keys, &mut report),
            environment::flags(&sources.flags, registry, &keys, &mut report),
        ];
        let merged = Merged::of(layers);
        let (written, sections) = split(&merged, registry, &mut report);
        let section = |name: &str| sections.get(name).cloned().unwrap_or_default();
        for (name, section) in &sections {
            fits(
                name,
                section,
                registry,
                Path::new(&written.data_dir),
                &merged,
                &mut report,
            );
        }
        let origin = |path: &[&str]| merged.origin(path);
        let checks = Checks {
            report: &mut report,
            origin: &origin,
            registry,
            sections: &section,
        };
        let settings = checks.settings(&written);
        if !report.problems.is_empty() {
            report
                .problems
                .sort_by_key(|problem| order(problem.origin.as_ref()));
            return Err(Problems(report.problems));
        }
        Ok(Loaded {
            values: shown(&written, &settings, &merged, registry),
            settings,
            warnings: report.warnings,
        })
    }
}

/// By place in the file, then the rest as it was found.
fn order(origin: Option<&Origin>) -> (u8, usize, usize) {
    match origin {
        Some(Origin::File { line, column, .. }) => (1, *line, *column),
        origin => (origin.map_or(9, Origin::rank), 0, 0),
    }
}

/// The built-in values, as a layer like the others.
fn defaults() -> Layer {
    fn put(layer: &mut Layer, path: &mut Vec<String>, value: Value) {
        match value {
            Value::Dict(_, below) => {
                for (name, value) in below {
                    path.push(name);
                    put(layer, path, value);
                    path.pop();
                }
            }
            Value::Empty(..) => {}
            value => {
                layer.set(path, &value, Origin::Default);
            }
        }
    }
    let mut layer = Layer::new("defaults");
    if let Ok(value) = Value::serialize(Written::default()) {
        put(&mut layer, &mut Vec::new(), value);
    }
    layer
}

fn read_file(
    sources: &Sources,
    registry: &Registry,
    keys: &BTreeMap<String, Key>,
    report: &mut Report,
) -> Layer {
    let mut reader = Reader {
        registry,
        keys,
        report,
        layer: Layer::new("file"),
        whole: None,
    };
    let Some(path) = sources.file() else {
        return reader.layer;
    };
    let path = Arc::new(path);
    let bytes = match std::fs::read(&*path) {
        Ok(bytes) => bytes,
        Err(e) => {
            let (line, column) = (0, 0);
            let origin = Origin::File { path, line, column };
            reader
                .report
                .problem(Some(&origin), None, format!("the file cannot be read: {e}"));
            return reader.layer;
        }
    };
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => {
            let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
            let line = good.iter().filter(|&&byte| byte == b'\n').count() + 1;
            let origin = Origin::File {
                path,
                line,
                column: 1,
            };
            reader
                .report
                .problem(Some(&origin), None, "this line is not UTF-8");
            return reader.layer;
        }
    };
    let parsed = yaml::read(&text);
    let broken = parsed.is_err();
    reader.report.file = Some(File { path, text, broken });
    match parsed {
        Ok(root) => roots(&mut reader, root, &sources.environment),
        Err((at, reason)) => {
            let origin = reader.report.at(at.unwrap_or_default());
            reader
                .report
                .problem(Some(&origin), None, format!("this is not YAML: {reason}"));
        }
    }
    reader.layer
}

/// The names at the top of a file.
fn roots(reader: &mut Reader<'_>, mut root: Node, variables: &BTreeMap<String, String>) {
    secrets(&root, &mut Vec::new(), reader);
    fill(&mut root, &mut Vec::new(), reader, variables);
    secrets(&root, &mut Vec::new(), reader);
    let pairs = match root.data {
        Data::Null => return,
        Data::Map(pairs) => pairs,
        Data::Text(_) | Data::List(_) => {
            let origin = reader.report.at(root.at);
            let reason = "keys are expected, the first of them `orchestrator:`";
            return reader.report.problem(Some(&origin), None, reason);
        }
    };
    for (mut name, node) in pairs {
        if name.text == "orchestrator" {
            match node.data {
                Data::Map(pairs) => reader.root(pairs),
                Data::Null => {}
                _ => {
                    let origin = reader.report.at(node.at);
                    reader.report.problem(
                        Some(&origin),
                        Some("orchestrator"),
                        "keys are expected below this one",
                    );
                }
            }
        } else if let Some(key) = name.text.strip_prefix("orchestrator.").map(str::to_owned) {
            // As in a properties file.
            name.text = key;
            reader.root(vec![(name, node)]);
        } else if spring::ROOTS.contains(&name.text.split('.').next().unwrap_or_default()) {
            spring::read(reader, &name, node);
        } else {
            let keys = reader.keys.keys().map(String::as_str);
            let reason = match nearest(&name.text, ["orchestrator"].into_iter().chain(keys)) {
                Some("orchestrator") => "there is no such key; did you mean `orchestrator`?".to_owned(),
                Some(near) => format!("this belongs below `orchestrator:`, as `{near}`"),
                None => "there is no such key: everything stands below `orchestrator:`".to_owned(),
            };
            let origin = reader.report.at(name.at);
            let key = name.text.escape_debug().to_string();
            reader.report.problem(Some(&origin), Some(&key), reason);
        }
    }
}

/// Notes what must not be shown, by the names above it and by the types of the backends.
fn secrets(node: &Node, path: &mut Vec<String>, reader: &mut Reader<'_>) {
    let named = Properties::is_secret(&path.join("."));
    let typed = matches!(path.as_slice(), [_, store, field, ..] if reader.registry.is_secret(store, field));
    let mut note = |text: &str| {
        if (named || typed) && !text.trim().is_empty() {
            reader.report.secrets.extend(
                text.lines()
                    .map(str::trim)
                    .filter(|line| !line.is_empty())
                    .map(str::to_owned),
            );
        }
    };
    match &node.data {
        Data::Null => {}
        Data::Text(text) => note(text),
        Data::List(items) => items.iter().for_each(|item| secrets(item, path, reader)),
        Data::Map(pairs) => {
            for (name, node) in pairs {
                if named || typed {
                    reader.report.secrets.push(name.text.clone());
                }
                path.push(name.text.clone());
                secrets(node, path, reader);
                path.pop();
            }
        }
    }
}

/// Expands the placeholders of every value.
fn fill(
    node: &mut Node,
    path: &mut Vec<String>,
    reader: &mut Reader<'_>,
    variables: &BTreeMap<String, String>,
) {
    match &mut node.data {
        Data::Null => {}
        Data::Text(text) if !text.contains("${") => {}
        Data::Text(text) => match expand(text, &|name| variables.get(name).cloned()) {
            Ok(expanded) => *text = expanded,
            Err(reason) => {
                let origin = reader.report.at(node.at);
                reader
                    .report
                    .problem(Some(&origin), Some(&path.join(".")), reason);
                node.data = Data::Null;
            }
        },
        Data::List(items) => items
            .iter_mut()
            .for_each(|item| fill(item, path, reader, variables)),
        Data::Map(pairs) => {
            for (name, node) in pairs {
                path.push(name.text.clone());
                fill(node, path, reader, variables);
                path.pop();
            }
        }
    }
}

/// Our own keys, and the backends' sections.
fn split(merged: &Merged, registry: &Registry, report: &mut Report) -> (Written, BTreeMap<String, Section>) {
    let mut values = match merged.values() {
        Ok(values) => values,
        Err(e) => {
            report.problem(None, None, e);
            return (Written::default(), BTreeMap::new());
        }
    };
    let mut sections = BTreeMap::new();
    for (name, _) in registry.schemas() {
        if let Some(serde_json::Value::Object(section)) = values.remove(name) {
            sections.insert(name.to_owned(), section);
        }
    }
    let written = serde_json::from_value(serde_json::Value::Object(values)).unwrap_or_else(|e| {
        report.problem(None, None, e.to_string());
        Written::default()
    });
    (written, sections)
}

/// Whether a backend understands its section; if not, the key that it stumbles over.
fn fits(
    name: &str,
    section: &Section,
    registry: &Registry,
    data_dir: &Path,
    merged: &Merged,
    report: &mut Report,
) {
    let Err(e) = registry.shown(name, section, data_dir) else {
        return;
    };
    let reason = e.to_string();
    // The key without which something else is wrong, or nothing.
    let culprit = section.keys().find(|key| {
        let mut rest = section.clone();
        rest.remove(*key);
        let without = registry.shown(name, &rest, data_dir).map_err(|e| e.to_string());
        without.is_ok() || without.is_err_and(|other| other != reason && other.contains("missing field"))
    });
    let (path, key) = match culprit {
        Some(key) => (vec![name, key], format!("orchestrator.{name}.{key}")),
        None => (vec![name], format!("orchestrator.{name}")),
    };
    let secret = culprit.is_some_and(|key| registry.is_secret(name, key));
    let reason = if secret {
        "this value does not fit here".to_owned()
    } else {
        super::report::hide_userinfo(&reason)
    };
    report.problem(merged.origin(&path).as_ref(), Some(&key), reason);
}
