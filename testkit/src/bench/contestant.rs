//! Who runs: how each is started, and what it tells of its commits.

use std::{
    fmt, fs,
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use clap::ValueEnum;
use rustix::process::Signal;
use serde::Serialize;
use serde_json::Value;
use test_servers::Server;

use crate::{
    Result, process,
    service::{Plan, Service},
    stores::Store,
};

/// Who runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
pub(crate) enum Contestant {
    /// `load-test/bare.c`
    Bare,
    /// The service without a store and with the bare loop's transform
    Forward,
    /// The service without a store
    None,
    /// The service with a store that lags behind and holds up nothing
    Lightweight,
    /// The service with a store, tracking reliably
    Reliable,
    /// The service with a store, tracking as an outbox: each record is stored before its transform
    Outbox,
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare",
            Self::Forward => "forward",
            Self::None => "none",
            Self::Lightweight => "lightweight",
            Self::Reliable => "reliable",
            Self::Outbox => "outbox",
        })
    }
}

/// The bounds under which contestants are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Cell {
    pub(super) lanes: usize,
    pub(super) batch: usize,
}

/// One committed transaction, as its contestant tells it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Commit {
    /// Seconds since the epoch, at its end.
    pub(super) at: f64,
    pub(super) records: usize,
    /// Seconds that it waited for the acknowledgements after the last record was handed over.
    pub(super) acknowledged: f64,
    /// Seconds that the offsets took.
    pub(super) offsets: f64,
    /// Seconds of the commit call alone.
    pub(super) commit: f64,
}

/// What all contestants of a run are told.
#[derive(Debug)]
pub(super) struct Setup<'a> {
    pub(super) bootstrap: String,
    /// The group.
    pub(super) name: String,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) linger: String,
    pub(super) prefetch: String,
    pub(super) appended: usize,
    /// None where no order fails.
    pub(super) dead_letters: Option<String>,
    pub(super) store: Store,
    pub(super) server: Option<&'a Server>,
    pub(super) folder: PathBuf,
}

/// A contestant at work.
pub(super) enum Running {
    Bare(Child, PathBuf),
    Service(Box<Service>),
}

impl Setup<'_> {
    pub(super) fn start(&self, contestant: Contestant, cell: Cell) -> Result<Running> {
        let tracking = match contestant {
            Contestant::Bare => return self.start_bare(cell),
            Contestant::Forward | Contestant::None => "none",
            Contestant::Lightweight => "lightweight",
            Contestant::Reliable => "reliable",
            Contestant::Outbox => "outbox",
        };
        let mut plan = Plan {
            source: self.source.clone(),
            target: self.target.clone(),
            priority: String::new(),
            dead_letters: self.dead_letters.clone(),
            ..Plan::new(&self.folder, &self.bootstrap, &self.name)
        }
        .key("db-strategy", "none")
        .key("tracking", tracking)
        .key("concurrency", cell.lanes.to_string())
        .key("batch-records", cell.batch.to_string())
        // A frozen process must stay a member until it is thawed.
        .key("session-timeout", "45s")
        .key(
            "kafka",
            format!(
                "{{consumer: {{heartbeat.interval.ms: \"500\", queued.max.messages.kbytes: \"{}\"}}, producer: {{linger.ms: \"{}\"}}}}",
                self.prefetch, self.linger
            ),
        );
        if tracking != "none" {
            plan = plan.on_server(self.store, self.server);
        }
        if self.dead_letters.is_some() {
            plan = plan.key("failure-mode", "skip-and-log");
        }
        if contestant == Contestant::Forward {
            plan.program = "testkit-forward";
            let zeros = "0".repeat(self.appended.saturating_sub(14));
            let field = format!(",\"routedBy\":\"{zeros}\"");
            plan.variables.insert(super::FIELD.to_owned(), field);
        }
        let log = "warn,orchestrator::kafka::transact=debug";
        plan.variables.insert("RUST_LOG".to_owned(), log.to_owned());
        Ok(Running::Service(Box::new(plan.start()?)))
    }

    fn start_bare(&self, cell: Cell) -> Result<Running> {
        let log = self.folder.join("bare.log");
        let file = fs::File::create(&log)?;
        let child = process::bound_to_us(&super::bare()?)
            .args([&self.bootstrap, &self.name, &self.source, &self.target])
            .args([cell.lanes, cell.batch].map(|n| n.to_string()))
            .args([&self.linger, &self.appended.to_string(), &self.prefetch])
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Running::Bare(child, log))
    }
}

impl Running {
    pub(super) fn pid(&self) -> u32 {
        match self {
            Self::Bare(child, _) => child.id(),
            Self::Service(service) => service.pid(),
        }
    }

    fn log(&self) -> PathBuf {
        match self {
            Self::Bare(_, log) => log.clone(),
            Self::Service(service) => service.plan().log(),
        }
    }

    pub(super) fn last_words(&self) -> String {
        super::words(&self.log())
    }

    /// Fails if it ended.
    pub(super) fn must_run(&mut self) -> Result<()> {
        let end = match self {
            Self::Bare(child, _) => child.try_wait()?,
            Self::Service(service) => service.ended()?,
        };
        end.map_or(Ok(()), |end| {
            Err(format!("it ended ({end}): {}", self.last_words()).into())
        })
    }

    /// SIGTERM, and waits. What it has written.
    pub(super) fn stop(mut self) -> Result<String> {
        let log = self.log();
        let patience = Duration::from_secs(40);
        process::signal(self.pid(), Signal::TERM)?;
        match &mut self {
            Self::Service(service) => {
                service.wait(patience)?;
            }
            Self::Bare(child, _) => {
                let begun = Instant::now();
                while child.try_wait()?.is_none() {
                    if begun.elapsed() > patience {
                        return Err("the bare loop did not end".into());
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
        Ok(fs::read_to_string(log)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Self::Bare(child, _) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Contestant {
    /// The commits with records that its log tells of, from `since` the epoch on.
    pub(super) fn commits(self, log: &str, since: Duration) -> Result<Vec<Commit>> {
        let read = match self {
            Self::Bare => told_by_bare,
            _ => told_by_service,
        };
        let mut commits = Vec::new();
        for line in log.lines() {
            commits.extend(read(line)?.filter(|c| c.records > 0 && c.at >= since.as_secs_f64()));
        }
        Ok(commits)
    }
}

fn told_by_bare(line: &str) -> Result<Option<Commit>> {
    let Some(rest) = line.strip_prefix("commit ") else {
        return Ok(None);
    };
    let numbers = rest.split(' ').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    let [at, _lane, records, acknowledged, offsets, commit] = numbers[..] else {
        return Err(format!("the bare loop says `{line}`").into());
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let records = records as usize;
    Ok(Some(Commit {
        at: at / 1e6,
        records,
        acknowledged: acknowledged / 1e6,
        offsets: offsets / 1e6,
        commit: commit / 1e6,
    }))
}

fn told_by_service(line: &str) -> Result<Option<Commit>> {
    let Ok(line) = serde_json::from_str::<Value>(line) else {
        return Ok(None);
    };
    let seconds = |name: &str| line[name].as_f64().ok_or_else(|| format!("no {name} in {line}"));
    if line["message"] != "committed" || line["sent"].is_null() {
        return Ok(None);
    }
    let at: jiff::Timestamp = line["@timestamp"].as_str().unwrap_or_default().parse()?;
    Ok(Some(Commit {
        at: at.as_duration().as_secs_f64(),
        records: usize::try_from(line["sent"].as_u64().unwrap_or_default())?,
        acknowledged: seconds("acknowledged_seconds")?,
        offsets: seconds("offsets_seconds")?,
        commit: seconds("commit_seconds")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_read_from_both_logs_from_a_moment_on() {
        let bare = "bare: librdkafka 2.12.1\ncommit 1000000 0 7 1 2 3\ncommit 5000000 1 9 4000 2000 1500\n";
        let service = "{\"message\":\"committed\",\"sent\":9,\"acknowledged_seconds\":0.004,\"offsets_seconds\":0.002,\
                       \"commit_seconds\":0.0015,\"@timestamp\":\"1970-01-01T00:00:05Z\"}\n\
                       {\"message\":\"committed\",\"sent\":0,\"acknowledged_seconds\":0,\"offsets_seconds\":0,\
                       \"commit_seconds\":1,\"@timestamp\":\"1970-01-01T00:00:05Z\"}\n{\"message\":\"x\"}\n";
        for (contestant, log) in [(Contestant::Bare, bare), (Contestant::None, service)] {
            let commits = contestant.commits(log, Duration::from_secs(2)).unwrap();
            assert_eq!(commits.len(), 1, "{commits:?}");
            let only = commits[0];
            assert_eq!(only.records, 9);
            for (found, expected) in [
                (only.at, 5.0),
                (only.acknowledged, 0.004),
                (only.offsets, 0.002),
                (only.commit, 0.0015),
            ] {
                assert!((found - expected).abs() < 1e-9, "{only:?}");
            }
        }
        assert!(Contestant::Bare.commits("commit 1 2\n", Duration::ZERO).is_err());
    }
}
