//! The signals that a trace hears.

use anyhow::{Context as _, Result};
use nix::libc;
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// SIGINT, SIGTERM: the end of the trace.
    End,
    /// SIGHUP: that the recording is opened again.
    Reopen,
}

/// Signals, heard from the moment it is made.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    /// Sent at the limit of `ulimit -f`. Who listens does not die of it: the write fails.
    _file_size: Signal,
}

impl Signals {
    /// Begins to listen.
    pub(super) fn listen(runtime: &Runtime) -> Result<Self> {
        let _context = runtime.enter();
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            _file_size: listen(SignalKind::from_raw(libc::SIGXFSZ))?,
        })
    }

    /// Waits until one comes.
    pub(super) async fn asked(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::End,
            _ = self.terminate.recv() => Asked::End,
            _ = self.hangup.recv() => Asked::Reopen,
        }
    }
}
