//! Runs records through a [`Transform`] without a broker: the same pool as in production, with its deadline, its
//! concurrency and its way with panics.
//!
//! ```
//! use orchestrator::{
//!     testing::{Trial, record},
//!     transform::{Output, SourceRecord, TargetRecord, Transform, TransformError},
//! };
//!
//! /// Greets whoever it is told of.
//! struct Greet;
//!
//! impl Transform for Greet {
//!     async fn transform(&self, record: &SourceRecord) -> Result<Output, TransformError> {
//!         let Some(name) = &record.value else { return Ok(Output::Filtered) };
//!         let name = std::str::from_utf8(name).map_err(|e| TransformError::permanent("malformed", e.to_string()))?;
//!         Ok(TargetRecord::new(record.key.clone(), format!("hello, {name}")).to("greetings").into())
//!     }
//! }
//!
//! let outcomes = Trial::new(Greet).run_blocking([
//!     record("Ada").key("k-1"),
//!     record(b"\xff"),
//!     record("").tombstone(),
//! ]);
//!
//! let greeting = &outcomes[0].as_ref().unwrap().records()[0];
//! assert_eq!(greeting.topic.as_deref(), Some("greetings"));
//! assert_eq!(greeting.value.as_deref(), Some(&b"hello, Ada"[..]));
//! assert_eq!(outcomes[1].as_ref().unwrap_err().class, "malformed");
//! assert_eq!(outcomes[2], Ok(Output::Filtered));
//! ```

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::runtime::{Builder, Handle};
use tracker_api::{Header, Partition};

pub use crate::config::Ordering;
use crate::{
    lane::pool::{Pool, PoolSettings, RecordRef, Verdict},
    transform::{Output, SourceRecord, Transform, TransformError},
};

/// Starts a record with this value, without a key, at `test:0:0`.
pub fn record(value: impl AsRef<[u8]>) -> Record {
    Record(SourceRecord {
        id: Partition::new("test", 0).at(0),
        timestamp: None,
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_ref())),
        headers: Vec::new(),
    })
}

/// A record to be; [`record`] starts one.
#[derive(Clone, Debug)]
pub struct Record(SourceRecord);

impl Record {
    /// Gives it a key.
    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.0.key = Some(Bytes::copy_from_slice(key.as_ref()));
        self
    }

    /// Takes its value away.
    #[must_use]
    pub fn tombstone(mut self) -> Self {
        self.0.value = None;
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.0.headers.push(Header {
            name: Bytes::copy_from_slice(name.as_ref()),
            value: Some(Bytes::copy_from_slice(value.as_ref())),
        });
        self
    }

    /// Says where it stands.
    #[must_use]
    pub fn at(mut self, topic: &str, partition: i32, offset: i64) -> Self {
        self.0.id = Partition::new(topic, partition).at(offset);
        self
    }

    /// Says when it was written, in milliseconds since the epoch.
    #[must_use]
    pub fn timestamp(mut self, at: i64) -> Self {
        self.0.timestamp = Some(at);
        self
    }

    /// The record.
    pub fn build(self) -> SourceRecord {
        self.0
    }
}

impl From<Record> for SourceRecord {
    fn from(record: Record) -> Self {
        record.build()
    }
}

/// A transform on trial.
#[derive(Debug)]
pub struct Trial<T> {
    transform: Arc<T>,
    settings: PoolSettings,
}

impl<T: Transform> Trial<T> {
    /// A trial with the service's own defaults: 64 at once, 30 seconds each, ordered by key.
    pub fn new(transform: T) -> Self {
        Self {
            transform: Arc::new(transform),
            settings: PoolSettings {
                concurrency: 64,
                timeout: Duration::from_secs(30),
                ordering: Ordering::default(),
            },
        }
    }

    /// How many records may be in flight at once; at least 1.
    #[must_use]
    pub fn concurrency(mut self, records: usize) -> Self {
        self.settings.concurrency = records;
        self
    }

    /// How long one record may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// What may run side by side.
    #[must_use]
    pub fn ordering(mut self, ordering: Ordering) -> Self {
        self.settings.ordering = ordering;
        self
    }

    /// The transform itself, to look at what it kept.
    pub fn transform(&self) -> &T {
        &self.transform
    }

    /// Runs the records as one batch on the current tokio runtime; a failure stops nothing. The outcomes are in the order
    /// of the records; those of the orchestrator's own are `timeout` and `panic`.
    ///
    /// On a current-thread runtime (that of a plain `#[tokio::test]`) it works under paused time, but a transform that never
    /// yields blocks the test.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn run<R: Into<SourceRecord>>(
        &self,
        records: impl IntoIterator<Item = R>,
    ) -> Vec<Result<Output, TransformError>> {
        let buffer: Arc<Vec<SourceRecord>> = Arc::new(records.into_iter().map(Into::into).collect());
        let records = (0..buffer.len())
            .map(|index| RecordRef::new(Arc::clone(&buffer), index))
            .collect();
        let pool = Pool::new(Arc::clone(&self.transform), Handle::current(), self.settings);
        let verdicts = pool.run(records, Arc::new(|_, _| false)).await;
        verdicts.into_iter().map(outcome).collect()
    }

    /// The same on a multi-threaded runtime of its own, as in production: also a transform that never yields is a `timeout`.
    /// From anywhere, inside a runtime or not.
    ///
    /// # Panics
    ///
    /// If the system has no thread to give.
    pub fn run_blocking<R: Into<SourceRecord>>(
        &self,
        records: impl IntoIterator<Item = R>,
    ) -> Vec<Result<Output, TransformError>> {
        let records: Vec<SourceRecord> = records.into_iter().map(Into::into).collect();
        let trial = || -> io::Result<_> {
            let runtime = Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            let outcomes = runtime.block_on(self.run(records));
            // Not waiting for a thread that never comes back.
            runtime.shutdown_background();
            Ok(outcomes)
        };
        #[allow(clippy::panic, reason = "a test's tool")]
        match std::thread::scope(|scope| scope.spawn(trial).join()) {
            Ok(Ok(outcomes)) => outcomes,
            Ok(Err(why)) => panic!("no runtime for the trial: {why}"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn outcome(verdict: Verdict) -> Result<Output, TransformError> {
    match verdict {
        Verdict::Done(output) => Ok(output),
        Verdict::Failed(why) => Err(why),
        Verdict::NotRun => Err(TransformError::retryable("not-run", "the runtime was shut down")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::TargetRecord;

    struct Echo;

    impl Transform for Echo {
        async fn transform(&self, record: &SourceRecord) -> Result<Output, TransformError> {
            match record.value.as_deref() {
                Some(b"hang") => loop {
                    std::thread::sleep(Duration::from_millis(10));
                },
                Some(b"wait") => std::future::pending().await,
                Some(b"panic") => panic!("told to"),
                value => {
                    let value = value.map(Bytes::copy_from_slice);
                    Ok(TargetRecord {
                        key: record.key.clone(),
                        value,
                        headers: record.headers.clone(),
                        timestamp: record.timestamp,
                        partition: Some(record.id.partition.number),
                        ..TargetRecord::default()
                    }
                    .into())
                }
            }
        }
    }

    #[test]
    fn hangs_panics_and_results_come_back_each_for_its_record() {
        let trial = Trial::new(Echo).timeout(Duration::from_millis(200));
        let outcomes = trial.run_blocking(["hang", "panic", "wait", "fine"].map(record));
        let classes: Vec<&str> = outcomes
            .iter()
            .map(|o| o.as_ref().map_or_else(|why| why.class.as_ref(), |_| "ok"))
            .collect();
        assert_eq!(classes, ["timeout", "panic", "timeout", "ok"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_runs_on_the_callers_runtime_and_under_paused_time() {
        let began = tokio::time::Instant::now();
        let outcomes = Trial::new(Echo).run([record("wait")]).await;
        assert_eq!(outcomes[0].as_ref().unwrap_err().class, "timeout");
        assert_eq!(began.elapsed().as_secs(), 30);
    }

    #[tokio::test]
    async fn a_blocking_trial_may_run_inside_a_runtime() {
        assert_eq!(Trial::new(Echo).run_blocking([record("x")]).len(), 1);
    }

    #[test]
    fn a_record_is_what_it_was_told_to_be() {
        let told = record("v")
            .key(b"k\xff")
            .header("h", "1")
            .header("h", "2")
            .at("orders", 3, 42)
            .timestamp(7);
        let record = told.clone().build();
        assert_eq!(record.id.to_string(), "orders:3:42");
        assert_eq!(record.header("h"), Some(&Bytes::from_static(b"2")));
        let outcomes = Trial::new(Echo).run_blocking([told, record_without_value()]);
        let target = &outcomes[0].as_ref().unwrap().records()[0];
        assert_eq!(
            (
                target.key.as_deref(),
                target.value.as_deref(),
                target.partition,
                target.timestamp
            ),
            (Some(&b"k\xff"[..]), Some(&b"v"[..]), Some(3), Some(7))
        );
        assert_eq!(target.headers, record.headers);
        assert_eq!(outcomes[1].as_ref().unwrap().records()[0].value, None);
    }

    fn record_without_value() -> Record {
        record("gone").tombstone()
    }
}
