use std::{fmt, future::Future, pin::Pin, sync::Arc};

use serde::{Deserialize, Serialize};
use tracker_api::{
    Change, Decision, DynTracker, Entry, FailureTracker, RecordId, Resolution, Status, Timestamp,
};

use super::{
    ask::{Ask, Listing, Resolve, write_cursor},
    error::{Error, Kind, Result},
    many::Grouped,
    shown::{Position, Shown},
};
use crate::reconcile::{Report, visible};

/// What a reconcile settled in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciled {
    /// `topic:partition`.
    pub partition: String,
    /// C(p), as Kafka holds it; none if nothing is committed.
    pub committed: Option<i64>,
    /// What became of the entries below it.
    #[serde(flatten)]
    pub report: Report,
}

/// Runs the third law over every partition of this service.
pub type Reconcile =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Vec<Reconciled>>> + Send>> + Send + Sync>;

/// Everything that may be done with the records of one tracker.
#[derive(Clone)]
pub struct Operations {
    tracker: Option<DynTracker>,
    reconcile: Option<Reconcile>,
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operations")
            .field("tracker", &self.tracker)
            .finish_non_exhaustive()
    }
}

/// Pages of the store that one answer looks through before it says "go on from here".
const PAGES: usize = 25;
pub(super) const STORE_PAGE: usize = 200;

impl Operations {
    /// Over `tracker`.
    pub fn new(tracker: DynTracker) -> Self {
        Self {
            tracker: Some(tracker),
            reconcile: None,
        }
    }

    /// Of a service that tracks nothing: every call says so.
    pub fn none() -> Self {
        Self {
            tracker: None,
            reconcile: None,
        }
    }

    /// Knows how to reconcile.
    #[must_use]
    pub fn with_reconcile(mut self, reconcile: Reconcile) -> Self {
        self.reconcile = Some(reconcile);
        self
    }

    pub(super) fn tracker(&self) -> Result<&dyn FailureTracker> {
        self.tracker.as_deref().ok_or_else(|| {
            Error::new(
                Kind::NoTracker,
                "tracking is `none`: nothing is kept, so there is nothing to show or to resolve. Set `tracking` and `db-strategy`, or skip a record with `skip: [topic:partition:offset]`",
            )
        })
    }

    /// One page of records that failed.
    ///
    /// # Errors
    ///
    /// [`Kind::Invalid`] for a partition without a topic or a foreign `after`.
    pub async fn list(&self, ask: &Ask) -> Result<Listing> {
        let tracker = self.tracker()?;
        let progress = tracker.progress().await?;
        let mut query = ask.query()?;
        let limit = match ask.limit {
            0 => 50,
            limit => limit.min(200),
        };
        let mut failures = Vec::new();
        for _ in 0..PAGES {
            let page = tracker.list(&query).await?;
            let mut entries = page.entries.into_iter().peekable();
            while let Some(entry) = entries.next() {
                let Some(entry) = visible(entry, &progress) else {
                    continue;
                };
                failures.push(Shown::of(&entry, false));
                if failures.len() == limit {
                    let more = entries.peek().is_some() || page.next.is_some();
                    let next = more.then(|| write_cursor(entry.first_failed_at, &entry.id));
                    return Ok(Listing { failures, next });
                }
            }
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        let next = query
            .after
            .map(|after| write_cursor(after.first_failed_at, &after.id));
        Ok(Listing { failures, next })
    }

    /// One record.
    ///
    /// # Errors
    ///
    /// [`Kind::NotFound`] if the tracker holds nothing about it in its partition's current era.
    pub async fn show(&self, id: &RecordId, payload: bool) -> Result<Shown> {
        Ok(Shown::of(&self.held(id).await?, payload))
    }

    /// Tries a blocking record again now.
    ///
    /// # Errors
    ///
    /// See [`skip`](Self::skip).
    pub async fn retry(&self, id: &RecordId, resolve: &Resolve) -> Result<Shown> {
        self.resolve(id, Decision::Retry, resolve).await
    }

    /// Passes a blocking record over: it becomes a failed one.
    ///
    /// # Errors
    ///
    /// [`Kind::NotBlocking`] if no partition stands at it, [`Kind::Conflict`] if somebody else was faster,
    /// [`Kind::Unavailable`] if the store did not say: then look before you try again.
    pub async fn skip(&self, id: &RecordId, resolve: &Resolve) -> Result<Shown> {
        self.resolve(id, Decision::Skip, resolve).await
    }

    /// Failures by cause, the most frequent first.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    pub async fn groups(&self, ask: &Ask) -> Result<Vec<Grouped>> {
        let groups = self.tracker()?.groups(&ask.query()?).await?;
        Ok(groups.iter().map(Grouped::of).collect())
    }

    /// How far each partition has come.
    ///
    /// # Errors
    ///
    /// Those of the tracker.
    pub async fn progress(&self) -> Result<Vec<Position>> {
        let progress = self.tracker()?.progress().await?;
        Ok(progress.iter().map(Position::of).collect())
    }

    /// Settles what a crash left in doubt, by reading Kafka.
    ///
    /// # Errors
    ///
    /// Those of the tracker and of Kafka.
    pub async fn reconcile(&self) -> Result<Vec<Reconciled>> {
        self.tracker()?;
        match &self.reconcile {
            Some(reconcile) => reconcile().await,
            None => Err(Error::new(
                Kind::Failed,
                "reconcile needs Kafka, and this process is not connected to it",
            )),
        }
    }

    pub(super) async fn held(&self, id: &RecordId) -> Result<Entry> {
        let tracker = self.tracker()?;
        let progress = tracker.progress().await?;
        let held = tracker
            .get(std::slice::from_ref(id))
            .await?
            .into_iter()
            .next()
            .flatten();
        held.and_then(|entry| visible(entry, &progress))
            .ok_or_else(|| Error::new(Kind::NotFound, format!("nothing is kept about {id}")))
    }

    async fn resolve(&self, id: &RecordId, decision: Decision, resolve: &Resolve) -> Result<Shown> {
        let (actor, reason) = resolve.said()?;
        let tracker = self.tracker()?;
        let held = self.held(id).await?;
        if resolve.revision.is_some_and(|seen| seen != held.revision) {
            return Err(changed(id));
        }
        if !held.is_blocking() {
            let status = super::table::status(Status::of(&held));
            return Err(Error::new(
                Kind::NotBlocking,
                format!("{id} is {status}: only a blocking record can be retried or skipped"),
            ));
        }
        let word = super::shown::word(&decision);
        let resolution = Resolution {
            decision,
            about: held.version,
            actor,
            reason,
            at: Timestamp(jiff::Timestamp::now().as_millisecond()),
        };
        // Before the effect, so that nothing is done without a trace of who did it.
        tracing::info!(%id, decision = word, actor = %super::escape(&resolution.actor), reason = %super::escape(&resolution.reason), "operator's decision");
        let change = Change {
            id: id.clone(),
            revision: held.revision,
            to: Some(resolution),
        };
        match tracker.resolve(std::slice::from_ref(&change)).await {
            Ok(took) if took.first() == Some(&true) => self.show(id, false).await,
            Ok(_) => Err(changed(id)),
            // The answer was lost, not the write perhaps: it took if our own words stand there.
            Err(error) if error.is_transient() => match self.held(id).await {
                Ok(now) if now.revision != change.revision && now.resolution == change.to => {
                    Ok(Shown::of(&now, false))
                }
                Ok(now) if now.revision != change.revision => Err(changed(id)),
                _ => Err(Error::new(
                    Kind::Unavailable,
                    format!(
                        "{error}. The decision about {id} may take effect later: look before you repeat it"
                    ),
                )),
            },
            Err(error) => Err(error.into()),
        }
    }
}

pub(super) fn changed(id: &RecordId) -> Error {
    Error::new(
        Kind::Conflict,
        format!("{id} has changed meanwhile: look at it again, then repeat"),
    )
}
