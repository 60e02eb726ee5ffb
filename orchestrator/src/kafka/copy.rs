use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Message as _};
use tracker_api::{Header, Partition};

use super::native;
use crate::transform::SourceRecord;

type Slice = Range<usize>;

/// Copies the records of one poll into one buffer, of which their bytes are slices.
pub(super) struct Copier {
    topic: Arc<str>,
    buffer: Vec<u8>,
    records: Vec<Raw>,
    headers: Vec<(Slice, Option<Slice>)>,
}

struct Raw {
    partition: i32,
    offset: i64,
    timestamp: Option<i64>,
    key: Option<Slice>,
    value: Option<Slice>,
    headers: usize,
}

impl Copier {
    pub(super) fn new(topic: Arc<str>) -> Self {
        Self {
            topic,
            buffer: Vec::new(),
            records: Vec::new(),
            headers: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    pub(super) fn add(&mut self, message: &BorrowedMessage<'_>) {
        let Self { buffer, headers, .. } = self;
        let mut keep = |bytes: &[u8]| {
            let start = buffer.len();
            buffer.extend_from_slice(bytes);
            start..buffer.len()
        };
        let key = message.key().map(&mut keep);
        let value = message.payload().map(&mut keep);
        let before = headers.len();
        native::each_header(message, |name, value| {
            headers.push((keep(name), value.map(&mut keep)));
        });
        self.records.push(Raw {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key,
            value,
            headers: self.headers.len() - before,
        });
    }

    pub(super) fn finish(self) -> Vec<SourceRecord> {
        let bytes = Bytes::from(self.buffer);
        let slice = |range: Slice| bytes.slice(range);
        let mut headers = self.headers.into_iter();
        self.records
            .into_iter()
            .map(|raw| SourceRecord {
                id: Partition {
                    topic: self.topic.clone(),
                    number: raw.partition,
                }
                .at(raw.offset),
                timestamp: raw.timestamp,
                key: raw.key.map(slice),
                value: raw.value.map(slice),
                headers: headers
                    .by_ref()
                    .take(raw.headers)
                    .map(|(name, value)| Header {
                        name: slice(name),
                        value: value.map(slice),
                    })
                    .collect(),
            })
            .collect()
    }
}
