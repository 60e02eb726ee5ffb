use serde::{Deserialize, Serialize};
use tracker_api::{Cursor, Entry, Order, Outcome, Partition, Query, RecordId, Status, Timestamp};

use super::{
    error::{Error, Kind, Result},
    shown::Shown,
};

/// Which records to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ask {
    /// Which of them.
    pub status: Seen,
    /// Only of this topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Only of this partition of the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// Only of this error class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// At most so many; 0 means 50, more than 200 means 200.
    pub limit: usize,
    /// Where the last page ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Which records a listing shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Seen {
    /// What needs a person: open, blocking, failing, replaying.
    #[default]
    Unresolved,
    /// Passed over, and nobody has decided about it.
    Open,
    /// Stands at the front of its partition and is tried again.
    Blocking,
    /// Failed, and its commit is under way.
    Failing,
    /// Passed over by an operator's word.
    Skipped,
    /// Being replayed.
    Replaying,
    /// Replayed.
    Replayed,
    /// Discarded.
    Discarded,
    /// Failed once, and in flight again.
    Received,
    /// Failed once, and done.
    Succeeded,
    /// Everything that failed once.
    All,
}

/// A page of a listing, the newest failure first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The records.
    pub failures: Vec<Shown>,
    /// What to ask for after this page; none if it is the last. A page may be short, or empty, and not the last.
    pub next: Option<String>,
}

/// What to decide about a blocking record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolve {
    /// Why: 5 to 500 characters.
    pub reason: String,
    /// Who: 1 to 128 characters.
    pub actor: String,
    /// The revision that was seen; none takes whatever is held now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

impl Resolve {
    pub(super) fn said(&self) -> Result<(String, String)> {
        let (actor, reason) = (self.actor.trim(), self.reason.trim());
        if !(5..=500).contains(&reason.chars().count()) {
            return Err(Error::new(
                Kind::Invalid,
                "a reason has 5 to 500 characters: say why, for whoever reads it later",
            ));
        }
        if !(1..=128).contains(&actor.chars().count()) {
            return Err(Error::new(
                Kind::Invalid,
                "an actor has 1 to 128 characters: say who decides",
            ));
        }
        // A store of text need not hold it.
        Ok((actor.replace('\0', "\u{FFFD}"), reason.replace('\0', "\u{FFFD}")))
    }
}

impl Ask {
    pub(super) fn query(&self) -> Result<Query> {
        let partition = match (&self.topic, self.partition) {
            (Some(topic), Some(number)) => Some(Partition::new(topic.as_str(), number)),
            (None, Some(_)) => return Err(Error::new(Kind::Invalid, "a partition needs its topic")),
            (_, None) => None,
        };
        let after = self.after.as_deref().map(read_cursor).transpose()?;
        Ok(Query {
            partition,
            outcomes: match self.status {
                Seen::Unresolved => vec![Outcome::Failing, Outcome::Failed],
                Seen::Blocking | Seen::Failing => vec![Outcome::Failing],
                Seen::Received => vec![Outcome::Received],
                Seen::Succeeded => vec![Outcome::Succeeded],
                Seen::All => Vec::new(),
                _ => vec![Outcome::Failed],
            },
            class: self.class.clone(),
            order: Order::NewestFirst,
            after,
            limit: super::operations::STORE_PAGE,
            ..Query::default()
        })
    }

    pub(super) fn wants(&self, entry: &Entry) -> bool {
        let status = Status::of(entry);
        self.topic
            .as_deref()
            .is_none_or(|topic| topic == &*entry.id.partition.topic)
            && match self.status {
                Seen::Unresolved => matches!(
                    status,
                    Status::Open | Status::Blocking | Status::Failing | Status::Replaying
                ),
                Seen::Open => status == Status::Open,
                Seen::Blocking => status == Status::Blocking,
                Seen::Failing => status == Status::Failing,
                Seen::Skipped => status == Status::Skipped,
                Seen::Replaying => status == Status::Replaying,
                Seen::Replayed => status == Status::Replayed,
                Seen::Discarded => status == Status::Discarded,
                Seen::Received => status == Status::Received,
                Seen::Succeeded => status == Status::Succeeded,
                Seen::All => true,
            }
    }
}

pub(super) fn write_cursor(first_failed_at: Option<Timestamp>, id: &RecordId) -> String {
    format!("{}@{id}", first_failed_at.unwrap_or_default().0)
}

fn read_cursor(text: &str) -> Result<Cursor> {
    let read = || {
        let (at, id) = text.split_once('@')?;
        Some(Cursor {
            id: id.parse().ok()?,
            first_failed_at: Some(Timestamp(at.parse().ok()?)),
        })
    };
    read().ok_or_else(|| Error::new(Kind::Invalid, "`after` is not what a page said in `next`"))
}
