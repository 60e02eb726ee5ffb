use std::io::{self, Write};

use serde_json::{Value, json};

use super::{
    arguments::{ConfigCommand, Format},
    exit::Exit,
};
use crate::{
    config::{self, Loaded, Shown},
    operate::{columns, escape},
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

/// Columns, each cell escaped: a value may come from anywhere.
fn table(values: &[Shown]) -> String {
    let text = |shown: &Shown| match &shown.value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => escape(text),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        other => escape(&other.to_string()),
    };
    let head = ["KEY", "VALUE", "ORIGIN"].map(str::to_owned).to_vec();
    let row = |shown: &Shown| vec![escape(&shown.key), text(shown), escape(&shown.origin.to_string())];
    let rows: Vec<_> = [head].into_iter().chain(values.iter().map(row)).collect();
    columns(&rows)
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
