use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_api::{Error, ErrorKind, Result};

/// The section `sqlite` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// The database's file, on a local disk. Without one the service puts it into its data directory.
    pub path: Option<PathBuf>,
    /// How long to wait for another process that writes, in milliseconds (0 to 60000).
    pub busy_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: None,
            busy_timeout_ms: 1_000,
        }
    }
}

impl Config {
    pub(crate) fn checked(&self) -> Result<(PathBuf, Duration)> {
        let wrong = |problem: &str| Err(Error::new(ErrorKind::Config, problem));
        if self.busy_timeout_ms > 60_000 {
            return wrong("sqlite.busy-timeout-ms must lie between 0 and 60000");
        }
        match &self.path {
            Some(path) if !path.as_os_str().is_empty() => {
                Ok((path.clone(), Duration::from_millis(self.busy_timeout_ms)))
            }
            _ => wrong("sqlite.path is not set: name a file on a local disk"),
        }
    }
}
