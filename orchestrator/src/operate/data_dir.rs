use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use super::{
    error::{Error, Kind, Result},
    private,
};

const LOCK: &str = "lock";
const INSTANCE: &str = "instance";
const MARK: &str = "store-mark";
const ENDED: &str = "ended-ids";

/// A directory that this process alone holds: it guards the embedded store, the socket and the instance's name.
///
/// Held by `flock` on `lock`, so the kernel lets go of it however the process ends. The file's text says who holds it.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    instance: String,
    configured: bool,
    _lock: File,
}

/// Who holds a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id; none if it has not said so yet.
    pub pid: Option<u32>,
    /// Its instance's name; `command` for a command that looks into the store.
    pub instance: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid} (instance {})", super::escape(&self.instance)),
            None => f.write_str("a process that is just starting"),
        }
    }
}

impl DataDir {
    /// Takes hold of `path`, making it (mode 0700) if it is not there. The instance is the configured one, or the one in
    /// `path/instance`, which is made once. Blocks for at most a second.
    ///
    /// # Errors
    ///
    /// [`Kind::Held`] when another process holds it, named in the message; [`Kind::Config`] when the directory cannot be
    /// used or the instance's name is not one.
    pub fn hold(path: &Path, configured: Option<&str>) -> Result<Self> {
        make(path)?;
        let mut lock = take(path)?;
        let instance = match configured {
            Some(name) => named(name, "`instance`")?,
            None => remembered(path)?,
        };
        sign(&mut lock, &instance).map_err(|error| broken(&path.join(LOCK), &error))?;
        Ok(Self {
            path: path.to_owned(),
            instance,
            configured: configured.is_some(),
            _lock: lock,
        })
    }

    /// Takes hold of an existing directory for a command, which has no instance. None if there is no such directory:
    /// then there is nothing to guard.
    ///
    /// # Errors
    ///
    /// As [`hold`](Self::hold).
    pub fn borrow(path: &Path) -> Result<Option<Self>> {
        if !path.is_dir() {
            return Ok(None);
        }
        let mut lock = take(path)?;
        sign(&mut lock, "command").map_err(|error| broken(&path.join(LOCK), &error))?;
        Ok(Some(Self {
            path: path.to_owned(),
            instance: "command".to_owned(),
            configured: false,
            _lock: lock,
        }))
    }

    /// Who holds `path` now, if anybody.
    pub fn holder(path: &Path) -> Option<Holder> {
        let lock = private::open(&path.join(LOCK), OpenOptions::new().read(true)).ok()?;
        if flock(&lock, FlockOperation::NonBlockingLockShared).is_ok() {
            return None;
        }
        Some(signature(lock))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The instance's name.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// What notes call the embedded store in this directory, so that no process takes another's store for its own. Made once.
    pub(crate) fn mark(&self) -> Result<u32> {
        if let Some(mark) = Self::marked(&self.path) {
            return Ok(mark);
        }
        let file = self.path.join(MARK);
        let fresh = Uuid::new_v4().as_fields().0 | 1;
        private::replace(&file, format!("{fresh:08x}\n").as_bytes())
            .map_err(|error| broken(&file, &error))?;
        Ok(fresh)
    }

    /// The mark of the store in `path`, if it has one.
    pub(crate) fn marked(path: &Path) -> Option<u32> {
        let text = private::read(&path.join(MARK)).ok()?;
        u32::from_str_radix(text.trim(), 16).ok()
    }

    /// Whether the transactional ids of a release before, of which `first` is the first, were ended by a start of ours.
    pub(crate) fn has_ended(&self, first: &str) -> bool {
        let known = private::read(&self.path.join(ENDED));
        known.is_ok_and(|known| known.strip_suffix('\n') == Some(first))
    }

    /// Remembers that they were.
    pub(crate) fn ended(&self, first: &str) -> Result<()> {
        let file = self.path.join(ENDED);
        private::replace(&file, format!("{first}\n").as_bytes()).map_err(|error| broken(&file, &error))
    }

    /// Whether the instance's name was configured, which makes group membership static.
    pub fn is_configured(&self) -> bool {
        self.configured
    }
}

fn make(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| broken(path, &error))?;
    let mode = fs::metadata(path)
        .map_err(|error| broken(path, &error))?
        .permissions()
        .mode();
    // Not ours to tighten: a mounted volume may be open to all by its nature. But say it.
    if mode & 0o002 != 0 {
        tracing::warn!(path = %path.display(), "everybody may write to the data directory: give it mode 0700");
    }
    Ok(())
}

/// A command that only looks takes the lock for an instant, so one refusal is not yet an answer.
fn take(path: &Path) -> Result<File> {
    let file = path.join(LOCK);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let lock = private::open(&file, &mut options).map_err(|error| broken(&file, &error))?;
    for _ in 0..10 {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(rustix::io::Errno::WOULDBLOCK) => thread::sleep(Duration::from_millis(50)),
            Err(error) => return Err(broken(&file, &error.into())),
        }
    }
    let holder = signature(lock);
    Err(Error::new(
        Kind::Held,
        format!(
            "{} holds the data directory {}: stop it, or give this one a `data-dir` of its own",
            holder,
            path.display()
        ),
    ))
}

fn sign(lock: &mut File, instance: &str) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    write!(lock, "pid {}\ninstance {instance}\n", std::process::id())?;
    lock.flush()
}

fn signature(lock: File) -> Holder {
    let mut text = String::new();
    // Unreadable text is the same as none: that somebody holds it is known from the lock.
    let _ = lock.take(512).read_to_string(&mut text);
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .map(str::to_owned)
    };
    Holder {
        pid: field("pid").and_then(|pid| pid.parse().ok()),
        instance: field("instance").unwrap_or_default(),
    }
}

fn remembered(path: &Path) -> Result<String> {
    let file = path.join(INSTANCE);
    match private::read(&file) {
        Ok(text) => named(text.trim(), &file.display().to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut name = Uuid::new_v4().simple().to_string();
            name.truncate(12);
            // Whole or not at all: a torn name would be another identity after the next start.
            private::replace(&file, format!("{name}\n").as_bytes()).map_err(|error| broken(&file, &error))?;
            Ok(name)
        }
        Err(error) => Err(broken(&file, &error)),
    }
}

/// It becomes a part of Kafka's transactional id and of the metrics' labels.
fn named(name: &str, from: &str) -> Result<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=64).contains(&name.len()) && name.chars().all(fits) {
        return Ok(name.to_owned());
    }
    Err(Error::new(
        Kind::Config,
        format!(
            "{from}: `{}` is not an instance's name: 1 to 64 letters, digits, dots, dashes, underscores",
            super::escape(name)
        ),
    ))
}

fn broken(path: &Path, error: &io::Error) -> Error {
    Error::new(
        Kind::Config,
        format!("cannot use {} (`data-dir`): {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_the_first_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        assert_eq!(DataDir::holder(&path), None);
        let held = DataDir::hold(&path, Some("orders-1")).unwrap();
        assert!(held.is_configured());
        let error = DataDir::hold(&path, None).unwrap_err();
        assert_eq!(error.kind, Kind::Held);
        let pid = std::process::id();
        assert!(
            error
                .message
                .contains(&format!("process {pid} (instance orders-1)")),
            "{error}"
        );
        assert_eq!(DataDir::holder(&path).unwrap().pid, Some(pid));
        drop(held);
        assert_eq!(DataDir::holder(&path), None);
        DataDir::hold(&path, None).unwrap();
    }

    #[test]
    fn an_instance_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = DataDir::hold(&path, None).unwrap().instance().to_owned();
        assert_eq!(first.len(), 12);
        let again = DataDir::hold(&path, None).unwrap();
        assert_eq!(again.instance(), first);
        assert!(!again.is_configured());
        drop(again);
        assert_eq!(DataDir::hold(&path, Some("x")).unwrap().instance(), "x");
        assert_eq!(DataDir::hold(&path, None).unwrap().instance(), first);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(DataDir::hold(other.path(), None).unwrap().instance(), first);
    }

    #[test]
    fn directory_and_files_are_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let _held = DataDir::hold(&path, None).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join(LOCK)), 0o600);
        assert_eq!(mode(&path.join(INSTANCE)), 0o600);
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        for name in [LOCK, INSTANCE] {
            let path = dir.path().join(format!("data-{name}"));
            fs::create_dir(&path).unwrap();
            std::os::unix::fs::symlink(&victim, path.join(name)).unwrap();
            let error = DataDir::hold(&path, None).unwrap_err();
            assert_eq!(error.kind, Kind::Config, "{name}");
            assert!(error.message.contains("symbolic link"), "{error}");
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    }

    #[test]
    fn the_ids_of_a_release_before_are_ended_once_for_each_identity() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::hold(dir.path(), None).unwrap();
        assert!(!held.has_ended("orders-a-0"));
        held.ended("orders-a-0").unwrap();
        drop(held);
        let held = DataDir::hold(dir.path(), None).unwrap();
        assert!(held.has_ended("orders-a-0"));
        assert!(!held.has_ended("orders-b-0"), "another's");
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", "a b", "a\n", "ä", &"x".repeat(65)] {
            assert_eq!(
                DataDir::hold(dir.path(), Some(name)).unwrap_err().kind,
                Kind::Config,
                "{name:?}"
            );
        }
        fs::write(dir.path().join(INSTANCE), "\u{1b}[31m").unwrap();
        let error = DataDir::hold(dir.path(), None).unwrap_err();
        assert!(!error.message.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn a_look_does_not_keep_a_holder_out() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::hold(dir.path(), None).unwrap());
        let look = File::open(dir.path().join(LOCK)).unwrap();
        flock(&look, FlockOperation::NonBlockingLockShared).unwrap();
        let looking = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            drop(look);
        });
        DataDir::hold(dir.path(), None).unwrap();
        looking.join().unwrap();
    }
}
