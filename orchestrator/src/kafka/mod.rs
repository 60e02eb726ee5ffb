//! The seam between the lane and Kafka.
//!
//! The lane knows [`Session`] only: one call takes a finished batch, so polling inside a transaction, two transactions at
//! once or a send after the commit cannot be written down. The simulation is another `Session`.

mod blame;
mod consumer;
mod context;
mod copy;
mod demands;
mod identity;
mod lane_producer;
mod limits;
#[cfg(test)]
mod listener;
mod logs;
#[allow(unsafe_code, reason = "what rdkafka's safe interface does not offer")]
mod native;
mod plain;
mod presence;
mod probe;
mod reader;
mod session;
mod settings;
mod stats;
#[cfg(test)]
mod tests;
mod transact;
mod verdict;

#[cfg(test)]
pub(crate) use blame::{Answer, Blame, Failed, blame};
pub use identity::Worker;
pub(crate) use identity::initialise;
pub(crate) use presence::patience;
pub use probe::{Finding, Probe, Severity, probe};
pub use reader::Reader;
pub use session::KafkaSession;
pub use settings::{ClientKind, ClientSettings, Instance, KafkaCustomizer, Settings};
pub use stats::{Recycle, Stats};

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use tracker_api::{AttemptId, Header, Partition};

use crate::{
    mutant::{self, Mutant},
    transform::SourceRecord,
};

/// What a producer sends at most in one record where nothing else is set: what a broker takes that nothing else was told
/// (its `message.max.bytes`). The client's own default, 1 000 000, refuses records that every broker takes.
pub(crate) const MESSAGE_MAX_BYTES: usize = 1_048_588;

/// Why a call to Kafka failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What can still be done.
    pub kind: ErrorKind,
    /// What happened, where, and Kafka's own code. Never a secret.
    pub message: String,
}

/// What can still be done after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The same call may succeed later: a timeout, a broker that is away.
    Retriable,
    /// Another instance uses our transactional id or static member id: stop.
    Fenced,
    /// Configuration, permission or a topic that does not exist: a person must act.
    Refused,
    /// Nothing more can be done with this session.
    Fatal,
}

/// The result of a call to Kafka.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The group's committed offset of a partition, and the note that was committed with it. The note is untrusted input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub partition: Partition,
    /// The next offset to read; none if the group has committed none.
    pub offset: Option<i64>,
    /// The metadata committed with it; none if there is none or it is empty.
    pub note: Option<String>,
}

/// What a name stands for now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    /// Kafka's id of it, as Kafka's tools write it: a topic that was deleted and made again has another. None if the broker
    /// has no ids or does not tell: unknown, which differs from nothing.
    pub id: Option<Arc<str>>,
    /// How many partitions it has; 0 is unknown.
    pub partitions: i32,
}

impl Topic {
    /// Whether both ids are known and are not the same.
    pub fn is_another(&self, id: Option<&str>) -> bool {
        matches!((self.id.as_deref(), id), (Some(now), Some(then)) if now != then)
            && !mutant::active(Mutant::TopicIdIgnored)
    }
}

/// Reads what the group has committed. The lane and the commands each have one.
#[allow(
    async_fn_in_trait,
    reason = "a lane is one thread: its futures need not be Send"
)]
pub trait Positions {
    /// C(p) of each partition, read with `isolation.level=read_committed`, in the order asked; none where an offset is
    /// pending in a transaction of somebody: never an old offset.
    async fn positions(&mut self, of: &[Partition]) -> Result<Vec<Option<Position>>>;

    /// C(p) of all partitions, in the order asked. `Retriable` while an offset of any is pending.
    async fn committed(&mut self, of: &[Partition]) -> Result<Vec<Position>> {
        let positions = self.positions(of).await?;
        let pending = of.iter().zip(&positions).find(|(_, position)| position.is_none());
        if let Some((partition, _)) = pending {
            return Err(Error {
                kind: ErrorKind::Retriable,
                message: format!("an offset of {partition} is pending in a transaction that is still open"),
            });
        }
        Ok(positions.into_iter().flatten().collect())
    }

    /// Which topic has this name now. An error says nothing about it: it is not there at the moment, or nobody answers.
    async fn topic(&mut self, name: &str) -> Result<Topic>;

    /// All partitions of `topic`.
    async fn partitions(&mut self, topic: &str) -> Result<Vec<Partition>>;

    /// The first offset of each partition's log and the one behind its last.
    async fn bounds(&mut self, of: &[Partition]) -> Result<Vec<std::ops::Range<i64>>>;
}

/// What the brokers say of a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Its first offset.
    pub start: i64,
    /// The last stable offset: what is at or behind it waits for somebody's open transaction, and cannot be read yet.
    pub stable: i64,
    /// Behind its last record.
    pub end: i64,
    /// How long ago the brokers were asked.
    pub age: Duration,
}

/// What a poll brought: first the records, then what happened to the membership after them.
#[derive(Debug, Default)]
pub struct Polled {
    /// Records of started partitions, in offset order within each partition.
    pub records: Vec<SourceRecord>,
    /// What happened to the assignment, in order. Nothing was polled after the first.
    pub membership: Vec<Membership>,
    /// Faults of single partitions or of the connection, for logs and readiness.
    pub errors: Vec<Error>,
    /// Set while the group has not answered this member for longer than `session-timeout`.
    pub silent: Option<Silent>,
}

/// The group does not answer: other members may have its partitions, and nothing can be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    /// What happened and what follows, for a person. The same text for as long as it lasts.
    pub why: String,
    /// It has lasted for so long that this session is not expected to find back: a new one must be made.
    pub lost: bool,
}

/// A change of the assignment. `Revoked` and `Lost` were already answered when the lane hears of them; `Assigned`, also an
/// empty one, waits for [`Session::start`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// Partitions that are now ours, once started.
    Assigned(Vec<Partition>),
    /// Partitions that somebody else takes over.
    Revoked(Vec<Partition>),
    /// Partitions that somebody else may have taken over already.
    Lost(Vec<Partition>),
}

/// One record to send in a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition; none leaves it to the partitioner.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// All headers, ours included.
    pub headers: Vec<Header>,
    /// Milliseconds since the epoch; none is now.
    pub timestamp: Option<i64>,
}

/// How far an attempt advances one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    /// The partition.
    pub partition: Partition,
    /// C(p) before it; none if nothing was committed yet.
    pub start: Option<i64>,
    /// The note that stood there.
    pub start_note: Option<String>,
    /// C(p) after it: at least `start`; equal only in an attempt that begins a term, and less only in one that begins an
    /// era on a topic that was made again.
    pub next: i64,
    /// The note that is committed with it. Opaque to the session.
    pub note: String,
}

/// One try to commit one batch in one Kafka transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its id.
    pub id: AttemptId,
    /// What to send, in order. May be empty: a start, a term, a batch of filtered records.
    pub sends: Vec<Send>,
    /// How far it advances. Never empty.
    pub advance: Vec<Advance>,
}

/// Proof that an attempt's commit happened. Born in [`Session::transact`] and [`Session::settle`] alone, and wanted by
/// whatever is written *after* a commit: so a success cannot be recorded before it.
#[derive(Debug)]
#[must_use]
pub struct Committed {
    attempt: AttemptId,
}

impl Committed {
    pub(crate) fn by_session(attempt: AttemptId) -> Self {
        Self { attempt }
    }

    /// Whose commit it was.
    pub fn attempt(&self) -> AttemptId {
        self.attempt
    }
}

/// What Kafka does not take of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Its bytes: size, key, value or headers.
    Record,
    /// Its timestamp.
    Timestamp,
    /// Its topic: not there, or not ours to write to.
    Topic,
    /// Its partition: the topic has fewer.
    Partition,
}

/// A record of an attempt that Kafka does not take as it is. Whose fault that is, the session does not know: the lane
/// knows who chose what is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its place in [`Attempt::sends`].
    pub send: usize,
    /// What is refused.
    pub what: What,
    /// Why.
    pub why: Error,
}

/// Why an attempt did not commit. In every case but `Unknown` it is certain that it did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aborted {
    /// These records cannot be sent, and it is certain of each of them. Never empty. Others may be refused too: the next
    /// attempt tells.
    Refused(Vec<Refused>),
    /// A topic or its broker takes nothing now, whatever the record: try again later.
    Destination(Error),
    /// Not all that was sent was acknowledged in time: try again with less.
    Late(Error),
    /// Aborted: try again. The producer is already a new one where it must be.
    Aborted(Error),
    /// These partitions of the attempt were revoked or lost before it began; nothing was begun.
    LostPartitions(Vec<Partition>),
    /// The group refused our generation or member without naming a partition; nothing is committed. Poll until the
    /// membership changes; when nothing of ours is taken, all that comes may be an empty `Assigned`.
    NotMember(Error),
    /// Nobody knows yet: call [`Session::settle`], and nothing else before it answers.
    Unknown(Error),
    /// Another instance uses our id: stop.
    Fenced(Error),
}

/// What became of an attempt whose outcome was unknown, read from Kafka.
#[derive(Debug)]
pub enum Settled {
    /// It is committed.
    Committed(Committed),
    /// It came to nothing: some partition still stands at the attempt's start, with the note that stood there.
    Aborted,
    /// Others took over, or nobody can tell while an offset is pending in a transaction of theirs: write nothing, count
    /// nothing, drop the batch, and let each partition read its own C(p) again.
    TakenOver,
}

/// One consumer and one transactional producer that belong together. Calls may block the thread: a lane has its own.
#[allow(
    async_fn_in_trait,
    reason = "a lane is one thread: its futures need not be Send"
)]
pub trait Session: Positions {
    /// Waits up to `wait` for something to come, then takes what is there, up to `max` records (at least one). Returns at
    /// the first change of membership.
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Polled>;

    /// Answers an assignment: reads each of these partitions from its offset, which must be set.
    async fn start(&mut self, at: &[Position]) -> Result<()>;

    /// Puts started partitions back to an offset; what was prefetched is thrown away.
    async fn rewind(&mut self, at: &[Position]) -> Result<()>;

    /// Pauses (`on`) or resumes partitions. Those that are not ours are passed over.
    async fn hold(&mut self, partitions: &[Partition], on: bool) -> Result<()>;

    /// How far started partitions were read: what lies below was handed out by [`poll`](Self::poll), or is nothing to be
    /// read, as markers and aborted records are. Partitions of which that is not known are left out. Asks nobody.
    fn reached(&mut self) -> Vec<(Partition, i64)>;

    /// What the brokers said of the logs of started partitions, some seconds ago at most; those of which nothing is known
    /// are left out. Waits for nobody.
    fn logs(&mut self) -> Vec<(Partition, Log)>;

    /// Serves callbacks, takes the group's metadata, begins, sends, waits for every acknowledgement, sends the offsets and
    /// notes, commits. Recycles the producer when it must, before it returns.
    async fn transact(&mut self, attempt: &Attempt) -> std::result::Result<Committed, Aborted>;

    /// Settles an unknown outcome by reading Kafka: a new producer with the same id, then C(p) of the partitions that the
    /// attempt advances. `Retriable`: call again.
    async fn settle(&mut self, attempt: &Attempt) -> Result<Settled>;

    /// Leaves the group (a static member stays) and closes, waiting at most `deadline`.
    async fn close(self, deadline: Duration);
}

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => {
                write!(f, "{} records of the transaction were refused", refused.len())?;
                refused
                    .first()
                    .map_or(Ok(()), |first| write!(f, ", the first: {}", first.why))
            }
            Self::Destination(why) => write!(f, "not taken: {why}"),
            Self::Late(why) => write!(f, "not acknowledged in time: {why}"),
            Self::Aborted(why) => write!(f, "aborted: {why}"),
            Self::LostPartitions(partitions) => {
                write!(f, "{} partitions were revoked before it began", partitions.len())
            }
            Self::NotMember(why) => write!(f, "no longer a member of the group: {why}"),
            Self::Unknown(why) => write!(f, "outcome unknown: {why}"),
            Self::Fenced(why) => write!(f, "fenced: {why}"),
        }
    }
}
