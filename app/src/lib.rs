//! The example deployment: enriches orders.
//!
//! What an order is and what becomes of it: `app/README.md`. What shapes it: the order leaves byte for byte as it came, with one
//! field more, so nothing that the producer sent is lost or reformatted on the way.

#![warn(missing_docs)]

mod backends;
mod enrich;
mod prices;

pub use backends::registry;
pub use enrich::Enrich;

#[cfg(doctest)]
#[doc = include_str!("../../docs/your-own-service.md")]
mod your_own_service {}
