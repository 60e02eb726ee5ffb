//! Never shipped. Starts a real broker, seeds orders whose fate is known, runs the service as a process, and judges by
//! ids what came out, with a reader of its own: it shares no code and no memory with what it judges.
//!
//! Everything it starts runs on free loopback ports in temporary folders and is gone afterwards, also when the process
//! that asked for it is killed.

#![warn(missing_docs)]

pub mod admin;
pub mod bench;
pub mod broker;
pub mod check;
pub mod demo;
pub mod faults;
pub mod orders;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod reader;
pub mod seed;
pub mod service;
pub mod stores;
pub mod tracker_bench;

pub use broker::Broker;

/// What went wrong and what to do, for a person.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;
