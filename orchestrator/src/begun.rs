//! The mark in the data directory: what this process last saw committed by its group on its source topic.
//!
//! Kafka forgets a group's offsets (`offsets.retention.minutes`, a group that was deleted). Without a store nothing else
//! would tell such a group from a new one.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

/// Its name in the data directory.
pub(crate) const FILE: &str = "positions";
/// Other groups and topics that the file remembers, for a directory that served them before.
const MOST_OTHERS: usize = 64;

/// What a group has committed on a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) group: String,
    pub(crate) topic: String,
    /// The topic's id, as [`kafka::Topic`](crate::kafka::Topic) has it.
    pub(crate) id: Option<String>,
    /// Eras below it are those of a topic of the same name that is gone.
    pub(crate) since: u64,
    /// C(p) by partition, as it was last seen: it may be higher now.
    pub(crate) committed: BTreeMap<i32, i64>,
}

/// The mark. Shared by the lanes of a process.
#[derive(Debug)]
pub(crate) struct Begun {
    /// None: it is forgotten with the process.
    file: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    seen: Seen,
    others: Vec<Seen>,
    changed: bool,
}

impl Begun {
    /// What the data directory `dir` remembers of `group` on `topic`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not one of ours.
    pub(crate) fn load(dir: &Path, group: &str, topic: &str) -> io::Result<Self> {
        let file = dir.join(FILE);
        let mut others: Vec<Seen> = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let ours = others.iter().position(|s| s.group == group && s.topic == topic);
        let seen = match ours {
            Some(place) => others.remove(place),
            None => Seen {
                group: group.to_owned(),
                topic: topic.to_owned(),
                ..Seen::default()
            },
        };
        others.truncate(MOST_OTHERS);
        Ok(Self {
            file: Some(file),
            state: Mutex::new(State {
                seen,
                others,
                changed: false,
            }),
        })
    }

    /// A mark without a file.
    #[cfg(test)]
    pub(crate) fn forgetful() -> Arc<Self> {
        Arc::new(Self {
            file: None,
            state: Mutex::default(),
        })
    }

    /// The data directory is gone.
    #[cfg(test)]
    pub(crate) fn forget(&self) {
        *self.state() = State::default();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn seen(&self) -> Seen {
        self.state().seen.clone()
    }

    /// The group has committed so on the topic of this id. `era`: where eras of a topic that is new at this name begin.
    pub(crate) fn saw(&self, id: Option<&str>, era: u64, committed: impl IntoIterator<Item = (i32, i64)>) {
        let mut state = self.state();
        let before = state.seen.clone();
        let seen = &mut state.seen;
        if let Some(id) = id {
            if seen.id.as_deref().is_some_and(|then| then != id) {
                (seen.since, seen.committed) = (era, BTreeMap::new());
            }
            seen.id = Some(id.to_owned());
        }
        seen.committed.extend(committed);
        state.changed |= state.seen != before;
    }

    /// Writes what has changed since it was last written, on a thread for what blocks: a disk that hangs holds no lane up.
    pub(crate) fn save(self: &Arc<Self>) {
        if self.file.is_some() && self.state().changed {
            let begun = self.clone();
            tokio::task::spawn_blocking(move || begun.write());
        }
    }

    /// One after another, and each what stands when it begins: the last one writes the newest.
    fn write(&self) {
        static ONE: Mutex<()> = Mutex::new(());
        let Some(file) = &self.file else { return };
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<Seen> = {
            let mut state = self.state();
            state.changed = false;
            std::iter::once(&state.seen)
                .chain(&state.others)
                .cloned()
                .collect()
        };
        let written = serde_json::to_vec(&all)
            .map_err(io::Error::from)
            .and_then(|bytes| replace(file, &bytes));
        if let Err(error) = written {
            self.state().changed = true;
            tracing::warn!(
                file = %file.display(), %error,
                "cannot remember what the group has committed; if Kafka forgets it too, a start cannot tell this group from a new one"
            );
        }
    }
}

/// Whole or not at all, the owner's alone.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = file.with_extension("new");
    let mut new = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    new.write_all(bytes)?;
    new.sync_all()?;
    fs::rename(&fresh, file)?;
    match file.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_the_group_committed_outlives_the_process_and_belongs_to_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let load = |topic: &str| Begun::load(dir.path(), "group", topic).unwrap();
        let begun = load("orders");
        begun.saw(Some("one"), 5, [(0, 150), (1, 20)]);
        begun.saw(None, 6, [(0, 160)]);
        begun.write();
        let other = load("others");
        assert_eq!(other.seen().committed, BTreeMap::new());
        other.saw(None, 7, [(0, 1)]);
        other.write();
        let again = load("orders").seen();
        assert_eq!(
            (again.id.as_deref(), again.since, &again.committed),
            (Some("one"), 0, &BTreeMap::from([(0, 160), (1, 20)]))
        );
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn of_a_topic_that_was_made_again_nothing_is_remembered_but_where_its_eras_begin() {
        let begun = Begun::forgetful();
        begun.saw(Some("one"), 5, [(0, 150), (1, 20)]);
        begun.saw(Some("two"), 9, [(1, 3)]);
        let seen = begun.seen();
        assert_eq!((seen.since, seen.committed), (9, BTreeMap::from([(1, 3)])));
    }

    #[test]
    fn a_file_that_is_not_ours_is_an_error_not_an_empty_mark() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "[{\"group\":").unwrap();
        assert!(Begun::load(dir.path(), "group", "orders").is_err());
    }
}
