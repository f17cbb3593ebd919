//! The thread that writes a recording: all that may wait for a disk happens here.
//!
//! An error of the disk suspends the recording: the lines stay in the queue, and after a pause a new piece is tried,
//! with growing pauses, so that nothing is lost that the queue has room for. A piece to which not even its header can
//! be written is removed again. Where no new file may be made, the one at hand goes on.

use std::{
    ffi::OsString,
    io,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Error;
use tracer_analysis::{
    recording::{Header, Line, Trailer, Trust},
    utc::Utc,
};

use super::{
    piece::{Condition, Piece, Unwritten},
    queue::{Border, Entry, Next, Queue},
    rotate::{Opened, Pieces},
    write::written,
};
use crate::diagnostics::{Level, say};

/// Pause before the first new try, and before the ones after many.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What is done about an error of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnError {
    /// Suspend the recording and try again; everything else goes on
    Suspend,
    /// End the trace, with status 2
    Stop,
}

/// Why nothing is written for now.
struct Suspension {
    next_try: Instant,
    kind: io::ErrorKind,
    why: String,
}

/// Writes what is in the queue.
pub(super) struct Recorder {
    queue: Arc<Queue>,
    pieces: Pieces,
    /// Of the piece at hand, or of the next.
    header: Header,
    on_error: OnError,
    /// Time between two waits for the disk, if it is waited for.
    sync: Option<Duration>,
    piece: Option<Piece>,
    /// While it is suspended: what was written last.
    last: Option<Piece>,
    name: OsString,
    /// Lines that were taken and are not written.
    pending: Vec<u8>,
    /// What the last trailer that was written said of the whole trace, and the connections not recorded by then.
    told: (Option<Trust>, u64),
    suspension: Option<Suspension>,
    pause: Duration,
    resumed: Instant,
    sync_at: Option<Instant>,
    /// Why it ended before its time.
    failure: Option<Error>,
}

impl Recorder {
    pub(super) fn new(
        queue: Arc<Queue>,
        pieces: Pieces,
        header: Header,
        on_error: OnError,
        sync: Option<Duration>,
    ) -> Self {
        Self {
            queue,
            pieces,
            header,
            on_error,
            sync,
            piece: None,
            last: None,
            name: OsString::new(),
            pending: Vec::new(),
            told: (None, 0),
            suspension: None,
            pause: PAUSES.0,
            resumed: Instant::now(),
            sync_at: None,
            failure: None,
        }
    }

    /// Writes to `first`, and to what follows it, until the recording ends.
    pub(super) fn run(mut self, first: Opened) {
        self.name.clone_from(&first.name);
        let start = self.header.start;
        if let Err(error) = self.begin(first, start) {
            self.failed(&error);
        }
        while self.failure.is_none() {
            let time = self.suspension.as_ref().map(|it| it.next_try).or(self.sync_at);
            match self.queue.next(time) {
                Next::Entry(Entry::Lines(lines)) => {
                    self.pending = lines;
                    self.write();
                }
                Next::Entry(Entry::Border(border)) => self.cross(*border),
                Next::Entry(Entry::End(trailer)) => {
                    self.end(&trailer);
                    break;
                }
                Next::Time => {
                    self.resume();
                }
                Next::LastTry => {
                    if !self.resume() {
                        break;
                    }
                }
            }
            self.sync_if_due();
        }
        if let Some(Suspension { why, .. }) = self.suspension.take() {
            self.failure = Some(Error::msg(format!("the recording ends before the trace: {why}")));
        }
        self.queue.ended(self.failure.take());
    }

    /// Begins to write to `opened`, with a header and what waits. Where there is room for a part of that only, the
    /// lines that stand are not written again.
    fn begin(&mut self, opened: Opened, start: Utc) -> io::Result<()> {
        self.header.start = start;
        let mut lines = json(&Line::Header(Box::new(self.header.clone())))?;
        let header = lines.len();
        lines.extend_from_slice(&self.pending);
        let mut piece = Piece::new(opened.file.try_clone()?, self.pieces.are_packed())?;
        match piece.write(&lines) {
            Ok(()) => {
                self.taken(self.pending.len());
                (self.piece, self.last, self.name) = (Some(piece), None, opened.name);
                self.note_sync();
                self.pieces.prune();
                Ok(())
            }
            Err(Unwritten { written, error }) => {
                if written > header {
                    self.taken(written - header);
                    (self.last, self.name) = (Some(piece), opened.name);
                } else {
                    self.pieces.withdraw(&opened);
                }
                Err(error)
            }
        }
    }

    /// Goes on in the file that was written last. Returns whether it takes what waits.
    fn go_on(&mut self) -> bool {
        let Some(mut last) = self.last.take() else { return false };
        if !matches!(last.condition(), Ok(Condition::Sound)) {
            return false;
        }
        match last.write(&self.pending) {
            Ok(()) => {
                self.taken(self.pending.len());
                self.piece = Some(last);
                self.note_sync();
                true
            }
            Err(Unwritten { written, .. }) => {
                self.taken(written);
                self.last = Some(last);
                false
            }
        }
    }

    /// Takes note that of the lines that were taken so many bytes are written.
    fn taken(&mut self, written: usize) {
        self.queue.written(&self.pending[..written]);
        self.pending.drain(..written);
    }

    /// Writes the lines that were taken.
    fn write(&mut self) {
        let Some(piece) = &mut self.piece else { return };
        let result = match piece.condition() {
            Ok(Condition::Sound) => match piece.write(&self.pending) {
                Ok(()) => {
                    self.taken(self.pending.len());
                    self.note_sync();
                    Ok(())
                }
                Err(Unwritten { written, error }) => {
                    self.taken(written);
                    Err(error)
                }
            },
            Ok(Condition::Emptied) => self.begin_again(),
            Ok(Condition::Gone) => self.replace(),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            self.failed(&error);
        }
    }

    /// Goes on at the begin of a file that was truncated.
    fn begin_again(&mut self) -> io::Result<()> {
        let Some(piece) = self.piece.take() else { return Ok(()) };
        let name = self.name.clone();
        self.begin(Opened { file: piece.into_file(), name, is_new: false }, now())
    }

    /// Goes on in a new file, because the one at hand was removed or cut.
    fn replace(&mut self) -> io::Result<()> {
        let name = self.pieces.shown(&self.name);
        self.piece = None;
        if let Some(next) = self.pieces.next(now(), None)? {
            self.begin(next, now())?;
        }
        let next = self.pieces.shown(&self.name);
        let text = format!("the recording {name} was removed or cut; it goes on in {next}");
        say(Level::Warning, &text);
        Ok(())
    }

    /// Ends the piece at hand and begins the next. If no next one can be made, the one at hand goes on.
    fn cross(&mut self, border: Border) {
        let start = border.header.start;
        self.header = border.header;
        let current = self.piece.as_ref().map(Piece::file);
        let next = if border.reopen {
            self.pieces.next(start, current)
        } else {
            self.pieces.create(start).map(Some)
        };
        let name = self.pieces.shown(&self.name);
        match next {
            Ok(None) => {}
            Ok(Some(next)) => {
                if let Err(error) = self.finish_piece(&border.trailer) {
                    let text = format!("cannot write the end of the recording {name}: {error}");
                    say(Level::Warning, &text);
                }
                if let Err(error) = self.begin(next, start) {
                    self.failed(&error);
                }
            }
            Err(error) if self.on_error == OnError::Stop => self.failed(&error),
            Err(error) => {
                let text =
                    format!("cannot begin a new piece of the recording: {error}; {name} goes on");
                say(Level::Warning, &text);
            }
        }
    }

    fn end(&mut self, trailer: &Trailer) {
        if let Err(error) = self.finish_piece(trailer) {
            self.failure = Some(Error::msg(self.cannot_write(&error)));
        }
    }

    /// Ends the piece at hand with its trailer: what came since the one before, of what `whole` says.
    fn finish_piece(&mut self, whole: &Trailer) -> io::Result<()> {
        let Some(piece) = self.piece.take() else { return Ok(()) };
        let not_recorded = self.queue.state().not_recorded;
        let (told, told_not_recorded) = &self.told;
        let mut trust =
            told.as_ref().map_or_else(|| whole.trust.clone(), |told| whole.trust.since(told));
        trust.not_recorded = not_recorded - told_not_recorded;
        // For whoever reads this recording they are lost, too.
        let lost = trust.connections_lost;
        trust.connections_lost = lost.map(|lost| lost.saturating_add(trust.not_recorded));
        let trailer = Trailer { connections: piece.connections(), trust, ..whole.clone() };
        let trailer = json(&Line::Trailer(Box::new(trailer)))?;
        piece.finish(&trailer, self.sync.is_some())?;
        self.sync_at = None;
        self.told = (Some(whole.trust.clone()), not_recorded);
        Ok(())
    }

    /// Takes note of an error of the disk.
    fn failed(&mut self, error: &io::Error) {
        let why = self.cannot_write(error);
        self.last = self.piece.take().or(self.last.take());
        self.sync_at = None;
        if self.on_error == OnError::Stop {
            self.failure = Some(Error::msg(why).context(STOPPED));
            return;
        }
        if self.resumed.elapsed() > PAUSES.1 {
            self.pause = PAUSES.0;
        }
        say(
            Level::Warning,
            &format!(
                "{why}; the recording is suspended and goes on in a new piece when the disk takes it; all \
                 else goes on"
            ),
        );
        let next_try = Instant::now() + self.pause;
        self.suspension = Some(Suspension { next_try, kind: error.kind(), why });
        self.queue.suspend(true);
    }

    /// Tries to go on in a new piece if it is suspended, whatever the time. Returns whether it is not any more.
    fn resume(&mut self) -> bool {
        let Some(suspension) = &mut self.suspension else { return true };
        self.pause = (self.pause * 2).min(PAUSES.1);
        suspension.next_try = Instant::now() + self.pause;
        let begun = match self.pieces.next(now(), None) {
            Ok(Some(next)) => {
                let name = next.name.clone();
                self.begin(next, now()).map_err(|error| (Some(name), error))
            }
            Ok(None) => return false,
            // Privileges are given up; the file at hand is open still.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && self.go_on() => Ok(()),
            Err(error) => Err((None, error)),
        };
        if let Err((name, error)) = begun {
            let name = name.as_ref().unwrap_or(&self.name);
            let why = format!("cannot write to the recording {}: {error}", self.pieces.shown(name));
            if let Some(suspension) = &mut self.suspension {
                // Room was made, and now something else is in the way.
                if suspension.kind != error.kind() {
                    say(Level::Warning, &format!("{why}; the recording stays suspended"));
                }
                (suspension.kind, suspension.why) = (error.kind(), why);
            }
            return false;
        }
        self.suspension = None;
        self.resumed = Instant::now();
        self.queue.suspend(false);
        let (name, lost) = (self.pieces.shown(&self.name), self.queue.state().not_recorded);
        let lost = lost - self.told.1;
        say(Level::Info, &format!("the recording goes on in {name}; connections left out: {lost}"));
        true
    }

    fn cannot_write(&self, error: &io::Error) -> String {
        format!("cannot write to the recording {}: {error}", self.pieces.shown(&self.name))
    }

    fn note_sync(&mut self) {
        if let Some(interval) = self.sync {
            self.sync_at.get_or_insert_with(|| Instant::now() + interval);
        }
    }

    fn sync_if_due(&mut self) {
        if self.sync_at.is_none_or(|time| Instant::now() < time) {
            return;
        }
        self.sync_at = None;
        if let Some(Err(error)) = self.piece.as_ref().map(Piece::sync) {
            self.failed(&error);
        }
    }
}

/// What the outcome of a trace says that had to end.
const STOPPED: &str = "tracing stopped; what stands in the recording can be read";

fn json(line: &Line) -> io::Result<Vec<u8>> {
    Ok(written(line, &mut Vec::new())?.into_owned().into_bytes())
}

/// Now, by the wall clock.
fn now() -> Utc {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Utc::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
