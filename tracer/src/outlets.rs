//! Where the lines of a live trace go: the recording, the stream on stdout, the report at the end.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Error, Result};
use tracer_analysis::{recording::Line, report::Report, utc::Utc};

use crate::{
    cli::{Format, TraceArgs},
    diagnostics::{Level, say},
    journal::Journal,
    output::Output,
    recording::{Recording, Rotation, Writer},
    sink::hlog::Log,
};

/// Most that commonly passes from the end of a connection to its record. One that comes later has its
/// lines in the log of intervals apart.
const SETTLING_US: i64 = 1_000_000;

/// The outlets of a trace. One that fails is closed; the others go on to the end of the trace.
pub(crate) struct Outlets {
    recording: Option<Recording>,
    stream: Option<Stream>,
    log: Option<NamedLog>,
    journal: Option<Journal>,
    /// Where the report goes; `None` with the formats that are written while tracing.
    pub(crate) report: Option<Output>,
    failure: Option<Error>,
}

struct Stream {
    writer: Writer<Box<dyn Write>>,
    name: String,
}

struct NamedLog {
    log: Log<Box<dyn Write>>,
    name: String,
}

impl Outlets {
    /// Opens everything, so that a bad path fails before tracing begins, at `start`.
    pub(crate) fn open(args: &TraceArgs, start: Utc) -> Result<Self> {
        let rotation = Rotation {
            size: args.rotation.size,
            every: args.rotation.every,
            keep: args.rotation.keep.map(|keep| keep as usize),
        };
        let recording = match &args.record {
            Some(path) => Some(Recording::create(path, rotation, start)?),
            None => None,
        };
        let output = Output::open(&args.output)?;
        let journal = if args.journal {
            Some(Journal::open(&args.journal_socket, args.output.grouping()?)?)
        } else {
            None
        };
        let (stream, log, report, failure) = (None, None, None, None);
        let mut outlets = Self { recording, stream, log, journal, report, failure };
        let name = output.name();
        match args.output.format {
            Format::Jsonl => {
                let writer = Writer::plain(output.into_inner());
                outlets.stream = Some(Stream { writer, name });
            }
            Format::Hlog => {
                let log = args.output.log(args.interval, args.output.grouping()?, output);
                outlets.log = Some(NamedLog { log, name });
            }
            _ => outlets.report = Some(output),
        }
        Ok(outlets)
    }

    /// Writes one line to the recording and to the stream.
    pub(crate) fn line(&mut self, line: &Line) {
        self.recorded(line);
        self.streamed(line);
        self.write_log(|log| match line {
            Line::Header(header) => {
                log.begin(header.start);
                log.over(header.start)
            }
            Line::Connection(connection) => log.add(connection),
            Line::Clock(_) | Line::Trailer(_) => Ok(()),
        });
        if let (Line::Connection(connection), Some(journal)) = (line, &mut self.journal) {
            journal.connection(connection);
        }
    }

    /// Writes one line to the recording only.
    pub(crate) fn recorded(&mut self, line: &Line) {
        self.write_recording(|recording| recording.writer().line(line));
    }

    /// Writes one line to the stream only.
    pub(crate) fn streamed(&mut self, line: &Line) {
        self.write_stream(|writer| writer.line(line));
    }

    /// Hands everything to the system: what was written survives the death of this process.
    pub(crate) fn flush(&mut self) {
        self.write_recording(|recording| recording.writer().flush());
        self.write_stream(Writer::flush);
    }

    /// Writes the intervals that were over a moment before `now`. Call it when everything that waited in
    /// the kernel at `now` was taken.
    pub(crate) fn intervals_over(&mut self, now: Utc) {
        let settled = Utc::from_micros(now.micros().saturating_sub(SETTLING_US));
        self.write_log(|log| log.over(settled));
        if let Some(journal) = &mut self.journal {
            journal.minute();
        }
    }

    /// Ends the log of intervals of a trace that ended at `end`.
    pub(crate) fn finish_log(&mut self, end: Utc) {
        let Some(NamedLog { log, name }) = self.log.take() else { return };
        if let Err(error) = log.finish(end) {
            self.failure.get_or_insert(cannot_write(error, &name));
        }
    }

    /// Tells the journal the verdicts.
    pub(crate) fn finish_journal(&mut self, report: &Report) {
        let refused = self.journal.take().map_or(0, |journal| journal.finish(report));
        if refused > 0 {
            say(Level::Warning, &format!("the journal did not take {refused} messages"));
        }
    }

    /// Directories in which files are still to be made.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        let recording = self.recording.as_ref().and_then(Recording::directory);
        let report = self.report.as_ref().and_then(Output::directory);
        recording.into_iter().chain(report).map(Path::to_owned).collect()
    }

    /// Whether the recording should go on in a new piece.
    pub(crate) fn rotation_is_due(&self) -> bool {
        self.recording.as_ref().is_some_and(Recording::is_due)
    }

    /// Begins a new piece of the recording.
    pub(crate) fn rotate(&mut self, start: Utc) {
        let Some(recording) = &mut self.recording else { return };
        if let Err(error) = recording.rotate(start) {
            self.failure.get_or_insert(error.context(STOPPED));
        }
    }

    /// Ends the recording.
    pub(crate) fn finish_recording(&mut self) {
        let Some(recording) = self.recording.take() else { return };
        let name = recording.name();
        if let Err(error) = recording.finish() {
            self.failure.get_or_insert(cannot_write(error, &name));
        }
    }

    fn write_recording(&mut self, write: impl FnOnce(&mut Recording) -> io::Result<()>) {
        let Some(recording) = &mut self.recording else { return };
        if let Err(error) = write(recording) {
            let name = format!("the recording {}", recording.name());
            self.failure.get_or_insert(cannot_write(error, &name));
            if let Some(closed) = self.recording.take() {
                closed.abandon();
            }
        }
    }

    fn write_stream(&mut self, write: impl FnOnce(&mut Writer<Box<dyn Write>>) -> io::Result<()>) {
        let Some(stream) = &mut self.stream else { return };
        if let Err(error) = write(&mut stream.writer) {
            self.failure.get_or_insert(cannot_write(error, &stream.name));
            if let Some(closed) = self.stream.take() {
                closed.writer.abandon();
            }
        }
    }

    fn write_log(&mut self, write: impl FnOnce(&mut Log<Box<dyn Write>>) -> io::Result<()>) {
        let Some(NamedLog { log, name }) = &mut self.log else { return };
        if let Err(error) = write(log) {
            self.failure.get_or_insert(cannot_write(error, name));
            if let Some(closed) = self.log.take() {
                closed.log.abandon();
            }
        }
    }

    /// Whether an outlet failed: time to stop.
    pub(crate) fn failed(&self) -> bool {
        self.failure.is_some()
    }

    /// The first failure. A reader that went away is none.
    pub(crate) fn outcome(self) -> Result<()> {
        match self.failure {
            Some(failure) if !is_closed_pipe(&failure) => Err(failure),
            _ => Ok(()),
        }
    }
}

const STOPPED: &str = "tracing stopped; what stands in the recording can be read";

fn cannot_write(error: io::Error, what: &str) -> Error {
    Error::new(error).context(format!("cannot write to {what}; {STOPPED}"))
}

fn is_closed_pipe(error: &Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
