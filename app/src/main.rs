//! The whole program: what to do with a record, and what it can store to.

use std::process::ExitCode;

use orchestrator::App;
use orders::{Enrich, registry};

fn main() -> ExitCode {
    let app = App::new("orders-orchestrator", Enrich::from_env())
        .version(env!("CARGO_PKG_VERSION"))
        .trackers(registry());
    orchestrator::main(app)
}
