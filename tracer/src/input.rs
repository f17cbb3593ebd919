//! Files that are recordings or reports: which of the two, their contents tell.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read, Seek as _},
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

/// Bytes of a report that is read. One of 10,000 destinations with their histograms has 100 MB.
const LARGEST_REPORT: u64 = 256 << 20;

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
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
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
    file.rewind().with_context(what)?;
    let mut text = Vec::new();
    (&file).take(LARGEST_REPORT + 1).read_to_end(&mut text).with_context(what)?;
    if text.len() as u64 > LARGEST_REPORT {
        bail!(
            "{} is larger than {} MB, the most that is read of a report; give the recording instead, or a \
             report of fewer destinations (--max-destinations)",
            path.display(),
            LARGEST_REPORT >> 20
        );
    }
    report_of(&text).with_context(|| format!("cannot take {}", path.display()))
}

/// The report that `text` is, if it is one.
pub(crate) fn report_of(text: &[u8]) -> Result<Option<Report>> {
    let Ok(Tag { kind: Some(kind), schema }) = serde_json::from_slice(text) else {
        return Ok(None);
    };
    if kind != "report" {
        return Ok(None);
    }
    if let Some(schema) = schema.filter(|schema| *schema > SCHEMA) {
        bail!(
            "it is a report of schema {schema}, newer than {SCHEMA}, the newest this version reads; use a \
             newer smtptrace"
        );
    }
    serde_json::from_slice(text).map(Some).context("it is a report, but a broken one")
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
