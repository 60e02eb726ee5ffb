//! The service as a real process against a real broker, judged by a reader of the kit's own. One test after the other:
//! each takes the machine for itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends here"
)]

#[macro_use]
#[path = "end_to_end/each_store.rs"]
mod each_store;

#[path = "end_to_end/atomic.rs"]
mod atomic;
#[path = "end_to_end/begin.rs"]
mod begin;
#[path = "end_to_end/crashes.rs"]
mod crashes;
#[path = "end_to_end/destination.rs"]
mod destination;
#[path = "end_to_end/drain.rs"]
mod drain;
#[path = "end_to_end/freezes.rs"]
mod freezes;
#[path = "end_to_end/group.rs"]
mod group;
#[path = "end_to_end/identity.rs"]
mod identity;
#[path = "end_to_end/late.rs"]
mod late;
#[path = "end_to_end/outages.rs"]
mod outages;
#[path = "end_to_end/reading.rs"]
mod reading;
#[path = "end_to_end/reset.rs"]
mod reset;
#[path = "end_to_end/scene.rs"]
mod scene;
#[path = "end_to_end/store.rs"]
mod store;
#[path = "end_to_end/tour.rs"]
mod tour;
