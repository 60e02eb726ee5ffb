use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::{Deserialize, Serialize};

use super::{
    units::{Keep, Millis, Size, Span},
    words::{
        DeadLetterHeaders, FailureMode, InitialOffset, LogFormat, OnStoreFailure, OnUnreadable, Ordering,
        StorePayload, Tracking,
    },
};

/// The section `orchestrator`: what a user may write. The documentation, the schema and `config show` come from here.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Written {
    /// Brokers to ask first: `host:port,host:port`. Required.
    pub(crate) bootstrap_servers: Option<String>,
    /// The consumer group. Required.
    pub(crate) group_id: Option<String>,
    /// The topic to read. Required.
    pub(crate) source_topic: Option<String>,
    /// The topic for outputs that name none. Required.
    pub(crate) target_topic: Option<String>,
    /// The topic for records that are passed over as failures. Without it no dead letters are written.
    pub(crate) dead_letter_topic: Option<String>,
    /// Whose header names a dead letter carries beside ours: `spring` adds those of Spring Kafka (`kafka_dlt-original-topic`,
    /// …), `streams` those of Kafka Streams (`__streams.errors.topic`, …); `ours` adds none.
    pub(crate) dead_letter_headers: DeadLetterHeaders,
    /// The store, by the name of its backend: `rocksdb`, `memory`, `none`, or what else this program was built with. Required.
    pub(crate) db_strategy: Option<String>,
    /// What is written to the store. `reliable`: failures, durable before the commit that passes over them, and
    /// progress. `outbox`: also an entry per record. `lightweight`: failures after the fact. `none`: nothing.
    pub(crate) tracking: Tracking,
    /// What a failing record does to its partition. `atomic`: stops it until the record succeeds or an operator skips
    /// it. `skip-and-log`: after `max-attempts` it is passed over, recorded and dead-lettered.
    pub(crate) failure_mode: FailureMode,
    /// What a batch does while the store is away. `degrade`: goes on if it has nothing to record. `block`: waits.
    pub(crate) on_store_failure: OnStoreFailure,
    /// The backend that keeps the failures of an outage until the store is back. Without it there is none.
    pub(crate) fallback: Option<String>,
    /// What the store, as it is set up, may lose although this tracking needs it: risks that are accepted, by the names that
    /// a start tells, such as `redis-everysec`.
    pub(crate) accept_store_risks: Vec<String>,
    /// How long finished entries are kept.
    pub(crate) retention: Retention,
    /// Lanes in this process, 1 to 64: each a thread with a consumer and a producer. By default one per core, at most 4.
    pub(crate) concurrency: Option<u64>,
    /// Records in one transaction, outputs counted too, at most; 1 to 100000.
    pub(crate) batch_records: u64,
    /// Bytes of input, and of output, in one transaction, at most; 1KiB to 256MiB.
    pub(crate) batch_bytes: Size,
    /// The shortest wait for more records when few come; nothing waits while work is queued. At most 1s.
    pub(crate) batch_min_delay: Span,
    /// The longest such wait; at most 10s.
    pub(crate) batch_max_delay: Span,
    /// Transforms that run at once in each lane, 1 to 4096.
    pub(crate) transform_concurrency: u64,
    /// A record whose transform takes longer has failed. Below `max-poll-interval`.
    pub(crate) transform_timeout: Span,
    /// Which records may be transformed side by side: those with different keys (`key`), of different partitions
    /// (`partition`), or all (`none`).
    pub(crate) ordering: Ordering,
    /// In `skip-and-log`: tries before a record is passed over, 1 to 1000. In `atomic` there is no last one.
    pub(crate) max_attempts: u64,
    /// The wait before the second try; it doubles with each one more, with jitter.
    pub(crate) backoff: Span,
    /// The longest wait between two tries; at most 1h.
    pub(crate) max_backoff: Span,
    /// How long one call to the store may take, in milliseconds; 1 to 60000.
    pub(crate) db_timeout_ms: Millis,
    /// Tries of a call to the store, the first included; 1 to 10.
    pub(crate) db_tries: u64,
    /// After so many failed calls in a row the store is left alone for a while; 1 to 1000.
    pub(crate) db_circuit_failure_threshold: u64,
    /// For how long, in milliseconds; 100 to 600000.
    pub(crate) db_circuit_open_ms: Millis,
    /// The form in which an entry keeps its record's key, value and headers: not at all (`none`), as `bytes`, as `text`.
    pub(crate) store_payload: StorePayload,
    /// Keeps it only for records that failed.
    pub(crate) store_payload_on_failure_only: bool,
    /// Where a group begins that has committed nothing.
    pub(crate) initial_offset: InitialOffset,
    /// What a partition does whose log begins behind what is to be read next. `wait`: it waits for a person, and says what
    /// to type. `skip-to-log-start`: it goes on where the log begins; what is lost is a gap, counted and said.
    pub(crate) on_unreadable: OnUnreadable,
    /// Records to pass over: `topic:partition:offset`.
    pub(crate) skip: Vec<String>,
    /// How long a stop may take before it is cut short; 1s to 10m.
    pub(crate) shutdown_timeout: Span,
    /// The name of this process, unlike that of any other in the group: it makes its members static, so that a restart
    /// moves no partition. Without it, the process makes itself a name in `data-dir` and membership is dynamic.
    pub(crate) instance: Option<String>,
    /// Holds the lock, the instance's name, the operator's socket and embedded stores. One process each.
    pub(crate) data_dir: String,
    /// Keeps two services in one store apart. By default the group's id.
    pub(crate) namespace: Option<String>,
    /// What each transactional id begins with: `{prefix}{group}-{instance}-{lane}` and the lengths of group and instance.
    pub(crate) transactional_id_prefix: String,
    /// A member that says nothing for so long has left the group; 1s to 30m, and within the broker's own bounds.
    pub(crate) session_timeout: Span,
    /// A transaction that is open for so long is aborted by the broker; 1s to 15m, below `max-poll-interval`.
    pub(crate) transaction_timeout: Span,
    /// A member that does not poll for so long has left the group; 10s to 1d.
    pub(crate) max_poll_interval: Span,
    /// Where health and metrics are served: `address:port`. Port 0 takes a free one.
    pub(crate) management_address: String,
    /// Host names under which health and metrics are answered, besides IP addresses, `localhost`, names without a dot,
    /// `….svc`, `….cluster.local` and `….internal`; without scheme and port.
    pub(crate) management_hosts: Vec<String>,
    /// How logs look: `json`, `text`, or `auto`: `text` on a terminal, otherwise `json`.
    pub(crate) log_format: LogFormat,
    /// Whether the log's line of a failed record carries its message, cut and escaped; it may quote the record.
    pub(crate) log_failure_messages: bool,
    /// For `tracking: outbox`.
    pub(crate) outbox: Outbox,
    /// What Kafka's clients are given beyond this, by librdkafka's names. What exactly-once needs is refused here.
    pub(crate) kafka: Clients,
}

/// For `tracking: outbox`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Outbox {
    /// A record that is read again, after an offset reset, and whose entry has succeeded or was replayed is not produced again. Waits for the store's answer about it.
    pub(crate) skip_succeeded: bool,
}

/// How long finished entries are kept. Open failures never go by age.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Retention {
    /// Entries of records that succeeded, as `tracking: outbox` writes them; 1m to 3650d, or `never`.
    pub(crate) succeeded: Keep,
    /// Failures that somebody decided about, and what a reset left behind; 1m to 3650d, or `never`.
    pub(crate) resolved: Keep,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
        Self {
            succeeded: Keep(Some(DAY)),
            resolved: Keep(Some(30 * DAY)),
        }
    }
}

/// Settings of librdkafka by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Clients {
    /// For every client.
    pub(crate) properties: BTreeMap<String, String>,
    /// For consumers only.
    pub(crate) consumer: BTreeMap<String, String>,
    /// For producers only.
    pub(crate) producer: BTreeMap<String, String>,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            bootstrap_servers: None,
            group_id: None,
            source_topic: None,
            target_topic: None,
            dead_letter_topic: None,
            dead_letter_headers: DeadLetterHeaders::default(),
            db_strategy: None,
            tracking: Tracking::default(),
            failure_mode: FailureMode::default(),
            on_store_failure: OnStoreFailure::default(),
            fallback: None,
            accept_store_risks: Vec::new(),
            retention: Retention::default(),
            concurrency: None,
            batch_records: 5_000,
            batch_bytes: Size(4 << 20),
            batch_min_delay: Span::millis(2),
            batch_max_delay: Span::millis(100),
            transform_concurrency: 64,
            transform_timeout: Span::millis(30_000),
            ordering: Ordering::default(),
            max_attempts: 3,
            backoff: Span::millis(200),
            max_backoff: Span::millis(30_000),
            db_timeout_ms: Millis(std::time::Duration::from_millis(1_000)),
            db_tries: 3,
            db_circuit_failure_threshold: 5,
            db_circuit_open_ms: Millis(std::time::Duration::from_millis(10_000)),
            store_payload: StorePayload::default(),
            store_payload_on_failure_only: true,
            initial_offset: InitialOffset::default(),
            on_unreadable: OnUnreadable::default(),
            skip: Vec::new(),
            shutdown_timeout: Span::millis(25_000),
            instance: None,
            data_dir: "./data".into(),
            namespace: None,
            transactional_id_prefix: String::new(),
            session_timeout: Span::millis(10_000),
            transaction_timeout: Span::millis(15_000),
            max_poll_interval: Span::millis(300_000),
            management_address: "0.0.0.0:8080".into(),
            management_hosts: Vec::new(),
            log_format: LogFormat::default(),
            log_failure_messages: true,
            outbox: Outbox::default(),
            kafka: Clients::default(),
        }
    }
}

impl Written {
    /// Without references, so that a property's schema is read where it stands.
    pub(crate) fn schema() -> Schema {
        SchemaSettings::draft2020_12()
            .with(|settings| settings.inline_subschemas = true)
            .into_generator()
            .into_root_schema_for::<Self>()
    }
}
