use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use tracker_api::{Error, ErrorKind, Result};

use crate::error::of_files;

/// What the directory says about itself, so that an older program does not touch a newer database.
const FORMAT: u32 = 1;
const FORMAT_LINE: &str = "orchestrator failure tracker, format ";

/// The database's directory, and this process's hold on it.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    holder: File,
}

impl Place {
    /// Makes the directory, takes hold of it and looks whose it is.
    pub(crate) fn take(path: &Path) -> Result<Self> {
        make_private(path).map_err(|error| of_files(error, "cannot make the directory", path))?;
        let path = path
            .canonicalize()
            .map_err(|error| of_files(error, "cannot open the directory", path))?;
        let place = Self {
            holder: hold(&path)?,
            path,
        };
        place.check_format()?;
        Ok(place)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Names this process as the holder, for whoever comes and finds the door shut.
    pub(crate) fn sign(&mut self) -> Result<()> {
        let program = std::env::args_os().next().map(PathBuf::from);
        let program = program
            .as_deref()
            .and_then(Path::file_name)
            .map(|name| name.to_string_lossy().into_owned());
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let text = format!(
            "process {} ({}) on {}, since {:.0}\n",
            std::process::id(),
            program.as_deref().unwrap_or("?"),
            if host.is_empty() { "this host" } else { host.trim() },
            jiff::Timestamp::now()
        );
        self.rewrite(&text)
            .map_err(|error| of_files(error, "cannot sign", &self.path))
    }

    fn rewrite(&mut self, text: &str) -> std::io::Result<()> {
        self.holder.set_len(0)?;
        self.holder.seek(SeekFrom::Start(0))?;
        self.holder.write_all(text.as_bytes())
    }

    /// Lets go. A child that was forked meanwhile may share the file, so closing it would not be enough.
    pub(crate) fn leave(&self) {
        // An error leaves it to the closing of the file, which follows.
        self.holder.unlock().ok();
    }

    fn check_format(&self) -> Result<()> {
        let file = self.path.join("FORMAT");
        let problem = match fs::read_to_string(&file) {
            Ok(text) => match text.trim_end().strip_prefix(FORMAT_LINE).map(str::parse::<u32>) {
                Some(Ok(format)) if (1..=FORMAT).contains(&format) => return Ok(()),
                Some(Ok(format)) => format!(
                    "is of format {format}, this version knows up to {FORMAT}: start the version that wrote it, \
                     or a newer one; nothing was changed"
                ),
                _ => "has a FORMAT file that is not ours: choose another path".to_owned(),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if !self.path.join("CURRENT").exists() {
                    return write_durably(&file, &format!("{FORMAT_LINE}{FORMAT}\n"))
                        .map_err(|error| of_files(error, "cannot write", &file));
                }
                "was made by another program: choose another path".to_owned()
            }
            Err(error) => return Err(of_files(error, "cannot read", &file)),
        };
        Err(Error::new(
            ErrorKind::Config,
            format!("the database {} {problem}", self.path.display()),
        ))
    }
}

fn make_private(path: &Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    builder.mode(0o700);
    let made: Vec<&Path> = path.ancestors().take_while(|made| !made.exists()).collect();
    builder.create(path)?;
    // What is synced into a directory that a power cut unmakes is not durable.
    for parent in made.iter().filter_map(|made| made.parent()) {
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// RocksDB has a lock of its own, but it cannot say who holds it; ours can, and does not ask for the error's text.
fn hold(path: &Path) -> Result<File> {
    let file = path.join("HOLDER");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut holder = private(&mut options)
        .open(&file)
        .map_err(|error| of_files(error, "cannot open", &file))?;
    match holder.try_lock() {
        Ok(()) => Ok(holder),
        Err(TryLockError::WouldBlock) => {
            let mut who = String::new();
            let read = (&mut holder).take(1_000).read_to_string(&mut who).is_ok() && !who.trim().is_empty();
            let who = if read {
                who.trim()
            } else {
                "another process, which has just begun"
            };
            Err(Error::new(
                ErrorKind::InUse,
                format!(
                    "the database {} is held by {who}: stop it first, or give this one a path of its own",
                    path.display()
                ),
            ))
        }
        Err(TryLockError::Error(error)) => Err(of_files(error, "cannot lock", &file)),
    }
}

/// The owner's alone, and nothing that a symbolic link leads to: `sign` cuts the file before it writes.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed();
    options.mode(0o600).custom_flags(flags)
}

fn write_durably(file: &Path, text: &str) -> std::io::Result<()> {
    let draft = file.with_extension("draft");
    // The directory is held, so a draft that is there was left by one that was killed.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut written = private(OpenOptions::new().write(true).create_new(true)).open(&draft)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    fs::rename(&draft, file)?;
    file.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_files_of_a_database_are_its_owners_alone_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        drop(Place::take(&path).unwrap());
        let mode = |name: &str| fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode(""), mode("HOLDER"), mode("FORMAT")], [0o700, 0o600, 0o600]);
        let victim = dir.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        fs::remove_file(path.join("HOLDER")).unwrap();
        symlink(&victim, path.join("HOLDER")).unwrap();
        let error = Place::take(&path).unwrap_err();
        assert!(error.to_string().contains("HOLDER"), "{error}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    }
}
