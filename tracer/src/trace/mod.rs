//! A live trace: set up, loop until told to stop, finish.

mod alarm;
mod announce;
mod privileges;
mod settings;
mod show;
mod signals;
mod takers;

use std::{iter::Empty, net::IpAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::Instant,
};
use tracer_analysis::{
    connection::{Clock, Context, SCHEMA, Table},
    destination::{Fold, Grouping},
    recording::{ClockStep, Header, Line, Overhead, Trailer, Trust},
    report::{Context as ReportContext, Listed, Report},
    utc::Utc,
};

use alarm::Alarm;
use announce::{
    announce, announce_absent, announce_clock_step, announce_left_out, announce_library,
};
use privileges::{Beside, give_up_privileges, start_beside};
use settings::{filters, settings};
use signals::Signals;
use takers::Takers;

use crate::{
    cli::TraceArgs,
    clock,
    kernel::Kernel,
    live::{self, Asked, Live},
    memory::Memory,
    metrics::Metrics,
    names,
    outlets::Outlets,
    probe::{
        Settings,
        preflight::{Machine, Severity, is_in_pid_namespace_of_host},
    },
    replay::Replay,
    self_check,
    sink::openmetrics::Exposition,
    status::Status,
};

/// Polling period while records come in. Waking costs more than records do, so the kernel side wakes
/// nobody unless its buffer fills.
const BUSY: Duration = Duration::from_millis(100);

/// Polling period after a while of silence.
const QUIET: Duration = Duration::from_secs(1);

/// Memory that a trace may take, in bytes, if nothing else is asked for: half of what the unit of systemd allows.
const MEMORY: u64 = 256_000_000;

/// Runs a trace until it is told to stop.
pub(crate) fn run(args: &TraceArgs) -> Result<Status> {
    let report = run_beside(args, || Ok(()), || false)?;
    Ok(args.fail_on.status(&report))
}

/// Runs a trace of something that begins with it, by `begin` when the hooks are attached, and that may end
/// by itself. Returns the report, which is written already.
pub(crate) fn run_beside(
    args: &TraceArgs,
    begin: impl FnOnce() -> Result<()>,
    has_ended: impl Fn() -> bool,
) -> Result<Report> {
    args.output.grouping()?; // before anything is opened
    preflight(args.hook.btf.as_deref())?;
    if !args.pid.is_empty() && !is_in_pid_namespace_of_host() {
        bail!(
            "cannot select by --pid: smtptrace runs in a pid namespace (a container?), and the kernel counts \
             processes from the host's; start the container with --pid=host, or select by --comm, --uid, \
             --cgroup or --unit"
        );
    }
    let clock = clock::measure()?;
    let mut outlets = Outlets::open(args, clock.utc(clock::boot_ns()?))?;
    let Beside { user, attacher } = start_beside(args, &mut outlets)?;
    // It has no other thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    // From here on a SIGHUP of logrotate, for one, ends nothing.
    let signals = Signals::listen(&runtime)?;
    let metrics = Metrics::open(args)?;
    let memory = Memory::open(args.output.memory(MEMORY));
    let settings = settings(args);
    self_check::check(&settings)?;
    let kernel = Kernel::start(&settings, args.measure_overhead, attacher)?;
    give_up_privileges(args, &kernel, &outlets, user)?;
    let mut trace =
        Trace::new(args, &settings, clock, Outputs { outlets, metrics, memory }, kernel)?;
    begin()?;
    trace.kernel.forget_start();
    runtime.block_on(trace.follow(args, signals, has_ended))?;
    trace.finish(args)
}

/// Refuses what cannot be traced here, and says why. `btf`: a file with the types of the kernel.
pub(crate) fn preflight(btf: Option<&Path>) -> Result<()> {
    for finding in Machine::read(btf).findings() {
        if finding.severity == Severity::Fatal {
            bail!("{}: {}\n{}", finding.subject, finding.found, finding.remedy);
        }
    }
    Ok(())
}

/// What was opened before privileges were given up.
struct Outputs {
    outlets: Outlets,
    metrics: Option<Metrics>,
    memory: Memory,
}

/// A trace under way.
struct Trace {
    kernel: Kernel,
    table: Table,
    takers: Takers,
    grouping: Grouping,
    header: Header,
    /// CPU time spent before tracing began.
    start_cpu_us: u64,
    /// By which the times of records are told.
    clock: Clock,
    /// Times that the wall clock was set.
    clock_steps: u64,
}

impl Trace {
    fn new(
        args: &TraceArgs,
        settings: &Settings,
        clock: Clock,
        outputs: Outputs,
        kernel: Kernel,
    ) -> Result<Self> {
        let Outputs { mut outlets, metrics, memory } = outputs;
        let host = file_line("/proc/sys/kernel/hostname");
        let header = Header {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            host: host.clone(),
            kernel: file_line("/proc/sys/kernel/osrelease"),
            start: clock.utc(clock::boot_ns()?),
            hooks: kernel.hooks().to_vec(),
            filters: filters(settings),
        };
        announce(&header);
        announce_absent(&kernel.absent_senders());
        let live = Live::start(args, &header)?;
        outlets.begin(&header)?;
        let mut table = Table::new(Context { host, clock }, args.max_connections as usize);
        if live.is_some() {
            table.keep_turns();
        }
        let takers = Takers {
            fold: Fold::new(args.output.max_destinations),
            memory,
            replay: Replay::for_format(args.output.format, args.output.max_destinations),
            metrics,
            live,
            outlets,
            connections: 0,
        };
        let grouping = args.output.grouping()?;
        let start_cpu_us = own_cpu_us().unwrap_or(0);
        Ok(Self { kernel, table, takers, grouping, header, start_cpu_us, clock, clock_steps: 0 })
    }

    /// Follows the kernel until a signal, the end of `duration`, or an outlet that fails.
    async fn follow(
        &mut self,
        args: &TraceArgs,
        mut signals: Signals,
        has_ended: impl Fn() -> bool,
    ) -> Result<()> {
        let wake_up = self.kernel.wake_up()?;
        // SAFETY: an `OwnedFd` keeps its descriptor, and its descriptor open, until it is dropped.
        let readable = unsafe { AsyncFd::register_with_interest(wake_up, Interest::READABLE) }
            .context("cannot poll the ring buffer")?;
        // A duration beyond any clock is forever.
        let end = args.duration.and_then(|duration| Instant::now().checked_add(duration));
        self.takers.metrics.as_mut().map_or(Ok(()), Metrics::serve)?;
        let mut period = BUSY;
        let alarm = Alarm::new()?;
        while !self.takers.outlets.failed()
            && !has_ended()
            && end.is_none_or(|end| Instant::now() < end)
        {
            let left = end.map_or(period, |end| end.saturating_duration_since(Instant::now()));
            alarm.set(period.min(left))?;
            let mut reopen = false;
            tokio::select! {
                asked = signals.asked() => match asked {
                    signals::Asked::End => break,
                    signals::Asked::Reopen => reopen = true,
                },
                guard = readable.readable() => guard?.clear_ready(),
                asked = live::asked(&mut self.takers.live) => if asked == Asked::End { break },
                () = Metrics::due(self.takers.metrics.as_mut()) => {}
                rung = alarm.rung() => rung?,
            }
            self.look_at_clock()?;
            period = if self.drain() > 0 { BUSY } else { (period * 2).min(QUIET) };
            if self.show(args)? == Asked::End {
                break;
            }
            if reopen || self.takers.outlets.rotation_is_due() {
                self.next_piece(reopen)?;
            }
            self.publish_metrics()?;
        }
        Ok(())
    }

    /// Looks whether the wall clock was set. If so, times are told by it from now on, and the recording says so.
    fn look_at_clock(&mut self) -> Result<()> {
        let Some(clock) = clock::stepped(self.clock)? else { return Ok(()) };
        let step_ns = clock.utc_minus_boot_ns - self.clock.utc_minus_boot_ns;
        let step = i64::try_from(step_ns / 1_000).unwrap_or(i64::MAX);
        (self.clock, self.clock_steps) = (clock, self.clock_steps + 1);
        self.table.set_clock(clock);
        // So that the duration of the trace is what has passed.
        self.header.start = self.header.start.stepped(step);
        let step = ClockStep {
            schema: SCHEMA,
            host: self.header.host.clone(),
            time: self.table.utc(clock::boot_ns()?),
            step_us: step,
        };
        announce_clock_step(&step);
        self.takers.outlets.line(&Line::Clock(Box::new(step)));
        Ok(())
    }

    /// Takes what waits in the kernel. Returns the number of records.
    fn drain(&mut self) -> usize {
        let before = clock::boot_ns().map(|now_ns| self.table.utc(now_ns));
        let Self { kernel, table, takers, .. } = self;
        let taken = kernel.drain(table, |connection| takers.take(connection));
        if let Ok(before) = before {
            takers.outlets.intervals_over(before);
        }
        takers.outlets.flush();
        for library in self.kernel.find_tls_libraries() {
            announce_library(&library);
        }
        taken
    }

    /// Brings the metrics up to date if somebody waits for them.
    fn publish_metrics(&mut self) -> Result<()> {
        if !self.takers.metrics.as_ref().is_some_and(Metrics::is_due) {
            return Ok(());
        }
        let now = self.table.utc(clock::boot_ns()?);
        let trust = self.trust()?;
        if let Some(metrics) = &mut self.takers.metrics {
            metrics.recording(self.takers.outlets.recording_state());
            let open = Some(self.kernel.open());
            let exposition = metrics.exposition(&self.header, now, &trust, open, &self.takers.fold);
            metrics.publish(exposition);
        }
        Ok(())
    }

    /// The metrics at the end of the trace.
    fn last_metrics(&mut self, end: Utc, trust: &Trust) -> Option<Exposition> {
        let open: Option<Empty<IpAddr>> = None;
        let metrics = self.takers.metrics.as_mut()?;
        metrics.recording(self.takers.outlets.recording_state());
        Some(metrics.exposition(&self.header, end, trust, open, &self.takers.fold))
    }

    /// Ends the piece of the recording at hand, and begins the next; with `reopen`, as a signal asks for.
    fn next_piece(&mut self, reopen: bool) -> Result<()> {
        if !self.takers.outlets.is_recording() {
            return Ok(());
        }
        let now = self.table.utc(clock::boot_ns()?);
        let trust = self.trust()?;
        let trailer = self.trailer(now, trust);
        let hooks = self.kernel.hooks().to_vec();
        let header = Header { start: now, hooks, ..self.header.clone() };
        self.takers.outlets.next_piece(trailer, header, reopen);
        Ok(())
    }

    /// The trailer of the whole trace.
    fn trailer(&self, end: Utc, trust: Trust) -> Trailer {
        let (host, connections) = (self.header.host.clone(), self.takers.connections);
        Trailer { schema: SCHEMA, host, end, connections, trust }
    }

    /// Detaches, takes what is left, writes trailer and report. An outlet that failed does not keep
    /// the report from being printed.
    fn finish(mut self, args: &TraceArgs) -> Result<Report> {
        self.kernel.detach();
        self.look_at_clock()?;
        self.drain();
        let now_ns = clock::boot_ns()?;
        for connection in self.kernel.remaining(&mut self.table, now_ns) {
            self.takers.take(connection);
        }
        let end = self.table.utc(now_ns);
        let mut trust = self.trust()?;
        let trailer = self.trailer(end, trust.clone());
        self.takers.outlets.finish_recording(trailer);
        trust.not_recorded = self.not_recorded();
        self.takers.outlets.finish_log(end);
        let trailer = self.trailer(end, trust.clone());
        self.takers.outlets.streamed(&Line::Trailer(Box::new(trailer)));
        self.takers.outlets.flush();
        drop(self.takers.live.take()); // the report stays on the screen
        announce_left_out(self.kernel.left_out());
        let metrics = self.last_metrics(end, &trust);
        let most = Listed { verdicts: usize::MAX, ..args.output.listed() };
        let mut report = self.report(args, end, trust, most);
        if args.output.resolve {
            names::add(&mut report);
        }
        self.takers.outlets.finish_journal(&report);
        self.write(args, &report, metrics.as_ref())?;
        if let (Some(outlet), Some(metrics)) = (self.takers.metrics.take(), metrics) {
            outlet.finish(metrics);
        }
        self.takers.outlets.outcome()?;
        Ok(report)
    }

    /// Writes the report in the form that was asked for.
    fn write(
        &mut self,
        args: &TraceArgs,
        report: &Report,
        metrics: Option<&Exposition>,
    ) -> Result<()> {
        let Some(output) = self.takers.outlets.report.take() else { return Ok(()) };
        let format = args.output.format;
        if let (Some(dialect), Some(metrics)) = (format.dialect(), metrics) {
            return output.text(&metrics.text(dialect));
        }
        let what_if = self.takers.replay.as_ref().map(|replay| replay.answer(report));
        output.report(report, what_if.as_ref(), format, args.output.top)
    }

    /// The report as it stands while the trace goes on.
    fn report_so_far(&mut self, args: &TraceArgs) -> Result<Report> {
        let end = self.table.utc(clock::boot_ns()?);
        let trust = self.trust()?;
        Ok(self.report(args, end, trust, Listed::ALL))
    }

    fn report(&self, args: &TraceArgs, end: Utc, trust: Trust, most: Listed) -> Report {
        let context = ReportContext {
            hosts: vec![self.header.host.clone()],
            version: self.header.version.clone(),
            start: self.header.start,
            end,
            filters: Some(self.header.filters.clone()),
            trust,
            hdr: args.output.format.needs_histograms(),
        };
        Report::listing(most, &self.takers.fold, self.grouping, context)
    }

    /// Connections that are not in the recording because of its disk.
    fn not_recorded(&self) -> u64 {
        self.takers.outlets.recording_state().map_or(0, |state| state.not_recorded)
    }

    fn trust(&mut self) -> Result<Trust> {
        self.kernel.measure();
        let losses = self.kernel.losses()?;
        Ok(Trust {
            events_lost: losses.events,
            map_full: losses.map_full + self.table.full(),
            over_quota: losses.over_quota,
            undecodable: self.kernel.undecodable(),
            connections_lost: losses.connections.filter(|_| self.kernel.undecodable() == 0),
            midlife: 0, // the report counts them
            clock_steps: self.clock_steps,
            unreadable_lines: 0,
            unfinished_recordings: 0,
            not_recorded: self.not_recorded(),
            hooks: self.kernel.hooks().to_vec(),
            overhead: Overhead {
                user_cpu_us: own_cpu_us().map(|us| us.saturating_sub(self.start_cpu_us)),
                kernel_cpu_us: self
                    .kernel
                    .run_time()
                    .map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            },
        })
    }
}

/// CPU time of this process so far.
fn own_cpu_us() -> Option<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let micros = |time: TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    u64::try_from(micros(usage.user_time()) + micros(usage.system_time())).ok()
}

/// The one line of a file of the kernel; empty if it cannot be read.
fn file_line(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
