//! A secret under every key, known, misspelt or unknown, in a file, a variable and a flag: it is never said again.

use super::*;
use crate::config::disclosure::Disclosure;

const CANARY: &str = "c4nary5ecret";

/// Forms in which a secret stands in a value that may itself be shown.
const HIDDEN: [&str; 4] = [
    "postgres://ada:c4nary5ecret@db/orders",
    "jdbc:postgresql://db/orders?user=ada&pw=c4nary5ecret",
    "ada:c4nary5ecret@db:9092",
    "host=db password=c4nary5ecret",
];

/// Everything that a command or a start would say.
fn said(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    match load_with(file, variables, flags) {
        Ok(loaded) => {
            let clients = &loaded.settings.kafka;
            let clients = [&clients.common, &clients.consumer, &clients.producer];
            format!("{:?} {:?} {clients:?}", loaded.values, loaded.warnings)
        }
        Err(problems) => format!("{problems} {problems:?}"),
    }
}

/// `value` at `path`, in the least file, in block and in flow style.
fn files(path: &[String], value: &str) -> [String; 2] {
    let (last, above) = path.split_last().unwrap();
    let least: String = LEAST
        .lines()
        .filter(|line| !above.is_empty() || !line.trim().starts_with(&format!("{last}:")))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut block = least.clone();
    for (depth, name) in above.iter().enumerate() {
        block += &format!("{}{name}:\n", "  ".repeat(depth + 1));
    }
    block += &format!("{}{last}: {value}\n", "  ".repeat(path.len()));
    let flow = above
        .iter()
        .rev()
        .fold(format!("{last}: {value}"), |inner, name| {
            format!("{name}: {{{inner}}}")
        });
    [block, format!("{least}  {flow}\n")]
}

fn quiet(what: &str, told: &str) {
    assert!(!told.contains(CANARY), "{what}\n{told}");
}

/// Every key, with examples of librdkafka's, and the paths of keys that do not exist.
fn keys() -> Vec<Vec<String>> {
    let registry = registry();
    let mut all = Vec::new();
    for (path, key) in paths(&known(&registry)) {
        if matches!(key, super::super::keys::Key::Properties) {
            for name in [
                "client.id",
                "linger.ms",
                "sasl.username",
                "sasl.password",
                "no.such",
                "dsn",
            ] {
                let mut path = path.clone();
                path.push(name.to_owned());
                all.push(path);
            }
        }
        let mut misspelt = path.clone();
        if let Some(last) = misspelt.last_mut() {
            last.pop();
            last.push('q');
        }
        all.push(misspelt);
        all.push(path);
    }
    let unknown = [
        "pass",
        "auth",
        "apikey",
        "dsn",
        "jdbc-url",
        "p",
        "colour",
        "postgres.pass",
        "rocksdb.secret",
    ];
    all.extend(unknown.map(|name| name.split('.').map(str::to_owned).collect()));
    all
}

#[test]
fn a_secret_under_any_key_of_a_file_is_never_said() {
    let registry = registry();
    let disclosure = Disclosure::of(&known(&registry), &registry);
    let mut looked_at = 0;
    for (number, path) in keys().into_iter().enumerate() {
        let may_show = disclosure.may_show(&path.join("."));
        let hidden = HIDDEN.iter().cycle().skip(number).take(2);
        let values: Vec<&str> = if may_show {
            hidden.copied().collect()
        } else {
            vec![CANARY]
        };
        for value in values {
            let mut shapes = vec![
                format!("'{value}'"),
                format!("['{value}', x]"),
                format!("{{x: '{value}'}}"),
                format!("'{value}' # {CANARY}"),
                format!("!{CANARY} x"),
            ];
            if !may_show {
                let more = [
                    format!("[{CANARY}"),
                    format!("\"{CANARY}"),
                    format!("${{{CANARY}}}"),
                ];
                shapes.extend(more);
            }
            for (style, shape) in shapes.iter().enumerate() {
                // Block and flow style take turns: each file costs librdkafka's look at it.
                let file = &files(&path, shape)[(number + style) % 2];
                quiet(file, &said(file, &[], &[]));
                looked_at += 1;
            }
        }
    }
    assert!(looked_at > 1_000, "{looked_at}");
}

#[test]
fn a_secret_in_any_variable_or_flag_is_never_said() {
    let registry = registry();
    let disclosure = Disclosure::of(&known(&registry), &registry);
    let bare = BARE
        .iter()
        .map(|(name, key)| ((*name).to_owned(), (*key).to_owned()));
    let ours = keys().into_iter().map(|path| (variable(&path), path.join(".")));
    for (name, key) in bare.chain(ours) {
        let may_show = disclosure.may_show(&key);
        let values = if may_show { &HIDDEN[..] } else { &[CANARY][..] };
        for value in values {
            quiet(&name, &said(LEAST, &[(&name, value)], &[]));
            quiet(&key, &said(LEAST, &[], &[(&key, value)]));
        }
        if !may_show {
            let file = format!("{name}_FILE");
            quiet(&file, &said(LEAST, &[(&file, CANARY)], &[]));
        }
    }
    for name in ["JDBC_URL", "JDBC_USER", "JDBC_PASSWORD"] {
        quiet(name, &said(LEAST, &[(name, CANARY)], &[]));
    }
}

#[test]
fn a_variable_that_a_secret_refers_to_is_named_and_nothing_else_of_it() {
    let file = |value: &str| format!("{LEAST}  rocksdb: {{pass: '{value}'}}\n");
    let told = bad(&file("${DB_PASSWORD}"), &[]);
    assert!(told.contains("the variable `DB_PASSWORD` is not set"), "{told}");
    let told = bad(&file("x${hunter2}y"), &[]);
    assert!(!told.contains("hunter2") && told.contains("`$${`"), "{told}");
}
