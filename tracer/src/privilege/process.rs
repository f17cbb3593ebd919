//! Processes of a trace besides the one that traces: each is forked from it, does one thing, and ends with it.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    libc,
    sys::{
        prctl,
        signal::{SigHandler, Signal, signal},
        stat::Mode,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, getppid, setsid},
};

/// A process that was forked. It is told to end by the channel that it reads, not by this.
#[derive(Debug)]
pub(crate) struct Process(Pid);

/// Signals that a terminal or a service manager sends to all processes at once: the one that traces ends by
/// them, and the others with it, when it has no more need of them.
const IGNORED: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

impl Process {
    /// Forks a process that has nothing open but `kept`, and runs `run` in it, which returns whether it is done. No
    /// other thread may run.
    pub(crate) fn start(kept: &[BorrowedFd<'_>], run: impl FnOnce() -> bool) -> io::Result<Self> {
        let parent = Pid::this();
        // SAFETY: there is no other thread, which could hold a lock that the child needs.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(Self(child)),
            ForkResult::Child => {
                let run = || prepare(parent, kept).map(|()| run());
                let outcome = catch_unwind(AssertUnwindSafe(run));
                leave(if matches!(outcome, Ok(Ok(true))) { DONE } else { AGAIN })
            }
        }
    }

    /// Whether it has ended within `time`.
    pub(crate) fn has_ended_within(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            match waitpid(self.0, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                Ok(_) | Err(_) => return true,
            }
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Process {
    /// Waits until it ends.
    pub(super) fn end(self) -> End {
        loop {
            match waitpid(self.0, None) {
                Err(Errno::EINTR) => {}
                Ok(WaitStatus::Exited(_, DONE)) | Err(_) => return End::Done,
                Ok(WaitStatus::Exited(..)) => return End::Again,
                Ok(_) => return End::Killed,
            }
        }
    }
}

impl Drop for Process {
    /// It sees that its channel is closed, and ends. One that is held up by a file system ends when that lets
    /// it go: this process may not have the right to kill it.
    fn drop(&mut self) {
        self.has_ended_within(Duration::from_millis(500));
    }
}

/// Status of a process that is done, and of one that is not.
const DONE: i32 = 0;
const AGAIN: i32 = 1;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It was done.
    Done,
    /// It was not, and wants to be started again.
    Again,
    /// By a signal.
    Killed,
}

fn leave(status: i32) -> ! {
    // SAFETY: ends this process, and runs nothing that was meant to run at the end of the one it comes from.
    unsafe { libc::_exit(status) }
}

/// Leaves the session of the `parent`, its signals and its files.
fn prepare(parent: Pid, kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        return Err(io::Error::other("the process it belongs to has ended"));
    }
    // Fails only for the leader of a group, which a new process is not.
    let _ = setsid();
    for ignored in IGNORED {
        // SAFETY: no code of ours runs on a signal that is ignored.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    // SAFETY: no code of ours runs on it; its action is to end the process.
    unsafe { signal(Signal::SIGALRM, SigHandler::SigDfl) }?;
    let nothing = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    dup2_stdin(&nothing)?;
    dup2_stdout(&nothing)?;
    dup2_stderr(&nothing)?;
    drop(nothing);
    close_all_but(kept)
}

/// Closes every descriptor above those of stdin, stdout and stderr that is not among `kept`. Their owners are
/// never dropped: this process leaves by `_exit`.
fn close_all_but(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().map(|it| it.as_raw_fd().unsigned_abs()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for open in kept.into_iter().filter(|it| *it >= 3) {
        if open > first {
            close_range(first, open - 1)?;
        }
        first = open + 1;
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: the caller sees to it that nothing in use is closed.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
