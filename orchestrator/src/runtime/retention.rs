//! Deletes what is finished and old, in small slices, while the store is well. Open failures never go by age.

use std::time::Duration;

use tokio::{sync::watch, time};
use tracker_api::{FailureTracker, Purgeable, Result, Timestamp};

use crate::{clock::Clock, config::Retention, resilience, telemetry};

/// The first look comes soon, so that a service that is restarted every hour looks too.
const FIRST: Duration = Duration::from_secs(30);
const PERIOD: Duration = Duration::from_secs(300);
/// Small enough that no call of the pipeline waits long behind one.
const SLICE: usize = 500;
const PAUSE: Duration = Duration::from_millis(50);

/// Looks every few minutes, for ever. Several processes on one store may do it at once: each takes what the others left.
pub(super) async fn run(
    keep: Retention,
    store: &dyn FailureTracker,
    state: watch::Receiver<resilience::State>,
    clock: &dyn Clock,
) {
    time::sleep(FIRST).await;
    loop {
        // A fault of its own would never be found to be over, were it waited for.
        if !state.borrow().is_away() {
            match sweep(&keep, store, clock.now()).await {
                Ok(0) => {}
                Ok(gone) => tracing::info!(gone, "finished entries were older than the retention"),
                Err(error) => {
                    tracing::warn!(%error, "the retention could not be applied; trying again in 5 min")
                }
            }
        }
        time::sleep(PERIOD).await;
    }
}

/// Deletes all that may go now, and answers how much.
async fn sweep(keep: &Retention, store: &dyn FailureTracker, now: Timestamp) -> Result<u64> {
    let mut gone = 0;
    for (what, name, keep) in [
        (Purgeable::Succeeded, "succeeded", keep.succeeded),
        (Purgeable::Resolved, "resolved", keep.resolved),
        (Purgeable::Superseded, "superseded", keep.resolved),
    ] {
        let Some(keep) = keep else { continue };
        let before = Timestamp(
            now.0
                .saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX)),
        );
        loop {
            let taken = store.purge(what, before, SLICE).await?;
            telemetry::purged(name, taken);
            gone += taken;
            if taken < SLICE as u64 {
                break;
            }
            time::sleep(PAUSE).await;
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use tracker_api::{
        AttemptId, Change, Decision, Entry, Failure, MemoryTracker, Outcome, Partition, Query, Resolution,
        Version,
    };

    use super::*;

    const DAY: i64 = 86_400_000;

    fn entry(offset: i64, days_old: i64, outcome: Outcome) -> Entry {
        let version = Version {
            era: 1,
            term: 1,
            attempt: AttemptId::default(),
            outcome,
        };
        let at = Timestamp(100 * DAY - days_old * DAY);
        let failure = (outcome == Outcome::Failed).then(|| Failure::new("malformed", "not JSON"));
        Entry {
            failure,
            ..Entry::new(Partition::new("orders", 0).at(offset), version, at)
        }
    }

    fn discard(entry: &Entry) -> Change {
        Change {
            id: entry.id.clone(),
            revision: 0,
            to: Some(Resolution {
                decision: Decision::Discarded,
                about: entry.version,
                actor: "ada".into(),
                reason: "test data".into(),
                at: Timestamp(0),
            }),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_kind_goes_by_its_own_age_and_open_failures_never() {
        let store = MemoryTracker::default();
        let many: Vec<Entry> = (1_000..2_200)
            .map(|offset| entry(offset, 3, Outcome::Succeeded))
            .collect();
        store.record(&many, &[]).await.unwrap();
        let entries = [
            entry(1, 0, Outcome::Succeeded),
            entry(2, 90, Outcome::Failed),
            entry(3, 29, Outcome::Failed),
            entry(4, 31, Outcome::Failed),
            entry(5, 90, Outcome::Received),
        ];
        store.record(&entries, &[]).await.unwrap();
        store
            .resolve(&[discard(&entries[2]), discard(&entries[3])])
            .await
            .unwrap();
        let keep = Retention {
            succeeded: Some(Duration::from_secs(86_400)),
            resolved: Some(Duration::from_secs(30 * 86_400)),
        };
        let never = Retention {
            succeeded: None,
            resolved: None,
        };
        assert_eq!(sweep(&never, &store, Timestamp(100 * DAY)).await.unwrap(), 0);
        assert_eq!(sweep(&keep, &store, Timestamp(100 * DAY)).await.unwrap(), 1_201);
        let left = store.list(&Query::default()).await.unwrap().entries;
        let left: Vec<i64> = left.iter().map(|entry| entry.id.offset).collect();
        assert_eq!(
            left,
            [1, 2, 3, 5],
            "an open failure and what is in flight stay, however old"
        );
        assert_eq!(sweep(&keep, &store, Timestamp(100 * DAY)).await.unwrap(), 0);
    }
}
