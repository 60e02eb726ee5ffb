//! What librdkafka says about a listener that does not answer as Kafka, put right.
//!
//! It guesses at brokers older than 0.10 (of 2016), also where a broker of today is frozen or starting, or its listener
//! expects TLS or SASL. Whoever reads that looks in the wrong place. What is *decided* is decided by codes, elsewhere.

use std::borrow::Cow;

/// What librdkafka 2.12.1 says (`rdkafka_broker.c`), and what it means.
const MEANT: &[(&str, &str)] = &[
    (
        ": requesting ApiVersion: might be caused by incorrect security.protocol configuration (connecting to a SSL \
         listener?) or broker version is < 0.10 (see api.version.request)",
        ": the listener closed the connection without an answer: it may expect TLS or SASL (check `security.protocol`), \
         be starting or stopping, or be no Kafka",
    ),
    (
        ": requesting ApiVersion: might be caused by broker version < 0.10 (see api.version.request)",
        ": the listener closed the connection without an answer: it may be starting or stopping, or be no Kafka",
    ),
    (
        ": probably due to broker version < 0.10 (see api.version.request configuration)",
        ": the listener takes connections and does not answer as Kafka: the broker may be frozen or starting, or the \
         listener expect TLS or SASL (check `security.protocol`)",
    ),
];

/// The same, without the guess.
pub(super) fn plain(line: &str) -> Cow<'_, str> {
    match MEANT.iter().find(|(said, _)| line.contains(said)) {
        Some((said, meant)) => Cow::Owned(line.replace(said, meant)),
        None => Cow::Borrowed(line),
    }
}
