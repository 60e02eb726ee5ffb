//! What the store says of records that are read again, after an offset reset: `outbox.skip-succeeded`.
//!
//! The one place where the store changes what is produced. Nothing is guessed: what the store does not say has succeeded
//! is produced, and where it does not answer the lane waits.

use std::{collections::BTreeMap, ops::Deref};

use bytes::Bytes;
use tracker_api::{Entry, FailureTracker, Partition, Query, RecordId, Result, Status};

use super::{Recorder, store};
use crate::{
    mutant::{self, Mutant},
    transform::SourceRecord,
};

/// A tracker takes at most so many ids in one call.
const SLICE: usize = 2_000;
/// How a record is seen whose output is committed: by its own commit, or by the replay of its failure.
const DONE: [Status; 2] = [Status::Succeeded, Status::Replayed];

/// The store's answer about some records.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Again {
    /// Those that have succeeded already.
    pub(crate) done: Vec<RecordId>,
    /// Partitions of which nothing has succeeded, neither of what was asked about nor behind it: there is nothing to ask
    /// any more, as only this lane's own commits make successes behind C(p) of its era.
    pub(crate) fresh: Vec<Partition>,
    /// Those whose place holds the success of another record: the topic was deleted and made again.
    pub(crate) others: Vec<RecordId>,
}

impl Recorder {
    /// Whether what has succeeded already is not produced again.
    pub(crate) fn skips_succeeded(&self) -> bool {
        self.is_outbox() && self.settings.skip_succeeded
    }

    /// What the store says of records that may have been read before, those of one partition in the order of their
    /// offsets. `Err`: it does not answer.
    pub(crate) async fn succeeded<R>(self, records: Vec<R>) -> Result<Again>
    where
        R: Deref<Target = SourceRecord> + Send + Sync + 'static,
    {
        let Some(store) = self.store.clone() else {
            return Ok(Again::default());
        };
        let asked = self.runtime.spawn(async move { ask(&*store, &records).await });
        let again = asked.await.map_err(store::gone)?.inspect_err(|error| {
            if let Some(left_out) = self.said("unanswered") {
                tracing::warn!(%error, left_out, "the store does not say what has succeeded already: its partitions wait (outbox.skip-succeeded)");
            }
        })?;
        if let Some(first) = again.done.first()
            && let Some(left_out) = self.said("succeeded")
        {
            let records = again.done.len();
            tracing::info!(records, %first, left_out, "read again and not produced again, as their success is known (outbox.skip-succeeded)");
        }
        if let Some(first) = again.others.first()
            && let Some(left_out) = self.said("others")
        {
            let records = again.others.len();
            tracing::warn!(records, %first, left_out, "the store knows a success of other records at these places, as if the topic had been made again: they are produced");
        }
        Ok(again)
    }
}

/// Asks about records, those of one partition in the order of their offsets: one `get` for up to 2 000 of them, and one
/// `list` of a single entry for each partition of which nothing has succeeded.
async fn ask(
    store: &dyn FailureTracker,
    records: &[impl Deref<Target = SourceRecord> + Sync],
) -> Result<Again> {
    let mut again = Again::default();
    // The last offset that was asked about, and whether anything is done.
    let mut partitions: BTreeMap<&Partition, (i64, bool)> = BTreeMap::new();
    for slice in records.chunks(SLICE) {
        let ids: Vec<RecordId> = slice.iter().map(|record| record.id.clone()).collect();
        for (record, held) in slice.iter().zip(store.get(&ids).await?) {
            let (last, any) = partitions.entry(&record.id.partition).or_default();
            *last = record.id.offset;
            let is_done = |entry: &Entry| {
                DONE.contains(&Status::of(entry)) || mutant::active(Mutant::SkipWithoutSuccess)
            };
            let Some(entry) = held.filter(is_done) else {
                continue;
            };
            *any = true;
            if is_about(&entry, record) {
                again.done.push(entry.id);
            } else {
                again.others.push(entry.id);
            }
        }
    }
    for (partition, (last, _)) in partitions.into_iter().filter(|(_, (_, any))| !any) {
        let behind = Query {
            partition: Some(partition.clone()),
            offsets: Some(last.saturating_add(1)..i64::MAX),
            statuses: DONE.to_vec(),
            limit: 1,
            ..Query::default()
        };
        let page = store.list(&behind).await?;
        if page.entries.is_empty() && page.next.is_none() {
            again.fresh.push(partition.clone());
        }
    }
    Ok(again)
}

/// Whether an entry is about this very record. In a topic that was deleted and made again another one stands at the same
/// place. Where the bytes are kept they tell; otherwise a record that is younger than the success is not what succeeded.
fn is_about(entry: &Entry, record: &SourceRecord) -> bool {
    match &entry.captured {
        Some(held) => {
            is_same(held.key.as_ref(), record.key.as_ref())
                && is_same(held.value.as_ref(), record.value.as_ref())
        }
        None => record.timestamp.is_none_or(|made| made <= entry.at.0),
    }
}

/// Whether bytes that were kept, as they were or as text, are these.
fn is_same(held: Option<&Bytes>, read: Option<&Bytes>) -> bool {
    match (held, read) {
        (Some(held), Some(read)) => held == read || *held == *String::from_utf8_lossy(read).as_bytes(),
        (held, read) => held.is_none() && read.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use tracker_api::{
        AttemptId, Captured, Change, Decision, Failure, MemoryTracker, Outcome, Resolution, Timestamp,
        Version,
    };

    use super::*;

    const THEN: i64 = 1_000;

    fn partition() -> Partition {
        Partition::new("orders", 0)
    }

    fn record(offset: i64, value: &'static str, timestamp: i64) -> Box<SourceRecord> {
        Box::new(SourceRecord {
            id: partition().at(offset),
            timestamp: Some(timestamp),
            key: None,
            value: Some(value.into()),
            headers: vec![],
        })
    }

    fn entry(offset: i64, outcome: Outcome) -> Entry {
        let version = Version {
            era: 1,
            term: 1,
            attempt: AttemptId::default(),
            outcome,
        };
        let failure = (outcome == Outcome::Failed).then(|| Failure::new("malformed", "no JSON"));
        Entry {
            failure,
            ..Entry::new(partition().at(offset), version, Timestamp(THEN))
        }
    }

    async fn store(entries: &[Entry]) -> MemoryTracker {
        let store = MemoryTracker::default();
        store.record(entries, &[]).await.unwrap();
        store
    }

    fn offsets(ids: &[RecordId]) -> Vec<i64> {
        ids.iter().map(|id| id.offset).collect()
    }

    #[tokio::test]
    async fn only_what_has_succeeded_or_was_replayed_is_done() {
        use Outcome::{Failed, Failing, Received, Succeeded};
        let replayed = entry(4, Failed);
        let entries = [
            entry(0, Succeeded),
            entry(1, Received),
            entry(2, Failing),
            entry(3, Failed),
            replayed.clone(),
        ];
        let store = store(&entries).await;
        let resolution = Resolution {
            decision: Decision::Replayed,
            about: replayed.version,
            actor: "ada".into(),
            reason: "the price is known".into(),
            at: Timestamp(0),
        };
        let change = Change {
            id: replayed.id,
            revision: 0,
            to: Some(resolution),
        };
        assert_eq!(store.resolve(&[change]).await.unwrap(), [true]);
        let records: Vec<_> = (0..6).map(|offset| record(offset, "v", 0)).collect();
        let again = ask(&store, &records).await.unwrap();
        assert_eq!((offsets(&again.done), again.fresh), (vec![0, 4], vec![]));
    }

    #[tokio::test]
    async fn a_partition_is_fresh_when_nothing_has_succeeded_behind_what_was_asked_about_either() {
        let store = store(&[entry(1, Outcome::Succeeded), entry(9, Outcome::Succeeded)]).await;
        let ask_about = async |offset| ask(&store, &[record(offset, "v", 0)]).await.unwrap().fresh;
        assert_eq!(ask_about(1).await, [], "it has itself succeeded");
        assert_eq!(ask_about(5).await, [], "9 has");
        assert_eq!(ask_about(10).await, [partition()]);
    }

    #[tokio::test]
    async fn another_record_at_the_same_place_is_not_taken_for_the_one_that_succeeded() {
        let with = |offset, value: &'static str| Entry {
            captured: Some(Captured {
                value: Some(value.into()),
                ..Captured::default()
            }),
            ..entry(offset, Outcome::Succeeded)
        };
        let bare = |offset| entry(offset, Outcome::Succeeded);
        let store = store(&[with(0, "a"), with(1, "a"), bare(2), bare(3)]).await;
        let records = [
            record(0, "a", THEN + 1),
            record(1, "b", THEN - 1),
            record(2, "a", THEN),
            record(3, "a", THEN + 1),
        ];
        let again = ask(&store, &records).await.unwrap();
        assert_eq!(
            (offsets(&again.done), offsets(&again.others)),
            (vec![0, 2], vec![1, 3])
        );
    }

    #[test]
    fn bytes_that_were_kept_as_text_are_compared_as_text() {
        let bytes = Bytes::from_static(b"caf\xe9");
        let text = Bytes::from(String::from_utf8_lossy(&bytes).into_owned());
        assert!(is_same(Some(&text), Some(&bytes)) && !is_same(Some(&text), None));
        assert!(!is_same(None, Some(&bytes)) && is_same(None, None));
    }
}
