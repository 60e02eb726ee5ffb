//! Builds what a service is made of, runs its lanes, and stops them within a deadline.
//!
//! Three kinds of threads, so that none starves another: a thread per lane, a runtime for user code, and the caller's
//! runtime for stores and HTTP.

mod error;
mod fit;
mod lanes;
mod limits;
mod mark;
mod predecessor;
mod retention;
mod store_watch;
mod watch;
#[cfg(test)]
mod wiring;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{runtime::Runtime, sync::mpsc, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracker_api::{DynTracker, Namespace};

pub use error::Error;

use self::{
    error::unheld,
    fit::{Opener, fit},
    lanes::{Ended, Lanes},
};
use crate::{
    begun::{self, Begun},
    clock::SystemClock,
    config::Settings,
    http::{self, Control, Health, Info, Phase},
    kafka::{self, ErrorKind, Instance, KafkaCustomizer, Reader},
    lane::journal::{self, Journal},
    operate::{self, DataDir, Operations, Reconcile, Reconciled},
    reconcile::{self, reconcile_topic},
    registry::Registry,
    resilience::{self, Guarded, fallback},
    telemetry,
    transform::Transform,
};

/// What a service is made of.
pub struct Parts<T> {
    /// The program's name, for logs and `/actuator/info`.
    pub name: String,
    /// What is configured.
    pub settings: Settings,
    /// What it can store to.
    pub registry: Registry,
    /// What it is for.
    pub transform: Arc<T>,
    /// Sees every client's settings before it is created.
    pub customizer: Option<Arc<dyn KafkaCustomizer>>,
    /// See [`kafka::Settings::recycle`].
    #[doc(hidden)]
    pub recycle: bool,
}

impl<T> std::fmt::Debug for Parts<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("name", &self.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// A service that runs.
#[derive(Debug)]
pub struct Running {
    stop: CancellationToken,
    deadline: Duration,
    health: Health,
    management: SocketAddr,
    lanes: Lanes,
    journal: Arc<Journal>,
    ended: mpsc::UnboundedReceiver<Ended>,
    servers: Vec<JoinHandle<()>>,
    /// Probes and commands are answered until the lanes have stopped.
    serving: DropGuard,
    users: Option<Runtime>,
    /// Let go last: it guards the store and the identity.
    _data_dir: DataDir,
}

impl Running {
    /// Where health and metrics are served; the port that was taken, when 0 was configured.
    pub fn management_address(&self) -> SocketAddr {
        self.management
    }

    /// What the service says of itself.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// A token that stops the service when it is cancelled.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Stops: what is under way is finished or dropped, the group is left, at most `shutdown-timeout` long.
    ///
    /// # Errors
    ///
    /// What [`wait`](Self::wait) says.
    pub async fn stop(self) -> Result<(), Error> {
        self.stop.cancel();
        self.wait().await
    }

    /// Waits until the service ends: by its stop token, or because a lane cannot go on.
    ///
    /// # Errors
    ///
    /// Why it ended, if it was not told to; or that the stop took too long.
    pub async fn wait(mut self) -> Result<(), Error> {
        let mut outcome = Ok(());
        tokio::select! {
            () = self.stop.cancelled() => {}
            ended = self.ended.recv() => outcome = lanes::outcome(ended),
        }
        self.health.phase(Phase::Draining);
        self.stop.cancel();
        let all = async { while self.ended.recv().await.is_some() {} };
        if tokio::time::timeout(self.deadline + Duration::from_secs(1), all)
            .await
            .is_err()
            && outcome.is_ok()
        {
            outcome = Err(Error::Deadline(self.deadline));
        }
        self.journal.end();
        self.health.phase(Phase::Stopped);
        drop(self.serving);
        for server in self.servers.drain(..) {
            let _ = server.await;
        }
        if let Some(users) = self.users.take() {
            users.shutdown_background();
        }
        self.lanes.join_finished();
        outcome
    }
}

/// Starts a service on the current runtime: takes hold of its data directory, looks whether Kafka and the store are fit,
/// and lets the lanes run. Waits for a broker that is away, saying so, and for a store unless it may hold up nothing
/// (`on-store-failure: degrade`); `stop` ends the waiting.
///
/// # Errors
///
/// Every fault that waiting cannot mend, one line each, with what to do.
pub async fn start<T: Transform>(parts: Parts<T>, stop: CancellationToken) -> Result<Running, Error> {
    let Parts {
        name,
        settings,
        registry,
        transform,
        customizer,
        recycle,
    } = parts;
    crate::panics::install(false);
    let renderer = telemetry::install();
    telemetry::build_info(env!("CARGO_PKG_VERSION"), &rdkafka::util::get_rdkafka_version().1);
    limits::look(settings.concurrency)?;
    http::socket_fits(&settings.data_dir).map_err(Error::Config)?;
    let data_dir =
        DataDir::hold(&settings.data_dir, settings.instance.as_deref()).map_err(|error| unheld(&error))?;
    let health = Health::new(
        settings.concurrency,
        settings.kafka.max_poll_interval.mul_f64(0.8),
    );
    let info = Info {
        name,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: data_dir.instance().to_owned(),
        group: settings.group_id.clone(),
        tracking: settings.tracking.to_string(),
        store: settings.store.backend.name.clone(),
    };
    let listener = http::listen(settings.management_address)
        .await
        .map_err(|e| Error::Config(e.to_string()))?;
    let management = listener.local_addr().map_err(|e| Error::Failed(e.to_string()))?;
    let quiet = CancellationToken::new();
    let serving = quiet.clone().drop_guard();
    let mut servers = vec![tokio::spawn(http::management(
        listener,
        health.clone(),
        renderer,
        info.clone(),
        http::Hosts::new(&settings.management_hosts),
        quiet.clone(),
    ))];
    tracing::info!(%management, instance = data_dir.instance(), "health and metrics are served");

    let kafka = Arc::new(kafka::Settings {
        recycle,
        ..settings.clients(Instance {
            id: data_dir.instance().to_owned(),
            configured: data_dir.is_configured(),
        })
    });
    let cluster = fit(
        &settings,
        transform.topics(),
        &kafka,
        customizer.clone(),
        &health,
        &stop,
    )
    .await?;
    predecessor::end(
        settings.concurrency,
        &kafka,
        &customizer,
        &data_dir,
        &health,
        &stop,
    )
    .await?;
    let namespace = Namespace {
        name: settings.namespace.clone(),
        cluster,
    };
    let opener = Opener {
        registry: registry.clone(),
        settings: settings.clone(),
        namespace,
        health: health.clone(),
        stop: stop.clone(),
    };
    let fallback = match &settings.store.fallback {
        Some(backend) => opener.open(backend).await?,
        None => None,
    };
    let store = opener.open_main().await?;
    let store = store.map(|inner| {
        let guarded = Arc::new(Guarded::new(inner, guard(&settings)));
        health.store(guarded.watch());
        let (keep, state, until) = (settings.retention, guarded.watch(), quiet.clone());
        let store = guarded.clone();
        servers.push(tokio::spawn(async move {
            let retention = retention::run(keep, &*store, state, &SystemClock);
            let both = async { tokio::join!(retention, store.look_again()) };
            until.run_until_cancelled(both).await;
        }));
        let (store, until) = (guarded.clone(), quiet.clone());
        let watching = store_watch::run(store, &settings, health.clone());
        servers.push(tokio::spawn(async move {
            until.run_until_cancelled(watching).await;
        }));
        guarded as DynTracker
    });
    if let (Some(store), Some(fallback)) = (store.clone(), fallback.clone()) {
        let quiet = quiet.clone();
        servers.push(tokio::spawn(async move {
            quiet.run_until_cancelled(fallback::run(store, fallback)).await;
        }));
    }
    let mark = mark::of_service(&registry, &settings, &data_dir).map_err(|e| Error::Config(e.to_string()))?;
    let begun = Begun::load(data_dir.path(), &settings.group_id, &settings.source_topic).map_err(|e| {
        let file = data_dir.path().join(begun::FILE);
        Error::Config(format!(
            "cannot read what the group has committed from {}: {e}. Restore it, or delete it if the store or Kafka knows the \
             group's positions",
            file.display()
        ))
    })?;
    let begun = Arc::new(begun);
    let operations = match &store {
        None => Operations::none(),
        Some(store) => Operations::new(store.clone()).with_reconcile(reconciler(
            &settings,
            &kafka,
            &customizer,
            store,
            mark,
        )),
    };
    let control = Control::bind(data_dir.path()).map_err(|e| Error::Config(e.to_string()))?;
    servers.push(tokio::spawn(control.serve(
        operations,
        health.clone(),
        info,
        quiet,
    )));

    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let users = tokio::runtime::Builder::new_multi_thread()
        .thread_name("transform")
        .on_thread_start(crate::panics::runs_transforms)
        // Each lane drives its batch on as many as there are workers; what hangs must never take the last one.
        .max_blocking_threads(512 + settings.concurrency * workers)
        .enable_all()
        .build()
        .map_err(|e| Error::Failed(format!("cannot start threads for transforms: {e}")))?;
    let journal = Journal::open(data_dir.path()).map_err(|e| {
        Error::Failed(format!(
            "cannot write `{}` into the data directory: {e}",
            journal::FILE
        ))
    })?;
    let journal = Arc::new(journal);
    let (sender, ended) = mpsc::unbounded_channel();
    let lanes = Lanes::start(lanes::Shared {
        transform,
        kafka,
        customizer,
        mark,
        begun,
        store,
        fallback,
        stores: tokio::runtime::Handle::current(),
        users: users.handle().clone(),
        journal: journal.clone(),
        abandoned: Arc::default(),
        clock: Arc::new(SystemClock),
        health: health.clone(),
        stop: stop.clone(),
        ended: sender,
        deadline: settings.shutdown_timeout,
        settings,
    })
    .map_err(|e| Error::Failed(format!("cannot start a lane's thread: {e}")))?;
    health.phase(Phase::Ready);
    let deadline = lanes.deadline();
    Ok(Running {
        stop,
        deadline,
        health,
        management,
        lanes,
        journal,
        ended,
        servers,
        serving,
        users: Some(users),
        _data_dir: data_dir,
    })
}

fn guard(settings: &Settings) -> resilience::Settings {
    resilience::Settings {
        timeout: settings.store.timeout,
        tries: settings.store.tries,
        failure_threshold: settings.store.circuit_failure_threshold,
        open_for: settings.store.circuit_open,
    }
}

/// What notes call the configured store, for a command.
pub(crate) fn store_mark(registry: &Registry, settings: &Settings) -> u32 {
    mark::of_command(registry, settings, &settings.data_dir)
}

/// Reconciles the whole topic for a command: first what Kafka says, then the store.
pub(crate) fn reconciler(
    settings: &Settings,
    kafka: &Arc<kafka::Settings>,
    customizer: &Option<Arc<dyn KafkaCustomizer>>,
    store: &DynTracker,
    mark: u32,
) -> Reconcile {
    let (kafka, customizer, store) = (kafka.clone(), customizer.clone(), store.clone());
    let source = settings.source_topic.clone();
    Arc::new(move || {
        let (kafka, customizer, store, source) =
            (kafka.clone(), customizer.clone(), store.clone(), source.clone());
        let run = move || -> operate::Result<Vec<Reconciled>> {
            let mut reader =
                Reader::connect(&kafka, customizer.as_deref()).map_err(reconcile::Error::from)?;
            let all = reconcile_topic(&mut reader, &*store, &source, mark);
            let reports = tokio::runtime::Handle::current().block_on(all)?;
            Ok(reports
                .into_iter()
                .map(|(position, report)| Reconciled {
                    partition: position.partition.to_string(),
                    committed: position.offset,
                    report,
                })
                .collect())
        };
        Box::pin(async move {
            let joined = tokio::task::spawn_blocking(run).await;
            joined.unwrap_or_else(|e| Err(operate::Error::new(operate::Kind::Failed, e.to_string())))
        })
    })
}
