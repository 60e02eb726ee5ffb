//! The commands `failures …` and `tracker …`. The program's command line holds these enums, finds an
//! [`Access`] and runs them; what they return is the exit code.

use std::io::{self, Write};

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;
use tracker_api::RecordId;

use super::{
    access::Access,
    ask::{Ask, Listing, Resolve, Seen},
    error::{Error, Kind, Result},
    table,
};

/// What a command prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for a person.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One JSON document per line.
    Ndjson,
}

/// Look at records that failed, and decide about them.
#[derive(Clone, Debug, Subcommand)]
pub enum FailuresCommand {
    /// List records that failed, the newest failure first.
    #[command(
        after_help = "Examples:\n  failures list --status blocking\n  failures list --topic orders --class malformed --limit 500 -o ndjson"
    )]
    List(List),
    /// Show one record.
    #[command(
        after_help = "Examples:\n  failures show orders:3:42\n  failures show orders:3:42 --payload -o json"
    )]
    Show(Show),
    /// Try a blocking record again now.
    #[command(
        after_help = "Examples:\n  failures retry orders:3:42 --reason 'price service is back'\n  failures retry orders:3:42 --reason 'price service is back' -o json"
    )]
    Retry(Decide),
    /// Pass a blocking record over: it becomes a failed one, and its partition goes on.
    #[command(
        after_help = "Examples:\n  failures skip orders:3:42 --reason 'test data, see OPS-7'\n  failures skip orders:3:42 --revision 4 --reason 'test data, see OPS-7'"
    )]
    Skip(Decide),
}

/// Look at the tracker itself.
#[derive(Clone, Debug, Subcommand)]
pub enum TrackerCommand {
    /// Settle what a crash left in doubt, by reading Kafka.
    #[command(after_help = "Examples:\n  tracker reconcile\n  tracker reconcile -o json")]
    Reconcile(Plain),
    /// Show how far each partition has come, as far as the store knows.
    #[command(after_help = "Examples:\n  tracker progress\n  tracker progress -o ndjson")]
    Progress(Plain),
}

/// `failures list`.
#[derive(Clone, Debug, Args)]
pub struct List {
    /// Which records; `unresolved` is what needs a person.
    #[arg(long, value_enum, default_value_t)]
    pub status: Seen,
    /// Only of this source topic.
    #[arg(long)]
    pub topic: Option<String>,
    /// Only of this partition of the topic.
    #[arg(long, requires = "topic")]
    pub partition: Option<i32>,
    /// Only of this error class.
    #[arg(long)]
    pub class: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub limit: u32,
    /// Go on behind an earlier listing: what its JSON said as `next`.
    #[arg(long)]
    pub after: Option<String>,
    /// What to print.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,
}

/// `failures show`.
#[derive(Clone, Debug, Args)]
pub struct Show {
    /// The record: topic:partition:offset.
    pub id: RecordId,
    /// With key, value and headers, where they are kept.
    #[arg(long)]
    pub payload: bool,
    /// What to print.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,
}

/// `failures retry` and `failures skip`.
#[derive(Clone, Debug, Args)]
pub struct Decide {
    /// The record: topic:partition:offset.
    pub id: RecordId,
    /// Why, for whoever reads it later: 5 to 500 characters.
    #[arg(long)]
    pub reason: String,
    /// Who decides; the user's name or number if it is not said.
    #[arg(long, env = "USER")]
    pub actor: Option<String>,
    /// Only if the record still has this revision (`failures show` says it).
    #[arg(long)]
    pub revision: Option<u64>,
    /// What to print.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,
}

/// A command that needs nothing but a format.
#[derive(Clone, Debug, Args)]
pub struct Plain {
    /// What to print.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,
}

impl FailuresCommand {
    /// Runs it; what it prints goes to `out`, what went wrong to `err`. Returns the exit code: 0, or 1 failed, 2 usage,
    /// 3 nothing found, 69 unreachable, 75 changed meanwhile or held by another, 78 configuration.
    pub async fn run(self, access: &Access, out: &mut impl Write, err: &mut impl Write) -> i32 {
        let done = match self {
            Self::List(list) => list.run(access, out, err).await,
            Self::Show(show) => match access.show(&show.id, show.payload).await {
                Ok(record) => print(out, show.output, &record, |now| table::record(&record, now)),
                Err(error) => Err(error),
            },
            Self::Retry(decide) => match access.retry(&decide.id, &decide.said()).await {
                Ok(record) => print(out, decide.output, &record, |now| table::record(&record, now)),
                Err(error) => Err(error),
            },
            Self::Skip(decide) => match access.skip(&decide.id, &decide.said()).await {
                Ok(record) => print(out, decide.output, &record, |now| table::record(&record, now)),
                Err(error) => Err(error),
            },
        };
        done.map_or_else(|error| report(&error, err), |()| 0)
    }
}

impl TrackerCommand {
    /// Runs it, as [`FailuresCommand::run`] does.
    pub async fn run(self, access: &Access, out: &mut impl Write, err: &mut impl Write) -> i32 {
        let done = match self {
            Self::Reconcile(plain) => match access.reconcile().await {
                Ok(done) => print_all(out, plain.output, &done, |_| table::reconciled(&done)),
                Err(error) => Err(error),
            },
            Self::Progress(plain) => match access.progress().await {
                Ok(positions) if positions.is_empty() => {
                    Err(Error::new(Kind::NotFound, "the store knows of no partition yet"))
                }
                Ok(positions) => print_all(out, plain.output, &positions, |_| table::progress(&positions)),
                Err(error) => Err(error),
            },
        };
        done.map_or_else(|error| report(&error, err), |()| 0)
    }
}

/// Says an error to a person, and returns the exit code for it. Also for one of [`Access::reach`].
pub fn report(error: &Error, err: &mut impl Write) -> i32 {
    // Nobody is left to be told if this fails.
    let _ = writeln!(err, "error: {}", table::escape(&error.message));
    error.exit_code()
}

impl List {
    async fn run(self, access: &Access, out: &mut impl Write, err: &mut impl Write) -> Result<()> {
        let wanted = self.limit as usize;
        let mut ask = Ask {
            status: self.status,
            topic: self.topic,
            partition: self.partition,
            class: self.class,
            limit: 0,
            after: self.after,
        };
        let mut all = Listing::default();
        loop {
            ask.limit = (wanted - all.failures.len()).min(200);
            let page = access.list(&ask).await?;
            all.failures.extend(page.failures);
            all.next = page.next;
            if all.next.is_none() || all.failures.len() >= wanted {
                break;
            }
            ask.after.clone_from(&all.next);
        }
        match self.output {
            Format::Json => print(out, Format::Json, &all, |_| String::new())?,
            Format::Ndjson => print_all(out, Format::Ndjson, &all.failures, |_| String::new())?,
            Format::Table if all.failures.is_empty() => {}
            Format::Table => print(out, Format::Table, &all, |now| table::listing(&all, now))?,
        }
        if all.failures.is_empty() {
            return Err(Error::new(Kind::NotFound, "no record matches"));
        }
        if all.next.is_some() && self.output == Format::Table {
            let _ = writeln!(
                err,
                "There are more: raise --limit, or go on with -o json and --after."
            );
        }
        Ok(())
    }
}

impl Decide {
    fn said(&self) -> Resolve {
        Resolve {
            reason: self.reason.clone(),
            actor: self.actor.clone().unwrap_or_else(user),
            revision: self.revision,
        }
    }
}

fn user() -> String {
    format!("uid {}", rustix::process::getuid().as_raw())
}

fn print<T: Serialize>(
    out: &mut impl Write,
    format: Format,
    value: &T,
    table: impl FnOnce(Timestamp) -> String,
) -> Result<()> {
    let text = match format {
        Format::Table => table(Timestamp::now()),
        Format::Json => json(value, serde_json::to_string_pretty)?,
        Format::Ndjson => json(value, serde_json::to_string)?,
    };
    write(out, &text)
}

fn print_all<T: Serialize>(
    out: &mut impl Write,
    format: Format,
    values: &[T],
    table: impl FnOnce(Timestamp) -> String,
) -> Result<()> {
    if format != Format::Ndjson {
        return print(out, format, &values, table);
    }
    values
        .iter()
        .try_for_each(|value| print(out, format, value, |_| String::new()))
}

fn json<T: Serialize>(value: &T, write: impl Fn(&T) -> serde_json::Result<String>) -> Result<String> {
    match write(value) {
        Ok(text) => Ok(text + "\n"),
        Err(error) => Err(Error::new(Kind::Failed, error.to_string())),
    }
}

fn write(out: &mut impl Write, text: &str) -> Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `failures list | head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Error::new(
            Kind::Failed,
            format!("cannot write the answer: {error}"),
        )),
        Ok(()) => Ok(()),
    }
}
