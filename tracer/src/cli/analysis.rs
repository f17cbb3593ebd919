//! Arguments of the commands that work on recordings and reports.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{ArgGroup, Args, ValueEnum};
use tracer_analysis::check::{self, Levels};

use super::{GroupBy, PrefixArgs, Severity, duration};

const WHAT_IF_NOTES: &str = "\
Each message of the recordings is given to a connection that the policy would
have left open, or to a new one. Messages come when they came and take as long
as they took. Of several idle connections the one stored first is taken, as
Postfix does. An idle gap is bridged only if the path to the destination is
known to survive it; the columns under \"if longer gaps survive\" show what more
could be saved if it survives longer ones. The policy that ran is replayed, too,
and compared with the connections observed: that says how far to trust the rest.

Examples:
  smtptrace what-if today.jsonl
  smtptrace what-if --cache-time 2s,10s,60s --max-messages 100 mx*.jsonl
  smtptrace what-if --group-by provider --format json today.jsonl

Exit status:
  0  done
  2  wrong usage, or something failed; stderr says what";

/// Replays the messages of recordings under other cache policies, and says how many connections, TLS
/// handshakes and seconds each would have saved.
#[derive(Debug, Args)]
#[command(after_help = WHAT_IF_NOTES)]
pub(crate) struct WhatIfArgs {
    /// Recordings
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// How long to keep idle connections, one policy for each time
    #[arg(long, value_name = "TIMES", value_delimiter = ',', value_parser = time)]
    #[arg(default_value = "2s,5s,10s,30s,60s,300s")]
    pub(crate) cache_time: Vec<Duration>,
    /// Messages after which a connection is not kept
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_messages: Option<u32>,
    /// Age from which on a connection is not kept
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) max_age: Option<Duration>,
    /// What makes up a destination, and so what shares connections
    #[arg(long, value_enum, default_value_t = GroupBy::Address)]
    pub(crate) group_by: GroupBy,
    #[command(flatten)]
    pub(crate) prefixes: PrefixArgs,
    /// Most destinations kept apart; messages to others are counted, not replayed
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) max_destinations: usize,
    /// Destinations shown in text
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) top: usize,
    #[command(flatten)]
    pub(crate) document: DocumentArgs,
}

const COMPARE_NOTES: &str = "\
Each side is a recording or a report in JSON. A difference is called one if
chance explains it in at most 5 % of cases, corrected for the number of rows
shown. Four connections count as one observation, because connections that come
close together are alike: small differences may go unseen, but those that are
named are real. They need not have the cause you think of.

Examples:
  smtptrace compare before.jsonl after.jsonl
  smtptrace compare monday.json tuesday.json --all
  smtptrace compare --group-by provider --format json before.jsonl after.jsonl

Exit status:
  0  done
  2  wrong usage, or something failed; stderr says what";

/// Puts two recordings or reports side by side and says which differences are more than chance.
#[derive(Debug, Args)]
#[command(after_help = COMPARE_NOTES)]
pub(crate) struct CompareArgs {
    /// Recording, or report in JSON
    #[arg(value_name = "BEFORE")]
    pub(crate) before: PathBuf,
    /// Recording, or report in JSON
    #[arg(value_name = "AFTER")]
    pub(crate) after: PathBuf,
    /// What makes up a destination [default: that of a report, else address]
    #[arg(long, value_enum)]
    pub(crate) group_by: Option<GroupBy>,
    #[command(flatten)]
    pub(crate) prefixes: PrefixArgs,
    /// Most destinations kept apart; the rest is one row, ~other
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) max_destinations: usize,
    /// Destinations compared besides the total
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) top: usize,
    /// Show all measures of each destination, not only those that differ
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) document: DocumentArgs,
}

const CHECK_NOTES: &str = "\
The first line of the output has the form that Nagios and Icinga read, with
performance data; what was crossed stands below. A level may be given twice:
  --min-reuse 50%,20%    below 50 % is a warning, below 20 % is critical
  --min-reuse 50%        below 50 % is critical
A value that is not known, and a destination that is not there, is UNKNOWN,
never OK.

Examples:
  smtptrace check --min-reuse 50% --fail-on critical today.jsonl
  smtptrace check --nagios --max-greeting-p99 5s,30s today.jsonl
  smtptrace check --each --max-dead-on-reuse 0 report.json

Exit status:
  0  nothing was crossed
  1  a threshold was crossed
  2  wrong usage, something failed, or a value is not known
With --nagios:
  0  OK    1  WARNING    2  CRITICAL    3  UNKNOWN, also for wrong usage";

/// Checks recordings or a report against thresholds.
#[derive(Debug, Args)]
#[command(after_help = CHECK_NOTES)]
#[command(override_usage = "smtptrace check [OPTIONS] <THRESHOLDS> <FILE>...")]
#[command(group = ArgGroup::new("thresholds").required(true).multiple(true))]
pub(crate) struct CheckArgs {
    /// Recordings, or one report in JSON
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Least share of messages that need no new connection, for example 50%
    #[arg(long, value_name = "SHARE", group = "thresholds")]
    pub(crate) min_reuse: Option<Shares>,
    /// Most sessions that are found dead when they are used again: a number, or a
    /// share of all that are used again after idling, for example 1%
    #[arg(long, value_name = "N|SHARE", group = "thresholds")]
    pub(crate) max_dead_on_reuse: Option<Limits>,
    /// Longest time to the greeting, 99th percentile, for example 5s
    #[arg(long, value_name = "TIME", group = "thresholds")]
    pub(crate) max_greeting_p99: Option<Times>,
    /// Verdicts of this severity or a worse one count as crossed
    #[arg(long, value_name = "SEVERITY", group = "thresholds")]
    pub(crate) fail_on: Option<Severity>,
    /// Check each destination instead of all of them together
    #[arg(long)]
    pub(crate) each: bool,
    /// Check only this destination
    #[arg(long, value_name = "KEY", conflicts_with = "each")]
    pub(crate) destination: Option<String>,
    /// With --each, leave out destinations with fewer connections
    #[arg(long, value_name = "N", default_value_t = 10, requires = "each")]
    pub(crate) min_connections: u64,
    /// Exit with the codes of monitoring plugins (0, 1, 2, 3)
    #[arg(long)]
    pub(crate) nagios: bool,
    /// What makes up a destination [default: that of a report, else address]
    #[arg(long, value_enum)]
    pub(crate) group_by: Option<GroupBy>,
    #[command(flatten)]
    pub(crate) prefixes: PrefixArgs,
    /// Most destinations kept apart; the rest is one, ~other
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) max_destinations: usize,
}

/// Form and place of a document.
#[derive(Debug, Args)]
pub(crate) struct DocumentArgs {
    /// Form of the output
    #[arg(long, value_enum, default_value_t = DocumentFormat::Text)]
    pub(crate) format: DocumentFormat,
    /// Write the output here instead of stdout
    #[arg(long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DocumentFormat {
    /// To read, 80 columns
    Text,
    /// One JSON object
    Json,
}

/// Levels of a share: `50%,20%`, or one alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shares(pub(crate) Levels<f64>);

impl FromStr for Shares {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        levels(text, share).map(Self)
    }
}

/// Levels of a time, in microseconds: `5s,30s`, or one alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Times(pub(crate) Levels<u64>);

impl FromStr for Times {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let micros = |text: &str| time(text).map(micros);
        levels(text, micros).map(Self)
    }
}

/// Levels of a count, as numbers or as shares: `3,10` or `1%,5%`, or one alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits(pub(crate) check::Limits);

impl FromStr for Limits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let limits = if text.contains('%') {
            levels(text, share).map(check::Limits::Share)
        } else {
            let count = |text: &str| text.trim().parse().map_err(|_| ());
            levels(text, count).map(check::Limits::Count).map_err(|()| String::new())
        };
        let wrong = |_| "write numbers like 3 or 3,10, or shares like 1% or 1%,5%".into();
        limits.map(Self).map_err(wrong)
    }
}

fn levels<T, E>(text: &str, one: impl Fn(&str) -> Result<T, E>) -> Result<Levels<T>, E> {
    match text.split_once(',') {
        Some((warning, critical)) => {
            Ok(Levels { warning: Some(one(warning)?), critical: one(critical)? })
        }
        None => Ok(Levels { warning: None, critical: one(text)? }),
    }
}

/// A share between 0 and 1: `50%` or `0.5`.
fn share(text: &str) -> Result<f64, String> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let share = match text.strip_suffix('%') {
        Some(percent) => number(percent).map(|percent| percent / 100.0),
        None => number(text),
    };
    let share = share.filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "write a share as 50% or 0.5".into())
}

/// In microseconds; a time beyond any clock is the longest there is.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn time(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; write 2s, 500ms or 5m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_limits() {
        assert_eq!(share("50%"), Ok(0.5));
        assert_eq!(share("0.25"), Ok(0.25));
        for wrong in ["50", "101%", "-1%", "NaN", "half", ""] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
        let count = check::Limits::Count(Levels { warning: Some(3), critical: 10 });
        assert_eq!("3,10".parse(), Ok(Limits(count)));
        let shares = check::Limits::Share(Levels { warning: None, critical: 0.025 });
        assert_eq!("2.5%".parse(), Ok(Limits(shares)));
        for wrong in ["0.5", "3,1%x", "1,2,3", "-1"] {
            assert!(wrong.parse::<Limits>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_level_is_critical() {
        let shares: Shares = "50%,20%".parse().unwrap();
        assert_eq!(shares.0, Levels { warning: Some(0.5), critical: 0.2 });
        let times: Times = "5s".parse().unwrap();
        assert_eq!(times.0, Levels { warning: None, critical: 5_000_000 });
        assert!("50%,20%,1%".parse::<Shares>().is_err());
    }

    #[test]
    fn times_may_be_zero() {
        assert_eq!(time("0"), Ok(Duration::ZERO));
        assert_eq!(time("0s"), Ok(Duration::ZERO));
        assert_eq!(time("1500ms"), Ok(Duration::from_millis(1500)));
        assert!(time("2").is_err());
    }
}
