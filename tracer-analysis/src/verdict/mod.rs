//! Verdicts: what the aggregates of a destination prove, how sure that is, and what to do about it.
//!
//! Each rule is a pure function of the aggregates of one destination. It says nothing where nothing is to
//! be said, and "cannot tell" where the question matters and the data cannot carry an answer.

mod caching;
mod dead_on_reuse;
mod evidence_incomplete;
mod family;
mod finding;
mod idle_advice;
mod idle_doubt;
mod idle_limit;
mod idle_path;
mod keepalive_too_slow;
mod message_limit;
mod model;
mod retry_storm;
mod session_age;
mod settings;
mod setup_cost;
mod step;
mod throttling;
mod timers;

#[cfg(test)]
mod tests;

pub(crate) use finding::Findings;
pub use finding::{Finding, Held};
pub use idle_doubt::IdleDoubt;
pub use idle_path::{is_judged_by_family, safe_idle_us};
pub use model::{Advice, Code, Confidence, Evidence, Severity, Verdict};
pub use timers::{TIMERS, Timer};

use std::cmp::Reverse;

use crate::{
    destination::{Group, OTHER},
    recording::Trust,
};

/// What rules look at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The destination.
    pub group: &'a Group,
    /// Whether that is all of the host.
    pub is_total: bool,
    /// Seconds that were traced.
    pub duration_s: f64,
    /// What was lost.
    pub trust: &'a Trust,
    /// Of the whole host: the least of what [`safe_idle_us`] says of its destinations, if that is known.
    pub strictest_us: Option<u64>,
}

/// A rule: the verdicts on one subject.
type Rule = fn(&Subject<'_>) -> Vec<Verdict>;

const RULES: &[Rule] = &[
    evidence_incomplete::verdicts,
    throttling::verdicts,
    message_limit::verdicts,
    retry_storm::verdicts,
    idle_limit::verdicts,
    dead_on_reuse::verdicts,
    keepalive_too_slow::verdicts,
    caching::verdicts,
    family::verdicts,
    setup_cost::verdicts,
];

/// All verdicts on one subject. There is none on [`OTHER`]: what holds for many servers added up holds for
/// none of them.
pub fn verdicts(subject: &Subject<'_>) -> Vec<Verdict> {
    if subject.group.key == OTHER {
        return Vec::new();
    }
    let all = RULES.iter().flat_map(|rule| rule(subject));
    let touching_all = |it: Verdict| match it.connections {
        0 => it.touching(subject.group.all.connections),
        _ => it,
    };
    all.map(touching_all).collect()
}

/// Puts the worst first; of the same severity, those that touch most connections, then those on the whole
/// host, then as they come.
pub fn sort(verdicts: &mut [Verdict], total: &str) {
    verdicts.sort_by_key(|it| (Reverse((it.severity, it.connections)), it.destination != total));
}

#[cfg(test)]
mod idle_tests;
