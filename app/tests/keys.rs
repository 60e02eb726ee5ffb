//! The example file and the page about configuration know every key, and no other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use orchestrator::config::{self, Loaded, Origin, Settings, Sources};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn load(text: &str) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orchestrator.yml");
    fs::write(&file, text).unwrap();
    let sources = Sources {
        file: Some(file),
        ..Sources::default()
    };
    Settings::load(&sources, &orders::registry()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Every key that takes a value, below `orchestrator`, with its schema.
fn keys() -> BTreeMap<String, Value> {
    fn walk(above: &str, schema: &Value, found: &mut BTreeMap<String, Value>) {
        for (name, schema) in schema["properties"].as_object().unwrap() {
            let key = format!("{above}{name}");
            match schema.get("properties") {
                Some(_) => walk(&format!("{key}."), schema, found),
                // A section without keys, as that of `memory`.
                None if schema["additionalProperties"] == false => {}
                None => {
                    found.insert(key, schema.clone());
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(
        "",
        &config::schema(&orders::registry())["properties"]["orchestrator"],
        &mut found,
    );
    found
}

fn example() -> String {
    fs::read_to_string(root().join("orchestrator.example.yml")).unwrap()
}

/// With `#key: value` as `key: value`; prose has a space behind its `#`.
fn uncommented(text: &str) -> String {
    let line = |line: &str| match line.trim_start().strip_prefix('#') {
        Some(rest) if rest.starts_with(char::is_alphabetic) => line.replacen('#', "", 1),
        _ => line.to_owned(),
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

#[test]
fn the_example_file_has_every_key_and_loads() {
    let whole = uncommented(&example());
    // Of the stores only the one that is chosen is shown.
    let stores = ["rocksdb", "postgres", "mongo", "redis"];
    let chosen =
        |store: &&str| load(&whole.replace("db-strategy: rocksdb", &format!("db-strategy: {store}")));
    let written: BTreeSet<String> = stores
        .iter()
        .flat_map(|store| chosen(store).values)
        .filter(|shown| matches!(shown.origin, Origin::File { .. }))
        .map(|shown| shown.key.strip_prefix("orchestrator.").unwrap().to_owned())
        .collect();
    let missing: Vec<String> = keys()
        .into_keys()
        .filter(|key| {
            !written
                .iter()
                .any(|known| known == key || known.starts_with(&format!("{key}.")))
        })
        .collect();
    assert!(missing.is_empty(), "orchestrator.example.yml lacks {missing:?}");
}

#[test]
fn the_example_file_shows_the_defaults() {
    let default = load(
        "orchestrator: {bootstrap-servers: 'localhost:9092', group-id: orders-orchestrator, source-topic: orders, target-topic: orders.enriched, db-strategy: rocksdb}",
    );
    let shown = load(&example());
    assert_eq!(
        format!("{:#?}", shown.settings),
        format!("{:#?}", default.settings)
    );
    let of = |loaded: &Loaded| {
        loaded
            .values
            .iter()
            .map(|v| (v.key.clone(), v.value.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&shown), of(&default));
}

fn row(key: &str, schema: &Value) -> String {
    let default = match &schema["default"] {
        Value::Null => String::new(),
        Value::String(text) if text.is_empty() => String::new(),
        Value::Array(items) if items.is_empty() => String::new(),
        Value::Object(fields) if fields.is_empty() => String::new(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    };
    let about = schema["description"]
        .as_str()
        .unwrap_or_default()
        .replace('\n', " ")
        .replace('|', "\\|");
    format!("| `{key}` | {default} | {about} |\n")
}

/// `UPDATE_DOCS=1 cargo test -p orders-orchestrator --test keys` writes the table anew.
#[test]
fn the_page_about_configuration_has_every_key_and_no_other() {
    let path = root().join("docs/configuration.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("<!-- keys -->\n").unwrap();
    let (table, after) = rest.split_once("<!-- /keys -->").unwrap();
    let rows: String = keys().iter().map(|(key, schema)| row(key, schema)).collect();
    let wanted = format!("\n| Key | Default | |\n|---|---|---|\n{rows}\n");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(
            &path,
            format!("{before}<!-- keys -->\n{wanted}<!-- /keys -->{after}"),
        )
        .unwrap();
        return;
    }
    assert_eq!(
        table, wanted,
        "docs/configuration.md is out of date: UPDATE_DOCS=1 writes it anew"
    );
}

#[test]
fn every_key_says_what_it_is_for() {
    for (key, schema) in keys() {
        let about = schema["description"].as_str().unwrap_or_default();
        assert!(about.len() > 10, "{key}: {about:?}");
    }
}
