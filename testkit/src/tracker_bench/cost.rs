//! Time, CPU and bytes.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::Result;

/// CPU time so far, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) client: f64,
    pub(crate) server: f64,
}

impl Cpu {
    /// Of this process, and of a server with the processes below it.
    pub(crate) fn now(server: Option<u32>) -> Result<Self> {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let client = Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?).as_secs_f64();
        let mut nanoseconds = 0;
        for process in server.map_or_else(Vec::new, family) {
            nanoseconds += run_time(process);
        }
        Ok(Self {
            client,
            server: Duration::from_nanos(nanoseconds).as_secs_f64(),
        })
    }
}

/// The process and all below it.
fn family(head: u32) -> Vec<u32> {
    let parent = |process: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
    };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut all: Vec<u32> = all
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    all.sort_unstable();
    let mut family = vec![head];
    for process in all {
        if parent(process).is_some_and(|parent| family.contains(&parent)) {
            family.push(process);
        }
    }
    family
}

/// How long its threads ran, in nanoseconds; 0 of a process that is gone.
fn run_time(process: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{process}/task"))
        .into_iter()
        .flatten()
        .flatten();
    threads
        .filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        })
        .sum()
}

/// Bytes that this process, and a server with the processes below it, have written to files.
pub(super) fn written(server: Option<u32>) -> u64 {
    let of = |process: u32| -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{process}/io")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        line?.parse().ok()
    };
    let processes = server.map_or_else(Vec::new, family);
    let all = processes.into_iter().chain([std::process::id()]);
    all.filter_map(of).sum()
}

/// One kind of call, made again and again.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Lap {
    /// Of each, in seconds.
    seconds: Vec<f64>,
    /// Of all together, in seconds.
    client: f64,
    server: f64,
}

/// Makes the call with each of these, one after the other; what they are made of is not measured.
pub(super) async fn laps<T>(
    cpu: impl Fn() -> Result<Cpu>,
    each: Vec<T>,
    mut call: impl AsyncFnMut(T) -> Result<()>,
) -> Result<Lap> {
    let mut seconds = Vec::with_capacity(each.len());
    let before = cpu()?;
    for one in each {
        let begun = Instant::now();
        call(one).await?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    let after = cpu()?;
    Ok(Lap {
        seconds,
        client: after.client - before.client,
        server: after.server - before.server,
    })
}

impl Lap {
    /// The time below which this share of the calls lies, in milliseconds.
    pub(super) fn milliseconds(&self, share: f64) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place within a short list"
        )]
        let place = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(place.saturating_sub(1)).map_or(f64::NAN, |s| s * 1e3)
    }

    /// CPU of a call in milliseconds: ours and the server's.
    pub(super) fn cpu(&self) -> (f64, f64) {
        #[allow(clippy::cast_precision_loss, reason = "a short list")]
        let calls = self.seconds.len() as f64;
        (self.client / calls * 1e3, self.server / calls * 1e3)
    }
}

/// Bytes that its files take, but for those that are written ahead of others and for the nodes' log.
pub(super) fn weight(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (name, data) = (entry.file_name(), entry.metadata()?);
        let name = name.to_string_lossy();
        if data.is_dir() && !["pg_wal", "journal", "local"].contains(&name.as_ref()) {
            bytes += weight(&entry.path())?;
        } else if data.is_file() && name != "server.log" {
            bytes += data.blocks() * 512;
        }
    }
    Ok(bytes)
}

/// What Redis says that it uses.
pub(super) fn redis_memory(port: u16) -> Result<u64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"INFO memory\r\nQUIT\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let used = answer.lines().find_map(|line| line.strip_prefix("used_memory:"));
    Ok(used
        .ok_or("Redis did not say how much memory it uses")?
        .trim()
        .parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_calls_is_at_most_so_slow() {
        let lap = Lap {
            seconds: (1..=20).rev().map(|n| f64::from(n) / 1e3).collect(),
            client: 0.04,
            server: 0.02,
        };
        for (share, expected) in [(0.5, 10.0), (0.95, 19.0), (1.0, 20.0)] {
            assert!((lap.milliseconds(share) - expected).abs() < 1e-9);
        }
        let (client, server) = lap.cpu();
        assert!((client - 2.0).abs() < 1e-9 && (server - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_cpu_of_a_process_below_is_counted() {
        let mut busy = std::process::Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .unwrap();
        let before = Cpu::now(Some(std::process::id())).unwrap();
        let begun = Instant::now();
        let mut seen = 0.0;
        while seen < 0.05 && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(20));
            seen = Cpu::now(Some(busy.id())).unwrap().server;
        }
        let after = Cpu::now(Some(std::process::id())).unwrap();
        busy.kill().unwrap();
        busy.wait().unwrap();
        assert!(seen >= 0.05, "{seen}");
        assert!(after.server - before.server >= 0.04, "{before:?} {after:?}");
    }

    #[test]
    fn files_are_weighed_but_for_logs() {
        let folder = tempfile::tempdir().unwrap();
        for (place, bytes) in [
            ("a", 8_192),
            ("b/c", 4_096),
            ("pg_wal/d", 65_536),
            ("server.log", 65_536),
        ] {
            let path = folder.path().join(place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![7; bytes]).unwrap();
        }
        let weight = weight(folder.path()).unwrap();
        assert!((12_288..65_536).contains(&weight), "{weight}");
    }
}
