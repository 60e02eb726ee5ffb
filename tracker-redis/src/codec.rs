//! Bytes that order as what they stand for, so that the scripts join by comparing strings.

use bytes::Bytes;
use tracker_api::{Partition, RecordId, Timestamp};

/// Bytes to be read from their front; each step answers none when they are not ours.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*chunk)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.chunk::<1>().map(|[byte]| byte)
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn natural(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_be_bytes)
    }

    pub(crate) fn number(&mut self) -> Option<i64> {
        self.chunk().map(|bytes| i64::from_be_bytes(bytes) ^ i64::MIN)
    }

    pub(crate) fn time(&mut self) -> Option<Timestamp> {
        self.number().map(Timestamp)
    }

    pub(crate) fn bytes(&mut self) -> Option<Vec<u8>> {
        let mut read = Vec::new();
        loop {
            match self.byte()? {
                0 => match self.byte()? {
                    0 => return Some(read),
                    0xff => read.push(0),
                    _ => return None,
                },
                byte => read.push(byte),
            }
        }
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?).ok()
    }

    pub(crate) fn optional_bytes(&mut self) -> Option<Option<Bytes>> {
        match self.flag()? {
            true => Some(Some(self.bytes()?.into())),
            false => Some(None),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn end<T>(&self, read: T) -> Option<T> {
        self.0.is_empty().then_some(read)
    }
}

/// The numbers from least to greatest as bytes.
pub(crate) fn ordered(number: i64) -> [u8; 8] {
    (number ^ i64::MIN).to_be_bytes()
}

/// Bytes that end with two NULs; a NUL inside is followed by 255, so that they sort before everything that they begin.
pub(crate) fn push_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    push_escaped(to, bytes);
    to.extend([0, 0]);
}

pub(crate) fn push_escaped(to: &mut Vec<u8>, bytes: &[u8]) {
    for part in bytes.split_inclusive(|byte| *byte == 0) {
        to.extend(part);
        if part.ends_with(&[0]) {
            to.push(0xff);
        }
    }
}

pub(crate) fn push_optional(to: &mut Vec<u8>, bytes: Option<&Bytes>) {
    to.push(u8::from(bytes.is_some()));
    if let Some(bytes) = bytes {
        push_bytes(to, bytes);
    }
}

/// What every id of a topic begins with.
pub(crate) fn topic(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 14);
    push_bytes(&mut bytes, name.as_bytes());
    bytes
}

pub(crate) fn partition(partition: &Partition) -> Vec<u8> {
    let mut bytes = topic(&partition.topic);
    bytes.extend((partition.number ^ i32::MIN).to_be_bytes());
    bytes
}

pub(crate) fn id(id: &RecordId) -> Vec<u8> {
    let mut bytes = partition(&id.partition);
    bytes.extend(ordered(id.offset));
    bytes
}

pub(crate) fn read_partition(reader: &mut Reader<'_>) -> Option<Partition> {
    let topic = reader.text()?;
    let number = reader.chunk().map(i32::from_be_bytes)? ^ i32::MIN;
    Some(Partition::new(topic, number))
}

pub(crate) fn read_id(bytes: &[u8]) -> Option<RecordId> {
    let mut reader = Reader::new(bytes);
    let id = read_partition(&mut reader)?.at(reader.number()?);
    reader.end(id)
}

pub(crate) fn read_time(bytes: &[u8]) -> Option<Timestamp> {
    let mut reader = Reader::new(bytes);
    let time = reader.time()?;
    reader.end(time)
}

pub(crate) fn read_natural(bytes: &[u8]) -> Option<u64> {
    let mut reader = Reader::new(bytes);
    let number = reader.natural()?;
    reader.end(number)
}

#[cfg(test)]
mod tests;
