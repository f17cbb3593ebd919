//! The process that makes and removes the files of a recording: the one that traces has no right to any more.
//!
//! It keeps the user's id, no capability, and one directory: names come in packets, and descriptors go back. A name is
//! that of a file in this directory; the rest is up to [`Files`]. It is confined to the directory that it opened. So a
//! further process, which reads nothing, starts it again where the directory was replaced by another one.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::libc;

use super::{Channel, Process, give_up_for_files, give_up_to_start_again, process::End};

/// What is done with the files of one directory.
pub(crate) trait Files {
    /// The directory.
    fn directory(&self) -> io::Result<OwnedFd>;
    /// Makes a file that must not be there.
    fn create(&self, name: &OsStr) -> io::Result<File>;
    /// Opens a file, or makes it.
    fn open(&self, name: &OsStr) -> io::Result<File>;
    /// Removes a file.
    fn remove(&self, name: &OsStr) -> io::Result<()>;
}

/// That process, as the one that traces sees it.
#[derive(Debug)]
pub(crate) struct Monitor {
    // First, for that is how the process learns that it may end.
    channel: Channel,
    _process: Process,
    /// Number of the last request.
    last: AtomicU32,
}

const CREATE: u8 = 1;
const OPEN: u8 = 2;
const REMOVE: u8 = 3;
/// Bytes of the number of a request, with which its answer begins.
const NUMBER: usize = 4;
/// Longest name of a file (`NAME_MAX`).
const NAME: usize = 255;
/// Longest reason in words.
const REASON: usize = 200;
/// The first packet: whether it works, and why not.
const READY: usize = 1 + 4 * REASON;
/// Pause before it is started again after it was killed.
const PAUSE: Duration = Duration::from_millis(100);
/// Time that an answer may take. One to a request that was taken before the process was killed never comes.
const PATIENCE: Duration = Duration::from_secs(10);

impl Monitor {
    /// Starts it. `open` opens the directory; `check` says whether it can do its work, without capabilities. No other
    /// thread may run.
    pub(crate) fn start<F: Files>(
        open: impl Fn() -> io::Result<F>,
        check: impl Fn() -> Result<()>,
    ) -> Result<Self> {
        let (channel, other) = Channel::pair().context("cannot make a channel")?;
        let process = Process::start(&[other.descriptor()], || {
            if let Err(error) = give_up_to_start_again() {
                let _ = tell(&other, &Err(error)); // then it is seen that it has ended
                return true;
            }
            keep_started(&other, &open, &check);
            true
        })
        .context("cannot start a process")?;
        drop(other);
        let monitor = Self { channel, _process: process, last: AtomicU32::new(0) };
        let mut words = [0; READY];
        let length = monitor.channel.receive(&mut words).map_or(0, |packet| packet.length);
        match words[..length].split_first() {
            Some((1, _)) => {
                monitor.channel.wait_at_most(PATIENCE)?;
                Ok(monitor)
            }
            Some((_, why)) => bail!("{}", String::from_utf8_lossy(why)),
            None => bail!("it ended at once"),
        }
    }

    fn ask(&self, what: u8, name: &OsStr) -> io::Result<Option<File>> {
        let number = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1).to_ne_bytes();
        let request = [&number[..], &[what], name.as_bytes()].concat();
        if name.len() > NAME {
            return Err(io::ErrorKind::InvalidFilename.into());
        }
        self.channel.send(&request, None).map_err(too_long)?;
        let mut answer = [0; NUMBER + 4 + REASON];
        let packet = loop {
            let packet = self.channel.receive(&mut answer).map_err(too_long)?;
            // One that comes after all answers an earlier request.
            if packet.length == 0 || answer.starts_with(&number) {
                break packet;
            }
        };
        let (_, answer) = answer.split_at(NUMBER);
        let length = packet.length.saturating_sub(NUMBER);
        let (Some((errno, reason)), true) = (answer.split_first_chunk(), length >= 4) else {
            return Err(io::Error::other("the process that makes files has ended"));
        };
        match (i32::from_ne_bytes(*errno), length - 4) {
            (0, 0) => Ok(packet.descriptor.map(File::from)),
            (0, length) => {
                let reason = String::from_utf8_lossy(&reason[..length]).into_owned();
                Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
            }
            (errno, _) => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl Monitor {
    /// Has it make a file that must not be there.
    pub(crate) fn create(&self, name: &OsStr) -> io::Result<File> {
        self.ask(CREATE, name)?.ok_or_else(|| io::Error::other("no file came back"))
    }

    /// Has it open a file, or make it.
    pub(crate) fn open(&self, name: &OsStr) -> io::Result<File> {
        self.ask(OPEN, name)?.ok_or_else(|| io::Error::other("no file came back"))
    }

    /// Has it remove a file.
    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        self.ask(REMOVE, name).map(drop)
    }
}

fn too_long(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::WouldBlock {
        return error;
    }
    let why = format!("the process that makes files gave no answer for {} s", PATIENCE.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, why)
}

/// Says whether it works.
fn tell(channel: &Channel, outcome: &Result<()>) -> io::Result<()> {
    let why = outcome.as_ref().err().map_or_else(String::new, |error| format!("{error:#}"));
    let words = [&[u8::from(outcome.is_ok())], why.as_bytes()].concat();
    channel.send(words.get(..READY).unwrap_or(&words), None)
}

/// Starts the process that answers, and starts it again when its directory has become another one.
fn keep_started<F: Files>(
    requests: &Channel,
    open: &impl Fn() -> io::Result<F>,
    check: &impl Fn() -> Result<()>,
) {
    let mut is_first = true;
    loop {
        let process = Process::start(&[requests.descriptor()], || {
            let files = open();
            let directory = files.as_ref().ok().and_then(|files| files.directory().ok());
            let ready = give_up_for_files(directory.as_ref().map(OwnedFd::as_fd));
            let ready = ready.and_then(|()| if is_first { check() } else { Ok(()) });
            let told = if is_first { tell(requests, &ready) } else { Ok(()) };
            ready.is_err() || told.is_err() || serve(requests, &files)
        });
        match process.map(Process::end) {
            Ok(End::Done) => return,
            Ok(End::Again) => {}
            // It could not say whether it works.
            Ok(End::Killed) | Err(_) if is_first => return,
            Ok(End::Killed) | Err(_) => {
                if requests.is_closed_within(PAUSE) {
                    return;
                }
            }
        }
        is_first = false;
    }
}

/// Answers requests. Returns whether nobody is left to make any; else the directory is to be opened again.
fn serve(requests: &Channel, files: &io::Result<impl Files>) -> bool {
    let mut request = [0; NUMBER + 1 + NAME];
    while let Ok(packet) = requests.receive(&mut request) {
        let request = request[..packet.length].split_first_chunk::<NUMBER>();
        let parts = request.and_then(|(number, rest)| Some((number, rest.split_first()?)));
        let Some((number, (what, name))) = parts else { return true };
        let outcome = answer(files, *what, OsStr::from_bytes(name));
        let packet = match &outcome {
            Ok(_) => vec![0; 4],
            Err(error) => refusal(error),
        };
        let packet = [&number[..], &packet[..]].concat();
        let file = outcome.as_ref().ok().and_then(Option::as_ref);
        if requests.send(&packet, file.map(|it| it.as_fd())).is_err() {
            return true;
        }
        let errno = outcome.err().and_then(|error| error.raw_os_error());
        let is_other = matches!(errno, Some(libc::ENOENT | libc::ESTALE | libc::EACCES));
        if is_other && *what != REMOVE {
            return false;
        }
    }
    true
}

/// The number of an error, or 0 and its reason in words.
fn refusal(error: &io::Error) -> Vec<u8> {
    let mut packet = error.raw_os_error().unwrap_or(0).to_ne_bytes().to_vec();
    if error.raw_os_error().is_none() {
        packet.extend(error.to_string().bytes().take(REASON));
    }
    packet
}

fn answer(files: &io::Result<impl Files>, what: u8, name: &OsStr) -> io::Result<Option<File>> {
    let files = files.as_ref().map_err(|error| match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::ErrorKind::NotFound.into(),
    })?;
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.iter().any(|byte| matches!(byte, 0 | b'/')) || bytes == b".." {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    match what {
        CREATE => files.create(name).map(Some),
        OPEN => files.open(name).map(Some),
        REMOVE => files.remove(name).map(|()| None),
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Write as _,
        os::unix::fs::{PermissionsExt as _, chown},
        path::PathBuf,
    };

    use nix::{
        fcntl::AT_FDCWD,
        unistd::{UnlinkatFlags, unlinkat},
    };

    use super::*;

    /// A directory of this test, removed when dropped.
    struct Scratch(PathBuf);

    /// Files there.
    struct Here(PathBuf);

    impl Files for Here {
        fn directory(&self) -> io::Result<OwnedFd> {
            Ok(File::open(&self.0)?.into())
        }

        fn create(&self, name: &OsStr) -> io::Result<File> {
            assert_ne!(name, "lost", "ends this process");
            File::options().write(true).create_new(true).open(self.0.join(name))
        }

        fn open(&self, name: &OsStr) -> io::Result<File> {
            if name == "refused" {
                return Err(io::Error::other("it is somebody else's"));
            }
            File::options().append(true).create(true).open(self.0.join(name))
        }

        fn remove(&self, name: &OsStr) -> io::Result<()> {
            let path = self.0.join(name);
            Ok(unlinkat(AT_FDCWD, &path, UnlinkatFlags::NoRemoveDir)?)
        }
    }

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("smtptrace-monitor-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn start(scratch: &Scratch) -> Monitor {
        let open = || {
            File::open(&scratch.0)?;
            Ok(Here(scratch.0.clone()))
        };
        Monitor::start(open, || Ok(())).unwrap()
    }

    #[test]
    fn files_are_made_opened_and_removed() {
        let scratch = Scratch::new("files");
        let monitor = start(&scratch);
        let name = OsStr::new("a");
        monitor.create(name).unwrap().write_all(b"x").unwrap();
        monitor.open(name).unwrap().write_all(b"y").unwrap();
        assert_eq!(fs::read(scratch.0.join("a")).unwrap(), b"xy");
        assert_eq!(monitor.create(name).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        monitor.remove(name).unwrap();
        assert_eq!(monitor.remove(name).unwrap_err().kind(), io::ErrorKind::NotFound);
        let refused = monitor.open(OsStr::new("refused")).unwrap_err();
        assert_eq!(refused.to_string(), "it is somebody else's");
    }

    #[test]
    fn a_request_that_is_lost_with_the_process_is_not_waited_for() {
        let scratch = Scratch::new("lost");
        let monitor = start(&scratch);
        monitor.channel.wait_at_most(Duration::from_millis(10)).unwrap();
        let error = monitor.create(OsStr::new("lost")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        monitor.channel.wait_at_most(PATIENCE).unwrap();
        // An answer that nobody waits for any more does not become that to the next.
        let stale = [&u32::MAX.to_ne_bytes()[..], &[REMOVE, b'a']].concat();
        monitor.channel.send(&stale, None).unwrap();
        monitor.create(OsStr::new("a")).unwrap();
        assert!(scratch.0.join("a").exists());
    }

    #[test]
    fn who_starts_it_again_sees_that_nobody_is_left() {
        let (ours, theirs) = Channel::pair().unwrap();
        assert!(!theirs.is_closed_within(Duration::ZERO));
        ours.send(&[1], None).unwrap();
        assert!(!theirs.is_closed_within(Duration::ZERO), "a request is no end");
        drop(ours);
        assert!(theirs.is_closed_within(Duration::ZERO));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let scratch = Scratch::new("names");
        let monitor = start(&scratch);
        let long = "a".repeat(NAME + 1);
        for name in ["", "..", "../a", "/etc/a", "a/b", "a\0b", &long] {
            assert!(monitor.create(OsStr::new(name)).is_err(), "{name:?}");
        }
        monitor.channel.send(&[7, 7, 7, 7, 9, b'a'], None).unwrap();
        monitor.channel.send(&[9; 300], None).unwrap();
        let mut answer = [0; 12];
        monitor.channel.receive(&mut answer).unwrap();
        assert_eq!(answer[..4], [7; 4], "its number");
        assert_eq!(answer[4..8], libc::EINVAL.to_ne_bytes(), "no such request");
        // One that is too long ends it.
        assert_eq!(monitor.channel.receive(&mut answer).map_or(0, |it| it.length), 0);
    }

    /// Whatever it is told to do: it has no way to another directory, nor any capability.
    #[test]
    fn a_file_elsewhere_cannot_be_made() {
        /// Takes any name for one below the directory of temporary files, as if it were taken over.
        struct Elsewhere(PathBuf, PathBuf);

        impl Files for Elsewhere {
            fn directory(&self) -> io::Result<OwnedFd> {
                Ok(File::open(&self.1)?.into())
            }

            fn create(&self, name: &OsStr) -> io::Result<File> {
                File::create(self.0.join(name))
            }

            fn open(&self, name: &OsStr) -> io::Result<File> {
                File::open(self.0.join(name))
            }

            fn remove(&self, _: &OsStr) -> io::Result<()> {
                // A socket, or a program: neither is among what it may do.
                std::net::UdpSocket::bind("127.0.0.1:0").map(drop)
            }
        }

        let (own, other) = (Scratch::new("own"), Scratch::new("other"));
        fs::write(other.0.join("old"), "x").unwrap();
        let closed = nix::unistd::geteuid().is_root().then(|| {
            fs::set_permissions(&other.0, fs::Permissions::from_mode(0o700)).unwrap();
            chown(&other.0, Some(65_534), None).unwrap();
        });
        let open = || Ok(Elsewhere(other.0.clone(), own.0.clone()));
        let monitor = Monitor::start(open, || Ok(())).unwrap();
        // By Landlock; and where another user's directory is closed, because it has no capability.
        if super::super::has_landlock() || closed.is_some() {
            monitor.create(OsStr::new("new")).unwrap_err();
            monitor.create(OsStr::new("old")).unwrap_err();
            monitor.open(OsStr::new("old")).unwrap_err();
        }
        let socket = monitor.remove(OsStr::new("a")).unwrap_err();
        assert_eq!(socket.raw_os_error(), Some(libc::ENOSYS));
        if !super::super::has_landlock() && closed.is_none() {
            ::tests::skip!("neither Landlock nor root: files elsewhere were not tried");
        }
    }

    #[test]
    fn a_directory_that_comes_back_is_used_again() {
        let scratch = Scratch::new("again");
        let monitor = start(&scratch);
        fs::remove_dir_all(&scratch.0).unwrap();
        for _ in 0..3 {
            let gone = monitor.create(OsStr::new("a")).unwrap_err();
            assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        }
        fs::create_dir(&scratch.0).unwrap();
        // It is confined to the one that it knew, and then started again.
        let _ = monitor.create(OsStr::new("a"));
        monitor.create(OsStr::new("b")).unwrap();
        assert!(scratch.0.join("b").exists());
    }

    #[test]
    fn what_it_could_not_do_is_said_at_once() {
        let scratch = Scratch::new("check");
        let check = || bail!("no files can be made there");
        let error = Monitor::start(|| Ok(Here(scratch.0.clone())), check).unwrap_err();
        assert_eq!(error.to_string(), "no files can be made there");
    }
}
