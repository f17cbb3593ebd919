//! Lines of a recording: a header, connections, a trailer. JSON Lines, one object per line.

mod bounds;

use serde::{Deserialize, Serialize};

use crate::{
    connection::{Connection, SCHEMA},
    own_json,
    selection::Selection,
    utc::Utc,
};

/// Whether a hook is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum HookState {
    /// On the best kind of hook for its fact.
    Attached,
    /// On a second choice.
    Fallback,
    /// Not attached: the fact is missing from the records.
    Unavailable,
}

/// One hook: what it records and whether it is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HookStatus {
    /// Kernel symbol or tracepoint, for example `tcp_probe`.
    pub hook: String,
    /// The fact it records.
    pub fact: String,
    /// Whether it is attached.
    pub state: HookState,
    /// Kind of program attached (`tp_btf`, `fentry`, `kprobe`); `None` if unavailable.
    pub program: Option<String>,
    /// Why it is a fallback or unavailable.
    pub reason: Option<String>,
    /// Records of this hook that the kernel could not hand over.
    #[serde(default)]
    pub events_lost: u64,
    /// Times this hook found a map full.
    #[serde(default)]
    pub map_full: u64,
    /// Runs of the program, if the kernel measured them (`kernel.bpf_stats_enabled`).
    #[serde(default)]
    pub run_count: Option<u64>,
    /// Nanoseconds spent in the program, if the kernel measured them.
    #[serde(default)]
    pub run_time_ns: Option<u64>,
}

/// First line: where, when and how the recording was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Header {
    /// Schema number.
    pub schema: u32,
    /// Version of smtptrace.
    pub version: String,
    /// Host name.
    pub host: String,
    /// Kernel release.
    pub kernel: String,
    /// When the hooks were attached.
    pub start: Utc,
    /// Hooks and their status at start.
    pub hooks: Vec<HookStatus>,
    /// Filters in force.
    pub filters: Filters,
}

/// The filters of a trace, in the words of the command line.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Filters {
    /// Destination ports.
    pub dport: Vec<u16>,
    /// Destination networks (CIDR).
    pub dest: Vec<String>,
    /// Process ids.
    pub pid: Vec<u32>,
    /// User ids.
    pub uid: Vec<u32>,
    /// Command names.
    pub comm: Vec<String>,
    /// Network namespaces (inode numbers).
    pub netns: Vec<u32>,
    /// Cgroup v2 ids.
    pub cgroup: Vec<u64>,
    /// Systemd units, by name or pattern. What is of others is traced, and not recorded.
    pub unit: Vec<String>,
    /// Containers, by name, pattern or the begin of an id; as with units.
    pub container: Vec<String>,
    /// Whether loopback destinations are traced.
    pub include_loopback: bool,
    /// Whether server replies are read.
    pub replies: bool,
    /// Whether TLS libraries are probed.
    pub tls_probes: bool,
}

impl Filters {
    /// Has the filters say that only these senders are left.
    pub fn narrow(&mut self, selection: &Selection) {
        if !selection.units.is_empty() {
            self.unit = selection.units.iter().map(ToString::to_string).collect();
        }
        if !selection.containers.is_empty() {
            self.container = selection.containers.iter().map(ToString::to_string).collect();
        }
    }
}

/// What smtptrace itself cost.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Overhead {
    /// CPU time of the smtptrace process since its hooks were attached, in microseconds.
    pub user_cpu_us: Option<u64>,
    /// CPU time of the BPF programs, in microseconds; `None` if the kernel did not measure it.
    pub kernel_cpu_us: Option<u64>,
}

/// Counters that say how far the numbers can be trusted. The same names stand in the trailer and in
/// the report.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Trust {
    /// Records that the kernel could not hand over, of any kind.
    pub events_lost: u64,
    /// Times a kernel or user-space table was full.
    pub map_full: u64,
    /// Connections that are not traced, because their user held an eighth of the kernel's table, or more, while
    /// less than an eighth of it was free: the rest is kept for other users.
    pub over_quota: u64,
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// Connections that have no record; `None` if it cannot be known exactly.
    pub connections_lost: Option<u64>,
    /// Connections of unknown age (open before tracing began).
    pub midlife: u64,
    /// Times that the wall clock was set while smtptrace ran.
    pub clock_steps: u64,
    /// Lines of recordings that could not be read.
    pub unreadable_lines: u64,
    /// Recordings without a trailer: the tracer was killed, or is still running.
    pub unfinished_recordings: u64,
    /// Connections that are not in the recording because its disk refused them or did not keep up. A recording
    /// counts them among `connections_lost`, too; the report of the trace itself has them.
    pub not_recorded: u64,
    /// Hooks and what each lost.
    pub hooks: Vec<HookStatus>,
    /// Cost of tracing.
    pub overhead: Overhead,
}

impl Trust {
    /// Adds the counters of another trace, `connections_lost` and the hooks excepted. They come from files: a sum
    /// that no counter can hold is the largest that one can.
    pub fn add(&mut self, other: &Self) {
        let add = |sum: &mut u64, n: u64| *sum = sum.saturating_add(n);
        add(&mut self.events_lost, other.events_lost);
        add(&mut self.map_full, other.map_full);
        add(&mut self.over_quota, other.over_quota);
        add(&mut self.undecodable, other.undecodable);
        add(&mut self.clock_steps, other.clock_steps);
        add(&mut self.not_recorded, other.not_recorded);
        let (sum, one) = (&mut self.overhead, &other.overhead);
        sum.user_cpu_us = sum_of_known(sum.user_cpu_us, one.user_cpu_us);
        sum.kernel_cpu_us = sum_of_known(sum.kernel_cpu_us, one.kernel_cpu_us);
    }

    /// What was counted since `earlier`, which was taken of the same trace.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let hooks = self.hooks.iter().map(|hook| {
            match earlier.hooks.iter().find(|other| other.hook == hook.hook) {
                Some(earlier) => hook.since(earlier),
                None => hook.clone(),
            }
        });
        Self {
            events_lost: self.events_lost.saturating_sub(earlier.events_lost),
            map_full: self.map_full.saturating_sub(earlier.map_full),
            over_quota: self.over_quota.saturating_sub(earlier.over_quota),
            undecodable: self.undecodable.saturating_sub(earlier.undecodable),
            connections_lost: difference(self.connections_lost, earlier.connections_lost),
            midlife: self.midlife.saturating_sub(earlier.midlife),
            clock_steps: self.clock_steps.saturating_sub(earlier.clock_steps),
            unreadable_lines: self.unreadable_lines.saturating_sub(earlier.unreadable_lines),
            unfinished_recordings: self
                .unfinished_recordings
                .saturating_sub(earlier.unfinished_recordings),
            not_recorded: self.not_recorded.saturating_sub(earlier.not_recorded),
            hooks: hooks.collect(),
            overhead: Overhead {
                user_cpu_us: difference(self.overhead.user_cpu_us, earlier.overhead.user_cpu_us),
                kernel_cpu_us: difference(
                    self.overhead.kernel_cpu_us,
                    earlier.overhead.kernel_cpu_us,
                ),
            },
        }
    }

    /// Whether nothing was lost: every connection has its record, and every record was read.
    pub fn is_complete(&self) -> bool {
        self.events_lost == 0
            && self.map_full == 0
            && self.over_quota == 0
            && self.undecodable == 0
            && self.connections_lost == Some(0)
            && self.unreadable_lines == 0
            && self.unfinished_recordings == 0
    }
}

impl HookStatus {
    /// A hook that is attached, with nothing lost so far; `fact` is what it records.
    pub fn attached(hook: &str, fact: &str) -> Self {
        Self {
            hook: hook.to_owned(),
            fact: fact.to_owned(),
            state: HookState::Attached,
            program: None,
            reason: None,
            events_lost: 0,
            map_full: 0,
            run_count: None,
            run_time_ns: None,
        }
    }

    /// Adds the counters of the same hook in another trace.
    pub fn add(&mut self, other: &Self) {
        self.events_lost = self.events_lost.saturating_add(other.events_lost);
        self.map_full = self.map_full.saturating_add(other.map_full);
        self.run_count = sum_of_known(self.run_count, other.run_count);
        self.run_time_ns = sum_of_known(self.run_time_ns, other.run_time_ns);
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            events_lost: self.events_lost.saturating_sub(earlier.events_lost),
            map_full: self.map_full.saturating_sub(earlier.map_full),
            run_count: difference(self.run_count, earlier.run_count),
            run_time_ns: difference(self.run_time_ns, earlier.run_time_ns),
            ..self.clone()
        }
    }
}

/// The sum; unknown only if both are.
fn sum_of_known(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (a, b) => a.or(b),
    }
}

/// What came after `earlier`; unknown unless both are known.
fn difference(now: Option<u64>, earlier: Option<u64>) -> Option<u64> {
    Some(now?.saturating_sub(earlier?))
}

/// Last line of a recording that ended cleanly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Trailer {
    /// Schema number.
    pub schema: u32,
    /// Host name.
    pub host: String,
    /// When tracing ended.
    pub end: Utc,
    /// Connection records in this recording.
    pub connections: u64,
    /// How far they can be trusted.
    pub trust: Trust,
}

/// A line where the wall clock was set while smtptrace ran. Times in the lines before are by the clock as it was, those
/// in the lines after by the clock as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ClockStep {
    /// Schema number.
    pub schema: u32,
    /// Host name.
    pub host: String,
    /// When that was noticed, by the clock as it is.
    pub time: Utc,
    /// How far the clock was set forward, in microseconds; negative if it was set back.
    pub step_us: i64,
}

/// One line of a recording. `kind` tells which.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// First line.
    Header(Box<Header>),
    /// A connection.
    Connection(Box<Connection>),
    /// The wall clock was set.
    Clock(Box<ClockStep>),
    /// Last line.
    Trailer(Box<Trailer>),
}

/// Why a line of a recording was not understood.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Not JSON, or a field is missing or of the wrong type. A last line cut short ends here too.
    #[error("not a recording line: {0}")]
    Json(#[from] serde_json::Error),
    /// Longer than anything that smtptrace writes.
    #[error("not a line that smtptrace has written: a text or a list in it is too long")]
    Bounds,
    /// `kind` names nothing that this version knows.
    #[error("unknown kind {0:?}")]
    Kind(String),
    /// Written by a newer smtptrace.
    #[error(
        "schema {0} is newer than {SCHEMA}, the newest this version reads; use a newer smtptrace"
    )]
    Schema(u32),
}

/// A line as it is written: the object with its `kind` in front.
#[derive(Serialize)]
struct Tagged<'a, T> {
    kind: &'static str,
    #[serde(flatten)]
    line: &'a T,
}

#[derive(Deserialize)]
struct Tag {
    kind: String,
    #[serde(default)]
    schema: u32,
}

impl Line {
    /// Reads one line.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        // Nearly all lines are connections of our own, and they begin so.
        if text.starts_with("{\"kind\":\"connection\"")
            && let Some(connection) = own_json::read::<Box<Connection>>(text)
            && connection.schema <= SCHEMA
        {
            return Self::Connection(connection).bounded();
        }
        let tag: Tag = serde_json::from_str(text)?;
        if tag.schema > SCHEMA {
            return Err(LineError::Schema(tag.schema));
        }
        let line = match tag.kind.as_str() {
            "header" => Self::Header(serde_json::from_str(text)?),
            "connection" => Self::Connection(serde_json::from_str(text)?),
            "clock" => Self::Clock(serde_json::from_str(text)?),
            "trailer" => Self::Trailer(serde_json::from_str(text)?),
            _ => return Err(LineError::Kind(tag.kind)),
        };
        line.bounded()
    }

    fn bounded(self) -> Result<Self, LineError> {
        if self.is_within_bounds() { Ok(self) } else { Err(LineError::Bounds) }
    }

    /// The line as JSON, without a line break.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let mut json = Vec::new();
        self.write_json(&mut json)?;
        String::from_utf8(json).map_err(serde::ser::Error::custom)
    }

    /// Appends the line as JSON, without a line break, to `json`. With a buffer that is used again this is
    /// cheaper than [`Self::to_json`].
    pub fn write_json(&self, json: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        match self {
            Self::Header(line) => {
                serde_json::to_writer(json, &Tagged { kind: "header", line: line.as_ref() })
            }
            Self::Connection(line) => serde_json::to_writer(json, line),
            Self::Clock(line) => {
                serde_json::to_writer(json, &Tagged { kind: "clock", line: line.as_ref() })
            }
            Self::Trailer(line) => {
                serde_json::to_writer(json, &Tagged { kind: "trailer", line: line.as_ref() })
            }
        }
    }
}
