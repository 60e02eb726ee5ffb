//! What an error of librdkafka means for us. One place, table-tested.

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};

use super::{Error, ErrorKind, What};

/// An error of a transactional call, with the three flags that decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TxnError {
    pub(super) code: Code,
    pub(super) text: String,
    pub(super) fatal: bool,
    pub(super) abortable: bool,
    pub(super) retriable: bool,
}

/// What to do about an error of a transactional call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Call again, with the same arguments.
    Again,
    /// Abort, then try anew.
    Abort,
    /// The group no longer knows us as the owner: abort, then poll.
    NotMember,
    /// A newer producer has our transactional id.
    Fenced,
    /// A person must act.
    Refused,
    /// The producer is of no more use.
    Replace,
}

impl TxnError {
    pub(super) fn verdict(&self) -> Verdict {
        match self.code {
            Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => Verdict::Fenced,
            Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::FencedInstanceId
            | Code::RebalanceInProgress
            | Code::StaleMemberEpoch
            | Code::FencedMemberEpoch
                if !self.fatal =>
            {
                Verdict::NotMember
            }
            code if is_refusal(code) => Verdict::Refused,
            _ if self.fatal => Verdict::Replace,
            _ if self.abortable => Verdict::Abort,
            _ if self.retriable => Verdict::Again,
            _ => Verdict::Replace,
        }
    }

    /// As an error of `what`.
    pub(super) fn during(&self, what: &str) -> Error {
        let kind = match self.verdict() {
            Verdict::Again | Verdict::Abort | Verdict::NotMember | Verdict::Replace => ErrorKind::Retriable,
            Verdict::Fenced => ErrorKind::Fenced,
            Verdict::Refused => ErrorKind::Refused,
        };
        Error {
            kind,
            message: format!("{what}: {} ({:?})", self.text, self.code),
        }
    }
}

const TLS: &str = "TLS was refused. Check `security.protocol` (does the listener speak TLS?) and the certificates: \
     `ssl.ca.location` and, where the listener asks for ours, `ssl.certificate.location` and `ssl.key.location`";
const SASL: &str = "SASL was refused. Check `sasl.mechanism`, `sasl.username` and `sasl.password`, and that \
     `security.protocol` is the listener's";

/// Connections that are refused, by us or by the broker, and what to look at. A TLS handshake that is merely cut off, as by
/// a broker that stops, has the code of the transport.
const REFUSALS: [(Code, &str); 5] = [
    (Code::SSL, TLS),
    (Code::Authentication, SASL),
    (Code::SaslAuthenticationFailed, SASL),
    (Code::UnsupportedSASLMechanism, SASL),
    (Code::IllegalSASLState, SASL),
];

/// What to look at when a connection is refused: until somebody acts, waiting mends nothing. None: the broker may merely be
/// away. Only the code decides: librdkafka's words guess at TLS and SASL too, and every address names its protocol.
pub(super) fn refusal(code: Code) -> Option<&'static str> {
    refusal_of_number(code as i32)
}

/// The same for the number that a callback is given.
pub(super) fn refusal_of_number(code: i32) -> Option<&'static str> {
    let known = REFUSALS.iter().find(|(known, _)| *known as i32 == code);
    known.map(|(_, look_at)| *look_at)
}

/// Configuration, permission, or a topic that is not there: no retry helps.
fn is_refusal(code: Code) -> bool {
    refusal(code).is_some()
        || matches!(
            code,
            Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed
                | Code::InconsistentGroupProtocol
                | Code::InvalidTransactionTimeout
                | Code::OffsetMetadataTooLarge
                | Code::UnsupportedFeature
                | Code::UnsupportedVersion
                | Code::InvalidGroupId
                | Code::InvalidArgument
                | Code::NotConfigured
        )
}

/// What of a record a delivery error refuses, if it is about the record at all. A timeout, a lost leader, a quota, a purge
/// or a policy of the cluster (`PolicyViolation`) is not.
pub(super) fn what_is_refused(code: Code) -> Option<What> {
    match code {
        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidRecord
        | Code::InvalidArgument => Some(What::Record),
        Code::InvalidTimestamp => Some(What::Timestamp),
        Code::UnknownPartition => Some(What::Partition),
        Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::InvalidTopic
        | Code::TopicAuthorizationFailed => Some(What::Topic),
        _ => None,
    }
}

/// Whether a code compares sizes: then what is larger is refused too.
pub(super) fn is_of_size(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize
    )
}

/// Whether a record was given up without being sent, because of another: that says nothing of itself.
pub(super) fn is_purge(code: Code) -> bool {
    matches!(code, Code::PurgeQueue | Code::PurgeInflight)
}

/// The error of a call outside transactions.
pub(super) fn of_code(what: &str, code: Code, reason: &str) -> Error {
    let kind = match code {
        Code::FencedInstanceId => ErrorKind::Fenced,
        Code::Fatal => ErrorKind::Fatal,
        Code::AutoOffsetReset
        | Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::UnknownPartition
        | Code::InvalidTopic => ErrorKind::Refused,
        code if is_refusal(code) => ErrorKind::Refused,
        _ => ErrorKind::Retriable,
    };
    let message = if reason.is_empty() {
        format!("{what}: {code}")
    } else {
        format!("{what}: {reason} ({code:?})")
    };
    Error { kind, message }
}

/// The error of a call outside transactions. Never prints a setting's value, as the `Display` of `KafkaError` would.
pub(super) fn of_kafka(what: &str, error: &KafkaError) -> Error {
    match (error, error.rdkafka_error_code()) {
        (_, Some(code)) => of_code(what, code, ""),
        (KafkaError::ClientConfig(_, _, key, _), _) => Error {
            kind: ErrorKind::Refused,
            message: format!("{what}: the value of `{key}` was refused"),
        },
        (KafkaError::ClientCreation(why), _) => Error {
            kind: ErrorKind::Refused,
            message: format!("{what}: {why}"),
        },
        (other, _) => Error {
            kind: ErrorKind::Retriable,
            message: format!("{what}: {other}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, TxnError, Verdict, of_code, of_kafka, refusal, what_is_refused};
    use crate::kafka::{ErrorKind, What};
    use rdkafka::{error::KafkaError, types::RDKafkaConfRes};

    #[test]
    fn an_error_of_a_transactional_call_means_one_thing() {
        // (code, fatal, abortable, retriable) => what to do
        let table = [
            (Code::BrokerTransportFailure, false, false, true, Verdict::Again),
            (Code::OperationTimedOut, false, false, true, Verdict::Again),
            (Code::OperationTimedOut, false, true, false, Verdict::Abort),
            (Code::MessageTimedOut, false, true, false, Verdict::Abort),
            (Code::IllegalGeneration, false, true, false, Verdict::NotMember),
            (Code::UnknownMemberId, false, true, false, Verdict::NotMember),
            (Code::RebalanceInProgress, false, true, false, Verdict::NotMember),
            (Code::FencedInstanceId, false, true, false, Verdict::NotMember),
            (Code::Fenced, true, false, false, Verdict::Fenced),
            (Code::InvalidProducerEpoch, true, false, false, Verdict::Fenced),
            (
                Code::InvalidTransactionalState,
                true,
                false,
                false,
                Verdict::Replace,
            ),
            (
                Code::InvalidProducerIdMapping,
                true,
                false,
                false,
                Verdict::Replace,
            ),
            (Code::State, false, false, false, Verdict::Replace),
            (Code::UnknownMemberId, true, false, false, Verdict::Replace),
            (
                Code::GroupAuthorizationFailed,
                false,
                true,
                false,
                Verdict::Refused,
            ),
            (
                Code::TransactionalIdAuthorizationFailed,
                true,
                false,
                false,
                Verdict::Refused,
            ),
        ];
        for (code, fatal, abortable, retriable, verdict) in table {
            let error = TxnError {
                code,
                text: String::new(),
                fatal,
                abortable,
                retriable,
            };
            assert_eq!(error.verdict(), verdict, "{error:?}");
        }
    }

    #[test]
    fn only_a_refusal_of_what_a_record_brings_can_be_its_fault() {
        let table = [
            (Code::MessageSizeTooLarge, Some(What::Record)),
            (Code::InvalidRecord, Some(What::Record)),
            (Code::InvalidTimestamp, Some(What::Timestamp)),
            (Code::UnknownPartition, Some(What::Partition)),
            (Code::UnknownTopic, Some(What::Topic)),
            (Code::TopicAuthorizationFailed, Some(What::Topic)),
            (Code::MessageTimedOut, None),
            (Code::PurgeQueue, None),
            (Code::NotEnoughReplicas, None),
            (Code::PolicyViolation, None),
            (Code::ThrottlingQuotaExceeded, None),
            (Code::UnsupportedForMessageFormat, None),
            (Code::InvalidDifferentRecord, None),
        ];
        for (code, what) in table {
            assert_eq!(what_is_refused(code), what, "{code:?}");
        }
    }

    #[test]
    fn a_code_alone_tells_a_refused_connection_from_a_broker_that_is_away() {
        for (code, look_at) in [
            (Code::SSL, Some("ssl.ca.location")),
            (Code::Authentication, Some("sasl.password")),
            (Code::SaslAuthenticationFailed, Some("sasl.password")),
            (Code::UnsupportedSASLMechanism, Some("sasl.mechanism")),
            (Code::IllegalSASLState, Some("security.protocol")),
            (Code::BrokerTransportFailure, None),
            (Code::AllBrokersDown, None),
            (Code::OperationTimedOut, None),
            (Code::Resolve, None),
        ] {
            // Words that name everything decide nothing.
            let error = of_code("reading", code, "ssl://b1:9093/bootstrap: SASL authentication");
            let kind = match look_at {
                Some(_) => ErrorKind::Refused,
                None => ErrorKind::Retriable,
            };
            assert_eq!(error.kind, kind, "{code:?}");
            let told = refusal(code);
            assert_eq!(told.is_some(), look_at.is_some(), "{code:?}");
            assert!(
                told.unwrap_or_default().contains(look_at.unwrap_or_default()),
                "{code:?}"
            );
        }
        for code in [
            Code::TopicAuthorizationFailed,
            Code::GroupAuthorizationFailed,
            Code::ClusterAuthorizationFailed,
            Code::TransactionalIdAuthorizationFailed,
            Code::InconsistentGroupProtocol,
        ] {
            assert_eq!(of_code("reading", code, "").kind, ErrorKind::Refused, "{code:?}");
        }
    }

    #[test]
    fn a_lost_broker_is_retriable_and_a_missing_offset_is_not() {
        assert_eq!(
            of_code("poll", Code::AllBrokersDown, "").kind,
            ErrorKind::Retriable
        );
        assert_eq!(
            of_code("poll", Code::AutoOffsetReset, "orders [0]").kind,
            ErrorKind::Refused
        );
        assert_eq!(
            of_code("poll", Code::FencedInstanceId, "").kind,
            ErrorKind::Fenced
        );
    }

    #[test]
    fn a_refused_setting_is_named_without_its_value() {
        let error = KafkaError::ClientConfig(
            RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN,
            "No such configuration property".into(),
            "sasl.pasword".into(),
            "hunter2".into(),
        );
        let error = of_kafka("the consumer", &error);
        assert!(error.message.contains("sasl.pasword"), "{error}");
        assert!(!error.message.contains("hunter2"), "{error}");
    }
}
