//! The program's command line. What it finds is the same for every service; what differs is in [`App`].

mod arguments;
mod exit;
mod house;
mod logging;
mod show;

use std::{io, process::ExitCode, sync::Arc};

pub(crate) use arguments::{Cli, Command, ConfigCommand, parse};
pub use exit::Exit;
pub use logging::logging;

use crate::{
    app::{App, LAST_CALLS},
    config::{Loaded, Settings},
    kafka::Instance,
    operate::{self, Access, Operations},
    runtime::{reconciler, store_mark},
    transform::Transform,
};

/// Runs what the command line asks for, and returns the program's exit code.
///
/// ```no_run
/// # use orchestrator::{app::App, registry::Registry, transform::{Output, SourceRecord, TargetRecord, Transform, TransformError}};
/// struct Copy;
/// impl Transform for Copy {
///     async fn transform(&self, record: &SourceRecord) -> Result<Output, TransformError> {
///         Ok(TargetRecord { key: record.key.clone(), value: record.value.clone(), ..TargetRecord::default() }.into())
///     }
/// }
/// fn main() -> std::process::ExitCode {
///     orchestrator::main(App::new("copier", Copy).trackers(Registry::default()))
/// }
/// ```
pub fn main<T: Transform>(app: App<T>) -> ExitCode {
    crate::panics::install(true);
    // Whatever this process makes is its owner's alone: also what RocksDB makes, which takes no modes.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let cli = match parse(app.name(), app.program_version(), std::env::args_os()) {
        Ok(cli) => cli,
        Err(told) => {
            // Also `--help` and `--version`, which are no errors. Nobody is left to be told if this fails.
            let _ = told.print();
            return match told.use_stderr() {
                true => Exit::Usage.into(),
                false => Exit::Ok.into(),
            };
        }
    };
    dispatch(app, cli).into()
}

fn dispatch<T: Transform>(app: App<T>, cli: Cli) -> Exit {
    if let Command::Config(ConfigCommand::Schema) = cli.command {
        return show::schema(app.registry(), &mut io::stdout());
    }
    let sources = cli.overrides.sources();
    let loaded = match Settings::load(&sources, app.registry()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            let count = problems.faults.len();
            let faults = if count == 1 { "fault" } else { "faults" };
            eprintln!("error: the configuration has {count} {faults}\n{problems}");
            return Exit::Config;
        }
    };
    match cli.command {
        Command::Config(command) => command.run(&loaded),
        Command::Run => {
            logging(loaded.settings.log_format, app.name(), "info");
            for warning in &loaded.warnings {
                tracing::warn!("{warning}");
            }
            app.run(loaded.settings)
        }
        Command::Failures(command) => with_records(&app, &loaded, async |access| {
            command.run(access, &mut io::stdout(), &mut io::stderr()).await
        }),
        Command::Tracker(command) => match house::of(&command) {
            Some(work) => in_runtime(&app, &loaded, house::run(&app, &loaded, work)),
            None => with_records(&app, &loaded, async |access| {
                let settings = &loaded.settings;
                let (store, keep) = (&settings.store.backend.name, &settings.retention);
                command
                    .run(access, store, keep, &mut io::stdout(), &mut io::stderr())
                    .await
            }),
        },
    }
}

/// Finds the running service or opens the store, and runs an operator's command.
fn with_records<T: Transform>(
    app: &App<T>,
    loaded: &Loaded,
    command: impl AsyncFnOnce(&Access) -> i32,
) -> Exit {
    let settings = &loaded.settings;
    in_runtime(app, loaded, async {
        let open = || async { open(app, settings).await };
        match Access::reach(&settings.data_dir, open).await {
            Ok(access) => Exit::Code(command(&access).await),
            Err(e) => Exit::Code(operate::command::report(&e, &mut io::stderr())),
        }
    })
}

/// Runs an operator's command, with its warnings and what goes wrong on stderr.
fn in_runtime<T: Transform>(app: &App<T>, loaded: &Loaded, command: impl Future<Output = Exit>) -> Exit {
    logging(crate::config::LogFormat::Text, app.name(), "warn");
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: no threads can be started: {e}");
            return Exit::Failed;
        }
    };
    let exit = runtime.block_on(command);
    // As at the end of `run`.
    runtime.shutdown_timeout(LAST_CALLS);
    exit
}

/// The records of a store that no service holds.
async fn open<T: Transform>(app: &App<T>, settings: &Settings) -> operate::Result<Operations> {
    if settings.store.backend.name == "memory" {
        let held = settings.data_dir.display();
        let message =
            format!("the store `memory` lives in the service's process, and no service holds {held}");
        return Err(operate::Error::new(operate::Kind::NoTracker, message));
    }
    let tracker = app.open_store(settings).await?;
    let Some(tracker) = tracker else {
        return Ok(Operations::none());
    };
    let instance = Instance {
        id: "command".to_owned(),
        configured: false,
    };
    let clients = Arc::new(settings.clients(instance));
    let mark = store_mark(app.registry(), settings);
    let reconcile = reconciler(settings, &clients, &app.customizer, &tracker, mark);
    Ok(Operations::new(tracker).with_reconcile(reconcile))
}
