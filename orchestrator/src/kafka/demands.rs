//! What exactly-once stands on: the settings of each client that nobody may change, and why.

use super::{ClientKind, ClientSettings, Error, ErrorKind, Result, Settings, Worker, presence};

/// A setting that must have one value.
pub(super) struct Need {
    pub(super) key: &'static str,
    /// Other names that librdkafka knows it by.
    aliases: &'static [&'static str],
    pub(super) value: String,
    why: &'static str,
}

fn need(
    key: &'static str,
    aliases: &'static [&'static str],
    value: impl Into<String>,
    why: &'static str,
) -> Need {
    Need {
        key,
        aliases,
        value: value.into(),
        why,
    }
}

/// What a client of this kind must have.
pub(super) fn needed(settings: &Settings, kind: ClientKind) -> Vec<Need> {
    let mut needs = vec![need(
        "bootstrap.servers",
        &["metadata.broker.list"],
        &settings.bootstrap_servers,
        "consumer and producer must talk to one cluster: set `bootstrap-servers` instead",
    )];
    match kind {
        ClientKind::Consumer { .. } | ClientKind::Reader => {
            needs.extend([
                need("group.id", &[], &settings.group_id, "offsets are committed for the configured group: set `group-id` instead"),
                need("isolation.level", &[], "read_committed", "aborted records would be read, and the committed offset of an open transaction would be answered wrongly"),
                need("enable.auto.commit", &["auto.commit.enable"], "false", "offsets are committed inside the transaction alone"),
                need("enable.auto.offset.store", &[], "false", "offsets are committed inside the transaction alone"),
                need("auto.offset.reset", &[], "error", "where to start is decided once and committed; a reset by the client would skip or repeat records without trace"),
                need("enable.partition.eof", &[], "false", "the end of a partition is not an error"),
            ]);
            if let (ClientKind::Consumer { lane }, true) = (kind, settings.instance.configured) {
                needs.push(need(
                    "group.instance.id",
                    &[],
                    settings.member_id(lane),
                    "two lanes with one static member id would fence each other: set `instance` instead",
                ));
            }
        }
        ClientKind::Producer { lane } => needs.extend([
            need(
                "transactional.id",
                &[],
                settings.transactional_id(Worker::Lane(lane)),
                "it must be of one live lane only: set `transactional-id-prefix` or `instance` instead",
            ),
            need(
                "enable.idempotence",
                &[],
                "true",
                "a retried send would be written twice, or out of order",
            ),
            need(
                "acks",
                &["request.required.acks"],
                "all",
                "an acknowledged record could be lost with a broker",
            ),
            need(
                "transaction.timeout.ms",
                &[],
                settings.transaction_timeout.as_millis().to_string(),
                "other waits are derived from it: set `transaction-timeout` instead",
            ),
            need(
                "delivery.report.only.error",
                &[],
                "true",
                "successes are counted without a report each",
            ),
            need(
                "retry.backoff.ms",
                &[],
                settings.retry_backoff.as_millis().to_string(),
                "a resent request is recognised by the time that it takes: it must not be short",
            ),
        ]),
    }
    needs
}

/// What we set where the user sets nothing.
pub(super) fn suggested(settings: &Settings, kind: ClientKind) -> Vec<(&'static str, String)> {
    let text = |key: &'static str, value: &str| (key, value.to_owned());
    let mut all = vec![
        text("client.id", &settings.group_id),
        text("reconnect.backoff.max.ms", "500"),
    ];
    match kind {
        ClientKind::Consumer { .. } => all.extend([
            (
                "session.timeout.ms",
                settings.session_timeout.as_millis().to_string(),
            ),
            (
                "max.poll.interval.ms",
                settings.max_poll_interval.as_millis().to_string(),
            ),
            text("partition.assignment.strategy", "cooperative-sticky"),
            text("statistics.interval.ms", presence::STATISTICS),
            text("fetch.queue.backoff.ms", "20"),
            text("queued.max.messages.kbytes", "16384"),
            text("fetch.wait.max.ms", "100"),
        ]),
        ClientKind::Producer { .. } => all.extend([
            text("linger.ms", "5"),
            text("batch.size", "1000000"),
            ("message.max.bytes", super::MESSAGE_MAX_BYTES.to_string()),
            text("partitioner", "murmur2_random"),
            text("topic.metadata.propagation.max.ms", "5000"),
            ("compression.type", settings.compression.clone()),
        ]),
        ClientKind::Reader => {}
    }
    all
}

/// Whether a suggestion holds beside what the user sets: the newer group protocol knows no client-side assignor and no
/// session timeout, and librdkafka refuses them beside it.
pub(super) fn applies<'a>(key: &str, mut theirs: impl Iterator<Item = (&'a String, &'a String)>) -> bool {
    let classic_only = matches!(key, "partition.assignment.strategy" | "session.timeout.ms");
    !(classic_only && theirs.any(|(k, v)| k == "group.protocol" && v == "consumer"))
}

/// Refuses settings that take away what exactly-once stands on.
pub(super) fn check(settings: &ClientSettings, needs: &[Need], kind: ClientKind) -> Result<()> {
    let refused = |message: String| Error {
        kind: ErrorKind::Refused,
        message,
    };
    for need in needs {
        let names = need.aliases.iter().chain([&need.key]);
        if let Some(name) = names
            .clone()
            .find(|name| settings.get(name).is_some_and(|v| !means(need, v)))
        {
            return Err(refused(format!(
                "`{name}` cannot be set for {}: {}",
                named(kind),
                need.why
            )));
        }
        if names.clone().all(|name| settings.get(name).is_none()) {
            return Err(refused(format!(
                "`{}` cannot be taken away from {}: {}",
                need.key,
                named(kind),
                need.why
            )));
        }
    }
    if !matches!(kind, ClientKind::Consumer { lane: _ }) || settings.get("group.instance.id").is_none() {
        return Ok(());
    }
    match needs.iter().any(|need| need.key == "group.instance.id") {
        true => Ok(()),
        false => Err(refused(
            "`group.instance.id` cannot be set for the consumer: each lane needs its own: set `instance` instead".into(),
        )),
    }
}

fn means(need: &Need, value: &str) -> bool {
    value == need.value || (need.key == "acks" && value == "-1")
}

fn named(kind: ClientKind) -> &'static str {
    match kind {
        ClientKind::Consumer { .. } => "the consumer",
        ClientKind::Producer { .. } => "the producer",
        ClientKind::Reader => "the reader",
    }
}

/// Whether the value of this setting may be printed. A list of what may, not of what may not: a misspelt
/// `sasl.pasword` holds a password too.
pub(super) fn is_public(key: &str) -> bool {
    const PUBLIC: [&str; 35] = [
        "acks",
        "auto.offset.reset",
        "batch.size",
        "bootstrap.servers",
        "check.crcs",
        "client.id",
        "client.rack",
        "compression.type",
        "delivery.report.only.error",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "fetch.queue.backoff.ms",
        "fetch.wait.max.ms",
        "group.id",
        "group.instance.id",
        "group.protocol",
        "isolation.level",
        "linger.ms",
        "max.poll.interval.ms",
        "message.max.bytes",
        "partition.assignment.strategy",
        "partitioner",
        "queued.max.messages.kbytes",
        "reconnect.backoff.max.ms",
        "retry.backoff.ms",
        "sasl.mechanism",
        "security.protocol",
        "session.timeout.ms",
        "statistics.interval.ms",
        "topic.metadata.propagation.max.ms",
        "transaction.timeout.ms",
        "transactional.id",
        "socket.timeout.ms",
    ];
    PUBLIC.contains(&key)
}
