use std::io::{self, Write};

use serde_json::{Value, json};

use super::{
    arguments::{ConfigCommand, Format},
    exit::Exit,
};
use crate::{
    config::{self, Loaded, Shown},
    registry::Registry,
};

impl ConfigCommand {
    /// Runs it on a configuration that holds.
    pub(crate) fn run(&self, loaded: &Loaded) -> Exit {
        for warning in &loaded.warnings {
            eprintln!("warning: {warning}");
        }
        let mut out = io::stdout();
        match self {
            Self::Show {
                output: Format::Table,
            } => written(out.write_all(table(&loaded.values).as_bytes())),
            Self::Show { output: Format::Json } => print(&mut out, &rows(&loaded.values)),
            Self::Check | Self::Schema => written(writeln!(out, "the configuration is valid")),
        }
    }
}

/// `config schema`.
pub(crate) fn schema(registry: &Registry, out: &mut impl Write) -> Exit {
    print(out, &config::schema(registry))
}

fn print(out: &mut impl Write, value: &Value) -> Exit {
    written(writeln!(out, "{value:#}"))
}

fn written(done: io::Result<()>) -> Exit {
    match done {
        // `config show | head` has seen enough.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("error: cannot write the answer: {e}");
            Exit::Failed
        }
        _ => Exit::Ok,
    }
}

fn rows(values: &[Shown]) -> Value {
    let row =
        |shown: &Shown| json!({ "key": shown.key, "value": shown.value, "origin": shown.origin.to_string() });
    values.iter().map(row).collect()
}

/// Columns. Control characters of a value are escaped: it may come from anywhere.
fn table(values: &[Shown]) -> String {
    let text = |shown: &Shown| match &shown.value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => text.chars().flat_map(escaped).collect(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        other => other.to_string(),
    };
    let cells: Vec<[String; 3]> = values
        .iter()
        .map(|shown| [shown.key.clone(), text(shown), shown.origin.to_string()])
        .collect();
    let head = ["KEY", "VALUE", "ORIGIN"].map(str::to_owned);
    let width = |column: usize| {
        let widths = cells.iter().chain([&head]).map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let (first, second) = (width(0), width(1));
    let lines = [&head].into_iter().chain(&cells);
    lines
        .map(|[key, value, origin]| format!("{key:first$}  {value:second$}  {origin}\n"))
        .collect()
}

fn escaped(c: char) -> impl Iterator<Item = char> {
    let (plain, escape) = match c.is_control() {
        true => (None, Some(c.escape_default())),
        false => (Some(c), None),
    };
    plain.into_iter().chain(escape.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{rows, table};
    use crate::config::{Origin, Shown};

    fn shown(key: &str, value: Value, origin: Origin) -> Shown {
        Shown {
            key: key.to_owned(),
            value,
            origin,
        }
    }

    #[test]
    fn columns_line_up_and_nothing_writes_to_the_terminal() {
        let values = [
            shown("a", json!("x\u{1b}[2J"), Origin::Default),
            shown("longer", json!(null), Origin::Variable("X".into())),
        ];
        let wanted = "\
KEY     VALUE       ORIGIN
a       x\\u{1b}[2J  default
longer  -           variable X
";
        assert_eq!(table(&values), wanted);
        assert_eq!(
            rows(&values)[1],
            json!({"key": "longer", "value": null, "origin": "variable X"})
        );
    }
}
