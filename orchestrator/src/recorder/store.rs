//! One write to a store: in slices it takes, and one by one when it refuses a slice.

use tokio::task::JoinError;
use tracker_api::{Entry, Error, ErrorKind, FailureTracker, Progress, RecordId, Result};

/// A tracker takes at most so many entries in one call.
const SLICE: usize = 2_000;

/// What a store did not take over as it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Odd {
    /// Taken without their captured bytes, flagged: the store refused the bytes.
    pub(crate) stripped: Vec<RecordId>,
    /// Not taken: the store refused them even so.
    pub(crate) refused: Vec<RecordId>,
}

/// Writes entries; answers which stand. A slice that is refused is written one by one, the culprit again without its
/// captured bytes, flagged: one odd record never stands in the way of the others.
pub(super) async fn write(store: &dyn FailureTracker, entries: Vec<Entry>) -> Result<Vec<bool>> {
    let mut stands = Vec::with_capacity(entries.len());
    for slice in entries.chunks(SLICE) {
        match store.record(slice, &[]).await {
            Ok(answer) => stands.extend(answer),
            Err(error) if error.kind() == ErrorKind::Refused => {
                for entry in slice {
                    stands.extend(write_one(store, entry).await?);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(stands)
}

async fn write_one(store: &dyn FailureTracker, entry: &Entry) -> Result<Vec<bool>> {
    match store.record(std::slice::from_ref(entry), &[]).await {
        Err(error) if error.kind() == ErrorKind::Refused && entry.captured.is_some() => {
            told(entry, &error);
            store.record(&[bare(entry)], &[]).await
        }
        answer => answer,
    }
}

/// Takes entries over whole, as [`write()`] writes them. One that is refused even without its bytes is told, not an error:
/// whoever moves a store reads the list at the end.
pub(crate) async fn import(store: &dyn FailureTracker, entries: &[Entry]) -> Result<Odd> {
    let mut odd = Odd::default();
    for slice in entries.chunks(SLICE) {
        match store.import(slice, &[]).await {
            Err(error) if error.kind() == ErrorKind::Refused => {
                for entry in slice {
                    import_one(store, entry, &mut odd).await?;
                }
            }
            answer => answer?,
        }
    }
    Ok(odd)
}

async fn import_one(store: &dyn FailureTracker, entry: &Entry, odd: &mut Odd) -> Result<()> {
    let refused = |answer: Result<()>| match answer {
        Err(error) if error.kind() == ErrorKind::Refused => Ok(Some(error)),
        answer => answer.map(|()| None),
    };
    let Some(error) = refused(store.import(std::slice::from_ref(entry), &[]).await)? else {
        return Ok(());
    };
    if entry.captured.is_some() {
        told(entry, &error);
        if refused(store.import(&[bare(entry)], &[]).await)?.is_none() {
            odd.stripped.push(entry.id.clone());
            return Ok(());
        }
    }
    tracing::warn!(dedupKey = %entry.id, %error, "the store refused the entry; it stays where it was");
    odd.refused.push(entry.id.clone());
    Ok(())
}

fn told(entry: &Entry, error: &Error) {
    tracing::warn!(dedupKey = %entry.id, %error, "the store refused the captured bytes; kept without them");
}

/// Without its captured bytes, which its failure says.
fn bare(entry: &Entry) -> Entry {
    let mut bare = Entry {
        captured: None,
        ..entry.clone()
    };
    if let Some(failure) = &mut bare.failure {
        failure.bytes_refused = true;
    }
    bare
}

pub(super) async fn write_progress(store: &dyn FailureTracker, progress: &[Progress]) -> Result<()> {
    if !progress.is_empty() {
        store.record(&[], progress).await?;
    }
    Ok(())
}

pub(super) fn gone(join: JoinError) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the store's task ended: the service is stopping, or the backend panicked",
    )
    .with_source(join)
}
