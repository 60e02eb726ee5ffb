//! The transactional ids of releases before lengths were part of them. They belong to no living worker any more, so nobody
//! else would end a transaction that a predecessor left open under one: its pending offsets would keep our lanes waiting
//! until its timeout.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Error, fit};
use crate::{
    http::Health,
    kafka::{self, ErrorKind, KafkaCustomizer, initialise},
    operate::DataDir,
};

/// Initialises the former id of each lane, once: `data_dir` remembers it. Waits while Kafka is away.
pub(super) async fn end(
    lanes: usize,
    kafka: &Arc<kafka::Settings>,
    customizer: &Option<Arc<dyn KafkaCustomizer>>,
    data_dir: &DataDir,
    health: &Health,
    stop: &CancellationToken,
) -> Result<(), Error> {
    // Named by the first one: another group or instance in the same directory has other predecessors.
    let first = kafka.former_transactional_id(0);
    if data_dir.has_ended(&first) {
        return Ok(());
    }
    for lane in 0..lanes {
        let id = kafka.former_transactional_id(lane);
        while let Err(error) = initialised(kafka, customizer, id.clone()).await? {
            match error.kind {
                ErrorKind::Retriable => {
                    fit::wait(health, stop, format!("waiting for Kafka: {error}")).await?
                }
                // Then no predecessor could use it either, or somebody uses it at this moment: both leave nothing to end.
                ErrorKind::Refused | ErrorKind::Fenced | ErrorKind::Fatal => {
                    tracing::warn!(%error, "a transaction that a release before left open under `{id}` ends with its timeout");
                    break;
                }
            }
        }
    }
    data_dir.ended(&first).map_err(|e| Error::Config(e.to_string()))?;
    tracing::info!(lanes, %first, "transactional ids of a release before were initialised for the last time");
    Ok(())
}

async fn initialised(
    kafka: &Arc<kafka::Settings>,
    customizer: &Option<Arc<dyn KafkaCustomizer>>,
    id: String,
) -> Result<kafka::Result<()>, Error> {
    let (kafka, customizer) = (kafka.clone(), customizer.clone());
    let asked = tokio::task::spawn_blocking(move || initialise(&kafka, &id, customizer.as_deref()));
    asked.await.map_err(|e| Error::Failed(e.to_string()))
}
