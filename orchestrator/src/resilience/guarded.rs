use std::{
    fmt,
    future::Future,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::watch, time::Instant};
use tracker_api::{
    Change, CorruptRow, DynTracker, Entry, Error, ErrorKind, FailureTracker, Group, Page, Progress,
    Purgeable, Query, RecordId, Result, Risk, Timestamp,
};

use super::{
    Settings,
    breaker::{Breaker, Permit, Refusal},
    slices::Slices,
    state::{Board, Side, State},
};
use crate::telemetry;

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// How often an operation that was answered with an error which no waiting mends is asked again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// A tracker with patience: see the [module](super). While its breaker is open it answers `Unavailable` at once.
///
/// Cancel-safe: dropping a call drops the try that is under way and, in a half-open breaker, gives the probe's place back.
pub struct Guarded {
    inner: DynTracker,
    settings: Settings,
    board: Arc<Board>,
    /// Before every call. Hears of reads.
    breaker: Breaker,
    /// Before bulk writes, and hears of them alone: a store that is too slow for them, or takes none, is still read.
    writes: Breaker,
    slices: Slices,
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("inner", &self.inner)
            .field("settings", &self.settings)
            .field("state", &self.state())
            .finish()
    }
}

/// What is done with a call that does not answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    /// It is sent again.
    Yes,
    /// A compare-and-set that took, and whose answer was lost, would not take a second time: the retry would call it refused.
    No,
    /// A question over everything that is held. It may take ten times as long, and one that takes longer still is a large
    /// question, not an outage: it is not asked again, and the breaker does not hear of it.
    Question,
    /// A bulk write of so many entries. One of several that comes too late is sent again in smaller ones, by its caller,
    /// and no outage; one of a single entry is as any other call.
    Write(usize),
}

impl Again {
    /// Whether an error says that the call was too large, which is neither sent again as it is nor an outage.
    fn is_too_large(self, error: &Error) -> bool {
        error.kind() == ErrorKind::Timeout && matches!(self, Self::Question | Self::Write(2..))
    }
}

/// Leave to make one call.
struct Permits<'a> {
    store: Permit<'a>,
    writes: Option<Permit<'a>>,
}

impl Permits<'_> {
    fn answered(self) {
        self.store.answered();
        if let Some(writes) = self.writes {
            writes.answered();
        }
    }

    /// Only the breaker of what failed hears of it; the other's place is given back.
    fn failed(self, error: &Error) {
        self.writes.unwrap_or(self.store).failed(error);
    }
}

/// How much longer than other calls a [`Question`](Again::Question) may take.
const QUESTION: u32 = 10;

impl Guarded {
    /// Stands around `inner`.
    pub fn new(inner: DynTracker, settings: Settings) -> Self {
        let board = Arc::new(Board::new());
        let breaker = |side| Breaker::new(settings.failure_threshold, settings.open_for, side, board.clone());
        Self {
            breaker: breaker(Side::Store),
            writes: breaker(Side::Writes),
            slices: Slices::new(),
            inner,
            settings,
            board,
        }
    }

    /// What is known of the store now.
    pub fn state(&self) -> State {
        self.board.state()
    }

    /// What is known of the store, and every change of it.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.board.watch()
    }

    /// Asks again, for ever and every so often, what nobody may ask for long: an operation whose fault was found by a command
    /// would stay one after it is mended. The others are asked by the lanes' own work.
    pub(crate) async fn look_again(&self) {
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            for fault in self.state().faults {
                // What is answered is heard on the way.
                let _ = match fault.operation {
                    "progress" => self.progress().await.map(drop),
                    "groups" => self.groups(&Query::default()).await.map(drop),
                    "ping" => self.ping().await,
                    _ => Ok(()),
                };
            }
        }
    }

    /// The only way to the store.
    async fn call<T, F>(
        &self,
        operation: &'static str,
        again: Again,
        make: impl Fn() -> F + Send + Sync,
    ) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
    {
        let meter = telemetry::Call::begin(operation);
        let permits = match self.admit(again) {
            Ok(permits) => permits,
            Err(refusal) => {
                meter.end(match refusal {
                    Refusal::Open => "circuit_open",
                    Refusal::ProbeBusy => "probe_busy",
                });
                return Err(self.refused(refusal));
            }
        };
        let result = self.tried(operation, again, make).await;
        match &result {
            Err(error) if again.is_too_large(error) => drop(permits),
            // An operator's decision is rare, and says nothing about reads when it does not take.
            Err(error) if error.is_transient() && again == Again::No => drop(permits),
            Err(error) if error.is_transient() => permits.failed(error),
            Err(error) => {
                // A value that is refused is its own fault, or that of who asked.
                if error.kind() != ErrorKind::Refused {
                    self.board.fault(operation, error);
                }
                permits.answered();
            }
            Ok(_) => {
                self.board.succeeded(operation);
                permits.answered();
            }
        }
        meter.end(outcome(&result));
        result
    }

    fn admit(&self, again: Again) -> Result<Permits<'_>, Refusal> {
        let store = self.breaker.admit()?;
        let writes = match again {
            Again::Write(_) => Some(self.writes.admit()?),
            Again::Yes | Again::No | Again::Question => None,
        };
        Ok(Permits { store, writes })
    }

    /// Sends entries in slices of the size that the store takes in time, the progress with the last of them. `took` is
    /// given the answers in order. A call in which slices come too late as often as it may be tried, one after another, ends as
    /// an outage of the writes; what was learnt stays.
    async fn sliced<'a, T, F>(
        &self,
        operation: &'static str,
        (entries, progress): (&'a [Entry], &'a [Progress]),
        make: impl Fn(&'a [Entry], &'a [Progress]) -> F + Send + Sync,
        mut took: impl FnMut(T) + Send,
    ) -> Result<()>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
    {
        let (mut rest, mut late) = (entries, 0);
        loop {
            let size = self.slices.most().min(rest.len());
            let (slice, behind) = rest.split_at(size);
            let progress = if behind.is_empty() { progress } else { &[] };
            let begun = Instant::now();
            match self
                .call(operation, Again::Write(size), || make(slice, progress))
                .await
            {
                Ok(answer) => {
                    took(answer);
                    self.slices.taken(size, begun.elapsed(), self.settings.timeout);
                    (rest, late) = (behind, 0);
                    if rest.is_empty() {
                        return Ok(());
                    }
                }
                Err(error) if Again::Write(size).is_too_large(&error) => {
                    self.slices.late(size);
                    late += 1;
                    if late >= self.settings.tries.max(1) {
                        if let Ok(permit) = self.writes.admit() {
                            permit.failed(&error);
                        }
                        return Err(error);
                    }
                    telemetry::retried(operation);
                    tracing::debug!(operation, size, %error, "too many entries for one write: half as many");
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn tried<T, F>(&self, operation: &'static str, again: Again, make: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let tries = match again {
            Again::No => 1,
            Again::Yes | Again::Question | Again::Write(_) => self.settings.tries.max(1),
        };
        let time = match again {
            Again::Question => self.settings.timeout.saturating_mul(QUESTION),
            Again::Yes | Again::No | Again::Write(_) => self.settings.timeout,
        };
        let mut backoff = FIRST_BACKOFF;
        for _ in 1..tries {
            match self.timed(operation, time, make()).await {
                Err(error) if error.is_transient() && !again.is_too_large(&error) => {
                    telemetry::retried(operation);
                    tracing::debug!(operation, %error, "the store did not answer: once more");
                }
                answer => return answer,
            }
            tokio::time::sleep(jittered(backoff)).await;
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
        self.timed(operation, time, make()).await
    }

    async fn timed<T>(
        &self,
        operation: &'static str,
        time: Duration,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match tokio::time::timeout(time, call).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!(
                    "the store did not answer `{operation}` within {} ms (db-timeout-ms{})",
                    time.as_millis(),
                    if time > self.settings.timeout {
                        ", ten times for a question over everything"
                    } else {
                        ""
                    }
                ),
            )),
        }
    }

    fn refused(&self, refusal: Refusal) -> Error {
        let what = match refusal {
            Refusal::Open => "circuit breaker open",
            Refusal::ProbeBusy => "circuit breaker half-open",
        };
        Error::new(ErrorKind::Unavailable, format!("{what}: {}", self.state()))
    }
}

/// Between half of `whole` and `whole`, so that many lanes do not come back at one instant.
fn jittered(whole: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8) % 1_000;
    let half = whole / 2;
    half + half.mul_f64(f64::from(u32::try_from(random).unwrap_or_default()) / 1_000.0)
}

fn outcome<T>(result: &Result<T>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(error) => match error.kind() {
            ErrorKind::Config => "config",
            ErrorKind::InUse => "in_use",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::Refused => "refused",
            _ => "other",
        },
    }
}

#[async_trait]
impl FailureTracker for Guarded {
    async fn record(&self, entries: &[Entry], progress: &[Progress]) -> Result<Vec<bool>> {
        let mut stands = Vec::with_capacity(entries.len());
        self.sliced(
            "record",
            (entries, progress),
            |entries, progress| self.inner.record(entries, progress),
            |answer| stands.extend(answer),
        )
        .await?;
        Ok(stands)
    }

    async fn import(&self, entries: &[Entry], progress: &[Progress]) -> Result<()> {
        self.sliced(
            "import",
            (entries, progress),
            |entries, progress| self.inner.import(entries, progress),
            |()| (),
        )
        .await
    }

    async fn resolve(&self, changes: &[Change]) -> Result<Vec<bool>> {
        self.call("resolve", Again::No, || self.inner.resolve(changes))
            .await
    }

    async fn progress(&self) -> Result<Vec<Progress>> {
        self.call("progress", Again::Yes, || self.inner.progress()).await
    }

    async fn get(&self, ids: &[RecordId]) -> Result<Vec<Option<Entry>>> {
        self.call("get", Again::Yes, || self.inner.get(ids)).await
    }

    async fn list(&self, query: &Query) -> Result<Page> {
        self.call("list", Again::Question, || self.inner.list(query))
            .await
    }

    async fn groups(&self, query: &Query) -> Result<Vec<Group>> {
        self.call("groups", Again::Question, || self.inner.groups(query))
            .await
    }

    async fn purge(&self, what: Purgeable, before: Timestamp, limit: usize) -> Result<u64> {
        self.call("purge", Again::Question, || self.inner.purge(what, before, limit))
            .await
    }

    async fn ping(&self) -> Result<()> {
        self.call("ping", Again::Yes, || self.inner.ping()).await
    }

    fn corrupt_rows(&self) -> Vec<CorruptRow> {
        self.inner.corrupt_rows()
    }

    async fn risks(&self) -> Result<Vec<Risk>> {
        self.call("risks", Again::Yes, || self.inner.risks()).await
    }
}
