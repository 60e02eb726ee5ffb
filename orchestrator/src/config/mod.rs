//! What a user may write, and what the runtime uses.
//!
//! [`Settings`] is what the rest of the crate knows: typed, complete, its relations checked.

mod nearest;
mod settings;
mod words;

pub(crate) use nearest::nearest;
pub use settings::{Backend, Batch, Kafka, Payload, Properties, Retry, Settings, Store, Transforms};
pub use words::{FailureMode, InitialOffset, LogFormat, OnStoreFailure, Ordering, StorePayload, Tracking};
