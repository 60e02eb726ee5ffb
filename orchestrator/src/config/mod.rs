//! What a user may write, and what the runtime uses.
//!
//! [`Settings`] is what the rest of the crate knows: typed, complete, its relations checked. [`Settings::load`] makes it
//! of built-in values, a YAML file, the environment and flags, each laid over the one before, and tells everything that is
//! wrong at once, each with its place.

mod bounds;
mod check;
mod clients;
mod disclosure;
mod environment;
mod file;
mod keys;
mod layer;
mod load;
mod names;
mod nearest;
mod placeholder;
mod protected;
mod read;
mod report;
mod schema;
mod settings;
mod show;
mod spring;
#[cfg(test)]
mod tests;
mod units;
mod words;
mod written;
mod yaml;

pub(crate) use disclosure::quoted;
pub(crate) use keys::relaxed;
pub use load::{Loaded, Sources};
pub(crate) use nearest::nearest;
pub use report::{Origin, Problem, Problems};
pub use schema::schema;
pub use settings::{
    Backend, Batch, Kafka, Payload, Properties, Retention, Retry, Settings, Store, Transforms,
};
pub use show::Shown;
pub use words::{
    DeadLetterHeaders, FailureMode, InitialOffset, LogFormat, OnStoreFailure, OnUnreadable, Ordering,
    StorePayload, Tracking,
};
