//! From what is configured to what Kafka's clients are created with.

use rdkafka::{ClientConfig, error::KafkaError};

use super::{
    disclosure::redact,
    nearest,
    report::{Origin, Report},
    settings::{Properties, Settings},
};
use crate::kafka::{self, ClientKind, Instance};

impl Settings {
    /// What sessions of the process `instance` are made from.
    pub fn clients(&self, instance: Instance) -> kafka::Settings {
        let owned = |properties: &Properties| {
            let pairs = properties.iter();
            pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect()
        };
        kafka::Settings {
            transactional_id_prefix: self.kafka.transactional_id_prefix.clone(),
            session_timeout: self.kafka.session_timeout,
            transaction_timeout: self.kafka.transaction_timeout,
            shutdown_timeout: self.shutdown_timeout,
            max_poll_interval: self.kafka.max_poll_interval,
            // What is polled comes on top of what a lane holds already: see `lane/feed.rs`.
            max_poll_bytes: self.batch.bytes / 2,
            common: owned(&self.kafka.common),
            consumer: owned(&self.kafka.consumer),
            producer: owned(&self.kafka.producer),
            ..kafka::Settings::new(
                &*self.bootstrap_servers,
                &*self.group_id,
                &*self.source_topic,
                instance,
            )
        }
    }
}

/// Names that are often written, to find the one that was meant. librdkafka itself says which names there are.
const OFTEN: &[&str] = &[
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.oauthbearer.scope",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.endpoint.identification.algorithm",
    "enable.ssl.certificate.verification",
    "client.id",
    "client.rack",
    "compression.type",
    "compression.level",
    "linger.ms",
    "batch.size",
    "batch.num.messages",
    "message.max.bytes",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "fetch.min.bytes",
    "fetch.wait.max.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "max.partition.fetch.bytes",
    "queued.max.messages.kbytes",
    "partition.assignment.strategy",
    "partitioner",
    "heartbeat.interval.ms",
    "socket.timeout.ms",
    "socket.keepalive.enable",
    "socket.connection.setup.timeout.ms",
    "broker.address.family",
    "connections.max.idle.ms",
    "metadata.max.age.ms",
    "reconnect.backoff.ms",
    "reconnect.backoff.max.ms",
    "statistics.interval.ms",
    "debug",
];

/// How librdkafka's reason begins for a name that it does not know.
const NO_SUCH: &str = "No such configuration property";

/// Asks librdkafka about each property by itself, then the session about all of them together.
pub(super) fn check(settings: &Settings, origin: &dyn Fn(&str, &str) -> Option<Origin>, report: &mut Report) {
    let kafka = &settings.kafka;
    let sections = [
        ("properties", &kafka.common),
        ("consumer", &kafka.consumer),
        ("producer", &kafka.producer),
    ];
    let mut sound = true;
    for (section, properties) in sections {
        for (name, value) in properties.iter() {
            let key = format!("orchestrator.kafka.{section}.{name}");
            let reason = if report.has(&key) {
                None
            } else {
                refused(name, value)
            };
            sound &= reason.is_none() && !report.has(&key);
            if let Some(reason) = reason {
                report.problem(origin(section, name).as_ref(), Some(&key), reason);
            }
        }
    }
    if !sound {
        return;
    }
    let instance = Instance {
        id: settings.instance.clone().unwrap_or_else(|| "check".to_owned()),
        configured: settings.instance.is_some(),
    };
    let clients = settings.clients(instance);
    let kinds = [
        ClientKind::Consumer { lane: 0 },
        ClientKind::Producer { lane: 0 },
        ClientKind::Reader,
    ];
    for kind in kinds {
        let Err(e) = clients.client(kind, None) else {
            continue;
        };
        let named = |(_, properties): &&(&str, &Properties)| {
            properties
                .iter()
                .any(|(name, _)| e.message.contains(&format!("`{name}`")))
        };
        let section = sections.iter().find(named);
        let found = section.and_then(|(section, properties)| {
            let (name, _) = properties
                .iter()
                .find(|(name, _)| e.message.contains(&format!("`{name}`")))?;
            Some((
                origin(section, name),
                format!("orchestrator.kafka.{section}.{name}"),
            ))
        });
        let (place, key) = found.unwrap_or((None, "orchestrator.kafka".to_owned()));
        report.problem(place.as_ref(), Some(&key), &*e.message);
    }
}

/// Why librdkafka takes no such property.
fn refused(name: &str, value: &str) -> Option<String> {
    let created = ClientConfig::new().set(name, value).create_native_config();
    let reason = match created {
        Ok(_) => return None,
        Err(KafkaError::ClientConfig(_, reason, _, _)) => reason,
        Err(e) => e.to_string(),
    };
    if reason.contains(NO_SUCH) {
        let near = nearest(name, OFTEN.iter().copied());
        return Some(match near {
            Some(near) => format!("librdkafka has no such setting; did you mean `{near}`?"),
            None => "librdkafka has no such setting".to_owned(),
        });
    }
    // The reason may repeat the value.
    match Properties::is_secret(name) {
        true => Some("librdkafka does not take this value".to_owned()),
        false => Some(format!(
            "librdkafka does not take this value: {}",
            redact(&reason)
        )),
    }
}

/// Whether librdkafka has a setting of this name.
pub(super) fn is_known(name: &str) -> bool {
    let created = ClientConfig::new().set(name, "").create_native_config();
    !matches!(created, Err(KafkaError::ClientConfig(_, reason, _, _)) if reason.contains(NO_SUCH))
}
