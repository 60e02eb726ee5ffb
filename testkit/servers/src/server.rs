//! One server.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{Kind, family, ports, probe, programs, watchdog::Watchdog};

const READY: Duration = Duration::from_secs(60);
const ENDED: Duration = Duration::from_secs(30);

/// A server that lives as long as this guard.
///
/// A watchdog process owns it and holds the other end of a pipe of ours: so server and folder are gone when the guard is
/// dropped, and also when the process that holds it ends, panics or is killed. A `static` is never dropped; the end of the
/// pipe does its work.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Own(Own),
    Given(String),
}

#[derive(Debug)]
struct Own {
    port: u16,
    folder: PathBuf,
    pid: AtomicU32,
    watchdog: Mutex<Watchdog>,
}

impl Server {
    /// Starts one and waits until it answers: PostgreSQL and MongoDB about two seconds, Redis a tenth.
    pub fn start(kind: Kind) -> Result<Self, String> {
        Self::start_with(kind, &[])
    }

    /// Starts one with settings besides or instead of ours: PostgreSQL's `-c name=value`, Redis' and mongod's
    /// `--name value` (mongod's `--name` alone where the value is empty).
    pub fn start_with(kind: Kind, settings: &[(&str, &str)]) -> Result<Self, String> {
        let settings: Vec<_> = settings
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut why = String::new();
        for _ in 0..3 {
            match Own::start(kind, &settings) {
                Ok(own) => {
                    return Ok(Self {
                        kind,
                        place: Place::Own(own),
                    });
                }
                Err(Begun::Never(error)) => return Err(error),
                Err(Begun::Perhaps(error)) => why = error, // perhaps somebody took the port meanwhile
            }
        }
        Err(why)
    }

    /// One that somebody else runs: it is neither ended nor cleaned, and cannot be killed or frozen through this.
    pub(crate) fn given(kind: Kind, url: String) -> Self {
        Self {
            kind,
            place: Place::Given(url),
        }
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where clients connect, in the form that the driver of this store takes.
    pub fn url(&self) -> String {
        let own = match &self.place {
            Place::Own(own) => own,
            Place::Given(url) => return url.clone(),
        };
        let port = own.port;
        match self.kind {
            Kind::Postgres => format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            Kind::Redis | Kind::RedisSentinel => format!("redis://127.0.0.1:{port}/"),
            Kind::Mongo => format!("mongodb://127.0.0.1:{port}/?replicaSet=rs0"),
            Kind::MongoStandalone => format!("mongodb://127.0.0.1:{port}/"),
        }
    }

    /// Its port on 127.0.0.1; 0 of a server that the environment names.
    pub fn port(&self) -> u16 {
        self.own().map_or(0, |own| own.port)
    }

    /// The temporary folder with its data and `server.log`; empty for a server that the environment names.
    pub fn folder(&self) -> PathBuf {
        self.own()
            .map_or_else(|_| PathBuf::new(), |own| own.folder.clone())
    }

    /// The process that was started last; 0 of a server that the environment names.
    pub fn pid(&self) -> u32 {
        self.own().map_or(0, |own| own.pid.load(Ordering::Relaxed))
    }

    /// Ends it in order, clients cut off, and waits for its end.
    pub fn stop(&self) -> Result<(), String> {
        let signal = match self.kind {
            Kind::Postgres => Signal::INT, // waits for no client
            _ => Signal::TERM,
        };
        self.own()?.end(|pid| {
            family::thaw(pid);
            family::signal(pid, signal);
            family::wait(&[pid], ENDED)
        })
    }

    /// Kills it as a crash would: SIGKILL for all its processes, nothing flushed.
    pub fn kill(&self) -> Result<(), String> {
        self.own()?.end(family::kill)
    }

    /// Starts it on the same port and data after [`Server::stop`] or [`Server::kill`], and waits until it answers.
    pub fn start_again(&self) -> Result<(), String> {
        let own = self.own()?;
        let mut watchdog = own.watchdog();
        if family::is_alive(own.pid.load(Ordering::Relaxed)) {
            return Err(format!("{} on port {} still runs", self.kind, own.port));
        }
        own.pid.store(watchdog.start()?, Ordering::Relaxed);
        own.ready(self.kind)
    }

    /// SIGSTOP for all its processes: connections are accepted and never answered.
    pub fn freeze(&self) -> Result<(), String> {
        family::freeze(self.own()?.running()?);
        Ok(())
    }

    /// Lets it go on after [`Server::freeze`].
    pub fn thaw(&self) -> Result<(), String> {
        family::thaw(self.own()?.running()?);
        Ok(())
    }

    fn own(&self) -> Result<&Own, String> {
        match &self.place {
            Place::Own(own) => Ok(own),
            Place::Given(_) => Err(format!(
                "the {} that {} names is not ours to start, end or freeze: take Server::start for that",
                self.kind,
                self.kind.variable()
            )),
        }
    }
}

/// Why none runs.
enum Begun {
    /// Another port would not help.
    Never(String),
    Perhaps(String),
}

impl Own {
    fn start(kind: Kind, settings: &[(String, String)]) -> Result<Self, Begun> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("orders-{kind}-"))
            .tempdir()
            .map_err(|error| Begun::Never(format!("no temporary folder: {error}")))?;
        let mut watchdog = Watchdog::new(folder.path()).map_err(Begun::Never)?;
        let folder = folder.keep();
        let (port, held) = ports::free().map_err(Begun::Never)?;
        let lines = programs::lines(kind, &folder, port, settings).map_err(Begun::Never)?;
        let begin = |watchdog: &mut Watchdog| {
            if let Some(prepare) = &lines.prepare {
                watchdog.command(prepare)?;
                watchdog.start()?;
                let status = watchdog.ended()?;
                if status != 0 {
                    let said = end_of(&folder.join("server.log"));
                    return Err(format!(
                        "{kind}: {} ended with status {status} (it cannot work in a folder that the user `postgres` \
                         cannot reach: TMPDIR names another). It said:\n  {said}",
                        prepare.join(" ")
                    ));
                }
            }
            watchdog.command(&lines.serve)?;
            drop(held);
            watchdog.start()
        };
        let pid = begin(&mut watchdog).map_err(Begun::Never)?;
        let own = Self {
            port,
            folder,
            pid: AtomicU32::new(pid),
            watchdog: Mutex::new(watchdog),
        };
        own.ready(kind).map_err(Begun::Perhaps)?;
        Ok(own)
    }

    fn ready(&self, kind: Kind) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let answers = probe::answers(kind, self.port);
            // Looked at after the answer, which may be that of another server on this port.
            let problem = if !family::is_alive(self.pid.load(Ordering::Relaxed)) {
                "ended at once".to_owned()
            } else if answers {
                return Ok(());
            } else if begun.elapsed() > READY {
                format!("did not answer within {} s", READY.as_secs())
            } else {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            };
            let said = end_of(&self.folder.join("server.log"));
            return Err(format!(
                "{kind} on port {} {problem}. The end of its log:\n  {said}",
                self.port
            ));
        }
    }

    fn end(&self, by: impl FnOnce(u32) -> Result<(), String>) -> Result<(), String> {
        let mut watchdog = self.watchdog();
        by(self.running()?)?;
        watchdog.ended().map(drop)
    }

    fn running(&self) -> Result<u32, String> {
        let pid = self.pid.load(Ordering::Relaxed);
        if family::is_alive(pid) {
            Ok(pid)
        } else {
            Err(format!("process {pid} does not run (any more)"))
        }
    }

    fn watchdog(&self) -> MutexGuard<'_, Watchdog> {
        self.watchdog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end_of(log: &Path) -> String {
    let log = fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n  ")
}
