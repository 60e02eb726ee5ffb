//! One write to a store: in slices it takes, and in ever smaller ones when it refuses a slice.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::task::JoinError;
use tracker_api::{Entry, Error, ErrorKind, FailureTracker, Progress, RecordId, Result};

use crate::telemetry::Repeated;

/// A tracker takes at most so many entries in one call.
pub(super) const SLICE: usize = 2_000;

/// What a store did not take over as it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Odd {
    /// Taken without their captured bytes, flagged: the store refused the bytes.
    pub(crate) stripped: Vec<RecordId>,
    /// Not taken: the store refused them even so.
    pub(crate) refused: Vec<RecordId>,
}

/// Writes entries; answers which stand. One odd record never stands in the way of the others: a slice that the store
/// refuses is written in halves, down to the culprit, and that one again without its captured bytes, flagged.
///
/// # Errors
///
/// Those of an outage, and what the store says of an entry that it does not take even so. A part may be written.
pub(super) async fn write(store: &dyn FailureTracker, entries: Vec<Entry>) -> Result<Vec<bool>> {
    written(store, &entries, |_, error| Err(error)).await
}

/// The same for entries that nobody waits for: those that the store does not take go to `odd`, the others are written.
pub(super) async fn write_each(
    store: &dyn FailureTracker,
    entries: &[Entry],
    odd: &mut Vec<(Entry, Error)>,
) -> Result<()> {
    let put_aside = |entry: &Entry, error| {
        odd.push((entry.clone(), error));
        Ok(())
    };
    written(store, entries, put_aside).await.map(|_| ())
}

async fn written(
    store: &dyn FailureTracker,
    entries: &[Entry],
    mut refused: impl FnMut(&Entry, Error) -> Result<()> + Send,
) -> Result<Vec<bool>> {
    let mut stands = Vec::with_capacity(entries.len());
    // What is still to be written, the next one last.
    let mut parts: Vec<&[Entry]> = entries.chunks(SLICE).rev().collect();
    while let Some(part) = parts.pop() {
        let error = match store.record(part, &[]).await {
            Ok(answer) => {
                stands.extend(answer);
                continue;
            }
            Err(error) if is_about_values(&error) => error,
            Err(error) => return Err(error),
        };
        match part {
            [entry] => match bare_again(store, entry, error).await {
                Ok(answer) => stands.extend(answer),
                Err(error) if is_about_values(&error) => {
                    refused(entry, error)?;
                    stands.push(false);
                }
                Err(error) => return Err(error),
            },
            _ => {
                let (front, back) = part.split_at(part.len() / 2);
                parts.extend([back, front]);
            }
        }
    }
    Ok(stands)
}

/// Writes an entry that was refused once more, without its captured bytes if it has any.
async fn bare_again(store: &dyn FailureTracker, entry: &Entry, error: Error) -> Result<Vec<bool>> {
    if error.kind() != ErrorKind::Refused || entry.captured.is_none() {
        return Err(error);
    }
    told(entry, &error);
    store.record(&[bare(entry)], &[]).await
}

/// Whether an error is about what is written, or about the row that it meets, and not about the store: another entry may
/// be taken now, and this one may never be.
pub(super) fn is_about_values(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Refused | ErrorKind::Corrupt)
}

/// Takes entries over whole, as [`write()`] writes them. One that is refused even without its bytes is told, not an error:
/// whoever moves a store reads the list at the end.
pub(crate) async fn import(store: &dyn FailureTracker, entries: &[Entry]) -> Result<Odd> {
    let mut odd = Odd::default();
    let mut parts: Vec<&[Entry]> = entries.chunks(SLICE).rev().collect();
    while let Some(part) = parts.pop() {
        match store.import(part, &[]).await {
            Err(error) if is_about_values(&error) => match part {
                [entry] => import_bare(store, entry, error, &mut odd).await?,
                _ => {
                    let (front, back) = part.split_at(part.len() / 2);
                    parts.extend([back, front]);
                }
            },
            answer => answer?,
        }
    }
    Ok(odd)
}

/// Takes an entry that was refused over once more, without its captured bytes if it has any; otherwise it is left.
async fn import_bare(store: &dyn FailureTracker, entry: &Entry, error: Error, odd: &mut Odd) -> Result<()> {
    let mut why = error;
    if why.kind() == ErrorKind::Refused && entry.captured.is_some() {
        told(entry, &why);
        match store.import(&[bare(entry)], &[]).await {
            Ok(()) => {
                odd.stripped.push(entry.id.clone());
                return Ok(());
            }
            Err(error) if is_about_values(&error) => why = error,
            Err(error) => return Err(error),
        }
    }
    tracing::warn!(dedupKey = %entry.id, error = %why, "the store does not take the entry; it stays where it was");
    odd.refused.push(entry.id.clone());
    Ok(())
}

/// A few of the records whose bytes are refused are named within so long.
static SAID: Mutex<Repeated<()>> = Mutex::new(Repeated::every(Duration::from_secs(10)).lines(20));

fn told(entry: &Entry, error: &Error) {
    let due = SAID.lock().unwrap_or_else(PoisonError::into_inner).due(());
    if let Some(left_out) = due {
        tracing::warn!(dedupKey = %entry.id, %error, left_out, "the store refused the captured bytes; kept without them");
    }
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
