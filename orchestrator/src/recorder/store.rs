//! One write to a store: in slices it takes, and one by one when it refuses a slice.

use tokio::task::JoinError;
use tracker_api::{Entry, Error, ErrorKind, FailureTracker, Progress, Result};

/// A tracker takes at most so many entries in one call.
const SLICE: usize = 2_000;

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
            tracing::warn!(dedupKey = %entry.id, %error, "the store refused the captured bytes; kept without them");
            let mut bare = Entry {
                captured: None,
                ..entry.clone()
            };
            if let Some(failure) = &mut bare.failure {
                failure.bytes_refused = true;
            }
            store.record(&[bare], &[]).await
        }
        answer => answer,
    }
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
