//! Where output goes: stdout, or the file of `--output`.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tracer_analysis::report::Report;

use crate::{
    cli::Format,
    sink::{json, text},
};

/// An output that is open before tracing begins, so that a bad path fails at once.
pub(crate) struct Output {
    path: Option<PathBuf>,
    out: Box<dyn Write>,
}

impl Output {
    /// Opens `path`, or stdout.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self> {
        let out: Box<dyn Write> = match path {
            Some(path) => Box::new(
                File::create(path)
                    .with_context(|| format!("cannot write the output to {}", path.display()))?,
            ),
            None => Box::new(io::stdout()),
        };
        Ok(Self { path: path.map(Path::to_owned), out })
    }

    /// Where it goes, for messages.
    pub(crate) fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "stdout".into(), |path| path.display().to_string())
    }

    /// Writes a report. A reader that went away is no error.
    pub(crate) fn report(self, report: &Report, format: Format, top: usize) -> Result<()> {
        let name = self.name();
        let mut out = BufWriter::new(self.out);
        let written = match format {
            Format::Json => json::write(report, &mut out),
            Format::Text | Format::Jsonl => {
                text::write(report, &mut out, &text::TextOptions { top })
            }
        };
        closed_pipe_is_fine(written.and_then(|()| out.flush()))
            .with_context(|| format!("cannot write the report to {name}"))
    }

    /// The bare writer.
    pub(crate) fn into_inner(self) -> Box<dyn Write> {
        self.out
    }
}

/// Turns a closed pipe into success: whoever read has seen enough.
pub(crate) fn closed_pipe_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
