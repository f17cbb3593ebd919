//! Idle gaps of the connections of one set, and what became of them.

use crate::{
    connection::{Connection, EndCause, EndDuring, EndSuspect},
    destination::{Distribution, Few, IdleLimit, Observed},
};

/// Shorter gaps are pauses of the dialogue, and are not in the record.
const IDLE_US: u64 = 100_000;

/// A session that dies after a shorter gap died in use.
const REUSE_US: u64 = 1_000_000;

/// How it showed that an idle session was dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Manner {
    /// No answer came any more, to data or to keepalive probes.
    Silent,
    /// A reset answered the first write.
    ResetOnReuse,
    /// A reset came while nothing was under way.
    ResetWhileIdle,
}

impl Manner {
    /// As it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::ResetOnReuse => "reset_on_reuse",
            Self::ResetWhileIdle => "reset_while_idle",
        }
    }
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Killer {
    /// Something on the path.
    Middlebox,
    /// The server.
    Server,
    /// Not known.
    Unknown,
}

impl Killer {
    /// As it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Middlebox => "middlebox",
            Self::Server => "server",
            Self::Unknown => "unknown",
        }
    }
}

impl From<Option<EndSuspect>> for Killer {
    fn from(suspect: Option<EndSuspect>) -> Self {
        match suspect {
            Some(EndSuspect::Middlebox) => Self::Middlebox,
            Some(EndSuspect::Peer) => Self::Server,
            None => Self::Unknown,
        }
    }
}

/// `SO_KEEPALIVE` of established connections that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keepalive {
    /// Connections with it.
    pub on: u64,
    /// Connections without it.
    pub off: u64,
    /// Shortest and longest idle time before the first probe, in seconds, of those where it is known.
    pub first_probe_s: Option<[u32; 2]>,
}

impl Keepalive {
    fn add(&mut self, connection: &Connection) {
        match connection.keepalive {
            Some(true) => {
                self.on += 1;
                self.probe(connection.keepalive_idle_s.map(|it| [it, it]));
            }
            Some(false) => self.off += 1,
            None => {}
        }
    }

    fn probe(&mut self, new: Option<[u32; 2]>) {
        self.first_probe_s = match (self.first_probe_s, new) {
            (Some([low, high]), Some([a, b])) => Some([low.min(a), high.max(b)]),
            (known, new) => known.or(new),
        };
    }

    fn merge(&mut self, other: &Self) {
        self.on += other.on;
        self.off += other.off;
        self.probe(other.first_probe_s);
    }
}

/// Idle gaps by what became of them. Adding is commutative.
///
/// A gap counts once: it ended in use with an answer (`survived`), in the server's FIN
/// (`closed_by_server`), without having been put to the test (`untested`), or in death. Where keepalive
/// probes were sent, only the time until the first counts: how often others followed is not known.
#[derive(Debug, Clone, Default)]
pub struct IdleGaps {
    /// Gaps that ended in a turn with an answer, in microseconds.
    pub survived: Distribution,
    /// Gaps that the server ended with a FIN: the path was alive.
    pub closed_by_server: Distribution,
    /// Those of them before which it said 421; only cleartext tells.
    pub closed_with_421: u64,
    /// Gaps that this host ended, or that were under way when tracing ended: the path may have been
    /// dead or alive.
    pub untested: Distribution,
    /// Gaps at whose end the session was dead, by how that showed and who did it.
    pub deaths: Few<(Manner, Killer), Distribution>,
    /// Sessions that were dead when they were used again, after a gap of 1 s or more.
    pub dead_on_reuse: u64,
    /// Time lost between that use and the end, in microseconds.
    pub dead_on_reuse_us: u64,
    /// Sessions that died while they were in use, or idle for less than 1 s: a sign of a bad path, not of a limit.
    pub dead_in_use: u64,
    /// FINs in `closed_by_server` that came with another TTL than the server's data.
    pub closed_by_box: u64,
    /// Keepalive.
    pub keepalive: Keepalive,
}

impl IdleGaps {
    /// Adds the gaps of one established connection.
    pub fn add(&mut self, connection: &Connection) {
        self.keepalive.add(connection);
        let probed_us = match (connection.keepalive, connection.keepalive_idle_s) {
            (Some(true), Some(seconds)) => u64::from(seconds) * 1_000_000,
            _ => u64::MAX,
        };
        self.add_last(connection, probed_us);
        self.add_survived(connection, probed_us);
    }

    /// Takes the gap at whose end the connection ended.
    fn add_last(&mut self, connection: &Connection, probed_us: u64) {
        if connection.end_cause == EndCause::RstReceived && connection.ended_by_quit() {
            return; // an ordinary end
        }
        let reused = connection.end_during == Some(EndDuring::Reuse);
        let idle = connection.end_during == Some(EndDuring::Idle);
        let manner = match connection.end_cause {
            EndCause::RstReceived if reused => Some(Manner::ResetOnReuse),
            EndCause::RstReceived => Some(Manner::ResetWhileIdle),
            EndCause::Timeout | EndCause::Unanswered => Some(Manner::Silent),
            _ => None,
        };
        let gap = connection.end_idle_us.filter(|&gap| (reused || idle) && gap >= IDLE_US);
        match (gap, manner) {
            // Whether it was idle cannot be told.
            (None, Some(_)) if connection.end_during.is_none() => {}
            (gap, Some(manner)) => self.add_death(connection, manner, gap),
            // An answer, too: the path was alive.
            (Some(gap), None) if connection.end_cause == EndCause::PeerFin && reused => {
                self.survived.record(gap.min(probed_us));
            }
            (Some(gap), None) if connection.end_cause == EndCause::PeerFin => {
                self.add_fin(connection, gap.min(probed_us));
            }
            (Some(gap), None) => self.untested.record(gap.min(probed_us)),
            (None, None) => {}
        }
    }

    fn add_death(&mut self, connection: &Connection, manner: Manner, gap: Option<u64>) {
        let killer = Killer::from(connection.end_suspect);
        if let Some(gap) = gap.filter(|&gap| gap >= REUSE_US) {
            self.deaths.of(&(manner, killer)).record(gap);
        } else {
            self.dead_in_use += 1;
        }
        if connection.end_during == Some(EndDuring::Reuse) {
            self.dead_on_reuse += 1;
            let lost = connection.end_unanswered_us.unwrap_or(0);
            self.dead_on_reuse_us = self.dead_on_reuse_us.saturating_add(lost);
        }
    }

    fn add_fin(&mut self, connection: &Connection, gap: u64) {
        let farewell = said(connection, 421);
        if !farewell && said(connection, 221) {
            return; // after QUIT the session was over
        }
        self.closed_by_server.record(gap);
        self.closed_with_421 += u64::from(farewell);
        self.closed_by_box += u64::from(connection.end_suspect == Some(EndSuspect::Middlebox));
    }

    /// Takes the gaps that ended in an answer.
    fn add_survived(&mut self, connection: &Connection, probed_us: u64) {
        let Some(longest) = connection.idle_max_survived_us else { return };
        let gaps = connection.idle_gaps_us.as_deref().unwrap_or_default();
        let answered = match gaps.split_last() {
            Some((last, before)) if may_be_unanswered(connection, *last) => before,
            _ => gaps,
        };
        let answered = answered.iter().copied().filter(|&gap| gap <= longest);
        self.survived.extend(answered.clone().map(|gap| gap.min(probed_us)));
        // It may be among those left out.
        if connection.idle_gaps_omitted > 0 && longest >= IDLE_US && answered.max() < Some(longest)
        {
            self.survived.record(longest.min(probed_us));
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.survived.merge(&other.survived);
        self.closed_by_server.merge(&other.closed_by_server);
        self.closed_with_421 += other.closed_with_421;
        self.untested.merge(&other.untested);
        for (death, gaps) in other.deaths.iter() {
            self.deaths.of(death).merge(gaps);
        }
        self.dead_on_reuse += other.dead_on_reuse;
        self.dead_on_reuse_us = self.dead_on_reuse_us.saturating_add(other.dead_on_reuse_us);
        self.dead_in_use += other.dead_in_use;
        self.closed_by_box += other.closed_by_box;
        self.keepalive.merge(&other.keepalive);
    }

    /// How many gaps there are.
    pub fn count(&self) -> u64 {
        self.survived.count()
            + self.closed_by_server.count()
            + self.untested.count()
            + self.died(|_, _| true, 0)
    }

    /// Longest gap of all, whatever became of it.
    pub fn longest_us(&self) -> Option<u64> {
        let deaths = self.deaths.values().filter_map(Distribution::max).max();
        self.untested.max().max(self.longest_alive_us()).max(deaths)
    }

    /// Longest gap after which the path was alive.
    pub fn longest_alive_us(&self) -> Option<u64> {
        self.survived.max().max(self.closed_by_server.max())
    }

    /// Deaths of a kind after gaps of `from_us` or longer.
    pub fn died(&self, of: impl Fn(Manner, Killer) -> bool, from_us: u64) -> u64 {
        let of_kind = self.deaths.iter().filter(|((manner, killer), _)| of(*manner, *killer));
        let spans = of_kind.flat_map(|(_, gaps)| gaps.spans());
        spans.filter(|span| span.highest >= from_us).map(|span| span.count).sum()
    }

    /// The idle limit, if the deaths line up with one.
    pub fn limit(&self) -> Option<IdleLimit> {
        if self.deaths.is_empty() {
            return None;
        }
        IdleLimit::estimate(&self.outcomes(false))
    }

    /// All gaps by length, for the survival curve.
    pub fn observed(&self) -> Vec<Observed> {
        self.outcomes(true)
    }

    /// Gaps by length, in ascending order: lengths that are not exact are rounded down for the living and
    /// up for the dead, so a bracket is never too narrow.
    fn outcomes(&self, untested: bool) -> Vec<Observed> {
        let mut all = Vec::new();
        let mut put = |time_us, died, left| all.push(Observed { time_us, died, left });
        let untested = untested.then_some(&self.untested);
        for gaps in [&self.survived, &self.closed_by_server].into_iter().chain(untested) {
            for span in gaps.spans() {
                let longest = gaps.max() == Some(span.highest);
                put(if longest { span.highest } else { span.lowest }, 0, span.count);
            }
        }
        for gaps in self.deaths.values() {
            for span in gaps.spans() {
                let shortest = gaps.min() == Some(span.lowest);
                put(if shortest { span.lowest } else { span.highest }, span.count, 0);
            }
        }
        all.sort_unstable_by_key(|it| it.time_us);
        all.dedup_by(|next, kept| {
            let same = next.time_us == kept.time_us;
            if same {
                kept.died += next.died;
                kept.left += next.left;
            }
            same
        });
        all
    }
}

/// Whether the last of `idle_gaps_us` may have ended in the write that was never answered. That of less than
/// 1 s does not count as a reuse, and may have come before.
fn may_be_unanswered(connection: &Connection, last: u64) -> bool {
    if connection.idle_gaps_omitted > 0 {
        return false;
    }
    match connection.end_during {
        Some(EndDuring::Reuse) => true,
        _ => connection.end_unanswered_us.is_some() && last < REUSE_US,
    }
}

/// Whether the server sent a reply with that code, as far as its replies were read.
fn said(connection: &Connection, code: u16) -> bool {
    connection.replies.as_ref().is_some_and(|replies| replies.contains_key(&code))
}
