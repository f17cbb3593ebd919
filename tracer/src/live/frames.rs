//! Frames on their way to the terminal, in a thread of their own: a terminal that does not read, over a
//! line that hangs, must not keep records waiting.

use std::{
    fs::File,
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

/// Bytes under way to the terminal, and how writing them went.
#[derive(Debug, Default)]
struct Way {
    bytes: usize,
    /// What comes now is thrown away.
    closed: bool,
    failure: Option<io::Error>,
}

#[derive(Debug, Default)]
struct Shared {
    way: Mutex<Way>,
    moved: Condvar,
}

impl Shared {
    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes bytes at any time; what was flushed is written by a thread. Whoever writes asks
/// [`Frames::are_written`] first, so that there is at most one frame in memory.
#[derive(Debug)]
pub(super) struct FrameWriter {
    buffer: Vec<u8>,
    out: Sender<Vec<u8>>,
    shared: Arc<Shared>,
}

/// What becomes of the bytes of a [`FrameWriter`].
#[derive(Debug, Clone)]
pub(super) struct Frames(Arc<Shared>);

/// A writer to `terminal`. Its thread ends when the writer is dropped.
pub(super) fn to(terminal: File) -> (FrameWriter, Frames) {
    let (out, frames) = channel();
    let shared = Arc::new(Shared::default());
    let theirs = Arc::clone(&shared);
    thread::spawn(move || write_all(terminal, &frames, &theirs));
    (FrameWriter { buffer: Vec::new(), out, shared: Arc::clone(&shared) }, Frames(shared))
}

fn write_all(mut terminal: File, frames: &Receiver<Vec<u8>>, shared: &Shared) {
    for frame in frames {
        let closed = shared.way().closed;
        let outcome = if closed { Ok(()) } else { terminal.write_all(&frame) };
        let mut way = shared.way();
        way.bytes = way.bytes.saturating_sub(frame.len());
        if let Err(error) = outcome {
            way.failure.get_or_insert(error);
        }
        shared.moved.notify_all();
    }
}

impl Write for FrameWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let frame = std::mem::take(&mut self.buffer);
        let mut way = self.shared.way();
        if way.closed {
            return Ok(());
        }
        way.bytes += frame.len();
        drop(way);
        self.out.send(frame).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Frames {
    /// Whether the terminal has taken all frames; an error if it is gone.
    pub(super) fn are_written(&self) -> io::Result<bool> {
        let mut way = self.0.way();
        match way.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(way.bytes == 0),
        }
    }

    /// Waits until the terminal has taken all frames, at most for `patience`.
    fn wait(&self, patience: Duration) {
        let under_way = |way: &mut Way| way.bytes > 0 && way.failure.is_none();
        // Too late is no error: the terminal hangs.
        let _ = self.0.moved.wait_timeout_while(self.0.way(), patience, under_way);
    }

    /// The same; what comes later is thrown away.
    pub(super) fn close(&self, patience: Duration) {
        self.wait(patience);
        self.0.way().closed = true;
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, os::fd::OwnedFd};

    use nix::unistd::pipe;

    use super::*;

    fn pair() -> (File, File) {
        let (read, write): (OwnedFd, OwnedFd) = pipe().unwrap();
        (read.into(), write.into())
    }

    #[test]
    fn frames_arrive_in_order() {
        let (mut terminal, out) = pair();
        let (mut writer, frames) = to(out);
        writer.write_all(b"one ").unwrap();
        assert!(frames.are_written().unwrap(), "nothing was flushed");
        writer.flush().unwrap();
        writer.write_all(b"two").unwrap();
        writer.flush().unwrap();
        frames.close(Duration::from_secs(10));
        assert!(frames.are_written().unwrap());
        writer.write_all(b"too late").unwrap();
        writer.flush().unwrap();
        drop(writer);
        let mut text = String::new();
        terminal.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two");
    }

    #[test]
    fn terminal_that_does_not_read_keeps_nobody_waiting() {
        let (terminal, out) = pair();
        let (mut writer, frames) = to(out);
        writer.write_all(&vec![b'x'; 1 << 20]).unwrap();
        writer.flush().unwrap(); // more than a pipe holds
        frames.wait(Duration::from_millis(50));
        assert!(!frames.are_written().unwrap());
        drop(terminal);
        frames.wait(Duration::from_secs(10));
        assert_eq!(frames.are_written().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
