//! The commands `failures …`. The program's command line holds this enum, finds an [`Access`] and runs it; what it returns
//! is the exit code. [`store_command`](super::store_command) has the commands `tracker …`.

use std::io::{self, Write};

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;
use tracker_api::RecordId;

mod mass;

use super::{
    access::Access,
    ask::{Ask, Listing, Resolve, Seen, Verb},
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
    /// Count failures by cause, the most frequent first.
    #[command(
        after_help = "Examples:\n  failures groups\n  failures groups --since 2h --topic orders -o json"
    )]
    Groups(Groups),
    /// Discard open failures: nobody wants them any more. They are kept until the retention takes them.
    #[command(
        after_help = "Examples:\n  failures discard orders:3:42 orders:3:43 --reason 'test data, see OPS-7'\n  failures discard --class malformed --until 7d --dry-run"
    )]
    Discard(Mass),
    /// Open failures again that were discarded or skipped.
    #[command(
        after_help = "Examples:\n  failures restore orders:3:42 --reason 'it was no test data'\n  failures restore --status discarded --since 1h --reason 'wrong filter' --yes"
    )]
    Restore(Mass),
}

/// Which records.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which records")]
pub struct Filter {
    /// What a person sees them as; `unresolved` is what needs a person.
    #[arg(long, value_enum)]
    pub status: Option<Seen>,
    /// Only of this source topic.
    #[arg(long)]
    pub topic: Option<String>,
    /// Only of this partition of the topic.
    #[arg(long, requires = "topic")]
    pub partition: Option<i32>,
    /// Only from this offset on.
    #[arg(long, value_name = "OFFSET")]
    pub from_offset: Option<i64>,
    /// Only below this offset.
    #[arg(long, value_name = "OFFSET")]
    pub to_offset: Option<i64>,
    /// Only with this key: text, or 0x and hexadecimal digits. Known only where the records' bytes are kept.
    #[arg(long)]
    pub key: Option<String>,
    /// Only of this error class.
    #[arg(long)]
    pub class: Option<String>,
    /// Only with this cause, as `failures groups` shows it.
    #[arg(long)]
    pub fingerprint: Option<String>,
    /// Only what first failed since: 2026-11-27T08:00:00Z, or so long ago: 30m, 2h, 3d.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Only what first failed before: a time, or so long ago.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Timestamp>,
    /// Only with this text in the message; of A to Z, upper and lower case are the same.
    #[arg(long)]
    pub text: Option<String>,
}

impl Filter {
    fn ask(&self, otherwise: Seen) -> Ask {
        Ask {
            status: self.status.unwrap_or(otherwise),
            topic: self.topic.clone(),
            partition: self.partition,
            from_offset: self.from_offset,
            to_offset: self.to_offset,
            key: self.key.clone(),
            class: self.class.clone(),
            fingerprint: self.fingerprint.clone(),
            since: self.since.map(Timestamp::as_millisecond),
            until: self.until.map(Timestamp::as_millisecond),
            text: self.text.clone(),
            ..Ask::default()
        }
    }

    fn is_empty(&self) -> bool {
        self.ask(Seen::All)
            == Ask {
                status: Seen::All,
                ..Ask::default()
            }
    }
}

/// A time, or how long ago it was.
pub(super) fn moment(text: &str) -> std::result::Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let seconds = match text.split_at(digits) {
        (number, unit) if digits > 0 => number.parse::<i64>().ok().zip(match unit {
            "s" => Some(1),
            "m" => Some(60),
            "h" => Some(3_600),
            "d" => Some(86_400),
            "w" => Some(604_800),
            _ => None,
        }),
        _ => None,
    };
    let ago = seconds.and_then(|(number, unit)| number.checked_mul(unit)?.checked_mul(1_000));
    let at = ago.and_then(|ago| {
        Timestamp::from_millisecond(Timestamp::now().as_millisecond().checked_sub(ago)?).ok()
    });
    at.ok_or_else(|| "write it as 2026-11-27T08:00:00Z, or as so long ago: 30m, 2h, 3d".to_owned())
}

/// `failures list`.
#[derive(Clone, Debug, Args)]
pub struct List {
    /// Which records.
    #[command(flatten)]
    pub filter: Filter,
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

/// `failures groups`.
#[derive(Clone, Debug, Args)]
pub struct Groups {
    /// Which records.
    #[command(flatten)]
    pub filter: Filter,
    /// What to print.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,
}

/// `failures discard` and `failures restore`: records by name, or all that a filter finds.
#[derive(Clone, Debug, Args)]
pub struct Mass {
    /// The records: topic:partition:offset. Without any, those that the filter finds.
    pub ids: Vec<RecordId>,
    /// Which records.
    #[command(flatten)]
    pub filter: Filter,
    /// Why, for whoever reads it later: 5 to 500 characters.
    #[arg(long, required_unless_present = "dry_run")]
    pub reason: Option<String>,
    /// Who decides; the user's name or number if it is not said.
    #[arg(long, env = "USER")]
    pub actor: Option<String>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask. Needed for a filter where nobody can be asked.
    #[arg(long)]
    pub yes: bool,
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

impl FailuresCommand {
    /// Runs it; what it prints goes to `out`, what went wrong to `err`. Returns the exit code: 0, or 1 failed, 2 usage,
    /// 3 nothing found, 4 done in part, 69 unreachable, 75 changed meanwhile or held by another, 78 configuration.
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
            Self::Groups(groups) => match access.groups(&groups.filter.ask(Seen::Unresolved)).await {
                Ok(found) => {
                    left_out(access, err).await;
                    match found.is_empty() {
                        true => Err(Error::new(Kind::NotFound, "no record matches")),
                        false => print_all(out, groups.output, &found, |_| table::groups(&found)),
                    }
                }
                Err(error) => Err(error),
            },
            Self::Discard(mass) => return mass::run(&mass, Verb::Discard, access, out, err).await,
            Self::Restore(mass) => return mass::run(&mass, Verb::Restore, access, out, err).await,
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

/// Says which rows of the store were left out, as they cannot be read: without it, a listing would seem to be whole.
pub(super) async fn left_out(access: &Access, err: &mut impl Write) {
    let _ = write!(err, "{}", table::left_out(&access.corrupt_rows().await));
}

impl List {
    async fn run(self, access: &Access, out: &mut impl Write, err: &mut impl Write) -> Result<()> {
        let wanted = self.limit as usize;
        let mut ask = Ask {
            after: self.after,
            ..self.filter.ask(Seen::Unresolved)
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
        left_out(access, err).await;
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

pub(super) fn user() -> String {
    format!("uid {}", rustix::process::getuid().as_raw())
}

pub(super) fn print<T: Serialize>(
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

pub(super) fn print_all<T: Serialize>(
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
