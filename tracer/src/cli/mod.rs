//! The command line.

mod analysis;
mod demo;
mod grouping;
mod hooks;
mod metrics;
mod recording;
mod selector;
mod senders;
mod values;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use tracer_analysis::{destination::Grouping, report::Listed};

pub(crate) use analysis::{CheckArgs, CompareArgs, DocumentFormat, WhatIfArgs, micros};
pub(crate) use demo::DemoArgs;
pub(crate) use grouping::{GroupBy, PrefixArgs, WrongPrefix};
pub(crate) use hooks::HookArgs;
pub(crate) use metrics::MetricsArgs;
pub(crate) use recording::RecordingArgs;
pub(crate) use selector::{CgroupSelector, NetnsSelector};
pub(crate) use senders::SenderArgs;
use values::{duration, interval};

use crate::{privilege::UserSelector, probe::seed::SeedBy, sink::verdict_text};

const EXAMPLES: &str = "\
Examples:
  smtptrace                                     trace port 25 until Ctrl-C, then report
  smtptrace --dport 25,465,587 --duration 10m --record today.jsonl
  smtptrace report --group-by provider mx1.jsonl mx2.jsonl
  smtptrace what-if --cache-time 2s,30s today.jsonl
  smtptrace compare yesterday.jsonl today.jsonl
  smtptrace check --nagios --min-reuse 50% today.jsonl
  smtptrace --dport 2525 --include-loopback --format jsonl | jq .end_cause
  smtptrace demo                                see it work, in half a minute
  smtptrace doctor                              what works on this machine

Exit status:
  0  done; also when the reader of the output went away
  1  a threshold was crossed (check, --fail-on)
  2  wrong usage, or something failed; stderr says what";

/// Traces outbound SMTP connections in the kernel and reports, per destination, what they cost, how
/// they lived and how they ended.
#[derive(Debug, Parser)]
#[command(name = "smtptrace", version, after_help = EXAMPLES, max_term_width = 80)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) trace: TraceArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Report on recordings, of one or of many hosts
    Report(ReportArgs),
    /// Replay recordings as if connections had been kept longer, or shorter
    WhatIf(WhatIfArgs),
    /// Say what differs between two recordings or reports beyond chance
    Compare(CompareArgs),
    /// Check recordings or a report against thresholds, also for Nagios and Icinga
    Check(CheckArgs),
    /// See it work: mail servers, a firewall and a client of its own, traced for
    /// half a minute; needs root and nothing else
    Demo(DemoArgs),
    /// Say what works on this machine, hook by hook, and what to do about the rest
    Doctor(HookArgs),
    /// Make the manual pages or the completions of a shell from this command line
    Generate(GenerateArgs),
}

/// What to make.
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    #[command(subcommand)]
    pub(crate) what: Generate,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Generate {
    /// Manual pages, one for each command: smtptrace.1, smtptrace-report.1, ...
    Man {
        /// Where to put them; it is made if it is not there
        #[arg(value_name = "DIRECTORY")]
        directory: PathBuf,
    },
    /// Completions of a shell, on stdout
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// What to trace, and for how long.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct TraceArgs {
    /// Destination ports
    #[arg(long, value_name = "PORTS", value_delimiter = ',', default_value = "25")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) dport: Vec<u16>,
    /// Only destinations in this network (repeatable)
    #[arg(long, value_name = "CIDR", value_parser = network)]
    pub(crate) dest: Vec<IpNet>,
    /// Only connections opened by this process (repeatable)
    #[arg(long)]
    pub(crate) pid: Vec<u32>,
    /// Only connections opened by this user id (repeatable)
    #[arg(long)]
    pub(crate) uid: Vec<u32>,
    /// Only connections opened by processes of this command name (repeatable)
    #[arg(long, value_name = "NAME", value_parser = command_name)]
    pub(crate) comm: Vec<String>,
    /// Only this network namespace: a name of `ip netns`, a path, or an inode
    /// number (repeatable)
    #[arg(long, value_name = "NETNS")]
    pub(crate) netns: Vec<NetnsSelector>,
    /// Only this cgroup (v2) and those below it: a path or an id (repeatable)
    #[arg(long, value_name = "CGROUP")]
    pub(crate) cgroup: Vec<CgroupSelector>,
    #[command(flatten)]
    pub(crate) senders: SenderArgs,
    /// Trace loopback destinations too (content filters, local relays)
    #[arg(long)]
    pub(crate) include_loopback: bool,
    /// Never read what servers send; codes and host names are then unknown
    #[arg(long)]
    pub(crate) no_replies: bool,
    /// Count messages under TLS exactly, by probes on the read side of OpenSSL and
    /// GnuTLS; costs every process some 10 us per TLS read
    #[arg(long, conflicts_with = "no_replies")]
    pub(crate) tls_probes: bool,
    /// Probe this library from the start (repeatable); without it, those that
    /// processes with traced connections are found to use
    #[arg(long, value_name = "PATH", requires = "tls_probes")]
    pub(crate) tls_library: Vec<PathBuf>,
    /// Find open connections in this way only; for tests
    #[arg(long, value_name = "ITERATOR", hide = true)]
    pub(crate) seed_by: Option<SeedBy>,
    /// As whom to go on when everything is attached and open, if root starts it: a
    /// name, UID or UID:GID; root to stay. Without it, smtptrace if there is such a
    /// user, or nobody
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<UserSelector>,
    /// Stop after this time, for example 90s, 10m, 1h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// Write the recording here, one JSON line per connection, as they end;
    /// compressed if the name ends in .zst. SIGHUP opens it again, for logrotate
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) recording: RecordingArgs,
    /// Tell the systemd journal of connections that die, fail or are turned away,
    /// and of the verdicts at the end
    #[arg(long)]
    pub(crate) journal: bool,
    /// Another socket than that of the journal
    #[arg(long, value_name = "PATH", hide = true, requires = "journal")]
    #[arg(default_value = crate::journal::SOCKET)]
    pub(crate) journal_socket: PathBuf,
    /// Time after which output that goes on while tracing is brought up to date;
    /// the length of an interval of --format hlog
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "10s")]
    pub(crate) interval: Duration,
    /// No live view, although this is a terminal
    #[arg(long)]
    pub(crate) no_tui: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) metrics: MetricsArgs,
    #[command(flatten)]
    pub(crate) hook: HookArgs,
    /// Size of the ring buffer; rounded up to a power of two of pages
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(4096..=1 << 30))]
    pub(crate) ring_size: u32,
    /// Most connections traced at the same time; 0.7 kB of kernel memory each
    #[arg(long, value_name = "N", default_value_t = 65_536)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    pub(crate) max_connections: u32,
    /// Let the kernel measure the time spent in BPF programs (costs a little, for
    /// every BPF program on this machine)
    #[arg(long)]
    pub(crate) measure_overhead: bool,
    #[command(flatten)]
    pub(crate) fail_on: FailOn,
}

/// Which recordings to report on.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Recordings, plain or .zst; - for stdin
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) senders: SenderArgs,
    /// Length of an interval of --format hlog
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "10s")]
    pub(crate) interval: Duration,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) fail_on: FailOn,
}

/// Which verdicts make the exit status 1.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct FailOn {
    /// Exit with status 1 if there is a verdict of this severity or a worse
    /// one
    #[arg(long, value_name = "SEVERITY")]
    pub(crate) fail_on: Option<Severity>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Severity {
    /// Worth knowing
    Info,
    /// Mail is delayed, or some of it is refused
    Warning,
    /// Most mail is refused, or every delivery loses time
    Critical,
}

impl From<Severity> for tracer_analysis::verdict::Severity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Info,
            Severity::Warning => Self::Warning,
            Severity::Critical => Self::Critical,
        }
    }
}

/// What to print, and where.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Write the output here instead of stdout; a directory for hgrm
    #[arg(long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// What makes up a destination
    #[arg(long, value_enum, default_value_t = GroupBy::Address)]
    pub(crate) group_by: GroupBy,
    #[command(flatten)]
    pub(crate) prefixes: PrefixArgs,
    /// Ask for the names of addresses (PTR) when the report is made; this sends
    /// queries, which tell others to whom this host sends mail
    #[arg(long)]
    pub(crate) resolve: bool,
    /// Most destinations kept apart, the busiest; the rest is one row, ~other
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) max_destinations: usize,
    /// Memory that may be in use, with k, M or G: if it is more, fewer
    /// destinations are kept apart, the busiest
    /// [default: 256M while tracing, 1G for recordings]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub(crate) memory: Option<u64>,
    /// Most destinations with metrics of their own, the busiest; the rest is
    /// ~other
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) metrics_destinations: usize,
    /// Destinations shown in the text report, and with charts in HTML
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) top: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A report to read, 80 columns
    Text,
    /// The report as one JSON object
    Json,
    /// The recording: one JSON object per connection, as they end
    Jsonl,
    /// The report as a table, one row per destination
    Csv,
    /// The histograms as an `HdrHistogram` log, interval by interval
    Hlog,
    /// Histograms as percentile text, one file each below --output
    Hgrm,
    /// The report as one HTML file with charts, for a browser or to print
    Html,
    /// Metrics as `OpenMetrics` text
    Openmetrics,
    /// Metrics as Prometheus text, which the textfile collector of `node_exporter` reads
    Prometheus,
}

impl OutputArgs {
    /// How destinations are made.
    pub(crate) fn grouping(&self) -> Result<Grouping, WrongPrefix> {
        self.prefixes.grouping(self.group_by)
    }

    /// Memory that may be in use before the report is made, in bytes; `default` if nothing is asked for. A report with the
    /// histograms of all destinations takes up to five times as much as what it is made of.
    pub(crate) fn memory(&self, default: u64) -> u64 {
        let whole = self.memory.unwrap_or(default);
        if self.format.needs_histograms() { whole / 6 } else { whole }
    }

    /// What of a report will be shown.
    pub(crate) fn listed(&self) -> Listed {
        match self.format {
            Format::Text => Listed { destinations: self.top, verdicts: verdict_text::LISTED },
            _ => Listed::ALL,
        }
    }
}

impl Format {
    /// Whether the report must hold the histograms themselves, and the course over time.
    pub(crate) fn needs_histograms(self) -> bool {
        matches!(self, Self::Json | Self::Hgrm | Self::Html)
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let single = || text.parse::<IpAddr>().map(IpNet::from);
    let net = text.parse::<IpNet>().or_else(|_| single());
    net.map(|net| net.trunc()).map_err(|_| "not an address or a network like 192.0.2.0/24".into())
}

/// The kernel keeps 15 bytes of a command name; more would never match.
fn command_name(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("empty".into()),
        1..=15 => Ok(text.into()),
        _ => {
            Err(format!("longer than the 15 bytes that the kernel keeps; try {:?}", cut(text, 15)))
        }
    }
}

fn cut(text: &str, len: usize) -> &str {
    let end = (0..=len).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_fits_80_columns() {
        let mut all = Cli::command();
        all.build(); // hands the width down
        for command in std::iter::once(&all).chain(all.get_subcommands()) {
            let help = command.clone().render_long_help().to_string();
            let wide = help.lines().find(|line| line.chars().count() > 80);
            assert_eq!(wide, None, "in the help of {}", command.get_name());
        }
    }

    #[test]
    fn bad_values_are_refused() {
        for args in [
            ["--dport", "smtp"],
            ["--dport", "0"],
            ["--dest", "192.0.2.0/33"],
            ["--duration", "0s"],
            ["--duration", "soon"],
            ["--interval", "99ms"],
            ["--comm", "sixteen-bytes-xx"],
            ["--group-by", "colour"],
            ["--hooks", "all"],
            ["--rotate-size", "5M"], // nothing is recorded
            ["--on-record-error", "shrug"],
        ] {
            assert!(Cli::try_parse_from(["smtptrace"].iter().chain(&args)).is_err(), "{args:?}");
        }
    }

    #[test]
    fn lists_and_addresses() {
        let args =
            ["smtptrace", "--dport", "25,465", "--dest", "2001:db8::1", "--dest", "10.1.2.3/8"];
        let cli = Cli::try_parse_from(args).unwrap();
        assert_eq!(cli.trace.dport, [25, 465]);
        let dest: Vec<String> = cli.trace.dest.iter().map(ToString::to_string).collect();
        assert_eq!(dest, ["2001:db8::1/128", "10.0.0.0/8"]);
    }
}
