//! Medians and their spread.

use std::fmt;

/// What several rounds gave.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rounds(Vec<f64>);

impl Rounds {
    /// Of these values, at least one.
    pub(crate) fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The value in the middle; the mean of both if there are two; 0 of none.
    pub(crate) fn median(&self) -> f64 {
        let upper = self.0.get(self.0.len() / 2);
        let lower = self.0.get(self.0.len().saturating_sub(1) / 2);
        upper.zip(lower).map_or(0.0, |(a, b)| f64::midpoint(*a, *b))
    }

    /// Smallest and largest.
    pub(crate) fn range(&self) -> [f64; 2] {
        [self.0.first(), self.0.last()].map(|end| end.copied().unwrap_or(0.0))
    }
}

/// Median, then the range in parentheses, with the precision asked for.
impl fmt::Display for Rounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(1);
        let [low, high] = self.range();
        write!(f, "{:.digits$} ({low:.digits$} to {high:.digits$})", self.median())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_range() {
        assert_eq!(Rounds::new(vec![3.0, 1.0, 2.0]).to_string(), "2.0 (1.0 to 3.0)");
        assert_eq!(format!("{:.0}", Rounds::new(vec![4.0, 1.0])), "2 (1 to 4)");
        assert!(Rounds::new(Vec::new()).median().abs() < f64::EPSILON);
    }
}
