//! The columns of the table of destinations.

use std::cmp::Ordering;

use tracer_analysis::report::Destination;

use super::snapshot::{Row, Snapshot};
use crate::sink::quantity::{cell, milliseconds};

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Verdict,
    Key,
    Open,
    New,
    Connections,
    Messages,
    Reuse,
    Failed,
    Died,
    GreetingP50,
    GreetingP99,
}

impl Column {
    /// In the order in which they stand, which is also that of `s`.
    pub(super) const ALL: [Self; 11] = [
        Self::Verdict,
        Self::Key,
        Self::Open,
        Self::New,
        Self::Connections,
        Self::Messages,
        Self::Reuse,
        Self::Failed,
        Self::Died,
        Self::GreetingP50,
        Self::GreetingP99,
    ];

    /// Columns of numbers, the first to go where there is no room first.
    pub(super) const FIRST_TO_GO: [Self; 9] = [
        Self::GreetingP50,
        Self::Messages,
        Self::New,
        Self::Reuse,
        Self::GreetingP99,
        Self::Died,
        Self::Open,
        Self::Failed,
        Self::Connections,
    ];

    pub(super) fn is_number(self) -> bool {
        !matches!(self, Self::Key | Self::Verdict)
    }

    /// Upper and lower heading.
    pub(super) fn heading(self) -> [&'static str; 2] {
        match self {
            Self::Verdict => ["", "verdict"],
            Self::Key => ["", "destination"],
            Self::Open => ["", "open"],
            Self::New => ["", "new"],
            Self::Connections => ["", "conns"],
            Self::Messages => ["mes-", "sages"],
            Self::Reuse => ["re-", "use %"],
            Self::Failed => ["", "failed"],
            Self::Died => ["", "died"],
            Self::GreetingP50 => ["greet", "p50ms"],
            Self::GreetingP99 => ["greet", "p99ms"],
        }
    }

    /// Its name where the order is told.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Reuse => "reuse",
            Self::GreetingP50 => "greeting p50",
            Self::GreetingP99 => "greeting p99",
            other => other.heading()[1],
        }
    }

    /// What stands there; `-` is not known. A `+` says that there are more.
    pub(super) fn cell(self, row: &Row, of: &Snapshot) -> String {
        let more = if of.open_exact { "" } else { "+" };
        let known = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), cell);
        match self {
            Self::Verdict | Self::Key => String::new(),
            Self::Open => format!("{}{more}", cell(row.open)),
            Self::New => format!("{}{more}", cell(row.new)),
            Self::Connections => format!("{}{more}", cell(row.connections)),
            Self::Reuse => match ended(row, of).and_then(|it| it.reuse_ratio) {
                Some(ratio) => format!("{:.0}", ratio * 100.0),
                None => "-".to_owned(),
            },
            Self::GreetingP50 | Self::GreetingP99 => milliseconds(self.count(row, of)),
            Self::Messages | Self::Failed | Self::Died => known(self.count(row, of)),
        }
    }

    fn count(self, row: &Row, of: &Snapshot) -> Option<u64> {
        let Some(it) = ended(row, of) else {
            // None has ended, so none has failed.
            return matches!(self, Self::Failed | Self::Died).then_some(0);
        };
        match self {
            Self::Messages => it.transactions,
            Self::Failed => Some(it.connect_failures),
            Self::Died => Some(it.died),
            Self::GreetingP50 => it.histograms.banner_us.p50,
            Self::GreetingP99 => it.histograms.banner_us.p99,
            _ => None,
        }
    }

    /// The order in which `s` shows it first: what is most or worst is on top.
    pub(super) fn compare(self, a: &Row, b: &Row, of: &Snapshot) -> Ordering {
        match self {
            Self::Key => a.key.cmp(&b.key),
            Self::Verdict => {
                let worst = |row: &Row| row.worst.map(|(severity, _)| severity);
                worst(b).cmp(&worst(a))
            }
            Self::Open => b.open.cmp(&a.open),
            Self::New => b.new.cmp(&a.new),
            Self::Connections => b.connections.cmp(&a.connections),
            Self::Reuse => {
                // The worst is the least; what is not known is last.
                let reuse = |row| ended(row, of).and_then(|it| it.reuse_ratio).unwrap_or(2.0);
                reuse(a).total_cmp(&reuse(b))
            }
            _ => self.count(b, of).cmp(&self.count(a, of)),
        }
    }
}

/// What the report says of a row.
pub(super) fn ended<'a>(row: &Row, of: &'a Snapshot) -> Option<&'a Destination> {
    match row.at {
        Some(at) => of.report.0.destinations.get(at),
        None if row.key == of.all.key => Some(&of.report.0.totals),
        None => None,
    }
}
