//! Two doors that answer HTTP.
//!
//! The one decision that shapes it: the *management* listener is on the network and shows nothing that is worth stealing
//! and changes nothing; whatever shows a payload, an address or an error in its own words, or changes something, is behind
//! the *control* socket, a file that only its owner can open.

mod control;
mod health;
mod host;
mod management;
mod serve;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use tests::PATHS;

pub use control::{Control, SOCKET, socket_fits};
pub use health::{Health, Phase, Verdict};
pub use host::Hosts;
pub use management::{listen, management};

/// What a service says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Info {
    /// The program's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// This process among the others: configured, or the one in `data-dir/instance`.
    pub instance: String,
    /// The consumer group.
    pub group: String,
    /// What is tracked: `outbox`, `reliable`, `lightweight`, `none`.
    pub tracking: String,
    /// The store's name.
    pub store: String,
}
