//! Which backends this program can store to, by name.

use std::{collections::BTreeMap, fmt, future::Future, path::Path, pin::Pin, sync::Arc};

use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tracker_api::{Error, ErrorKind, MemoryTracker, Namespace, Result};

use crate::config::{nearest, quoted, relaxed};

/// A tracker, as a backend's `open` answers it.
pub type Tracker = tracker_api::DynTracker;

/// A backend's section of the configuration, as it was written.
pub type Section = Map<String, Value>;

type Opening<'a> = Pin<Box<dyn Future<Output = Result<Tracker>> + Send + 'a>>;

/// The backends of a program: a value, built in one function, without any global.
///
/// ```
/// # use orchestrator::registry::{Registry, Tracker};
/// # #[derive(serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
/// # struct Config {}
/// # mod tracker_own {
/// #     pub async fn open(_: super::Config, _: &tracker_api::Namespace) -> tracker_api::Result<super::Tracker> {
/// #         Ok(std::sync::Arc::new(tracker_api::MemoryTracker::default()))
/// #     }
/// # }
/// # fn main() {
/// let registry = Registry::default()        // knows `memory` and `none`
///     .with("own", tracker_own::open);      // async fn(Config, &Namespace) -> Result<Arc<dyn FailureTracker>>
/// assert_eq!(registry.names(), ["memory", "own", "none"]);
/// # }
/// ```
#[derive(Clone)]
pub struct Registry {
    backends: BTreeMap<String, Arc<dyn Open>>,
    aliases: BTreeMap<String, String>,
    wraps: Vec<Arc<dyn Fn(Tracker) -> Tracker + Send + Sync>>,
}

/// A backend's `open`: an async function of its own configuration and the namespace.
pub trait OpenFn<'a, C>: Fn(C, &'a Namespace) -> Self::Future {
    /// What it returns.
    type Future: Future<Output = Result<Tracker>> + Send + 'a;
}

impl<'a, C, F, Fut> OpenFn<'a, C> for F
where
    F: Fn(C, &'a Namespace) -> Fut,
    Fut: Future<Output = Result<Tracker>> + Send + 'a,
{
    type Future = Fut;
}

/// A backend without its types.
trait Open: Send + Sync {
    fn schema(&self) -> Schema;
    fn references(&self) -> Schema;
    fn shown(&self, section: Section) -> Result<Value>;
    fn open<'a>(&self, section: Section, namespace: &'a Namespace) -> Result<Opening<'a>>;
}

struct Typed<C, F>(F, std::marker::PhantomData<fn() -> C>);

impl<C, F> Open for Typed<C, F>
where
    C: DeserializeOwned + Serialize + JsonSchema + Send + 'static,
    F: for<'a> OpenFn<'a, C> + Send + Sync,
{
    fn schema(&self) -> Schema {
        SchemaSettings::draft2020_12()
            .with(|settings| settings.inline_subschemas = true)
            .into_generator()
            .into_root_schema_for::<C>()
    }

    /// Each type where it is named, not where it is used.
    fn references(&self) -> Schema {
        SchemaSettings::draft2020_12()
            .into_generator()
            .into_root_schema_for::<C>()
    }

    fn shown(&self, section: Section) -> Result<Value> {
        serde_json::to_value(read::<C>(section)?).map_err(|e| Error::new(ErrorKind::Config, e.to_string()))
    }

    fn open<'a>(&self, section: Section, namespace: &'a Namespace) -> Result<Opening<'a>> {
        let config = read::<C>(section)?;
        Ok(Box::pin((self.0)(config, namespace)))
    }
}

fn read<C: DeserializeOwned>(section: Section) -> Result<C> {
    serde_json::from_value(Value::Object(section)).map_err(|e| Error::new(ErrorKind::Config, e.to_string()))
}

impl Default for Registry {
    /// Knows `memory`, which forgets when the process ends, and `none`, which keeps nothing.
    fn default() -> Self {
        let empty = Self {
            backends: BTreeMap::new(),
            aliases: BTreeMap::new(),
            wraps: Vec::new(),
        };
        empty.with("memory", memory)
    }
}

impl Registry {
    /// The name that keeps nothing.
    pub const NONE: &'static str = "none";

    /// Adds a backend under `name`, which is also the name of its section. An earlier one of this name is replaced.
    #[must_use]
    pub fn with<C, F>(mut self, name: &str, open: F) -> Self
    where
        C: DeserializeOwned + Serialize + JsonSchema + Send + 'static,
        F: for<'a> OpenFn<'a, C> + Send + Sync + 'static,
    {
        let typed = Typed(open, std::marker::PhantomData);
        self.backends.insert(name.to_owned(), Arc::new(typed));
        self
    }

    /// Another name for a backend.
    #[must_use]
    pub fn alias(mut self, alias: &str, name: &str) -> Self {
        self.aliases.insert(alias.to_owned(), name.to_owned());
        self
    }

    /// Puts `wrap` around every tracker that is opened; the last one added is the outermost.
    #[must_use]
    pub fn wrap(mut self, wrap: impl Fn(Tracker) -> Tracker + Send + Sync + 'static) -> Self {
        self.wraps.push(Arc::new(wrap));
        self
    }

    /// Every name that may be configured, aliases last.
    pub fn names(&self) -> Vec<&str> {
        let backends = self.backends.keys().map(String::as_str);
        let aliases = self.aliases.keys().map(String::as_str);
        backends.chain([Self::NONE]).chain(aliases).collect()
    }

    /// The backend's own name for what a configuration says, in any case; or why there is none.
    pub fn resolve(&self, name: &str) -> Result<&str> {
        let wanted = name.trim().to_lowercase();
        let wanted = self.aliases.get(&wanted).unwrap_or(&wanted);
        if wanted == Self::NONE {
            return Ok(Self::NONE);
        }
        if let Some((known, _)) = self.backends.get_key_value(wanted) {
            return Ok(known);
        }
        let names = self.names();
        let mut message = format!(
            "no store is called {}: this program knows {}",
            quoted(name),
            names.join(", ")
        );
        if let Some(near) = nearest(wanted, names) {
            message += &format!("; did you mean `{near}`?");
        }
        Err(Error::new(ErrorKind::Config, message))
    }

    /// The JSON Schema of a backend's section; none for `none` and for names that are not known.
    pub fn schema(&self, name: &str) -> Option<Schema> {
        self.backends.get(name).map(|backend| backend.schema())
    }

    /// Each backend's name and the JSON Schema of its section.
    pub fn schemas(&self) -> impl Iterator<Item = (&str, Schema)> {
        self.backends
            .iter()
            .map(|(name, backend)| (name.as_str(), backend.schema()))
    }

    /// Whether a field of a backend's section is a secret: whether its type is.
    pub(crate) fn is_secret(&self, name: &str, field: &str) -> bool {
        let Some(backend) = self.resolve(name).ok().and_then(|name| self.backends.get(name)) else {
            return false;
        };
        let schema = backend.references().to_value();
        let properties = schema.get("properties").and_then(Value::as_object);
        let same = |known: &str| relaxed(known) == relaxed(field);
        let mut property = properties.into_iter().flatten().filter(|(known, _)| same(known));
        property.any(|(_, property)| property.to_string().contains("#/$defs/Secret"))
    }

    /// A backend's section with its defaults filled in and its secrets hidden; or what is wrong with it.
    pub fn shown(&self, name: &str, section: &Section, data_dir: &Path) -> Result<Section> {
        match self.backends.get(self.resolve(name)?) {
            None => Ok(Section::new()),
            Some(backend) => match backend.shown(placed(&**backend, name, section, data_dir))? {
                Value::Object(shown) => Ok(shown),
                _ => Ok(Section::new()),
            },
        }
    }

    /// Whether this backend's store belongs to one process.
    pub(crate) fn is_embedded(&self, name: &str) -> bool {
        let name = self.resolve(name).unwrap_or(name);
        name == "memory"
            || self
                .backends
                .get(name)
                .is_some_and(|backend| is_embedded(&**backend))
    }

    /// Opens the store. `None` for `none`. A section without a `path`, of a backend that has one, gets `data_dir/name`.
    pub async fn open(
        &self,
        name: &str,
        section: &Section,
        namespace: &Namespace,
        data_dir: &Path,
    ) -> Result<Option<Tracker>> {
        let name = self.resolve(name)?;
        let Some(backend) = self.backends.get(name) else {
            return Ok(None);
        };
        let section = placed(&**backend, name, section, data_dir);
        let opening = backend.open(section, namespace).map_err(|e| {
            Error::new(
                e.kind(),
                format!("the section `orchestrator.{name}` is wrong: {e}"),
            )
            .with_source(e)
        })?;
        let tracker = opening.await?;
        Ok(Some(self.wraps.iter().fold(tracker, |inner, wrap| wrap(inner))))
    }
}

/// `memory` has nothing to configure.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Memory {}

async fn memory(_: Memory, _: &Namespace) -> Result<Tracker> {
    Ok(Arc::new(MemoryTracker::default()))
}

/// Whether a backend keeps its store in a place of its own, which one process holds.
fn is_embedded(backend: &dyn Open) -> bool {
    let schema = backend.schema();
    schema
        .get("properties")
        .and_then(|properties| properties.get("path"))
        .is_some()
}

/// The section, with the default place of an embedded store.
fn placed(backend: &dyn Open, name: &str, section: &Section, data_dir: &Path) -> Section {
    let mut section = section.clone();
    if is_embedded(backend) && !section.contains_key("path") {
        let path = data_dir.join(name).to_string_lossy().into_owned();
        section.insert("path".into(), Value::String(path));
    }
    section
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use tracker_api::{Error, ErrorKind, Namespace, Result, Secret};

    use super::{Registry, Section, Tracker};

    #[derive(Debug, Deserialize, Serialize, JsonSchema)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Config {
        path: String,
        #[serde(default)]
        password: Secret,
    }

    async fn open(config: Config, namespace: &Namespace) -> Result<Tracker> {
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("{} of {}", config.path, namespace.name),
        ))
    }

    fn registry() -> Registry {
        Registry::default()
            .with("rocksdb", open)
            .alias("rocks", "rocksdb")
    }

    fn section(text: &str) -> Section {
        serde_json::from_str(text).unwrap()
    }

    #[tokio::test]
    async fn an_embedded_store_gets_its_place_in_the_data_directory() {
        let namespace = Namespace {
            name: "orders".into(),
            cluster: None,
        };
        let place = async |name: &str, text: &str| {
            let (registry, section) = (registry(), section(text));
            let opened = registry.open(name, &section, &namespace, Path::new("/data"));
            opened.await.unwrap_err().to_string()
        };
        assert_eq!(place("rocksdb", "{}").await, "/data/rocksdb of orders");
        assert_eq!(place("Rocks", "{}").await, "/data/rocksdb of orders");
        assert_eq!(place("rocksdb", r#"{"path":"/fast"}"#).await, "/fast of orders");
        assert!(
            place("rocksdb", r#"{"paht":"/fast"}"#)
                .await
                .contains("orchestrator.rocksdb")
        );
    }

    #[tokio::test]
    async fn none_opens_nothing() {
        let namespace = Namespace {
            name: String::new(),
            cluster: None,
        };
        let (registry, section) = (registry(), Section::new());
        let opened = registry.open("NONE", &section, &namespace, Path::new("."));
        assert!(opened.await.unwrap().is_none());
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones_and_the_nearest() {
        let error = registry().resolve("rockdb").unwrap_err().to_string();
        assert!(error.contains("rocksdb, none"), "{error}");
        assert!(error.ends_with("did you mean `rocksdb`?"), "{error}");
    }

    #[test]
    fn a_shown_section_hides_its_secrets() {
        let shown = registry()
            .shown("rocksdb", &section(r#"{"password":"hunter2"}"#), Path::new("d"))
            .unwrap();
        assert_eq!(shown["password"], "***");
        assert_eq!(shown["path"], "d/rocksdb");
    }
}
