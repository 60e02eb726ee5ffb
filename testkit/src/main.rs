//! `testkit`: broker, seed, check, proxy, demo, serve. Never shipped.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use testkit::{
    Result, bench,
    broker::watchdog,
    check::Check,
    demo,
    orders::{Mix, Orders},
    process,
    proxy::{Act, Proxy, Rule, Until},
    seed, tracker_bench,
};

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
    /// Produces orders of known fate
    Seed(SeedOptions),
    /// Judges by ids what became of them. Exit code 0: true; 1: false; 2: no verdict could be reached
    Check(CheckOptions),
    /// Makes the network's worst happen at a chosen request, until standard input ends
    Proxy(ProxyOptions),
    /// Broker, orders, service, operator's view, verdict
    Demo(demo::Options),
    /// The service against a bare loop of librdkafka, on one broker; from an optimised build
    Bench(bench::Options),
    /// What each store takes and costs, through the contract alone; from an optimised build
    TrackerBench(tracker_bench::Options),
    /// The service with faults: `testkit serve run --config FILE`; the variable TESTKIT_FAULTS names a file of faults
    Serve {
        /// As for `orders-orchestrator`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Args)]
struct SeedOptions {
    #[arg(long)]
    bootstrap: String,
    #[arg(long, default_value = "orders")]
    topic: String,
    #[arg(long, default_value_t = 20_000)]
    records: usize,
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// The number of the first id
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only good ones
    #[arg(long)]
    good: bool,
    /// Poison orders of a thousand
    #[arg(long, default_value_t = 0)]
    poison: u32,
}

#[derive(Args)]
struct CheckOptions {
    #[arg(long)]
    bootstrap: String,
    #[arg(long, default_value = "orders")]
    source: String,
    /// May be given several times
    #[arg(long = "target", required = true)]
    targets: Vec<String>,
    #[arg(long)]
    dead_letters: Option<String>,
    #[arg(long)]
    group: String,
    /// Seconds that an open transaction may last
    #[arg(long, default_value_t = 40)]
    patience: u64,
}

#[derive(Args)]
struct ProxyOptions {
    #[arg(long)]
    listen: String,
    #[arg(long)]
    upstream: String,
    /// The API key of the request that is to be late: 26 EndTxn, 28 TxnOffsetCommit, 24, 25, 22, 0
    #[arg(long)]
    hold: Option<i16>,
    /// The how manieth of them
    #[arg(long, default_value_t = 1)]
    nth: usize,
}

fn main() -> ExitCode {
    let outcome = match Line::parse().command {
        Command::Broker => with_runtime(watchdog::run()).map(|()| ExitCode::SUCCESS),
        Command::Seed(options) => seed(&options),
        Command::Check(options) => check(&options),
        Command::Proxy(options) => proxy(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::TrackerBench(options) => tracker_bench::run(&options),
        Command::Serve { arguments } => serve(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("testkit: {error}");
        ExitCode::from(2)
    })
}

/// On this thread: the processes that we start live only as long as the thread that started them.
fn with_runtime<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

fn seed(options: &SeedOptions) -> Result<ExitCode> {
    let base = if options.good { Mix::GOOD } else { Mix::DEMO };
    let mix = Mix {
        poison: options.poison,
        ..base
    };
    let orders = Orders::new(options.seed, mix)
        .from(options.from)
        .take(options.records);
    let count = seed::produce(&options.bootstrap, &options.topic, orders)?;
    println!("produced {count}");
    Ok(ExitCode::SUCCESS)
}

fn check(options: &CheckOptions) -> Result<ExitCode> {
    let targets: Vec<&str> = options.targets.iter().map(String::as_str).collect();
    let mut check = Check::new(
        &options.bootstrap,
        &options.source,
        &targets,
        options.dead_letters.as_deref(),
        &options.group,
    );
    check.patience = Duration::from_secs(options.patience);
    let verdict = check.run()?;
    println!("{verdict}");
    Ok(verdict.exit_code().into())
}

fn proxy(options: &ProxyOptions) -> Result<ExitCode> {
    let proxy = Proxy::start(&options.listen, &options.upstream)?;
    if let Some(api) = options.hold {
        proxy.on(Rule::next(api, Act::HoldAndCut(Until::NextTransaction)).nth(options.nth));
    }
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
    for event in proxy.events() {
        println!("{event:?}");
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(arguments: &[String]) -> Result<ExitCode> {
    let service: PathBuf = process::sibling("testkit-serve")?;
    let end = process::bound_to_us(&service).args(arguments).status()?;
    Ok(end
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}
