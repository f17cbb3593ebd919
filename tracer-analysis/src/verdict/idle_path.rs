//! Paths on which idle sessions die.

use std::fmt;

use crate::{
    connection::Family,
    destination::{Group, IdleGaps, IdleLimit, Killer, Manner},
    verdict::Confidence,
};

/// A path with an idle limit.
#[derive(Debug)]
pub(super) struct LimitedPath<'a> {
    /// The family, if only one has this limit.
    pub(super) family: Option<Family>,
    /// All idle gaps on it.
    pub(super) gaps: &'a IdleGaps,
    /// Its limit.
    pub(super) limit: IdleLimit,
}

/// The limits of a destination: one, or one of each family where they differ.
pub(super) fn limited_paths(group: &Group) -> Vec<LimitedPath<'_>> {
    if let Some(families) = families_apart(group) {
        return families.into_iter().filter_map(Path::limited).collect();
    }
    group.all.idle.as_deref().and_then(path_of).into_iter().collect()
}

/// Longest time, in microseconds, for which sessions to a destination may idle without dying, over either
/// family: 0 if none survived. `None` if no limit is sure.
pub fn safe_idle_us(group: &Group) -> Option<u64> {
    let paths = limited_paths(group);
    let sure = paths.iter().filter(|path| path.confidence() > Confidence::Low);
    sure.map(|path| path.limit.alive_us.unwrap_or(0)).min()
}

/// The path of these gaps by themselves, if it has a limit.
pub(super) fn path_of(gaps: &IdleGaps) -> Option<LimitedPath<'_>> {
    Path::new(None, gaps).limited()
}

/// Whether no one limit fits both families of a destination, so that idle sessions are judged by family.
pub fn is_judged_by_family(group: &Group) -> bool {
    families_apart(group).is_some()
}

fn families_apart(group: &Group) -> Option<[Path<'_>; 2]> {
    let ipv4 = Path::new(Some(Family::Ipv4), group.ipv4.as_ref()?.idle.as_deref()?);
    let ipv6 = Path::new(Some(Family::Ipv6), group.ipv6.as_ref()?.idle.as_deref()?);
    (!ipv4.agrees(&ipv6)).then_some([ipv4, ipv6])
}

/// The gaps of a destination, or of a family.
struct Path<'a> {
    family: Option<Family>,
    gaps: &'a IdleGaps,
    limit: Option<IdleLimit>,
}

impl<'a> Path<'a> {
    fn new(family: Option<Family>, gaps: &'a IdleGaps) -> Self {
        Self { family, gaps, limit: gaps.limit() }
    }

    fn limited(self) -> Option<LimitedPath<'a>> {
        let Self { family, gaps, limit } = self;
        limit.map(|limit| LimitedPath { family, gaps, limit })
    }

    /// Longest gap below the limit, or of all, after which sessions were alive.
    fn alive_us(&self) -> u64 {
        let alive = match &self.limit {
            Some(limit) => limit.alive_us,
            None => self.gaps.longest_alive_us(),
        };
        alive.unwrap_or(0)
    }

    /// Whether one limit may be that of both.
    fn agrees(&self, other: &Self) -> bool {
        let dead_us = |of: &Self| of.limit.as_ref().map_or(u64::MAX, |limit| limit.dead_us);
        self.alive_us() < dead_us(other) && other.alive_us() < dead_us(self)
    }
}

impl LimitedPath<'_> {
    /// Most deaths showed in this way.
    pub(super) fn manner(&self) -> Manner {
        let all = [Manner::Silent, Manner::ResetWhileIdle, Manner::ResetOnReuse];
        all.into_iter().max_by_key(|&manner| self.died(manner)).unwrap_or(Manner::Silent)
    }

    /// Deaths above the limit that showed in this way.
    pub(super) fn died(&self, manner: Manner) -> u64 {
        self.gaps.died(|it, _| it == manner, self.limit.dead_us)
    }

    /// Who is suspected: the server, if it is of most deaths; a middlebox, if it is of any.
    pub(super) fn killer(&self) -> Killer {
        let died = |killer| self.gaps.died(|_, it| it == killer, self.limit.dead_us);
        if died(Killer::Server) * 2 > self.limit.above.dead {
            Killer::Server
        } else if died(Killer::Middlebox) > 0 {
            Killer::Middlebox
        } else {
            Killer::Unknown
        }
    }

    /// How sure it is that there is a limit, and not chance.
    pub(super) fn confidence(&self) -> Confidence {
        if self.sessions_die_in_use() {
            return Confidence::Low; // idle or not
        }
        let nothing_survived = self.limit.below.alive == 0 && self.limit.above.alive == 0;
        match (self.limit.above.dead, self.limit.chance) {
            (3.., ..=0.01) => Confidence::High,
            (2.., ..=0.05) => Confidence::Medium,
            (5.., _) if nothing_survived => Confidence::Medium,
            _ => Confidence::Low,
        }
    }

    /// Whether as many sessions died in use as idle.
    pub(super) fn sessions_die_in_use(&self) -> bool {
        self.gaps.dead_in_use >= self.limit.above.dead
    }

    /// ` over IPv4`, if only that family has this limit.
    pub(super) fn over(&self) -> &'static str {
        self.family.map_or("", over)
    }
}

/// ` over IPv4`.
pub(super) fn over(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => " over IPv4",
        Family::Ipv6 => " over IPv6",
    }
}

/// A time in a sentence: `2.5 s`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seconds(pub(super) u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 as f64 / 1e6;
        let digits = usize::from(seconds < 99.95);
        write!(f, "{seconds:.digits$} s")
    }
}

/// Seconds as evidence, to the millisecond.
pub(super) fn evidence_s(us: u64) -> f64 {
    (us as f64 / 1e3).round() / 1e3
}

/// `1 gap`, `2 gaps`.
pub(super) fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
