use std::{collections::BTreeMap, fmt, time::Duration};

use super::{Result, demands};

/// What a session is made from. Filled by the configuration; nothing here is read from a file or the environment.
#[derive(Clone)]
pub struct Settings {
    /// Brokers to ask first, `host:port,…`.
    pub bootstrap_servers: String,
    /// The consumer group.
    pub group_id: String,
    /// The topic to read.
    pub source_topic: String,
    /// Comes before group, instance and lane in each transactional id.
    pub transactional_id_prefix: String,
    /// The name of this process.
    pub instance: Instance,
    /// A member that is silent for so long is put out of the group.
    pub session_timeout: Duration,
    /// A transaction that is open for so long is aborted by the broker.
    pub transaction_timeout: Duration,
    /// A member that does not poll for so long is put out of the group. Above `transaction_timeout`.
    pub max_poll_interval: Duration,
    /// Between two tries of a request. Large, so that a resent request shows in the time of its call.
    pub retry_backoff: Duration,
    /// How outputs are compressed: `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub compression: String,
    /// A poll stops taking records when it holds so many bytes.
    pub max_poll_bytes: usize,
    /// Settings of librdkafka for every client.
    pub common: BTreeMap<String, String>,
    /// Settings of librdkafka for consumers.
    pub consumer: BTreeMap<String, String>,
    /// Settings of librdkafka for producers.
    pub producer: BTreeMap<String, String>,
    /// Whether a producer is replaced when a late copy of one of its requests may still arrive. Off loses and duplicates
    /// records; it exists so that a test can show that.
    #[doc(hidden)]
    pub recycle: bool,
}

/// The name of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Part of the transactional id: stable over restarts, and of one live process only.
    pub id: String,
    /// Whether a person chose it: then the members of the group are static, and a restart rebalances no one.
    pub configured: bool,
}

impl Settings {
    /// The defaults, for a group that reads `source_topic`.
    pub fn new(
        bootstrap_servers: impl Into<String>,
        group_id: impl Into<String>,
        source_topic: impl Into<String>,
        instance: Instance,
    ) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            group_id: group_id.into(),
            source_topic: source_topic.into(),
            transactional_id_prefix: String::new(),
            instance,
            session_timeout: Duration::from_secs(10),
            transaction_timeout: Duration::from_secs(15),
            max_poll_interval: Duration::from_secs(300),
            retry_backoff: Duration::from_millis(500),
            compression: "none".into(),
            max_poll_bytes: 4 * 1024 * 1024,
            common: BTreeMap::new(),
            consumer: BTreeMap::new(),
            producer: BTreeMap::new(),
            recycle: true,
        }
    }

    /// `{prefix}{group}-{instance}-{lane}`: of one live lane only.
    pub fn transactional_id(&self, lane: usize) -> String {
        format!(
            "{}{}-{}-{lane}",
            self.transactional_id_prefix, self.group_id, self.instance.id
        )
    }

    /// What a client is created with: our settings, then the user's, then the customizer's; refused when one of them
    /// takes away what exactly-once stands on.
    pub fn client(
        &self,
        kind: ClientKind,
        customizer: Option<&dyn KafkaCustomizer>,
    ) -> Result<ClientSettings> {
        let mut settings = ClientSettings::default();
        let needed = demands::needed(self, kind);
        let own = match kind {
            ClientKind::Producer { .. } => &self.producer,
            ClientKind::Consumer { .. } | ClientKind::Reader => &self.consumer,
        };
        let theirs = || self.common.iter().chain(own);
        for (key, value) in demands::suggested(self, kind) {
            if demands::applies(key, theirs()) {
                settings.set(key, value);
            }
        }
        for need in &needed {
            settings.set(need.key, need.value.clone());
        }
        for (key, value) in theirs() {
            settings.set(key, value.clone());
        }
        if let Some(customizer) = customizer {
            customizer.customize(kind, &mut settings);
        }
        demands::check(&settings, &needed, kind)?;
        Ok(settings)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("group_id", &self.group_id)
            .field("source_topic", &self.source_topic)
            .field("transactional_id_prefix", &self.transactional_id_prefix)
            .field("instance", &self.instance)
            .field("session_timeout", &self.session_timeout)
            .field("transaction_timeout", &self.transaction_timeout)
            .field("max_poll_interval", &self.max_poll_interval)
            .field("retry_backoff", &self.retry_backoff)
            .field("compression", &self.compression)
            .field("max_poll_bytes", &self.max_poll_bytes)
            .field("common", &ClientSettings(self.common.clone()))
            .field("consumer", &ClientSettings(self.consumer.clone()))
            .field("producer", &ClientSettings(self.producer.clone()))
            .finish_non_exhaustive()
    }
}

/// Which client is about to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// A lane's consumer.
    Consumer {
        /// The lane's number, from 0.
        lane: usize,
    },
    /// A lane's transactional producer. Created anew whenever it must be replaced.
    Producer {
        /// The lane's number, from 0.
        lane: usize,
    },
    /// A consumer that never joins the group: for commands and the start-up probe.
    Reader,
}

/// Sees the settings of every client before it is created.
pub trait KafkaCustomizer: Send + Sync {
    /// Changes what it wants to. What exactly-once stands on cannot be changed: the client is then not created, and the
    /// error says why.
    fn customize(&self, client: ClientKind, settings: &mut ClientSettings);
}

/// Settings of one client, by librdkafka's names. `Debug` prints the values of those names alone that never hold a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientSettings(BTreeMap<String, String>);

impl ClientSettings {
    /// Sets one; a later value replaces an earlier one.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// Leaves one to librdkafka's default.
    pub fn remove(&mut self, key: &str) -> &mut Self {
        self.0.remove(key);
        self
    }

    /// One of them.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// A duration in milliseconds, if it is set and one.
    pub(crate) fn millis(&self, key: &str) -> Option<u64> {
        self.get(key)?.parse().ok()
    }
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter()
                    .map(|(key, value)| (key, if demands::is_public(key) { value } else { "***" })),
            )
            .finish()
    }
}
