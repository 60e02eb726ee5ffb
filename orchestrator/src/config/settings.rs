use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tracker_api::{RecordId, Secret};

use super::disclosure::redact;
use super::words::{
    DeadLetterHeaders, FailureMode, InitialOffset, LogFormat, OnStoreFailure, OnUnreadable, Ordering,
    StorePayload, Tracking,
};

/// What the runtime uses: complete, each value within its bounds, the relations between them checked.
///
/// Only [`Settings::load`] makes one that went through all checks; a test may fill one in by hand, from
/// [`Settings::new`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// Brokers to ask first, `host:port,host:port`.
    pub bootstrap_servers: String,
    /// The consumer group.
    pub group_id: String,
    /// Where records come from.
    pub source_topic: Arc<str>,
    /// Where outputs go that name no topic.
    pub target_topic: Arc<str>,
    /// Where records go that are passed over as failures; none writes no dead letters.
    pub dead_letter_topic: Option<Arc<str>>,
    /// Whose header names a dead letter carries beside ours.
    pub dead_letter_headers: DeadLetterHeaders,
    /// What a failing record does to its partition.
    pub failure_mode: FailureMode,
    /// What is written to the store.
    pub tracking: Tracking,
    /// Where it is written, and what happens when that fails.
    pub store: Store,
    /// Lanes in this process, 1 to 64: each is a thread with a consumer and a producer.
    pub concurrency: usize,
    /// How much goes into one transaction.
    pub batch: Batch,
    /// How records are transformed.
    pub transforms: Transforms,
    /// How often and when a failing record is tried again.
    pub retry: Retry,
    /// What an entry keeps of its record.
    pub payload: Payload,
    /// How long finished entries are kept.
    pub retention: Retention,
    /// Under `outbox`: a record whose entry has succeeded already is not produced again.
    pub outbox_skip_succeeded: bool,
    /// Where a group that has committed nothing begins.
    pub initial_offset: InitialOffset,
    /// What a partition does whose log begins behind what is to be read next.
    pub on_unreadable: OnUnreadable,
    /// Records that are passed over by the configuration's word.
    pub skip: Vec<RecordId>,
    /// How long a stop may take before it is cut short.
    pub shutdown_timeout: Duration,
    /// The configured name of this process: it makes the members static. None: the one in `data-dir/instance`.
    pub instance: Option<String>,
    /// Holds the lock, the instance's name, the socket and embedded stores.
    pub data_dir: PathBuf,
    /// Keeps two services in one store apart; by default the group's id.
    pub namespace: String,
    /// What Kafka's clients are given beyond this.
    pub kafka: Kafka,
    /// Where health and metrics are served. Port 0 takes a free one.
    pub management_address: SocketAddr,
    /// Host names under which it answers, besides those that it always does.
    pub management_hosts: Vec<String>,
    /// How logs look.
    pub log_format: LogFormat,
    /// Whether the log's line of a failed record carries what the transform said.
    pub log_failure_messages: bool,
}

/// Where failures are kept, and what happens when that fails.
#[derive(Clone, Debug)]
pub struct Store {
    /// The backend that is written to.
    pub backend: Backend,
    /// The one that keeps the failures of an outage.
    pub fallback: Option<Backend>,
    /// Risks of the stores that are accepted, by name.
    pub accepted_risks: Vec<String>,
    /// What a batch does while the store is away.
    pub on_failure: OnStoreFailure,
    /// How long one call may take.
    pub timeout: Duration,
    /// How often a call is tried, the first one included: at least 1.
    pub tries: u32,
    /// After so many failed calls in a row the store is left alone.
    pub circuit_failure_threshold: u32,
    /// For so long.
    pub circuit_open: Duration,
}

/// A backend by name, with its section of the configuration, which only the backend itself understands.
#[derive(Clone, Default)]
pub struct Backend {
    /// The name under which the registry knows it.
    pub name: String,
    /// Its section; an empty object if there is none. May hold secrets.
    pub section: serde_json::Map<String, serde_json::Value>,
}

/// How much goes into one transaction. Nothing waits while work is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// At most so many records.
    pub records: usize,
    /// At most so many bytes of them.
    pub bytes: usize,
    /// The shortest wait for more, when little comes.
    pub min_delay: Duration,
    /// The longest.
    pub max_delay: Duration,
}

/// How long finished entries are kept; none keeps them for ever. Open failures never go by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Records that succeeded.
    pub succeeded: Option<Duration>,
    /// Failures that somebody decided about, and what a reset left behind.
    pub resolved: Option<Duration>,
}

/// How records are transformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transforms {
    /// So many at once, in each lane.
    pub concurrency: usize,
    /// After this a record has failed.
    pub timeout: Duration,
    /// Which may run side by side.
    pub ordering: Ordering,
}

/// How often and when a failing record is tried again. The wait doubles each time, with jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// In `skip-and-log`: passed over after so many tries. In `atomic` there is no last one.
    pub max_attempts: u32,
    /// The wait before the second try.
    pub backoff: Duration,
    /// The longest wait.
    pub max_backoff: Duration,
}

/// What an entry keeps of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// In which form.
    pub form: StorePayload,
    /// Only for records that failed.
    pub on_failure_only: bool,
}

/// What Kafka's clients are given.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// What each transactional id begins with: `{prefix}{group}-{instance}-{lane}` and the lengths of group and instance.
    pub transactional_id_prefix: String,
    /// A member that says nothing for so long has left.
    pub session_timeout: Duration,
    /// A transaction that is open for so long is aborted by the broker.
    pub transaction_timeout: Duration,
    /// A member that does not poll for so long has left.
    pub max_poll_interval: Duration,
    /// For every client.
    pub common: Properties,
    /// For consumers.
    pub consumer: Properties,
    /// For producers.
    pub producer: Properties,
}

/// Settings of librdkafka by name. Passwords, keys and tokens among them are never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, Secret>);

const SECRETS: &[&str] = &[
    "password",
    "passphrase",
    "passwd",
    "secret",
    "token",
    "credential",
    "oauthbearer",
];

impl Properties {
    /// Sets one.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), Secret::new(value));
    }

    /// What one is set to.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::expose)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.expose()))
    }

    /// Whether the value of this name must not be shown.
    pub fn is_secret(name: &str) -> bool {
        let name = name.to_lowercase();
        let public = name.ends_with(".location") || name.ends_with("endpoint.url");
        !public
            && name.split(|c: char| !c.is_alphanumeric()).any(|part| {
                matches!(part, "pem" | "jaas" | "key" | "apikey" | "pwd" | "pass" | "auth" | "dsn" | "assertion")
                    // Also misspelt: a misspelt password is one, too.
                    || SECRETS.iter().any(|secret| part.contains(secret) || strsim::osa_distance(part, secret) <= secret.len() / 4)
            })
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value)| match Self::is_secret(name) {
            true => (name, "***".to_owned()),
            false => (name, redact(value)),
        };
        f.debug_map().entries(self.iter().map(shown)).finish()
    }
}

impl fmt::Debug for Backend {
    /// Without its section, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// The defaults, around what has none.
    pub fn new(
        bootstrap_servers: impl Into<String>,
        group_id: impl Into<String>,
        source_topic: impl Into<Arc<str>>,
        target_topic: impl Into<Arc<str>>,
        backend: impl Into<String>,
    ) -> Self {
        let group_id = group_id.into();
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            namespace: group_id.clone(),
            group_id,
            source_topic: source_topic.into(),
            target_topic: target_topic.into(),
            dead_letter_topic: None,
            dead_letter_headers: DeadLetterHeaders::default(),
            failure_mode: FailureMode::default(),
            tracking: Tracking::default(),
            store: Store {
                backend: Backend {
                    name: backend.into(),
                    section: serde_json::Map::new(),
                },
                fallback: None,
                accepted_risks: Vec::new(),
                on_failure: OnStoreFailure::default(),
                timeout: Duration::from_millis(1_000),
                tries: 3,
                circuit_failure_threshold: 5,
                circuit_open: Duration::from_millis(10_000),
            },
            concurrency: default_concurrency(),
            batch: Batch {
                records: 5_000,
                bytes: 4 << 20,
                min_delay: Duration::from_millis(2),
                max_delay: Duration::from_millis(100),
            },
            transforms: Transforms {
                concurrency: 64,
                timeout: Duration::from_secs(30),
                ordering: Ordering::default(),
            },
            retry: Retry {
                max_attempts: 3,
                backoff: Duration::from_millis(200),
                max_backoff: Duration::from_secs(30),
            },
            payload: Payload {
                form: StorePayload::default(),
                on_failure_only: true,
            },
            retention: Retention {
                succeeded: Some(Duration::from_secs(86_400)),
                resolved: Some(Duration::from_secs(30 * 86_400)),
            },
            outbox_skip_succeeded: false,
            initial_offset: InitialOffset::default(),
            on_unreadable: OnUnreadable::default(),
            skip: Vec::new(),
            shutdown_timeout: Duration::from_secs(25),
            instance: None,
            data_dir: PathBuf::from("./data"),
            kafka: Kafka {
                transactional_id_prefix: String::new(),
                session_timeout: Duration::from_secs(10),
                transaction_timeout: Duration::from_secs(15),
                max_poll_interval: Duration::from_secs(300),
                common: Properties::default(),
                consumer: Properties::default(),
                producer: Properties::default(),
            },
            management_address: SocketAddr::from(([0, 0, 0, 0], 8080)),
            management_hosts: Vec::new(),
            log_format: LogFormat::default(),
            log_failure_messages: true,
        }
    }
}

/// One lane per core, at most four.
pub(super) fn default_concurrency() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}
