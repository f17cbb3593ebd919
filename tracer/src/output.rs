//! Where output goes: stdout, or the file of `--output`.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tracer_analysis::{
    destination::Grouping,
    report::{Intervals, Report},
    whatif::WhatIf,
};

use crate::{
    cli::{Format, OutputArgs},
    sink::{csv, hgrm, hlog::Log, html, json, text},
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
        if args.format != Format::Hgrm {
            return Self::stream(args.output.as_deref());
        }
        let Some(path) = args.output.clone() else {
            bail!("hgrm takes a file for each histogram: name their directory with --output")
        };
        fs::create_dir_all(&path)
            .with_context(|| format!("cannot write the output to {}", path.display()))?;
        Ok(Self { path: Some(path.clone()), target: Target::Directory(path) })
    }

    /// Opens `path`, or stdout, for one document.
    pub(crate) fn stream(path: Option<&Path>) -> Result<Self> {
        let out: Box<dyn Write> = match path {
            Some(path) => Box::new(
                File::create(path)
                    .with_context(|| format!("cannot write the output to {}", path.display()))?,
            ),
            None => Box::new(io::stdout()),
        };
        Ok(Self { path: path.map(Path::to_owned), target: Target::Stream(out) })
    }

    /// The directory in which its files are made.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match &self.target {
            Target::Directory(directory) => Some(directory),
            Target::Stream(_) => None,
        }
    }

    /// Where it goes, for messages.
    pub(crate) fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "stdout".into(), |path| path.display().to_string())
    }

    /// Writes a report; `what_if` is shown by HTML only. A reader that went away is no error.
    pub(crate) fn report(
        self,
        report: &Report,
        what_if: Option<&WhatIf>,
        format: Format,
        top: usize,
    ) -> Result<()> {
        let name = self.name();
        let out = match self.target {
            Target::Directory(directory) => return hgrm::write(report, &directory),
            Target::Stream(out) => out,
        };
        let mut out = BufWriter::new(out);
        let written = match format {
            Format::Json => json::write(report, &mut out),
            Format::Csv => csv::write(report, &mut out),
            Format::Html => html::write(report, what_if, &mut out, &html::HtmlOptions { top }),
            Format::Text
            | Format::Jsonl
            | Format::Hlog
            | Format::Hgrm
            | Format::Openmetrics
            | Format::Prometheus => text::write(report, &mut out, &text::TextOptions { top }),
        };
        closed_pipe_is_fine(written.and_then(|()| out.flush()))
            .with_context(|| format!("cannot write the report to {name}"))
    }

    /// Writes a text. A reader that went away is no error.
    pub(crate) fn text(self, text: &str) -> Result<()> {
        self.document(|out| out.write_all(text.as_bytes()))
    }

    /// Writes a document. A reader that went away is no error.
    pub(crate) fn document(
        self,
        write: impl FnOnce(&mut BufWriter<Box<dyn Write>>) -> io::Result<()>,
    ) -> Result<()> {
        let name = self.name();
        let mut out = BufWriter::new(self.into_inner());
        let written = write(&mut out).and_then(|()| out.flush());
        closed_pipe_is_fine(written).with_context(|| format!("cannot write to {name}"))
    }

    /// The bare writer.
    pub(crate) fn into_inner(self) -> Box<dyn Write> {
        match self.target {
            Target::Stream(out) => out,
            Target::Directory(_) => Box::new(io::sink()),
        }
    }
}

impl OutputArgs {
    /// The log of intervals of `length` that is written to `output`.
    pub(crate) fn log(
        &self,
        length: Duration,
        by: Grouping,
        output: Output,
    ) -> Log<Box<dyn Write>> {
        let intervals = Intervals::new(length, by, self.max_destinations);
        Log::new(output.into_inner(), intervals, env!("CARGO_PKG_VERSION"))
    }
}

/// Turns a closed pipe into success: whoever read has seen enough.
pub(crate) fn closed_pipe_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
