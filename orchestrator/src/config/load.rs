use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use figment::value::Value;

use super::{
    check::Checks,
    disclosure::Disclosure,
    environment, file,
    keys::known,
    layer::{Layer, Merged},
    report::{Origin, Problems, Report},
    settings::Settings,
    show::{Shown, shown},
    spring,
    written::Written,
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
    sections: Sections,
}

/// The sections of all backends, the one that is not configured included. May hold secrets.
#[derive(Clone, Default)]
struct Sections(BTreeMap<String, Section>);

impl std::fmt::Debug for Sections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Loaded {
    /// The section of a backend, by the backend's own name; empty if there is none.
    pub(crate) fn section(&self, name: &str) -> Section {
        self.sections.0.get(name).cloned().unwrap_or_default()
    }
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
        let keys = known(registry);
        let mut report = Report::new(Disclosure::of(&keys, registry));
        let file = file::read(sources.file(), &sources.environment, registry, &keys, &mut report);
        if !report.problems.is_empty() && report.file.as_ref().is_none_or(|file| file.broken) {
            // Whatever else would be told follows from this.
            return Err(report.into());
        }
        let layers = vec![
            defaults(),
            environment::inferred(&sources.environment, registry, &keys, &mut report),
            file,
            environment::bare(&sources.environment, registry, &keys, &mut report),
            spring::variables(&sources.environment, registry, &keys, &mut report),
            environment::prefixed(&sources.environment, registry, &keys, &mut report),
            environment::flags(&sources.flags, registry, &keys, &mut report),
        ];
        let merged = Merged::of(layers);
        for (path, variable, file) in merged.overridden() {
            let key = path.join(".");
            report.warn(
                Some(&variable),
                format!("`orchestrator.{key}` of {file} does not count: this variable lies over the file"),
            );
        }
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
            return Err(report.into());
        }
        Ok(Loaded {
            values: shown(&written, &settings, &merged, registry),
            settings,
            warnings: report.warnings,
            sections: Sections(sections),
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
    match culprit {
        Some(_) => report.misfit(merged.origin(&path).as_ref(), &key, reason),
        None => {
            let may_show = |name: &String| report.may_show(&format!("{key}.{name}"));
            let reason = match reason.contains("missing field") || section.keys().all(may_show) {
                true => reason,
                false => "several values do not fit here".to_owned(),
            };
            report.problem(merged.origin(&path).as_ref(), Some(&key), reason);
        }
    }
}
