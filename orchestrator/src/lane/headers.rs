//! The headers that are ours: on every output and dead letter, never trusted when they come in.

use bytes::Bytes;
use tracker_api::Header;

pub(super) const DEDUP_KEY: &[u8] = b"orchestrator-dedup-key";
pub(super) const ATTEMPT: &[u8] = b"orchestrator-attempt";
pub(super) const OUTPUT: &[u8] = b"orchestrator-output";
pub(super) const ERROR_CLASS: &[u8] = b"orchestrator-error-class";
pub(super) const ERROR_MESSAGE: &[u8] = b"orchestrator-error-message";
pub(super) const ERROR_TRIES: &[u8] = b"orchestrator-error-tries";
pub(super) const ORIGINAL_TIMESTAMP: &[u8] = b"orchestrator-original-timestamp";
pub(super) const OMITTED: &[u8] = b"orchestrator-omitted";
pub(super) const VALUE_OMITTED: &[u8] = b"orchestrator-value-omitted";

/// Names that are ours, and the names under which the first incoming one of each is kept.
const RESERVED: [(&[u8], &[u8]); 10] = [
    (DEDUP_KEY, b"orchestrator-origin-dedup-key"),
    (ATTEMPT, b"orchestrator-origin-attempt"),
    (OUTPUT, b"orchestrator-origin-output"),
    (b"orchestrator-replay", b"orchestrator-origin-replay"),
    (ERROR_CLASS, b"orchestrator-origin-error-class"),
    (ERROR_MESSAGE, b"orchestrator-origin-error-message"),
    (ERROR_TRIES, b"orchestrator-origin-error-tries"),
    (ORIGINAL_TIMESTAMP, b"orchestrator-origin-original-timestamp"),
    (OMITTED, b"orchestrator-origin-omitted"),
    (VALUE_OMITTED, b"orchestrator-origin-value-omitted"),
];

pub(super) fn header(name: &'static [u8], value: impl Into<Bytes>) -> Header {
    Header {
        name: Bytes::from_static(name),
        value: Some(value.into()),
    }
}

/// Takes our names away from incoming headers: they say what another service, or nobody, wrote. The first of each name is
/// kept under a name of its own, once and for good, so that a record which is sent back again and again still says where
/// it first came from, and does not grow.
pub(super) fn disown(headers: &mut Vec<Header>) {
    if !headers.iter().any(|h| origin_of(&h.name).is_some()) {
        return;
    }
    let mut kept: Vec<&[u8]> = RESERVED
        .iter()
        .map(|(_, origin)| *origin)
        .filter(|origin| headers.iter().any(|h| h.name == *origin))
        .collect();
    headers.retain_mut(|header| {
        let Some(origin) = origin_of(&header.name) else {
            return true;
        };
        if kept.contains(&origin) {
            return false;
        }
        kept.push(origin);
        header.name = Bytes::from_static(origin);
        true
    });
}

fn origin_of(name: &[u8]) -> Option<&'static [u8]> {
    RESERVED
        .iter()
        .find(|(reserved, _)| *reserved == name)
        .map(|(_, origin)| *origin)
}

/// What a header with `name` says; for tests.
#[cfg(test)]
pub(super) fn values<'a>(headers: &'a [Header], name: &[u8]) -> Vec<&'a [u8]> {
    headers
        .iter()
        .filter(|h| h.name == name)
        .filter_map(|h| h.value.as_deref())
        .collect()
}
