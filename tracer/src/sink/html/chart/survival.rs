//! Which share of idle sessions is alive, by how long they idled.

use maud::{Markup, html};
use tracer_analysis::report::{CurvePoint, IdleLimit};

use super::{Area, Chart, Mark, Scale, n, place, seconds, steps};

const AREA: Area = Area { left: 46.0, right: 470.0, top: 36.0, bottom: 190.0 };
const SIZE: [f64; 2] = [600.0, 222.0];

/// The survival curve with its 95 % confidence interval; `None` if nobody died.
pub(in super::super) fn survival(of: &IdleLimit) -> Option<Markup> {
    let (first, last) = (of.curve.first()?, of.curve.last()?);
    let longest = of.longest_gap_s.unwrap_or(last.idle_s).max(last.idle_s);
    // Every session is alive at the begin: the axis starts somewhat before the first death.
    let begin = (first.idle_s / 2.0).min(of.survived_s.unwrap_or(f64::MAX) / 2.0).max(0.01);
    let x = Scale::log(begin, (longest * 1.2).max(begin * 10.0), AREA.across());
    let y = Scale::linear(0.0, 1.0, AREA.up());
    let below: Vec<(f64, String)> =
        x.decades().into_iter().map(|s| (x.at(s), seconds(s))).collect();
    let shares = [0.0, 0.25, 0.5, 0.75, 1.0];
    let left: Vec<(f64, String)> =
        shares.iter().map(|&share| (y.at(share), format!("{:.0} %", share * 100.0))).collect();
    let path = |share: fn(&CurvePoint) -> f64| {
        let points = of.curve.iter().map(|point| (x.at(point.idle_s), y.at(share(point))));
        steps([(x.at(begin), y.at(1.0))].into_iter().chain(points), x.at(longest))
    };
    let content = html! {
        (AREA.axis_left("", &left))
        path class="band" d=(path(|point| point.interval.map_or(point.survival, |ends| ends[0]))) {}
        path class="band" d=(path(|point| point.interval.map_or(point.survival, |ends| ends[1]))) {}
        path class="curve dash0" d=(path(|point| point.survival)) {}
        @for point in of.curve.iter().filter(|point| point.died > 0) {
            @let (at, to) = (x.at(point.idle_s), y.at(point.survival));
            path class="marker solid" d={ "M" (place(at - 3.0)) " " (place(to - 3.0)) "l6 6m0 -6l-6 6" } {}
        }
        (AREA.marks(&marks(of, &x)))
        text x=(place(AREA.right + 8.0)) y=(place(y.at(last.survival) + 3.5)) class="label start" {
            (format!("{:.0} % alive", last.survival * 100.0))
        }
        (AREA.axis_below("idle time, log scale", &below))
    };
    let chart = Chart {
        size: SIZE,
        class: "wide",
        title: "Sessions alive by idle time (Kaplan-Meier; dotted: 95 % confidence; x: deaths)",
        description: &words(of, last),
    };
    Some(chart.draw(&content))
}

fn marks(of: &IdleLimit, x: &Scale) -> Vec<Mark> {
    let mark = |s: Option<f64>, class, words: &str| {
        s.map(|s| Mark { x: x.at(s), class, label: format!("{words} {}", seconds(s)) })
    };
    let alive = mark(of.survived_s, "p50", "alive after");
    alive.into_iter().chain(mark(of.died_s, "p90", "dead from")).collect()
}

fn words(of: &IdleLimit, last: &CurvePoint) -> String {
    let died: u64 = of.deaths.values().sum();
    let mut parts = vec![format!("{} idle gaps, {} ended in death", n(of.observations), n(died))];
    parts.extend(of.survived_s.map(|s| format!("alive after {}", seconds(s))));
    parts.extend(of.died_s.map(|s| format!("dead from {}", seconds(s))));
    parts.push(format!("{:.0} % alive after {}", last.survival * 100.0, seconds(last.idle_s)));
    parts.join("; ")
}
