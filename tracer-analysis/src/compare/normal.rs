//! The normal distribution.

use std::f64::consts::PI;

/// Beyond this the series would need too many terms; the fraction converges quickly.
const SERIES_END: f64 = 3.0;

/// Probability that a standard normal variable is farther from 0 than `z`, on either side.
pub(super) fn two_sided(z: f64) -> f64 {
    (2.0 * upper_tail(z.abs())).clamp(0.0, 1.0)
}

/// Probability of more than `z`, which is not negative.
fn upper_tail(z: f64) -> f64 {
    let density = (-z * z / 2.0).exp() / (2.0 * PI).sqrt();
    if z < SERIES_END {
        // Abramowitz and Stegun, 26.2.11.
        let (mut term, mut sum) = (z, z);
        for odd in (3..100).step_by(2) {
            term *= z * z / f64::from(odd);
            sum += term;
        }
        0.5 - density * sum
    } else {
        // 26.2.14.
        let fraction = (1..100).rev().fold(z, |below, n| z + f64::from(n) / below);
        density / fraction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let known = [
            (0.0, 1.0),
            (0.674_489_75, 0.5),
            (1.959_963_985, 0.05),
            (2.575_829_304, 0.01),
            (3.290_526_731, 0.001),
            (4.891_638_476, 1e-6),
            (6.466_951_346, 1e-10),
        ];
        for (z, probability) in known {
            let found = two_sided(z);
            assert!((found / probability - 1.0).abs() < 1e-5, "{z}: {found}");
            assert!((two_sided(-z) - found).abs() < f64::EPSILON);
        }
        assert!(two_sided(60.0) >= 0.0);
    }

    #[test]
    fn both_formulas_agree_where_they_meet() {
        let (below, above) = (two_sided(SERIES_END - 1e-9), two_sided(SERIES_END));
        assert!((below / above - 1.0).abs() < 1e-6);
    }
}
