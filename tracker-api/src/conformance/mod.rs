//! The laws that every backend keeps, as tests.
//!
//! A backend's test file implements [`Harness`] and says [`conformance_suite!`](crate::conformance_suite); that expands
//! to one test per law, named as the law, each in a namespace of its own. The laws are listed once, in that macro, so a
//! law that is added here holds for every backend from then on. The [`broken`] trackers prove that the laws can fail.

#![allow(clippy::cloned_ref_to_slice_refs, reason = "`same!` borrows what it compares")]

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use async_trait::async_trait;

use crate::{DynTracker, Error, MemoryTracker, Namespace, Result};

/// Leaves the law with a [`Breach`] unless the condition holds.
macro_rules! holds {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err($crate::conformance::Breach::new(format!($($what)+)));
        }
    };
}

/// Leaves the law with a [`Breach`] unless what was found is what was expected.
macro_rules! same {
    ($found:expr, $expected:expr, $($what:tt)+) => {
        match (&$found, &$expected) {
            (found, expected) => {
                holds!(found == expected, "{}\n  expected: {expected:?}\n  found:    {found:?}", format!($($what)+));
            }
        }
    };
}

pub mod broken;
mod bytes;
mod filters;
mod flaws;
mod imports;
mod joins;
mod listing;
mod make;
mod namespaces;
mod positions;
mod programs;
mod purging;
mod resolutions;
mod wrong;

mod suite;

/// How the suite reaches a store. It may be asked for many namespaces at once.
#[async_trait]
pub trait Harness: fmt::Debug + Send + Sync + 'static {
    /// Opens a namespace as the backend's own `open` does; a new name is a new, empty namespace.
    async fn open(&self, namespace: &Namespace) -> Result<DynTracker>;

    /// Lets go of a tracker and opens its namespace again. What a restart forgets must be forgotten here: a store in
    /// the process is closed, caches are dropped.
    async fn reopen(&self, tracker: DynTracker, namespace: &Namespace) -> Result<DynTracker> {
        drop(tracker);
        self.open(namespace).await
    }

    /// Whether a namespace can be opened again while it is open, as by two replicas of one service.
    fn opens_twice(&self) -> bool {
        true
    }
}

/// What a law is given: a namespace of its own in the store under test.
#[derive(Clone, Debug)]
pub struct Case {
    harness: Arc<dyn Harness>,
    namespace: Namespace,
}

impl Case {
    /// A namespace that nobody has used.
    pub fn new(harness: Arc<dyn Harness>) -> Self {
        let namespace = Namespace {
            name: format!("law {}", uuid::Uuid::new_v4().simple()),
            cluster: None,
        };
        Self { harness, namespace }
    }

    /// The same store, another namespace.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self::new(Arc::clone(&self.harness))
    }

    /// The same store, the namespace's name with `ending` behind it.
    #[must_use]
    pub fn ending_in(&self, ending: &str) -> Self {
        let mut case = self.clone();
        case.namespace.name.push_str(ending);
        case
    }

    /// The same namespace, opened by a service of the Kafka cluster with this id.
    #[must_use]
    pub fn of_cluster(&self, id: &str) -> Self {
        let mut case = self.clone();
        case.namespace.cluster = Some(id.to_owned());
        case
    }

    /// Opens the namespace.
    ///
    /// # Errors
    ///
    /// As the backend's `open`.
    pub async fn open(&self) -> Result<DynTracker> {
        self.harness.open(&self.namespace).await
    }

    /// Opens the namespace once more while it is open, as a second process would, where the store allows it.
    ///
    /// # Errors
    ///
    /// As the backend's `open`.
    pub async fn open_beside_itself(&self) -> Result<DynTracker> {
        self.harness.open(&self.namespace).await
    }

    /// Closes the namespace and opens it again.
    ///
    /// # Errors
    ///
    /// As the backend's `open`.
    pub async fn reopen(&self, tracker: DynTracker) -> Result<DynTracker> {
        self.harness.reopen(tracker, &self.namespace).await
    }
}

/// How a law was broken, or the error that a call answered instead.
#[derive(Debug)]
pub struct Breach(String);

impl Breach {
    /// What was expected, and what was found.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for Breach {
    fn from(error: Error) -> Self {
        Self(format!("a call failed, {:?}: {error}", error.kind()))
    }
}

/// What a law answers.
pub type Verdict = Result<(), Breach>;

/// One clause of the contract.
#[derive(Clone, Copy)]
pub struct Law {
    /// Its name: the sentence that it proves.
    pub name: &'static str,
    prove: fn(Case) -> Pin<Box<dyn Future<Output = Verdict>>>,
}

impl fmt::Debug for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Law {
    /// Every law, in the suite's order.
    pub fn all() -> &'static [Self] {
        suite::LAWS
    }

    /// The law of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().iter().copied().find(|law| law.name == name)
    }

    /// Proves it on a fresh namespace, on a runtime of its own.
    ///
    /// # Errors
    ///
    /// How it is broken.
    pub fn prove(self, harness: Arc<dyn Harness>) -> Verdict {
        // More than one worker, so that what races in a law really races.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Breach::new(format!("no runtime for the law: {error}")))?;
        runtime.block_on((self.prove)(Case::new(harness)))
    }
}

/// The body of each test that [`conformance_suite!`](crate::conformance_suite) makes.
///
/// # Panics
///
/// When the law is broken.
#[allow(clippy::panic, reason = "it is how a test fails")]
#[track_caller]
pub fn check(law: &str, harness: impl Harness) {
    match Law::named(law).map(|law| law.prove(Arc::new(harness))) {
        None => panic!("there is no law `{law}`"),
        Some(Err(breach)) => panic!("the law `{law}` is broken: {breach}"),
        Some(Ok(())) => {}
    }
}

/// Namespaces in memory: the suite's own harness, and the ground of the [`broken`] ones.
#[derive(Debug, Default)]
pub struct Memory {
    namespaces: std::sync::Mutex<std::collections::BTreeMap<String, (Option<String>, MemoryTracker)>>,
}

impl Memory {
    pub(crate) fn tracker(&self, namespace: &Namespace) -> Result<MemoryTracker> {
        let mut namespaces = self
            .namespaces
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let (cluster, tracker) = namespaces.entry(namespace.name.clone()).or_default();
        namespace.admit(cluster.as_deref())?;
        if cluster.is_none() {
            cluster.clone_from(&namespace.cluster);
        }
        Ok(tracker.clone())
    }
}

#[async_trait]
impl Harness for Memory {
    async fn open(&self, namespace: &Namespace) -> Result<DynTracker> {
        Ok(Arc::new(self.tracker(namespace)?))
    }
}
