//! The commands `tracker …`: what is done with the store itself.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use tracker_api::Purgeable;

mod moving;

pub(crate) use moving::{copy, verify};

use super::{
    access::Access,
    ask::{self, Resolve},
    command::{Format, left_out, moment, print, print_all, report, user},
    error::{Error, Kind, Result},
    table,
};

/// Look at the tracker itself.
#[derive(Clone, Debug, Subcommand)]
pub enum TrackerCommand {
    /// Settle what a crash left in doubt, by reading Kafka.
    #[command(after_help = "Examples:\n  tracker reconcile\n  tracker reconcile -o json")]
    Reconcile(Plain),
    /// Show how far each partition has come, as far as the store knows; and of a running service, how far it is behind
    /// and why it does not move.
    #[command(after_help = "Examples:\n  tracker progress\n  tracker progress -o ndjson")]
    Progress(Plain),
    /// Show whether the store answers, what it cannot promise, and how much it was told.
    #[command(after_help = "Examples:\n  tracker info\n  tracker info -o json")]
    Info(Plain),
    /// Delete what is finished and old, as the service does by itself. Never an open failure.
    #[command(
        after_help = "Examples:\n  tracker purge --dry-run\n  tracker purge --resolved-before 7d --yes --reason 'disk is full'"
    )]
    Purge(Purging),
    /// Copy everything from one store into another, or into a file, and compare the two.
    #[command(
        after_help = "Examples:\n  tracker copy --from rocksdb --to postgres\n  tracker copy --from postgres --to ndjson:backup.ndjson"
    )]
    Copy(Moving),
    /// Say whether two stores, or a store and a file, hold the same.
    #[command(
        after_help = "Examples:\n  tracker verify --from rocksdb --to postgres\n  tracker verify --from redis --to ndjson:backup.ndjson"
    )]
    Verify(Moving),
    /// Make or renew the tables of the configured store, where it has any. For a service whose own role may not.
    #[command(
        after_help = "Examples:\n  tracker migrate\n  tracker migrate --set postgres.username=owner --set postgres.password=…"
    )]
    Migrate,
}

/// A command that needs nothing but a format.
#[derive(Clone, Debug, Args)]
pub struct Plain {
    /// What to print.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,
}

/// `tracker purge`.
#[derive(Clone, Debug, Args)]
pub struct Purging {
    /// Delete entries that succeeded before: a time, or so long ago (1d). By default what `retention.succeeded` says.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub succeeded_before: Option<Timestamp>,
    /// Delete failures that were decided about, and what a reset left behind, written before. By default what
    /// `retention.resolved` says.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub resolved_before: Option<Timestamp>,
    /// Only count.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Why, for whoever reads the log later: 5 to 500 characters.
    #[arg(long, default_value = "not said")]
    pub reason: String,
    /// Who deletes; the user's name or number if it is not said.
    #[arg(long, env = "USER")]
    pub actor: Option<String>,
}

/// `tracker copy` and `tracker verify`.
#[derive(Clone, Debug, Args)]
pub struct Moving {
    /// A store by its name in the configuration, or `ndjson:FILE` (`ndjson:-` is standard input).
    #[arg(long, value_name = "STORE")]
    pub from: String,
    /// Another store, or `ndjson:FILE` (`ndjson:-` is standard output).
    #[arg(long, value_name = "STORE")]
    pub to: String,
    /// What to print.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,
}

impl TrackerCommand {
    /// Runs one that works on the configured store. Copy, verify and migrate open stores of their own, and are
    /// run by the command line.
    pub async fn run(
        self,
        access: &Access,
        store: &str,
        retention: &crate::config::Retention,
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> i32 {
        let done = match self {
            Self::Reconcile(plain) => match access.reconcile().await {
                Ok(done) => print_all(out, plain.output, &done, |_| table::reconciled(&done)),
                Err(error) => Err(error),
            },
            Self::Progress(plain) => {
                let progress = access.progress().await;
                let mut positions = progress.as_ref().map_or_else(|_| Vec::new(), Clone::clone);
                // Also when the store does not answer: what does not move may be waiting for it.
                let standing = access.standing().await.unwrap_or_default();
                for stall in standing.told(&mut positions) {
                    let _ = writeln!(err, "{}", table::stalled(&stall));
                }
                if progress.is_ok() {
                    left_out(access, err).await;
                }
                match progress {
                    Ok(_) if positions.is_empty() => {
                        Err(Error::new(Kind::NotFound, "the store knows of no partition yet"))
                    }
                    Ok(_) => print_all(out, plain.output, &positions, |_| table::progress(&positions)),
                    Err(error) => Err(error),
                }
            }
            Self::Info(plain) => match access.about().await {
                Ok(about) => {
                    let away = about.answers.is_err();
                    let printed = print(out, plain.output, &about, |_| table::about(&about, store));
                    if away && printed.is_ok() {
                        return 69;
                    }
                    printed
                }
                Err(error) => Err(error),
            },
            Self::Purge(purging) => return purging.run(access, retention, out, err).await,
            Self::Copy(_) | Self::Verify(_) | Self::Migrate => {
                Err(Error::new(Kind::Failed, "this command opens stores of its own"))
            }
        };
        done.map_or_else(|error| report(&error, err), |()| 0)
    }
}

impl Purging {
    async fn run(
        &self,
        access: &Access,
        retention: &crate::config::Retention,
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> i32 {
        let now = Timestamp::now().as_millisecond();
        let before = |asked: Option<Timestamp>, keep: Option<Duration>| {
            let by_age = || Some(now.saturating_sub(i64::try_from(keep?.as_millis()).unwrap_or(i64::MAX)));
            asked.map(Timestamp::as_millisecond).or_else(by_age)
        };
        let resolved = before(self.resolved_before, retention.resolved);
        let wanted = [
            (
                Purgeable::Succeeded,
                "succeeded",
                before(self.succeeded_before, retention.succeeded),
            ),
            (Purgeable::Resolved, "resolved", resolved),
            (Purgeable::Superseded, "superseded", resolved),
        ];
        match self.purge(access, &wanted, out, err).await {
            Ok(code) => code,
            Err(error) => report(&error, err),
        }
    }

    async fn purge(
        &self,
        access: &Access,
        wanted: &[Wanted],
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> Result<i32> {
        // With --yes there is nothing to show first.
        if self.dry_run || !self.yes {
            let planned = each(access, wanted, None).await?;
            if self.dry_run || planned.iter().all(|(_, count)| *count == 0) {
                let word = if self.dry_run { "would go" } else { "gone" };
                told_counts(&planned, word, out);
                return Ok(0);
            }
            if !confirmed(&planned, err) {
                let _ = writeln!(err, "nothing was done");
                return Ok(2);
            }
        }
        let by = Resolve {
            reason: self.reason.clone(),
            actor: self.actor.clone().unwrap_or_else(user),
            revision: None,
        };
        told_counts(&each(access, wanted, Some(by)).await?, "gone", out);
        Ok(0)
    }
}

/// A kind, its name, and before when it must be written to go; none if it stays.
type Wanted = (Purgeable, &'static str, Option<i64>);

fn told_counts(counts: &[(&str, u64)], word: &str, out: &mut impl Write) {
    for (name, count) in counts {
        let _ = writeln!(out, "{name:<11}{count:>10} {word}");
    }
}

/// Deletes what may go of each kind, `by` somebody; nobody only counts.
async fn each(access: &Access, wanted: &[Wanted], by: Option<Resolve>) -> Result<Vec<(&'static str, u64)>> {
    let mut counts = Vec::with_capacity(wanted.len());
    for (what, name, before) in wanted {
        let Some(before) = *before else { continue };
        let purge = ask::Purge {
            what: *what,
            before,
            dry_run: by.is_none(),
            by: by.clone(),
        };
        counts.push((*name, all(access, purge).await?));
    }
    Ok(counts)
}

async fn all(access: &Access, mut purge: ask::Purge) -> Result<u64> {
    let mut gone = 0;
    loop {
        let more = access.purge(&purge).await?;
        gone += more;
        if more == 0 || purge.dry_run {
            return Ok(gone);
        }
        purge.by = None;
    }
}

fn confirmed(counts: &[(&str, u64)], err: &mut impl Write) -> bool {
    let total: u64 = counts.iter().map(|(_, count)| count).sum();
    let list: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    let _ = writeln!(err, "This deletes {} for good.", list.join(", "));
    if !io::stdin().is_terminal() {
        let _ = writeln!(
            err,
            "Nobody can be asked here: say --yes, or --dry-run to only count"
        );
        return false;
    }
    let _ = write!(err, "Type {total} to go on: ").and_then(|()| err.flush());
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).is_ok() && answer.trim() == total.to_string()
}
