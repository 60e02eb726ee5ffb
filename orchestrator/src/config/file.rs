//! The file: keys with their places, placeholders filled in, secrets noted.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    keys::Key,
    layer::{FILE, Layer},
    nearest,
    placeholder::expand,
    read::Reader,
    report::{File, Origin, Report},
    settings::Properties,
    spring,
    yaml::{self, Data, Node},
};
use crate::registry::Registry;

/// Reads the file, if there is one.
pub(super) fn read(
    path: Option<PathBuf>,
    variables: &BTreeMap<String, String>,
    registry: &Registry,
    keys: &BTreeMap<String, Key>,
    report: &mut Report,
) -> Layer {
    let mut reader = Reader::of(Layer::new(FILE), registry, keys, report);
    let Some(path) = path else {
        return reader.layer;
    };
    let path = Arc::new(path);
    let bytes = match whole(&path) {
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
        Ok(documents) => {
            let mut documents = documents.into_iter();
            if let Some(root) = documents.next() {
                roots(&mut reader, root, variables);
            }
            if let Some(second) = documents.next() {
                let origin = reader.report.at(second.at);
                let reason = "this is a second document (behind `---`). Spring lays it over the first one, or reads it for a profile; \
                     here a file has one document: write its keys into the first one, or name its file with `--config`";
                reader.report.problem(Some(&origin), None, reason);
            }
        }
        Err((at, reason)) => {
            let origin = reader.report.at(at.unwrap_or_default());
            reader.report.broken(&origin, &reason);
        }
    }
    reader.layer
}

/// The file's bytes, if they are no more than a configuration has.
fn whole(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(yaml::LONGEST as u64 + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() > yaml::LONGEST {
        let why = format!("it has more than {} bytes: is it a configuration?", yaml::LONGEST);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
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
    let mut springs = Vec::new();
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
            spring::flatten(name.text, node, &mut springs);
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
    spring::leaves(reader, springs);
}

/// Notes what must not be shown, by the names above it and by the types of the backends.
fn secrets(node: &Node, path: &mut Vec<String>, reader: &mut Reader<'_>) {
    let named = Properties::is_secret(&path.join("."));
    let typed = matches!(path.as_slice(), [_, store, field, ..] if reader.report.is_secret(reader.registry.resolve(store).unwrap_or(store), field));
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
            Err(why) => {
                let (origin, key) = (reader.report.at(node.at), path.join("."));
                let reason = match why.is_plain() || reader.report.may_show(&key) {
                    true => why.to_string(),
                    false => "a variable that this value names is not set, and the placeholder has no default; `$${` is a plain `${`".to_owned(),
                };
                reader.report.problem(Some(&origin), Some(&key), reason);
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
