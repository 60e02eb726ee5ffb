use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_api::{Error, ErrorKind, Result};

/// The section `rocksdb` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// The database's directory, on a local disk. Without one the service puts it into its data directory.
    pub path: Option<PathBuf>,
    /// Memory for what is read, in MiB (1 to 65536).
    pub cache_mib: u32,
    /// Memory for what is written before it goes into a table, in MiB (1 to 1024); about three times as much is in use at worst.
    pub write_buffer_mib: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: None,
            cache_mib: 32,
            write_buffer_mib: 8,
        }
    }
}

impl Config {
    pub(crate) fn checked(&self) -> Result<PathBuf> {
        let within = |name: &str, value: u32, most: u32| {
            let problem = format!("rocksdb.{name} is {value}, but must lie between 1 and {most} MiB");
            if (1..=most).contains(&value) {
                Ok(())
            } else {
                Err(Error::new(ErrorKind::Config, problem))
            }
        };
        within("cache-mib", self.cache_mib, 65_536)?;
        within("write-buffer-mib", self.write_buffer_mib, 1_024)?;
        match &self.path {
            Some(path) if !path.as_os_str().is_empty() => Ok(path.clone()),
            _ => Err(Error::new(
                ErrorKind::Config,
                "rocksdb.path is not set: name a directory on a local disk",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_checked_and_unknown_keys_are_refused() {
        let read = |text: &str| serde_json::from_str::<Config>(text);
        assert_eq!(read("{}").unwrap(), Config::default());
        let config = read(r#"{"path": "/var/lib/orders", "cache-mib": 64, "write-buffer-mib": 16}"#).unwrap();
        assert_eq!(config.checked().unwrap(), PathBuf::from("/var/lib/orders"));
        assert_eq!(read(&serde_json::to_string(&config).unwrap()).unwrap(), config);
        assert!(
            read(r#"{"pathh": "x"}"#)
                .unwrap_err()
                .to_string()
                .contains("pathh")
        );
        for wrong in [
            "{}",
            r#"{"path": ""}"#,
            r#"{"path": "x", "cache-mib": 0}"#,
            r#"{"path": "x", "write-buffer-mib": 1025}"#,
        ] {
            assert_eq!(
                read(wrong).unwrap().checked().unwrap_err().kind(),
                ErrorKind::Config,
                "{wrong}"
            );
        }
    }
}
