//! A single-node Apache Kafka in KRaft mode, on loopback, in a temporary folder.
//!
//! `testkit broker` (see [`watchdog`]) owns the Java process and its folder, and ends both when its standard input does.
//! A [`Broker`] holds the other end: so the broker is gone when the guard is dropped, and also when the process that
//! holds it panics or is killed.

mod settings;
pub mod watchdog;

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    time::Duration,
};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::{Result, admin, process};

/// What the watchdog tells when the broker is ready, as one line of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// Where clients connect.
    pub bootstrap: String,
    /// Where a proxy is to listen: the broker advertises this address to whoever reached it through `behind`.
    pub front: String,
    /// Where that proxy forwards to.
    pub behind: String,
    /// The Java process.
    pub pid: u32,
    /// The temporary folder with its log and data.
    pub folder: PathBuf,
}

/// A broker that lives as long as this guard.
#[derive(Debug)]
pub struct Broker {
    facts: Facts,
    watchdog: Child,
    orders: Option<ChildStdin>,
    answers: Mutex<mpsc::Receiver<String>>,
}

const READY: Duration = Duration::from_secs(120);

impl Broker {
    /// Starts one and waits until it answers. About six seconds.
    pub fn start() -> Result<Self> {
        let binary = process::sibling("testkit")?;
        let mut watchdog = Command::new(binary)
            .arg("broker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // a Ctrl-C is for the one who holds the guard; the watchdog sees the end of its input then
            .process_group(0)
            .spawn()?;
        let orders = watchdog.stdin.take();
        let lines = watchdog.stdout.take().ok_or("the broker has no output")?;
        let (tell, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let Ok(line) = answers.recv_timeout(READY) else {
            drop(orders);
            let end = watchdog.wait()?;
            return Err(format!("the broker did not come up ({end}): its reason is printed above").into());
        };
        let facts = serde_json::from_str(&line)?;
        Ok(Self {
            facts,
            watchdog,
            orders,
            answers: Mutex::new(answers),
        })
    }

    /// Where clients connect: `127.0.0.1:port`.
    pub fn bootstrap(&self) -> &str {
        &self.facts.bootstrap
    }

    /// Addresses, process and folder.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Creates a topic with these settings (`[("max.message.bytes", "1000")]`).
    pub fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
        admin::create_topic(self.bootstrap(), name, partitions, configs)
    }

    /// Kills it as a power cut would: SIGKILL, nothing flushed.
    pub fn kill(&mut self) -> Result<()> {
        self.ask("kill").map(drop)
    }

    /// Starts it again on the same ports and data after [`Broker::kill`].
    pub fn restart(&mut self) -> Result<()> {
        let line = self.ask("start")?;
        self.facts = serde_json::from_str(&line)?;
        Ok(())
    }

    /// Freezes it for so long (SIGSTOP, then SIGCONT).
    pub fn stop_cont(&self, pause: Duration) -> Result<()> {
        process::signal(self.facts.pid, Signal::STOP)?;
        std::thread::sleep(pause);
        Ok(process::signal(self.facts.pid, Signal::CONT)?)
    }

    fn ask(&mut self, order: &str) -> Result<String> {
        let pipe = self.orders.as_mut().ok_or("the broker is already gone")?;
        writeln!(pipe, "{order}")?;
        self.answers
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .recv_timeout(READY)
            .map_err(|_| format!("the broker did not answer `{order}`").into())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.watchdog.wait();
    }
}
