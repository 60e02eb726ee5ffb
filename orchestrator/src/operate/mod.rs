//! What a person does with failures: look, retry, skip, discard, restore, reconcile; and with the store: copy, verify, purge.
//!
//! The one decision that shapes it: there is one implementation, [`Operations`], over the tracker. The running service
//! offers it on its socket, and the command line either asks that socket or, when no service holds the data directory,
//! opens the store and calls it itself. Who asks never matters to what happens.

mod access;
mod ask;
mod data_dir;
mod error;
mod house;
mod lines;
mod many;
mod operations;
mod private;
mod shown;
mod standing;
mod table;

pub mod command;
pub mod store_command;

#[cfg(test)]
mod tests;

pub use access::{Access, Client};
pub use ask::{Ask, Listing, Many, Purge, Resolve, Seen, Settled, Verb};
pub use data_dir::{DataDir, Holder};
pub use error::{Error, Kind, Result};
pub(crate) use house::Side;
pub use house::{Compared, Moved};
pub use lines::{EntryLine, FORMAT, Hex, Line, ProgressLine};
pub use many::{About, Exported, Grouped};
pub use operations::{Operations, Reconcile, Reconciled};
pub use shown::{Bytes, Payload, Position, Resolved, Shown};
pub use standing::{Behind, Stalled, Standing};
pub(crate) use table::columns;
pub use table::escape;

pub use crate::reconcile::Report;
