//! `smtptrace report FILE...`: recordings through the same fold as a live trace.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use anyhow::{Context as _, Result};
use tracer_analysis::{
    destination::{Fold, Grouping, SteadyFold},
    recording::{Filters, Header, HookState, HookStatus, Line, Trailer, Trust},
    report::{Context, Report},
    selection::Selection,
    utc::Utc,
};

use crate::{
    cli::{Format, ReportArgs},
    diagnostics::{Level, say},
    input::{Input, confine},
    memory::Memory,
    names,
    origins::LeftOut,
    output::{Output, closed_pipe_is_fine},
    recording::{self, Writer},
    replay::Replay,
    sink::openmetrics::{About, Dialect, Exposition, Own},
    status::Status,
};

/// Memory that reading recordings may take, in bytes, if nothing else is asked for.
pub(crate) const MEMORY: u64 = 1_000_000_000;

/// Runs the command.
pub(crate) fn run(args: &ReportArgs) -> Result<Status> {
    let by = args.output.grouping()?;
    let output = Output::open(&args.output)?;
    let inputs = Input::open_all(&args.files)?;
    let mut memory = Memory::open(args.output.memory.unwrap_or(MEMORY));
    let memory = &mut memory;
    confine(Some(&output), args.output.resolve)?;
    let format = args.output.format;
    match format {
        Format::Jsonl => return copy(args, &inputs, by, output, memory),
        Format::Hlog => return log(args, &inputs, by, output, memory),
        _ => {}
    }
    if let Some(dialect) = format.dialect() {
        return metrics(args, &inputs, by, dialect, output, memory);
    }
    let (fold, context, replay) = replayed(args, &inputs, format.needs_histograms(), memory)?;
    let mut report = Report::listing(args.output.listed(), &fold, by, context);
    drop(fold);
    let what_if = replay.map(|replay| replay.answer(&report));
    if args.output.resolve {
        names::add(&mut report);
    }
    output.report(&report, what_if.as_ref(), format, args.output.top)?;
    Ok(args.fail_on.status(&report))
}

/// The report on recordings; with the histograms themselves if `hdr` says so.
pub(crate) fn on(
    inputs: &[Input],
    by: Grouping,
    max_destinations: usize,
    hdr: bool,
    memory: &mut Memory,
) -> Result<Report> {
    let mut fold = Fold::new(max_destinations);
    let mut recordings = Recordings::default();
    for input in inputs {
        recordings.read(input, |line| add(&mut fold, memory, line))?;
    }
    Ok(Report::new(&fold, by, recordings.context(hdr)))
}

/// The recordings folded, and what their messages would have needed under other policies.
fn replayed(
    args: &ReportArgs,
    inputs: &[Input],
    hdr: bool,
    memory: &mut Memory,
) -> Result<(Fold, Context, Option<Replay>)> {
    let most = args.output.max_destinations;
    let (mut fold, mut replay) = (Fold::new(most), Replay::for_format(args.output.format, most));
    let mut recordings = Recordings::of(args.senders.selection());
    for input in inputs {
        recordings.read(input, |line| {
            add(&mut fold, memory, line);
            if let (Some(replay), Line::Connection(connection)) = (&mut replay, line) {
                replay.add(connection);
            }
        })?;
    }
    Ok((fold, recordings.context(hdr), replay))
}

/// Passes the lines of the recordings on. Only where `--fail-on` is given is there a report to look at.
fn copy(
    args: &ReportArgs,
    inputs: &[Input],
    by: Grouping,
    output: Output,
    memory: &mut Memory,
) -> Result<Status> {
    let name = output.name();
    let mut writer = Writer::plain(output.into_inner());
    let mut fold = args.fail_on.is_given().then(|| Fold::new(args.output.max_destinations));
    let mut recordings = Recordings::of(args.senders.selection());
    for input in inputs {
        let mut result: io::Result<()> = Ok(());
        recordings.read(input, |line| {
            if result.is_ok() {
                result = writer.line(line);
            }
            if let Some(fold) = &mut fold {
                add(fold, memory, line);
            }
        })?;
        closed_pipe_is_fine(result).with_context(|| format!("cannot write to {name}"))?;
    }
    closed_pipe_is_fine(writer.flush()).with_context(|| format!("cannot write to {name}"))?;
    let report = fold.map(|fold| Report::new(&fold, by, recordings.context(false)));
    Ok(report.map_or(Status::Done, |report| args.fail_on.status(&report)))
}

/// Writes the log of intervals. Only where `--fail-on` is given is there a report to look at.
fn log(
    args: &ReportArgs,
    inputs: &[Input],
    by: Grouping,
    output: Output,
    memory: &mut Memory,
) -> Result<Status> {
    let name = output.name();
    let mut log = args.output.log(args.interval, by, output);
    let mut fold = args.fail_on.is_given().then(|| Fold::new(args.output.max_destinations));
    let mut recordings = Recordings::of(args.senders.selection());
    // Memory may force the log to begin before the last file does.
    inputs.iter().filter_map(recording::start).for_each(|start| log.begin(start));
    let mut result: io::Result<()> = Ok(());
    for input in inputs {
        recordings.read(input, |line| {
            match line {
                Line::Header(header) => log.begin(header.start),
                Line::Connection(connection) if result.is_ok() => result = log.add(connection),
                _ => {}
            }
            if let Some(fold) = &mut fold {
                add(fold, memory, line);
            }
        })?;
    }
    let context = recordings.context(false);
    let written = result.and_then(|()| log.finish(context.end));
    closed_pipe_is_fine(written).with_context(|| format!("cannot write to {name}"))?;
    let report = fold.map(|fold| Report::new(&fold, by, context));
    Ok(report.map_or(Status::Done, |report| args.fail_on.status(&report)))
}

/// Writes what the recordings say as metrics. Only where `--fail-on` is given is there a report to look at.
fn metrics(
    args: &ReportArgs,
    inputs: &[Input],
    by: Grouping,
    dialect: Dialect,
    output: Output,
    memory: &mut Memory,
) -> Result<Status> {
    let mut fold = Fold::new(args.output.max_destinations);
    let mut steady = SteadyFold::new(by, args.output.metrics_destinations);
    let mut recordings = Recordings::of(args.senders.selection());
    for input in inputs {
        recordings.read(input, |line| {
            add(&mut fold, memory, line);
            if let Line::Connection(connection) = line {
                steady.add(connection, fold.usual_host(connection.dst));
            }
        })?;
    }
    let context = recordings.context(false);
    let exposition = Exposition::new(
        &steady,
        &About {
            version: &context.version,
            hosts: &context.hosts,
            group_by: by.by,
            start: context.start,
            duration_s: context.end.micros_since(context.start) as f64 / 1e6,
            trust: &context.trust,
            open: None,
            named: steady.named(),
            replaced: steady.replaced(),
            limit: steady.limit(),
            own: Own::default(),
        },
    );
    output.text(&exposition.text(dialect))?;
    if !args.fail_on.is_given() {
        return Ok(Status::Done);
    }
    Ok(args.fail_on.status(&Report::new(&fold, by, context)))
}

fn add(fold: &mut Fold, memory: &mut Memory, line: &Line) {
    if let Line::Connection(connection) = line {
        fold.add(connection);
        memory.added(fold);
    }
}

/// What several recordings say about themselves, taken together.
#[derive(Default)]
pub(crate) struct Recordings {
    hosts: BTreeSet<String>,
    versions: BTreeSet<String>,
    start: Option<Utc>,
    end: Option<Utc>,
    filters: Vec<Filters>,
    hooks: BTreeMap<String, HookStatus>,
    trust: Trust,
    files: u64,
    /// Senders that are wanted.
    selection: Selection,
    left_out: LeftOut,
}

impl Recordings {
    /// Recordings of which only the connections of these senders are taken.
    pub(crate) fn of(selection: Selection) -> Self {
        Self { selection, ..Self::default() }
    }

    /// Reads a recording and hands each line over.
    pub(crate) fn read(&mut self, input: &Input, mut each: impl FnMut(&Line)) -> Result<()> {
        let mut finished = false;
        let before = self.left_out;
        let found = recording::read(input, |line| {
            if !self.narrows(line, before) {
                return;
            }
            each(line);
            match line {
                Line::Header(header) => self.header((**header).clone()),
                Line::Connection(connection) => {
                    self.span(connection.start, connection.end());
                    if !self.hosts.contains(&connection.host) {
                        self.hosts.insert(connection.host.clone());
                    }
                }
                // So that the duration is what has passed.
                Line::Clock(step) => {
                    self.start = self.start.map(|start| start.stepped(step.step_us));
                }
                Line::Trailer(trailer) => {
                    finished = true;
                    self.trailer((**trailer).clone());
                }
            }
        })?;
        self.files += 1;
        self.trust.unreadable_lines += found.unreadable;
        self.trust.unfinished_recordings += u64::from(!finished);
        Ok(())
    }

    /// Has `line` say what is left of its recording, of which all but `before` were left out. Returns
    /// whether the line itself is.
    fn narrows(&mut self, line: &mut Line, before: LeftOut) -> bool {
        match line {
            Line::Connection(connection) => {
                let wanted = self.selection.selects(connection.cgroup_path.as_deref());
                return self.left_out.passes(wanted);
            }
            Line::Header(header) => header.filters.narrow(&self.selection),
            Line::Clock(_) => {}
            Line::Trailer(trailer) => {
                let left_out = self.left_out.all() - before.all();
                trailer.connections = trailer.connections.saturating_sub(left_out);
            }
        }
        true
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
        sum.over_quota += one.over_quota;
        sum.undecodable += one.undecodable;
        sum.clock_steps += one.clock_steps;
        sum.not_recorded += one.not_recorded;
        let lost = one.connections_lost;
        sum.connections_lost = match (sum.connections_lost, lost) {
            (Some(sum), Some(lost)) => Some(sum + lost),
            (None, lost) if self.files == 0 => lost,
            _ => None,
        };
        sum.overhead.user_cpu_us = sum_of_known(sum.overhead.user_cpu_us, one.overhead.user_cpu_us);
        sum.overhead.kernel_cpu_us =
            sum_of_known(sum.overhead.kernel_cpu_us, one.overhead.kernel_cpu_us);
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
            known.run_count = sum_of_known(known.run_count, hook.run_count);
            known.run_time_ns = sum_of_known(known.run_time_ns, hook.run_time_ns);
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

    /// What they say besides their connections.
    pub(crate) fn context(mut self, hdr: bool) -> Context {
        if self.left_out.unknown > 0 {
            say(Level::Warning, &self.left_out.to_string());
        }
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
            hdr,
        }
    }
}

/// The sum; unknown only if both are.
fn sum_of_known(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}
