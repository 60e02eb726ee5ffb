//! What the service tells about itself in numbers.
//!
//! The one decision that shapes it: every metric is declared in [`CATALOGUE`], with its unit, its labels and its help
//! text, and nothing else in the workspace names one. The documentation, the dashboards and the alerts are checked
//! against that list. Labels are bounded: no key, no offset, no message ever becomes one.

mod catalogue;
mod classes;
mod lane;
mod repeated;
mod store;

#[cfg(test)]
mod tests;

use std::{fmt, sync::OnceLock, thread, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

pub use catalogue::{CATALOGUE, Kind, Metric};
pub use lane::{Counts, LaneMetrics};
pub(crate) use repeated::Repeated;
pub(crate) use store::{
    Call, circuit, corrupt_rows, drained, fallback_holds, purged, retried, slice, store_risks,
};

/// What a gauge is set to when nothing is known: it is not shown then. Sums and alerts would take a 0 for a fact.
pub(crate) const NOT_KNOWN: f64 = f64::NAN;

static INSTALLED: OnceLock<Renderer> = OnceLock::new();

/// Renders all metrics in Prometheus' text format.
#[derive(Clone)]
pub struct Renderer(PrometheusHandle);

impl Renderer {
    /// Every metric that has been touched since [`install`]; gauges of which nothing is known are left out.
    pub fn render(&self) -> String {
        let text = self.0.render();
        let known = |line: &&str| !line.ends_with(" NaN");
        text.split_inclusive('\n')
            .filter(|line| known(&line.trim_end()))
            .collect()
    }
}

impl fmt::Debug for Renderer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renderer")
    }
}

/// Starts counting. Call it before the first [`LaneMetrics::new`]: what was made earlier counts into nothing. Calling
/// it again answers with the same renderer.
///
/// When the embedding program has installed a recorder of its own, that one gets the metrics and the renderer stays empty.
pub fn install() -> Renderer {
    INSTALLED.get_or_init(begin).clone()
}

fn begin() -> Renderer {
    let mut buckets = CATALOGUE.iter().filter_map(|metric| match metric.kind {
        Kind::Histogram(buckets) => Some((metric.name, buckets)),
        _ => None,
    });
    let builder = buckets.try_fold(PrometheusBuilder::new(), |builder, (name, buckets)| {
        builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)
    });
    let builder = builder.unwrap_or_else(|error| {
        // An empty list of buckets; a test of the catalogue rules it out.
        tracing::warn!(%error, "histograms without buckets");
        PrometheusBuilder::new()
    });
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_ok() {
        drain(handle.clone());
    } else {
        tracing::warn!(
            "another metrics recorder is installed already: it gets the metrics, and /metrics stays empty"
        );
    }
    CATALOGUE.iter().for_each(|metric| metric.describe());
    Renderer(handle)
}

/// Histograms keep every observation until they are folded; nobody may ever scrape, so a thread folds them.
fn drain(handle: PrometheusHandle) {
    let upkeep = move || {
        loop {
            thread::sleep(Duration::from_secs(5));
            handle.run_upkeep();
        }
    };
    if let Err(error) = thread::Builder::new().name("telemetry".into()).spawn(upkeep) {
        tracing::warn!(%error, "no thread for the metrics' upkeep: scrape them, or memory grows");
    }
}

/// Lane `lane` owns `partitions` partitions.
pub(crate) fn assigned(lane: usize, partitions: usize) {
    catalogue::PARTITIONS
        .gauge(&[("lane", &lane.to_string())])
        .set(u32::try_from(partitions).map_or(f64::MAX, f64::from));
}

/// So many threads are held by transforms that never return.
pub(crate) fn abandoned(threads: usize) {
    catalogue::ABANDONED
        .gauge(&[])
        .set(u32::try_from(threads).map_or(f64::MAX, f64::from));
}

/// Says once which build this is.
pub fn build_info(version: &'static str, librdkafka: &str) {
    catalogue::BUILD_INFO
        .gauge(&[("version", version), ("librdkafka", librdkafka)])
        .set(1.0);
}
