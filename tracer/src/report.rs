//! `smtptrace report FILE...`: recordings through the same fold as a live trace.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use anyhow::{Context as _, Result};
use tracer_analysis::{
    destination::Fold,
    recording::{Filters, Header, HookState, HookStatus, Line, Trailer, Trust},
    report::{Context, Report},
    utc::Utc,
};

use crate::{
    cli::{Format, ReportArgs},
    output::{Output, closed_pipe_is_fine},
    recording::{self, Writer},
};

/// Runs the command.
pub(crate) fn run(args: &ReportArgs) -> Result<()> {
    let output = Output::open(&args.output)?;
    if args.output.format == Format::Jsonl {
        return copy(args, output);
    }
    let mut fold = Fold::new(args.output.max_destinations);
    let mut recordings = Recordings::default();
    for path in &args.files {
        recordings.read(path, &mut fold)?;
    }
    let report =
        Report::new(&fold, args.output.group_by.into(), recordings.context(args.output.format));
    output.report(&report, args.output.format, args.output.top)
}

/// Passes the lines of the recordings on.
fn copy(args: &ReportArgs, output: Output) -> Result<()> {
    let name = output.name();
    let mut writer = Writer::plain(output.into_inner());
    for path in &args.files {
        let mut result: io::Result<()> = Ok(());
        recording::read(path, |line| {
            if result.is_ok() {
                result = writer.line(&line);
            }
        })?;
        closed_pipe_is_fine(result).with_context(|| format!("cannot write to {name}"))?;
    }
    closed_pipe_is_fine(writer.flush()).with_context(|| format!("cannot write to {name}"))
}

/// What several recordings say about themselves, taken together.
#[derive(Default)]
struct Recordings {
    hosts: BTreeSet<String>,
    versions: BTreeSet<String>,
    start: Option<Utc>,
    end: Option<Utc>,
    filters: Vec<Filters>,
    hooks: BTreeMap<String, HookStatus>,
    trust: Trust,
    files: u64,
}

impl Recordings {
    fn read(&mut self, path: &Path, fold: &mut Fold) -> Result<()> {
        let mut finished = false;
        let found = recording::read(path, |line| match line {
            Line::Header(header) => self.header(*header),
            Line::Connection(connection) => {
                fold.add(&connection);
                self.span(connection.start, connection.end());
                if !self.hosts.contains(&connection.host) {
                    self.hosts.insert(connection.host);
                }
            }
            Line::Trailer(trailer) => {
                finished = true;
                self.trailer(*trailer);
            }
        })?;
        self.files += 1;
        self.trust.unreadable_lines += found.unreadable;
        self.trust.unfinished_recordings += u64::from(!finished);
        Ok(())
    }

    fn header(&mut self, header: Header) {
        self.span(header.start, header.start);
        self.hosts.insert(header.host);
        self.versions.insert(header.version);
        self.filters.push(header.filters);
        self.merge_hooks(header.hooks);
    }

    fn trailer(&mut self, trailer: Trailer) {
        self.span(trailer.end, trailer.end);
        let (sum, one) = (&mut self.trust, trailer.trust);
        sum.events_lost += one.events_lost;
        sum.map_full += one.map_full;
        sum.undecodable += one.undecodable;
        let lost = one.connections_lost;
        sum.connections_lost = match (sum.connections_lost, lost) {
            (Some(sum), Some(lost)) => Some(sum + lost),
            (None, lost) if self.files == 0 => lost,
            _ => None,
        };
        sum.overhead.user_cpu_us = add(sum.overhead.user_cpu_us, one.overhead.user_cpu_us);
        sum.overhead.kernel_cpu_us = add(sum.overhead.kernel_cpu_us, one.overhead.kernel_cpu_us);
        self.merge_hooks(one.hooks);
    }

    /// A hook that is missing in one recording is missing in the report.
    fn merge_hooks(&mut self, hooks: Vec<HookStatus>) {
        let badness = |state| match state {
            HookState::Attached => 0,
            HookState::Fallback => 1,
            HookState::Unavailable => 2,
        };
        for hook in hooks {
            let Some(known) = self.hooks.get_mut(&hook.hook) else {
                self.hooks.insert(hook.hook.clone(), hook);
                continue;
            };
            known.events_lost += hook.events_lost;
            known.map_full += hook.map_full;
            known.run_count = add(known.run_count, hook.run_count);
            known.run_time_ns = add(known.run_time_ns, hook.run_time_ns);
            if badness(hook.state) > badness(known.state) {
                (known.state, known.program, known.reason) =
                    (hook.state, hook.program, hook.reason);
            }
        }
    }

    fn span(&mut self, from: Utc, to: Utc) {
        self.start = Some(self.start.map_or(from, |start| start.min(from)));
        self.end = Some(self.end.map_or(to, |end| end.max(to)));
    }

    fn context(mut self, format: Format) -> Context {
        if self.trust.unfinished_recordings > 0 {
            self.trust.connections_lost = None; // their counters were never written
        }
        self.trust.hooks = self.hooks.into_values().collect();
        let epoch = Utc::from_micros(0);
        let same = self.filters.windows(2).all(|pair| pair[0] == pair[1]);
        Context {
            hosts: self.hosts.into_iter().collect(),
            version: self.versions.into_iter().collect::<Vec<_>>().join(", "),
            start: self.start.unwrap_or(epoch),
            end: self.end.unwrap_or(epoch),
            filters: self.filters.pop().filter(|_| same),
            trust: self.trust,
            hdr: format.needs_histograms(),
        }
    }
}

/// The sum; unknown only if both are.
fn add(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}
