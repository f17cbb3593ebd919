//! Where output goes: stdout, or the file of `--output`.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use tracer_analysis::report::Report;

use crate::{
    cli::{Format, OutputArgs},
    sink::{csv, hgrm, hlog, json, text},
};

/// An output that is open before tracing begins, so that a bad path fails at once.
pub(crate) struct Output {
    path: Option<PathBuf>,
    target: Target,
}

enum Target {
    Stream(Box<dyn Write>),
    /// Takes several files.
    Directory(PathBuf),
}

impl Output {
    /// Opens what `--output` names, or stdout.
    pub(crate) fn open(args: &OutputArgs) -> Result<Self> {
        let path = args.output.clone();
        let what = |path: &Path| format!("cannot write the output to {}", path.display());
        let target = match (&path, args.format) {
            (Some(path), Format::Hgrm) => {
                fs::create_dir_all(path).with_context(|| what(path))?;
                Target::Directory(path.clone())
            }
            (None, Format::Hgrm) => {
                bail!("hgrm takes a file for each histogram: name their directory with --output")
            }
            (Some(path), _) => {
                Target::Stream(Box::new(File::create(path).with_context(|| what(path))?))
            }
            (None, _) => Target::Stream(Box::new(io::stdout())),
        };
        Ok(Self { path, target })
    }

    /// Where it goes, for messages.
    pub(crate) fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "stdout".into(), |path| path.display().to_string())
    }

    /// Writes a report. A reader that went away is no error.
    pub(crate) fn report(self, report: &Report, format: Format, top: usize) -> Result<()> {
        let name = self.name();
        let out = match self.target {
            Target::Directory(directory) => return hgrm::write(report, &directory),
            Target::Stream(out) => out,
        };
        let mut out = BufWriter::new(out);
        let written = match format {
            Format::Json => json::write(report, &mut out),
            Format::Csv => csv::write(report, &mut out),
            Format::Hlog => hlog::write(report, &mut out),
            Format::Text | Format::Jsonl | Format::Hgrm => {
                text::write(report, &mut out, &text::TextOptions { top })
            }
        };
        closed_pipe_is_fine(written.and_then(|()| out.flush()))
            .with_context(|| format!("cannot write the report to {name}"))
    }

    /// The bare writer.
    pub(crate) fn into_inner(self) -> Box<dyn Write> {
        match self.target {
            Target::Stream(out) => out,
            Target::Directory(_) => Box::new(io::sink()),
        }
    }
}

/// Turns a closed pipe into success: whoever read has seen enough.
pub(crate) fn closed_pipe_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
