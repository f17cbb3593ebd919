//! What one side says about a measure, and how far off that can be.

use super::normal::two_sided;

/// Connections that count as one independent observation. Dividing the number by four doubles the width
/// of every interval.
pub const PER_OBSERVATION: f64 = 4.0;

/// One over the largest relative error of a quantile of a histogram with two significant digits.
const RESOLUTION: f64 = 100.0;
/// Values below this have a bucket of their own.
const EXACT_BELOW: u64 = 256;

/// Widest interval that is tried, in standard deviations.
const WIDEST: f64 = 40.0;

/// Values and how often each occurs, ascending.
pub(super) type Counts = Vec<(u64, u64)>;

/// A measured quantity of one side.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Estimate {
    /// A share between 0 and 1.
    Share {
        /// The share.
        share: f64,
        /// Independent observations that it rests on.
        observations: f64,
    },
    /// A quantile of a histogram that is not empty.
    Quantile {
        /// Which one, between 0 and 1.
        q: f64,
        /// The histogram.
        counts: Counts,
    },
}

impl Estimate {
    /// `part` of `all` connections; `None` without any, and if a file says something that cannot be.
    pub(super) fn share(part: u64, all: u64) -> Option<Self> {
        let share = part as f64 / all as f64;
        (all > 0 && part <= all)
            .then_some(Self::Share { share, observations: all as f64 / PER_OBSERVATION })
    }

    pub(super) fn quantile(q: f64, counts: &Counts) -> Option<Self> {
        (!counts.is_empty()).then(|| Self::Quantile { q, counts: counts.clone() })
    }

    pub(super) fn value(&self) -> f64 {
        match self {
            Self::Share { share, .. } => *share,
            Self::Quantile { q, counts } => at_share(counts, *q) as f64,
        }
    }

    /// The interval that is `z` standard deviations wide to each side.
    fn limits(&self, z: f64) -> (f64, f64) {
        match self {
            Self::Share { share, observations } => wilson(*share, *observations, z),
            Self::Quantile { q, counts } => between_order_statistics(*q, counts, z),
        }
    }
}

/// Wilson's score interval.
fn wilson(share: f64, n: f64, z: f64) -> (f64, f64) {
    let z2 = z * z;
    let centre = share + z2 / (2.0 * n);
    let half = z * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    // At the ends rounding must not push the limit past the value.
    let (low, high) = ((centre - half) / scale, (centre + half) / scale);
    (low.clamp(0.0, share), high.clamp(share, 1.0))
}

/// Values at the ranks that the number of values below the quantile can reach, one half rank and the
/// resolution of the histogram wider. Beyond the last rank there is no limit.
fn between_order_statistics(q: f64, counts: &Counts, z: f64) -> (f64, f64) {
    let n = total(counts) as f64 / PER_OBSERVATION;
    let half = z * (q * (1.0 - q) / n).sqrt() + 0.5 / n;
    let (low, high) = (q - half, q + half);
    let low = if low <= 0.0 { 0.0 } else { coarse(at_share(counts, low), -1.0) };
    let high = if high >= 1.0 { f64::INFINITY } else { coarse(at_share(counts, high), 1.0) };
    (low, high)
}

/// A value of the histogram, moved by its largest error.
fn coarse(value: u64, sign: f64) -> f64 {
    let error = if value < EXACT_BELOW { 0.0 } else { value as f64 / RESOLUTION };
    value as f64 + sign * error
}

pub(super) fn total(counts: &Counts) -> u64 {
    counts.iter().fold(0, |sum, (_, n)| sum.saturating_add(*n))
}

/// The smallest value that the share `q` of all values does not exceed; 0 if there are none.
pub(super) fn at_share(counts: &Counts, q: f64) -> u64 {
    // A rounding error must not lift the rank.
    let rank = q * total(counts) as f64 - 1e-6;
    let mut passed = 0_u64;
    let found = counts.iter().find(|(_, n)| {
        passed = passed.saturating_add(*n);
        passed as f64 >= rank
    });
    found.or(counts.last()).map_or(0, |(value, _)| *value)
}

/// The interval of `after` - `before` that is `z` standard deviations wide to each side.
pub(super) fn difference(before: &Estimate, after: &Estimate, z: f64) -> (f64, f64) {
    let (a, b) = (before.value(), after.value());
    let ((a_low, a_high), (b_low, b_high)) = (before.limits(z), after.limits(z));
    let low = b - a - (b - b_low).hypot(a_high - a);
    let high = b - a + (b_high - b).hypot(a - a_low);
    (low, high)
}

/// Probability of a difference at least as large if there were none: that of the widest interval that
/// leaves zero out.
pub(super) fn chance(before: &Estimate, after: &Estimate) -> f64 {
    let apart = |z: f64| {
        let (low, high) = difference(before, after, z);
        low > 0.0 || high < 0.0
    };
    let (mut low, mut high) = (0.0, WIDEST);
    if !apart(low) {
        return 1.0;
    }
    // Intervals only grow with `z`.
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if apart(middle) { low = middle } else { high = middle }
    }
    two_sided(low)
}

/// Holm's correction: probabilities as if each had been looked at alone, so that a limit holds for all of
/// them together. In the order given.
pub(super) fn holm(chances: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..chances.len()).collect();
    order.sort_by(|&a, &b| chances[a].total_cmp(&chances[b]));
    let mut corrected = vec![1.0; chances.len()];
    let mut least = 0.0_f64;
    for (rank, &at) in order.iter().enumerate() {
        least = least.max((chances[at] * (chances.len() - rank) as f64).min(1.0));
        corrected[at] = least;
    }
    corrected
}
