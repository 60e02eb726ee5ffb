//! Looks at the store now and then, as it may change while it is open: what it cannot promise any more, and which of its rows
//! cannot be read.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time;
use tracker_api::{DynTracker, FailureTracker};

use crate::{
    config::{Settings, Tracking},
    http::Health,
    telemetry,
};

const PERIOD: Duration = Duration::from_secs(30);

/// What was told of the store so far.
#[derive(Debug)]
struct Told {
    /// The risks that the start accepted or did not mind; none where it minded none.
    accepted: Option<Vec<String>>,
    /// The others that stand now, with what they mean.
    risks: BTreeMap<String, String>,
    corrupt: BTreeSet<String>,
}

/// Looks every half minute, for ever. A start has refused the risks that the tracking minds and nobody has accepted, so one of
/// those that is found here is new.
pub(super) fn run(
    store: DynTracker,
    settings: &Settings,
    health: Health,
) -> impl Future<Output = ()> + use<> {
    let needs = matches!(settings.tracking, Tracking::Reliable | Tracking::Outbox);
    let mut told = Told {
        accepted: needs.then(|| settings.store.accepted_risks.clone()),
        risks: BTreeMap::new(),
        corrupt: BTreeSet::new(),
    };
    async move {
        loop {
            time::sleep(PERIOD).await;
            health.store_note(told.look(&*store).await);
        }
    }
}

impl Told {
    /// Says what has changed; answers what a person should know of the store as it is now.
    async fn look(&mut self, store: &dyn FailureTracker) -> Option<String> {
        let rows = store.corrupt_rows();
        telemetry::corrupt_rows(rows.len());
        for row in &rows {
            if self.corrupt.insert(row.row.clone()) {
                tracing::warn!(row = %crate::operate::escape(&row.row), why = %crate::operate::escape(&row.why), "a row of the store cannot be read and is put aside");
            }
        }
        // A store that does not answer says nothing new; that it is away others tell.
        if let Ok(risks) = store.risks().await {
            let found = risks.into_iter().map(|risk| (risk.name, risk.what));
            let found =
                found.filter(|(name, _)| self.accepted.as_ref().is_some_and(|names| !names.contains(name)));
            let found: BTreeMap<String, String> = found.collect();
            for (name, what) in found.iter().filter(|(name, _)| !self.risks.contains_key(*name)) {
                tracing::warn!(risk = %name, "the store promises less than when it was opened, and less than the tracking needs: {what}");
            }
            for name in self.risks.keys().filter(|name| !found.contains_key(*name)) {
                tracing::info!(risk = %name, "the store promises again what it did not");
            }
            telemetry::store_risks(self.risks.keys(), found.keys());
            self.risks = found;
        }
        let names: Vec<&str> = self.risks.keys().map(String::as_str).collect();
        let risks = (!names.is_empty()).then(|| {
            format!(
                "the store promises less than the tracking needs: {}",
                names.join(", ")
            )
        });
        let corrupt = (!rows.is_empty()).then(|| {
            format!(
                "{} rows of the store cannot be read and are put aside (`tracker info` names them)",
                rows.len()
            )
        });
        let notes: Vec<String> = risks.into_iter().chain(corrupt).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use tracker_api::{CorruptRow, Risk};

    use super::*;
    use crate::resilience::scripted::{Act, Scripted};

    fn risk(name: &str) -> Risk {
        Risk {
            name: name.to_owned(),
            what: "it loses entries".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_promise_that_is_withdrawn_while_the_store_is_open_is_noted_until_it_is_given_again() {
        let store = Scripted::new(Act::Answer);
        let mut told = Told {
            accepted: Some(vec!["redis-failover".to_owned()]),
            risks: BTreeMap::new(),
            corrupt: BTreeSet::new(),
        };
        store.set_up(vec![risk("redis-failover")], Vec::new());
        assert_eq!(told.look(&*store).await, None, "what was accepted is no news");
        store.set_up(vec![risk("redis-failover"), risk("redis-everysec")], Vec::new());
        let note = told.look(&*store).await.unwrap();
        assert!(note.ends_with("tracking needs: redis-everysec"), "{note}");
        store.then(Act::Fail(tracker_api::ErrorKind::Unavailable));
        assert_eq!(told.look(&*store).await, Some(note), "no answer is no promise");
        store.then(Act::Answer);
        store.set_up(Vec::new(), Vec::new());
        assert_eq!(told.look(&*store).await, None);
    }

    #[tokio::test]
    async fn rows_that_cannot_be_read_are_noted() {
        let store = Scripted::new(Act::Answer);
        let row = CorruptRow {
            row: "orders:0:7".to_owned(),
            why: "its checksum is another's".to_owned(),
        };
        store.set_up(Vec::new(), vec![row]);
        let mut told = Told {
            accepted: None,
            risks: BTreeMap::new(),
            corrupt: BTreeSet::new(),
        };
        let note = told.look(&*store).await.unwrap();
        assert!(note.starts_with("1 rows of the store cannot be read"), "{note}");
    }
}
