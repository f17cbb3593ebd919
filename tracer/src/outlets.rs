//! Where the lines of a live trace go: the recording, the stream on stdout, the report at the end.

use std::{
    fs::File,
    io::{self, Write},
};

use anyhow::{Error, Result};
use tracer_analysis::recording::Line;

use crate::{
    cli::{Format, TraceArgs},
    output::Output,
    recording::Writer,
};

/// The outlets of a trace. One that fails is closed; the others go on to the end of the trace.
pub(crate) struct Outlets {
    recording: Option<Outlet<File>>,
    stream: Option<Outlet<Box<dyn Write>>>,
    /// Where the report goes; `None` with `--format jsonl`.
    pub(crate) report: Option<Output>,
    failure: Option<Error>,
}

struct Outlet<W: Write> {
    writer: Writer<W>,
    what: String,
}

impl Outlets {
    /// Opens everything, so that a bad path fails before tracing begins.
    pub(crate) fn open(args: &TraceArgs) -> Result<Self> {
        let recording = match &args.record {
            Some(path) => {
                let what = format!("the recording {}", path.display());
                Some(Outlet { writer: Writer::create(path)?, what })
            }
            None => None,
        };
        let output = Output::open(args.output.output.as_deref())?;
        let (stream, report) = if args.output.format == Format::Jsonl {
            let what = output.name();
            (Some(Outlet { writer: Writer::new(output.into_inner()), what }), None)
        } else {
            (None, Some(output))
        };
        Ok(Self { recording, stream, report, failure: None })
    }

    /// Writes one line to the recording and to the stream.
    pub(crate) fn line(&mut self, line: &Line) {
        self.each(|writer| writer.line(line), |writer| writer.line(line));
    }

    /// Hands everything to the system: what was written survives the death of this process.
    pub(crate) fn flush(&mut self) {
        self.each(Writer::flush, Writer::flush);
    }

    fn each(
        &mut self,
        to_recording: impl FnOnce(&mut Writer<File>) -> io::Result<()>,
        to_stream: impl FnOnce(&mut Writer<Box<dyn Write>>) -> io::Result<()>,
    ) {
        let failures =
            [write(&mut self.recording, to_recording), write(&mut self.stream, to_stream)];
        for failure in failures.into_iter().flatten() {
            self.failure.get_or_insert(failure);
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

/// Writes to an outlet and closes it if that fails.
fn write<W: Write>(
    outlet: &mut Option<Outlet<W>>,
    write: impl FnOnce(&mut Writer<W>) -> io::Result<()>,
) -> Option<Error> {
    let open = outlet.as_mut()?;
    let error = write(&mut open.writer).err()?;
    let what = &open.what;
    let message = format!("cannot write to {what}; tracing stopped, what stands there can be read");
    if let Some(closed) = outlet.take() {
        closed.writer.abandon();
    }
    Some(Error::new(error).context(message))
}

fn is_closed_pipe(error: &Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
