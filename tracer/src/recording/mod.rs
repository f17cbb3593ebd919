//! Recordings on disk: JSON Lines, written as connections end, read back line by line.

mod directory;
mod parse;
mod piece;
mod queue;
mod read;
mod recorder;
mod rotate;
#[cfg(test)]
mod tests;
mod write;

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tracer_analysis::{
    recording::{Header, Trailer},
    utc::Utc,
};

use crate::diagnostics::{Level, say};
pub(crate) use queue::State;
use queue::{Border, Queue};
#[cfg(any(test, fuzzing))]
pub(crate) use read::read_bytes;
pub(crate) use read::{Found, read, start};
pub(crate) use recorder::OnError;
use recorder::Recorder;
pub(crate) use rotate::Rotation;
use rotate::{Opened, Pieces};
pub(crate) use write::{Writer, written};

/// How long the end of a recording may take. A disk that does not answer must not keep a trace from its end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a trace is recorded: one file, or pieces one after the other. A thread writes; the trace waits for no disk
/// before its end.
pub(crate) struct Recording {
    path: PathBuf,
    options: Options,
    /// Until the thread is started.
    unstarted: Option<(Pieces, Opened)>,
    queue: Arc<Queue>,
    begun: Instant,
    /// Bytes of the piece at hand, before compression.
    bytes: u64,
}

/// How a trace is recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) rotation: Rotation,
    pub(crate) on_error: OnError,
    /// Time between two waits for the disk, if it is waited for.
    pub(crate) sync: Option<Duration>,
}

impl Recording {
    /// Opens the recording `path`; with rotation, its first piece, which begins at `start`. No thread is started.
    pub(crate) fn open(path: &Path, options: Options, start: Utc) -> Result<Self> {
        let mut pieces = Pieces::new(path, options.rotation)?;
        let first = pieces.first(start)?;
        Ok(Self::of(path, options, pieces, first))
    }

    fn of(path: &Path, options: Options, pieces: Pieces, first: Opened) -> Self {
        Self {
            path: path.to_owned(),
            options,
            unstarted: Some((pieces, first)),
            queue: Arc::default(),
            begun: Instant::now(),
            bytes: 0,
        }
    }

    /// Has another process make, open and remove its files from now on. No other thread may run.
    pub(crate) fn hand_over(&mut self) -> Result<()> {
        self.unstarted.as_mut().map_or(Ok(()), |(pieces, _)| pieces.hand_over())
    }

    /// Whether `other` is the file that is to be written.
    pub(crate) fn is_at(&self, other: &Metadata) -> bool {
        let first = self.unstarted.as_ref().and_then(|(_, first)| first.file.metadata().ok());
        first.is_some_and(|file| (file.dev(), file.ino()) == (other.dev(), other.ino()))
    }

    /// Begins to write, on a thread of its own, with `header`.
    pub(crate) fn begin(&mut self, header: &Header) -> Result<()> {
        let Some((pieces, first)) = self.unstarted.take() else { return Ok(()) };
        let Options { on_error, sync, .. } = self.options;
        let queue = Arc::clone(&self.queue);
        let recorder = Recorder::new(queue, pieces, header.clone(), on_error, sync);
        thread::Builder::new()
            .name("smtptrace-rec".into())
            .spawn(move || recorder.run(first))
            .context("cannot start the thread that writes the recording")?;
        Ok(())
    }

    /// Takes one line as it is written. If there is no room for it, it is counted.
    pub(crate) fn line(&mut self, line: &str) {
        self.bytes += line.len() as u64;
        if self.queue.line(line.as_bytes()) {
            let text = format!(
                "the disk of the recording {} does not keep up; what finds no room is left out and counted",
                self.path.display()
            );
            say(Level::Warning, &text);
        }
    }

    /// Has what was taken handed to the system: then it survives the death of this process.
    pub(crate) fn flush(&self) {
        self.queue.flush();
    }

    /// Whether a new piece should begin.
    pub(crate) fn is_due(&self) -> bool {
        let rotation = self.options.rotation;
        let large = rotation.size.is_some_and(|size| self.bytes >= size);
        large || rotation.every.is_some_and(|every| self.begun.elapsed() >= every)
    }

    /// Ends the piece at hand, at which `trailer` is that of the whole trace, and begins the next with `header`. With
    /// `reopen`, a recording of one file goes on in the file that now has its name.
    pub(crate) fn next_piece(&mut self, trailer: Trailer, header: Header, reopen: bool) {
        let reopen = reopen && !self.options.rotation.is_on();
        if self.queue.border(Border { trailer, header, reopen }) {
            (self.begun, self.bytes) = (Instant::now(), 0);
        }
    }

    /// Whether it has ended before the trace.
    pub(crate) fn has_failed(&self) -> bool {
        self.queue.has_ended()
    }

    /// What became of it so far.
    pub(crate) fn state(&self) -> State {
        self.queue.state()
    }

    /// Ends the recording of a trace of which `trailer` tells, and waits for that within bounds.
    pub(crate) fn finish(&mut self, trailer: Trailer) -> Result<()> {
        self.finish_within(trailer, PATIENCE)
    }

    fn finish_within(&mut self, trailer: Trailer, patience: Duration) -> Result<()> {
        let Some(outcome) = self.queue.finish(trailer, patience) else {
            bail!(
                "the disk of the recording {} does not answer for {} s; the recording has no end, and {} \
                 connections are not in it",
                self.path.display(),
                patience.as_secs(),
                self.state().not_recorded
            );
        };
        outcome
    }
}
