//! The loop under simulation: the real lane, recorder and reconcile over a fake Kafka and a faulty store, in paused time.
//!
//! A run is drawn from one seed: its promises (mode, tracking, dead letters, fallback), its records with their fates, its
//! faults at each step of each call, and what befalls its processes. The laws are checked at every commit, at every write
//! to a store, and when all is quiet. `SEEDS=n` widens the search, `SIM_SEED=n` repeats one run and prints its history.

mod case;
mod fate;
mod faults;
mod group;
mod kafka;
mod laws;
mod mutants;
mod nemesis;
mod quiet;
mod random;
mod schedule;
mod session;
mod tracker;
mod world;
