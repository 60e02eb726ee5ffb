//! `make demo`: a broker, orders of known fate, the real service, what its operator sees, and a verdict by ids.

use std::{
    env,
    io::{IsTerminal, Write},
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use test_servers::Server;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    Broker, Result, admin,
    check::{Check, grouped},
    faults::Faults,
    orders::{Fate, Mix, Order, Orders},
    process,
    reader::Progress,
    seed::Seeder,
    service::{Plan, Service, sum},
    stores::Store,
};

/// What the demo is asked for.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// How many orders
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(10..=5_000_000))]
    records: u64,
    /// Which orders: the same seed makes the same ones
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Where failures are kept: rocksdb, postgres, mongo, redis or memory; a server is started for it
    #[arg(long, default_value_t = Store::Rocksdb)]
    store: Store,
    /// Leaves broker, store and service running until Ctrl-C, and says how to look around
    #[arg(long)]
    keep: bool,
    /// Breaks the service on purpose, to see that the verdict notices: exit code 1
    #[arg(long)]
    sabotage: Option<Sabotage>,
}

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sabotage {
    /// One good order is read and its output is forgotten
    DropOne,
}

const PATIENCE: Duration = Duration::from_secs(600);

/// Exit code 0 only if every id came out exactly once, in order, as it should.
pub fn run(options: &Options) -> Result<ExitCode> {
    let interrupted = interrupted()?;
    let folder = tempfile::Builder::new().prefix("orders-demo-").tempdir()?;
    let stage = Stage::set(folder.path(), options)?;
    let outcome = stage.play(options, &interrupted);
    if stage.broker.is_none() {
        admin::delete_topics(&stage.plan.bootstrap, &stage.topics());
    }
    outcome
}

/// Raised by Ctrl-C or SIGTERM, so that what was started is ended in order.
fn interrupted() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        let _ = runtime.block_on(async {
            let (mut interrupt, mut terminate) =
                (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if raised.swap(true, Ordering::SeqCst) {
                    std::process::exit(130); // the second time: at once
                }
            }
            #[allow(unreachable_code, reason = "gives the block its type")]
            Ok::<(), std::io::Error>(())
        });
    });
    Ok(flag)
}

/// Where the demo plays.
struct Stage {
    broker: Option<Broker>,
    /// What the store needs; gone with the stage.
    server: Option<Server>,
    plan: Plan,
    /// The order that a sabotage drops.
    victim: Option<String>,
}

impl Stage {
    fn set(folder: &Path, options: &Options) -> Result<Self> {
        let mut broker = None;
        let (bootstrap, prefix) = if let Ok(given) = env::var("KAFKA_BOOTSTRAP_SERVERS") {
            println!("broker   {given} (KAFKA_BOOTSTRAP_SERVERS)");
            (given, format!("demo-{}.", uuid::Uuid::now_v7().simple()))
        } else {
            print!("broker   starting Apache Kafka … ");
            std::io::stdout().flush()?;
            let began = Instant::now();
            let started = broker.insert(Broker::start()?);
            println!(
                "{} after {:.1} s",
                started.bootstrap(),
                began.elapsed().as_secs_f32()
            );
            (started.bootstrap().to_owned(), String::new())
        };
        let server = start_server(options.store)?;
        let mut plan = Plan {
            group: format!("{prefix}orders-demo"),
            source: format!("{prefix}orders"),
            target: format!("{prefix}orders.enriched"),
            priority: format!("{prefix}orders.priority"),
            dead_letters: Some(format!("{prefix}orders.dead-letters")),
            ..Plan::new(folder, &bootstrap, "demo")
        }
        .key("failure-mode", "skip-and-log")
        .key("store-payload", "text")
        .on_server(options.store, server.as_ref())
        .key("concurrency", "2");
        for (topic, partitions) in [(&plan.source, 6), (&plan.target, 6), (&plan.priority, 6)] {
            admin::create_topic(&bootstrap, topic, partitions, &[])?;
        }
        if let Some(topic) = &plan.dead_letters {
            admin::create_topic(&bootstrap, topic, 1, &[])?;
        }
        let victim = seed(&plan, options)?.filter(|_| options.sabotage.is_some());
        if let Some(id) = &victim {
            let file = folder.join("faults.json");
            let faults = Faults {
                drop: Some(id.clone()),
                ..Faults::default()
            };
            faults.write(&file)?;
            plan.faults = Some(file);
            println!("sabotage the output of one good order will be forgotten");
        }
        Ok(Self {
            broker,
            server,
            plan,
            victim,
        })
    }

    fn topics(&self) -> Vec<&str> {
        let plan = &self.plan;
        let mut topics = vec![plan.source.as_str(), &plan.target, &plan.priority];
        topics.extend(plan.dead_letters.as_deref());
        topics
    }

    fn play(&self, options: &Options, interrupted: &AtomicBool) -> Result<ExitCode> {
        let plan = &self.plan;
        let began = Instant::now();
        let mut service = plan.start()?;
        println!(
            "service  orders-orchestrator, skip-and-log, dead-letter topic (pid {})",
            service.pid()
        );
        if !self.watch(&mut service, interrupted)? {
            println!("stopped");
            return Ok(ExitCode::from(130));
        }
        println!(
            "         done in {:.1} s\n\nThe last failures, as an operator sees them:\n  $ orders-orchestrator failures list",
            began.elapsed().as_secs_f32()
        );
        self.list_failures()?;
        if options.keep {
            let verdict = self.verdict()?;
            self.explain(&service);
            while !interrupted.load(Ordering::SeqCst) {
                if let Some(end) = service.ended()? {
                    return Err(format!("the service ended ({end}):\n{}", service.last_words()).into());
                }
                std::thread::sleep(Duration::from_millis(200));
            }
            service.stop(Duration::from_secs(30))?;
            return Ok(verdict);
        }
        let end = service.stop(Duration::from_secs(40))?;
        if !end.success() {
            return Err(format!(
                "the service did not stop in order: {end}. Its log: {}",
                plan.log().display()
            )
            .into());
        }
        self.verdict()
    }

    /// Shows how far it is until nothing is left; false if interrupted.
    fn watch(&self, service: &mut Service, interrupted: &AtomicBool) -> Result<bool> {
        let plan = &self.plan;
        let mut progress = Progress::of(&plan.bootstrap, &plan.group, &plan.source)?;
        let on_terminal = std::io::stdout().is_terminal();
        let every = Duration::from_secs(if on_terminal { 1 } else { 2 });
        let began = Instant::now();
        let mut told = None::<Instant>;
        loop {
            let left = progress.left()?;
            if let Some(end) = service.ended()? {
                let words = service.last_words();
                return Err(
                    format!("the service ended ({end}) with {left} orders left. It said:\n{words}").into(),
                );
            }
            if left == 0 || told.is_none_or(|t| t.elapsed() >= every) {
                told = Some(Instant::now());
                let metrics = service.get("/metrics").map(|(_, body)| body).unwrap_or_default();
                let count = |name: &str| {
                    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
                    let count = sum(&metrics, name) as usize;
                    grouped(count)
                };
                let line = format!(
                    "progress {:>4} s   consumed {:>7}   enriched {:>7}   failed {:>4}   lag {:>7}",
                    began.elapsed().as_secs(),
                    count("orch_records_in_total"),
                    count("orch_records_ok_total"),
                    count("orch_records_failed_total"),
                    grouped(usize::try_from(left)?),
                );
                if on_terminal {
                    print!("\r{line}{}", if left == 0 { "\n" } else { "" });
                    std::io::stdout().flush()?;
                } else {
                    println!("{line}");
                }
            }
            if left == 0 {
                return Ok(true);
            }
            if interrupted.load(Ordering::SeqCst) {
                return Ok(false);
            }
            if began.elapsed() > PATIENCE {
                let words = service.last_words();
                return Err(format!(
                    "{left} orders are still left after 10 minutes. The service said:\n{words}"
                )
                .into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn list_failures(&self) -> Result<()> {
        let listed = self.plan.operate(&["failures", "list", "--limit", "5"])?;
        for line in String::from_utf8_lossy(&listed.stdout).lines() {
            println!("    {line}");
        }
        if listed.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&listed.stderr).trim().to_owned();
        Err(format!("`failures list` did not work ({}): {why}", listed.status).into())
    }

    fn verdict(&self) -> Result<ExitCode> {
        let plan = &self.plan;
        let check = Check::new(
            &plan.bootstrap,
            &plan.source,
            &[&plan.target, &plan.priority],
            plan.dead_letters.as_deref(),
            &plan.group,
        );
        println!("\nThe verdict, by ids, of a reader that knows nothing of the service:");
        let verdict = check.run()?;
        println!("{verdict}");
        if let Some(id) = &self.victim {
            println!("(the sabotage dropped {id})");
        }
        Ok(verdict.exit_code().into())
    }

    fn explain(&self, service: &Service) {
        let plan = &self.plan;
        let binary = process::sibling("orders-orchestrator").unwrap_or_default();
        let (binary, config) = (binary.display(), plan.file());
        let config = config.display();
        let address = service.management();
        let running = match &self.server {
            Some(_) => "Broker, store and service",
            None => "Broker and service",
        };
        println!(
            "
{running} keep running. In another terminal:
  {binary} failures list --config {config}
  {binary} config show --config {config}
  curl http://{address}/readyz
  curl http://{address}/metrics
  tail -f {}
The broker is at {} (topics: {}).
Ctrl-C here stops all of it and removes everything.",
            plan.log().display(),
            plan.bootstrap,
            self.topics().join(", "),
        );
    }
}

/// Starts what the store needs, and says where failures are kept.
fn start_server(store: Store) -> Result<Option<Server>> {
    let Some(kind) = store.kind() else {
        println!("store    {} (db-strategy: {store})", store.title());
        return Ok(None);
    };
    print!("store    {}", store.title());
    std::io::stdout().flush()?;
    let server = Server::start(kind).inspect_err(|_| println!())?;
    println!(" at 127.0.0.1:{} (db-strategy: {store})", server.port());
    Ok(Some(server))
}

/// Produces the orders; answers the id of a good one from their midst.
fn seed(plan: &Plan, options: &Options) -> Result<Option<String>> {
    let seeder = Seeder::new(&plan.bootstrap)?;
    let mut victim = None;
    let count = usize::try_from(options.records)?;
    let mut fates = std::collections::BTreeMap::<String, usize>::new();
    for (number, order) in Orders::new(options.seed, Mix::DEMO).take(count).enumerate() {
        let Order { fate, id, .. } = &order;
        *fates.entry(fate.to_string()).or_default() += 1;
        if victim.is_none() && *fate == Fate::Good && number >= count / 2 {
            victim = Some(id.clone());
        }
        seeder.send(&plan.source, &order)?;
    }
    seeder.finish()?;
    let fates: Vec<String> = fates
        .iter()
        .map(|(fate, count)| format!("{} {fate}", grouped(*count)))
        .collect();
    println!(
        "orders   {} (seed {}): {}",
        grouped(count),
        options.seed,
        fates.join(", ")
    );
    Ok(victim)
}
