//! The lines on top and at the bottom.

use ratatui::text::{Line, Span};

use super::{
    super::{
        snapshot::{Row, Snapshot},
        state::{State, Tab, View},
        theme::{HEADING, SELECTED},
    },
    ends, fit,
};
use crate::sink::{
    quantity::{duration, grouped},
    safe_text::safe,
};

/// Who is traced, for how long, and whether anything was lost.
pub(super) fn title(state: &State, shown: &Snapshot, width: usize) -> Line<'static> {
    let title = &state.title;
    let elapsed = match shown.elapsed_s {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds => duration(seconds as f64),
    };
    let who = format!("smtptrace  {}  port {}  {elapsed}", safe(&title.host), safe(&title.ports));
    let mut right = Vec::new();
    if state.paused {
        right.push(Span::styled(" PAUSED ", SELECTED));
        right.push(Span::raw("  "));
    }
    if let (Some(permille), true) = (shown.cpu_permille, width >= 60) {
        right.push(Span::raw(format!("cpu {}.{} %  ", permille / 10, permille % 10)));
    }
    right.push(trust(state, shown));
    let taken: usize = right.iter().map(Span::width).sum();
    let room = width.saturating_sub(taken + 2).min(who.len());
    let who = if who.len() > room { fit(&who, room) } else { who };
    ends(vec![Span::styled(who, HEADING)], right, width)
}

/// Whether the numbers can be trusted.
fn trust(state: &State, shown: &Snapshot) -> Span<'static> {
    let trust = &shown.report.0.trust;
    let lost = trust.events_lost + trust.map_full + trust.over_quota + trust.undecodable;
    if lost > 0 {
        Span::styled(format!("LOST {} records", grouped(lost)), state.theme.bad())
    } else if state.title.hooks_missing > 0 {
        Span::raw(format!("nothing lost, {} hooks missing", state.title.hooks_missing))
    } else {
        Span::raw("nothing lost")
    }
}

/// All connections, and what came in the last interval.
pub(super) fn totals(state: &State, shown: &Snapshot, width: usize) -> Line<'static> {
    let (all, totals, last) = (&shown.all, &shown.report.0.totals, &shown.last);
    let more = if shown.open_exact { "" } else { "+" };
    let plain = |text: String| Span::raw(text);
    let alarm = |n: u64, what: &str| {
        let style = if n > 0 { state.theme.bad() } else { ratatui::style::Style::new() };
        Span::styled(format!("{} {what}", grouped(n)), style)
    };
    let mut left = vec![
        plain(format!(
            "{}{more} conns, {}{more} open, ",
            grouped(all.connections),
            grouped(all.open)
        )),
        alarm(totals.connect_failures, "failed"),
        plain(", ".to_owned()),
        alarm(totals.died, "died"),
    ];
    let recent = format!(
        "   last {}: {}{more} new, {} ended, {} messages",
        state.title.interval,
        grouped(last.opened),
        grouped(last.ended),
        grouped(last.messages)
    );
    let mut right = vec![plain(recent)];
    let taken: usize = left.iter().chain(&right).map(Span::width).sum();
    let bad = format!(", {} bad", grouped(last.bad));
    if last.bad > 0 && taken + bad.len() < width {
        right.push(Span::styled(bad, state.theme.bad()));
    }
    if taken >= width {
        left.push(plain(fit(&format!("   {} new", grouped(last.opened)), 12)));
        right.clear();
    }
    ends(left, right, width)
}

/// New connections of each interval as a line of bars.
pub(super) fn spark(state: &State, row: &Row, about: &str, width: usize) -> Line<'static> {
    let what = match about {
        "" => format!("new per {} ", state.title.interval),
        about => format!("new per {}, {about} ", state.title.interval),
    };
    let highest = row.spark.iter().copied().max().unwrap_or(0);
    let after = format!(" highest {}", grouped(highest));
    let bars = width.saturating_sub(what.len() + after.len()).min(row.spark.len());
    if bars < 8 {
        return Line::from(fit(&format!("{what}{}", after.trim_start()), width));
    }
    let shown = &row.spark[row.spark.len() - bars..];
    let steps = shown.iter().map(|n| {
        let eighths = if highest == 0 { 0 } else { (n * 8).div_ceil(highest) };
        state.theme.step(usize::try_from(eighths).unwrap_or(8))
    });
    Line::from(vec![
        Span::raw(what),
        Span::styled(steps.collect::<String>(), state.theme.bar()),
        Span::raw(after),
    ])
}

/// The keys that do something here, or what is being typed.
pub(super) fn footer(state: &State, width: usize) -> Line<'static> {
    if let Some(typed) = &state.typed {
        let text = format!("filter: {}_   Enter keeps it, Esc does not", safe(typed));
        return Line::from(fit(&text, width));
    }
    let keys: &[(&str, &str)] = match (state.view, state.tab) {
        (View::Destinations, _) => &[
            ("Enter", "details"),
            ("?", "help"),
            ("q", "end and report"),
            ("s", "sort"),
            ("/", "filter"),
            ("p", "pause"),
        ],
        (View::Destination, Tab::Connections) => &[
            ("Esc", "back"),
            ("Enter", "its turns"),
            ("Tab", "next page"),
            ("?", "help"),
            ("p", "pause"),
            ("q", "end and report"),
        ],
        (View::Destination, _) => &[
            ("Esc", "back"),
            ("Tab", "next page"),
            ("j k", "scroll"),
            ("?", "help"),
            ("p", "pause"),
            ("q", "end and report"),
        ],
        (View::Connection, _) => &[
            ("Esc", "back"),
            ("j k", "scroll"),
            ("?", "help"),
            ("p", "pause"),
            ("q", "end and report"),
        ],
    };
    let mut spans = Vec::new();
    let mut room = width;
    for (key, what) in keys {
        let len = key.len() + what.len() + 3;
        if len > room + 2 {
            break;
        }
        room = room.saturating_sub(len);
        spans.push(Span::styled((*key).to_owned(), HEADING));
        spans.push(Span::raw(format!(" {what}  ")));
    }
    Line::from(spans)
}
