//! The process that owns a server and its folder: `watchdog.sh`.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

const SCRIPT: &str = include_str!("watchdog.sh");

/// Dropped, or lost with its process: the server is killed and its folder removed.
#[derive(Debug)]
pub(crate) struct Watchdog {
    process: Child,
    /// Closed on exec, like every pipe of the standard library: no child of ours keeps it open.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Watchdog {
    /// From here on the folder is the watchdog's.
    pub(crate) fn new(folder: &Path) -> Result<Self, String> {
        let mut process = Command::new("sh")
            .args(["-c", SCRIPT, "watchdog"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // a Ctrl-C is for the one who holds the server; the watchdog sees the end of its input then
            .process_group(0)
            .spawn()
            .map_err(|error| format!("`sh`, which watches over a test server, did not start: {error}"))?;
        let answers = process.stdout.take().ok_or("the watchdog has no output")?;
        Ok(Self {
            orders: process.stdin.take(),
            process,
            answers: BufReader::new(answers),
        })
    }

    /// Which command line [`Watchdog::start`] runs. No word of it may hold a line break.
    pub(crate) fn command(&mut self, line: &[String]) -> Result<(), String> {
        if let Some(word) = line.iter().find(|word| word.contains('\n')) {
            return Err(format!("a setting of a test server holds a line break: {word:?}"));
        }
        self.order("new")?;
        line.iter().try_for_each(|word| self.order(&format!("={word}")))
    }

    /// Starts it and answers its process.
    pub(crate) fn start(&mut self) -> Result<u32, String> {
        self.order("start")?;
        self.answer()
    }

    /// Waits for its end and answers its exit status.
    pub(crate) fn ended(&mut self) -> Result<u32, String> {
        self.order("ended")?;
        self.answer()
    }

    fn order(&mut self, order: &str) -> Result<(), String> {
        let pipe = self.orders.as_mut().ok_or("the watchdog is gone")?;
        writeln!(pipe, "{order}").map_err(|error| format!("the watchdog of a test server is gone: {error}"))
    }

    fn answer(&mut self) -> Result<u32, String> {
        let mut answer = String::new();
        self.answers
            .read_line(&mut answer)
            .map_err(|error| format!("the watchdog of a test server is gone: {error}"))?;
        let answer = answer.trim();
        answer
            .parse()
            .map_err(|_| format!("the watchdog of a test server answered `{answer}` instead of a number"))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.process.wait();
    }
}
