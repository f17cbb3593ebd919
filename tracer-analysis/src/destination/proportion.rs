//! Confidence interval of a share.

/// Beyond this many cases on the rarer side, the exact interval is as good as that of Wilson.
const EXACT: u64 = 300;
/// Two-sided 95 %.
const TAIL: f64 = 0.025;
/// Standard normal quantile of it.
const Z: f64 = 1.959_963_984_540_054;

/// 95 % confidence interval of a share of which `hits` of `count` cases were seen: that of Clopper and
/// Pearson (1934), which is exact; that of Wilson where both hits and misses are many. `None` without
/// cases.
pub(super) fn interval(hits: u64, count: u64) -> Option<[f64; 2]> {
    let misses = count.checked_sub(hits)?;
    if count == 0 {
        return None;
    }
    Some(match (hits, misses) {
        (..=EXACT, _) => [lowest(hits, count), highest(hits, count)],
        (_, ..=EXACT) => [1.0 - highest(misses, count), 1.0 - lowest(misses, count)],
        _ => wilson(hits as f64, count as f64),
    })
}

/// The share with which `hits` or more come with probability [`TAIL`].
fn lowest(hits: u64, count: u64) -> f64 {
    match hits.checked_sub(1) {
        None => 0.0,
        Some(fewer) => solve(|share| at_most(fewer, count, share) > 1.0 - TAIL),
    }
}

/// The share with which `hits` or fewer come with probability [`TAIL`].
fn highest(hits: u64, count: u64) -> f64 {
    if hits == count { 1.0 } else { solve(|share| at_most(hits, count, share) > TAIL) }
}

/// The share up to which `holds`.
fn solve(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if holds(middle) { low = middle } else { high = middle }
    }
    low
}

/// Probability of `hits` or fewer of `count`, each of which hits with probability `share`, between 0 and
/// 1.
fn at_most(hits: u64, count: u64, share: f64) -> f64 {
    let odds = (share / (1.0 - share)).ln();
    let mut term = count as f64 * (-share).ln_1p(); // logarithm: the first may be too small for a number
    let mut sum = 0.0;
    for n in 0..=hits.min(count) {
        sum += term.exp();
        term += ((count - n) as f64 / (n + 1) as f64).ln() + odds;
    }
    sum
}

/// The interval of Wilson (1927).
fn wilson(hits: f64, count: f64) -> [f64; 2] {
    let square = Z * Z;
    let centre = (hits + square / 2.0) / (count + square);
    let half = Z / (count + square) * (hits * (count - hits) / count + square / 4.0).sqrt();
    [centre - half, centre + half]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(hits: u64, count: u64) -> String {
        let [low, high] = interval(hits, count).unwrap();
        format!("{low:.4} {high:.4}")
    }

    /// Tabulated values, as in R's `binom.test`.
    #[test]
    fn published_values() {
        assert_eq!(shown(0, 10), "0.0000 0.3085");
        assert_eq!(shown(10, 10), "0.6915 1.0000");
        assert_eq!(shown(1, 10), "0.0025 0.4450");
        assert_eq!(shown(5, 10), "0.1871 0.8129");
        assert_eq!(shown(1, 1), "0.0250 1.0000");
    }

    #[test]
    fn one_of_very_many() {
        // 3.689 / n: the bound of Poisson's law for no case at all.
        let [low, high] = interval(0, 1_000_000_000).unwrap();
        assert!(low == 0.0 && (high * 1e9 - 3.689).abs() < 0.001, "{high}");
        assert_eq!(interval(0, 0), None);
        assert_eq!(interval(2, 1), None);
    }

    #[test]
    fn many_on_both_sides() {
        assert_eq!(shown(5_000, 10_000), "0.4902 0.5098");
        let [exact, _] = interval(300, 10_000).unwrap();
        let [approximate, _] = interval(301, 10_000).unwrap();
        assert!((exact - approximate).abs() < 0.000_3);
    }
}
