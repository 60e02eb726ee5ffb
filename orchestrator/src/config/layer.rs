use std::collections::BTreeMap;

use figment::{
    Figment, Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use super::report::Origin;

/// The name of the file's layer.
pub(crate) const FILE: &str = "file";

/// One source of values, with the origin of each. Figment lays one over the other.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    name: &'static str,
    values: Dict,
    origins: BTreeMap<Vec<String>, Origin>,
}

impl Layer {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            values: Dict::new(),
            origins: BTreeMap::new(),
        }
    }

    /// Sets a value; if this layer has set it before, to another value, says where.
    pub(crate) fn set(&mut self, path: &[String], value: &Value, origin: Origin) -> Option<Origin> {
        let (last, above) = path.split_last()?;
        let mut at = &mut self.values;
        for name in above {
            let below = at.entry(name.clone()).or_insert_with(|| Dict::new().into());
            let Value::Dict(_, below) = below else { return None };
            at = below;
        }
        let before = at.insert(last.clone(), value.clone());
        let earlier = self.origins.insert(path.to_vec(), origin);
        if before.is_some_and(|before| before != *value) {
            earlier
        } else {
            None
        }
    }
}

impl Layer {
    fn value(&self, path: &[String]) -> Option<&Value> {
        let (first, below) = path.split_first()?;
        below
            .iter()
            .try_fold(self.values.get(first)?, |value, name| match value {
                Value::Dict(_, inner) => inner.get(name),
                _ => None,
            })
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// The layers, laid over each other: the last one wins, key by key.
#[derive(Debug)]
pub(crate) struct Merged {
    figment: Figment,
    layers: Vec<Layer>,
}

impl Merged {
    pub(crate) fn of(layers: Vec<Layer>) -> Self {
        let figment = layers
            .iter()
            .fold(Figment::new(), |below, layer| below.merge(layer));
        Self { figment, layers }
    }

    /// The winning values.
    pub(crate) fn values(&self) -> Result<serde_json::Map<String, serde_json::Value>, String> {
        self.figment.extract().map_err(|e| e.to_string())
    }

    /// What an unprefixed variable sets over the file: the path, the variable, the place in the file. Whoever looks at the
    /// file alone is misled.
    pub(crate) fn overridden(&self) -> Vec<(Vec<String>, Origin, Origin)> {
        let Some(file) = self.layers.iter().find(|layer| layer.name == FILE) else {
            return Vec::new();
        };
        let mut overridden = Vec::new();
        for (path, place) in &file.origins {
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            let Some(Origin::Variable(name)) = self.origin(&names) else {
                continue;
            };
            let set = |layer: &&Layer| layer.origins.get(path) == Some(&Origin::Variable(name.clone()));
            let is_same =
                (self.layers.iter().find(set)).is_some_and(|over| over.value(path) == file.value(path));
            if !name.starts_with("ORCHESTRATOR_") && !is_same {
                overridden.push((path.clone(), Origin::Variable(name), place.clone()));
            }
        }
        overridden
    }

    /// Where the winning value of `path` comes from. Names hold dots, so this walks instead of asking by a dotted path.
    pub(crate) fn origin(&self, path: &[&str]) -> Option<Origin> {
        let (first, below) = path.split_first()?;
        let mut value = self.figment.find_value(first).ok()?;
        for name in below {
            let Value::Dict(_, mut inner) = value else {
                return None;
            };
            value = inner.remove(*name)?;
        }
        let path: Vec<String> = path.iter().map(|&name| name.to_owned()).collect();
        let winner = self
            .figment
            .get_metadata(value.tag())
            .map(|found| found.name.clone());
        let exact = |layer: &&Layer| winner.as_deref() == Some(layer.name);
        let layer = self.layers.iter().find(exact)?;
        // A section has no origin of its own: the first of its keys has one.
        let first_below = || layer.origins.iter().find(|(known, _)| known.starts_with(&path));
        layer
            .origins
            .get(&path)
            .or_else(|| first_below().map(|(_, origin)| origin))
            .cloned()
    }
}
