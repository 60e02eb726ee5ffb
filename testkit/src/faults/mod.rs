//! What goes wrong inside a service that `testkit serve` runs: switched while it runs, by a file.

mod tracker;

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use orchestrator::transform::{Output, SourceRecord, Transform, TransformError};
use serde::{Deserialize, Serialize};
pub use tracker::FaultyTracker;

use crate::{
    Result,
    orders::{FATE, ID},
};

/// The variable that names the file.
pub const VARIABLE: &str = "TESTKIT_FAULTS";

/// The variable that, set to anything, switches the recycle rule off.
pub const NO_RECYCLE: &str = "TESTKIT_NO_RECYCLE";

/// What is wrong now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// The id of an order whose output is forgotten: the sabotage that the checker must notice.
    pub drop: Option<String>,
    /// What poison orders do.
    pub poison: Poison,
    /// Every order takes so many milliseconds longer.
    pub delay_ms: u64,
    /// What calls to the tracker do.
    pub tracker: Tracker,
    /// For `Tracker::Slow`: how many milliseconds a call takes longer.
    pub tracker_ms: u64,
}

/// What the transform does with a poison order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Poison {
    /// Enriches it: the fault is gone.
    #[default]
    Fine,
    /// Fails, and says that a retry may help.
    Fails,
    /// Fails for good.
    Refuses,
    /// Panics.
    Panics,
    /// Never returns.
    Hangs,
    /// Ends the whole process, as a stack overflow would.
    Aborts,
}

/// What a call to the tracker does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tracker {
    /// Its work.
    #[default]
    Fine,
    /// Fails as a store that is away.
    Fails,
    /// Its work, later.
    Slow,
    /// Never returns.
    Hangs,
    /// Its work, and then it fails: the answer is lost.
    Forgets,
}

impl Faults {
    /// Writes them where a running service reads them, at once or not at all.
    pub fn write(&self, file: &Path) -> Result<()> {
        let new = file.with_extension("new");
        fs::write(&new, serde_json::to_vec(self)?)?;
        Ok(fs::rename(new, file)?)
    }
}

/// The faults of this process, read again every 20 ms.
#[derive(Clone, Debug, Default)]
pub struct Switch(Arc<RwLock<Faults>>);

impl Switch {
    /// Follows the file that [`VARIABLE`] names; without it nothing is ever wrong.
    pub fn from_env() -> Self {
        let switch = Self::default();
        if let Some(file) = env::var_os(VARIABLE).map(PathBuf::from) {
            switch.read(&file);
            let follows = switch.clone();
            std::thread::spawn(move || {
                loop {
                    std::thread::sleep(Duration::from_millis(20));
                    follows.read(&file);
                }
            });
        }
        switch
    }

    fn read(&self, file: &Path) {
        let Ok(text) = fs::read(file) else { return };
        match serde_json::from_slice::<Faults>(&text) {
            Ok(faults) => *self.0.write().unwrap_or_else(PoisonError::into_inner) = faults,
            Err(error) => eprintln!("testkit serve: {}: {error}", file.display()),
        }
    }

    /// What is wrong now.
    pub fn now(&self) -> Faults {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A transform with faults.
#[derive(Debug)]
pub struct Faulty<T> {
    inner: T,
    switch: Switch,
}

impl<T> Faulty<T> {
    /// Wraps `inner`.
    pub fn new(inner: T, switch: Switch) -> Self {
        Self { inner, switch }
    }
}

impl<T: Transform> Transform for Faulty<T> {
    fn topics(&self) -> Vec<Arc<str>> {
        self.inner.topics()
    }

    async fn transform(&self, record: &SourceRecord) -> Result<Output, TransformError> {
        let faults = self.switch.now();
        if faults.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(faults.delay_ms)).await;
        }
        let says = |name: &str, what: &str| record.header(name).is_some_and(|value| value == what.as_bytes());
        if says(FATE, "poison") {
            match faults.poison {
                Poison::Fine => {}
                Poison::Fails => {
                    return Err(TransformError::retryable("poison", "this order is poison today"));
                }
                Poison::Refuses => return Err(TransformError::permanent("poison", "this order is poison")),
                #[allow(clippy::panic, reason = "the fault that is wanted")]
                Poison::Panics => panic!("this order is poison"),
                Poison::Hangs => std::future::pending().await,
                Poison::Aborts => std::process::abort(),
            }
        }
        if faults.drop.is_some_and(|id| says(ID, &id)) {
            return Ok(Output::Filtered);
        }
        self.inner.transform(record).await
    }
}
