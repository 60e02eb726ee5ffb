//! A server's processes: PostgreSQL answers each client from a process of its own, in a process group of its own.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Whether this process exists and is not a zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    status(pid).is_some_and(|(state, _)| state != 'Z')
}

/// Sends a signal; that the process is already gone is no error.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Stops the process and all that descend from it, and answers them. The parent first: what is stopped has no more children.
pub(crate) fn freeze(pid: u32) -> Vec<u32> {
    stop(pid);
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        for child in children(parent) {
            stop(child);
            family.push(child);
        }
        next += 1;
    }
    family
}

/// SIGSTOP, and waits until it has taken effect: only the thread that the kernel picked stops the others, and on a busy
/// machine they go on until it has run.
fn stop(pid: u32) {
    signal(pid, Signal::STOP);
    let begun = Instant::now();
    while !is_stopped(pid) && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn is_stopped(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    threads
        .flatten()
        .filter_map(|thread| stat(&thread.path().join("stat")))
        .all(|(state, _)| matches!(state, 'T' | 't' | 'X' | 'Z'))
}

/// Lets a frozen family go on, the children first, so that none is missed by a parent that already runs.
pub(crate) fn thaw(pid: u32) {
    for member in freeze(pid).into_iter().rev() {
        signal(member, Signal::CONT);
    }
}

/// SIGKILL for the whole family; waits until it is gone.
pub(crate) fn kill(pid: u32) -> Result<(), String> {
    let family = freeze(pid);
    for &member in &family {
        signal(member, Signal::KILL);
    }
    wait(&family, Duration::from_secs(20))
}

/// Waits until none of them is alive.
pub(crate) fn wait(family: &[u32], patience: Duration) -> Result<(), String> {
    let begun = Instant::now();
    while let Some(left) = family.iter().find(|&&member| is_alive(member)) {
        if begun.elapsed() > patience {
            return Err(format!(
                "process {left} did not end within {} s",
                patience.as_secs()
            ));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The children of this process.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&pid| status(pid).is_some_and(|(_, of)| of == parent))
        .collect()
}

fn status(pid: u32) -> Option<(char, u32)> {
    stat(Path::new(&format!("/proc/{pid}/stat")))
}

/// State and parent. The name before them is in parentheses and may hold anything.
fn stat(file: &Path) -> Option<(char, u32)> {
    let stat = fs::read_to_string(file).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
