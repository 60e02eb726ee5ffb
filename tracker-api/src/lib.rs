//! The contract between the orchestrator and the stores that keep what is in flight, what failed and what is done.
//!
//! The one decision that shapes it: a tracker is a map from record to [`Entry`], and writing *joins*: of two entries
//! for one record the one with the greater [`Version`] stays. So every write may be repeated, reordered, retried or
//! arrive late, and a backend needs no transactions across calls.
//!
//! This crate knows no database, no Kafka and no configuration library.

#![warn(missing_docs)]
#![forbid(unsafe_code)]

#[cfg(feature = "conformance")]
pub mod conformance;
mod corrupt;
mod entry;
mod error;
mod memory;
mod progress;
mod resolution;
mod secret;
mod tracker;

pub use corrupt::{CorruptRow, CorruptRows};
pub use entry::{
    AttemptId, Captured, Entry, Failure, Header, Outcome, Partition, RecordId, Timestamp, Version, coalesce,
    coalesce_whole,
};
pub use error::{Error, ErrorKind, Result};
pub use memory::{MemoryTracker, Model};
pub use progress::{Gaps, Progress};
pub use resolution::{Change, Claim, Decision, Resolution};
pub use secret::{Secret, SecretUrl};
pub use tracker::{
    Cursor, DynTracker, FailureTracker, Group, Namespace, Order, Page, Purgeable, Query, Risk, Status,
};

#[cfg(all(doctest, feature = "conformance"))]
#[doc = include_str!("../../docs/adding-a-backend.md")]
mod adding_a_backend {}
