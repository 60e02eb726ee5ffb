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

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_listener_that_does_not_answer_is_no_broker_of_2016() {
        // As librdkafka 2.12.1 puts them together.
        for line in [
            "b1:9092/bootstrap: Disconnected: requesting ApiVersion: might be caused by incorrect security.protocol configuration (connecting to a SSL listener?) or broker version is < 0.10 (see api.version.request) (after 3ms in state APIVERSION_QUERY)",
            "ssl://b1:9093/1: Disconnected: requesting ApiVersion: might be caused by broker version < 0.10 (see api.version.request) (after 3ms in state APIVERSION_QUERY)",
            "b1:9092/1: ApiVersionRequest failed: Local: Timed out: probably due to broker version < 0.10 (see api.version.request configuration) (after 10003ms in state APIVERSION_QUERY)",
        ] {
            let told = plain(line);
            assert!(!told.contains("0.10") && told.contains("the listener"), "{told}");
            assert!(told.contains("/1") || told.contains("/bootstrap"), "{told}");
            assert!(told.contains("APIVERSION_QUERY"), "{told}");
        }
        assert_eq!(plain("b1:9092/1: Connect failed"), "b1:9092/1: Connect failed");
    }
}
