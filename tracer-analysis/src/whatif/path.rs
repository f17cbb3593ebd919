//! Which idle gaps the path to a destination is known to survive.

use std::collections::BTreeMap;

use crate::connection::{Connection, EndCause, EndDuring};

/// Part of the time between two messages that must have been idle for the whole to count as survived: nine
/// tenths. The rest is the probe before the connection is used again.
const IDLE_TENTHS: u64 = 9;

/// A server that closes sooner after data than this, in microseconds, ends a session, not an idle one.
const SERVER_IDLE_US: u64 = 1_000_000;

/// What the connections of one destination went through while they were idle.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path {
    /// Of the longest survived gap of each connection, and of the times between messages that were as
    /// good as idle, the longest of each class of similar ones.
    survived: BTreeMap<u64, u64>,
    /// Shortest gap after which a connection was dead.
    died: Option<u64>,
    /// Shortest gap after which the server closed.
    closed: Option<u64>,
}

impl Path {
    /// Adds what one connection shows.
    pub fn add(&mut self, connection: &Connection) {
        if let Some(gap) = connection.idle_max_survived_us {
            self.survives(gap);
            // A replay knows when messages came, not when the probe before them did: RSET, as a rule.
            let spans = connection.transaction_spans_us.as_deref().unwrap_or_default();
            let between = spans.windows(2).map(|pair| pair[1][0].saturating_sub(pair[0][1]));
            let idle = |time: &u64| time / 10 * IDLE_TENTHS <= gap;
            between.filter(idle).for_each(|time| self.survives(time));
        }
        self.died = least(self.died, death(connection));
        self.closed = least(self.closed, closed_by_server(connection));
    }

    /// Adds what `other` shows.
    pub fn merge(&mut self, other: &Self) {
        other.survived.values().for_each(|&gap| self.survives(gap));
        self.died = least(self.died, other.died);
        self.closed = least(self.closed, other.closed);
    }

    fn survives(&mut self, gap_us: u64) {
        let longest = self.survived.entry(class(gap_us)).or_default();
        *longest = gap_us.max(*longest);
    }

    /// Longest gap, in microseconds, after which a connection was alive.
    pub fn survived_us(&self) -> Option<u64> {
        self.survived.values().copied().max()
    }

    /// Shortest gap, in microseconds, after which a connection was dead.
    pub const fn died_us(&self) -> Option<u64> {
        self.died
    }

    /// Shortest gap, in microseconds, after which the server closed.
    pub const fn closed_by_server_us(&self) -> Option<u64> {
        self.closed
    }

    /// Longest gap, in microseconds, that a connection can be assumed to survive: the longest that one
    /// survived, of those shorter than any that ended in a death or in a close by the server; where such
    /// an end is near, up to 12 % less. 0 if none is known.
    pub fn bridged_us(&self) -> u64 {
        let end = self.end_us();
        self.survived.values().copied().filter(|&gap| gap < end).max().unwrap_or(0)
    }

    /// Gaps of this length, in microseconds, and longer ones are known to end connections; `u64::MAX`
    /// if none is known.
    pub fn end_us(&self) -> u64 {
        least(self.died, self.closed).unwrap_or(u64::MAX)
    }
}

fn least(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).min()
}

/// Gaps of one class differ by at most an eighth.
fn class(gap_us: u64) -> u64 {
    let shift = gap_us.checked_ilog2().unwrap_or(0).saturating_sub(3);
    u64::from(shift) << 8 | gap_us >> shift
}

/// The gap that a connection did not survive.
fn death(connection: &Connection) -> Option<u64> {
    let died = connection.died();
    let gaps = connection.idle_gaps_us.as_deref().filter(|_| connection.idle_gaps_omitted == 0);
    let last_gap = gaps.and_then(|gaps| gaps.last().copied());
    let gap = match connection.end_during {
        Some(EndDuring::Idle) => connection.end_idle_us,
        Some(EndDuring::Reuse) => last_gap.or(connection.end_idle_us),
        // Not said: the write after the gap may have been the last.
        None => last_gap.into_iter().chain(connection.end_idle_us).min(),
        Some(_) => None,
    };
    gap.filter(|&gap| died && gap > 0 && connection.established())
}

fn closed_by_server(connection: &Connection) -> Option<u64> {
    let idle = matches!(connection.end_during, Some(EndDuring::Idle) | None);
    let gap = connection.end_idle_us.filter(|&gap| gap >= SERVER_IDLE_US);
    gap.filter(|_| idle && connection.end_cause == EndCause::PeerFin && connection.established())
}
