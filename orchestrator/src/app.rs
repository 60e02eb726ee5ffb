//! The library's front door: a service of one's own.

use std::{fmt, sync::Arc};

use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracker_api::{DynTracker, Namespace};

use crate::{cli::Exit, config::Settings, registry::Registry, transform::Transform};

/// A service: its name, what it makes of a record, and what it can store to. [`main`](crate::main) gives it a command
/// line; [`App::start`] runs it inside another program.
pub struct App<T> {
    name: &'static str,
    version: &'static str,
    pub(crate) transform: Arc<T>,
    pub(crate) registry: Registry,
}

/// Why a service ended that nobody stopped.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What the program ends with.
    pub exit: Exit,
    /// What happened, and what to do.
    pub message: String,
}

impl<T: Transform> App<T> {
    /// A service that knows the stores `memory` and `none`.
    pub fn new(name: &'static str, transform: T) -> Self {
        Self {
            name,
            version: env!("CARGO_PKG_VERSION"),
            transform: Arc::new(transform),
            registry: Registry::default(),
        }
    }

    /// What `--version` says: `env!("CARGO_PKG_VERSION")` of the program.
    #[must_use]
    pub fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    /// What it can store to.
    #[must_use]
    pub fn trackers(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its version.
    pub fn program_version(&self) -> &'static str {
        self.version
    }

    /// What it can store to.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Opens the configured store, for a command. None for `none`.
    pub(crate) async fn open_store(&self, settings: &Settings) -> tracker_api::Result<Option<DynTracker>> {
        let namespace = Namespace {
            name: settings.namespace.clone(),
            cluster: None,
        };
        let backend = &settings.store.backend;
        self.registry
            .open(&backend.name, &backend.section, &namespace, &settings.data_dir)
            .await
    }

    /// Starts it inside a tokio runtime of many threads, which serves stores and HTTP; lanes and transforms have threads
    /// of their own. Drop the handle and it goes on; see [`Running::stop`].
    pub fn start(self, settings: Settings) -> Running {
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(self, settings, stop.clone()));
        Running { stop, task }
    }

    /// `run`: until a signal. The first one stops it in good order, the second at once.
    pub(crate) fn run(self, settings: Settings) -> Exit {
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(e) => {
                tracing::error!("no threads can be started: {e}");
                return Exit::Failed;
            }
        };
        let exit = runtime.block_on(async {
            let mut running = self.start(settings);
            let mut signals = match Signals::new() {
                Ok(signals) => signals,
                Err(e) => {
                    tracing::error!("signals cannot be received: {e}");
                    return Exit::Failed;
                }
            };
            tokio::select! {
                ended = running.wait() => return ended_with(ended),
                name = signals.next() => tracing::info!("{name}: stopping"),
            }
            running.stop.cancel();
            tokio::select! {
                ended = running.wait() => ended_with(ended),
                name = signals.next() => {
                    tracing::warn!("{name} again: stopping at once");
                    Exit::Code(if name == "SIGINT" { 130 } else { 143 })
                }
            }
        });
        // A thread that hangs must not keep the program.
        runtime.shutdown_background();
        exit
    }
}

/// The one place where an app meets the runtime.
async fn serve<T: Transform>(app: App<T>, settings: Settings, stop: CancellationToken) -> Result<(), Error> {
    let _ = (app.transform, settings, stop);
    Err(Error {
        exit: Exit::Failed,
        message: "this build cannot run yet: the runtime is in the making".to_owned(),
    })
}

fn ended_with(ended: Result<(), Error>) -> Exit {
    match ended {
        Ok(()) => Exit::Ok,
        Err(e) => {
            tracing::error!("{e}");
            e.exit
        }
    }
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// A service that runs.
#[derive(Debug)]
pub struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// Stops it in good order and waits for that, at most `shutdown-timeout`.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.stop.cancel();
        self.wait().await
    }

    /// Waits until it ends by itself: it does only for a reason. Call it once.
    pub async fn wait(&mut self) -> Result<(), Error> {
        (&mut self.task).await.unwrap_or_else(|e| {
            Err(Error {
                exit: Exit::Failed,
                message: format!("the service ended unexpectedly: {e}"),
            })
        })
    }
}

impl<T> fmt::Debug for App<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("name", &self.name)
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}
