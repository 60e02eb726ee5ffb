use std::fmt;

/// Defaults within defaults.
const DEEPEST: usize = 16;

/// Why a placeholder cannot be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfilled {
    /// It has no end.
    Open,
    /// Defaults within defaults, deeper than anybody writes them.
    Deep,
    /// It has no default, and no variable has this name.
    Missing(String),
}

impl Unfilled {
    /// Whether it repeats nothing of the text but what is plainly the name of a variable.
    pub(crate) fn is_plain(&self) -> bool {
        let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        match self {
            Self::Open | Self::Deep => true,
            Self::Missing(name) => name.chars().all(plain),
        }
    }
}

impl fmt::Display for Unfilled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Open => return f.write_str("a placeholder `${` is not closed with `}`"),
            Self::Deep => {
                return write!(
                    f,
                    "placeholders stand in each other's defaults, deeper than {DEEPEST} levels"
                );
            }
            Self::Missing(name) => name.escape_debug(),
        };
        write!(
            f,
            "the variable `{name}` is not set, and the placeholder has no default: write `${{{name}:default}}`"
        )
    }
}

/// Replaces `${NAME}`, `${NAME:default}` (Spring's form) and `${NAME:-default}`, in defaults too. `$${` stands for `${`.
pub(crate) fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, Unfilled> {
    expanded(text, lookup, DEEPEST)
}

fn expanded(text: &str, lookup: &dyn Fn(&str) -> Option<String>, levels: usize) -> Result<String, Unfilled> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            out.push_str(&rest[..start - 1]);
            out.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        out.push_str(&rest[..start]);
        let inner = &rest[start + 2..];
        let end = closing(inner).ok_or(Unfilled::Open)?;
        out.push_str(&value(&inner[..end], lookup, levels)?);
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn value(
    placeholder: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    levels: usize,
) -> Result<String, Unfilled> {
    let (name, default) = match placeholder.split_once(':') {
        Some((name, default)) => (name.trim(), Some(default.strip_prefix('-').unwrap_or(default))),
        None => (placeholder.trim(), None),
    };
    match (lookup(name), default) {
        // As in a shell's `:-`, an empty variable is as none.
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(_)) if levels == 0 => Err(Unfilled::Deep),
        (_, Some(default)) => expanded(default, lookup, levels - 1),
        (Some(value), None) => Ok(value),
        (None, None) => Err(Unfilled::Missing(name.to_owned())),
    }
}

/// The brace that closes what was opened before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (i, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(i),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Unfilled, expand};

    fn with(text: &str) -> Result<String, Unfilled> {
        expand(text, &|name| match name {
            "HOST" => Some("kafka".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn both_forms_of_a_default_are_understood() {
        assert_eq!(with("${HOST:x}:9092,${PORT:9093}").unwrap(), "kafka:9092,9093");
        assert_eq!(with("${PORT:-9093}${EMPTY:-y}").unwrap(), "9093y");
        assert_eq!(with("${NO:http://a:1}").unwrap(), "http://a:1");
        assert_eq!(with("a${NO:}b").unwrap(), "ab");
        assert_eq!(with("${NO:${HOST}}").unwrap(), "kafka");
    }

    #[test]
    fn a_doubled_dollar_is_a_dollar() {
        assert_eq!(with("pa$${HOST}ss$").unwrap(), "pa${HOST}ss$");
    }

    #[test]
    fn defaults_within_defaults_end_somewhere() {
        assert_eq!(
            with(&format!("{}x{}", "${A:".repeat(16), "}".repeat(16))).unwrap(),
            "x"
        );
        let deep = format!("{}x{}", "${A:".repeat(100_000), "}".repeat(100_000));
        assert_eq!(with(&deep), Err(Unfilled::Deep));
    }

    #[test]
    fn a_missing_variable_is_named() {
        assert!(with("${NO}").unwrap_err().to_string().contains("`NO`"));
        assert!(with("${HOST").unwrap_err().to_string().contains("not closed"));
    }
}
