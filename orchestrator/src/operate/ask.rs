use serde::{Deserialize, Serialize};
use tracker_api::{Cursor, Order, Partition, Purgeable, Query, RecordId, Status, Timestamp};

use super::{
    error::{Error, Kind, Result},
    lines::unhex,
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
    /// Only from this offset on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_offset: Option<i64>,
    /// Only below this offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_offset: Option<i64>,
    /// Only with this key: text, or `0x` and hexadecimal digits. Known only of records whose bytes are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Only of this error class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Only with this cause: the 16 hexadecimal digits of a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Only what first failed at this time or later, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// Only what first failed before this time, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// Only with this text in the message; of A to Z, upper and lower case are the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
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

/// Who decides what about a record, and why.
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

/// What to decide about many failed records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Nobody wants them any more.
    Discard,
    /// What was decided about them is taken back: they are open again.
    Restore,
}

impl Verb {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Discard => "discard",
            Self::Restore => "restore",
        }
    }
}

/// A decision about many records; at most [`Many::MOST`] in one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Many {
    /// The records, each with the revision that was seen; none takes whatever is held now.
    pub records: Vec<(String, Option<u64>)>,
    /// Who and why.
    pub resolve: Resolve,
}

impl Many {
    /// Records in one request.
    pub const MOST: usize = 200;
}

/// What became of one of many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The record.
    pub id: String,
    /// Whether the decision took.
    pub done: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Whether somebody else was faster.
    #[serde(default)]
    pub changed: bool,
}

/// What to delete: entries of one kind that were written before a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purge {
    /// The kind.
    pub what: Purgeable,
    /// Milliseconds since 1970.
    pub before: i64,
    /// Only count them.
    pub dry_run: bool,
    /// Who deletes, and why: for the log. Said with the first of the calls that one decision takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Resolve>,
}

impl Ask {
    pub(super) fn query(&self) -> Result<Query> {
        let invalid = |what: &str| Error::new(Kind::Invalid, what);
        let partition = match (&self.topic, self.partition) {
            (Some(topic), Some(number)) => Some(Partition::new(topic.as_str(), number)),
            (None, Some(_)) => return Err(invalid("a partition needs its topic")),
            (_, None) => None,
        };
        let key = match self.key.as_deref() {
            None => None,
            Some(key) => Some(match key.strip_prefix("0x") {
                Some(digits) => unhex(digits)
                    .ok_or_else(|| invalid("behind `0x` a key is pairs of hexadecimal digits"))?,
                None => key.as_bytes().to_vec(),
            }),
        };
        let fingerprint =
            match self.fingerprint.as_deref() {
                None => None,
                Some(digits) => {
                    let read = u64::from_str_radix(digits, 16).ok();
                    Some(read.ok_or_else(|| {
                        invalid("a fingerprint has 16 hexadecimal digits, as a group shows it")
                    })?)
                }
            };
        let between = |from: Option<i64>, to: Option<i64>| match (from, to) {
            (None, None) => None,
            (from, to) => Some(from.unwrap_or(i64::MIN)..to.unwrap_or(i64::MAX)),
        };
        let first_failed = between(self.since, self.until);
        Ok(Query {
            topic: self.topic.as_deref().map(Into::into),
            partition,
            offsets: between(self.from_offset, self.to_offset),
            statuses: self.status.statuses(),
            class: self.class.clone(),
            fingerprint,
            key: key.map(Into::into),
            first_failed: first_failed.map(|within| Timestamp(within.start)..Timestamp(within.end)),
            text: self.text.clone(),
            order: Order::NewestFirst,
            after: self.after.as_deref().map(read_cursor).transpose()?,
            limit: super::operations::STORE_PAGE,
            ..Query::default()
        })
    }
}

impl Seen {
    /// What a store is asked for; empty means all.
    fn statuses(self) -> Vec<Status> {
        match self {
            Self::Unresolved => vec![Status::Open, Status::Blocking, Status::Failing, Status::Replaying],
            Self::Open => vec![Status::Open],
            Self::Blocking => vec![Status::Blocking],
            Self::Failing => vec![Status::Failing],
            Self::Skipped => vec![Status::Skipped],
            Self::Replaying => vec![Status::Replaying],
            Self::Replayed => vec![Status::Replayed],
            Self::Discarded => vec![Status::Discarded],
            Self::Received => vec![Status::Received],
            Self::Succeeded => vec![Status::Succeeded],
            Self::All => Vec::new(),
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
