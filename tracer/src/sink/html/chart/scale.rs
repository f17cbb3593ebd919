//! From values to places on a drawing, and which values are named on an axis.

/// An axis of a plot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    kind: Kind,
    low: f64,
    high: f64,
    /// Where `low` and `high` are, in units of the drawing.
    from: f64,
    to: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Linear,
    /// Equal distances are equal factors.
    Log,
    /// The same of the value plus one: there is room for 0.
    LogPlusOne,
}

impl Scale {
    /// From 0 or less up to `high`.
    pub(super) fn linear(low: f64, high: f64, [from, to]: [f64; 2]) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { kind: Kind::Linear, low, high, from, to }
    }

    /// Both ends are more than 0.
    pub(super) fn log(low: f64, high: f64, [from, to]: [f64; 2]) -> Self {
        let low = low.max(f64::MIN_POSITIVE);
        let high = if high > low { high } else { low * 10.0 };
        Self { kind: Kind::Log, low, high, from, to }
    }

    /// From 0 up to `high`.
    pub(super) fn log_plus_one(high: f64, [from, to]: [f64; 2]) -> Self {
        Self { kind: Kind::LogPlusOne, low: 0.0, high: high.max(1.0), from, to }
    }

    /// Where `value` is; what lies outside is at the nearest end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let on = |value: f64| match self.kind {
            Kind::Linear => value,
            Kind::Log => value.max(f64::MIN_POSITIVE).log10(),
            Kind::LogPlusOne => (value + 1.0).log10(),
        };
        let (low, high) = (on(self.low), on(self.high));
        let share = ((on(value) - low) / (high - low)).clamp(0.0, 1.0);
        self.from + share * (self.to - self.from)
    }

    /// Of `candidates`, those that lie on it.
    pub(super) fn those_on(&self, candidates: &[f64]) -> Vec<f64> {
        let (low, high) = (self.low * (1.0 - 1e-9), self.high * (1.0 + 1e-9));
        candidates.iter().copied().filter(|value| (low..=high).contains(value)).collect()
    }

    /// Powers of ten, with 2 and 5 times each where there is room.
    pub(super) fn decades(&self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let steps: &[f64] = match decades {
            ..=1.0 => &[1.0, 2.0, 3.0, 5.0, 7.0],
            ..=2.5 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        #[expect(clippy::cast_possible_truncation, reason = "exponents of a float are small")]
        let exponents = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let every = if decades > 7.0 { 2 } else { 1 };
        let powers = exponents.filter(|exponent| exponent % every == 0);
        let all: Vec<f64> = powers
            .flat_map(|exponent| steps.iter().map(move |step| step * 10f64.powi(exponent)))
            .collect();
        self.those_on(&all)
    }

    /// At most `most` round numbers; whole ones.
    pub(super) fn round(&self, most: usize) -> Vec<f64> {
        let span = self.high - self.low;
        let steps =
            (0..19).flat_map(|exponent| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(exponent)));
        let mut fitting = steps.filter(|step| span / step <= most as f64);
        let Some(step) = fitting.next() else { return vec![self.low, self.high] };
        let first = (self.low / step).ceil();
        (0..=most).map(|n| (first + n as f64) * step).filter(|value| *value <= self.high).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn same(values: &[f64], expected: &[f64]) {
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * b.abs();
        let all = values.len() == expected.len() && values.iter().zip(expected).all(near);
        assert!(all, "{values:?} is not {expected:?}");
    }

    #[test]
    fn values_have_their_place() {
        let linear = Scale::linear(0.0, 10.0, [100.0, 0.0]);
        same(&[0.0, 5.0, 10.0, 11.0].map(|v| linear.at(v)), &[100.0, 50.0, 0.0, 0.0]);
        let log = Scale::log(1.0, 100.0, [0.0, 10.0]);
        same(&[0.0, 1.0, 10.0, 100.0].map(|v| log.at(v)), &[0.0, 0.0, 5.0, 10.0]);
        let with_zero = Scale::log_plus_one(99.0, [0.0, 10.0]);
        same(&[0.0, 9.0, 99.0].map(|v| with_zero.at(v)), &[0.0, 5.0, 10.0]);
        assert!(Scale::log(0.0, 0.0, [0.0, 1.0]).at(0.0).is_finite());
        assert!(Scale::linear(0.0, 0.0, [0.0, 1.0]).at(0.0).is_finite());
    }

    #[test]
    fn axes_name_round_values() {
        let span = [0.0, 1.0];
        same(
            &Scale::log(90.0, 11_000.0, span).decades(),
            &[100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4],
        );
        assert_eq!(Scale::log(1.0, 1e6, span).decades().len(), 7);
        same(&Scale::linear(0.0, 23.0, span).round(4), &[0.0, 10.0, 20.0]);
        same(&Scale::linear(0.0, 1.0, span).round(4), &[0.0, 1.0]);
        same(&Scale::linear(0.0, 5.0, span).round(5), &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    }
}
