//! What is sent for a record that was transformed, with the headers that say where it comes from.

use bytes::Bytes;
use tracker_api::{AttemptId, RecordId};

use super::{
    Settings,
    headers::{ATTEMPT, DEDUP_KEY, OUTPUT, disown, header},
    pool::detach,
};
use crate::{
    kafka::Send,
    transform::{Output, TargetRecord, TransformError},
};

/// What Kafka's record format may add to key, value and headers.
const OVERHEAD: usize = 128;

/// An output that can be sent, but for the header that names its attempt.
#[derive(Debug)]
pub(super) struct Prepared(Send);

impl Prepared {
    /// About what it takes on its way.
    pub(super) fn size(&self) -> usize {
        size(&self.0)
    }

    /// Its bytes in buffers of their own: those of a poll's buffer keep all of it.
    pub(super) fn detach(&mut self) {
        detach(&mut self.0.key, &mut self.0.value, &mut self.0.headers);
    }

    /// The record as attempt `attempt` sends it. Cheap: bytes are shared.
    pub(super) fn send(&self, attempt: &Bytes) -> Send {
        // Not `clone` and `push`: that would copy the headers twice.
        let mut headers = Vec::with_capacity(self.0.headers.len() + 1);
        headers.extend_from_slice(&self.0.headers);
        headers.push(header(ATTEMPT, attempt.clone()));
        Send {
            topic: self.0.topic.clone(),
            key: self.0.key.clone(),
            value: self.0.value.clone(),
            headers,
            ..self.0
        }
    }
}

/// The value of the header that names an attempt: once per batch.
pub(super) fn attempt_value(attempt: AttemptId) -> Bytes {
    Bytes::from(attempt.to_string())
}

/// Makes the outputs of a record ready, or says why they cannot be sent.
pub(super) fn prepare(
    id: &RecordId,
    output: Output,
    settings: &Settings,
) -> Result<Vec<Prepared>, TransformError> {
    let Output::Records(records) = output else {
        return Ok(Vec::new());
    };
    let count = records.len();
    let dedup_key = Bytes::from(id.to_string());
    let mut prepared = Vec::with_capacity(count);
    for (i, record) in records.into_iter().enumerate() {
        let TargetRecord {
            topic,
            partition,
            key,
            value,
            mut headers,
            timestamp,
        } = record;
        disown(&mut headers);
        headers.push(header(DEDUP_KEY, dedup_key.clone()));
        if count != 1 {
            headers.push(header(OUTPUT, format!("{}/{count}", i + 1)));
        }
        let topic = topic.unwrap_or_else(|| settings.target.clone());
        let send = Send {
            topic,
            partition,
            key,
            value,
            headers,
            timestamp,
        };
        check(&send, i, settings)?;
        prepared.push(Prepared(send));
    }
    Ok(prepared)
}

fn check(send: &Send, i: usize, settings: &Settings) -> Result<(), TransformError> {
    let size = size(send);
    let most = settings.max_message_bytes;
    if size > most {
        let what = format!(
            "output {} for topic {} has {size} bytes; the client sends at most {most} (message.max.bytes)",
            i + 1,
            send.topic
        );
        return Err(TransformError::permanent("output_too_large", what));
    }
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if send.topic.is_empty() || send.topic.len() > 249 || !send.topic.chars().all(named) {
        let what = format!(
            "output {} names the topic `{}`, which Kafka does not allow",
            i + 1,
            send.topic.escape_debug()
        );
        return Err(TransformError::permanent("output_invalid", what));
    }
    if send.partition.is_some_and(|p| p < 0) {
        let what = format!("output {} names partition {:?}", i + 1, send.partition);
        return Err(TransformError::permanent("output_invalid", what));
    }
    if send.topic == settings.source {
        let what = format!(
            "output {} goes to the source topic {}: that would never end",
            i + 1,
            send.topic
        );
        return Err(TransformError::permanent("output_invalid", what));
    }
    Ok(())
}

/// About what the record takes in Kafka's format, uncompressed.
pub(super) fn size(send: &Send) -> usize {
    let optional = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = send
        .headers
        .iter()
        .map(|h| h.name.len() + optional(&h.value) + 8)
        .sum();
    optional(&send.key) + optional(&send.value) + headers + OVERHEAD
}

#[cfg(test)]
mod tests {
    use tracker_api::Partition;

    use super::*;
    use crate::lane::{headers::values, tests::settings};

    fn id() -> RecordId {
        Partition::new("orders", 3).at(42)
    }

    #[test]
    fn an_output_says_where_it_comes_from_and_never_trusts_what_came_in() {
        let forged = TargetRecord::new(None, "v").header("orchestrator-dedup-key", "forged");
        let prepared = prepare(&id(), forged.into(), &settings()).unwrap();
        let send = prepared[0].send(&Bytes::from("a1"));
        assert_eq!(values(&send.headers, DEDUP_KEY), [b"orders:3:42"]);
        assert_eq!(
            values(&send.headers, b"orchestrator-origin-dedup-key"),
            [b"forged"]
        );
        assert_eq!(values(&send.headers, ATTEMPT), [b"a1"]);
        assert!(
            values(&send.headers, OUTPUT).is_empty(),
            "a single output needs no number"
        );
    }

    #[test]
    fn several_outputs_are_numbered() {
        let outputs = Output::Records(vec![
            TargetRecord::new(None, "a"),
            TargetRecord::new(None, "b").to("other"),
        ]);
        let prepared = prepare(&id(), outputs, &settings()).unwrap();
        let sends: Vec<Send> = prepared.iter().map(|p| p.send(&Bytes::new())).collect();
        assert_eq!(values(&sends[0].headers, OUTPUT), [b"1/2"]);
        assert_eq!(values(&sends[1].headers, OUTPUT), [b"2/2"]);
        assert_eq!((&*sends[0].topic, &*sends[1].topic), ("enriched", "other"));
    }

    #[test]
    fn an_output_that_cannot_be_sent_is_a_failure_of_its_record() {
        let settings = settings();
        let large = TargetRecord::new(None, vec![0; settings.max_message_bytes]);
        for (output, class) in [
            (large, "output_too_large"),
            (TargetRecord::new(None, "v").to(""), "output_invalid"),
            (TargetRecord::new(None, "v").to("no spaces"), "output_invalid"),
            (
                TargetRecord::new(None, "v").to(settings.source.clone()),
                "output_invalid",
            ),
            (
                TargetRecord {
                    partition: Some(-1),
                    ..TargetRecord::new(None, "v")
                },
                "output_invalid",
            ),
        ] {
            let error = prepare(&id(), output.into(), &settings).unwrap_err();
            assert_eq!(error.class, class, "{error}");
        }
    }
}
