//! One cause, one line: what several destinations have in common is said once.

use std::cmp::Reverse;

use super::{Advice, Verdict};

/// Verdicts that say the same of several destinations.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The one that touches most connections; that on the whole host, if there is one. Its advice is right for
    /// all: of settings that are a bound, the lowest.
    pub verdict: Verdict,
    /// Destinations on which it holds, by connections touched; at most [`Finding::NAMED`].
    pub destinations: Vec<Held>,
    /// Destinations on which it holds, named or not; without the whole host.
    pub count: u64,
    /// Connections that are touched in all.
    pub connections: u64,
}

/// A destination on which a finding holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its key.
    pub destination: String,
    /// Connections touched there.
    pub connections: u64,
}

impl Finding {
    /// Destinations that are named.
    pub const NAMED: usize = 8;

    fn new(verdict: Verdict, total: &str) -> Self {
        let connections = verdict.connections;
        let held = Held { destination: verdict.destination.clone(), connections };
        let destinations = if verdict.destination == total { Vec::new() } else { vec![held] };
        Self { count: destinations.len() as u64, verdict, destinations, connections }
    }

    /// Takes another one of the same kind.
    fn add(&mut self, other: Self, total: &str) {
        let of_host = [&self.verdict, &other.verdict].map(|it| it.destination == total);
        self.connections = match of_host {
            [true, _] => self.connections,
            [_, true] => other.connections,
            _ => self.connections + other.connections,
        };
        let order = |it: &Held| (Reverse(it.connections), it.destination.clone());
        self.destinations.extend(other.destinations);
        self.destinations.sort_by_cached_key(order);
        self.destinations.truncate(Self::NAMED);
        self.count += other.count;
        let weight = |it: &Verdict| (it.destination == total, it.connections);
        let advice = merged(&self.verdict.advice, &other.verdict.advice);
        if weight(&other.verdict) > weight(&self.verdict) {
            self.verdict = other.verdict;
        }
        self.verdict.advice = advice;
    }

    /// Whether a verdict has the same cause: the same code and severity, and the same to be done about it. A
    /// bound may differ. That on the whole host is about its destinations where one bound is to hold for all;
    /// else it is about sums.
    fn explains(&self, other: &Verdict, total: &str) -> bool {
        let known = &self.verdict;
        let apart = (known.destination == total) != (other.destination == total);
        let has_bound = |it: &Verdict| it.advice.iter().any(|advice| advice.bound.is_some());
        (known.code, known.severity) == (other.code, other.severity)
            && fixed(known).eq(fixed(other))
            && (!apart || has_bound(known) && has_bound(other))
    }
}

/// Advice without a bound.
fn fixed(verdict: &Verdict) -> impl Iterator<Item = &Advice> {
    verdict.advice.iter().filter(|advice| advice.bound.is_none())
}

/// The advice of both; of two bounds for one mail server, the lower.
fn merged(ours: &[Advice], theirs: &[Advice]) -> Vec<Advice> {
    let mut all = ours.to_vec();
    for advice in theirs {
        let same =
            |it: &&mut Advice| it.mta == advice.mta && it.bound.is_some() == advice.bound.is_some();
        match all.iter_mut().find(same) {
            Some(known) if advice.bound.is_some() && advice.bound < known.bound => {
                *known = advice.clone();
            }
            Some(_) => {}
            None => all.push(advice.clone()),
        }
    }
    all
}

/// Findings as verdicts come in. Their number is bounded by that of different advice.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    /// Takes the verdicts on one destination, or on the whole host, which is called `total`. Two of one
    /// destination (over IPv4 and over IPv6) stay apart.
    pub(crate) fn add(&mut self, verdicts: &[Verdict], total: &str) {
        let mut taken = Vec::new();
        for verdict in verdicts {
            let new = Finding::new(verdict.clone(), total);
            let mut known = self.0.iter_mut().enumerate();
            let same = known.find(|(at, it)| !taken.contains(at) && it.explains(verdict, total));
            if let Some((at, known)) = same {
                known.add(new, total);
                taken.push(at);
            } else {
                taken.push(self.0.len());
                self.0.push(new);
            }
        }
    }

    /// The worst first; of the same severity, those that touch most connections.
    pub(crate) fn sorted(self, total: &str) -> Vec<Finding> {
        let mut all = self.0;
        all.sort_by_cached_key(|it| {
            let verdict = &it.verdict;
            let worst = Reverse((verdict.severity, it.connections));
            (worst, verdict.destination != total, verdict.code, verdict.destination.clone())
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mta::Mta,
        verdict::{Code, Confidence, Severity},
    };

    const TOTAL: &str = "total";

    fn verdict(code: Code, destination: &str, connections: u64) -> Verdict {
        let summary = format!("of {destination}");
        Verdict::new(code, Severity::Warning, Confidence::High, destination, summary)
            .touching(connections)
    }

    fn findings(all: &[Verdict]) -> Vec<Finding> {
        let mut findings = Findings::default();
        for one in all {
            findings.add(std::slice::from_ref(one), TOTAL);
        }
        findings.sorted(TOTAL)
    }

    fn keys(of: &Finding) -> Vec<&str> {
        of.destinations.iter().map(|it| it.destination.as_str()).collect()
    }

    #[test]
    fn one_cause_is_one_line_with_a_list() {
        let mut all: Vec<_> = (0..10)
            .map(|n| verdict(Code::DeadOnReuse, &format!("192.0.2.{n}"), 1 + n % 4))
            .collect();
        all.push(verdict(Code::RateLimited, "192.0.2.99", 181));
        let [first, second] = &findings(&all)[..] else { panic!("two causes") };
        assert_eq!((first.verdict.code, first.connections), (Code::RateLimited, 181));
        assert_eq!((second.count, second.connections), (10, 23));
        assert_eq!(second.verdict.destination, "192.0.2.3", "the first that touches most");
        let named = [3, 7, 2, 6, 1, 5, 9, 0].map(|n| format!("192.0.2.{n}"));
        assert_eq!(keys(second), named);
    }

    #[test]
    fn the_host_speaks_for_its_destinations() {
        let code = Code::IdleKilledByMiddlebox;
        let with = |it: Verdict, seconds: u64| {
            it.advise_bound(Some(Mta::Postfix), format!("at most {seconds}s"), seconds)
        };
        let all = [
            with(verdict(code, "192.0.2.1", 9), 300),
            with(verdict(code, "192.0.2.2", 12), 200),
            with(verdict(code, TOTAL, 20), 340),
        ];
        let [finding] = &findings(&all)[..] else { panic!("one cause") };
        assert_eq!((finding.verdict.destination.as_str(), finding.connections), (TOTAL, 20));
        assert_eq!((finding.count, keys(finding)), (2, vec!["192.0.2.2", "192.0.2.1"]));
        let advice: Vec<_> = finding.verdict.advice.iter().map(|it| it.text.as_str()).collect();
        assert_eq!(advice, ["at most 200s"], "the strictest is right for all");
    }

    #[test]
    fn sums_over_destinations_are_not_said_of_each() {
        let code = Code::CachingWorks;
        let all = [verdict(code, "192.0.2.1", 9), verdict(code, TOTAL, 20)];
        let counts: Vec<_> = findings(&all).iter().map(|it| it.count).collect();
        assert_eq!(counts, [0, 1]);
    }

    #[test]
    fn both_families_of_a_destination_stay_apart() {
        let code = Code::DeadOnReuse;
        let mut found = Findings::default();
        for key in ["192.0.2.1", "192.0.2.2"] {
            found.add(&[verdict(code, key, 9), verdict(code, key, 5)], TOTAL);
        }
        let found: Vec<_> =
            found.sorted(TOTAL).iter().map(|it| (it.count, it.connections)).collect();
        assert_eq!(found, [(2, 18), (2, 10)]);
    }

    #[test]
    fn what_needs_different_settings_is_not_one_cause() {
        let limit = |destination: &str, n: u32| {
            verdict(Code::ConcurrencyLimited, destination, 5)
                .advise(None, format!("open at most {n}"))
        };
        let all = [limit("192.0.2.1", 5), limit("192.0.2.2", 10), limit("192.0.2.3", 5)];
        let counts: Vec<_> = findings(&all).iter().map(|it| it.count).collect();
        assert_eq!(counts, [2, 1]);
    }

    #[test]
    fn the_order_of_destinations_makes_no_difference() {
        let of = |n: u64| verdict(Code::GreetingSlow, &format!("192.0.2.{n}"), n % 5);
        let all: Vec<_> = (0..30).map(of).collect();
        let backwards: Vec<_> = (0..30).rev().map(of).collect();
        let [mut one, mut other] = [findings(&all), findings(&backwards)];
        // Of those that touch as many, either may speak.
        for finding in one.iter_mut().chain(&mut other) {
            finding.verdict.summary.clear();
            finding.verdict.destination.clear();
        }
        assert_eq!(one, other);
    }
}
