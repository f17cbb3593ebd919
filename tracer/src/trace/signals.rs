//! The signals that a trace hears.

use std::{
    fs::{self, File},
    io::IsTerminal as _,
};

use anyhow::{Context as _, Result};
use nix::libc;
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// SIGINT, SIGTERM, and SIGHUP of a terminal that is gone: the end of the trace.
    End,
    /// Any other SIGHUP: that the recording is opened again.
    Reopen,
}

/// Signals, heard from the moment it is made.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    /// Sent at the limit of `ulimit -f`. Who listens does not die of it: the write fails.
    _file_size: Signal,
    /// The terminal from which the trace was started, unless it shall outlive it (`nohup`).
    terminal: Option<File>,
}

impl Signals {
    /// Begins to listen.
    pub(super) fn listen(runtime: &Runtime) -> Result<Self> {
        let _context = runtime.enter();
        let terminal = if ignores_hangup() { None } else { File::open("/dev/tty").ok() };
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            _file_size: listen(SignalKind::from_raw(libc::SIGXFSZ))?,
            terminal,
        })
    }

    /// Waits until one comes.
    pub(super) async fn asked(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::End,
            _ = self.terminate.recv() => Asked::End,
            _ = self.hangup.recv() => match &self.terminal {
                Some(terminal) if !terminal.is_terminal() => Asked::End,
                _ => Asked::Reopen,
            },
        }
    }
}

/// Whether SIGHUP is ignored so far, as after `nohup`.
fn ignores_hangup() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & (1 << (libc::SIGHUP - 1)) != 0)
}
