use std::{fmt, path::PathBuf, sync::Arc};

use super::{settings::Properties, yaml::Place};

/// Where a value of the configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Built in.
    Default,
    /// A file; line and column from 1, in characters.
    File {
        /// Its path, as it was given.
        path: Arc<PathBuf>,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// A variable of the environment.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
}

impl Origin {
    /// What lays over what: the greater one.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Variable(_) => 2,
            Self::Flag(_) => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0, .. } => write!(f, "{}", path.display()),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands; none if it stands nowhere, as a missing value does.
    pub origin: Option<Origin>,
    /// The key, such as `orchestrator.failure-mode`; none if the file as a whole is wrong.
    pub key: Option<String>,
    /// What is wrong, and what to do. Never a secret.
    pub reason: String,
    /// The line of the file, if it may be shown.
    line: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.reason)?;
        if let (Some(text), Some(Origin::File { line, column, .. })) = (&self.line, &self.origin) {
            let margin = " ".repeat(line.to_string().len());
            let indent = " ".repeat(column.saturating_sub(1));
            write!(f, "\n {margin} |\n {line} | {text}\n {margin} | {indent}^")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a configuration, together. Ends a command with exit code 78.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A file that is being read.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) path: Arc<PathBuf>,
    pub(crate) text: String,
    /// It is not YAML.
    pub(crate) broken: bool,
}

/// Collects what is wrong, and what is only odd.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<String>,
    pub(crate) file: Option<File>,
    /// Values of the file that are never shown, wherever they turn up.
    pub(crate) secrets: Vec<String>,
}

impl Report {
    pub(crate) fn problem(&mut self, origin: Option<&Origin>, key: Option<&str>, reason: impl Into<String>) {
        let line = match (origin, &self.file) {
            (Some(Origin::File { line, .. }), Some(file)) => line
                .checked_sub(1)
                .and_then(|n| file.text.lines().nth(n))
                .and_then(|text| showable(text, key.is_none(), &self.secrets)),
            _ => None,
        };
        let problem = Problem {
            origin: origin.cloned(),
            key: key.map(|key| format!("`{key}`")),
            reason: self.without_secrets(reason.into()),
            line,
        };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Whether something is wrong with this key already: then what follows from it is not told.
    pub(crate) fn has(&self, key: &str) -> bool {
        let key = format!("`{key}`");
        self.problems
            .iter()
            .any(|problem| problem.key.as_ref() == Some(&key))
    }

    fn without_secrets(&self, text: String) -> String {
        let long = self.secrets.iter().filter(|secret| secret.len() >= 4);
        long.fold(text, |text, secret| text.replace(secret.as_str(), "***"))
    }

    pub(crate) fn warn(&mut self, origin: Option<&Origin>, warning: impl fmt::Display) {
        let warning = match origin {
            Some(origin) => format!("{origin}: {warning}"),
            None => warning.to_string(),
        };
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    pub(crate) fn at(&self, place: Place) -> Origin {
        Origin::File {
            path: self
                .file
                .as_ref()
                .map(|file| Arc::clone(&file.path))
                .unwrap_or_default(),
            line: place.line,
            column: place.column,
        }
    }
}

/// The line as it may be shown. `wild`: the file did not parse, so a line that is not plainly `key: value` may be a
/// piece of a secret and is not shown.
fn showable(line: &str, wild: bool, secrets: &[String]) -> Option<String> {
    let line = line.trim_end();
    let Some((key, _)) = line.split_once(':') else {
        let shown = !wild && !secrets.iter().any(|secret| line.contains(secret.as_str()));
        return shown.then(|| hide_userinfo(line));
    };
    // Also one of several on a line, as in `{user: x, password: y}`.
    let mut names = line
        .split(|c: char| c.is_whitespace() || matches!(c, '{' | ','))
        .filter_map(|word| Some(word.split_once(':')?.0));
    let secret =
        names.any(Properties::is_secret) || secrets.iter().any(|secret| line.contains(secret.as_str()));
    if secret {
        return Some(format!("{key}: ***"));
    }
    Some(hide_userinfo(line))
}

/// `scheme://user:password@host` without user and password.
pub(crate) fn hide_userinfo(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        shown.push_str(before);
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`'))
            .unwrap_or(after.len());
        let url = &after[..end];
        // The last `@` before the path: a password may hold one.
        let authority = url.find(['/', '?', '#']).map_or(url, |end| &url[..end]);
        let userinfo = authority.rfind('@').or_else(|| url.rfind('@'));
        match userinfo {
            Some(at) => {
                shown.push_str("***");
                rest = &after[at..];
            }
            None => rest = after,
        }
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::{hide_userinfo, showable};

    #[test]
    fn a_url_loses_user_and_password() {
        assert_eq!(hide_userinfo("postgres://u:p@h:1/db"), "postgres://***@h:1/db");
        assert_eq!(hide_userinfo("a://u:p@ss@h b://x:y/z@h"), "a://***@h b://***@h");
        assert_eq!(
            hide_userinfo("http://h:1/db, https://k"),
            "http://h:1/db, https://k"
        );
    }

    #[test]
    fn a_line_with_a_secret_is_not_shown() {
        for line in [
            "  password: hunter2",
            "  sasl.password: 'hunter2'",
            "kafka: {properties: {sasl.username: x, sasl.password: hunter2}}",
            "  ssl.key.pem: hunter2",
        ] {
            assert!(
                !showable(line, false, &[]).unwrap_or_default().contains("hunter2"),
                "{line}"
            );
        }
        assert_eq!(showable("MIIEvQIBADANBg", true, &[]), None);
        assert_eq!(
            showable("  ordering: key # not a password", false, &[]).unwrap(),
            "  ordering: key # not a password"
        );
    }
}
