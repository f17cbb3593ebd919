//! What a report says of idle sessions.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use crate::{
    destination::{Group, IdleGaps, Killer, Manner, kaplan_meier, thinned},
    verdict::{IdleDoubt, is_judged_by_family},
};

/// Points of a survival curve at most.
pub const CURVE: usize = 64;

/// How long sessions may idle on a path, and what that rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct IdleLimit {
    /// Why it cannot be told how long sessions may idle; `null` if it can, or if that is said by family.
    #[serde(default)]
    pub cannot_tell: Option<CannotTell>,
    /// Whether no one limit fits both families: each is then judged by itself.
    #[serde(default)]
    pub by_family: bool,
    /// Longest idle gap, in seconds, after which connections were alive: used again with an answer, or
    /// closed by the server. If there is a limit, the longest below it.
    pub survived_s: Option<f64>,
    /// Idle gap, in seconds, from which on connections were dead; `null` if none died, or if the deaths do
    /// not line up with a limit.
    pub died_s: Option<f64>,
    /// Gaps observed.
    pub observations: u64,
    /// 95 % confidence interval of the limit, in seconds; `null` without a limit.
    pub interval_s: Option<[f64; 2]>,
    /// Likelihood that chance kills the same sessions without a limit, against that of the limit, 0 to 1;
    /// 0 is less than a millionth.
    pub chance: Option<f64>,
    /// Longest gap of all, whatever became of it.
    pub longest_gap_s: Option<f64>,
    /// Gaps that ended in use with an answer.
    pub survived: u64,
    /// Gaps that this host ended, or that were under way when tracing ended.
    pub untested: u64,
    /// Gaps at whose end the session was dead, by manner: `silent`, `reset_on_reuse`,
    /// `reset_while_idle`.
    pub deaths: BTreeMap<String, u64>,
    /// The same by suspect: `middlebox`, `server`, `unknown`.
    pub suspects: BTreeMap<String, u64>,
    /// Sessions that were dead when they were used again.
    pub dead_on_reuse: u64,
    /// Seconds lost on them.
    pub dead_on_reuse_cost_s: f64,
    /// Gaps that the server ended; `null` if there are none.
    pub closed_by_server: Option<ClosedByServer>,
    /// `SO_KEEPALIVE` of the connections.
    pub keepalive: Keepalive,
    /// Kaplan-Meier estimate over all gaps, at most [`CURVE`] points; empty if nobody died. A death shows
    /// when the session is used again: the curve is an upper bound where it fell in silence.
    pub curve: Vec<CurvePoint>,
}

/// Why the length of the longest gap says nothing yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CannotTell {
    /// The reason.
    pub why: IdleDoubt,
    /// What would tell, in words; `null` if nothing has to be done, because no session idles as long as the
    /// shortest known timer.
    pub needed: Option<Cow<'static, str>>,
}

impl From<IdleDoubt> for CannotTell {
    fn from(why: IdleDoubt) -> Self {
        Self { why, needed: why.needed().map(Cow::Borrowed) }
    }
}

/// Idle sessions that the server closed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ClosedByServer {
    /// How many.
    pub count: u64,
    /// Those of them before which it said 421; only cleartext tells.
    pub with_421: u64,
    /// Shortest gap, in seconds.
    pub shortest_s: f64,
    /// Median.
    pub median_s: f64,
    /// Longest.
    pub longest_s: f64,
}

/// Keepalive of established connections that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Keepalive {
    /// Connections with it.
    pub on: u64,
    /// Connections without it.
    pub off: u64,
    /// Shortest and longest idle time before the first probe, in seconds; `null` if not known.
    pub first_probe_s: Option<[u32; 2]>,
}

/// A point of a survival curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CurvePoint {
    /// Idle time, in seconds.
    pub idle_s: f64,
    /// Gaps of that length or longer.
    pub at_risk: u64,
    /// Those of that length that ended in death.
    pub died: u64,
    /// Share of sessions alive after a longer gap, 0 to 1.
    pub survival: f64,
    /// Its 95 % confidence interval; `null` where the share is 0.
    pub interval: Option<[f64; 2]>,
}

impl IdleLimit {
    /// Of a destination.
    pub(super) fn of(group: &Group) -> Option<Self> {
        let all = Self::new(group.all.idle.as_deref())?;
        if !is_judged_by_family(group) {
            return Some(all);
        }
        let cannot_tell = IdleDoubt::of(group).map(CannotTell::from);
        Some(Self { cannot_tell, by_family: true, ..all })
    }

    /// What is known of these gaps by themselves; `None` if there was no gap.
    pub(super) fn new(gaps: Option<&IdleGaps>) -> Option<Self> {
        let gaps = gaps.filter(|gaps| gaps.count() > 0)?;
        let limit = gaps.limit();
        let survived = match &limit {
            Some(limit) => limit.alive_us,
            None => gaps.longest_alive_us(),
        };
        Some(Self {
            cannot_tell: IdleDoubt::of_gaps(gaps).map(CannotTell::from),
            by_family: false,
            survived_s: survived.map(seconds),
            died_s: limit.as_ref().map(|it| seconds(it.dead_us)),
            observations: gaps.count(),
            interval_s: limit.as_ref().map(|it| it.interval_us.map(seconds)),
            chance: limit.as_ref().map(|it| share(it.chance)),
            longest_gap_s: gaps.longest_us().map(seconds),
            survived: gaps.survived.count(),
            untested: gaps.untested.count(),
            deaths: counts(gaps, |manner, _| manner.as_str()),
            suspects: counts(gaps, |_, killer| killer.as_str()),
            dead_on_reuse: gaps.dead_on_reuse,
            dead_on_reuse_cost_s: seconds(gaps.dead_on_reuse_us),
            closed_by_server: ClosedByServer::new(gaps),
            keepalive: Keepalive {
                on: gaps.keepalive.on,
                off: gaps.keepalive.off,
                first_probe_s: gaps.keepalive.first_probe_s,
            },
            curve: curve(gaps),
        })
    }
}

impl ClosedByServer {
    fn new(gaps: &IdleGaps) -> Option<Self> {
        let closed = &gaps.closed_by_server;
        Some(Self {
            count: closed.count(),
            with_421: gaps.closed_with_421,
            shortest_s: seconds(closed.min()?),
            median_s: seconds(closed.quantile(0.5)?),
            longest_s: seconds(closed.max()?),
        })
    }
}

fn counts(gaps: &IdleGaps, name: fn(Manner, Killer) -> &'static str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (&(manner, killer), died) in gaps.deaths.iter() {
        *counts.entry(name(manner, killer).to_owned()).or_default() += died.count();
    }
    counts
}

fn curve(gaps: &IdleGaps) -> Vec<CurvePoint> {
    if gaps.deaths.is_empty() {
        return Vec::new();
    }
    let steps = thinned(&kaplan_meier(&gaps.observed()), CURVE);
    let points = steps.iter().map(|step| CurvePoint {
        idle_s: seconds(step.time_us),
        at_risk: step.at_risk,
        died: step.died,
        survival: share(step.survival),
        interval: step.interval.map(|ends| ends.map(share)),
    });
    points.collect()
}

/// To the millionth.
fn share(of: f64) -> f64 {
    (of * 1e6).round() / 1e6
}

/// To the millisecond.
fn seconds(us: u64) -> f64 {
    (us as f64 / 1e3).round() / 1e3
}
