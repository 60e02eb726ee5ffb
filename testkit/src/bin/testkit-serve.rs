//! `testkit serve`: the app with faults. The same transformer, stores and command line as `orders-orchestrator`, with a
//! fault in between that a file switches on and off: see [`testkit::faults`].

use std::{process::ExitCode, sync::Arc};

use orchestrator::App;
use orders::Enrich;
use testkit::faults::{Faulty, FaultyTracker, NO_RECYCLE, Switch};

fn main() -> ExitCode {
    let switch = Switch::from_env();
    let follows = switch.clone();
    let registry = orders::registry().wrap(move |store| Arc::new(FaultyTracker::new(store, follows.clone())));
    let app = App::new("orders-orchestrator", Faulty::new(Enrich::from_env(), switch))
        .version(env!("CARGO_PKG_VERSION"))
        .trackers(registry);
    orchestrator::main(if std::env::var_os(NO_RECYCLE).is_some() {
        app.without_recycling()
    } else {
        app
    })
}
