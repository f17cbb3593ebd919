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
    input::{Input, MEMORY, confine},
    memory::Memory,
    names,
    origins::LeftOut,
    output::{Output, closed_pipe_is_fine},
    recording::{self, Found, Writer},
    replay::Replay,
    sink::openmetrics::{About, Dialect, Exposition, Own},
    status::Status,
};

/// Runs the command.
pub(crate) fn run(args: &ReportArgs) -> Result<Status> {
    let by = args.output.grouping()?;
    let output = Output::open(&args.output)?;
    let inputs = Input::open_all(&args.files)?;
    let memory = &mut confine(Some(&output), args.output.resolve)?;
    memory.limit_to(args.output.memory(MEMORY));
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
    let exposition = exposition(&steady, by, &context);
    output.text(&exposition.text(dialect))?;
    if !args.fail_on.is_given() {
        return Ok(Status::Done);
    }
    Ok(args.fail_on.status(&Report::new(&fold, by, context)))
}

/// What recordings say as metrics.
pub(crate) fn exposition(steady: &SteadyFold, by: Grouping, context: &Context) -> Exposition {
    Exposition::new(
        steady,
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
    )
}

fn add(fold: &mut Fold, memory: &mut Memory, line: &Line) {
    if let Line::Connection(connection) = line {
        fold.add(connection);
        memory.added(fold);
    }
}

/// Hosts, versions and hooks that a report lists at most.
const HOSTS: usize = 1_000;
const VERSIONS: usize = 16;
const HOOKS: usize = 1_024;

/// Texts that are different, the first `MOST` of them.
#[derive(Default)]
struct Distinct<const MOST: usize> {
    texts: BTreeSet<String>,
    /// How often there was yet another one.
    left_out: u64,
}

impl<const MOST: usize> Distinct<MOST> {
    fn add(&mut self, text: &str) {
        if self.texts.contains(text) {
        } else if self.texts.len() < MOST {
            self.texts.insert(text.to_owned());
        } else {
            self.left_out += 1;
        }
    }
}

/// Filters of several recordings, as far as they are the same.
#[derive(Default)]
enum Same {
    #[default]
    None,
    All(Box<Filters>),
    Differ,
}

impl Same {
    fn add(&mut self, filters: Filters) {
        *self = match std::mem::take(self) {
            Self::None => Self::All(Box::new(filters)),
            Self::All(known) if *known == filters => Self::All(known),
            _ => Self::Differ,
        };
    }

    fn known(self) -> Option<Filters> {
        if let Self::All(filters) = self { Some(*filters) } else { None }
    }
}

/// What several recordings say about themselves, taken together.
#[derive(Default)]
pub(crate) struct Recordings {
    hosts: Distinct<HOSTS>,
    versions: Distinct<VERSIONS>,
    /// The first and the last time of each host, by its clock as it was last; of those that are not named in `hosts`
    /// together under an empty name.
    spans: BTreeMap<String, [Utc; 2]>,
    /// Those of all, as long as they are the same.
    filters: Same,
    hooks: BTreeMap<String, HookStatus>,
    hooks_left_out: u64,
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
    pub(crate) fn read(&mut self, input: &Input, each: impl FnMut(&Line)) -> Result<()> {
        self.read_by(|each| recording::read(input, each), each)
    }

    /// The same of one that `read` reads.
    pub(crate) fn read_by(
        &mut self,
        read: impl FnOnce(&mut dyn FnMut(&mut Line)) -> Result<Found>,
        mut each: impl FnMut(&Line),
    ) -> Result<()> {
        let mut finished = false;
        let before = self.left_out;
        let found = read(&mut |line| {
            if !self.narrows(line, before) {
                return;
            }
            each(line);
            match line {
                Line::Header(header) => self.header((**header).clone()),
                Line::Connection(connection) => {
                    self.hosts.add(&connection.host);
                    self.span(&connection.host, connection.start, connection.end());
                }
                // So that the duration is what has passed on this host.
                Line::Clock(step) => {
                    if let Some(span) = self.spans.get_mut(&step.host) {
                        *span = span.map(|time| time.stepped(step.step_us));
                    }
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
        self.hosts.add(&header.host);
        self.span(&header.host, header.start, header.start);
        self.versions.add(&header.version);
        self.filters.add(header.filters);
        self.merge_hooks(header.hooks);
    }

    fn trailer(&mut self, trailer: Trailer) {
        self.span(&trailer.host, trailer.end, trailer.end);
        let (sum, one) = (&mut self.trust, trailer.trust);
        sum.add(&one);
        sum.connections_lost = match (sum.connections_lost, one.connections_lost) {
            (Some(sum), Some(lost)) => Some(sum.saturating_add(lost)),
            (None, lost) if self.files == 0 => lost,
            _ => None,
        };
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
                if self.hooks.len() < HOOKS {
                    self.hooks.insert(hook.hook.clone(), hook);
                } else {
                    self.hooks_left_out = self.hooks_left_out.saturating_add(1);
                }
                continue;
            };
            known.add(&hook);
            if badness(hook.state) > badness(known.state) {
                (known.state, known.program, known.reason) =
                    (hook.state, hook.program, hook.reason);
            }
        }
    }

    fn span(&mut self, host: &str, from: Utc, to: Utc) {
        let host = if self.hosts.texts.contains(host) { host } else { "" };
        match self.spans.get_mut(host) {
            Some([start, end]) => (*start, *end) = ((*start).min(from), (*end).max(to)),
            None => {
                self.spans.insert(host.to_owned(), [from, to]);
            }
        }
    }

    /// What they say besides their connections.
    pub(crate) fn context(mut self, hdr: bool) -> Context {
        if self.left_out.unknown > 0 {
            say(Level::Warning, &self.left_out.to_string());
        }
        for (left_out, of, most) in [
            (self.hosts.left_out, "hosts", HOSTS),
            (self.versions.left_out, "versions of smtptrace", VERSIONS),
            (self.hooks_left_out, "hooks", HOOKS),
        ] {
            if left_out > 0 {
                say(
                    Level::Warning,
                    &format!(
                        "left out: {left_out} times a recording named {of} beyond the first {most}; the \
                         report does not list them, and counts all else"
                    ),
                );
            }
        }
        if self.trust.unfinished_recordings > 0 {
            self.trust.connections_lost = None; // their counters were never written
        }
        self.trust.hooks = self.hooks.into_values().collect();
        let epoch = Utc::from_micros(0);
        Context {
            hosts: self.hosts.texts.into_iter().collect(),
            version: self.versions.texts.into_iter().collect::<Vec<_>>().join(", "),
            start: self.spans.values().map(|[start, _]| *start).min().unwrap_or(epoch),
            end: self.spans.values().map(|[_, end]| *end).max().unwrap_or(epoch),
            filters: self.filters.known(),
            trust: self.trust,
            hdr,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two hosts trace for a minute; the clock of one is set within it. The report is of a minute.
    #[test]
    fn a_clock_that_is_set_moves_the_times_of_its_own_host() {
        const MINUTE: i64 = 60_000_000;
        let span = |step: i64, first_host: usize| {
            let mut text = Vec::new();
            let mut recordings = Recordings::default();
            let hosts = ["mx1", "mx2"];
            for host in [hosts[first_host], hosts[1 - first_host]] {
                let step = if host == "mx2" { step } else { 0 };
                let line = |kind: &str, field: &str, at: i64, more: &str| {
                    let time = Utc::from_micros(1_000 * MINUTE + at);
                    format!(
                        "{{\"kind\":\"{kind}\",\"schema\":1,\"host\":\"{host}\",\"{field}\":\"{time}\"{more}}}\n"
                    )
                };
                let header = ",\"version\":\"0\",\"kernel\":\"6\",\"hooks\":[],\"filters\":{}";
                let trailer = ",\"connections\":0,\"trust\":{}";
                text.clear();
                text.extend(line("header", "start", 0, header).bytes());
                if step != 0 {
                    let more = format!(",\"step_us\":{step}");
                    text.extend(line("clock", "time", MINUTE / 2 + step, &more).bytes());
                }
                text.extend(line("trailer", "end", MINUTE + step, trailer).bytes());
                recordings.read_by(|each| recording::read_bytes(&text[..], each), |_| ()).unwrap();
            }
            let context = recordings.context(false);
            (context.start, context.end.micros_since(context.start))
        };
        let plain = span(0, 0);
        assert_eq!(plain.1, 60_000_000);
        for first in [0, 1] {
            // Within a second, so that the hosts still overlap.
            for step in [900_000, -900_000] {
                let (_, duration) = span(step, first);
                assert_eq!(duration, 60_900_000, "{step}, {first}");
            }
        }
    }

    #[test]
    fn sums_of_what_files_claim_saturate() {
        let hook = HookStatus {
            events_lost: u64::MAX,
            map_full: u64::MAX,
            run_count: Some(u64::MAX),
            ..HookStatus::attached("h", "f")
        };
        let mut trust = Trust {
            events_lost: u64::MAX,
            map_full: 1,
            undecodable: u64::MAX,
            connections_lost: Some(u64::MAX),
            hooks: vec![hook],
            ..Trust::default()
        };
        trust.overhead.user_cpu_us = Some(u64::MAX);
        let host = "mx".to_owned();
        let end = Utc::from_micros(0);
        let trailer = Trailer { schema: 1, host, end, connections: 0, trust: trust.clone() };
        let mut recordings = Recordings::default();
        for files in 0..3 {
            recordings.files = files;
            recordings.trailer(trailer.clone());
        }
        let sum = recordings.context(false).trust;
        assert_eq!((sum.events_lost, sum.map_full, sum.undecodable), (u64::MAX, 3, u64::MAX));
        assert_eq!((sum.connections_lost, sum.overhead), (Some(u64::MAX), trust.overhead));
        assert_eq!(sum.hooks, trust.hooks);
    }
}
