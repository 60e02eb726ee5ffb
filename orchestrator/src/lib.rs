//! Consume, transform and produce inside one Kafka transaction: exactly once, under any crash, with every failure kept in
//! a store that is chosen by one configuration value.

#![warn(missing_docs)]

pub mod app;
pub mod cli;
pub mod config;
pub mod http;
pub mod kafka;
pub mod lane;
pub mod operate;
pub mod recorder;
pub mod registry;
pub mod resilience;
pub mod runtime;
pub mod telemetry;
pub mod testing;
pub mod transform;

pub use app::App;
pub use cli::main;

mod begun;
mod clock;
#[allow(dead_code, reason = "some are hooked in by the simulation alone")]
mod mutant;
mod note;
mod panics;
mod reconcile;
#[cfg(test)]
mod sim;
