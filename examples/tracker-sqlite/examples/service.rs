//! A service of somebody else's, with a store of somebody else's: `db-strategy: sqlite`.
//!
//! ```sh
//! cargo run --example service -- run --set db-strategy=sqlite --group-id copier --source-topic in --target-topic out
//! ```

use orchestrator::{
    App,
    registry::Registry,
    transform::{Output, SourceRecord, TargetRecord, Transform, TransformError},
};

/// Copies what has a value.
struct Copy;

impl Transform for Copy {
    async fn transform(&self, record: &SourceRecord) -> Result<Output, TransformError> {
        Ok(match &record.value {
            Some(value) => TargetRecord::new(record.key.clone(), value.clone()).into(),
            None => Output::Filtered,
        })
    }
}

fn main() -> std::process::ExitCode {
    // One line: the registry learns the name, and with it the section of the configuration.
    let registry = Registry::default().with("sqlite", tracker_sqlite::open);
    orchestrator::main(App::new("copier", Copy).trackers(registry))
}
