//! The commands that open stores beside the configured one: copy, verify, migrate.

use std::{fs, io, path::PathBuf};

use tracker_api::Namespace;

use super::Exit;
use crate::{
    app::{App, Signals},
    config::Loaded,
    operate::{
        self, Client, DataDir, Error, Kind, Side,
        store_command::{self, Moving, TrackerCommand},
    },
    registry::Registry,
    transform::Transform,
};

/// Which of them.
pub(super) enum Work {
    Copy(Moving),
    Verify(Moving),
    Migrate,
}

/// The command, if it is one of these.
pub(super) fn of(command: &TrackerCommand) -> Option<Work> {
    match command {
        TrackerCommand::Copy(moving) => Some(Work::Copy(moving.clone())),
        TrackerCommand::Verify(moving) => Some(Work::Verify(moving.clone())),
        TrackerCommand::Migrate => Some(Work::Migrate),
        _ => None,
    }
}

pub(super) async fn run<T: Transform>(app: &App<T>, loaded: &Loaded, work: Work) -> Exit {
    let work = async {
        match work {
            Work::Copy(moving) => sides(app, loaded, moving, true).await,
            Work::Verify(moving) => sides(app, loaded, moving, false).await,
            Work::Migrate => migrate(app, loaded).await,
        }
    };
    let stopped = async {
        match &mut Signals::new() {
            Ok(signals) => signals.next().await,
            Err(_) => std::future::pending().await,
        }
    };
    // Dropped when a signal stops it, so that a file that is not whole is removed.
    let done = tokio::select! {
        done = work => done,
        name = stopped => return Exit::of_signal(name),
    };
    Exit::Code(done.unwrap_or_else(|error| operate::command::report(&error, &mut io::stderr())))
}

async fn sides<T: Transform>(
    app: &App<T>,
    loaded: &Loaded,
    moving: Moving,
    copies: bool,
) -> operate::Result<i32> {
    let data_dir = &loaded.settings.data_dir;
    let named = |name: &str| match file(name) {
        Some(_) => Ok(name.to_owned()),
        None => app.registry().resolve(name).map(str::to_owned),
    };
    let (from_name, to_name) = (named(&moving.from)?, named(&moving.to)?);
    if from_name == to_name {
        let message = format!("`{}` is on both sides", moving.from.escape_debug());
        return Err(Error::new(Kind::Invalid, message));
    }
    // A running service keeps its hold on the directory; otherwise this process has it, as any command.
    let is_held = DataDir::holder(data_dir).is_some();
    let _held = match is_held {
        true => None,
        false => DataDir::borrow(data_dir)?,
    };
    let from = side(app, loaded, &moving.from, is_held).await?;
    let to = side(app, loaded, &moving.to, is_held).await?;
    let (out, err) = (&mut io::stdout(), &mut io::stderr());
    if !copies {
        return Ok(store_command::verify(&moving, (&from, &to), out, err).await);
    }
    let keeps = fs::create_dir_all(data_dir);
    keeps.map_err(|e| Error::new(Kind::Failed, format!("cannot make {}: {e}", data_dir.display())))?;
    let checkpoint = data_dir.join(format!("copy-{}-{}.json", short(&from_name), short(&to_name)));
    Ok(store_command::copy(&moving, (&from, &to), &checkpoint, out, err).await)
}

/// A side's part of a file's name: a store's name, or something short that stands for a path.
fn short(name: &str) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    match file(name) {
        None => name.replace(['/', ':'], "_"),
        Some(path) => {
            let mut hasher = DefaultHasher::new();
            fs::canonicalize(&path).unwrap_or(path).hash(&mut hasher);
            format!("file-{:016x}", hasher.finish())
        }
    }
}

fn file(name: &str) -> Option<PathBuf> {
    let path = name
        .strip_prefix("ndjson:")
        .or_else(|| name.strip_prefix("file:"))?;
    Some(PathBuf::from(path))
}

async fn side<T: Transform>(
    app: &App<T>,
    loaded: &Loaded,
    name: &str,
    is_held: bool,
) -> operate::Result<Side> {
    if let Some(path) = file(name) {
        if path.as_os_str().is_empty() {
            return Err(Error::new(
                Kind::Invalid,
                "behind `ndjson:` stands a file, or `-`",
            ));
        }
        return Ok(Side::File(path));
    }
    let settings = &loaded.settings;
    let name = app.registry().resolve(name)?;
    if name == Registry::NONE {
        return Err(Error::new(Kind::Invalid, "the store `none` holds nothing"));
    }
    let is_services = settings.store.backend.name == name;
    if app.registry().is_embedded(name) && is_held && is_services {
        return Ok(Side::Service(Client::new(&settings.data_dir)));
    }
    if name == "memory" {
        let message = "the store `memory` lives in the service's process, and no service holds it";
        return Err(Error::new(Kind::NoTracker, message));
    }
    let namespace = Namespace {
        name: settings.namespace.clone(),
        cluster: None,
    };
    let section = loaded.section(name);
    let opened = app
        .registry()
        .open(name, &section, &namespace, &settings.data_dir)
        .await?;
    opened
        .map(Side::Store)
        .ok_or_else(|| Error::new(Kind::NoTracker, format!("`{name}` holds nothing")))
}

/// Opens the configured store and lets it make or renew its tables.
async fn migrate<T: Transform>(app: &App<T>, loaded: &Loaded) -> operate::Result<i32> {
    let settings = &loaded.settings;
    let name = settings.store.backend.name.as_str();
    let schema = app.registry().schema(name).map(|schema| schema.to_value());
    let has_tables = schema.is_some_and(|schema| schema["properties"].get("migrations").is_some());
    if !has_tables {
        println!("the store `{name}` has nothing to migrate: it makes what it needs when it is opened");
        return Ok(0);
    }
    let mut section = settings.store.backend.section.clone();
    section.insert("migrations".into(), "apply".into());
    let namespace = Namespace {
        name: settings.namespace.clone(),
        cluster: None,
    };
    app.registry()
        .open(name, &section, &namespace, &settings.data_dir)
        .await?;
    println!("the tables of the store `{name}` are there and of this version");
    Ok(0)
}
