//! What a person does with failures: look, retry, skip, reconcile.
//!
//! The one decision that shapes it: there is one implementation, [`Operations`], over the tracker. The running service
//! offers it on its socket, and the command line either asks that socket or, when no service holds the data directory,
//! opens the store and calls it itself. Who asks never matters to what happens.

mod access;
mod ask;
mod data_dir;
mod error;
mod operations;
mod shown;
mod table;

pub mod command;

#[cfg(test)]
mod tests;

pub use access::{Access, Client};
pub use ask::{Ask, Listing, Resolve, Seen};
pub use data_dir::{DataDir, Holder};
pub use error::{Error, Kind, Result};
pub use operations::{Operations, Reconcile, Reconciled};
pub use shown::{Bytes, Payload, Position, Resolved, Shown};
pub use table::escape;

pub use crate::reconcile::Report;
