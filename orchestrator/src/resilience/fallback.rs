//! Brings what the fallback holds into the store, once the store answers again.
//!
//! The pipeline itself repeats what it still knows until the store has it. What a crash made it forget, and what
//! belongs to partitions that others own by now, comes from here: nobody but this process can read its fallback. Writing
//! joins, so it does not matter who comes first, or that both come.

use std::time::Duration;

use tokio::time;
use tracker_api::{DynTracker, Entry, FailureTracker, Outcome, Purgeable, Query, Result, Timestamp};

use crate::{
    mutant::{self, Mutant},
    recorder::{Odd, import},
    telemetry,
};

const PERIOD: Duration = Duration::from_secs(5);
/// Small enough for one call, and so that little is sent again after a crash.
const SLICE: usize = 500;

/// Looks every few seconds, for ever.
pub(crate) async fn run(store: DynTracker, fallback: DynTracker) {
    let mut told = false;
    loop {
        match drain(&*store, &*fallback).await {
            Ok(0) => telemetry::fallback_holds(false),
            Ok(drained) => {
                telemetry::fallback_holds(false);
                tracing::info!(drained, "the store has all that the fallback held");
                told = false;
            }
            Err(error) => {
                telemetry::fallback_holds(true);
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "failures wait in the fallback for the store");
                }
            }
        }
        time::sleep(PERIOD).await;
    }
}

/// Moves every failure that the fallback holds, and answers how many.
///
/// # Errors
///
/// As the two trackers. What was moved before is in the store; what was not is still in the fallback.
async fn drain(store: &dyn FailureTracker, fallback: &dyn FailureTracker) -> Result<u64> {
    let mut drained = 0;
    let mut query = Query {
        outcomes: vec![Outcome::Failing, Outcome::Failed],
        limit: SLICE,
        ..Query::default()
    };
    loop {
        let page = fallback.list(&query).await?;
        if !page.entries.is_empty() {
            if mutant::active(Mutant::ForgetBeforeDrained) {
                forget(fallback, &page.entries).await?;
            }
            let Odd { refused, .. } = import(store, &page.entries).await?;
            let taken: Vec<Entry> = page
                .entries
                .into_iter()
                .filter(|entry| !refused.contains(&entry.id))
                .collect();
            forget(fallback, &taken).await?;
            drained += taken.len() as u64;
            telemetry::drained(taken.len() as u64);
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(drained),
        }
    }
}

/// Deletes entries from the fallback, unless something newer was written to them meanwhile: they succeed at their own
/// version, which joins, and what has succeeded may be purged.
async fn forget(fallback: &dyn FailureTracker, entries: &[Entry]) -> Result<()> {
    let done: Vec<Entry> = entries
        .iter()
        .map(|entry| {
            let mut version = entry.version;
            version.outcome = Outcome::Succeeded;
            Entry::new(entry.id.clone(), version, entry.at)
        })
        .collect();
    if !done.is_empty() {
        fallback.record(&done, &[]).await?;
        fallback
            .purge(Purgeable::Succeeded, Timestamp(i64::MAX), done.len())
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tracker_api::{AttemptId, Captured, ErrorKind, Failure, MemoryTracker, Partition, Version};

    use super::*;
    use crate::resilience::scripted::{Act, Scripted};

    fn failing(offset: i64, term: u64, outcome: Outcome) -> Entry {
        let version = Version {
            era: 1,
            term,
            attempt: AttemptId::default(),
            outcome,
        };
        Entry {
            failure: Some(Failure::new("malformed", "not JSON")),
            captured: Some(Captured {
                value: Some("{".into()),
                ..Captured::default()
            }),
            first_failed_at: Some(Timestamp(7)),
            ..Entry::new(Partition::new("orders", 0).at(offset), version, Timestamp(9))
        }
    }

    async fn held(tracker: &MemoryTracker) -> Vec<Entry> {
        tracker
            .list(&Query {
                limit: 1_000,
                ..Query::default()
            })
            .await
            .unwrap()
            .entries
    }

    #[tokio::test]
    async fn the_store_has_every_failure_whole_and_the_fallback_none() {
        let (store, fallback) = (MemoryTracker::default(), MemoryTracker::default());
        let entries: Vec<Entry> = (0..900)
            .map(|n| {
                failing(
                    n,
                    1,
                    if n % 2 == 0 {
                        Outcome::Failing
                    } else {
                        Outcome::Failed
                    },
                )
            })
            .collect();
        fallback.record(&entries, &[]).await.unwrap();
        assert_eq!(drain(&store, &fallback).await.unwrap(), 900);
        assert_eq!(held(&store).await, entries);
        assert_eq!(held(&fallback).await, []);
        assert_eq!(drain(&store, &fallback).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_the_store_does_not_take_stays_in_the_fallback() {
        let fallback = MemoryTracker::default();
        fallback
            .record(&[failing(1, 1, Outcome::Failing)], &[])
            .await
            .unwrap();
        let down = Scripted::new(Act::Fail(ErrorKind::Unavailable));
        drain(&*down, &fallback).await.unwrap_err();
        assert_eq!(held(&fallback).await.len(), 1);
        // Refused, with bytes and without: it must not be tried for ever in one go, nor be lost.
        let picky = Scripted::new(Act::Fail(ErrorKind::Refused));
        assert_eq!(drain(&*picky, &fallback).await.unwrap(), 0);
        assert_eq!(held(&fallback).await.len(), 1);
    }

    #[tokio::test]
    async fn what_is_written_to_the_fallback_meanwhile_is_not_deleted() {
        let fallback = MemoryTracker::default();
        let (old, new) = (failing(1, 1, Outcome::Failing), failing(1, 2, Outcome::Failing));
        fallback.record(std::slice::from_ref(&new), &[]).await.unwrap();
        forget(&fallback, &[old]).await.unwrap();
        assert_eq!(held(&fallback).await, [new]);
    }
}
