use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// A value that is never shown: prints and serialises as `***`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself: for the driver that needs it, never for a message.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// The address of a store, as `scheme://user:password@host/…`. It prints and serialises with `***` for the password and for
/// each value of the query whose name is not known to be no secret; text that is no such address is not shown at all.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Hides what is secret in `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The address itself: for the driver that needs it, never for a message.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The address for a person.
    pub fn shown(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return if self.0.is_empty() {
                String::new()
            } else {
                "***".to_owned()
            };
        };
        // A password may hold anything, also what begins a path or a query: the host begins behind the last `@`.
        let (who, rest) = match rest.rsplit_once('@') {
            None => (String::new(), rest),
            Some((who, rest)) => match who.split_once(':') {
                Some((user, _)) => (format!("{user}:***@"), rest),
                None => (format!("{who}@"), rest),
            },
        };
        let (place, query) = match rest.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (rest, None),
        };
        let query = query.map_or_else(String::new, |query| {
            let shown = query.split('&').map(|pair| match pair.split_once('=') {
                Some((name, _)) if !may_show(name) => format!("{name}=***"),
                Some(_) => pair.to_owned(),
                None => "***".to_owned(),
            });
            format!("?{}", shown.collect::<Vec<_>>().join("&"))
        });
        format!("{scheme}://{who}{place}{query}")
    }
}

/// Options of our stores' addresses that say how to connect and hold no secret, without case and dashes.
const SHOWN: &[&str] = &[
    "applicationname",
    "appname",
    "authmechanism",
    "authsource",
    "compressors",
    "connecttimeoutms",
    "currentschema",
    "dbname",
    "directconnection",
    "host",
    "hostaddr",
    "journal",
    "loadbalanced",
    "localthresholdms",
    "maxpoolsize",
    "minpoolsize",
    "port",
    "protocol",
    "readconcernlevel",
    "readpreference",
    "replicaset",
    "retryreads",
    "retrywrites",
    "rewritebatchedinserts",
    "serverselectiontimeoutms",
    "ssl",
    "sslmode",
    "sslrootcert",
    "tls",
    "tlscafile",
    "user",
    "w",
    "wtimeoutms",
];

fn may_show(name: &str) -> bool {
    let plain: String = name.chars().filter(|c| !matches!(c, '-' | '_')).collect();
    SHOWN.contains(&plain.to_ascii_lowercase().as_str())
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown())
    }
}

#[cfg(test)]
mod tests;
