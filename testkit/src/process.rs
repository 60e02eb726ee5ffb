//! Starting other programs so that none outlives the one that asked for it.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::Result;

/// A command for `program` that the kernel kills as soon as the thread that spawned it ends, even by SIGKILL.
pub fn bound_to_us(program: &Path) -> Command {
    match find("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// The first executable of this name on `PATH`.
pub fn find(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// A binary of this workspace, beside the one that runs: `target/debug/NAME`.
pub fn sibling(name: &str) -> Result<PathBuf> {
    let me = env::current_exe()?;
    let folder = me.parent().map(|f| {
        if f.ends_with("deps") {
            f.parent().unwrap_or(f)
        } else {
            f
        }
    });
    let binary = folder
        .ok_or("this program has no folder")?
        .join(name)
        .with_extension(env::consts::EXE_EXTENSION);
    if binary.is_file() {
        Ok(binary)
    } else {
        Err(format!(
            "{} is not built: run `make build` (or `cargo build --workspace`) first",
            binary.display()
        )
        .into())
    }
}

/// Sends a signal to a process that we started.
pub fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("not a process id"))?;
    kill_process(pid, signal).map_err(io::Error::from)
}

/// Whether a process with this id exists and is not a zombie.
pub fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| !rest.trim_start().starts_with('Z'))
    })
}

/// The folder that holds what is fetched and built once for all clones.
pub fn cache() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .ok_or("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(base.join("orders-orchestrator"))
}
