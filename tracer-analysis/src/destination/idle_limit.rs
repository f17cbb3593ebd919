//! The idle limit of a path: the length of idle gap beyond which sessions are dead.
//!
//! A session that is used again tells whether the path still knew it after that gap: alive or dead. Where
//! a box forgets sessions after a time T, all gaps below T end alive and all above end dead, apart from
//! deaths with another cause. So the limit is where the share of the dead jumps: a change point, found by
//! maximum likelihood with one share below and a higher one above.

use crate::destination::{Observed, proportion};

/// Half of the 95 % quantile of chi-squared with one degree of freedom: what a likelihood may lose within
/// a confidence interval.
const INTERVAL_LOSS: f64 = 1.920_7;

/// Share of the dead above the limit, at least. Where more survive, idling is not what killed.
const DEAD_ABOVE: f64 = 0.5;

/// The limit, and what it rests on. Times are in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IdleLimit {
    /// Longest gap below the limit after which sessions were alive; `None` if none was.
    pub alive_us: Option<u64>,
    /// Shortest gap above the limit after which sessions were dead.
    pub dead_us: u64,
    /// 95 % confidence interval of the limit, from profile likelihood: above the first, at most the
    /// second.
    pub interval_us: [u64; 2],
    /// Gaps below the limit.
    pub below: Tally,
    /// Gaps above the limit.
    pub above: Tally,
    /// How well chance explains the same deaths without a limit, 0 to 1: the likelihood of a constant
    /// rate of deaths, per gap or per second of idling, whichever does better, against that of the limit.
    pub chance: f64,
}

/// The living and the dead on one side of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Gaps that ended alive.
    pub alive: u64,
    /// Gaps that ended in death.
    pub dead: u64,
}

impl Tally {
    fn of(observed: &[Observed]) -> Self {
        observed.iter().fold(Self::default(), Self::plus)
    }

    fn plus(self, it: &Observed) -> Self {
        Self { alive: self.alive + it.left, dead: self.dead + it.died }
    }

    fn count(self) -> u64 {
        self.alive + self.dead
    }

    /// Share of the dead; 0 without gaps.
    pub fn dead_share(self) -> f64 {
        if self.dead == 0 { 0.0 } else { self.dead as f64 / self.count() as f64 }
    }

    /// 95 % confidence interval of that share (Clopper and Pearson); `None` without gaps.
    pub fn dead_share_interval(self) -> Option<[f64; 2]> {
        proportion::interval(self.dead, self.count())
    }

    /// Log-likelihood with the share that fits best.
    fn likelihood(self) -> f64 {
        let share = self.dead_share();
        let part = |n: u64, share: f64| if n == 0 { 0.0 } else { n as f64 * share.ln() };
        part(self.dead, share) + part(self.alive, 1.0 - share)
    }

    /// Whether the share was fitted, and is not 0 or 1.
    fn is_mixed(self) -> bool {
        self.dead > 0 && self.alive > 0
    }
}

/// Everything before a position below the limit, everything from it on above.
struct Split {
    at: usize,
    below: Tally,
    above: Tally,
    likelihood: f64,
}

impl IdleLimit {
    /// The limit that explains best who died; `None` if nobody did, or if the deaths do not line up with
    /// a limit. `outcomes` is in ascending order, each time once; `left` are those that were alive.
    pub fn estimate(outcomes: &[Observed]) -> Option<Self> {
        let splits: Vec<Split> = splits(outcomes).collect();
        let best = splits
            .iter()
            .filter(|it| outcomes[it.at].died > 0 && it.above.dead_share() >= DEAD_ABOVE)
            .reduce(|best, it| if it.likelihood > best.likelihood { it } else { best })?;
        if best.above.dead < 2 && best.below.alive == 0 {
            return None; // one session, which died
        }
        let enough = best.likelihood - INTERVAL_LOSS;
        let likely = || splits.iter().filter(|it| it.likelihood >= enough).map(|it| it.at);
        let (first, last) = (likely().min()?, likely().max()?);
        let before = |at: usize| at.checked_sub(1).map_or(0, |at| outcomes[at].time_us);
        let living = outcomes[..best.at].iter().rev().find(|it| it.left > 0);
        Some(Self {
            alive_us: living.map(|it| it.time_us),
            dead_us: outcomes[best.at].time_us,
            interval_us: [before(first), outcomes[last].time_us],
            below: best.below,
            above: best.above,
            chance: chance(outcomes, best),
        })
    }
}

/// All ways to cut in two with a higher share of the dead above.
fn splits(outcomes: &[Observed]) -> impl Iterator<Item = Split> {
    let all = Tally::of(outcomes);
    let mut below = Tally::default();
    let each = outcomes.iter().enumerate().map(move |(at, it)| {
        let above = Tally { alive: all.alive - below.alive, dead: all.dead - below.dead };
        let cut = (at, below, above);
        below = below.plus(it);
        cut
    });
    each.filter(|(_, below, above)| above.dead_share() > below.dead_share()).map(
        |(at, below, above)| {
            let likelihood = below.likelihood() + above.likelihood();
            Split { at, below, above, likelihood }
        },
    )
}

/// See [`IdleLimit::chance`]. Each share that had to be fitted counts against the limit, as in Akaike's
/// criterion.
fn chance(outcomes: &[Observed], limit: &Split) -> f64 {
    let fitted = u8::from(limit.below.is_mixed()) + u8::from(limit.above.is_mixed());
    let per_gap = Tally::of(outcomes).likelihood();
    let without = per_gap.max(constant_rate(outcomes));
    (without - limit.likelihood + f64::from(fitted)).exp().min(1.0)
}

/// Log-likelihood of deaths that come at a constant rate while a session idles, with the rate that fits
/// best: a gap of g seconds is survived with probability exp(-rate g).
fn constant_rate(outcomes: &[Observed]) -> f64 {
    let seconds = |it: &Observed| it.time_us.max(1) as f64 / 1e6;
    let survived: f64 = outcomes.iter().map(|it| seconds(it) * it.left as f64).sum();
    if survived == 0.0 {
        return 0.0; // all died, and so they do at a high enough rate
    }
    let dead = || outcomes.iter().filter(|it| it.died > 0);
    let slope = |rate: f64| {
        let gain = dead().map(|it| it.died as f64 * seconds(it) / (rate * seconds(it)).exp_m1());
        gain.sum::<f64>() - survived
    };
    // The slope falls with the rate; where it is 0 lies somewhere between once in ages and at once.
    let (mut low, mut high) = (1e-12_f64, 1e7_f64);
    for _ in 0..120 {
        let middle = (low * high).sqrt();
        if middle <= low || middle >= high {
            break; // there is no number between them
        }
        if slope(middle) > 0.0 { low = middle } else { high = middle }
    }
    let died = dead().map(|it| it.died as f64 * (-(-low * seconds(it)).exp_m1()).ln());
    died.sum::<f64>() - low * survived
}
