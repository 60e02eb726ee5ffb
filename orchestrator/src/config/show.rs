use std::path::Path;

use serde_json::Value;

use super::{
    disclosure::redact,
    layer::Merged,
    report::Origin,
    settings::{Properties, Settings},
    written::Written,
};
use crate::registry::{Registry, Section};

/// One key of the effective configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The key, such as `orchestrator.failure-mode`.
    pub key: String,
    /// Its value, `***` if it is a secret; null if it is not set.
    pub value: Value,
    /// Where the value comes from.
    pub origin: Origin,
}

/// Every key, by name; then the sections of the backends in use.
pub(crate) fn shown(
    written: &Written,
    settings: &Settings,
    merged: &Merged,
    registry: &Registry,
) -> Vec<Shown> {
    let mut rows = Vec::new();
    let mut all = Section::new();
    if let Ok(Value::Object(values)) = serde_json::to_value(written) {
        all = values;
    }
    // What was derived from other keys.
    all.insert("namespace".into(), settings.namespace.clone().into());
    all.insert("concurrency".into(), settings.concurrency.into());
    all.insert("tracking".into(), settings.tracking.as_str().into());
    let store = &settings.store;
    let backends = [Some(&store.backend), store.fallback.as_ref()];
    for backend in backends.into_iter().flatten() {
        if let Ok(section) = registry.shown(&backend.name, &backend.section, Path::new(&settings.data_dir)) {
            all.insert(backend.name.clone(), Value::Object(section));
        }
    }
    let backend = |name: &String| registry.schema(name).is_some();
    let mut names: Vec<String> = all.keys().cloned().collect();
    names.sort_by_key(|name| (backend(name), name.clone()));
    for name in names {
        if let Some(value) = all.remove(&name) {
            row(&[name], value, merged, &mut rows);
        }
    }
    rows
}

fn row(path: &[String], value: Value, merged: &Merged, rows: &mut Vec<Shown>) {
    let value = match value {
        Value::Object(below) if !below.is_empty() => {
            for (name, value) in below {
                let mut path = path.to_vec();
                path.push(name);
                row(&path, value, merged, rows);
            }
            return;
        }
        Value::Object(_) => Value::Null,
        Value::String(text)
            if path.last().is_some_and(|last| Properties::is_secret(last)) && !text.is_empty() =>
        {
            "***".into()
        }
        Value::String(text) => redact(&text).into(),
        other => other,
    };
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    rows.push(Shown {
        key: format!("orchestrator.{}", path.join(".")),
        value,
        origin: merged.origin(&names).unwrap_or(Origin::Default),
    });
}
