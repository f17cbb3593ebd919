//! What keeping connections for longer would save.

use maud::{Markup, html};
use tracer_analysis::whatif::{CurvePoint, Destination};

use super::{Area, Chart, Mark, Scale, count_ticks, line, n, place, seconds};

const TOP: Area = Area { left: 52.0, right: 430.0, top: 36.0, bottom: 150.0 };
const BELOW: Area = Area { left: 52.0, right: 430.0, top: 182.0, bottom: 256.0 };
const WIDTH: f64 = 600.0;
/// Cache times that are named.
const TICKS_S: [f64; 9] = [0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0];

/// Connections needed, and seconds saved, against cache time; `None` without a curve.
pub(in super::super) fn what_if(of: &Destination) -> Option<Markup> {
    let last = of.curve.last()?;
    let priced = of.curve.iter().all(|point| point.saved_s.is_some());
    let x = Scale::log_plus_one(last.cache_time_s, TOP.across());
    let y = Scale::linear(0.0, of.curve.iter().map(most).max()? as f64, TOP.up());
    let below = x.those_on(&TICKS_S).into_iter().map(|s| (x.at(s), seconds(s)));
    let below: Vec<(f64, String)> = below.collect();
    let bottom = if priced { BELOW } else { TOP };
    let known = |point: &CurvePoint| (x.at(point.cache_time_s), y.at(point.connections as f64));
    let possible = |point: &CurvePoint| {
        (x.at(point.cache_time_s), y.at(point.connections_if_path_survives as f64))
    };
    let differ = of.curve.iter().any(|it| it.connections != it.connections_if_path_survives);
    let content = html! {
        (TOP.axis_left("", &count_ticks(&y, 4)))
        @if differ {
            path class="curve dash2" d=(line(of.curve.iter().map(possible))) {}
            (end_label(possible(last).1, known(last).1, "if longer gaps survive"))
        }
        path class="curve dash0" d=(line(of.curve.iter().map(known))) {}
        @for (at, to) in of.curve.iter().map(known) {
            path class="marker solid" d={ "M" (place(at - 2.0)) " " (place(to - 2.0)) "h4v4h-4Z" } {}
        }
        (end_label(known(last).1, f64::NAN, if differ { "gaps known to survive" } else { "" }))
        (TOP.marks(&marks(of, &x)))
        @if priced { (saved(of, &x)) }
        (bottom.axis_below("cache time", &below))
    };
    let chart = Chart {
        size: [WIDTH, bottom.bottom + 32.0],
        class: "wide",
        title: "Connections needed by cache time",
        description: &words(of, last),
    };
    Some(chart.draw(&content))
}

/// Set-up time saved.
fn saved(of: &Destination, x: &Scale) -> Markup {
    let saved = |point: &CurvePoint| point.saved_s.unwrap_or(0.0);
    let possible = |point: &CurvePoint| point.saved_s_if_path_survives.unwrap_or(0.0);
    let all = || of.curve.iter().flat_map(|point| [saved(point), possible(point)]);
    let (low, high) = (all().fold(0.0, f64::min), all().fold(0.0, f64::max));
    let y = Scale::linear(low, high, BELOW.up());
    let at = |value: fn(&CurvePoint) -> f64| {
        line(of.curve.iter().map(|point| (x.at(point.cache_time_s), y.at(value(point)))))
    };
    // Names that would run into that of 0 are left out.
    let apart = |end: &f64| *end == 0.0 || end.abs() > (high - low) / 5.0;
    let ends = [low, 0.0, high].into_iter().filter(apart);
    let ticks: Vec<(f64, String)> = ends
        .map(|s| (y.at(s), if s < 0.0 { format!("-{}", seconds(-s)) } else { seconds(s) }))
        .collect();
    html! {
        (BELOW.axis_left("set-up time saved", &ticks))
        path class="curve dash2" d=(at(|point| point.saved_s_if_path_survives.unwrap_or(0.0))) {}
        path class="curve dash0" d=(at(|point| point.saved_s.unwrap_or(0.0))) {}
    }
}

/// Where the policy that ran is, and up to where the path is known to let sessions live.
fn marks(of: &Destination, x: &Scale) -> Vec<Mark> {
    let ran = of.as_it_ran.and_then(|ran| Some((ran, ran.cache_time_s?)));
    let ran = ran.map(|(ran, s)| {
        let label = if ran.kept_share > 0.0 {
            format!("as it ran: {}", seconds(s))
        } else {
            "as it ran: not kept".to_owned()
        };
        Mark { x: x.at(s), class: "p50", label }
    });
    let path = of.path.filter(|path| path.bridged_s > 0.0).map(|path| {
        let label = format!("path survives {}", seconds(path.bridged_s));
        Mark { x: x.at(path.bridged_s), class: "p90", label }
    });
    ran.into_iter().chain(path).collect()
}

/// A label at the end of a line; below it if another one ends just above.
fn end_label(y: f64, other: f64, text: &str) -> Markup {
    let y = if (y - other).abs() < 12.0 {
        other + 12.0 * if y < other { -1.0 } else { 1.0 }
    } else {
        y
    };
    html! { text x=(place(TOP.right + 8.0)) y=(place(y + 3.5)) class="label start" { (text) } }
}

fn most(point: &CurvePoint) -> u64 {
    point.connections.max(point.connections_if_path_survives)
}

fn words(of: &Destination, last: &CurvePoint) -> String {
    let mut parts = vec![format!("{} connections observed", n(of.observed.connections))];
    if let Some(ran) = &of.as_it_ran {
        parts.push(format!("the replay of what ran needs {}", n(ran.connections)));
    }
    parts.push(format!(
        "kept for {}, {} would do, or {} if the path lets longer gaps live",
        seconds(last.cache_time_s),
        n(last.connections),
        n(last.connections_if_path_survives)
    ));
    parts.join("; ")
}
