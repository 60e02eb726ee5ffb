//! `testkit`: broker, seed, check, proxy, demo, serve. Never shipped.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use testkit::broker::watchdog;

#[derive(Parser)]
#[command(
    name = "testkit",
    about = "Starts real servers, seeds, checks by ids, cuts connections, runs the demo"
)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A single-node broker on loopback, until standard input ends; prints its addresses as one line of JSON
    Broker,
}

fn main() -> ExitCode {
    let outcome = match Line::parse().command {
        Command::Broker => with_runtime(watchdog::run()).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("testkit: {error}");
        ExitCode::from(2)
    })
}

/// On this thread: the processes that we start live only as long as the thread that started them.
fn with_runtime<T>(work: impl Future<Output = testkit::Result<T>>) -> testkit::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
