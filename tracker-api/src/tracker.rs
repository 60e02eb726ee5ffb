use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    corrupt::CorruptRow,
    entry::{Entry, Outcome, Partition, RecordId, Timestamp},
    error::{Error, ErrorKind, Result},
    progress::Progress,
    resolution::Change,
};

/// Keeps two services in one store apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// The configured name; by default the consumer group's id. Any text.
    pub name: String,
    /// The Kafka cluster's id, when known. A backend's `open` writes it beside the name the first time and refuses
    /// another cluster under the same name (`Config`).
    pub cluster: Option<String>,
}

impl Namespace {
    /// Whether a service of this cluster may open the namespace when `held` is the cluster's id that stands in the store.
    /// One that does not know its cluster may; a store without an id is to write this one. Backends' `open` calls it.
    ///
    /// # Errors
    ///
    /// `Config` when it is another cluster's.
    pub fn admit(&self, held: Option<&str>) -> Result<()> {
        match (held, self.cluster.as_deref()) {
            (Some(held), Some(mine)) if held != mine => Err(Error::new(
                ErrorKind::Config,
                format!(
                    "the namespace `{}` belongs to the Kafka cluster `{held}`, but this service reads from the cluster \
                     `{mine}`, whose offsets mean other records: choose another namespace or another store",
                    self.name.escape_debug()
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// What a person sees of an entry; see [`Status::of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// In flight.
    Received,
    /// Failed, and its commit is under way.
    Failing,
    /// Stands at the front of its partition and is tried again.
    Blocking,
    /// Passed over, and nobody has decided about it.
    Open,
    /// Passed over by an operator's word.
    Skipped,
    /// Being replayed.
    Replaying,
    /// Replayed.
    Replayed,
    /// Discarded.
    Discarded,
    /// Done.
    Succeeded,
}

/// Which entries to list, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only of this topic.
    pub topic: Option<Arc<str>>,
    /// Only of this partition.
    pub partition: Option<Partition>,
    /// Only these offsets.
    pub offsets: Option<Range<i64>>,
    /// Only these outcomes; empty means all.
    pub outcomes: Vec<Outcome>,
    /// Only what a person sees so ([`Status::of`]); empty means all.
    pub statuses: Vec<Status>,
    /// Only of this era.
    pub era: Option<u64>,
    /// Only failures of this class.
    pub class: Option<String>,
    /// Only failures with this fingerprint.
    pub fingerprint: Option<u64>,
    /// Only records with this key, byte by byte. An entry without captured bytes has none that is known.
    pub key: Option<Bytes>,
    /// Only what first failed within this time: from its start on, before its end.
    pub first_failed: Option<Range<Timestamp>>,
    /// Only failures whose message contains this text. Upper and lower case of the letters A to Z are the same, of others
    /// they are not, so that every store means the same.
    pub text: Option<String>,
    /// In which order.
    pub order: Order,
    /// Where the last page ended. In a newest-first listing one without `first_failed_at` is `Refused`: it is of another order.
    pub after: Option<Cursor>,
    /// At most so many; 0 means 100, more than 1 000 means 1 000.
    pub limit: usize,
}

/// The order of a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By record id.
    #[default]
    Id,
    /// Newest first by *first* failure, then by id descending. Lists only entries that have failed once.
    NewestFirst,
}

/// The last entry of a page. A page starts behind it, so no entry is repeated or left out between two pages, whatever
/// is written in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Its id.
    pub id: RecordId,
    /// Its first failure, in a newest-first listing.
    pub first_failed_at: Option<Timestamp>,
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries, in the query's order.
    pub entries: Vec<Entry>,
    /// Where the next page starts; none when nothing more matches behind this one.
    pub next: Option<Cursor>,
}

/// Failures with one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The cause.
    pub fingerprint: u64,
    /// The error class.
    pub class: String,
    /// How many entries.
    pub count: u64,
    /// The first failure of the oldest.
    pub first: Timestamp,
    /// The first failure of the newest.
    pub last: Timestamp,
    /// The entry with the least id.
    pub sample: RecordId,
    /// That entry's message.
    pub message: String,
}

/// A promise of the contract that a store cannot keep as it is set up. Tracking that needs the promise refuses to start, unless the operator accepts the risk by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Risk {
    /// What an operator writes to accept it: lower case and dashes, the backend's name first, such as `redis-everysec`.
    pub name: String,
    /// What may happen, why, and what to set so that it cannot. For a person.
    pub what: String,
}

/// What a purge may take; see [`Entry::purgeable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purgeable {
    /// Done.
    Succeeded,
    /// Failed, and somebody has decided: skipped, replayed, discarded.
    Resolved,
    /// Of an older era than its partition's, and unfinished or, at or above the floor, an open failure: it counts as absent.
    Superseded,
}

impl Purgeable {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Succeeded, Self::Resolved, Self::Superseded];
}

/// The contract of a store. A map from [`RecordId`] to [`Entry`] and from [`Partition`] to [`Progress`].
///
/// * **Durable**: when `record` or `resolve` answers `Ok`, what it wrote survives a crash of this process and of the store.
/// * **An `Err`** may leave any subset of the call behind, also later: the caller writes the whole slice again.
/// * **Cancel-safe**: dropping a call's future leaves what an `Err` leaves.
/// * **The clock is the caller's**: a tracker reads none and orders nothing by arrival.
/// * **Bytes are bytes**: keys, values, header names and values come back unchanged. An entry of up to 64 KiB is never refused.
/// * **A row that cannot be read is put aside, named**: `get`, `list`, `groups`, `progress` and `purge` answer what can be read
///   and leave it out, `resolve` finds nothing there, and `record` and `import` write as on nothing, so that one damaged row
///   never stops the rows behind it. `corrupt_rows` names it. `Corrupt` is left for what is no row: a missing table, a column
///   of another type, a damaged file.
/// * **Two halves**: `record` never touches a resolution, `resolve` never touches an outcome.
/// * **One round trip**: a call of up to 2 000 entries, changes or ids is one exchange with the store.
///
/// There are no default methods, so a decorator cannot bypass what it wraps. Run [`conformance_suite!`](crate) on it.
#[async_trait]
pub trait FailureTracker: fmt::Debug + Send + Sync + 'static {
    /// Joins entries and progress (see [`Entry::join`], [`Progress::join`]). Answers, for each entry of the slice in its
    /// order, whether it *stands*: whether the version held afterwards is the entry's own. Ids may repeat; at most 2 000.
    async fn record(&self, entries: &[Entry], progress: &[Progress]) -> Result<Vec<bool>>;

    /// Takes entries over whole, as another tracker holds them (see [`Entry::merge`]): the outcome half as `record` does, the
    /// resolution half where its revision is greater than the held one; and joins progress. What moving house and a fallback's
    /// drain write. May be repeated. Ids may repeat; at most 2 000.
    async fn import(&self, entries: &[Entry], progress: &[Progress]) -> Result<()>;

    /// Compare-and-set on resolutions (see [`Change::takes`]); each one that takes raises the entry's revision by one.
    /// Answers which took, in order; of two changes with one revision at most one. An unknown id: `false`.
    async fn resolve(&self, changes: &[Change]) -> Result<Vec<bool>>;

    /// Every partition's progress, in order of partition.
    async fn progress(&self) -> Result<Vec<Progress>>;

    /// The entries of these ids, in their order; none where nothing is held.
    async fn get(&self, ids: &[RecordId]) -> Result<Vec<Option<Entry>>>;

    /// One page. See [`Query`].
    async fn list(&self, query: &Query) -> Result<Page>;

    /// The entries with a failure (`Failing`, `Failed`) that match, by fingerprint, the most frequent first, then by
    /// fingerprint. Order, cursor and limit of the query are not looked at.
    async fn groups(&self, query: &Query) -> Result<Vec<Group>>;

    /// Deletes at most `limit` entries written before `before` of which [`Entry::purgeable`] says `what`, the oldest first
    /// (by `at`, then by id), and answers how many: fewer than `limit` only when no more may go.
    async fn purge(&self, what: Purgeable, before: Timestamp, limit: usize) -> Result<u64>;

    /// Fails unless the store can be written to.
    async fn ping(&self) -> Result<()>;

    /// The rows that this handle has met and could not read, since it was opened (see [`CorruptRows`]). Asks nothing of the
    /// store.
    ///
    /// [`CorruptRows`]: crate::CorruptRows
    fn corrupt_rows(&self) -> Vec<CorruptRow>;

    /// What this store, as it is set up now, cannot promise; empty for one that keeps the contract. Asks the store: a
    /// setting may be changed while it is open.
    async fn risks(&self) -> Result<Vec<Risk>>;
}

/// A tracker chosen at run time.
pub type DynTracker = Arc<dyn FailureTracker>;

impl Status {
    /// What a person sees: succeeded if the outcome is; otherwise the resolution of the failure.
    pub fn of(entry: &Entry) -> Self {
        use crate::resolution::Decision;
        match (entry.version.outcome, entry.decision()) {
            (Outcome::Received, _) => Self::Received,
            (Outcome::Succeeded, _) => Self::Succeeded,
            (Outcome::Failing, _) if entry.is_blocking() => Self::Blocking,
            (Outcome::Failing, _) => Self::Failing,
            (Outcome::Failed, Some(Decision::Skip)) => Self::Skipped,
            (Outcome::Failed, Some(Decision::Replaying(_))) => Self::Replaying,
            (Outcome::Failed, Some(Decision::Replayed)) => Self::Replayed,
            (Outcome::Failed, Some(Decision::Discarded)) => Self::Discarded,
            (Outcome::Failed, _) => Self::Open,
        }
    }
}

impl Query {
    /// How many entries a page holds at most: 100 if nothing was asked, 1 000 at most.
    pub fn page_size(&self) -> usize {
        if self.limit == 0 {
            100
        } else {
            self.limit.min(1_000)
        }
    }

    /// The filters alone, as [`FailureTracker::groups`] reads them: without order, cursor and limit.
    #[must_use]
    pub fn unordered(&self) -> Self {
        Self {
            order: Order::Id,
            after: None,
            limit: 0,
            ..self.clone()
        }
    }

    /// Whether an entry belongs to the listing, the cursor apart.
    pub fn matches(&self, entry: &Entry) -> bool {
        let failure = entry.failure.as_ref();
        self.topic
            .as_ref()
            .is_none_or(|topic| *topic == entry.id.partition.topic)
            && self.partition.as_ref().is_none_or(|p| *p == entry.id.partition)
            && self.offsets.as_ref().is_none_or(|r| r.contains(&entry.id.offset))
            && (self.outcomes.is_empty() || self.outcomes.contains(&entry.version.outcome))
            && (self.statuses.is_empty() || self.statuses.contains(&Status::of(entry)))
            && self.era.is_none_or(|era| era == entry.version.era)
            && self
                .class
                .as_ref()
                .is_none_or(|class| failure.is_some_and(|f| f.class == *class))
            && self
                .fingerprint
                .is_none_or(|print| failure.is_some_and(|f| f.fingerprint == print))
            && self.key.as_ref().is_none_or(|key| {
                entry.captured.as_ref().and_then(|captured| captured.key.as_ref()) == Some(key)
            })
            && self
                .first_failed
                .as_ref()
                .is_none_or(|within| entry.first_failed_at.is_some_and(|at| within.contains(&at)))
            && self.text.as_ref().is_none_or(|text| {
                let folded = text.to_ascii_lowercase();
                failure.is_some_and(|f| f.message.to_ascii_lowercase().contains(&folded))
            })
            && (self.order == Order::Id || entry.first_failed_at.is_some())
    }
}
