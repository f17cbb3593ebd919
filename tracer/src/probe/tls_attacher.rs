//! The process that attaches to TLS libraries. It keeps the capabilities for that; the one that traces has none.
//!
//! It is told the id of a process, and a channel. For each such request it starts a further process that hands
//! over what the process in question maps, opened to be read, and attaches to these very files where it is told.
//! Whatever keeps that one waiting, a signal ends it. It reads nothing of the files: which place in a file is
//! which function, the process without privileges finds out.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{libc, unistd::alarm};

use super::{
    tls_libraries::{Candidate, MOST, NAME, path_of, used_by, user_of},
    uprobe,
};
use crate::privilege::{self, Channel, Process};

/// Time that may be spent on one process.
pub(super) const TIME: u32 = 5;
/// The same, with some to spare for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(TIME as u64 + 2);
/// Processes that could not be ended yet, at most; each is held up by a file system.
const HELD_UP: usize = 4;
/// Attachments to the files of one process, at most.
const ATTACHMENTS: usize = 32 * MOST;

/// The process, as the one that traces sees it.
#[derive(Debug)]
pub(crate) struct Attacher {
    // First, for that is how the process learns that it may end.
    channel: Channel,
    _process: Process,
}

/// The files of one process.
#[derive(Debug)]
pub(super) struct Session {
    channel: Channel,
    files: usize,
    user: Option<u32>,
    is_lost: bool,
}

/// A file among them, and its number.
pub(super) struct Offered {
    pub(super) number: usize,
    pub(super) candidate: Candidate,
}

impl Attacher {
    /// Starts it. No other thread may run, and the capabilities must still be there.
    pub(crate) fn start() -> Result<Self> {
        let (channel, other) = Channel::pair().context("cannot make a channel")?;
        channel.wait_at_most(PATIENCE)?;
        let process = Process::start(&[other.descriptor()], || {
            if privilege::give_up_to_attach().is_ok() && other.send(READY, None).is_ok() {
                serve(&other);
            }
            true
        })
        .context("cannot start the process that attaches to TLS libraries")?;
        drop(other);
        let attacher = Self { channel, _process: process };
        let ready = attacher.channel.receive(&mut [0; 1]).is_ok_and(|packet| packet.length == 1);
        if !ready {
            bail!("the process that attaches to TLS libraries cannot give up its privileges");
        }
        Ok(attacher)
    }

    /// Begins to look at process `pid`.
    pub(super) fn look_at(&self, pid: u32) -> io::Result<Session> {
        let (channel, other) = Channel::pair()?;
        channel.wait_at_most(PATIENCE)?;
        self.channel.send(&pid.to_ne_bytes(), Some(other.descriptor()))?;
        Ok(Session { channel, files: 0, user: None, is_lost: false })
    }
}

impl Session {
    /// The next file; `None` if there are no more.
    pub(super) fn next(&mut self) -> io::Result<Option<Offered>> {
        let mut buffer = [0; 1 + NAME];
        let packet = self.channel.receive(&mut buffer)?;
        match (packet.length, packet.descriptor) {
            (0, _) => Err(io::Error::other("it took too long to open them")),
            (length, Some(file)) => {
                let candidate = Candidate::of(File::from(file), &buffer[1..length])?;
                let number = self.files;
                self.files += 1;
                Ok(Some(Offered { number, candidate }))
            }
            (length, None) => {
                self.user = buffer[1..length].try_into().ok().map(u32::from_ne_bytes);
                Ok(None)
            }
        }
    }

    /// The user whose process it is; `None` before the last file, and if the process has ended.
    pub(super) fn user(&self) -> Option<u32> {
        self.user
    }

    /// Whether nobody is left who attaches: an error then says nothing of the file.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Attaches at `offset` in a file, at the entry of the function there or at its `returns`.
    pub(super) fn attach(
        &mut self,
        file: usize,
        offset: u64,
        returns: bool,
    ) -> io::Result<OwnedFd> {
        let file = u8::try_from(file).map_err(io::Error::other)?;
        let mut request = [file, returns.into(), 0, 0, 0, 0, 0, 0, 0, 0];
        request[2..].copy_from_slice(&offset.to_ne_bytes());
        let mut errno = [0; 4];
        let answer =
            self.channel.send(&request, None).and_then(|()| self.channel.receive(&mut errno));
        match answer.map(|packet| (packet.length, packet.descriptor)) {
            Ok((4, Some(uprobe))) => Ok(uprobe),
            Ok((4, None)) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
            Ok(_) | Err(_) => {
                self.is_lost = true;
                Err(io::Error::other("it took too long to attach"))
            }
        }
    }
}

/// Says that it has no more privileges than it needs.
const READY: &[u8] = &[1];
/// Says that there are no more files. The number of the user follows, if it is known.
const END: u8 = 0;

/// Answers requests until nobody is left to make any.
fn serve(requests: &Channel) {
    let mut pid = [0; 4];
    let mut held_up = Vec::new();
    while let Ok(packet) = requests.receive(&mut pid) {
        if packet.length == 0 {
            return;
        }
        if !has_room(&mut held_up) {
            continue; // who asked sees that the channel is closed
        }
        let (Some(session), true) = (packet.descriptor, packet.length == pid.len()) else {
            continue;
        };
        let session = Channel::of(session);
        let process = Process::start(&[session.descriptor()], || {
            // Its action is to end the process, which nothing that can be killed outlasts.
            alarm::set(TIME);
            // Who asked sees that the channel is closed.
            answer(u32::from_ne_bytes(pid), &session).is_ok()
        });
        drop(session);
        // One that cannot be ended for now is not waited for.
        held_up.extend(process.ok().filter(|process| !process.has_ended_within(PATIENCE)));
    }
}

/// Whether a further process may be held up, once those that have ended are forgotten.
fn has_room(held_up: &mut Vec<Process>) -> bool {
    held_up.retain(|process| !process.has_ended_within(Duration::ZERO));
    held_up.len() < HELD_UP
}

/// Hands over the files of process `pid`, and attaches to them.
fn answer(pid: u32, session: &Channel) -> io::Result<()> {
    let candidates = used_by(pid);
    for candidate in &candidates {
        let packet = [&[1], candidate.name.as_bytes()].concat();
        let packet = packet.get(..1 + NAME).unwrap_or(&packet);
        session.send(packet, Some(candidate.file.as_fd()))?;
    }
    let user = user_of(pid).map_or_else(Vec::new, |user| user.to_ne_bytes().to_vec());
    session.send(&[&[END], &user[..]].concat(), None)?;
    let mut request = [0; 10];
    for _ in 0..ATTACHMENTS {
        let [file, returns, offset @ ..] = match session.receive(&mut request)?.length {
            10 => request,
            _ => break,
        };
        let uprobe = match candidates.get(usize::from(file)) {
            Some(candidate) => {
                let path = CString::new(path_of(candidate.file.as_fd()))?;
                uprobe::open(&path, u64::from_ne_bytes(offset), returns == 1)
            }
            None => Err(io::ErrorKind::InvalidInput.into()),
        };
        let errno_of = |error: &io::Error| error.raw_os_error().unwrap_or(libc::EINVAL);
        let errno = uprobe.as_ref().err().map_or(0, errno_of);
        session.send(&errno.to_ne_bytes(), uprobe.as_ref().ok().map(|it| it.as_fd()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> (Session, Channel) {
        let (channel, other) = Channel::pair().unwrap();
        (Session { channel, files: 0, user: None, is_lost: false }, other)
    }

    #[test]
    fn a_session_that_is_lost_is_told_from_a_file_that_cannot_be_probed() {
        let (mut session, other) = session();
        other.send(&libc::EINVAL.to_ne_bytes(), None).unwrap();
        let error = session.attach(0, 1, false).unwrap_err();
        assert_eq!((error.raw_os_error(), session.is_lost()), (Some(libc::EINVAL), false));
        drop(other);
        session.attach(0, 1, false).unwrap_err();
        assert!(session.is_lost());
    }

    #[test]
    fn processes_that_do_not_end_have_a_bound() {
        let (ours, theirs) = Channel::pair().unwrap();
        let wait = || theirs.receive(&mut [0; 1]).is_ok();
        let mut held_up = Vec::new();
        while has_room(&mut held_up) {
            held_up.push(Process::start(&[theirs.descriptor()], wait).unwrap());
        }
        assert_eq!(held_up.len(), HELD_UP);
        drop(ours);
        assert!(held_up.iter().all(|process| process.has_ended_within(PATIENCE)));
        assert!(has_room(&mut held_up) && held_up.is_empty());
    }

    #[test]
    fn the_user_is_told_after_the_files() {
        let (mut session, other) = session();
        let pid = std::process::id();
        let answering = std::thread::spawn(move || answer(pid, &other).is_ok());
        while session.next().unwrap().is_some() {
            assert_eq!(session.user(), None);
        }
        assert_eq!(session.user(), Some(nix::unistd::geteuid().as_raw()));
        drop(session);
        assert!(answering.join().unwrap());
    }
}
