//! A record that was passed over, as it is sent to the dead-letter topic.

use std::sync::Arc;

use bytes::Bytes;
use tracker_api::{Failure, Header};

use super::{
    Settings,
    headers::{
        ATTEMPT, DEDUP_KEY, ERROR_CLASS, ERROR_MESSAGE, ERROR_TRIES, OMITTED, ORIGINAL_TIMESTAMP,
        VALUE_OMITTED, disown, header,
    },
    outputs::size,
};
use crate::{config::DeadLetterHeaders, kafka::Send, transform::SourceRecord};

/// How much of its record a dead letter carries. A topic that refuses one form is offered the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// All of it.
    #[default]
    Whole,
    /// All but the value: the letter would be too large.
    NoValue,
    /// Where it comes from and why it failed; neither key, value nor headers of the record.
    Bare,
    /// Nothing is sent: the store's entry says it alone, or an operator named the record to be skipped.
    None,
}

impl Form {
    /// The form that is tried when the topic refuses this one.
    pub(super) fn shorter(self) -> Self {
        match self {
            Self::Whole | Self::NoValue => Self::Bare,
            Self::Bare | Self::None => Self::None,
        }
    }
}

/// The record as it was read, and why it failed: in `form`, or in the next one that the client can send. None if nothing is
/// to be sent.
///
/// Its timestamp is that of the moment it is sent: with the record's own, a dead letter of an old record would be gone at
/// the topic's next retention check.
pub(super) fn dead_letter(
    record: &SourceRecord,
    failure: &Failure,
    form: Form,
    topic: &Arc<str>,
    attempt: &Bytes,
    settings: &Settings,
) -> Option<Send> {
    if form == Form::None {
        return None;
    }
    let letter = |form| compose(record, failure, form, topic, attempt, settings);
    let longer = [Form::Whole, Form::NoValue]
        .into_iter()
        .filter(|tried| *tried >= form);
    let fits = |send: &Send| size(send) <= settings.max_message_bytes;
    // Where even the shortest does not fit, the client refuses it; that is told like any refusal.
    Some(
        longer
            .map(letter)
            .find(fits)
            .unwrap_or_else(|| letter(Form::Bare)),
    )
}

fn compose(
    record: &SourceRecord,
    failure: &Failure,
    form: Form,
    topic: &Arc<str>,
    attempt: &Bytes,
    settings: &Settings,
) -> Send {
    let is_bare = form == Form::Bare;
    let mut headers = if is_bare {
        Vec::new()
    } else {
        record.headers.clone()
    };
    disown(&mut headers);
    headers.push(header(DEDUP_KEY, record.id.to_string()));
    headers.push(header(ATTEMPT, attempt.clone()));
    headers.push(header(ERROR_CLASS, failure.class.clone()));
    headers.push(header(ERROR_MESSAGE, failure.message.clone()));
    headers.push(header(ERROR_TRIES, failure.tries.to_string()));
    if let Some(timestamp) = record.timestamp {
        headers.push(header(ORIGINAL_TIMESTAMP, timestamp.to_string()));
    }
    match form {
        Form::Whole | Form::None => {}
        Form::NoValue => headers.push(header(OMITTED, "value")),
        Form::Bare => headers.push(header(OMITTED, "value,key,headers")),
    }
    if form != Form::Whole {
        let bytes = record.value.as_ref().map_or(0, Bytes::len);
        headers.push(header(VALUE_OMITTED, bytes.to_string()));
    }
    match settings.dead_letter_headers {
        DeadLetterHeaders::Ours => {}
        DeadLetterHeaders::Spring => replace(&mut headers, spring(record, failure, settings)),
        DeadLetterHeaders::Streams => replace(&mut headers, streams(record, failure)),
    }
    Send {
        topic: topic.clone(),
        partition: None,
        key: record.key.clone().filter(|_| !is_bare),
        value: record.value.clone().filter(|_| form == Form::Whole),
        headers,
        timestamp: None,
    }
}

/// The newest failure is what other tools read, so headers of one name do not pile up; the first origin is ours to keep.
fn replace(headers: &mut Vec<Header>, theirs: Vec<Header>) {
    headers.retain(|old| !theirs.iter().any(|new| new.name == old.name));
    headers.extend(theirs);
}

/// What `DeadLetterPublishingRecoverer` of Spring Kafka adds: numbers as big-endian bytes, texts as UTF-8. An exception's
/// class is our error class; as there is no Java stack, its first line stands for it.
fn spring(record: &SourceRecord, failure: &Failure, settings: &Settings) -> Vec<Header> {
    let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let partition = &record.id.partition;
    let mut headers = vec![
        header(b"kafka_dlt-original-topic", partition.topic.to_string()),
        header(
            b"kafka_dlt-original-partition",
            bytes(&partition.number.to_be_bytes()),
        ),
        header(
            b"kafka_dlt-original-offset",
            bytes(&record.id.offset.to_be_bytes()),
        ),
        header(b"kafka_dlt-original-consumer-group", settings.group.to_string()),
        header(b"kafka_dlt-exception-fqcn", failure.class.clone()),
        header(b"kafka_dlt-exception-message", failure.message.clone()),
        header(b"kafka_dlt-exception-stacktrace", thrown(failure)),
    ];
    if let Some(timestamp) = record.timestamp {
        headers.push(header(
            b"kafka_dlt-original-timestamp",
            bytes(&timestamp.to_be_bytes()),
        ));
        headers.push(header(b"kafka_dlt-original-timestamp-type", "CreateTime"));
    }
    headers
}

/// What the exception handlers of Kafka Streams add (KIP-1034): all as UTF-8 text.
fn streams(record: &SourceRecord, failure: &Failure) -> Vec<Header> {
    let partition = &record.id.partition;
    vec![
        header(b"__streams.errors.exception", thrown(failure)),
        header(b"__streams.errors.message", failure.message.clone()),
        header(b"__streams.errors.stacktrace", thrown(failure)),
        header(b"__streams.errors.topic", partition.topic.to_string()),
        header(b"__streams.errors.partition", partition.number.to_string()),
        header(b"__streams.errors.offset", record.id.offset.to_string()),
    ]
}

fn thrown(failure: &Failure) -> String {
    format!("{}: {}", failure.class, failure.message)
}

#[cfg(test)]
mod tests {
    use tracker_api::Partition;

    use super::*;
    use crate::lane::{headers::values, tests::settings};

    fn record(value: usize, headers: Vec<Header>) -> SourceRecord {
        SourceRecord {
            id: Partition::new("orders", 3).at(42),
            timestamp: Some(1),
            key: Some(Bytes::from("k")),
            value: Some(vec![0; value].into()),
            headers,
        }
    }

    fn letter(record: &SourceRecord, form: Form, settings: &Settings) -> Option<Send> {
        let failure = Failure::new("malformed", "bad");
        dead_letter(record, &failure, form, &"dead".into(), &Bytes::new(), settings)
    }

    #[test]
    fn a_dead_letter_too_large_to_send_leaves_out_what_it_must_and_says_so() {
        let settings = settings();
        let most = settings.max_message_bytes;
        let send = letter(&record(most, vec![]), Form::Whole, &settings).unwrap();
        assert_eq!((send.value.clone(), send.key.as_deref()), (None, Some(&b"k"[..])));
        assert_eq!(values(&send.headers, OMITTED), [b"value"]);
        assert_eq!(
            values(&send.headers, VALUE_OMITTED),
            [most.to_string().as_bytes()]
        );

        let huge = header(b"huge", vec![0; most]);
        let send = letter(&record(1, vec![huge]), Form::Whole, &settings).unwrap();
        assert_eq!((send.value.clone(), send.key.clone()), (None, None));
        assert_eq!(values(&send.headers, OMITTED), [&b"value,key,headers"[..]]);
        assert_eq!(values(&send.headers, DEDUP_KEY), [b"orders:3:42"]);
    }

    #[test]
    fn what_a_topic_refuses_is_offered_shorter_and_then_not_at_all() {
        let settings = settings();
        let record = record(1, vec![]);
        let whole = letter(&record, Form::Whole, &settings).unwrap();
        assert_eq!(whole.value, record.value);
        let bare = letter(&record, Form::Whole.shorter(), &settings).unwrap();
        assert_eq!(
            (bare.value.clone(), bare.key.clone(), bare.timestamp),
            (None, None, None)
        );
        assert_eq!(letter(&record, Form::Whole.shorter().shorter(), &settings), None);
    }

    #[test]
    fn a_dead_letter_is_as_old_as_its_failure_and_says_how_old_its_record_is() {
        let send = letter(&record(1, vec![]), Form::Whole, &settings()).unwrap();
        assert_eq!(send.timestamp, None, "none is the time of sending");
        assert_eq!(values(&send.headers, ORIGINAL_TIMESTAMP), [b"1"]);
    }

    #[test]
    fn a_record_sent_back_again_and_again_keeps_its_first_origin_and_does_not_grow() {
        for dialect in [
            DeadLetterHeaders::Ours,
            DeadLetterHeaders::Spring,
            DeadLetterHeaders::Streams,
        ] {
            let settings = Settings {
                dead_letter_headers: dialect,
                ..settings()
            };
            let mut back = record(1, vec![header(b"trace", "t-1")]);
            let mut sizes = Vec::new();
            for round in 0..8 {
                back.id.offset = 100 + round;
                back.headers = letter(&back, Form::Whole, &settings).unwrap().headers;
                sizes.push(back.headers.len());
            }
            assert_eq!(
                values(&back.headers, b"orchestrator-origin-dedup-key"),
                [b"orders:3:100"]
            );
            assert_eq!(values(&back.headers, DEDUP_KEY), [b"orders:3:107"]);
            assert_eq!(values(&back.headers, b"trace"), [b"t-1"]);
            assert_eq!(sizes[1..], [sizes[1]; 7], "{dialect:?}");
            let mut names: Vec<_> = back.headers.iter().map(|h| h.name.clone()).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), sizes[7], "{dialect:?}: {names:?}");
        }
    }

    #[test]
    fn springs_and_streams_tools_find_the_headers_that_they_read() {
        let told = |dialect| {
            let settings = Settings {
                dead_letter_headers: dialect,
                ..settings()
            };
            letter(&record(1, vec![]), Form::Whole, &settings)
                .unwrap()
                .headers
        };
        let spring = told(DeadLetterHeaders::Spring);
        for (name, value) in [
            ("topic", &b"orders"[..]),
            ("partition", &[0, 0, 0, 3]),
            ("offset", &[0, 0, 0, 0, 0, 0, 0, 42]),
            ("timestamp", &[0, 0, 0, 0, 0, 0, 0, 1]),
            ("consumer-group", b"group"),
        ] {
            let name = format!("kafka_dlt-original-{name}");
            assert_eq!(values(&spring, name.as_bytes()), [value], "{name}");
        }
        assert_eq!(values(&spring, b"kafka_dlt-exception-message"), [b"bad"]);
        let streams = told(DeadLetterHeaders::Streams);
        for (name, value) in [
            ("exception", "malformed: bad"),
            ("message", "bad"),
            ("topic", "orders"),
            ("partition", "3"),
            ("offset", "42"),
        ] {
            let name = format!("__streams.errors.{name}");
            assert_eq!(values(&streams, name.as_bytes()), [value.as_bytes()], "{name}");
        }
        assert!(values(&told(DeadLetterHeaders::Ours), b"kafka_dlt-original-topic").is_empty());
    }
}
