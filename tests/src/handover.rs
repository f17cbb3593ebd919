//! Client processes of their own, and sockets handed to them.

use std::{
    io::{BufRead as _, BufReader, IoSlice, Write as _},
    net::SocketAddr,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

use crate::{namespace::Namespace, session::Session, wait};

const PATIENCE: Duration = Duration::from_secs(15);

/// A process that will make one session when told to. It is killed when dropped.
#[derive(Debug)]
pub struct Dialer {
    process: Child,
}

impl Dialer {
    /// Starts `program` (a copy of `lab-session`), as `user` if given. It will send one message.
    pub fn start(
        namespace: &Namespace,
        program: &Path,
        to: SocketAddr,
        user: Option<u32>,
    ) -> Result<Self> {
        let mut command = Command::new(program);
        if let Some(user) = user {
            command.uid(user);
        }
        Self::spawn(namespace, command, to, 1)
    }

    /// Starts `program` (a copy of `lab-session`), which will send so many messages.
    pub fn sending(
        messages: usize,
        namespace: &Namespace,
        program: &Path,
        to: SocketAddr,
    ) -> Result<Self> {
        Self::spawn(namespace, Command::new(program), to, messages)
    }

    fn spawn(
        namespace: &Namespace,
        mut command: Command,
        to: SocketAddr,
        messages: usize,
    ) -> Result<Self> {
        command.args(["dial", &to.to_string(), &messages.to_string()]).stdin(Stdio::piped());
        Ok(Self { process: namespace.spawn(&mut command)? })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Has it make its session and waits for its end.
    pub fn dial(mut self) -> Result<()> {
        let mut stdin = self.process.stdin.take().context("standard input of the dialer")?;
        stdin.write_all(b"\n").context("tell the dialer to start")?;
        wait_for_success(&mut self.process)
    }
}

impl Drop for Dialer {
    fn drop(&mut self) {
        // It has ended already after `dial`.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A process that waits in a session of its own. It is killed when dropped.
#[derive(Debug)]
pub struct Waiting(Child);

impl Waiting {
    /// Starts `program` (a copy of `lab-session`) as `user`, and returns when its session has begun.
    pub fn start(
        namespace: &Namespace,
        program: &Path,
        to: SocketAddr,
        stdin: Stdio,
        user: u32,
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("wait").arg(to.to_string()).stdin(stdin).stdout(Stdio::piped()).uid(user);
        let mut waiting = Self(namespace.spawn(&mut command)?);
        let stdout = waiting.0.stdout.take().context("standard output of the client process")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("wait for the session")?;
        ensure!(line == "waiting\n", "the client process said {line:?}");
        Ok(waiting)
    }

    /// Its process id.
    pub fn pid(&self) -> u64 {
        self.0.id().into()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Hands the connection of `session`, which has said EHLO, to a new process of `program` (a copy of
/// `lab-session`) as Postfix does: over a Unix socket, and closes the own descriptor. Returns the
/// new process's id once it has sent a message and quit.
pub fn hand_over(session: Session, namespace: &Namespace, program: &Path) -> Result<u32> {
    let (ours, theirs) = UnixStream::pair().context("open a socket pair")?;
    let mut command = Command::new(program);
    command.arg("take-over").stdin(Stdio::from(OwnedFd::from(theirs)));
    let mut process = namespace.spawn(&mut command)?;
    // The command holds the other end of the pair until it is dropped.
    drop(command);
    let socket = [session.as_fd().as_raw_fd()];
    sendmsg::<UnixAddr>(
        ours.as_raw_fd(),
        &[IoSlice::new(b"s")],
        &[ControlMessage::ScmRights(&socket)],
        MsgFlags::empty(),
        None,
    )
    .context("send the socket")?;
    drop(session);
    wait_for_success(&mut process)?;
    Ok(process.id())
}

fn wait_for_success(process: &mut Child) -> Result<()> {
    let status = wait::until("the client process to end", PATIENCE, || {
        process.try_wait().context("wait for the client process")
    })?;
    ensure!(status.success(), "the client process ended with {status}");
    Ok(())
}
