use std::{collections::BTreeMap, fmt, time::Duration};

use super::{Result, demands};

/// librdkafka's `message.max.bytes` where nobody sets it.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_000_000;

/// What a session is made from. Filled by the configuration; nothing here is read from a file or the environment.
#[derive(Clone)]
pub struct Settings {
    /// Brokers to ask first, `host:port,…`.
    pub bootstrap_servers: String,
    /// The consumer group.
    pub group_id: String,
    /// The topic to read.
    pub source_topic: String,
    /// What each transactional id begins with, before group, instance and lane.
    pub transactional_id_prefix: String,
    /// The name of this process.
    pub instance: Instance,
    /// A member that is silent for so long is put out of the group.
    pub session_timeout: Duration,
    /// A transaction that is open for so long is aborted by the broker.
    pub transaction_timeout: Duration,
    /// A member that does not poll for so long is put out of the group. Above `transaction_timeout`.
    pub max_poll_interval: Duration,
    /// A stop waits for an attempt that is under way, at most so long.
    pub shutdown_timeout: Duration,
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
            shutdown_timeout: Duration::from_secs(25),
            retry_backoff: Duration::from_millis(500),
            compression: "none".into(),
            max_poll_bytes: 4 * 1024 * 1024,
            common: BTreeMap::new(),
            consumer: BTreeMap::new(),
            producer: BTreeMap::new(),
            recycle: true,
        }
    }

    /// The size in bytes of the largest record that a lane's producer sends: `message.max.bytes` as it reaches the client,
    /// wherever it was set (for every client, for producers, by the customizer), else a broker's default; librdkafka's own
    /// where the customizer took it away.
    ///
    /// # Errors
    ///
    /// As [`client`](Self::client).
    pub fn max_message_bytes(&self, lane: usize, customizer: Option<&dyn KafkaCustomizer>) -> Result<usize> {
        let producer = self.client(ClientKind::Producer { lane }, customizer)?;
        let set = producer
            .get("message.max.bytes")
            .and_then(|bytes| bytes.trim().parse().ok());
        Ok(set.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES))
    }

    /// How long an attempt may take up to its commit, and how long the commit may take: less than the broker waits for it, and
    /// both together less than a stop waits for the lane. At least a second.
    pub(super) fn call_limit(&self) -> Duration {
        let of_stop = self.shutdown_timeout.mul_f64(0.4);
        self.transaction_timeout
            .mul_f64(2.0 / 3.0)
            .min(of_stop)
            .max(Duration::from_secs(1))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ClientKind, ClientSettings, Instance, KafkaCustomizer, Settings};
    use crate::kafka::{ErrorKind, native};

    fn settings(configured: bool) -> Settings {
        let instance = Instance {
            id: "i1".into(),
            configured,
        };
        Settings::new("localhost:9092", "orders", "in", instance)
    }

    #[test]
    fn an_attempt_and_its_commit_end_before_the_transaction_and_before_a_stop() {
        let limit = |transaction, shutdown| {
            let mut settings = settings(false);
            settings.transaction_timeout = Duration::from_secs(transaction);
            settings.shutdown_timeout = Duration::from_secs(shutdown);
            settings.call_limit().as_secs()
        };
        assert_eq!(limit(15, 25), 10, "the defaults");
        assert_eq!(limit(60, 25), 10);
        assert_eq!(limit(15, 5), 2);
        assert_eq!(limit(1, 1), 1);
    }

    const EACH: [ClientKind; 3] = [
        ClientKind::Consumer { lane: 2 },
        ClientKind::Producer { lane: 2 },
        ClientKind::Reader,
    ];

    #[test]
    fn librdkafka_knows_every_setting_that_we_use() {
        for kind in EACH {
            let client = settings(true).client(kind, None).unwrap();
            native::check(&client).unwrap();
        }
    }

    #[test]
    fn a_configured_instance_makes_static_members_and_an_invented_one_does_not() {
        let id = |configured| {
            let client = settings(configured).client(EACH[0], None).unwrap();
            client.get("group.instance.id").map(str::to_owned)
        };
        assert_eq!(id(true).as_deref(), Some("i1-2"));
        assert_eq!(id(false), None);
        let producer = settings(false).client(EACH[1], None).unwrap();
        assert_eq!(producer.get("transactional.id"), Some("orders-i1-2.6.2"));
    }

    #[test]
    fn what_exactly_once_stands_on_is_refused_with_the_reason() {
        let consumer = [
            ("isolation.level", "read_uncommitted"),
            ("enable.auto.commit", "true"),
            ("auto.commit.enable", "true"),
            ("enable.auto.offset.store", "true"),
            ("auto.offset.reset", "earliest"),
            ("group.id", "other"),
            ("group.instance.id", "other"),
            ("metadata.broker.list", "elsewhere:9092"),
        ];
        let producer = [
            ("transactional.id", "fixed"),
            ("enable.idempotence", "false"),
            ("acks", "1"),
            ("request.required.acks", "0"),
            ("retry.backoff.ms", "5"),
            ("delivery.report.only.error", "false"),
        ];
        for (kind, key, value) in consumer
            .map(|(k, v)| (EACH[0], k, v))
            .into_iter()
            .chain(producer.map(|(k, v)| (EACH[1], k, v)))
        {
            let mut theirs = settings(false);
            theirs.common.insert(key.into(), value.into());
            let error = theirs.client(kind, None).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Refused);
            assert!(error.message.contains(&format!("`{key}`")), "{error}");
            assert!(error.message.len() > key.len() + 40, "no reason: {error}");
        }
    }

    #[test]
    fn what_is_set_as_it_must_be_is_accepted() {
        let mut theirs = settings(false);
        theirs.producer.insert("acks".into(), "-1".into());
        theirs.producer.insert("linger.ms".into(), "1".into());
        let client = theirs.client(EACH[1], None).unwrap();
        assert_eq!(client.get("linger.ms"), Some("1"));
    }

    struct Tune(&'static str, Option<&'static str>);

    impl KafkaCustomizer for Tune {
        fn customize(&self, client: ClientKind, settings: &mut ClientSettings) {
            if matches!(client, ClientKind::Producer { lane: 2 }) {
                match self.1 {
                    Some(value) => settings.set(self.0, value),
                    None => settings.remove(self.0),
                };
            }
        }
    }

    #[test]
    fn a_customizer_sees_each_client_and_may_not_take_away_what_is_needed() {
        let tuned = settings(false)
            .client(EACH[1], Some(&Tune("compression.type", Some("zstd"))))
            .unwrap();
        assert_eq!(tuned.get("compression.type"), Some("zstd"));
        for tune in [Tune("acks", None), Tune("acks", Some("1"))] {
            let refused = settings(false).client(EACH[1], Some(&tune)).unwrap_err();
            assert!(refused.message.contains("acks"), "{refused}");
        }
        assert!(settings(false).client(EACH[0], Some(&Tune("acks", None))).is_ok());
    }

    #[test]
    fn the_largest_record_is_read_wherever_message_max_bytes_was_set() {
        let largest = |settings: &Settings, tune: Option<&dyn KafkaCustomizer>| {
            settings.max_message_bytes(2, tune).unwrap()
        };
        assert_eq!(largest(&settings(false), None), 1_048_588, "as a broker takes");
        let mut theirs = settings(false);
        theirs.consumer.insert("message.max.bytes".into(), "7000".into());
        assert_eq!(
            largest(&theirs, None),
            1_048_588,
            "a consumer's is not a producer's"
        );
        theirs.common.insert("message.max.bytes".into(), "2000".into());
        assert_eq!(largest(&theirs, None), 2_000);
        theirs.producer.insert("message.max.bytes".into(), "3000".into());
        assert_eq!(largest(&theirs, None), 3_000);
        let tune = Tune("message.max.bytes", Some("4000"));
        assert_eq!(largest(&theirs, Some(&tune)), 4_000);
    }

    #[test]
    fn no_secret_is_printed_not_even_under_a_misspelt_name() {
        let mut theirs = settings(false);
        for key in [
            "sasl.password",
            "sasl.pasword",
            "ssl.key.pem",
            "sasl.oauthbearer.config",
        ] {
            theirs.common.insert(key.into(), "hunter2".into());
        }
        let client = theirs.client(EACH[1], None).unwrap();
        let error = native::check(&client).unwrap_err();
        for shown in [
            format!("{theirs:?}"),
            format!("{client:?}"),
            format!("{error:?} {error}"),
        ] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert!(error.message.contains("Did you mean `sasl.password`?"), "{error}");
    }

    #[test]
    fn the_newer_group_protocol_takes_no_client_side_assignor() {
        let mut theirs = settings(false);
        theirs.consumer.insert("group.protocol".into(), "consumer".into());
        let client = theirs.client(EACH[0], None).unwrap();
        assert_eq!(client.get("partition.assignment.strategy"), None);
        assert_eq!(client.get("session.timeout.ms"), None);
    }
}
