//! Files that are recordings or reports: which of the two, their contents tell.
//!
//! They may be anybody's making. So all are opened first; then the process keeps nothing but what is open, and only
//! then is the first byte read.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Deserialize;
use tracer_analysis::{
    destination::Grouping,
    report::{Report, SCHEMA},
};

use crate::{
    memory::Memory,
    output::Output,
    privilege::{self, Reach, User},
    report,
};

/// The name under which stdin is read.
const STDIN: &str = "-";

/// What the C library reads to ask for names; its further parts, where the binary is not a static one.
const RESOLVER: [&str; 14] = [
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/etc/services",
    "/lib",
    "/lib64",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/run/systemd/resolve",
    "/usr/lib",
    "/usr/lib64",
];

/// A file that is open to be read, or stdin.
#[derive(Debug)]
pub(crate) struct Input {
    path: PathBuf,
    /// `None` for stdin.
    file: Option<File>,
}

impl Input {
    /// Opens `path`; `-` is stdin.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let is_stdin = path.as_os_str() == STDIN;
        let open = || File::open(path).with_context(|| format!("cannot open {}", path.display()));
        let file = if is_stdin { None } else { Some(open()?) };
        Ok(Self { path: path.to_owned(), file })
    }

    /// Opens all of `paths`.
    pub(crate) fn open_all(paths: &[PathBuf]) -> Result<Vec<Self>> {
        // Whoever has many recordings has them all open at once.
        if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
            && soft < hard
        {
            // With fewer it fails at the file that is too many, and says so.
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        }
        paths.iter().map(|path| Self::open(path)).collect()
    }

    /// Its name, for messages.
    pub(crate) fn name(&self) -> String {
        self.file.as_ref().map_or_else(|| "stdin".into(), |_| self.path.display().to_string())
    }

    /// The file from its beginning; from where it stands if it cannot be read twice. `None` for stdin.
    pub(crate) fn file(&self) -> io::Result<Option<File>> {
        let Some(file) = &self.file else { return Ok(None) };
        let mut file = file.try_clone()?;
        if file.metadata()?.is_file() {
            file.rewind()?;
        }
        Ok(Some(file))
    }
}

/// Leaves this process nothing but what is open, and what asking for names takes if it is to `resolve`. To be
/// called before the first byte of an input is read, and before there is a second thread. Returns how much memory
/// reading may take.
pub(crate) fn confine(output: Option<&Output>, resolve: bool) -> Result<Memory> {
    let memory = Memory::open(MEMORY);
    let directory = output.and_then(Output::directory).map(File::open).transpose();
    let directory = directory.context("cannot open the directory of --output")?;
    // Files are made there by the user who may.
    let user = User::to_read().filter(|_| directory.is_none());
    let reach = Reach {
        write: directory.iter().map(|it| it.as_fd()).collect(),
        read_below: if resolve { &RESOLVER } else { &[] },
        connect: resolve,
        ..Reach::default()
    };
    privilege::give_up_to_read(resolve, user, &reach)?;
    Ok(memory)
}

/// Memory that reading recordings may take, in bytes, if nothing else is asked for.
pub(crate) const MEMORY: u64 = 1_000_000_000;

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

/// Reads `input` if it is a report; `None` if it is something else, such as a recording.
pub(crate) fn saved_report(input: &Input) -> Result<Option<Report>> {
    let name = input.name();
    let what = || format!("cannot read {name}");
    let Some(file) = input.file().with_context(what)? else {
        return Ok(None); // what is read from stdin is gone
    };
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
    let mut text = Vec::new();
    let again = input.file().with_context(what)?;
    let read = |file: File| file.take(LARGEST_REPORT + 1).read_to_end(&mut text);
    again.map_or(Ok(0), read).with_context(what)?;
    if text.len() as u64 > LARGEST_REPORT {
        bail!(
            "{name} is larger than {} MB, the most that is read of a report; give the recording instead, or a \
             report of fewer destinations (--max-destinations)",
            LARGEST_REPORT >> 20
        );
    }
    report_of(&text).with_context(|| format!("cannot take {name}"))
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
    inputs: &[Input],
    by: Option<Grouping>,
    max_destinations: usize,
    hdr: bool,
    memory: &mut Memory,
) -> Result<Report> {
    if let [only] = inputs
        && let Some(saved) = saved_report(only)?
    {
        return grouped(saved, only, by);
    }
    for input in inputs {
        if inputs.len() > 1 && saved_report(input)?.is_some() {
            bail!(
                "{} is a report, and reports cannot be added up; give one report, or recordings",
                input.name()
            );
        }
    }
    report::on(inputs, by.unwrap_or_default(), max_destinations, hdr, memory)
}

/// A saved report cannot be grouped anew.
pub(crate) fn grouped(saved: Report, input: &Input, by: Option<Grouping>) -> Result<Report> {
    match by {
        Some(by) if by != saved.grouping() => bail!(
            "{} is grouped by {}, not by {by}; leave --group-by out, or give the recording",
            input.name(),
            saved.grouping()
        ),
        _ => Ok(saved),
    }
}
