//! What waits for the disk: lines and the borders of pieces, in order, bounded by bytes.
//!
//! The thread that drains the kernel only ever puts something in. What finds no room is counted and left out.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Error, Result};
use tracer_analysis::recording::{Header, Trailer};

use super::piece::{connections, is_connection};

/// Bytes of lines that wait or are being written: some 5,000 connections.
pub(super) const CAPACITY: usize = 8 << 20;

/// Bytes that are written at once, about.
const CHUNK: usize = 64 << 10;

/// What is done in order.
pub(super) enum Entry {
    /// Whole lines.
    Lines(Vec<u8>),
    /// A piece ends and another begins.
    Border(Box<Border>),
    /// The recording ends.
    End(Box<Trailer>),
}

/// Where a piece ends and another begins.
pub(super) struct Border {
    /// Of the whole trace up to here.
    pub(super) trailer: Trailer,
    /// Of the piece that begins.
    pub(super) header: Header,
    /// The file of the same name is opened again if it has become another one.
    pub(super) reopen: bool,
}

/// What the writing thread is to do next.
pub(super) enum Next {
    Entry(Entry),
    /// It is time for what was to be done then.
    Time,
    /// The recording ends while it is suspended.
    LastTry,
}

/// What is known of the recording on all threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct State {
    /// Connections that found no room while they waited for the disk, or could not be written.
    pub(crate) not_recorded: u64,
    /// It takes no more: the disk refuses what is written, or does not keep up.
    pub(crate) failed: bool,
}

#[derive(Default)]
struct Inner {
    entries: VecDeque<Entry>,
    /// Bytes and connections of lines that wait or are being written.
    bytes: usize,
    connections: u64,
    not_recorded: u64,
    suspended: bool,
    /// No room since the last line that was written.
    full: bool,
    ended: bool,
    failure: Option<Error>,
}

impl Inner {
    fn has_border(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Border(_)))
    }
}

/// The queue, and the state of the recording.
#[derive(Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    news: Condvar,
    end: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts one line in. Says whether it is the first for which there is no room.
    pub(super) fn line(&self, line: &[u8]) -> bool {
        let count = u64::from(is_connection(line));
        let mut inner = self.lock();
        if inner.ended || inner.bytes + line.len() > CAPACITY {
            inner.not_recorded += count;
            let is_first = !inner.full && !inner.suspended && !inner.ended;
            inner.full = true;
            return is_first;
        }
        inner.bytes += line.len();
        inner.connections += count;
        match inner.entries.back_mut() {
            Some(Entry::Lines(lines)) if lines.len() < CHUNK => lines.extend_from_slice(line),
            _ => {
                let wake = !inner.entries.is_empty();
                inner.entries.push_back(Entry::Lines(line.to_vec()));
                if wake {
                    self.news.notify_one();
                }
            }
        }
        false
    }

    /// Has the writing thread take what is there.
    pub(super) fn flush(&self) {
        if !self.lock().entries.is_empty() {
            self.news.notify_one();
        }
    }

    /// Puts a border in. `false` if the one before still waits: there is no end to a disk that stalls.
    pub(super) fn border(&self, border: Border) -> bool {
        let mut inner = self.lock();
        if inner.has_border() || inner.ended {
            return false;
        }
        inner.entries.push_back(Entry::Border(Box::new(border)));
        self.news.notify_one();
        true
    }

    /// Whether a border waits.
    #[cfg(test)]
    pub(super) fn has_border(&self) -> bool {
        self.lock().has_border()
    }

    /// Waits for what is to be done, until `time` at the latest. While it is suspended the lines stay.
    pub(super) fn next(&self, time: Option<Instant>) -> Next {
        let mut inner = self.lock();
        loop {
            if inner.suspended {
                if matches!(inner.entries.back(), Some(Entry::End(_))) {
                    return Next::LastTry;
                }
            } else if let Some(entry) = inner.entries.pop_front() {
                return Next::Entry(entry);
            }
            inner = match time.map(|time| time.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Next::Time,
                Some(left) => {
                    self.news.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.news.wait(inner).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Takes note that these lines were written.
    pub(super) fn written(&self, lines: &[u8]) {
        let count = connections(lines);
        let mut inner = self.lock();
        inner.bytes = inner.bytes.saturating_sub(lines.len());
        inner.connections = inner.connections.saturating_sub(count);
        inner.full = false;
    }

    /// Takes note whether the recording is suspended.
    pub(super) fn suspend(&self, suspended: bool) {
        self.lock().suspended = suspended;
    }

    /// Takes note that the thread writes nothing more, and why, if it is not the end. What waits is lost.
    pub(super) fn ended(&self, failure: Option<Error>) {
        let mut inner = self.lock();
        inner.not_recorded += std::mem::take(&mut inner.connections);
        inner.entries.clear();
        inner.ended = true;
        inner.failure = failure;
        self.end.notify_all();
    }

    /// Whether the thread writes nothing more.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// What became of the recording so far.
    pub(super) fn state(&self) -> State {
        let inner = self.lock();
        let failed = inner.suspended || inner.full || inner.failure.is_some();
        State { not_recorded: inner.not_recorded, failed }
    }

    /// Ends the recording, and waits for that as long as `patience`. `None`: it has not ended by then, and what waits
    /// counts as lost.
    pub(super) fn finish(&self, trailer: Trailer, patience: Duration) -> Option<Result<()>> {
        let mut inner = self.lock();
        inner.entries.push_back(Entry::End(Box::new(trailer)));
        self.news.notify_one();
        let waited = self.end.wait_timeout_while(inner, patience, |inner| !inner.ended);
        inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        if !inner.ended {
            inner.not_recorded += std::mem::take(&mut inner.connections);
            return None;
        }
        Some(inner.failure.take().map_or(Ok(()), Err))
    }
}
