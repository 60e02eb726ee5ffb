use std::collections::BTreeMap;

use super::{
    disclosure::quoted,
    keys::{BARE, Key, paths, relaxed, variable},
    layer::Layer,
    nearest,
    read::Reader,
    report::{Origin, Report},
    yaml::{Data, Name, Node, Place},
};
use crate::registry::Registry;

const PREFIX: &str = "ORCHESTRATOR_";
const FROM_FILE: &str = "_FILE";
/// Whether Kubernetes made this variable for a service of its own, which may be called `orchestrator` too:
/// `ORCHESTRATOR_PORT=tcp://…`, `ORCHESTRATOR_SERVICE_HOST`, `ORCHESTRATOR_PORT_8080_TCP_ADDR`. No key of ours looks so.
pub(crate) fn is_kubernetes(variable: &str, value: &str) -> bool {
    const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
    if variable.ends_with("_SERVICE_HOST")
        || variable.ends_with("_SERVICE_PORT")
        || variable.contains("_SERVICE_PORT_")
    {
        return true;
    }
    let is_address = |text: &str| {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_uppercase());
        scheme.is_some_and(|scheme| PROTOCOLS.contains(&scheme.as_str()))
    };
    if variable.ends_with("_PORT") && is_address(value) {
        return true;
    }
    let Some((_, port)) = variable.rsplit_once("_PORT_") else {
        return false;
    };
    let mut parts = port.split('_');
    let number = parts.next().is_some_and(|number| number.parse::<u16>().is_ok());
    let protocol = parts.next().is_some_and(|protocol| PROTOCOLS.contains(&protocol));
    let what = parts
        .next()
        .is_none_or(|what| matches!(what, "PROTO" | "PORT" | "ADDR"));
    number && protocol && what && parts.next().is_none()
}

/// The original's database, as keys of the section `postgres`.
const JDBC: &[(&str, &str)] = &[
    ("JDBC_URL", "url"),
    ("JDBC_USER", "username"),
    ("JDBC_PASSWORD", "password"),
];

/// The original's variables without a prefix.
pub(crate) fn bare(
    variables: &BTreeMap<String, String>,
    registry: &Registry,
    keys: &BTreeMap<String, Key>,
    report: &mut Report,
) -> Layer {
    let mut reader = Reader::of(Layer::new("the original's variables"), registry, keys, report);
    for (variable, key) in BARE {
        if let Some(value) = variables.get(*variable) {
            reader.whole = Some(Origin::Variable((*variable).to_owned()));
            reader.root(vec![(name(key), text(value))]);
        }
    }
    // The postgres store reads the `jdbc:` form itself.
    let knows = keys.contains_key("postgres");
    for (variable, key) in JDBC {
        let Some(value) = variables.get(*variable).filter(|value| !value.is_empty()) else {
            continue;
        };
        let origin = Origin::Variable((*variable).to_owned());
        if !knows {
            let warning = "JDBC settings belong to the postgres store, which this program was built without; they are not used";
            reader.report.warn(Some(&origin), warning);
            break;
        }
        reader.whole = Some(origin);
        let (at, data) = (Place::default(), Data::Map(vec![(name(key), text(value))]));
        reader.root(vec![(name("postgres"), Node { at, data })]);
    }
    reader.layer
}

/// The original named no store: whoever gave it a database meant PostgreSQL. Anything that names a store lies over this.
pub(crate) fn inferred(
    variables: &BTreeMap<String, String>,
    registry: &Registry,
    keys: &BTreeMap<String, Key>,
    report: &mut Report,
) -> Layer {
    let mut reader = Reader::of(
        Layer::new("what the original's variables mean"),
        registry,
        keys,
        report,
    );
    reader.whole = Some(Origin::Variable("JDBC_URL".to_owned()));
    let given = variables.get("JDBC_URL").is_some_and(|url| !url.is_empty());
    if given && keys.contains_key("postgres") {
        reader.root(vec![(name("db-strategy"), text("postgres"))]);
    }
    reader.layer
}

/// `ORCHESTRATOR_…`: the documented form, Spring's relaxed one, and for each the twin `…_FILE`.
pub(crate) fn prefixed(
    variables: &BTreeMap<String, String>,
    registry: &Registry,
    keys: &BTreeMap<String, Key>,
    report: &mut Report,
) -> Layer {
    let paths = paths(keys);
    let mut reader = Reader::of(Layer::new("variables"), registry, keys, report);
    for (variable_name, value) in variables {
        let Some(rest) = variable_name.strip_prefix(PREFIX) else {
            continue;
        };
        if matches!(rest, "CONFIG" | "CONFIG_FILE") || is_kubernetes(variable_name, value) {
            continue;
        }
        let origin = Origin::Variable(variable_name.clone());
        reader.whole = Some(origin.clone());
        // No setting of ours or of librdkafka ends so.
        let plain = rest.strip_suffix(FROM_FILE);
        let Some(plain) = plain.filter(|plain| path_of(plain, &paths).is_some()) else {
            if !put(&mut reader, rest, value, &paths) {
                unknown(reader.report, &origin, variable_name, &paths);
            }
            continue;
        };
        match std::fs::read_to_string(value) {
            Ok(content) => {
                put(&mut reader, plain, content.trim_end_matches(['\r', '\n']), &paths);
            }
            Err(e) => {
                // Where a secret is expected, somebody may have written it instead of the name of its file.
                let key = path_of(plain, &paths).map(|(path, _)| format!("orchestrator.{}", path.join(".")));
                let shown = key.is_some_and(|key| reader.report.may_show(&key));
                let file = if shown {
                    quoted(value)
                } else {
                    "that it names".to_owned()
                };
                let reason = format!("the file {file} cannot be read: {e}");
                reader.report.problem(Some(&origin), None, reason);
            }
        }
    }
    reader.layer
}

/// Values of `--set key=value` and of the flags that stand for a key.
pub(crate) fn flags(
    flags: &[(String, String, String)],
    registry: &Registry,
    keys: &BTreeMap<String, Key>,
    report: &mut Report,
) -> Layer {
    let mut reader = Reader::of(Layer::new("flags"), registry, keys, report);
    for (flag, key, value) in flags {
        reader.whole = Some(Origin::Flag(flag.clone()));
        let key = key.strip_prefix("orchestrator.").unwrap_or(key);
        let mut parts = key.splitn(3, '.').map(str::to_owned).collect::<Vec<_>>();
        // `kafka.properties.` and the rest is one name, with its dots.
        let node = match parts.pop() {
            Some(last) => parts
                .into_iter()
                .rev()
                .fold((name(&last), text(value)), |inner, above| {
                    let (at, data) = (Place::default(), Data::Map(vec![inner]));
                    (name(&above), Node { at, data })
                }),
            None => continue,
        };
        reader.root(vec![node]);
    }
    reader.layer
}

fn put(reader: &mut Reader<'_>, rest: &str, value: &str, paths: &[(Vec<String>, Key)]) -> bool {
    let Some((path, key)) = path_of(rest, paths) else {
        return false;
    };
    match key {
        Key::Properties => reader.property(&path, text(value)),
        key => reader.value(&path, text(value), &key),
    }
    true
}

fn path_of(rest: &str, paths: &[(Vec<String>, Key)]) -> Option<(Vec<String>, Key)> {
    let wanted = relaxed(rest);
    let exact = |(path, key): &&(Vec<String>, Key)| {
        !matches!(key, Key::Properties) && relaxed(&path.concat()) == wanted
    };
    if let Some((path, key)) = paths.iter().find(exact) {
        return Some((path.clone(), key.clone()));
    }
    paths.iter().find_map(|(path, key)| {
        let prefix = format!("{}_", path.join("_").to_uppercase().replace('-', "_"));
        let property = rest.strip_prefix(&prefix).filter(|property| !property.is_empty());
        let property = property.filter(|_| matches!(key, Key::Properties))?;
        let mut path = path.clone();
        path.push(property.to_lowercase().replace('_', "."));
        Some((path, Key::Properties))
    })
}

fn unknown(report: &mut Report, origin: &Origin, name: &str, paths: &[(Vec<String>, Key)]) {
    let known: Vec<String> = paths.iter().map(|(path, _)| variable(path)).collect();
    let mut warning = format!("no setting has the variable {name}");
    if let Some(near) = nearest(name, known.iter().map(String::as_str)) {
        warning += &format!("; did you mean {near}?");
    }
    report.warn(Some(origin), warning);
}

fn name(text: &str) -> Name {
    let (text, at) = (text.to_owned(), Place::default());
    Name { text, at }
}

fn text(value: &str) -> Node {
    let (at, data) = (Place::default(), Data::Text(value.to_owned()));
    Node { at, data }
}
