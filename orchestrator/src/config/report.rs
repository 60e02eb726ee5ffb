use std::{fmt, path::PathBuf, sync::Arc};

use super::{
    disclosure::{Disclosure, redact},
    yaml::Place,
};

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
pub struct Problems {
    /// Each of them.
    pub faults: Vec<Problem>,
    /// What is odd besides, and may be why.
    pub warnings: Vec<String>,
}

impl From<Report> for Problems {
    fn from(report: Report) -> Self {
        let (faults, warnings) = (report.problems, report.warnings);
        Self { faults, warnings }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.faults.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        for warning in &self.warnings {
            write!(f, "\nwarning: {warning}")?;
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

/// Nobody reads more at once, and each one is compared with those before it.
const MOST_PROBLEMS: usize = 100;

/// Collects what is wrong, and what is only odd.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<String>,
    pub(crate) file: Option<File>,
    /// Values of the file that are never shown, wherever they turn up.
    pub(crate) secrets: Vec<String>,
    disclosure: Disclosure,
}

impl Report {
    pub(crate) fn new(disclosure: Disclosure) -> Self {
        Self {
            disclosure,
            ..Self::default()
        }
    }

    /// Whether the value at `key` may be shown.
    pub(crate) fn may_show(&self, key: &str) -> bool {
        self.disclosure.may_show(key)
    }

    /// Whether a store's field is a secret by its type.
    pub(crate) fn is_secret(&self, store: &str, field: &str) -> bool {
        self.disclosure.is_secret(store, field)
    }

    /// The value at `key` is wrong. The reason may repeat the value: where that is not shown, neither is the reason.
    pub(crate) fn misfit(&mut self, origin: Option<&Origin>, key: &str, reason: impl Into<String>) {
        let reason = match self.may_show(key) {
            true => reason.into(),
            false => "this value does not fit here".to_owned(),
        };
        self.problem(origin, Some(key), reason);
    }

    /// The file is not YAML. The reason is the parser's own, which may quote the file.
    pub(crate) fn broken(&mut self, origin: &Origin, reason: &str) {
        let reason = self.disclosure.parsers(reason);
        self.problem(Some(origin), None, format!("this is not YAML: {reason}"));
    }

    /// Something is wrong at `key`, if one is to blame. The reason quotes nothing that may not be shown.
    pub(crate) fn problem(&mut self, origin: Option<&Origin>, key: Option<&str>, reason: impl Into<String>) {
        if self.problems.len() > MOST_PROBLEMS {
            return;
        }
        if self.problems.len() == MOST_PROBLEMS {
            self.problems.push(Problem {
                origin: None,
                key: None,
                reason: "there is more that is wrong: correct this first".to_owned(),
                line: None,
            });
            return;
        }
        let line = match (origin, &self.file) {
            (Some(Origin::File { line, .. }), Some(file)) => line
                .checked_sub(1)
                .and_then(|n| file.text.lines().nth(n))
                .and_then(|text| self.disclosure.line(text, key))
                .map(|text| self.without_secrets(text)),
            _ => None,
        };
        let problem = Problem {
            origin: origin.cloned(),
            key: key.map(|key| format!("`{key}`")),
            reason: self.without_secrets(redact(&reason.into())),
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
        let warning = self.without_secrets(redact(&warning.to_string()));
        let warning = match origin {
            Some(origin) => format!("{origin}: {warning}"),
            None => warning,
        };
        if self.warnings.len() < MOST_PROBLEMS && !self.warnings.contains(&warning) {
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
