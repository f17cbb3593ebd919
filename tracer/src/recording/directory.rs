//! The directory of a recording, opened once. All files of the recording are made, opened and removed through it.
//!
//! Never through a symbolic link and never into what belongs to somebody else: others may be allowed to write in that
//! directory, and smtptrace runs as root. The directory itself is found as the command line says, through links, too.

use std::{
    cell::RefCell,
    ffi::OsStr,
    fs::File,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::Result;
use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, openat},
    sys::stat::{FileStat, Mode, SFlag, fstat, fstatat},
    unistd::{UnlinkatFlags, geteuid, unlinkat},
};

use crate::privilege::{self, Files, Monitor};

/// Who sends mail to whom is private: nothing for others, whatever the umask leaves.
const MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR).union(Mode::S_IRGRP);

/// How every file is opened. Whoever truncates it leaves no hole; a FIFO does not block.
const FLAGS: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_APPEND)
    .union(OFlag::O_CREAT)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_CLOEXEC);

/// The directory of a recording.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    by: By,
}

/// Who makes the files there.
#[derive(Debug)]
enum By {
    /// This process.
    Own(RefCell<OwnedFd>),
    /// Another one, which may still do so when this one has given up its rights.
    Other(Monitor),
}

impl Directory {
    /// Opens the directory `path`.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { by: By::Own(RefCell::new(opened(path)?)), path: path.to_owned() })
    }

    /// Has another process make the files from now on. It says at once if it cannot make any and `must_make`. No
    /// other thread may run.
    pub(crate) fn hand_over(&mut self, must_make: bool) -> Result<()> {
        let check = || if must_make { privilege::check(&self.path) } else { Ok(()) };
        self.by = By::Other(Monitor::start(|| Self::new(&self.path), check)?);
        Ok(())
    }

    /// Makes the file `name`, which must not be there.
    pub(crate) fn create(&self, name: &OsStr) -> io::Result<File> {
        if let By::Other(monitor) = &self.by {
            return monitor.create(name);
        }
        let file = self.within(|at| openat(at, name, FLAGS | OFlag::O_EXCL, MODE))?;
        Ok(file.into())
    }

    /// Opens the file `name`, or makes it. What is there already must be a regular file of ours, under this name only.
    pub(crate) fn open(&self, name: &OsStr) -> io::Result<File> {
        if let By::Other(monitor) = &self.by {
            return monitor.open(name);
        }
        // To open a device may do something already.
        match self.within(|at| fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW)) {
            Ok(found) => check(&found)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let file = File::from(self.within(|at| openat(at, name, FLAGS, MODE))?);
        check(&fstat(&file)?)?; // it may have become another meanwhile
        Ok(file)
    }

    /// Removes the file `name`.
    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        match &self.by {
            By::Other(monitor) => monitor.remove(name),
            By::Own(at) => Ok(unlinkat(at.borrow().as_fd(), name, UnlinkatFlags::NoRemoveDir)?),
        }
    }

    /// Makes a call in the directory. If the directory was removed and made again, the new one is taken.
    fn within<T>(&self, call: impl Fn(BorrowedFd<'_>) -> nix::Result<T>) -> io::Result<T> {
        let By::Own(at) = &self.by else { return Err(io::ErrorKind::Unsupported.into()) };
        let result = call(at.borrow().as_fd());
        if let Err(Errno::ENOENT | Errno::ESTALE) = result {
            *at.borrow_mut() = opened(&self.path)?;
            return Ok(call(at.borrow().as_fd())?);
        }
        Ok(result?)
    }
}

impl Files for Directory {
    fn directory(&self) -> io::Result<OwnedFd> {
        match &self.by {
            By::Own(at) => at.borrow().try_clone(),
            By::Other(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn create(&self, name: &OsStr) -> io::Result<File> {
        self.create(name)
    }

    fn open(&self, name: &OsStr) -> io::Result<File> {
        self.open(name)
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        self.remove(name)
    }
}

fn opened(path: &Path) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// Refuses what is not a regular file of ours, under one name.
fn check(file: &FileStat) -> io::Result<()> {
    let refused = |why: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    let kind = SFlag::from_bits_truncate(file.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFLNK {
        return refused("it is a symbolic link, and a recording is never made through one".into());
    }
    if kind != SFlag::S_IFREG {
        return refused(
            "it is not a regular file; for a pipe, write the lines to stdout with --format jsonl"
                .into(),
        );
    }
    if file.st_uid != geteuid().as_raw() {
        return refused(format!(
            "it belongs to user {}, and smtptrace runs as user {}",
            file.st_uid,
            geteuid()
        ));
    }
    if file.st_nlink > 1 {
        return refused(format!("it has {} names (hard links)", file.st_nlink));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
        process,
    };

    use nix::unistd::mkfifo;

    use super::*;

    /// A directory that anybody may write; removed when dropped.
    struct Place(PathBuf);

    impl Place {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("smtptrace-{test}-{}", process::id()));
            fs::create_dir_all(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
            Self(path)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn refusal(result: io::Result<File>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn nothing_is_made_through_a_link_or_into_what_is_no_file_of_ours() {
        let place = Place::new("directory");
        let (directory, at) = (Directory::new(&place.0).unwrap(), |name: &str| place.0.join(name));
        symlink(at("target"), at("dangling")).unwrap();
        fs::write(at("first"), "").unwrap();
        fs::hard_link(at("first"), at("second")).unwrap();
        mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        fs::create_dir(at("sub")).unwrap();
        for (name, why) in [
            ("dangling", "symbolic link"),
            ("second", "2 names"),
            ("fifo", "not a regular"),
            ("sub", "not a regular"),
        ] {
            let refused = refusal(directory.open(OsStr::new(name)));
            assert!(refused.contains(why), "{name}: {refused}");
            let exists = directory.create(OsStr::new(name)).unwrap_err();
            assert_eq!(exists.kind(), io::ErrorKind::AlreadyExists, "{name}");
        }
        assert!(!at("target").exists());
        if geteuid().is_root() {
            fs::write(at("theirs"), "").unwrap();
            chown(at("theirs"), Some(65_534), None).unwrap();
            let refused = refusal(directory.open(OsStr::new("theirs")));
            assert!(refused.contains("belongs to user 65534"), "{refused}");
        }
        let device = Directory::new(Path::new("/dev")).unwrap();
        assert!(refusal(device.open(OsStr::new("full"))).contains("not a regular file"));
    }

    #[test]
    fn files_are_not_for_others_and_come_back_after_the_directory() {
        let place = Place::new("directory-again");
        let directory = Directory::new(&place.0).unwrap();
        let mode = |file: File| file.metadata().unwrap().mode() & 0o7777;
        for file in [directory.open(OsStr::new("a")), directory.create(OsStr::new("b"))] {
            assert_eq!(mode(file.unwrap()) & !0o640, 0);
        }
        directory.open(OsStr::new("a")).unwrap();
        directory.remove(OsStr::new("a")).unwrap();
        let gone = directory.remove(OsStr::new("a")).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        fs::remove_dir_all(&place.0).unwrap();
        assert!(directory.create(OsStr::new("c")).is_err());
        fs::create_dir(&place.0).unwrap();
        directory.create(OsStr::new("c")).unwrap();
        directory.open(OsStr::new("d")).unwrap();
        assert!(place.0.join("c").exists() && place.0.join("d").exists());
    }
}
