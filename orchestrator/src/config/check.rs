//! From what was written to what the runtime uses, with every check on the way.

use std::{path::Path, sync::Arc};

use super::{
    clients,
    disclosure::quoted,
    protected,
    report::{Origin, Report},
    settings::{
        Backend, Batch, Kafka, Payload, Properties, Retention, Retry, Settings, Store, Transforms,
        default_concurrency,
    },
    words::{FailureMode, Tracking},
    written::Written,
};
use crate::registry::Registry;

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
            dead_letter_headers: written.dead_letter_headers,
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
            retention: Retention {
                succeeded: written.retention.succeeded.0,
                resolved: written.retention.resolved.0,
            },
            outbox_skip_succeeded: written.outbox.skip_succeeded,
            initial_offset: written.initial_offset,
            on_unreadable: written.on_unreadable,
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
            management_hosts: self.hosts(written),
            log_format: written.log_format,
            log_failure_messages: written.log_failure_messages,
        };
        let origin = |section: &str, name: &str| (self.origin)(&["kafka", section, name]);
        clients::check(&settings, &origin, self.report);
        settings
    }

    pub(super) fn wrong(&mut self, key: &str, reason: impl Into<String>) {
        let path: Vec<&str> = key.split('.').collect();
        let origin = (self.origin)(&path).filter(|origin| *origin != Origin::Default);
        self.report
            .problem(origin.as_ref(), Some(&format!("orchestrator.{key}")), reason);
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

    pub(super) fn required(&mut self, key: &str, value: Option<&String>) -> String {
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
        for risk in &w.accept_store_risks {
            let names = self.registry.names();
            if !names.iter().any(|name| {
                risk.trim()
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with('-'))
            }) {
                let reason = format!(
                    "{} is no store's risk: their names begin with the store's, such as `redis-everysec`; this program knows {}",
                    quoted(risk),
                    names.join(", ")
                );
                self.wrong("accept-store-risks", reason);
            }
        }
        for (key, name) in [("db-strategy", Some(&name)), ("fallback", fallback.as_ref())] {
            if let Some(name) = name {
                self.address(key, name, &w.data_dir);
            }
        }
        let backend = |name: String| Backend {
            section: (self.sections)(&name),
            name,
        };
        let store = Store {
            backend: backend(name),
            fallback: fallback.map(backend),
            accepted_risks: w
                .accept_store_risks
                .iter()
                .map(|name| name.trim().to_owned())
                .collect(),
            on_failure: w.on_store_failure,
            timeout: w.db_timeout_ms.0,
            tries: count(w.db_tries),
            circuit_failure_threshold: count(w.db_circuit_failure_threshold),
            circuit_open: w.db_circuit_open_ms.0,
        };
        (store, tracking)
    }

    /// A store that has an address cannot be opened without one; said here, so that `config check` says it.
    fn address(&mut self, chosen_by: &str, name: &str, data_dir: &str) {
        let shown = self
            .registry
            .shown(name, &(self.sections)(name), Path::new(data_dir));
        if shown.is_ok_and(|shown| shown.get("url").is_some_and(|url| url == "")) {
            let variable = super::keys::variable(&[name.to_owned(), "url".to_owned()]);
            let origin = (self.origin)(&[chosen_by]);
            self.report.problem(
                origin.as_ref(),
                Some(&format!("orchestrator.{name}.url")),
                format!("the store `{name}` needs its address: set it in a file, or the variable {variable}"),
            );
        }
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
}

fn properties(written: &std::collections::BTreeMap<String, String>) -> Properties {
    let mut properties = Properties::default();
    for (name, value) in written {
        properties.set(name.trim(), value.as_str());
    }
    properties
}

pub(super) fn count(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn whole(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
