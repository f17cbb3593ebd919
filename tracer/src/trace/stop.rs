//! The signals that end a trace.

use anyhow::{Context as _, Result};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

/// SIGINT and SIGTERM, heard from the moment it is made.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// Begins to listen.
    pub(super) fn on_signals(runtime: &Runtime) -> Result<Self> {
        let _context = runtime.enter();
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let (interrupt, terminate) =
            (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate })
    }

    /// Waits until one comes.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
