//! `make bench-stores`: what each store takes and costs, asked through the contract alone, opened as the service opens it.
//!
//! A store is filled to a size with open failures, then each kind of call is repeated; then it is filled to the next size. So a
//! cost that grows with what is held is seen. Calls follow each other: a latency is that of one caller.

mod cost;
mod load;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use orchestrator::registry::{Section, Tracker};
use serde::Serialize;
use serde_json::Value;
use test_servers::Server;
use tokio::task::JoinSet;
use tracker_api::{Cursor, Entry, Namespace, Order, Page, Query, Status};

pub(crate) use self::cost::Cpu;
use self::{
    cost::Lap,
    load::{BATCH, CLAIMED, FAILED, Live, MOST},
};
use crate::{Result, stores::Store};

/// So many calls at once fill a store.
const FILLERS: usize = 4;

/// What the benchmark is asked for.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// May be given several times
    #[arg(long = "store", default_values_t = [Store::Rocksdb, Store::Postgres, Store::Mongo, Store::Redis])]
    stores: Vec<Store>,
    /// So many open failures are held when it is measured; may be given several times
    #[arg(long = "entries", default_values_t = [10_000, 1_000_000])]
    sizes: Vec<i64>,
    /// How often each call is made: at least 20, so that a p95 is one of them
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(20..=1_000))]
    rounds: u32,
    /// Where every single call's time is written, as JSON
    #[arg(long)]
    raw: Option<PathBuf>,
}

/// What was measured of one store at one size.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    store: String,
    entries: i64,
    /// Entries a second while it was filled to this size, with their bytes.
    fill: f64,
    /// The progress of a batch, no entry: what `reliable` writes when nothing fails.
    progress: Lap,
    /// 10 of 1 000 failed: both calls of `reliable`.
    failed: Lap,
    /// 1 000 entries in flight: the first call of `outbox`.
    received: Lap,
    /// The same 1 000 done: its second call.
    succeeded: Lap,
    /// The newest 50.
    first_page: Lap,
    /// 50 in the midst.
    middle_page: Lap,
    /// Causes, over all.
    groups: Lap,
    /// 10 claimed to be replayed.
    claim: Lap,
}

/// What a store's content takes at the end.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Weight {
    store: String,
    entries: i64,
    on_disk: u64,
    in_memory: Option<u64>,
}

/// Measures, and prints the tables.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut sizes = options.sizes.clone();
    sizes.sort_unstable();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let (mut rows, mut weights) = (Vec::new(), Vec::new());
    for &store in &options.stores {
        let folder = tempfile::Builder::new().prefix("orders-stores-").tempdir()?;
        let server = server(store)?;
        let stage = Stage {
            store,
            server: server.as_ref(),
            folder: folder.path(),
            rounds: options.rounds,
        };
        let (measured, held) = runtime.block_on(stage.measure(&sizes))?;
        rows.extend(measured);
        weights.push(stage.weigh(held)?);
        if let Some(raw) = &options.raw {
            fs::write(raw, serde_json::to_vec(&rows)?)?;
        }
    }
    println!(
        "{}\n{}\n{}",
        table::told(&rows),
        table::asked(&rows),
        table::weights(&weights)
    );
    Ok(ExitCode::SUCCESS)
}

/// A server of its own. MongoDB's databases get folders of their own, so that the log for other nodes is not weighed;
/// PostgreSQL tidies up soon after it was filled, not within a minute.
fn server(store: Store) -> Result<Option<Server>> {
    let settings: &[(&str, &str)] = match store {
        Store::Mongo => &[("directoryperdb", "")],
        Store::Postgres => &[
            ("autovacuum_naptime", "5s"),
            ("autovacuum_vacuum_cost_delay", "0"),
        ],
        _ => &[],
    };
    let started = store.kind().map(|kind| Server::start_with(kind, settings));
    Ok(started.transpose()?)
}

struct Stage<'a> {
    store: Store,
    server: Option<&'a Server>,
    folder: &'a Path,
    rounds: u32,
}

impl Stage<'_> {
    async fn measure(&self, sizes: &[i64]) -> Result<(Vec<Row>, i64)> {
        let tracker = self.open().await?;
        let (mut rows, mut held) = (Vec::new(), 0);
        let mut live = 0;
        for (number, &entries) in sizes.iter().enumerate() {
            let begun = Instant::now();
            let from = held;
            let mut calls = JoinSet::new();
            while held < entries || !calls.is_empty() {
                if held < entries && calls.len() < FILLERS {
                    let slice: Vec<Entry> =
                        (held..entries.min(held + MOST)).map(load::open_failure).collect();
                    held += i64::try_from(slice.len())?;
                    let tracker = tracker.clone();
                    calls.spawn(async move { tracker.record(&slice, &[]).await });
                } else if let Some(done) = calls.join_next().await {
                    must(done??.iter().all(|stands| *stands))?;
                }
            }
            let fill = per_second(held - from, begun.elapsed());
            eprintln!("{}: {held} entries, {fill:.0} a second", self.store);
            self.rest().await?;
            let row = self.row(&tracker, &Live::new(number), (entries, fill)).await?;
            eprintln!("{}", table::line(&row));
            rows.push(row);
            live += i64::from(self.rounds) * (BATCH + FAILED);
        }
        Ok((rows, held + live))
    }

    async fn open(&self) -> Result<Tracker> {
        let mut section = Section::new();
        if let Some(server) = self.server {
            section.insert("url".to_owned(), Value::String(server.url()));
            // What is slow is to be seen, not cut off.
            section.insert("call-timeout-ms".to_owned(), Value::from(600_000));
        }
        let namespace = Namespace {
            name: "bench".to_owned(),
            cluster: None,
        };
        let name = self.store.to_string();
        let opened = orders::registry()
            .open(&name, &section, &namespace, self.folder)
            .await?;
        opened.ok_or_else(|| format!("{name} keeps nothing").into())
    }

    /// Waits until what was put off while it was filled is done, checkpoints that are spread over minutes among it: until the
    /// server and we have for ten seconds used less than a twentieth of a core, and written less than a mebibyte.
    async fn rest(&self) -> Result<()> {
        let while_looking = Duration::from_secs(10);
        let server = self.server.map(Server::pid);
        for _ in 0..90 {
            let (cpu, written) = (self.cpu()?, cost::written(server));
            tokio::time::sleep(while_looking).await;
            let after = self.cpu()?;
            let busy = after.client + after.server - cpu.client - cpu.server;
            if busy < while_looking.as_secs_f64() / 20.0
                && cost::written(server).saturating_sub(written) < 1 << 20
            {
                return Ok(());
            }
        }
        Err(format!("{} did not come to rest within a quarter of an hour", self.store).into())
    }

    fn cpu(&self) -> Result<Cpu> {
        Cpu::now(self.server.map(Server::pid))
    }

    async fn row(&self, tracker: &Tracker, live: &Live, (entries, fill): (i64, f64)) -> Result<Row> {
        let cpu = || self.cpu();
        let rounds = i64::from(self.rounds);

        let progress: Vec<_> = (0..rounds).map(|round| live.progress(round)).collect();
        let progress = cost::laps(cpu, progress, async |row| {
            tracker.record(&[], &[row]).await?;
            Ok(())
        })
        .await?;

        let failures: Vec<_> = (0..rounds).map(|round| live.failures(round)).collect();
        let failed = cost::laps(cpu, failures, async |(before, after, progress)| {
            must(tracker.record(&before, &[]).await?.iter().all(|stands| *stands))?;
            must(
                tracker
                    .record(&after, &[progress])
                    .await?
                    .iter()
                    .all(|stands| *stands),
            )
        })
        .await?;

        let batches: Vec<_> = (0..rounds).map(|round| live.received(round)).collect();
        let received = cost::laps(cpu, batches, async |(entries, progress)| {
            must(tracker.record(&entries, &[progress]).await?.len() == entries.len())
        })
        .await?;
        let batches: Vec<_> = (0..rounds).map(|round| live.succeeded(round)).collect();
        let succeeded = cost::laps(cpu, batches, async |(entries, progress)| {
            must(
                tracker
                    .record(&entries, &[progress])
                    .await?
                    .iter()
                    .all(|stands| *stands),
            )
        })
        .await?;

        let page = Query {
            statuses: vec![Status::Open, Status::Blocking, Status::Failing, Status::Replaying],
            order: Order::NewestFirst,
            limit: 50,
            ..Query::default()
        };
        let full = |page: &Page| must(page.entries.len() == 50 && page.next.is_some());
        let pages = vec![page.clone(); usize::try_from(self.rounds)? * 5];
        let first_page = cost::laps(cpu, pages, async |query| full(&tracker.list(&query).await?)).await?;
        let midst = load::open_failure(entries / 2);
        let middle = Query {
            after: Some(Cursor {
                id: midst.id,
                first_failed_at: midst.first_failed_at,
            }),
            ..page
        };
        let pages = vec![middle; usize::try_from(self.rounds)? * 5];
        let middle_page = cost::laps(cpu, pages, async |query| full(&tracker.list(&query).await?)).await?;

        let all = Query {
            statuses: vec![Status::Open],
            ..Query::default()
        };
        let groups = cost::laps(cpu, vec![all; 5], async |query| {
            let groups = tracker.groups(&query).await?;
            let counted: u64 = groups.iter().map(|group| group.count).sum();
            must(i64::try_from(counted)? >= entries - load::claimed(rounds) * 2)
        })
        .await?;

        // each size has others, which nobody has claimed
        let first = if live.number == 0 { 0 } else { entries / 2 };
        let claims: Vec<_> = (0..rounds)
            .map(|round| load::claim(first + round * CLAIMED))
            .collect();
        let claim = cost::laps(cpu, claims, async |changes| {
            must(tracker.resolve(&changes).await?.iter().all(|took| *took))
        })
        .await?;
        Ok(Row {
            store: self.store.to_string(),
            entries,
            fill,
            progress,
            failed,
            received,
            succeeded,
            first_page,
            middle_page,
            groups,
            claim,
        })
    }

    /// Ends the server in order, so that all of it is in its files, and weighs these without the logs that are written ahead.
    fn weigh(&self, entries: i64) -> Result<Weight> {
        let in_memory = match (self.store, self.server) {
            (Store::Redis, Some(server)) => Some(cost::redis_memory(server.port())?),
            _ => None,
        };
        let folder = match self.server {
            Some(server) => {
                server.stop()?;
                server.folder()
            }
            None => self.folder.to_owned(),
        };
        Ok(Weight {
            store: self.store.to_string(),
            entries,
            on_disk: cost::weight(&folder)?,
            in_memory,
        })
    }
}

/// A call that answers at once and does not do its work would be the fastest.
fn must(done: bool) -> Result<()> {
    if done {
        Ok(())
    } else {
        Err("the store answered something else than the benchmark wrote".into())
    }
}

#[allow(clippy::cast_precision_loss, reason = "a count below 2^53")]
fn per_second(count: i64, within: Duration) -> f64 {
    count as f64 / within.as_secs_f64()
}
