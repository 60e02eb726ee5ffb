//! The service as a process: its configuration file, its life and death, what it says of itself.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{Result, ports, process, reader::Progress};

/// What a service is started with. Everything it writes goes below `folder`.
#[derive(Clone, Debug)]
pub struct Plan {
    /// A folder of its own: configuration, log, data directory.
    pub folder: PathBuf,
    /// Where the broker is.
    pub bootstrap: String,
    /// The consumer group.
    pub group: String,
    /// The topic to read.
    pub source: String,
    /// The topic for enriched orders.
    pub target: String,
    /// The topic for priority orders.
    pub priority: String,
    /// The topic for dead letters, if any.
    pub dead_letters: Option<String>,
    /// Further keys below `orchestrator`, as they stand in YAML.
    pub keys: BTreeMap<String, String>,
    /// A file of faults: then `testkit serve` runs instead of the real binary. See [`crate::faults::Faults`].
    pub faults: Option<PathBuf>,
    /// The program that runs when there are no faults: one that stands beside this one.
    pub program: &'static str,
    /// Further environment variables.
    pub variables: BTreeMap<String, String>,
}

impl Plan {
    /// Topics and group named after `name`, embedded RocksDB, a dead-letter topic.
    pub fn new(folder: &Path, bootstrap: &str, name: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            bootstrap: bootstrap.to_owned(),
            group: name.to_owned(),
            source: format!("{name}.orders"),
            target: format!("{name}.enriched"),
            priority: format!("{name}.priority"),
            dead_letters: Some(format!("{name}.dead-letters")),
            keys: BTreeMap::from([("db-strategy".to_owned(), "rocksdb".to_owned())]),
            faults: None,
            program: "orders-orchestrator",
            variables: BTreeMap::new(),
        }
    }

    /// Sets a key below `orchestrator`.
    #[must_use]
    pub fn key(mut self, name: &str, value: impl Into<String>) -> Self {
        self.keys.insert(name.to_owned(), value.into());
        self
    }

    /// Another process of the same group: its own folder, its own instance if this one has one.
    #[must_use]
    pub fn twin(&self, folder: &Path, instance: Option<&str>) -> Self {
        let mut twin = self.clone();
        twin.folder = folder.to_owned();
        if let Some(instance) = instance {
            twin.keys.insert("instance".to_owned(), instance.to_owned());
        }
        twin
    }

    /// The configuration file's place.
    pub fn file(&self) -> PathBuf {
        self.folder.join("orchestrator.yml")
    }

    /// The service's log.
    pub fn log(&self) -> PathBuf {
        self.folder.join("service.log")
    }

    /// The configuration file's text.
    pub fn yaml(&self) -> String {
        let mut keys = self.keys.clone();
        let mut set = |name: &str, value: &str| {
            keys.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        };
        set("bootstrap-servers", &self.bootstrap);
        set("group-id", &self.group);
        set("source-topic", &self.source);
        set("target-topic", &self.target);
        if let Some(topic) = &self.dead_letters {
            set("dead-letter-topic", topic);
        }
        set("data-dir", &self.folder.join("data").display().to_string());
        let lines: String = keys
            .iter()
            .map(|(key, value)| format!("  {key}: {value}\n"))
            .collect();
        format!("orchestrator:\n{lines}")
    }

    /// The service's command line, for this configuration.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = if self.faults.is_some() {
            process::bound_to_us(&process::sibling("testkit-serve")?)
        } else {
            process::bound_to_us(&process::sibling(self.program)?)
        };
        command
            .args(arguments)
            .arg("--config")
            .arg(self.file())
            .env("ORDERS_PRIORITY_TOPIC", &self.priority)
            .envs(&self.variables)
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        if let Some(faults) = &self.faults {
            command.env(crate::faults::VARIABLE, faults);
        }
        Ok(command)
    }

    /// Runs an operator's command to its end.
    pub fn operate(&self, arguments: &[&str]) -> Result<Output> {
        Ok(self.command(arguments)?.output()?)
    }

    /// Starts the service.
    pub fn start(&self) -> Result<Service> {
        let port = ports::free()?;
        let plan = self
            .clone()
            .key("management-address", format!("127.0.0.1:{port}"));
        fs::create_dir_all(&plan.folder)?;
        fs::write(plan.file(), plan.yaml())?;
        let log = File::options().create(true).append(true).open(plan.log())?;
        let child = plan
            .command(&["run"])?
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Service {
            plan,
            child,
            management: format!("127.0.0.1:{port}"),
        })
    }
}

/// A running service; killed when this guard is dropped, and when the thread that started it ends.
#[derive(Debug)]
pub struct Service {
    plan: Plan,
    child: Child,
    management: String,
}

impl Service {
    /// What it was started with.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where health and metrics are.
    pub fn management(&self) -> &str {
        &self.management
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: it ends between two instructions.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(process::signal(self.child.id(), signal)?)
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(mut self, patience: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(patience)
    }

    /// SIGTERM. Fails, with its last words, unless it ends in time and says that all was well.
    pub fn end_well(mut self, patience: Duration) -> Result<()> {
        self.signal(Signal::TERM)?;
        let end = self.wait(patience);
        match end {
            Ok(end) if end.success() => Ok(()),
            Ok(end) => Err(format!(
                "the service ended with {end}; it said last:\n{}",
                self.last_words()
            )
            .into()),
            Err(why) => Err(format!("{why}; it said last:\n{}", self.last_words()).into()),
        }
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(end) = self.child.try_wait()? {
                return Ok(end);
            }
            if begun.elapsed() > patience {
                return Err(format!("the service did not end within {} s", patience.as_secs()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// GET on the management port: status and body.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(&self.management)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.management
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
        Ok((status, body.to_owned()))
    }

    /// The sum over all labels of a metric; 0 if it is not there.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let (_, body) = self.get("/metrics")?;
        Ok(sum(&body, name))
    }

    /// Waits until it says that it is ready.
    pub fn wait_ready(&mut self, patience: Duration) -> Result<()> {
        self.wait_until("ready", patience, |service| {
            Ok(service.get("/readyz").is_ok_and(|(status, _)| status == 200))
        })
    }

    /// Waits until the group has committed every record of the source topic.
    pub fn wait_drained(&mut self, bootstrap: &str, patience: Duration) -> Result<()> {
        let mut progress = Progress::of(bootstrap, &self.plan.group, &self.plan.source)?;
        let what = format!("done with {}", self.plan.source);
        self.wait_until(&what, patience, |_| Ok(progress.left()? == 0))
    }

    /// Asks again and again; fails when the service ends meanwhile.
    pub fn wait_until(
        &mut self,
        what: &str,
        patience: Duration,
        mut is_so: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        let begun = Instant::now();
        while !is_so(self)? {
            if let Some(end) = self.ended()? {
                return Err(format!("the service ended ({end}) before it was {what}").into());
            }
            if begun.elapsed() > patience {
                let ready = self
                    .get("/readyz")
                    .map_or_else(|e| e.to_string(), |(s, body)| format!("{s} {body}"));
                return Err(format!(
                    "the service was not {what} within {} s; /readyz says {ready}",
                    patience.as_secs()
                )
                .into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        last_lines(&self.plan.log(), 40)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the service said last:\n{}", self.last_words());
        }
    }
}

/// The last lines of a file.
pub fn last_lines(file: &Path, count: usize) -> String {
    let text = fs::read(file)
        .map(|b| String::from_utf8_lossy(&b).into_owned())
        .unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The sum over all labels of a metric in Prometheus' text format.
pub fn sum(text: &str, name: &str) -> f64 {
    text.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = if let Some(labels) = rest.strip_prefix('{') {
                labels.rsplit_once("} ")?.1
            } else {
                rest.strip_prefix(' ')?
            };
            value.split(' ').next()?.parse::<f64>().ok()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_not_mixed_with_a_longer_name() {
        let text = "# HELP orch_lag_records x\norch_lag_records{lane=\"0\",topic=\"a b\"} 3\norch_lag_records{lane=\"1\"} 4\norch_lag_records_max 9\norch_up 1\n";
        assert!((sum(text, "orch_lag_records") - 7.0).abs() < f64::EPSILON);
        assert!((sum(text, "orch_up") - 1.0).abs() < f64::EPSILON);
        assert!(sum(text, "orch_none").abs() < f64::EPSILON);
    }
}
