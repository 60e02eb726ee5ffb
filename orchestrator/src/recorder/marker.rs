//! Writes what need not be waited for, until it is durable.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tracker_api::{DynTracker, Outcome, Result};

use super::{
    Feedback,
    queue::{Queue, Taken},
    store,
};
use crate::telemetry::Repeated;

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How often an outage, and how often what the store does not take, is said.
const SAID: Duration = Duration::from_secs(60);
/// Records and partitions that are named within that time when the store does not take what is written of them.
const NAMED: u64 = 20;

/// Writes what is queued until every recorder that queues is gone; `due` wakes it.
pub(super) async fn run(
    store: DynTracker,
    mut due: mpsc::Receiver<()>,
    feedback: mpsc::UnboundedSender<Feedback>,
    queue: Arc<Queue>,
) {
    let mut said = Repeated::every(SAID);
    let mut named = Repeated::every(SAID).lines(NAMED);
    while due.recv().await.is_some() {
        while let Some(mut taken) = queue.take() {
            let mut wait = FIRST_WAIT;
            while let Err(error) = write(&store, &mut taken, &feedback, &mut named).await {
                if let Some(left_out) = said.due(()) {
                    let (entries, rows) = (taken.entries.len(), taken.progress.len());
                    tracing::warn!(%error, entries, rows, left_out, "the store does not take what commits made true; it is tried again until it does");
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            if said.over(&()).is_some() {
                tracing::info!("the store has taken what waited for it");
            }
            let lost = taken
                .refused
                .iter()
                .filter(|(_, outcome)| *outcome == Outcome::Failed);
            queue.lose(lost.count());
            for mut confirmed in std::mem::take(&mut taken.confirm) {
                confirmed.except(&taken.refused);
                let _ = feedback.send(confirmed);
            }
            queue.done(&taken);
        }
    }
}

/// Writes what is left of `taken`, and takes out what is durable. What the store refuses by itself, or cannot read back,
/// is put aside by name and stops nothing behind it: an outage is everybody's, such a row is its own.
async fn write(
    store: &DynTracker,
    taken: &mut Taken,
    feedback: &mpsc::UnboundedSender<Feedback>,
    named: &mut Repeated<&'static str>,
) -> Result<()> {
    while !taken.entries.is_empty() {
        let size = taken.entries.len().min(store::SLICE);
        let mut odd = Vec::new();
        store::write_each(&**store, &taken.entries[..size], &mut odd).await?;
        for (entry, error) in odd {
            if let Some(left_out) = named.due("entry") {
                tracing::error!(dedupKey = %entry.id, %error, left_out, "the store does not take what is written of this record: it is left out, and unknown");
            }
            taken.refused.push((entry.id, entry.version.outcome));
        }
        taken.entries.drain(..size);
    }
    match store::write_progress(&**store, &taken.progress).await {
        Err(error) if store::is_about_values(&error) => {}
        Ok(()) => taken.progress.drain(..).for_each(|row| {
            let _ = feedback.send(Feedback::told(row));
        }),
        Err(error) => return Err(error),
    }
    for row in &taken.progress {
        match store::write_progress(&**store, std::slice::from_ref(row)).await {
            Err(error) if store::is_about_values(&error) => {
                if let Some(left_out) = named.due("progress") {
                    tracing::error!(partition = %row.partition, %error, left_out, "the store does not take how far this partition has come; it is told again with the next commit");
                }
            }
            written => {
                written?;
                let _ = feedback.send(Feedback::told(row.clone()));
            }
        }
    }
    taken.progress.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tracker_api::{
        AttemptId, Change, CorruptRow, Entry, Error, ErrorKind, Failure, FailureTracker, Gaps, Group,
        MemoryTracker, Page, Partition, Progress, Purgeable, Query, Risk, Timestamp, Version,
    };

    use tracker_api::RecordId;

    use super::{super::queue::Mark, *};

    /// A store with a row that cannot be read back, so that it cannot be joined either.
    #[derive(Debug, Default)]
    struct Damaged {
        inner: MemoryTracker,
    }

    const BAD: i64 = 7;

    #[async_trait]
    impl FailureTracker for Damaged {
        async fn record(&self, entries: &[Entry], progress: &[Progress]) -> Result<Vec<bool>> {
            let is_bad = entries.iter().any(|entry| entry.id.offset == BAD)
                || progress.iter().any(|row| row.partition.number == 1);
            if is_bad {
                return Err(Error::new(ErrorKind::Corrupt, "the row cannot be read"));
            }
            self.inner.record(entries, progress).await
        }
        async fn import(&self, _: &[Entry], _: &[Progress]) -> Result<()> {
            unreachable!()
        }
        async fn resolve(&self, _: &[Change]) -> Result<Vec<bool>> {
            unreachable!()
        }
        async fn progress(&self) -> Result<Vec<Progress>> {
            unreachable!()
        }
        async fn get(&self, _: &[RecordId]) -> Result<Vec<Option<Entry>>> {
            unreachable!()
        }
        async fn list(&self, _: &Query) -> Result<Page> {
            unreachable!()
        }
        async fn groups(&self, _: &Query) -> Result<Vec<Group>> {
            unreachable!()
        }
        async fn purge(&self, _: Purgeable, _: Timestamp, _: usize) -> Result<u64> {
            unreachable!()
        }
        async fn ping(&self) -> Result<()> {
            unreachable!()
        }
        fn corrupt_rows(&self) -> Vec<CorruptRow> {
            unreachable!()
        }
        async fn risks(&self) -> Result<Vec<Risk>> {
            unreachable!()
        }
    }

    fn partition(number: i32) -> Partition {
        Partition::new("orders", number)
    }

    fn failed(offset: i64) -> Entry {
        let version = Version {
            era: 1,
            term: 1,
            attempt: AttemptId::default(),
            outcome: Outcome::Failed,
        };
        Entry {
            failure: Some(Failure::new("malformed", "no JSON")),
            ..Entry::new(partition(0).at(offset), version, Timestamp(1))
        }
    }

    fn row(number: i32) -> Progress {
        Progress {
            partition: partition(number),
            era: 1,
            term: 1,
            attempt: AttemptId::default(),
            floor: 0,
            received: 20,
            committed: 20,
            gaps: Gaps::default(),
            missed: Gaps::default(),
            failed: 20,
            succeeded: 0,
            at: Timestamp(1),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_that_cannot_be_read_stops_nothing_behind_it_and_its_offset_becomes_a_gap() {
        let (store, queue) = (Arc::new(Damaged::default()), Arc::new(Queue::new(1 << 20)));
        let ((due, wakes), (feedback, mut heard)) = (mpsc::channel(1), mpsc::unbounded_channel());
        tokio::spawn(run(store.clone(), wakes, feedback, queue.clone()));
        queue.push(Mark {
            entries: (0..20).map(failed).collect(),
            progress: vec![row(1), row(2)],
            confirm: vec![Feedback::Confirmed {
                partition: partition(0),
                attempts: vec![AttemptId::default()],
                closed: (0..20).collect(),
                unknown: Vec::new(),
            }],
            ..Mark::default()
        });
        due.try_send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(60), queue.drained())
            .await
            .unwrap();
        let held = store.inner.list(&Query::default()).await.unwrap().entries;
        assert_eq!(held.len(), 19);
        let rows = store.inner.progress().await.unwrap();
        assert_eq!(rows.len(), 1, "the other partition's row is written");
        let Some(Feedback::Told { partition, .. }) = heard.recv().await else {
            panic!("its progress is told");
        };
        assert_eq!(partition.number, 2, "of the row that was written alone");
        let Some(Feedback::Confirmed { closed, unknown, .. }) = heard.recv().await else {
            panic!("the attempt is confirmed");
        };
        assert_eq!((closed.len(), unknown), (19, vec![BAD]));
        assert_eq!(queue.lost(), 1);
    }
}
