//! For `make bench`: the service with the transform of `load-test/bare.c` instead of the app's, one field more and no parsing.
//! What remains between the two is what the orchestrator itself costs.

use std::process::ExitCode;

use orchestrator::{
    App,
    transform::{Output, SourceRecord, TargetRecord, Transform, TransformError},
};
use testkit::bench::FIELD;

struct Forward {
    field: Vec<u8>,
}

impl Transform for Forward {
    async fn transform(&self, record: &SourceRecord) -> Result<Output, TransformError> {
        let body = record.value.as_ref().and_then(|value| value.strip_suffix(b"}"));
        let body = body.ok_or_else(|| TransformError::permanent("malformed", "no object"))?;
        let mut longer = Vec::with_capacity(body.len() + self.field.len() + 1);
        longer.extend_from_slice(body);
        longer.extend_from_slice(&self.field);
        longer.push(b'}');
        Ok(TargetRecord {
            headers: record.headers.clone(),
            ..TargetRecord::new(record.key.clone(), longer)
        }
        .into())
    }
}

fn main() -> ExitCode {
    let field = std::env::var(FIELD).unwrap_or_default().into_bytes();
    let app = App::new("orders-orchestrator", Forward { field })
        .version(env!("CARGO_PKG_VERSION"))
        .trackers(orders::registry());
    orchestrator::main(app)
}
