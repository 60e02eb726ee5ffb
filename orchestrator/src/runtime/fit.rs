//! Whether Kafka and the store are fit for a start: one line per fault, with what to do. What is away is waited for.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracker_api::{DynTracker, Namespace};

use super::Error;
use crate::{
    config::{self, Settings},
    http::Health,
    kafka::{self, KafkaCustomizer, Severity, probe},
    registry::Registry,
};

/// How long a start waits between two looks at a broker or store that is away.
const AGAIN: Duration = Duration::from_secs(2);

/// Whether Kafka is fit for this service; answers the cluster's id. Waits while the broker is away.
pub(super) async fn fit(
    settings: &Settings,
    own_topics: Vec<Arc<str>>,
    kafka: &Arc<kafka::Settings>,
    customizer: Option<Arc<dyn KafkaCustomizer>>,
    health: &Health,
    stop: &CancellationToken,
) -> Result<Option<String>, Error> {
    let configured = [Some(&settings.target_topic), settings.dead_letter_topic.as_ref()];
    let topics: BTreeSet<Arc<str>> = configured
        .into_iter()
        .flatten()
        .cloned()
        .chain(own_topics)
        .collect();
    let lanes = settings.concurrency;
    loop {
        let (kafka, customizer, topics) = (kafka.clone(), customizer.clone(), topics.clone());
        let look = move || {
            let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
            let found = probe(&kafka, lanes, &topics, customizer.as_deref());
            tokio::runtime::Handle::current().block_on(found)
        };
        let found = tokio::task::spawn_blocking(look)
            .await
            .map_err(|e| Error::Failed(e.to_string()))?;
        let of = |severity| found.findings.iter().filter(move |f| f.severity == severity);
        of(Severity::Good).for_each(|finding| tracing::info!("{finding}"));
        of(Severity::Warning).for_each(|finding| tracing::warn!("{finding}"));
        let faults: Vec<String> = of(Severity::Fault).map(ToString::to_string).collect();
        if !faults.is_empty() {
            return Err(Error::Config(faults.join("\n")));
        }
        let away: Vec<String> = of(Severity::Away).map(ToString::to_string).collect();
        if away.is_empty() {
            return Ok(found.cluster);
        }
        wait(health, stop, format!("waiting for Kafka: {}", away.join("; "))).await?;
    }
}

/// Opens a store and looks whether it can be written to. Waits while it is away.
pub(super) async fn open(
    registry: &Registry,
    backend: &config::Backend,
    settings: &Settings,
    namespace: &Namespace,
    health: &Health,
    stop: &CancellationToken,
) -> Result<Option<DynTracker>, Error> {
    loop {
        let opened = registry
            .open(&backend.name, &backend.section, namespace, &settings.data_dir)
            .await;
        let error = match opened {
            Ok(None) => return Ok(None),
            Ok(Some(tracker)) => match tracker.ping().await {
                Ok(()) => return Ok(Some(tracker)),
                Err(error) => error,
            },
            Err(error) => error,
        };
        let what = format!("the store `{}` cannot be used: {error}", backend.name);
        match error.kind() {
            tracker_api::ErrorKind::InUse => return Err(Error::Held(what)),
            _ if error.is_transient() => wait(health, stop, what).await?,
            _ => return Err(Error::Config(what)),
        }
    }
}

async fn wait(health: &Health, stop: &CancellationToken, what: String) -> Result<(), Error> {
    tracing::warn!("{what}");
    health.reason(0, Some(what.clone()));
    tokio::select! {
        () = stop.cancelled() => return Err(Error::Stopped(what)),
        () = tokio::time::sleep(AGAIN) => {}
    }
    health.reason(0, None);
    Ok(())
}
