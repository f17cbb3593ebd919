//! Connections over time: opened, turned away with a 421, and open at the same time.

use std::fmt::Write as _;

use maud::{Markup, html};
use tracer_analysis::{
    report::{OverTime, Window},
    utc::Utc,
};

use super::{Area, Chart, Scale, count_ticks, n, place, steps};
use crate::sink::quantity::plural;

const LEFT: f64 = 46.0;
const RIGHT: f64 = 732.0;
const WIDTH: f64 = 760.0;
/// Height of a row.
const ROW: f64 = 62.0;
/// Height of a row with what stands above it.
const STEP: f64 = ROW + 26.0;

/// The chart; `None` if there was no connection.
pub(in super::super) fn course(of: &OverTime, window: &Window) -> Option<Markup> {
    let (opened, open) = (of.opened.iter().sum::<u64>(), of.peak_concurrency.iter().max()?);
    let replies = of.replies_421.iter().sum::<u64>();
    let axis = TimeAxis::new(of, window);
    let per = if of.bucket_s == 1 { "second".to_owned() } else { length(of.bucket_s) };
    let highest = |counts: &[u64]| counts.iter().copied().max().unwrap_or(0);
    let mut rows = vec![(
        format!("opened per {per} (most: {})", n(highest(&of.opened))),
        bars(of, &of.opened, &axis, 0),
    )];
    rows.push((
        format!("open at the same time, most in each {per} (most: {})", n(*open)),
        levels(of, &axis, 1),
    ));
    if replies > 0 {
        rows.push((
            format!("421 replies per {per} (most: {})", n(highest(&of.replies_421))),
            bars(of, &of.replies_421, &axis, 2),
        ));
    }
    let bottom = area(rows.len() - 1);
    let content = html! {
        @for (row, (name, content)) in rows.iter().enumerate() {
            @let area = area(row);
            (content)
            text x=(place(area.left)) y=(place(area.top - 7.0)) class="name" { (name) }
        }
        (bottom.axis_below("time of day, UTC", &axis.ticks))
    };
    let description = format!(
        "{} opened; at most {} at the same time; {}",
        plural(opened, "connection", "connections"),
        n(*open),
        plural(replies, "421 reply", "421 replies"),
    );
    let title = if replies > 0 {
        "Connections over time".to_owned()
    } else {
        "Connections over time; no 421 reply was seen".to_owned()
    };
    let chart = Chart {
        size: [WIDTH, bottom.bottom + 32.0],
        class: "widest",
        title: &title,
        description: &description,
    };
    Some(chart.draw(&content))
}

fn area(row: usize) -> Area {
    let top = 22.0 + STEP * row as f64;
    Area { left: LEFT, right: RIGHT, top, bottom: top + ROW }
}

fn vertical(counts: &[u64], area: &Area) -> Scale {
    Scale::linear(0.0, counts.iter().copied().max().unwrap_or(0) as f64, area.up())
}

/// One path for all bars: there may be hundreds.
fn bars(of: &OverTime, counts: &[u64], axis: &TimeAxis, row: usize) -> Markup {
    let area = area(row);
    let y = vertical(counts, &area);
    let mut path = String::new();
    for (at, &count) in (0_u64..).zip(counts).filter(|(_, count)| **count > 0) {
        let (left, right) = (axis.at(of, at), axis.at(of, at + 1));
        let width = place((right - left - 0.4).max(0.8));
        let (top, bottom) = (place(y.at(count as f64).min(area.bottom - 1.0)), place(area.bottom));
        // A String takes everything.
        let _ = write!(path, "M{} {bottom}V{top}h{width}V{bottom}Z", place(left));
    }
    html! {
        (area.axis_left("", &count_ticks(&y, 3)))
        path class=(if row == 2 { "bar alarm" } else { "bar" }) d=(path) {}
    }
}

fn levels(of: &OverTime, axis: &TimeAxis, row: usize) -> Markup {
    let area = area(row);
    let y = vertical(&of.peak_concurrency, &area);
    let points = (0_u64..).zip(&of.peak_concurrency);
    let points = points.map(|(at, &open)| (axis.at(of, at), y.at(open as f64)));
    let start = [(axis.at(of, 0), area.bottom)];
    let end = axis.at(of, of.peak_concurrency.len() as u64);
    let path = format!("{}V{}", steps(start.into_iter().chain(points), end), place(area.bottom));
    html! {
        (area.axis_left("", &count_ticks(&y, 3)))
        path class="level" d=(path) {}
    }
}

/// Time across.
struct TimeAxis {
    begin: i64,
    scale: Scale,
    ticks: Vec<(f64, String)>,
}

/// Distances of ticks, in seconds.
const TICKS_S: [i64; 19] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
    604_800,
];
const MOST_TICKS: i64 = 9;

impl TimeAxis {
    /// The window, or what happened if that is longer.
    fn new(of: &OverTime, window: &Window) -> Self {
        let bucket_us =
            i64::try_from(of.bucket_s).unwrap_or(i64::MAX).saturating_mul(1_000_000).max(1);
        let length_us =
            bucket_us.saturating_mul(i64::try_from(of.opened.len()).unwrap_or(i64::MAX));
        let end = of.start.micros().saturating_add(length_us).max(window.end.micros());
        let begin = of.start.micros().min(window.start.micros().div_euclid(bucket_us) * bucket_us);
        let span_s = end.saturating_sub(begin) / 1_000_000;
        let scale = Scale::linear(0.0, end.saturating_sub(begin) as f64, [LEFT, RIGHT]);
        let found = TICKS_S.iter().copied().find(|step| span_s / step <= MOST_TICKS);
        let step = found.unwrap_or_else(|| (span_s / MOST_TICKS / 604_800 + 1) * 604_800);
        let first = begin.div_euclid(1_000_000).div_euclid(step);
        let all = (0..=MOST_TICKS + 2).map(|n| first.saturating_add(n).saturating_mul(step));
        let ticks = all
            .map(|s| s.saturating_mul(1_000_000))
            .filter(|at| (begin..=end).contains(at))
            .map(|at| {
                (scale.at(at.saturating_sub(begin) as f64), label(Utc::from_micros(at), step))
            })
            .collect();
        Self { begin, scale, ticks }
    }

    /// Where the bucket number `at` begins.
    fn at(&self, of: &OverTime, at: u64) -> f64 {
        let us = of.start.micros().saturating_sub(self.begin) as f64;
        self.scale.at(us + (at * of.bucket_s) as f64 * 1e6)
    }
}

/// Of `2026-11-22T03:00:00.000000Z` what matters at that distance.
fn label(at: Utc, step_s: i64) -> String {
    let text = at.to_string();
    let part = match step_s {
        ..60 => 11..19,
        60..86_400 => 11..16,
        _ => 5..10,
    };
    text.get(part).unwrap_or_default().to_owned()
}

/// The length of a bucket.
fn length(s: u64) -> String {
    match s {
        ..60 => format!("{s} s"),
        60..3600 => format!("{} min", s / 60),
        3600..86_400 => format!("{} h", s / 3600),
        _ => plural(s / 86_400, "day", "days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over_time(start: &str, bucket_s: u64, count: usize) -> (OverTime, Window) {
        let start = Utc::parse(start).unwrap();
        let end = start.plus_micros(bucket_s * count as u64 * 1_000_000);
        let of = OverTime {
            start,
            bucket_s,
            opened: vec![1; count],
            peak_concurrency: vec![2; count],
            replies_421: vec![0; count],
        };
        (of, Window { start, end, duration_s: end.micros_since(start) as f64 / 1e6 })
    }

    #[test]
    fn ticks_are_at_round_times() {
        let labels = |start, bucket_s, buckets| -> Vec<String> {
            let (of, window) = over_time(start, bucket_s, buckets);
            TimeAxis::new(&of, &window).ticks.into_iter().map(|(_, label)| label).collect()
        };
        assert_eq!(
            labels("2026-11-22T03:00:07Z", 1, 20),
            ["03:00:10", "03:00:15", "03:00:20", "03:00:25"]
        );
        assert_eq!(
            labels("2026-11-22T23:00:00Z", 30, 240),
            ["23:00", "23:15", "23:30", "23:45", "00:00", "00:15", "00:30", "00:45", "01:00"]
        );
        assert_eq!(
            labels("2026-11-22T00:00:00Z", 3600, 72),
            ["00:00", "12:00", "00:00", "12:00", "00:00", "12:00", "00:00"]
        );
        assert!(labels("0000-01-01T00:00:00Z", 1 << 30, 300).len() <= 12);
    }

    #[test]
    fn a_bucket_without_421_has_no_row_for_it() {
        let (mut of, window) = over_time("2026-11-22T03:00:00Z", 1, 5);
        let chart = course(&of, &window).unwrap().into_string();
        assert!(chart.contains("no 421 reply was seen") && !chart.contains("421 replies per"));
        of.replies_421[3] = 7;
        let chart = course(&of, &window).unwrap().into_string();
        assert!(chart.contains("421 replies per second (most: 7)"), "{chart}");
    }
}
