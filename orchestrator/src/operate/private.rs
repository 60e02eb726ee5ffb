//! Files that are their owner's alone, in a directory into which somebody else may have put a link.
//!
//! None of these follows a symbolic link in the last part of a path: whoever can write to the directory could make us write
//! to, or show, another file of ours.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, OFlags, RenameFlags, renameat_with},
    io::Errno,
};

/// Opens `path` as `options` say; made with mode 0600, if it is made.
pub(crate) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed();
    let opened = options.mode(0o600).custom_flags(flags).open(path);
    opened.map_err(|error| match error.raw_os_error() {
        Some(code) if code == Errno::LOOP.raw_os_error() => io::Error::new(
            error.kind(),
            "it is a symbolic link, which is not followed: put the file itself there",
        ),
        _ => error,
    })
}

/// Reads a text file.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path, OpenOptions::new().read(true))?.read_to_string(&mut text)?;
    Ok(text)
}

/// A file under another name until it is whole; removed if it never becomes so.
#[derive(Debug)]
pub(crate) struct Draft {
    path: PathBuf,
    kept: bool,
}

impl Draft {
    /// A new file beside `path`, `path.part`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] when there is such a file: another process writes it, or was killed.
    pub(crate) fn begin(path: &Path) -> io::Result<(Self, File)> {
        let mut name = OsString::from(path);
        name.push(".part");
        let draft = PathBuf::from(name);
        let file = open(&draft, OpenOptions::new().write(true).create_new(true))?;
        Ok((
            Self {
                path: draft,
                kept: false,
            },
            file,
        ))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, which nobody has yet.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] when somebody has it by now.
    pub(crate) fn keep_as_new(self, path: &Path) -> io::Result<()> {
        match renameat_with(CWD, &self.path, CWD, path, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) if path.symlink_metadata().is_ok() => {
                // A file system that cannot do it in one step.
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Err(Errno::INVAL | Errno::NOSYS) => fs::rename(&self.path, path)?,
            done => done?,
        }
        self.done(path)
    }

    /// Gives it its name in place of what had it.
    fn keep(self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.done(path)
    }

    fn done(mut self, path: &Path) -> io::Result<()> {
        self.kept = true;
        match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => File::open(".")?.sync_all(),
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes a file whole or not at all, durably, in a directory that this process holds: a draft that is there was left by
/// one that was killed.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (draft, mut file) = match Draft::begin(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut left = OsString::from(path);
            left.push(".part");
            fs::remove_file(&left)?;
            Draft::begin(path)?
        }
        begun => begun?,
    };
    file.write_all(bytes)?;
    file.sync_all()?;
    draft.keep(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_link_is_neither_followed_nor_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, link) = (dir.path().join("victim"), dir.path().join("link"));
        fs::write(&victim, "mine").unwrap();
        symlink(&victim, &link).unwrap();
        let error = read(&link).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        open(&link, OpenOptions::new().write(true).create(true)).unwrap_err();
        // What replaces a name replaces the link, also the draft's.
        symlink(&victim, dir.path().join("link.part")).unwrap();
        replace(&link, b"new").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
        assert_eq!(read(&link).unwrap(), "new");
        assert_eq!(fs::metadata(&link).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_draft_is_removed_unless_it_is_kept_and_takes_nobodys_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.part");
        let (draft, _) = Draft::begin(&path).unwrap();
        assert_eq!(
            Draft::begin(&path).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        drop(draft);
        let (draft, _) = Draft::begin(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        assert_eq!(
            draft.keep_as_new(&path).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "another's");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
