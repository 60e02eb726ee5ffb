//! The process that owns the broker: `testkit broker`.
//!
//! It prints [`Facts`] when the broker answers, obeys `kill` and `start` on its standard input, and at the end of that input
//! kills the broker and removes its folder.

use std::{
    env,
    fs::{self, File},
    io::{BufRead, Write},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::sleep,
};

use super::{Facts, settings};
use crate::{Result, admin, process};

/// Kafka's version, which names the folder that `make setup` copies its jars to.
pub const KAFKA: &str = "4.3.1";

const READY: Duration = Duration::from_secs(90);

/// Runs a broker until standard input ends or a signal arrives.
pub async fn run() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("orders-kafka-").tempdir()?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut orders = orders();

    let mut started = None;
    let mut why = None;
    for _ in 0..3 {
        let site = Site::new(folder.path())?;
        let begun = tokio::select! {
            begun = site.first_start() => begun,
            _ = interrupted.recv() => return Ok(()),
            _ = terminated.recv() => return Ok(()),
        };
        match begun {
            Ok(java) => {
                started = Some((site, java));
                break;
            }
            Err(error) => why = Some(error), // perhaps somebody took a port meanwhile
        }
    }
    let Some((site, mut java)) = started else {
        return Err(why.unwrap_or_else(|| "the broker did not start".into()));
    };
    site.tell(&java)?;

    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            _ = interrupted.recv() => None,
            _ = terminated.recv() => None,
        };
        match order.as_deref() {
            Some("kill") => {
                java.kill().await?;
                say("killed")?;
            }
            Some("start") => {
                java = site.start().await?;
                site.tell(&java)?;
            }
            Some(other) => eprintln!("testkit broker: `{other}` is neither `kill` nor `start`"),
            None => break,
        }
    }
    let _ = java.kill().await;
    Ok(())
}

fn orders() -> mpsc::UnboundedReceiver<String> {
    let (tell, orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if tell.send(line.trim().to_owned()).is_err() {
                return;
            }
        }
    });
    orders
}

/// Fails only when whoever listened is gone.
fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

struct Site {
    folder: PathBuf,
    ports: settings::Ports,
    java: PathBuf,
    classpath: String,
}

impl Site {
    fn new(folder: &Path) -> Result<Self> {
        let libs = process::cache()?.join(format!("kafka-{KAFKA}/libs"));
        if !libs.is_dir() {
            return Err(format!(
                "Apache Kafka's jars are not in {}: run `make setup`",
                libs.display()
            )
            .into());
        }
        let java = env::var_os("JAVA_HOME")
            .map(|home| Path::new(&home).join("bin/java"))
            .filter(|java| java.is_file())
            .or_else(|| process::find("java"))
            .ok_or("there is no Java on this machine: run `make setup`")?;
        let ports = settings::Ports::free()?;
        fs::write(
            folder.join("server.properties"),
            settings::properties(folder, ports),
        )?;
        Ok(Self {
            folder: folder.to_owned(),
            ports,
            java,
            classpath: format!("{}/*", libs.display()),
        })
    }

    fn command(&self, options: &[&str], class: &str) -> Result<Command> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("broker.log"))?;
        let mut command = Command::from(process::bound_to_us(&self.java));
        command
            .args(options)
            .args(["-cp", &self.classpath, class])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        Ok(command)
    }

    async fn first_start(&self) -> Result<Child> {
        let _ = fs::remove_dir_all(self.folder.join("data"));
        let quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"];
        let end = self
            .command(&quick, "kafka.tools.StorageTool")?
            .args(["format", "-t", &cluster_id(), "-c"])
            .arg(self.folder.join("server.properties"))
            .status()
            .await?;
        if !end.success() {
            return Err(self.failed("the broker's folder could not be formatted"));
        }
        self.start().await
    }

    async fn start(&self) -> Result<Child> {
        let options = ["-Xms256m", "-Xmx1g", "-XX:+UseSerialGC", "-Xshare:auto"];
        let mut java = self
            .command(&options, "kafka.Kafka")?
            .arg(self.folder.join("server.properties"))
            .spawn()?;
        let begun = Instant::now();
        loop {
            if let Some(end) = java.try_wait()? {
                return Err(self.failed(&format!("the broker ended at once ({end})")));
            }
            if begun.elapsed() > READY {
                return Err(self.failed("the broker did not answer within 90 s"));
            }
            let reached = tokio::net::TcpStream::connect(("127.0.0.1", self.ports.clients)).await;
            if reached.is_ok() && admin::answers(&self.bootstrap()) {
                return Ok(java);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.ports.clients)
    }

    fn tell(&self, java: &Child) -> Result<()> {
        let facts = Facts {
            bootstrap: self.bootstrap(),
            front: format!("127.0.0.1:{}", self.ports.front),
            behind: format!("127.0.0.1:{}", self.ports.behind),
            pid: java.id().ok_or("the broker is gone")?,
            folder: self.folder.clone(),
        };
        say(&serde_json::to_string(&facts)?)
    }

    fn failed(&self, what: &str) -> crate::Error {
        let log = fs::read_to_string(self.folder.join("broker.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(15)..].join("\n  ");
        format!("{what}. The end of its log:\n  {last}").into()
    }
}

/// Kafka's form of a random cluster id: 16 bytes in URL-safe base64 without padding, not beginning with `-`.
fn cluster_id() -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let number = uuid::Uuid::new_v4().as_u128() >> 1;
    (0..22)
        .map(|place| {
            let bits = if place == 21 {
                (number & 3) << 4
            } else {
                (number >> (122 - 6 * place)) & 63
            };
            char::from(DIGITS[usize::try_from(bits).unwrap_or(0)])
        })
        .collect()
}
