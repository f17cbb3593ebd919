//! Percentile curves, as `HdrHistogram` draws them: across, each nine more is as far again.

use maud::{Markup, html};
use tracer_analysis::destination::HistogramSummary;

use super::{Area, Chart, Scale, line, n, place, time, time_ticks};

/// A distribution of times in microseconds.
pub(in super::super) struct Line<'a> {
    pub(in super::super) name: &'a str,
    pub(in super::super) of: &'a HistogramSummary,
}

const AREA: Area = Area { left: 52.0, right: 470.0, top: 22.0, bottom: 222.0 };
const SIZE: [f64; 2] = [640.0, 254.0];
/// Distance of labels.
const LABEL: f64 = 12.0;
/// Values of a curve at most: enough for any screen.
const POINTS: usize = 160;

/// The curves of those distributions that have two values or more; `None` if there are none.
pub(in super::super) fn percentiles(lines: &[Line<'_>]) -> Option<Markup> {
    let curves: Vec<Curve<'_>> = lines.iter().filter_map(Curve::new).collect();
    let most = curves.iter().map(|curve| curve.count).max()?;
    let lowest = curves.iter().filter_map(|it| it.values.first()).map(|it| it.1).min()?;
    let highest = curves.iter().filter_map(|it| it.values.last()).map(|it| it.1).max()?;
    let x = Scale::log(1.0, (most as f64).max(10.0), AREA.across());
    let y = Scale::log(decade(lowest as f64), (highest as f64).max(1.0) * 1.1, AREA.up());
    let names = [(1.0, "0 %"), (2.0, "50 %"), (10.0, "90 %"), (100.0, "99 %"), (1e3, "99.9 %")];
    let more = [(1e4, "99.99 %"), (1e5, "99.999 %"), (1e6, "99.9999 %"), (1e7, "99.99999 %")];
    let below: Vec<(f64, String)> = (names.iter().chain(&more))
        .filter(|(at, _)| *at <= (most as f64).max(10.0))
        .map(|(at, name)| (x.at(*at), (*name).to_owned()))
        .collect();
    let ends: Vec<f64> = curves.iter().map(|curve| y.at(curve.last() as f64)).collect();
    let labels = spread(&ends);
    let content = html! {
        (AREA.axis_left("time, log scale", &time_ticks(&y)))
        @for (at, curve) in curves.iter().enumerate() {
            @let points: Vec<(f64, f64)> = curve.points(&x, &y);
            path class={ "curve dash" (at % 6) } d=(line(points.iter().copied())) {}
            @if let Some((end_x, end_y)) = points.last() {
                (marker(at, *end_x, *end_y))
                path class="leader" d=(line([(*end_x, *end_y), (AREA.right + 6.0, labels[at])])) {}
            }
            (marker(at, AREA.right + 10.0, labels[at]))
            text x=(place(AREA.right + 17.0)) y=(place(labels[at] + 3.5)) class="label start" {
                (curve.name) " " (time(curve.last() as f64))
            }
        }
        (AREA.axis_below("percentile", &below))
    };
    let words: Vec<String> = curves.iter().map(Curve::words).collect();
    let chart = Chart {
        size: SIZE,
        class: "wide",
        title: "Percentiles of the phases; the line ends at the slowest",
        description: &words.join("; "),
    };
    Some(chart.draw(&content))
}

struct Curve<'a> {
    name: &'a str,
    count: u64,
    /// How many values are not above this one, ascending.
    values: Vec<(u64, u64)>,
    summary: &'a HistogramSummary,
}

impl<'a> Curve<'a> {
    fn new(of: &Line<'a>) -> Option<Self> {
        let counts = of.of.counts().filter(|_| of.of.count >= 2)?;
        let mut passed = 0;
        let values = counts.into_iter().map(|(value, count)| {
            passed += count;
            (passed, value.max(1))
        });
        let values: Vec<(u64, u64)> = values.collect();
        Some(Self { name: of.name, count: passed, values, summary: of.of })
    }

    fn last(&self) -> u64 {
        self.values.last().map_or(1, |&(_, value)| value)
    }

    /// The share `q` of the values is at `1 / (1 - q)`; the largest of `n` values at `n`.
    fn points(&self, x: &Scale, y: &Scale) -> Vec<(f64, f64)> {
        let first = self.values.first().map(|&(_, value)| (x.at(1.0), y.at(value as f64)));
        let rest = self.values.iter().map(|&(passed, value)| {
            let above = self.count.saturating_sub(passed).max(1);
            (x.at(self.count as f64 / above as f64), y.at(value as f64))
        });
        let all: Vec<(f64, f64)> = first.into_iter().chain(rest).collect();
        let every = all.len().div_ceil(POINTS).max(1);
        let last = all.len() - 1;
        // Of neighbours on the drawing the last one stands: never lower than the values.
        all.into_iter()
            .enumerate()
            .filter(|(i, _)| i % every == 0 || *i == last)
            .map(|it| it.1)
            .collect()
    }

    fn words(&self) -> String {
        let show = |value: Option<u64>| value.map_or_else(String::new, |us| time(us as f64));
        let of = self.summary;
        let [p50, p90, p99, max] = [of.p50, of.p90, of.p99, of.max].map(show);
        format!(
            "{}: {} values, p50 {p50}, p90 {p90}, p99 {p99}, longest {max}",
            self.name,
            n(self.count)
        )
    }
}

/// The power of ten below.
fn decade(value: f64) -> f64 {
    10f64.powf(value.max(1.0).log10().floor())
}

/// Heights of labels as near to `wanted` as they can be without running into each other.
fn spread(wanted: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    let mut placed = wanted.to_vec();
    let mut free = AREA.top - LABEL;
    for &at in &order {
        placed[at] = placed[at].max(free);
        free = placed[at] + LABEL;
    }
    let mut limit = AREA.bottom;
    for &at in order.iter().rev() {
        placed[at] = placed[at].min(limit);
        limit = placed[at] - LABEL;
    }
    placed
}

/// A sign for each curve.
fn marker(of: usize, x: f64, y: f64) -> Markup {
    let [left, right, top, bottom] = [x - 3.5, x + 3.5, y - 3.5, y + 3.5].map(place);
    let (x, y) = (place(x), place(y));
    let (class, path) = match of % 6 {
        0 => ("solid", format!("M{left} {top}H{right}V{bottom}H{left}Z")),
        1 => ("hollow", format!("M{x} {top}L{right} {y}L{x} {bottom}L{left} {y}Z")),
        2 => ("solid", format!("M{x} {top}L{right} {bottom}H{left}Z")),
        3 => ("hollow", format!("M{left} {top}H{right}V{bottom}H{left}Z")),
        4 => ("solid", format!("M{x} {top}L{right} {y}L{x} {bottom}L{left} {y}Z")),
        _ => ("hollow", format!("M{x} {bottom}L{right} {top}H{left}Z")),
    };
    html! { path class={ "marker " (class) } d=(path) {} }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_do_not_run_into_each_other() {
        let placed = spread(&[100.0, 101.0, 99.0, 222.0, 222.0, 30.0]);
        let mut sorted = placed.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] >= LABEL - 1e-9), "{placed:?}");
        assert!(sorted.last().is_some_and(|last| *last <= AREA.bottom));
    }

    #[test]
    fn a_curve_passes_through_its_quantiles() {
        let values = vec![(50, 10), (90, 20), (99, 30), (100, 40)];
        let summary = HistogramSummary::default();
        let curve = Curve { name: "x", count: 100, values, summary: &summary };
        let (x, y) = (Scale::log(1.0, 100.0, [0.0, 2.0]), Scale::log(1.0, 100.0, [0.0, 2.0]));
        let points = curve.points(&x, &y);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        // p50 at 1 / (1 - 0.5) = 2, p90 at 10, p99 and the largest at 100.
        for (at, (share, value)) in
            [(1, (2.0, 10.0)), (2, (10.0, 20.0)), (3, (100.0, 30.0)), (4, (100.0, 40.0))]
        {
            let (px, py): (f64, f64) = (points[at].0, points[at].1);
            assert!(near(px, f64::log10(share)) && near(py, f64::log10(value)), "{points:?}");
        }
    }
}
