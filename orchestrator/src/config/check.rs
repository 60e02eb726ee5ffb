//! Bounds of single values, and relations between them.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use tracker_api::RecordId;

use super::{
    clients, protected,
    report::{Origin, Report},
    settings::{
        Backend, Batch, Kafka, Payload, Properties, Retry, Settings, Store, Transforms, default_concurrency,
    },
    units::show,
    words::{FailureMode, Tracking},
    written::Written,
};
use crate::registry::Registry;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const MILLISECOND: Duration = Duration::from_millis(1);

pub(crate) struct Checks<'a> {
    pub(crate) report: &'a mut Report,
    pub(crate) origin: &'a dyn Fn(&[&str]) -> Option<Origin>,
    pub(crate) registry: &'a Registry,
    pub(crate) sections: &'a dyn Fn(&str) -> crate::registry::Section,
}

impl Checks<'_> {
    /// What the runtime uses; only worth something if nothing was reported.
    pub(crate) fn settings(mut self, written: &Written) -> Settings {
        self.bounds(written);
        self.relations(written);
        self.clients(written);
        let topic = |name: &Option<String>| name.clone().unwrap_or_default();
        let group_id = self.required("group-id", written.group_id.as_ref());
        let source_topic = self.topic("source-topic", written.source_topic.as_ref(), true);
        let target_topic = self.topic("target-topic", written.target_topic.as_ref(), true);
        let dead_letters = self.topic("dead-letter-topic", written.dead_letter_topic.as_ref(), false);
        let bootstrap_servers = self.servers(written);
        if !source_topic.is_empty() {
            if source_topic == target_topic {
                self.wrong(
                    "target-topic",
                    "this is the source topic: every output would be read again, without end",
                );
            }
            if source_topic == dead_letters {
                self.wrong(
                    "dead-letter-topic",
                    "this is the source topic: every failure would be read again, without end",
                );
            }
        }
        let (store, tracking) = self.store(written);
        if store.backend.name == "memory" {
            self.report.warn(
                None,
                "the store `memory` forgets everything when the process ends: not for production",
            );
        }
        let settings = Settings {
            bootstrap_servers,
            namespace: written.namespace.clone().unwrap_or_else(|| group_id.clone()),
            group_id,
            source_topic: source_topic.into(),
            target_topic: target_topic.into(),
            dead_letter_topic: written
                .dead_letter_topic
                .as_ref()
                .map(|_| Arc::from(topic(&written.dead_letter_topic))),
            failure_mode: written.failure_mode,
            tracking,
            store,
            concurrency: written.concurrency.map_or_else(default_concurrency, whole),
            batch: Batch {
                records: whole(written.batch_records),
                bytes: written.batch_bytes.0,
                min_delay: written.batch_min_delay.0,
                max_delay: written.batch_max_delay.0,
            },
            transforms: Transforms {
                concurrency: whole(written.transform_concurrency),
                timeout: written.transform_timeout.0,
                ordering: written.ordering,
            },
            retry: Retry {
                max_attempts: count(written.max_attempts),
                backoff: written.backoff.0,
                max_backoff: written.max_backoff.0,
            },
            payload: Payload {
                form: written.store_payload,
                on_failure_only: written.store_payload_on_failure_only,
            },
            outbox_skip_succeeded: written.outbox.skip_succeeded,
            initial_offset: written.initial_offset,
            skip: self.skip(written),
            shutdown_timeout: written.shutdown_timeout.0,
            instance: self.instance(written),
            data_dir: written.data_dir.clone().into(),
            kafka: Kafka {
                transactional_id_prefix: written.transactional_id_prefix.clone(),
                session_timeout: written.session_timeout.0,
                transaction_timeout: written.transaction_timeout.0,
                max_poll_interval: written.max_poll_interval.0,
                common: properties(&written.kafka.properties),
                consumer: properties(&written.kafka.consumer),
                producer: properties(&written.kafka.producer),
            },
            management_address: self.management(written),
            log_format: written.log_format,
        };
        let origin = |section: &str, name: &str| (self.origin)(&["kafka", section, name]);
        clients::check(&settings, &origin, self.report);
        settings
    }

    fn wrong(&mut self, key: &str, reason: impl Into<String>) {
        let origin = (self.origin)(&[key]).filter(|origin| *origin != Origin::Default);
        self.report
            .problem(origin.as_ref(), Some(&format!("orchestrator.{key}")), reason);
    }

    fn range(&mut self, key: &str, value: u64, from: u64, to: u64) {
        if !(from..=to).contains(&value) {
            self.wrong(key, format!("{value} is outside {from} to {to}"));
        }
    }

    fn span(&mut self, key: &str, value: Duration, from: Duration, to: Duration) {
        if !(from..=to).contains(&value) {
            let (value, from, to) = (show(value), show(from), show(to));
            self.wrong(key, format!("{value} is outside {from} to {to}"));
        }
    }

    fn bounds(&mut self, w: &Written) {
        self.range("concurrency", w.concurrency.unwrap_or(1), 1, 64);
        self.range("batch-records", w.batch_records, 1, 100_000);
        if !((1 << 10)..=(256 << 20)).contains(&w.batch_bytes.0) {
            self.wrong(
                "batch-bytes",
                format!("{} is outside 1KiB to 256MiB", w.batch_bytes),
            );
        }
        self.span("batch-min-delay", w.batch_min_delay.0, Duration::ZERO, SECOND);
        self.span("batch-max-delay", w.batch_max_delay.0, MILLISECOND, 10 * SECOND);
        self.range("transform-concurrency", w.transform_concurrency, 1, 4_096);
        self.span(
            "transform-timeout",
            w.transform_timeout.0,
            MILLISECOND,
            60 * MINUTE,
        );
        self.range("max-attempts", w.max_attempts, 1, 1_000);
        self.span("backoff", w.backoff.0, MILLISECOND, 60 * MINUTE);
        self.span("max-backoff", w.max_backoff.0, MILLISECOND, 60 * MINUTE);
        self.span("db-timeout-ms", w.db_timeout_ms.0, MILLISECOND, MINUTE);
        self.range("db-tries", w.db_tries, 1, 10);
        self.range(
            "db-circuit-failure-threshold",
            w.db_circuit_failure_threshold,
            1,
            1_000,
        );
        self.span(
            "db-circuit-open-ms",
            w.db_circuit_open_ms.0,
            100 * MILLISECOND,
            10 * MINUTE,
        );
        self.span("shutdown-timeout", w.shutdown_timeout.0, SECOND, 10 * MINUTE);
        self.span("session-timeout", w.session_timeout.0, SECOND, 30 * MINUTE);
        self.span(
            "transaction-timeout",
            w.transaction_timeout.0,
            SECOND,
            15 * MINUTE,
        );
        self.span(
            "max-poll-interval",
            w.max_poll_interval.0,
            10 * SECOND,
            24 * 60 * MINUTE,
        );
        if w.session_timeout.0 >= SECOND && w.session_timeout.0 < 6 * SECOND {
            let warning = "`session-timeout` is below 6s: a broker refuses that unless its `group.min.session.timeout.ms` was lowered";
            self.report
                .warn((self.origin)(&["session-timeout"]).as_ref(), warning);
        }
        for (key, text) in [
            ("data-dir", &w.data_dir),
            ("transactional-id-prefix", &w.transactional_id_prefix),
        ] {
            if text.chars().any(char::is_control) {
                self.wrong(key, "control characters cannot stand here");
            }
        }
    }

    fn relations(&mut self, w: &Written) {
        let poll = w.max_poll_interval.0;
        let mut below = |key: &str, value: Duration, limit_key: &str, limit: Duration, why: &str| {
            if value >= limit && !self.report.has(&format!("orchestrator.{key}")) {
                let (value, limit) = (show(value), show(limit));
                self.wrong(
                    key,
                    format!("{value} is not below `{limit_key}` ({limit}): {why}"),
                );
            }
        };
        below(
            "transform-timeout",
            w.transform_timeout.0,
            "max-poll-interval",
            poll,
            "a slow transform would cost the lane its partitions",
        );
        below(
            "transaction-timeout",
            w.transaction_timeout.0,
            "max-poll-interval",
            poll,
            "nothing is polled while a transaction is open, so the group would expel a lane that waits for one",
        );
        below(
            "session-timeout",
            w.session_timeout.0,
            "max-poll-interval",
            poll,
            "librdkafka refuses it otherwise",
        );
        below(
            "shutdown-timeout",
            w.shutdown_timeout.0,
            "max-poll-interval",
            poll,
            "a lane that drains for longer is expelled while it does",
        );
        let store = w.db_timeout_ms.0.saturating_mul(count(w.db_tries));
        below(
            "db-timeout-ms",
            store,
            "shutdown-timeout",
            w.shutdown_timeout.0,
            "with `db-tries`, this is how long a stop waits for the store",
        );
        if w.batch_min_delay.0 > w.batch_max_delay.0 {
            self.wrong(
                "batch-min-delay",
                format!(
                    "{} is above `batch-max-delay` ({})",
                    w.batch_min_delay, w.batch_max_delay
                ),
            );
        }
        if w.backoff.0 > w.max_backoff.0 {
            self.wrong(
                "backoff",
                format!("{} is above `max-backoff` ({})", w.backoff, w.max_backoff),
            );
        }
        if w.outbox.skip_succeeded && w.tracking != Tracking::Outbox {
            let origin = (self.origin)(&["outbox", "skip-succeeded"]);
            let reason = format!(
                "only `tracking: outbox` knows what has succeeded; `tracking` is `{}`",
                w.tracking
            );
            self.report.problem(
                origin.as_ref(),
                Some("orchestrator.outbox.skip-succeeded"),
                reason,
            );
        }
    }

    fn clients(&mut self, w: &Written) {
        let sections = [
            ("properties", &w.kafka.properties),
            ("consumer", &w.kafka.consumer),
            ("producer", &w.kafka.producer),
        ];
        for (section, properties) in sections {
            let origin = |name: &str| (self.origin)(&["kafka", section, name]);
            protected::check(section, properties, &origin, self.report);
        }
    }

    fn required(&mut self, key: &str, value: Option<&String>) -> String {
        let value = value.cloned().unwrap_or_default();
        if value.is_empty() && !self.report.has(&format!("orchestrator.{key}")) {
            let variable = super::keys::variable(&[key.to_owned()]);
            self.wrong(
                key,
                format!("this is required: set it in a file, or the variable {variable}, or --set {key}=…"),
            );
        }
        value
    }

    fn topic(&mut self, key: &str, name: Option<&String>, required: bool) -> String {
        let name = match required {
            true => self.required(key, name),
            false => name.cloned().unwrap_or_default(),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.len() > 249 || !name.chars().all(plain) || matches!(name.as_str(), "." | "..") {
            let reason = "a topic's name has at most 249 letters, digits, dots, dashes and underscores";
            self.wrong(key, format!("`{}` is not a topic: {reason}", name.escape_debug()));
        }
        name
    }

    fn servers(&mut self, w: &Written) -> String {
        let servers = self.required("bootstrap-servers", w.bootstrap_servers.as_ref());
        for server in servers
            .split(',')
            .map(str::trim)
            .filter(|server| !server.is_empty())
        {
            let (scheme, address) = server.split_once("://").unwrap_or(("PLAINTEXT", server));
            let shown = super::report::hide_userinfo(server);
            if !["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"].contains(&scheme.to_uppercase().as_str()) {
                self.wrong(
                    "bootstrap-servers",
                    format!("`{shown}` is not a broker: write host:port"),
                );
                continue;
            }
            match address.rsplit_once(':') {
                Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {}
                Some((host, _)) if !host.is_empty() => {
                    self.wrong(
                        "bootstrap-servers",
                        format!("`{shown}` has no valid port: 1 to 65535"),
                    );
                }
                _ => self.wrong(
                    "bootstrap-servers",
                    format!("`{shown}` has no port: write host:port, such as {address}:9092"),
                ),
            }
        }
        servers
    }

    fn store(&mut self, w: &Written) -> (Store, Tracking) {
        let name = self.required("db-strategy", w.db_strategy.as_ref());
        let name = match name.is_empty() {
            true => name,
            false => self.backend("db-strategy", &name),
        };
        let fallback = w.fallback.as_ref().map(|name| self.backend("fallback", name));
        let fallback = fallback.filter(|name| name != Registry::NONE);
        if fallback.is_some() && fallback.as_ref() == Some(&name) {
            self.wrong(
                "fallback",
                "this is the store itself: it would be away together with it",
            );
        }
        // Whoever says `none` last means it: a file's `tracking` does not stand against a variable's `db-strategy`.
        let rank = |key: &str| (self.origin)(&[key]).map_or(0, |origin| origin.rank());
        let meant = rank("tracking") > 0 && rank("tracking") >= rank("db-strategy");
        let tracking = match name.as_str() {
            Registry::NONE if meant && w.tracking != Tracking::None => {
                let reason = format!("`{}` needs a store, and `db-strategy` is `none`", w.tracking);
                self.wrong("tracking", reason);
                Tracking::None
            }
            Registry::NONE => Tracking::None,
            _ => w.tracking,
        };
        if tracking == Tracking::None && fallback.is_some() {
            self.wrong(
                "fallback",
                "nothing is tracked, so there is nothing to fall back with",
            );
        }
        if tracking == Tracking::None
            && w.failure_mode == FailureMode::SkipAndLog
            && w.dead_letter_topic.is_none()
        {
            self.report.warn(None, "failures are passed over with a line in the log only: neither a store nor `dead-letter-topic` keeps them");
        }
        let backend = |name: String| Backend {
            section: (self.sections)(&name),
            name,
        };
        let store = Store {
            backend: backend(name),
            fallback: fallback.map(backend),
            on_failure: w.on_store_failure,
            timeout: w.db_timeout_ms.0,
            tries: count(w.db_tries),
            circuit_failure_threshold: count(w.db_circuit_failure_threshold),
            circuit_open: w.db_circuit_open_ms.0,
        };
        (store, tracking)
    }

    fn backend(&mut self, key: &str, name: &str) -> String {
        match self.registry.resolve(name) {
            Ok(known) => known.to_owned(),
            Err(e) => {
                self.wrong(key, e.to_string());
                name.to_owned()
            }
        }
    }

    fn skip(&mut self, w: &Written) -> Vec<RecordId> {
        let mut ids = BTreeSet::new();
        for text in &w.skip {
            match text.parse::<RecordId>() {
                Ok(id)
                    if w.source_topic
                        .as_deref()
                        .is_some_and(|topic| topic != &*id.partition.topic) =>
                {
                    let reason = format!("`{id}` is not a record of the source topic");
                    self.wrong("skip", reason);
                }
                Ok(id) => {
                    ids.insert(id);
                }
                Err(reason) => self.wrong("skip", reason),
            }
        }
        ids.into_iter().collect()
    }

    fn instance(&mut self, w: &Written) -> Option<String> {
        let instance = w.instance.clone()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if instance.len() > 100 || !instance.chars().all(plain) {
            let reason = "an instance's name has at most 100 letters, digits, dots, dashes and underscores: Kafka takes no others in a static member's id";
            self.wrong("instance", reason);
        }
        Some(instance)
    }

    fn management(&mut self, w: &Written) -> SocketAddr {
        let text = w.management_address.trim();
        let full = match text.split_once(':') {
            Some(("", port)) => format!("0.0.0.0:{port}"),
            Some(("localhost", port)) => format!("127.0.0.1:{port}"),
            _ => text.to_owned(),
        };
        full.parse().unwrap_or_else(|_| {
            let reason = format!(
                "`{}` is not an address and a port such as 0.0.0.0:8080",
                text.escape_debug()
            );
            self.wrong("management-address", reason);
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }
}

fn properties(written: &std::collections::BTreeMap<String, String>) -> Properties {
    let mut properties = Properties::default();
    for (name, value) in written {
        properties.set(name.trim(), value.as_str());
    }
    properties
}

fn count(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn whole(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
