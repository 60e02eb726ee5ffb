//! The library's front door: a service of one's own.

use std::{fmt, sync::Arc, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracker_api::{DynTracker, Namespace};

use crate::{
    cli::Exit,
    config::Settings,
    kafka::{ClientKind, ClientSettings, KafkaCustomizer},
    registry::Registry,
    runtime::{self, Running},
    transform::Transform,
};

/// How long calls to an embedded store that are under way may hold up the end.
pub(crate) const LAST_CALLS: Duration = Duration::from_secs(3);

/// A service: its name, what it makes of a record, and what it can store to. [`main`](crate::main) gives it a command
/// line; [`App::start`] runs it inside another program.
pub struct App<T> {
    name: &'static str,
    version: &'static str,
    pub(crate) transform: Arc<T>,
    pub(crate) registry: Registry,
    pub(crate) customizer: Option<Arc<dyn KafkaCustomizer>>,
    recycle: bool,
}

impl<T: Transform> App<T> {
    /// A service that knows the stores `memory` and `none`.
    pub fn new(name: &'static str, transform: T) -> Self {
        Self {
            name,
            version: env!("CARGO_PKG_VERSION"),
            transform: Arc::new(transform),
            registry: Registry::default(),
            customizer: None,
            recycle: true,
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

    /// Sees the settings of every Kafka client before it is created. A function will do:
    ///
    /// ```
    /// # use orchestrator::{App, kafka::{ClientKind, ClientSettings}, transform::{Output, SourceRecord, Transform, TransformError}};
    /// # struct Copy;
    /// # impl Transform for Copy {
    /// #     async fn transform(&self, _: &SourceRecord) -> Result<Output, TransformError> { Ok(Output::Filtered) }
    /// # }
    /// fn tune(client: ClientKind, settings: &mut ClientSettings) {
    ///     if let ClientKind::Producer { .. } = client {
    ///         settings.set("compression.type", "zstd");
    ///     }
    /// }
    /// let app = App::new("copier", Copy).customize(tune);
    /// ```
    #[must_use]
    pub fn customize(mut self, customizer: impl KafkaCustomizer + 'static) -> Self {
        self.customizer = Some(Arc::new(customizer));
        self
    }

    /// Keeps a producer of which a late request may still be under way: loses and duplicates records. Only so that a test
    /// can show that.
    #[doc(hidden)]
    #[must_use]
    pub fn without_recycling(mut self) -> Self {
        self.recycle = false;
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
    /// of their own. Waits for a broker or a store that is away. [`Running::stop`] stops it in good order.
    ///
    /// # Errors
    ///
    /// What waiting cannot mend: see [`runtime::Error`].
    pub async fn start(self, settings: Settings) -> Result<Running, runtime::Error> {
        self.start_until(settings, CancellationToken::new()).await
    }

    /// The one place where an app meets the runtime. `stop` ends also a start that still waits.
    async fn start_until(
        self,
        settings: Settings,
        stop: CancellationToken,
    ) -> Result<Running, runtime::Error> {
        let parts = runtime::Parts {
            name: self.name.to_owned(),
            settings,
            registry: self.registry,
            transform: self.transform,
            customizer: self.customizer,
            recycle: self.recycle,
        };
        runtime::start(parts, stop).await
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
            let mut signals = match Signals::new() {
                Ok(signals) => signals,
                Err(e) => {
                    tracing::error!("signals cannot be received: {e}");
                    return Exit::Failed;
                }
            };
            let stop = CancellationToken::new();
            // The runtime keeps its own deadline; this one is for a start that hangs before there is anything to stop.
            let deadline = settings.shutdown_timeout + Duration::from_secs(5);
            let whole_life = async { self.start_until(settings, stop.clone()).await?.wait().await };
            tokio::pin!(whole_life);
            tokio::select! {
                ended = &mut whole_life => return ended_with(ended),
                name = signals.next() => tracing::info!("{name}: stopping"),
            }
            stop.cancel();
            tokio::select! {
                ended = &mut whole_life => ended_with(ended),
                name = signals.next() => {
                    tracing::warn!("{name} again: stopping at once");
                    Exit::of_signal(name)
                }
                () = tokio::time::sleep(deadline) => {
                    tracing::error!("nothing has stopped after {deadline:?}: ending at once; what was open is settled at the next start");
                    Exit::Failed
                }
            }
        });
        // An embedded store that is at work while the program's statics are torn down aborts it; so it is waited for. A thread
        // that hangs must not keep the program.
        runtime.shutdown_timeout(LAST_CALLS);
        exit
    }
}

fn ended_with(ended: Result<(), runtime::Error>) -> Exit {
    let Err(e) = ended else { return Exit::Ok };
    match e.exit_code() {
        0 => tracing::info!("{e}"),
        _ => tracing::error!("{e}"),
    }
    Exit::Code(e.exit_code().into())
}

/// A function is a customizer, too.
impl<F: Fn(ClientKind, &mut ClientSettings) + Send + Sync> KafkaCustomizer for F {
    fn customize(&self, client: ClientKind, settings: &mut ClientSettings) {
        self(client, settings);
    }
}

pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
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
