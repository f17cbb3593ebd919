//! Files that are recordings or reports: which of the two, their contents tell.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tracer_analysis::{
    destination::Grouping,
    report::{Report, SCHEMA},
};

use crate::report;

/// The first line of a recording is not longer.
const LONGEST_LINE: u64 = 1 << 20;

/// What a JSON document says of itself.
#[derive(Deserialize)]
struct Tag {
    kind: Option<String>,
    schema: Option<u32>,
}

/// Reads `path` if it is a report; `None` if it is something else, such as a recording.
pub(crate) fn saved_report(path: &Path) -> Result<Option<Report>> {
    if path.as_os_str() == "-" {
        return Ok(None); // what is read from stdin is gone
    }
    let what = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    if !file.metadata().with_context(what)?.is_file() {
        return Ok(None); // nor can a pipe be read twice
    }
    let mut first = Vec::new();
    let mut head = BufReader::new(&file).take(LONGEST_LINE);
    head.read_until(b'\n', &mut first).with_context(what)?;
    let one_line = serde_json::from_slice::<Tag>(&first).ok().and_then(|tag| tag.kind);
    if one_line.is_some_and(|kind| kind != "report")
        || first.trim_ascii_start().first() != Some(&b'{')
    {
        return Ok(None);
    }
    let text = std::fs::read(path).with_context(what)?;
    let Ok(Tag { kind: Some(kind), schema }) = serde_json::from_slice(&text) else {
        return Ok(None);
    };
    if kind != "report" {
        return Ok(None);
    }
    if schema.is_some_and(|schema| schema > SCHEMA) {
        bail!(
            "{} is a report of schema {}, newer than {SCHEMA}, the newest this version reads; use a \
             newer smtptrace",
            path.display(),
            schema.unwrap_or_default()
        );
    }
    let report = serde_json::from_slice(&text);
    report.map(Some).with_context(|| format!("{} is a report, but a broken one", path.display()))
}

/// The report on recordings, or the one report that the only file holds. `by`: the grouping that was
/// asked for, if any.
pub(crate) fn report_on(
    files: &[PathBuf],
    by: Option<Grouping>,
    max_destinations: usize,
    hdr: bool,
) -> Result<Report> {
    if let [only] = files
        && let Some(saved) = saved_report(only)?
    {
        return grouped(saved, only, by);
    }
    for path in files {
        if files.len() > 1 && saved_report(path)?.is_some() {
            bail!(
                "{} is a report, and reports cannot be added up; give one report, or recordings",
                path.display()
            );
        }
    }
    report::on(files, by.unwrap_or_default(), max_destinations, hdr)
}

/// A saved report cannot be grouped anew.
pub(crate) fn grouped(saved: Report, path: &Path, by: Option<Grouping>) -> Result<Report> {
    match by {
        Some(by) if by != saved.grouping() => bail!(
            "{} is grouped by {}, not by {by}; leave --group-by out, or give the recording",
            path.display(),
            saved.grouping()
        ),
        _ => Ok(saved),
    }
}
