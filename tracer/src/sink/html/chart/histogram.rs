//! How often values occur.

use maud::{Markup, html};
use tracer_analysis::destination::HistogramSummary;

use super::{Area, Chart, Mark, Scale, count, count_ticks, n, place, time, time_ticks};

/// What values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Unit {
    /// Microseconds.
    Time,
    /// Counts.
    Number,
}

impl Unit {
    /// A value in words.
    pub(in super::super) fn show(self, value: u64) -> String {
        match self {
            Self::Time => time(value as f64),
            Self::Number => n(value),
        }
    }
}

const AREA: Area = Area { left: 38.0, right: 308.0, top: 46.0, bottom: 130.0 };
const SIZE: [f64; 2] = [330.0, 162.0];
/// Bars in a factor of ten.
const PER_DECADE: f64 = 10.0;
/// Whole numbers up to this have a bar each.
const SINGLE: u64 = 24;

/// A histogram of `of` with its quantiles; `None` if it is empty or its values are not in the report.
pub(in super::super) fn histogram(name: &str, unit: Unit, of: &HistogramSummary) -> Option<Markup> {
    let counts = of.counts().filter(|counts| !counts.is_empty())?;
    let across = Across::of(unit, of.max?);
    let bars = bars(&counts, across);
    let (low, high) = (bars.first()?.from, bars.last()?.to);
    let x = match across {
        Across::Single => Scale::linear(low, high, AREA.across()),
        Across::Log | Across::LogPlusOne => Scale::log(low, high, AREA.across()),
    };
    let highest = bars.iter().map(|bar| bar.count).max()?;
    let y = Scale::linear(0.0, highest as f64, AREA.up());
    let below = match across {
        Across::Single => {
            let whole = x.round(6).into_iter().filter(|n| *n < high);
            whole.map(|n| (x.at(n + 0.5), count(n))).collect()
        }
        Across::Log => time_ticks(&x),
        Across::LogPlusOne => {
            let on = NUMBERS.iter().filter(|n| (low - 1.0..high - 1.0).contains(*n));
            on.map(|n| (x.at(n + 1.0), count(*n))).collect()
        }
    };
    let axis = match across {
        Across::Log => "time, log scale",
        Across::Single => "number",
        Across::LogPlusOne => "number, log scale",
    };
    let quantiles = [("p50", of.p50?), ("p90", of.p90?), ("p99", of.p99?)];
    let words: Vec<String> =
        quantiles.iter().map(|(name, value)| format!("{name} {}", unit.show(*value))).collect();
    let description = format!(
        "{} values, from {} to {}; {}",
        n(of.count),
        unit.show(of.min?),
        unit.show(of.max?),
        words.join(", ")
    );
    // A whole number stands in the middle of its bar.
    let at = |value: u64| match across {
        Across::Single => value as f64 + 0.5,
        Across::Log => value as f64,
        Across::LogPlusOne => value as f64 + 1.0,
    };
    let marks = quantiles.iter().zip(&words).map(|((name, value), words)| Mark {
        x: x.at(at(*value)),
        class: name,
        label: words.clone(),
    });
    let marks: Vec<Mark> = marks.collect();
    let content = html! {
        (AREA.axis_left("", &count_ticks(&y, 3)))
        @for bar in bars.iter().filter(|bar| bar.count > 0) {
            @let (left, right, top) = (x.at(bar.from), x.at(bar.to), y.at(bar.count as f64));
            rect class="bar" x=(place(left)) y=(place(top.min(AREA.bottom - 0.7)))
                width=(place((right - left).max(0.7)))
                height=(place((AREA.bottom - top).max(0.7))) {}
        }
        (AREA.marks(&marks))
        (AREA.axis_below(axis, &below))
    };
    let title = format!("{name} (n = {})", n(of.count));
    let chart = Chart { size: SIZE, class: "small", title: &title, description: &description };
    Some(chart.draw(&content))
}

/// Values from `from` up to, but not including, `to`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bar {
    from: f64,
    to: f64,
    count: u64,
}

/// How values are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Across {
    /// A bar for each whole number, from 0.
    Single,
    Log,
    /// The same of the value plus one: there is room for 0.
    LogPlusOne,
}

impl Across {
    const fn of(unit: Unit, max: u64) -> Self {
        match unit {
            Unit::Time => Self::Log,
            Unit::Number if max <= SINGLE => Self::Single,
            Unit::Number => Self::LogPlusOne,
        }
    }

    /// Which bar a value is in.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and small"
    )]
    fn index(self, value: u64) -> usize {
        let of = match self {
            Self::Single => return value as usize,
            Self::Log => value.max(1) as f64,
            Self::LogPlusOne => value as f64 + 1.0,
        };
        (of.log10() * PER_DECADE + 1e-9).floor() as usize
    }

    /// Where a bar begins, on the axis.
    fn edge(self, at: usize) -> f64 {
        if self == Self::Single { at as f64 } else { 10f64.powf(at as f64 / PER_DECADE) }
    }
}

/// Whole numbers that are named on an axis with room for 0.
const NUMBERS: [f64; 14] =
    [0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 1e4, 1e5, 1e6];

/// Counts of neighbouring values together, all bars of a width on the axis; empty ones are there too.
fn bars(counts: &[(u64, u64)], across: Across) -> Vec<Bar> {
    let Some(&(first, _)) = counts.first() else { return Vec::new() };
    let last = counts.last().map_or(first, |&(last, _)| last);
    let (low, high) = (across.index(first), across.index(last));
    // A single bar would be as wide as the drawing.
    let (low, high) = match (across, high - low) {
        (Across::Single, _) => (0, (high + 1).max(5)),
        (_, ..5) => (low.saturating_sub(3), high + 3),
        _ => (low, high),
    };
    let mut bars: Vec<Bar> = (low..=high)
        .map(|at| Bar { from: across.edge(at), to: across.edge(at + 1), count: 0 })
        .collect();
    for &(value, count) in counts {
        bars[across.index(value) - low].count += count;
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_one_bar() {
        let values: Vec<(u64, u64)> = (0..60).map(|n| (n * n * n, n + 1)).collect();
        let bars = bars(&values, Across::Log);
        assert_eq!(bars.iter().map(|bar| bar.count).sum::<u64>(), (1..=60).sum::<u64>());
        for (value, _) in &values[1..] {
            let in_it = |bar: &&Bar| (bar.from..bar.to).contains(&((*value as f64) * (1.0 + 1e-9)));
            assert!(bars.iter().find(in_it).is_some_and(|bar| bar.count > 0), "{value}");
        }
    }

    #[test]
    fn small_numbers_have_a_bar_each() {
        let counts: Vec<u64> =
            bars(&[(0, 3), (1, 4), (6, 1)], Across::Single).iter().map(|bar| bar.count).collect();
        assert_eq!(counts, [3, 4, 0, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert!(histogram("x", Unit::Time, &HistogramSummary::default()).is_none());
    }
}
