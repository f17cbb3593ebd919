//! Whether refusals begin where a number reaches a limit.

/// One observation: the number, whether it was refused, and whether the one before it in the list came
/// right before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observation {
    pub(super) number: u32,
    pub(super) refused: bool,
    pub(super) follows: bool,
}

/// Those on one side of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Side {
    pub(super) all: u64,
    pub(super) refused: u64,
}

impl Side {
    fn with(self, refused: bool) -> Self {
        Self { all: self.all + 1, refused: self.refused + u64::from(refused) }
    }

    pub(super) fn share_refused(self) -> f64 {
        if self.all == 0 { 0.0 } else { self.refused as f64 / self.all as f64 }
    }

    /// Logarithm of the highest likelihood of these outcomes with one probability for all.
    fn log_likelihood(self) -> f64 {
        let term = |n: u64| if n == 0 { 0.0 } else { n as f64 * (n as f64 / self.all as f64).ln() };
        term(self.refused) + term(self.all - self.refused)
    }
}

/// The step that explains the outcomes best: a probability of refusal below the limit, another from it on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Step {
    pub(super) limit: u32,
    /// Highest number that was seen below it: the limit lies above.
    pub(super) after: u32,
    pub(super) below: Side,
    pub(super) from: Side,
    /// By how much it is better than one probability for all, as the logarithm of the likelihood.
    pub(super) gain: f64,
    /// Probability that refusals begin and end as often as here at the limit by chance.
    pub(super) chance: f64,
}

/// Finds it; `None` unless refusals become more likely somewhere.
pub(super) fn step(observations: &[Observation]) -> Option<Step> {
    let mut sorted: Vec<_> = observations.iter().map(|it| (it.number, it.refused)).collect();
    sorted.sort_unstable();
    let total = sorted.iter().fold(Side::default(), |side, (_, refused)| side.with(*refused));
    let whole = total.log_likelihood();
    let mut below = Side::default();
    let (mut best, mut after): (Option<Step>, u32) = (None, 0);
    for same in sorted.chunk_by(|a, b| a.0 == b.0) {
        let from = Side { all: total.all - below.all, refused: total.refused - below.refused };
        let gain = below.log_likelihood() + from.log_likelihood() - whole;
        let rises = below.all > 0 && from.share_refused() > below.share_refused();
        if rises && best.is_none_or(|best| gain > best.gain) {
            best = Some(Step { limit: same[0].0, after, below, from, gain, chance: 1.0 });
        }
        after = same[0].0;
        below = same.iter().fold(below, |side, (_, refused)| side.with(*refused));
    }
    best.map(|step| Step { chance: chance(observations, step.limit), ..step })
}

impl Step {
    /// Whether nearly all are refused from the limit on, and nearly none below.
    pub(super) fn is_sharp(&self) -> bool {
        let misses = self.below.refused + (self.from.all - self.from.refused);
        self.from.share_refused() >= 0.8
            && self.below.refused * 5 <= self.below.refused + self.from.refused
            && misses * 10 <= self.below.all + self.from.all
    }
}

/// Probability that as many turns from accepted to refused and back fall on the very connection at which
/// the number crosses the limit, if they fell anywhere with the same probability.
///
/// Refusals come in runs, whatever the reason; so what counts is not how many there are but where runs
/// begin and end. One turn is used up by having chosen the limit.
fn chance(observations: &[Observation], limit: u32) -> f64 {
    let (mut pairs, mut crossings, mut turns, mut both) = (0_u32, 0_u32, 0_u32, 0_u32);
    for pair in observations.windows(2).filter(|pair| pair[1].follows) {
        let [before, after] = [pair[0], pair[1]];
        let crosses = (before.number >= limit) != (after.number >= limit);
        let turns_here = before.refused != after.refused;
        let same_way = (after.number >= limit) == after.refused;
        pairs += 1;
        crossings += u32::from(crosses);
        turns += u32::from(turns_here);
        both += u32::from(crosses && turns_here && same_way);
    }
    if both < 2 {
        return 1.0;
    }
    let p = (f64::from(crossings) / f64::from(pairs)).clamp(0.02, 0.5);
    at_least(both - 1, turns - 1, p)
}

/// Probability of `k` or more successes in `n` trials.
pub(super) fn at_least(k: u32, n: u32, p: f64) -> f64 {
    let mut log_choose = 0.0_f64;
    let mut sum = 0.0;
    for i in 0..=n {
        if i > 0 {
            log_choose += f64::from(n - i + 1).ln() - f64::from(i).ln();
        }
        if i >= k {
            let log = log_choose + f64::from(i) * p.ln() + f64::from(n - i) * (1.0 - p).ln();
            sum += log.exp();
        }
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observe(numbers: &[(u32, bool)]) -> Vec<Observation> {
        let all = numbers.iter().enumerate();
        all.map(|(at, &(number, refused))| Observation { number, refused, follows: at > 0 })
            .collect()
    }

    #[test]
    fn finds_the_limit() {
        let wave: Vec<_> = (0..5).map(|n| (n, false)).chain((0..4).map(|_| (5, true))).collect();
        let found = step(&observe(&wave.repeat(5))).unwrap();
        assert_eq!((found.limit, found.below.refused, found.from.refused), (5, 0, 20));
        assert!(found.is_sharp() && found.chance < 0.001, "{found:?}");
    }

    #[test]
    fn one_run_proves_nothing() {
        let mut all: Vec<_> = (0..50).map(|n| (n, false)).collect();
        all.extend((50..90).map(|n| (n, true)));
        let found = step(&observe(&all)).unwrap();
        assert!(found.is_sharp() && found.chance > 0.5, "{found:?}");
    }

    #[test]
    fn refusals_that_become_rarer_are_no_limit() {
        assert_eq!(step(&observe(&[(1, true), (2, true), (3, false)])), None);
        assert_eq!(step(&[]), None);
    }

    #[test]
    fn binomial_tail() {
        assert!((at_least(0, 5, 0.3) - 1.0).abs() < 1e-9);
        assert!((at_least(2, 3, 0.5) - 0.5).abs() < 1e-9);
        assert!((at_least(10, 10, 0.5) - 0.5_f64.powi(10)).abs() < 1e-12);
    }
}
