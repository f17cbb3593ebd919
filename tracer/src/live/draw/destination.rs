//! One destination in all detail.

use std::fmt::Display;

use ratatui::text::{Line, Span};
use tracer_analysis::{
    report::{Destination, TOTAL},
    verdict::Verdict,
};

use super::{
    super::{
        column::Column,
        snapshot::{Detail, Listed, Snapshot},
        state::{State, Tab},
        theme::{HEADING, SELECTED, severity_word},
    },
    LOW, fit, header, histogram, wrap,
};
use crate::sink::{
    idle_text,
    quantity::{bytes, duration, grouped, milliseconds},
    safe_text::safe,
    text::ends_in_words,
};

/// Name, counts and pages.
pub(super) fn head(state: &State, width: usize, height: usize) -> Vec<Line<'static>> {
    let Some(shown) = &state.snapshot else { return Vec::new() };
    let key = state.selected.as_deref().unwrap_or_default();
    let mut lines = vec![header::title(state, shown, width)];
    let row = shown.rows.iter().chain([&shown.all]).find(|row| row.key == key);
    if let Some(row) = row {
        let cell = |column: Column| column.cell(row, shown);
        let severity = row.worst.map(|(severity, _)| severity);
        let name = if key == TOTAL { "all destinations".to_owned() } else { safe(key) };
        let mut counts =
            format!("  {} conns, {} open", cell(Column::Connections), cell(Column::Open));
        let bad = format!(", {} failed, {} died", cell(Column::Failed), cell(Column::Died));
        if name.len() + counts.len() + bad.len() + 6 <= width {
            counts.push_str(&bad);
        }
        let room = width.saturating_sub(counts.len() + 6);
        let name = if name.len() > room { fit(&name, room) } else { name };
        lines.push(Line::from(vec![
            Span::styled(name, HEADING),
            Span::raw("  "),
            Span::styled(severity_word(severity), state.theme.severity(severity)),
            Span::raw(counts),
        ]));
        if height >= LOW {
            lines.push(header::spark(state, row, "", width));
        }
    }
    let mut tabs = Vec::new();
    for tab in Tab::ALL {
        let style = if tab == state.tab { SELECTED } else { ratatui::style::Style::new() };
        tabs.push(Span::styled(format!(" {} ", tab.name()), style));
    }
    lines.push(Line::from(tabs));
    if height >= LOW {
        lines.push(Line::default());
    }
    lines
}

/// The page that is looked at.
pub(super) fn body(state: &State, width: usize) -> Vec<Line<'static>> {
    let Some(shown) = &state.snapshot else { return Vec::new() };
    let Some(detail) = &shown.detail else { return vec![Line::from("one moment ...")] };
    let none = "No connection to it has ended yet.";
    match (state.tab, &detail.destination) {
        (Tab::Connections, _) => connections(state, detail, width),
        (Tab::Verdicts, _) => verdicts(state, detail, width),
        (_, None) => vec![Line::from(none)],
        (Tab::Histograms, Some(destination)) => histogram::all(state.theme, destination, width),
        (Tab::Endings, Some(destination)) => endings(state, shown, destination, width),
        (Tab::Idle, Some(destination)) => idle(state, destination, width),
    }
}

fn verdicts(state: &State, detail: &Detail, width: usize) -> Vec<Line<'static>> {
    if detail.verdicts.is_empty() {
        return vec![Line::from("Nothing is concluded as yet: no rule finds enough to say.")];
    }
    detail.verdicts.iter().flat_map(|verdict| one_verdict(state, verdict, width)).collect()
}

fn one_verdict(state: &State, verdict: &Verdict, width: usize) -> Vec<Line<'static>> {
    let word = verdict.severity.as_str().to_uppercase();
    let style = state.theme.severity(Some(verdict.severity));
    let about = format!(" {} ({} confidence)", verdict.code, verdict.confidence.as_str());
    let mut lines = vec![Line::from(vec![Span::styled(word, style), Span::raw(about)])];
    let text = wrap(&safe(&verdict.summary), width.saturating_sub(2), 0);
    lines.extend(text.into_iter().map(|line| Line::from(format!("  {line}"))));
    for advice in &verdict.advice {
        let whose = advice.mta.map_or(String::new(), |mta| format!("{}: ", mta.as_str()));
        let text = format!("> {whose}{}", safe(&advice.text));
        let text = wrap(&text, width.saturating_sub(2), 2);
        lines.extend(text.into_iter().map(|line| Line::from(format!("  {line}"))));
    }
    lines.push(Line::default());
    lines
}

/// Counts by name, with bars.
fn counts<K: Display>(
    state: &State,
    title: &str,
    counts: &[(K, u64)],
    width: usize,
) -> Vec<Line<'static>> {
    if counts.is_empty() {
        return Vec::new();
    }
    let sum: u64 = counts.iter().map(|(_, n)| n).sum();
    let mut lines = vec![Line::styled(title.to_owned(), HEADING)];
    let names: Vec<String> = counts.iter().map(|(name, _)| safe(&name.to_string())).collect();
    let longest = names.iter().map(String::len).max().unwrap_or(0).min(30);
    for (name, (_, n)) in names.iter().zip(counts) {
        let room = width.saturating_sub(longest + 14);
        let bar = state.theme.bar_of(*n as f64 / sum.max(1) as f64, room);
        lines.push(Line::from(vec![
            Span::raw(format!("  {} {:>8}  ", fit(name, longest), grouped(*n))),
            Span::styled(bar, state.theme.bar()),
        ]));
    }
    lines.push(Line::default());
    lines
}

fn endings(state: &State, shown: &Snapshot, of: &Destination, width: usize) -> Vec<Line<'static>> {
    let causes: Vec<_> = ends_in_words(&of.endings, &of.after_quit).collect();
    let failures: Vec<_> = of.failures.iter().map(|(name, n)| (name, *n)).collect();
    let greetings: Vec<_> = of.greeting_codes.iter().map(|(code, n)| (code, *n)).collect();
    let mut lines = counts(state, "How they ended", &causes, width);
    lines.extend(counts(state, "Failed connects", &failures, width));
    lines.extend(counts(state, "Codes of greetings", &greetings, width));
    let minutes = of.connections_per_minute;
    let inexact = if of.peak_concurrency_exact { "" } else { "about " };
    let missed = of.missed_reuse.map_or_else(|| "not known".to_owned(), grouped);
    let facts = [
        format!("most open at a time: {inexact}{}", grouped(of.peak_concurrency)),
        format!("most opened in a minute: {}", grouped(minutes.peak)),
        format!("sent {}, received {}", bytes(of.bytes_sent), bytes(of.bytes_received)),
        format!(
            "segments sent again: {}",
            of.retransmits.map_or_else(|| "not known".to_owned(), grouped)
        ),
        format!("opened although another one was idle: {missed}"),
        format!("traced for {}", duration(shown.report.0.window.duration_s)),
    ];
    lines.extend(facts.into_iter().map(Line::from));
    lines
}

/// How long sessions may idle.
fn idle(state: &State, of: &Destination, width: usize) -> Vec<Line<'static>> {
    let (Some(limit), Some(sentence)) = (&of.idle_limit, idle_text::sentence(of)) else {
        return vec![Line::from("No session has idled for 0.1 s or more.")];
    };
    let mut lines: Vec<_> = wrap(&sentence, width, 2).into_iter().map(Line::from).collect();
    lines.push(Line::default());
    if limit.curve.is_empty() {
        let text = "No session died: there is no survival curve to draw.";
        lines.extend(wrap(text, width, 2).into_iter().map(Line::from));
        return lines;
    }
    lines.push(Line::styled("Alive after an idle time (Kaplan-Meier)", HEADING));
    lines.push(Line::from("      idle    alive     95 %   at risk   died"));
    for point in &limit.curve {
        let percent = |share: f64| format!("{:.0}", share * 100.0);
        let interval = match point.interval {
            Some([low, high]) => format!("{}-{}", percent(low), percent(high)),
            None => "-".to_owned(),
        };
        let text = format!(
            "{:>8.1} s  {:>5} %  {interval:>7}  {:>8}  {:>5}  ",
            point.idle_s,
            percent(point.survival),
            point.at_risk,
            point.died
        );
        let bar = state.theme.bar_of(point.survival, width.saturating_sub(text.len()));
        lines.push(Line::from(vec![Span::raw(text), Span::styled(bar, state.theme.bar())]));
    }
    lines
}

/// Headings, and the page of connections that the pointer is on.
fn connections(state: &State, detail: &Detail, width: usize) -> Vec<Line<'static>> {
    let listed = &detail.connections;
    if listed.is_empty() {
        return vec![Line::from("None is open, and none of the last ones was to it.")];
    }
    let at = state.connection_pointer();
    let low = usize::from(state.size.1) < LOW;
    let per_page = usize::from(state.size.1).saturating_sub(if low { 5 } else { 7 }).max(1);
    let first = at / per_page * per_page;
    let server = listed.iter().map(|it| it.server.len()).max().unwrap_or(0);
    let process = if width >= server + 84 { 20 } else { 0 };
    let headings = format!(
        "  {} {:>5} {}{:>8} {:>8} {:>5} {:>5}  state",
        fit("server", server),
        "port",
        fit("process ", process),
        "age",
        "idle",
        "turns",
        "msgs"
    );
    let mut lines = vec![Line::styled(fit(&headings, width), HEADING)];
    for (place, it) in listed.iter().enumerate().skip(first).take(per_page) {
        let selected = place == at;
        let text =
            connection(it, server, process, if selected { state.theme.pointer() } else { "  " });
        let base = if selected { SELECTED } else { ratatui::style::Style::new() };
        let style = if it.bad { state.theme.bad() } else { base };
        lines.push(
            Line::from(vec![Span::raw(text), Span::styled(safe(&it.state), style)]).style(base),
        );
    }
    lines
}

fn connection(it: &Listed, server: usize, process: usize, pointer: &str) -> String {
    let unknown = || "-".to_owned();
    let process = fit(&format!("{} ", safe(&it.process)), process);
    format!(
        "{pointer}{} {:>5} {process}{:>8} {:>8} {:>5} {:>5}  ",
        fit(&it.server, server),
        it.port.map_or_else(unknown, |port| port.to_string()),
        duration_short(it.age_s),
        it.idle_s.map_or_else(unknown, duration_short),
        it.turns,
        it.messages.map_or_else(unknown, |n| n.to_string()),
    )
}

/// Seconds in at most eight characters.
fn duration_short(seconds: u64) -> String {
    match seconds {
        0..600 => format!("{seconds} s"),
        600..36_000 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

/// `p50 0.15 ms` and the like.
pub(super) fn time(us: Option<u64>) -> String {
    if us.is_none() { "-".to_owned() } else { format!("{} ms", milliseconds(us)) }
}
