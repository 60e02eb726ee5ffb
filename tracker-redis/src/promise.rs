//! What a server promises, as it says itself.

use redis::Value;
use tracker_api::{Error, ErrorKind, Result, Risk};

use crate::{answer, config::Mode, link::Link};

/// What a server says of itself; none where it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    version: Option<String>,
    aof: Option<bool>,
    fsync: Option<String>,
    policy: Option<String>,
    replicas: Option<u64>,
    role: Option<String>,
    largest: Option<usize>,
}

/// What a string may hold unless the server was told otherwise.
const LARGEST: usize = 512 << 20;

/// What a server cannot promise, and how many bytes it takes in one string.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) risks: Vec<Risk>,
    pub(crate) largest: usize,
}

/// Reads what the server can promise.
///
/// # Errors
///
/// `Config` when it is older than 7.0; what a call fails with. A question that it does not permit is a risk, no error.
pub(crate) async fn terms(link: &Link) -> Result<Terms> {
    let info = permitted(link.send("asking for its state", &redis::cmd("INFO")).await)?;
    let mut ask = redis::cmd("CONFIG");
    ask.arg("GET").arg("appendonly").arg("appendfsync");
    ask.arg("maxmemory-policy").arg("proto-max-bulk-len");
    let config = permitted(link.send("asking for its settings", &ask).await)?;
    let said = Said::read(info.and_then(answer::text).as_deref(), config);
    if let Some(version) = said.version.as_deref().filter(|version| is_old(version)) {
        return Err(Error::new(
            ErrorKind::Config,
            format!(
                "redis at {} is of version {version}: the tracker needs 7.0 or newer",
                link.shown()
            ),
        ));
    }
    Ok(Terms {
        risks: said.risks(link.mode()),
        largest: said.largest.unwrap_or(LARGEST),
    })
}

/// An answer, unless the user may not ask, or a service that is not quite Redis does not know the question.
fn permitted(answer: Result<Value>) -> Result<Option<Value>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_transient() => Err(error),
        Err(error) => {
            tracing::debug!(%error, "a question about the server was refused");
            Ok(None)
        }
    }
}

fn is_old(version: &str) -> bool {
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| major < 7)
}

impl Said {
    fn read(info: Option<&str>, config: Option<Value>) -> Self {
        let told = |name: &str| {
            let lines = info.unwrap_or_default().lines();
            let values = lines.filter_map(|line| line.split_once(':'));
            let mut found = values.filter(|(key, _)| *key == name);
            found.next().map(|(_, value)| value.trim().to_owned())
        };
        let pairs = config
            .and_then(answer::list)
            .and_then(answer::groups::<2>)
            .unwrap_or_default();
        let settings: Vec<(String, String)> = pairs
            .into_iter()
            .filter_map(|[name, value]| Some((answer::text(name)?, answer::text(value)?)))
            .collect();
        let set = |name: &str| {
            settings
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
        };
        Self {
            version: told("redis_version"),
            aof: set("appendonly")
                .map(|on| on == "yes")
                .or_else(|| told("aof_enabled").map(|on| on == "1")),
            fsync: set("appendfsync"),
            policy: set("maxmemory-policy").or_else(|| told("maxmemory_policy")),
            replicas: told("connected_slaves").and_then(|number| number.parse().ok()),
            role: told("role"),
            largest: set("proto-max-bulk-len").and_then(|bytes| bytes.parse().ok()),
        }
    }

    fn risks(&self, mode: Mode) -> Vec<Risk> {
        let mut risks = Vec::new();
        let mut risk = |name: &str, what: String| {
            risks.push(Risk {
                name: name.to_owned(),
                what,
            });
        };
        match (self.aof, self.fsync.as_deref()) {
            (Some(false), _) => risk(
                "redis-no-aof",
                "what was written since the last snapshot is lost when the server stops, because it keeps no append-only \
                 file: set `appendonly yes` and `appendfsync always`"
                    .to_owned(),
            ),
            (Some(true), Some(fsync)) if fsync != "always" => risk(
                "redis-everysec",
                format!(
                    "what was written in the last seconds is lost when the machine stops, because `appendfsync` is {fsync}: \
                     set `appendfsync always`"
                ),
            ),
            _ => {}
        }
        if let Some(policy) = self.policy.as_deref().filter(|policy| *policy != "noeviction") {
            risk(
                "redis-evicts",
                format!(
                    "the server may delete entries when its memory is used up, because `maxmemory-policy` is {policy}: set \
                     `maxmemory-policy noeviction`"
                ),
            );
        }
        let replicated = match mode {
            Mode::Sentinel => Some("sentinels name a new master"),
            Mode::Cluster => Some("the cluster promotes a replica"),
            Mode::Standalone
                if self.replicas.is_some_and(|n| n > 0) || self.role.as_deref() == Some("slave") =>
            {
                Some("a replica is promoted")
            }
            Mode::Standalone => None,
        };
        if let Some(promoted) = replicated {
            risk(
                "redis-failover",
                format!(
                    "what the server has confirmed may be lost when {promoted}, because replicas are told later: no setting \
                     of Redis prevents it, a server without failover does"
                ),
            );
        }
        let unknown: Vec<&str> = [
            ("appendonly", self.aof.is_none()),
            ("appendfsync", self.fsync.is_none() && self.aof != Some(false)),
            ("maxmemory-policy", self.policy.is_none()),
            (
                "connected replicas",
                self.replicas.is_none() && mode == Mode::Standalone,
            ),
        ]
        .into_iter()
        .filter_map(|(name, unknown)| unknown.then_some(name))
        .collect();
        if !unknown.is_empty() {
            risk(
                "redis-unknown",
                format!(
                    "the server does not say what it promises ({}): permit this user INFO and CONFIG GET, or see for yourself \
                     that `appendonly` is yes, `appendfsync` always and `maxmemory-policy` noeviction",
                    unknown.join(", ")
                ),
            );
        }
        risks
    }
}

#[cfg(test)]
mod tests;
