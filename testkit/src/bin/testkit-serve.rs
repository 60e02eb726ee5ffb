//! `testkit serve`: the app with faults. The same transformer, stores and command line as `orders-orchestrator`, with a
//! fault in between that a file switches on and off: see [`testkit::faults`].

use std::{process::ExitCode, sync::Arc};

use orchestrator::App;
use orders::Enrich;
use testkit::faults::{Faulty, FaultyTracker, Switch};

fn main() -> ExitCode {
    let switch = Switch::from_env();
    let follows = switch.clone();
    let registry = orders::registry().wrap(move |store| Arc::new(FaultyTracker::new(store, follows.clone())));
    orchestrator::main(
        App::new("orders-orchestrator", Faulty::new(Enrich::from_env(), switch))
            .version(env!("CARGO_PKG_VERSION"))
            .trackers(registry),
    )
}
