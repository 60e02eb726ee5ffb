//! `make bench`: the service against a bare loop of librdkafka, run after run on one broker. What each of them wrote is
//! judged by ids; a run that is not exact counts for nothing.
//!
//! A run: the contestant joins its group with an empty topic and is frozen (SIGSTOP); the topic is filled; it is thawed, and
//! from that moment its time and its CPU count, until its last commit. So neither start-up nor rebalancing is in the figures,
//! and every lane has its partitions from the first record on.

mod contestant;
mod load;
mod table;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use rustix::process::Signal;
use serde::Serialize;

use test_servers::Server;

use self::contestant::{Cell, Commit, Contestant};
use crate::{
    Broker, Result, admin,
    check::Check,
    orders::Order,
    process,
    reader::{self, Progress},
    seed::Seeder,
    stores::Store,
    tracker_bench::Cpu,
};

/// What the benchmark is asked for.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Orders in each run
    #[arg(long, default_value_t = 300_000)]
    records: usize,
    /// Bytes of an order's value
    #[arg(long, default_value_t = 300)]
    bytes: usize,
    /// How often each contestant runs in each cell, a warm-up apart
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Lanes; may be given several times
    #[arg(long = "lanes", default_values_t = [1, 2])]
    lanes: Vec<usize>,
    /// Most records of a transaction; may be given several times
    #[arg(long = "batch", default_values_t = [2_000, 5_000])]
    batches: Vec<usize>,
    /// The producers' `linger.ms`, of all contestants
    #[arg(long, default_value = "5")]
    linger: String,
    /// The consumers' `queued.max.messages.kbytes`, of all contestants: how much each lane fetches ahead
    #[arg(long, default_value = "16384")]
    prefetch: String,
    /// The store of `lightweight`, `reliable` and `outbox`; its server is started, and is one of the machine's loads
    #[arg(long, default_value_t = Store::Rocksdb)]
    store: Store,
    /// Orders of a thousand that fail and become dead letters; not with `bare` and `forward`, which read none
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    failing: u32,
    /// May be given several times; the first one is what the others are divided by
    #[arg(long = "contestant", value_enum, default_values_t = [Contestant::Bare, Contestant::Forward, Contestant::None, Contestant::Reliable])]
    contestants: Vec<Contestant>,
    /// Where every single run is written, as JSON
    #[arg(long)]
    raw: Option<PathBuf>,
}

/// The variable that tells `testkit-forward` what to append.
pub const FIELD: &str = "BENCH_FIELD";

/// Partitions of source and target.
const PARTITIONS: i32 = 6;
const PATIENCE: Duration = Duration::from_secs(300);

/// One run of one contestant.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    cell: Cell,
    contestant: Contestant,
    round: usize,
    /// The machine's load before it: the average of the last minute.
    load: f64,
    seconds: f64,
    cpu_seconds: f64,
    broker_cpu_seconds: f64,
    store_cpu_seconds: f64,
    peak_rss_kib: u64,
    commits: Vec<Commit>,
    /// What the checker found wrong; none counts.
    wrong: Option<String>,
}

/// Exit code 0 only if every run was exact.
pub fn run(options: &Options) -> Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("orders-bench-").tempdir()?;
    let reads_all = [Contestant::Bare, Contestant::Forward];
    if options.failing > 0 && options.contestants.iter().any(|c| reads_all.contains(c)) {
        return Err(
            "with --failing, name the contestants that read orders: --contestant none --contestant reliable"
                .into(),
        );
    }
    let mut bench = Bench {
        broker: Broker::start()?,
        server: options.store.kind().map(Server::start).transpose()?,
        folder: folder.path().to_owned(),
        orders: load::orders(options.records, options.bytes, options.failing),
        appended: None,
        options: options.clone(),
        number: 0,
    };
    let cells: Vec<Cell> = options
        .lanes
        .iter()
        .flat_map(|&lanes| options.batches.iter().map(move |&batch| Cell { lanes, batch }))
        .collect();
    let first = *cells.first().ok_or("no lanes or no batch")?;
    println!(
        "{} orders of {} bytes, {} of 1000 failing, {PARTITIONS} partitions, {}, linger.ms={}, queued.max.messages.kbytes={}; warming up",
        options.records,
        options.bytes,
        options.failing,
        options.store.title(),
        options.linger,
        options.prefetch
    );
    // The first shows how long an enriched order is: the bare loop writes as much.
    bench.measure(Contestant::None, first, 0)?;
    for &contestant in &options.contestants {
        bench.measure(contestant, first, 0)?;
    }
    println!(
        "an output's value is {} bytes longer than its order",
        bench.appended()
    );
    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        for cell in &cells {
            let mut order = options.contestants.clone();
            let turns = round % order.len().max(1);
            order.rotate_left(turns);
            for contestant in order {
                let run = bench.measure(contestant, *cell, round)?;
                println!("{}", table::line(&run));
                runs.push(run);
                if let Some(raw) = &options.raw {
                    fs::write(raw, serde_json::to_vec(&runs)?)?;
                }
            }
        }
    }
    println!("\n{}", table::of(&runs, &cells, &options.contestants));
    Ok(if runs.iter().all(|run| run.wrong.is_none()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

struct Bench {
    broker: Broker,
    server: Option<Server>,
    folder: PathBuf,
    orders: Vec<Order>,
    /// How much longer an enriched order is; found by the first run.
    appended: Option<usize>,
    options: Options,
    number: usize,
}

impl Bench {
    fn appended(&self) -> usize {
        self.appended.unwrap_or(200)
    }

    fn measure(&mut self, contestant: Contestant, cell: Cell, round: usize) -> Result<Run> {
        self.number += 1;
        let name = format!("bench-{}", self.number);
        let bootstrap = self.broker.bootstrap().to_owned();
        let folder = self.folder.join(&name);
        fs::create_dir_all(&folder)?;
        let setup = contestant::Setup {
            bootstrap: bootstrap.clone(),
            source: format!("{name}.in"),
            target: format!("{name}.out"),
            linger: self.options.linger.clone(),
            prefetch: self.options.prefetch.clone(),
            appended: self.appended(),
            dead_letters: (self.options.failing > 0).then(|| format!("{name}.dead-letters")),
            store: self.options.store,
            server: self.server.as_ref(),
            folder: folder.clone(),
            name,
        };
        let topics: Vec<&str> = [&setup.source, &setup.target]
            .into_iter()
            .chain(&setup.dead_letters)
            .map(String::as_str)
            .collect();
        for topic in &topics {
            admin::create_topic(&bootstrap, topic, PARTITIONS, &[])?;
        }
        let mut running = setup.start(contestant, cell)?;
        load::wait_settled(&bootstrap, &setup.name, cell.lanes, PARTITIONS)?;

        process::signal(running.pid(), Signal::STOP)?;
        let seeder = Seeder::new(&bootstrap)?;
        for order in &self.orders {
            seeder.send(&setup.source, order)?;
        }
        seeder.finish()?;
        drop(seeder);
        std::thread::sleep(Duration::from_millis(500));

        let load = load_average()?;
        let store = || Cpu::now(self.server.as_ref().map(Server::pid));
        let (cpu, broker) = (cpu_of(running.pid())?, cpu_of(self.broker.facts().pid)?);
        let before = store()?;
        let thawed = SystemTime::now();
        process::signal(running.pid(), Signal::CONT)?;
        self.wait_drained(&setup.name, &setup.source, &mut running)?;
        let cpu_seconds = cpu_of(running.pid())? - cpu;
        let broker_cpu_seconds = cpu_of(self.broker.facts().pid)? - broker;
        let store_cpu_seconds = store()?.server - before.server;
        let peak_rss_kib = peak_rss(running.pid())?;
        let log = running.stop()?;

        let commits = contestant.commits(&log, thawed.duration_since(UNIX_EPOCH)?)?;
        let last = commits.iter().map(|c| c.at).fold(0.0, f64::max);
        let wrong = self.judge(&setup, &commits)?;
        if self.appended.is_none() && contestant != Contestant::Bare {
            self.appended = Some(self.longer(&setup)?);
        }
        admin::delete_topics(&bootstrap, &topics);
        fs::remove_dir_all(folder)?;
        Ok(Run {
            cell,
            contestant,
            round,
            load,
            seconds: last - thawed.duration_since(UNIX_EPOCH)?.as_secs_f64(),
            cpu_seconds,
            broker_cpu_seconds,
            store_cpu_seconds,
            peak_rss_kib,
            commits,
            wrong,
        })
    }

    fn wait_drained(&self, group: &str, source: &str, running: &mut contestant::Running) -> Result<()> {
        let mut progress = Progress::of(self.broker.bootstrap(), group, source)?;
        let begun = Instant::now();
        while progress.left()? > 0 {
            running.must_run()?;
            if begun.elapsed() > PATIENCE {
                return Err(format!(
                    "not drained within {} s: {}",
                    PATIENCE.as_secs(),
                    running.last_words()
                )
                .into());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// What the checker finds wrong, by ids.
    fn judge(&self, setup: &contestant::Setup, commits: &[Commit]) -> Result<Option<String>> {
        let verdict = Check::new(
            &setup.bootstrap,
            &setup.source,
            &[&setup.target],
            setup.dead_letters.as_deref(),
            &setup.name,
        )
        .run()?;
        let (all, told) = (
            self.orders.len(),
            commits.iter().map(|c| c.records).sum::<usize>(),
        );
        if !verdict.is_true() || verdict.enriched + verdict.failed != all {
            return Ok(Some(verdict.to_string()));
        }
        Ok((told != all).then(|| format!("it told of {told} committed records of {all}")))
    }

    fn longer(&self, setup: &contestant::Setup) -> Result<usize> {
        let written = reader::read(&setup.bootstrap, &setup.target, PATIENCE)?.records;
        let out: usize = written
            .iter()
            .filter_map(|r| r.value.as_ref())
            .map(Vec::len)
            .sum();
        let read: usize = self.orders.iter().map(|order| order.value.len()).sum();
        Ok(out.saturating_sub(read) / self.orders.len().max(1))
    }
}

fn load_average() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().ok_or("no load average")?.parse()?)
}

/// The kernel's ticks per second, the same on every Linux that we build for.
const TICKS: f64 = 100.0;

/// User and system time of a process so far, in seconds.
fn cpu_of(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |field: usize| -> Result<f64> { Ok(fields.get(field).ok_or("short stat")?.parse()?) };
    // fields 14 and 15 of the whole line
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}

fn peak_rss(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let fields: BTreeMap<&str, &str> = status.lines().filter_map(|line| line.split_once(':')).collect();
    let text = fields.get("VmHWM").ok_or("no VmHWM")?;
    Ok(text.trim().trim_end_matches(" kB").parse()?)
}

/// The bare loop, beside this program.
fn bare() -> Result<PathBuf> {
    process::sibling("bare").map_err(|why| format!("{why}; `make bench` builds it").into())
}

/// The end of a log.
fn words(log: &Path) -> String {
    crate::service::last_lines(log, 20)
}
