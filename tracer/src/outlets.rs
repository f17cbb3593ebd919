//! Where the lines of a live trace go: the recording, the stream on stdout, the report at the end.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Error, Result, bail};
use tracer_analysis::{
    recording::{Header, Line, Trailer},
    report::Report,
    utc::Utc,
};

use crate::{
    cli::{Format, TraceArgs},
    diagnostics::{Level, say},
    journal::Journal,
    output::Output,
    recording::{Options, Recording, Rotation, State, Writer, written},
    sink::hlog::Log,
};

/// Most that commonly passes from the end of a connection to its record. One that comes later has its
/// lines in the log of intervals apart.
const SETTLING_US: i64 = 1_000_000;

/// The outlets of a trace. One that fails is closed; the others go on to the end of the trace.
pub(crate) struct Outlets {
    recording: Option<Recording>,
    /// What became of the recording, once it has ended.
    recorded: Option<State>,
    stream: Option<Stream>,
    log: Option<NamedLog>,
    journal: Option<Journal>,
    /// Where the report goes; `None` with the formats that are written while tracing.
    pub(crate) report: Option<Output>,
    failure: Option<Error>,
    /// The line at hand; kept for the next one.
    json: Vec<u8>,
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
        let options = Options {
            rotation: Rotation {
                size: args.recording.size,
                every: args.recording.every,
                keep: args.recording.keep.map(|keep| keep as usize),
            },
            on_error: args.recording.on_error,
            sync: args.recording.sync.then_some(args.interval),
        };
        let recording = args.record.as_deref();
        let recording = recording.map(|path| Recording::open(path, options, start)).transpose()?;
        let output = Output::open(&args.output)?;
        if let (Some(recording), Some(path)) = (&recording, &args.output.output)
            && path.metadata().is_ok_and(|file| recording.is_at(&file))
        {
            bail!(
                "--record and --output both name {}: give each a file of its own",
                path.display()
            );
        }
        let journal = if args.journal {
            Some(Journal::open(&args.journal_socket, args.output.grouping()?)?)
        } else {
            None
        };
        let (stream, log, report, failure) = (None, None, None, None);
        let (recorded, json) = (None, Vec::new());
        let mut outlets = Self { recording, recorded, stream, log, journal, report, failure, json };
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

    /// Begins with `header`. From here on a thread writes the recording.
    pub(crate) fn begin(&mut self, header: &Header) -> Result<()> {
        if let Some(recording) = &mut self.recording {
            recording.begin(header)?;
        }
        self.streamed(&Line::Header(Box::new(header.clone())));
        self.write_stream(Writer::flush);
        self.write_log(|log| {
            log.begin(header.start);
            log.over(header.start)
        });
        Ok(())
    }

    /// Writes one line to the recording and to the stream.
    pub(crate) fn line(&mut self, line: &Line) {
        if self.recording.is_some() || self.stream.is_some() {
            self.written(line);
        }
        if let Line::Connection(connection) = line {
            self.write_log(|log| log.add(connection));
            if let Some(journal) = &mut self.journal {
                journal.connection(connection);
            }
        }
    }

    fn written(&mut self, line: &Line) {
        let mut json = std::mem::take(&mut self.json);
        match written(line, &mut json) {
            Ok(text) => {
                if let Some(recording) = &mut self.recording {
                    recording.line(&text);
                }
                self.write_stream(|writer| writer.text(&text));
            }
            Err(error) => {
                self.failure.get_or_insert(cannot_write(error, "the recording and the stream"));
            }
        }
        self.json = json;
    }

    /// Writes one line to the stream only.
    pub(crate) fn streamed(&mut self, line: &Line) {
        self.write_stream(|writer| writer.line(line));
    }

    /// Hands everything to the system: what was written survives the death of this process.
    pub(crate) fn flush(&mut self) {
        if let Some(recording) = &self.recording {
            recording.flush();
        }
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

    /// Has another process make the files of the recording from now on. No other thread may run.
    pub(crate) fn hand_over(&mut self) -> Result<()> {
        self.recording.as_mut().map_or(Ok(()), Recording::hand_over)
    }

    /// Whether the report is files that are made at the end.
    pub(crate) fn makes_files_at_the_end(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.directory().is_some())
    }

    /// The directory in which the report is still to be made as files.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        let report = self.report.as_ref().and_then(Output::directory);
        report.into_iter().map(Path::to_owned).collect()
    }

    /// Whether the recording should go on in a new piece.
    pub(crate) fn rotation_is_due(&self) -> bool {
        self.recording.as_ref().is_some_and(Recording::is_due)
    }

    /// Whether there is a recording.
    pub(crate) fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    /// Begins a new piece of the recording with `header`; `trailer` tells of the whole trace up to here. With
    /// `reopen`, a recording of one file goes on in the file that now has its name.
    pub(crate) fn next_piece(&mut self, trailer: Trailer, header: Header, reopen: bool) {
        if let Some(recording) = &mut self.recording {
            recording.next_piece(trailer, header, reopen);
        }
    }

    /// What became of the recording so far; `None` if there is none.
    pub(crate) fn recording_state(&self) -> Option<State> {
        self.recording.as_ref().map(Recording::state).or(self.recorded)
    }

    /// Ends the recording of a trace of which `trailer` tells.
    pub(crate) fn finish_recording(&mut self, trailer: Trailer) {
        let Some(mut recording) = self.recording.take() else { return };
        let outcome = recording.finish(trailer);
        let state = recording.state();
        self.recorded = Some(state);
        if state.not_recorded > 0 {
            let text = format!("connections that are not in the recording: {}", state.not_recorded);
            say(Level::Warning, &text);
        }
        if let Err(error) = outcome {
            self.failure.get_or_insert(error);
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
        self.failure.is_some() || self.recording.as_ref().is_some_and(Recording::has_failed)
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
