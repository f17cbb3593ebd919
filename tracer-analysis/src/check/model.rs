//! What is checked and what comes out of it.

use crate::verdict::Severity;

/// How things are. The worst of several is the one that counts, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Nothing was crossed.
    Ok,
    /// A value that a threshold is about is not known.
    Unknown,
    /// A warning level was crossed.
    Warning,
    /// A critical level was crossed.
    Critical,
}

/// A level for warnings, if there is one, and one that is critical.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Levels<T> {
    /// Crossing this one is a warning.
    pub warning: Option<T>,
    /// Crossing this one is critical.
    pub critical: T,
}

/// Levels of a count, or of the share that it is of a whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limits {
    /// Numbers.
    Count(Levels<u64>),
    /// Shares, between 0 and 1.
    Share(Levels<f64>),
}

/// The thresholds. Those that are `None` are not checked.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Thresholds {
    /// Least share of messages that need no new connection.
    pub min_reuse: Option<Levels<f64>>,
    /// Most sessions that are dead when they are used again; a share is one of all that are used again
    /// after they idled.
    pub max_dead_on_reuse: Option<Limits>,
    /// Longest time to the complete greeting in microseconds, 99th percentile.
    pub max_greeting_p99_us: Option<Levels<u64>>,
    /// Verdicts of this severity or a worse one count as crossed.
    pub fail_on: Option<Severity>,
}

/// What is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All destinations together.
    Total,
    /// Each destination with at least this many connections.
    Each(u64),
    /// The destination with this key.
    One(String),
}

/// What a number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Messages that need no new connection, a share.
    Reuse,
    /// Sessions that were dead when they were used again.
    DeadOnReuse,
    /// The same as a share of those that were used again after they idled.
    DeadOnReuseShare,
    /// Time to the complete greeting, 99th percentile.
    GreetingP99,
    /// Connections.
    Connections,
    /// Messages.
    Messages,
    /// Connects that failed.
    ConnectFailures,
    /// Sessions that died.
    Died,
}

impl Metric {
    /// Its label among performance data.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Reuse => "reuse",
            Self::DeadOnReuse => "dead_on_reuse",
            Self::DeadOnReuseShare => "dead_on_reuse_share",
            Self::GreetingP99 => "greeting_p99",
            Self::Connections => "connections",
            Self::Messages => "messages",
            Self::ConnectFailures => "connect_failures",
            Self::Died => "died",
        }
    }

    /// Whether less of it is worse.
    pub const fn less_is_worse(self) -> bool {
        matches!(self, Self::Reuse)
    }
}

/// A value with its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Between 0 and 1.
    Share(f64),
    /// Microseconds.
    Us(u64),
    /// A number.
    Count(u64),
}

impl Value {
    pub(super) fn number(self) -> f64 {
        match self {
            Self::Share(share) => share,
            Self::Us(n) | Self::Count(n) => n as f64,
        }
    }
}

/// A number of one destination, with the levels that hold for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Key of the destination; `None` for all of them together.
    pub destination: Option<String>,
    /// What it says.
    pub metric: Metric,
    /// The number; `None` if it is not known.
    pub value: Option<Value>,
    /// Levels, if there is a threshold.
    pub levels: Option<Levels<Value>>,
    /// What follows.
    pub state: State,
}

/// Something that was crossed, or could not be told.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// A number; it stands in [`Check::measured`] as well.
    Number(Measured),
    /// A verdict.
    Verdict {
        /// Whether that is a warning or critical.
        state: State,
        /// Severity, as verdicts have it.
        severity: Severity,
        /// Its code.
        code: &'static str,
        /// Key of the destination.
        destination: String,
        /// In a sentence.
        summary: String,
    },
}

impl Finding {
    /// How bad it is.
    pub const fn state(&self) -> State {
        match self {
            Self::Number(measured) => measured.state,
            Self::Verdict { state, .. } => *state,
        }
    }
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// The worst state of all.
    pub state: State,
    /// Numbers, with and without a threshold.
    pub measured: Vec<Measured>,
    /// What was crossed or is not known, the worst first.
    pub findings: Vec<Finding>,
    /// Destinations that were checked; 0 if only all of them together were.
    pub destinations: u64,
}

/// Why a check could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The destination is not in the report.
    #[error(
        "no connection to {0:?} in these files; see `smtptrace report` for the destinations there are"
    )]
    NoSuchDestination(String),
}
