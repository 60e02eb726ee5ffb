//! Settings of Kafka's clients that exactly-once needs as they are.

use super::report::{Origin, Report};

/// The setting, the values that may be written nevertheless, and why no other.
const PROTECTED: &[(&str, &[&str], &str)] = &[
    ("bootstrap.servers", &[], "use `orchestrator.bootstrap-servers`"),
    (
        "metadata.broker.list",
        &[],
        "use `orchestrator.bootstrap-servers`",
    ),
    ("group.id", &[], "use `orchestrator.group-id`"),
    (
        "group.instance.id",
        &[],
        "it is made of `orchestrator.instance` and the lane",
    ),
    (
        "transactional.id",
        &[],
        "it is made of `transactional-id-prefix`, group, instance and lane: one per producer, or they fence each other",
    ),
    (
        "transaction.timeout.ms",
        &[],
        "use `orchestrator.transaction-timeout`",
    ),
    ("session.timeout.ms", &[], "use `orchestrator.session-timeout`"),
    (
        "max.poll.interval.ms",
        &[],
        "use `orchestrator.max-poll-interval`",
    ),
    (
        "auto.offset.reset",
        &["error"],
        "use `orchestrator.initial-offset`: a reset by the client would pass over records or repeat them unseen",
    ),
    (
        "isolation.level",
        &["read_committed"],
        "aborted records would be read as if they existed",
    ),
    (
        "enable.auto.commit",
        &["false"],
        "offsets are committed in the transaction, with the outputs",
    ),
    (
        "enable.auto.offset.store",
        &["false"],
        "offsets are committed in the transaction, with the outputs",
    ),
    (
        "auto.commit.interval.ms",
        &[],
        "nothing is committed by time: offsets are committed in the transaction",
    ),
    (
        "enable.idempotence",
        &["true"],
        "a transactional producer is idempotent",
    ),
    (
        "acks",
        &["all", "-1"],
        "a transactional producer waits for all replicas",
    ),
    (
        "request.required.acks",
        &["all", "-1"],
        "a transactional producer waits for all replicas",
    ),
    (
        "retry.backoff.ms",
        &["500"],
        "a retry is seen by its backoff: late requests are detected with this value",
    ),
    (
        "enable.partition.eof",
        &["false"],
        "lanes take records, not ends of partitions",
    ),
    (
        "delivery.report.only.error",
        &["true"],
        "deliveries are counted by the empty queue, errors by report",
    ),
    (
        "enable.gapless.guarantee",
        &["false"],
        "it turns one lost record into a fatal error",
    ),
];

const TRUST: &str =
    "librdkafka has `ssl.ca.location`, a PEM file that `keytool -list -rfc -keystore FILE > ca.pem` makes";
const KEYS: &str = "librdkafka has `ssl.keystore.location` for PKCS12, and `ssl.certificate.location` with `ssl.key.location` for PEM";

/// Names of the Java clients.
const JAVA: &[(&str, &str)] = &[
    ("max.poll.records", "use `orchestrator.batch-records`"),
    (
        "key.deserializer",
        "a transform is given bytes: nothing is deserialised before it",
    ),
    (
        "value.deserializer",
        "a transform is given bytes: nothing is deserialised before it",
    ),
    ("key.serializer", "a transform returns bytes"),
    ("value.serializer", "a transform returns bytes"),
    ("fetch.max.wait.ms", "librdkafka calls it `fetch.wait.max.ms`"),
    ("max.request.size", "librdkafka calls it `message.max.bytes`"),
    (
        "buffer.memory",
        "librdkafka calls it `queue.buffering.max.kbytes`",
    ),
    ("ssl.truststore.location", TRUST),
    ("ssl.truststore.password", TRUST),
    ("ssl.truststore.type", TRUST),
    ("ssl.truststore.certificates", "librdkafka calls it `ssl.ca.pem`"),
    ("ssl.keystore.type", KEYS),
    ("ssl.keystore.key", "librdkafka calls it `ssl.key.pem`"),
    (
        "ssl.keystore.certificate.chain",
        "librdkafka calls it `ssl.certificate.pem`",
    ),
];

/// Why this setting of a client is refused; none if it may stand.
pub(crate) fn refused(name: &str, value: &str) -> Option<String> {
    let name = name.trim().to_lowercase();
    if let Some((_, allowed, why)) = PROTECTED.iter().find(|(known, _, _)| *known == name) {
        if allowed.contains(&value.trim().to_lowercase().as_str()) {
            return None;
        }
        let only = match allowed {
            [] => String::new(),
            [only, ..] => format!(" (it is always `{only}`)"),
        };
        return Some(format!("this cannot be set: {why}{only}"));
    }
    if matches!(
        name.as_str(),
        "max.in.flight" | "max.in.flight.requests.per.connection"
    ) && value.trim().parse::<u32>().is_ok_and(|n| !(1..=5).contains(&n))
    {
        return Some("an idempotent producer keeps its order with 1 to 5 requests under way".to_owned());
    }
    JAVA.iter()
        .find(|(known, _)| *known == name)
        .map(|(_, why)| format!("this is a setting of the Java clients: {why}"))
}

/// Checks one section of properties.
pub(crate) fn check<'a>(
    section: &str,
    properties: impl IntoIterator<Item = (&'a String, &'a String)>,
    origin: &dyn Fn(&str) -> Option<Origin>,
    report: &mut Report,
) {
    for (name, value) in properties {
        if let Some(reason) = refused(name, value) {
            let key = format!("orchestrator.kafka.{section}.{name}");
            report.problem(origin(name).as_ref(), Some(&key), reason);
        }
    }
}
