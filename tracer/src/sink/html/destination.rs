//! What is shown of one destination, or of all of them together.

use maud::{Markup, html};
use tracer_analysis::{
    destination::HistogramSummary,
    report::{Destination, FamilySummary, OverTime, Report},
    whatif,
};

use super::{
    chart::{Line, Unit, course, histogram, percentiles, survival, time, what_if},
    verdicts,
};
use crate::sink::{
    idle_text,
    quantity::{bytes, grouped, milliseconds, plural},
    text::{endings, methods},
    what_if_text::{path_words, ran_words},
};

/// A distribution and how it is called: what its values are, and whether it is a phase of a session.
const DISTRIBUTIONS: [(&str, &str, Unit, bool); 13] = [
    ("connect_us", "connect", Unit::Time, true),
    ("banner_us", "greeting, first byte", Unit::Time, true),
    ("greeting_us", "greeting, complete", Unit::Time, false),
    ("ehlo_us", "EHLO", Unit::Time, true),
    ("starttls_us", "STARTTLS", Unit::Time, false),
    ("tls_handshake_us", "TLS handshake", Unit::Time, true),
    ("auth_us", "AUTH", Unit::Time, false),
    ("transaction_us", "transaction", Unit::Time, true),
    ("final_reply_us", "final reply", Unit::Time, true),
    ("lifetime_us", "lifetime", Unit::Time, false),
    ("idle_us", "idle gap before use", Unit::Time, false),
    ("turns", "turns per connection", Unit::Number, false),
    ("messages_per_connection", "messages per connection", Unit::Number, false),
];

/// The main numbers, for the line that stays when the section is folded.
pub(super) fn brief(of: &Destination) -> String {
    let mut text = format!(
        "{}, {} failed, {} died",
        plural(of.connections, "connection", "connections"),
        grouped(of.connect_failures),
        grouped(of.died)
    );
    if let Some(messages) = of.transactions {
        text = format!("{text}, {}", plural(messages, "message", "messages"));
    }
    text
}

/// Verdicts, facts, charts and numbers.
pub(super) fn content(
    of: &Destination,
    report: &Report,
    replay: Result<&whatif::Destination, &'static str>,
) -> Markup {
    html! {
        (verdicts::on(report, &of.key))
        (facts(of))
        @if let Some(over_time) = &of.over_time { (over_time_chart(over_time, report)) }
        (distributions(of))
        (idle(of))
        (replayed(replay))
    }
}

fn over_time_chart(of: &OverTime, report: &Report) -> Markup {
    html! { @if let Some(chart) = course(of, &report.window) { div .scroll { (chart) } } }
}

/// Counts in words.
fn facts(of: &Destination) -> Markup {
    let inexact = if of.peak_concurrency_exact { "" } else { "about " };
    let mean = of.connections_per_minute.mean;
    html! {
        dl {
            dt { "Connections" }
            dd {
                (brief(of))
                @if of.open > 0 { ", " (grouped(of.open)) " still open" }
                @if of.midlife > 0 { ", " (grouped(of.midlife)) " of unknown age" }
                "; at most " (inexact) (grouped(of.peak_concurrency)) " at the same time and "
                (grouped(of.connections_per_minute.peak)) " opened in one minute"
                @if let Some(mean) = mean { " (mean " (format!("{mean:.1}")) ")" }
            }
            dt { "How they ended" }
            dd { (endings(of).join(", ")) }
            @if of.transactions.is_some() {
                dt { "Messages" }
                dd { (messages(of)) }
            }
            dt { "Payload" }
            dd {
                (bytes(of.bytes_sent)) " sent, " (bytes(of.bytes_received)) " received, "
                @match of.retransmits {
                    Some(n) => { (plural(n, "segment", "segments")) " resent" },
                    None => "segments resent: not known",
                }
            }
            @if let Some(addresses) = of.addresses {
                dt { "Addresses" }
                dd { (grouped(addresses)) }
            }
            @for (name, family) in families(of) {
                dt { (name) }
                dd { (family_words(family)) }
            }
        }
    }
}

/// Of both families, if there are both.
fn families(of: &Destination) -> Vec<(&'static str, &FamilySummary)> {
    match (&of.families.ipv4, &of.families.ipv6) {
        (Some(ipv4), Some(ipv6)) => vec![("IPv4", ipv4), ("IPv6", ipv6)],
        _ => Vec::new(),
    }
}

fn family_words(of: &FamilySummary) -> String {
    let (connect, banner) = (&of.histograms.connect_us, &of.histograms.banner_us);
    let mut text = format!(
        "{}, {} failed, {} died",
        plural(of.connections, "connection", "connections"),
        grouped(of.connect_failures),
        grouped(of.died)
    );
    for (name, of) in [("connect", connect), ("greeting", banner)] {
        if of.count > 0 {
            let (p50, p99) = (milliseconds(of.p50), milliseconds(of.p99));
            text = format!("{text}; {name} p50 {p50} ms, p99 {p99} ms");
        }
    }
    text
}

fn messages(of: &Destination) -> String {
    let mut parts = vec![of.transactions.map_or_else(String::new, grouped)];
    parts.extend(of.reuse_ratio.map(|it| format!("{:.0} % without a new connection", it * 100.0)));
    parts.extend(
        of.unused_connections
            .map(|it| format!("{} carried none", plural(it, "connection", "connections"))),
    );
    parts.extend(of.missed_reuse.map(|it| {
        let of_some = if of.missed_reuse_exact { "" } else { " of those that could be looked at" };
        format!("{} opened although another one stood idle{of_some}", grouped(it))
    }));
    format!("{}. Counted by {}", parts.join(", "), methods(of))
}

/// Charts of the distributions, and their numbers as a table.
fn distributions(of: &Destination) -> Markup {
    let named: Vec<_> = DISTRIBUTIONS
        .iter()
        .filter_map(|(field, name, unit, phase)| {
            let (_, summary) = of.histograms.named().find(|(known, _)| known == field)?;
            (summary.count > 0).then_some((*field, *name, *unit, *phase, summary))
        })
        .collect();
    let phases: Vec<Line<'_>> = named
        .iter()
        .filter(|(_, _, _, phase, _)| *phase)
        .map(|&(_, name, _, _, of)| Line { name, of })
        .collect();
    html! {
        @if !named.is_empty() {
            h3 { "What a connection costs" }
            div .scroll {
                table .sortable .distributions {
                    thead {
                        tr .names {
                            th scope="col" { "distribution" }
                            @for name in ["values", "shortest", "p50", "p90", "p99", "longest"] {
                                th .n scope="col" { (name) }
                            }
                        }
                    }
                    tbody {
                        @for (field, name, unit, _, summary) in &named { (numbers(field, name, *unit, summary)) }
                    }
                }
            }
            @if let Some(chart) = percentiles(&phases) { (chart) }
            div .charts {
                @for (at, (_, name, unit, _, summary)) in named.iter().enumerate() {
                    // The complete greeting is often its first byte: no need to draw it twice.
                    @let same = at > 0 && named[at - 1].4 == *summary;
                    @if let Some(chart) = histogram(name, *unit, summary).filter(|_| !same) { (chart) }
                }
            }
        }
    }
}

fn numbers(field: &str, name: &str, unit: Unit, of: &HistogramSummary) -> Markup {
    let show = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| unit.show(value));
    html! {
        tr data-distribution=(field) {
            th scope="row" { (name) }
            td .n data-f="count" data-v=(of.count) { (grouped(of.count)) }
            @for (name, value) in [("min", of.min), ("p50", of.p50), ("p90", of.p90), ("p99", of.p99), ("max", of.max)] {
                td .n data-f=(name) data-v=[value] { (show(value)) }
            }
        }
    }
}

/// What becomes of idle sessions.
fn idle(of: &Destination) -> Markup {
    html! {
        @if let Some(limit) = &of.idle_limit {
            h3 { "Idle sessions" }
            @if let Some(sentence) = idle_text::sentence(of) { p { (sentence) "." } }
            @match survival(limit) {
                Some(chart) => (chart),
                None => p .note { "No survival curve: no idle session is known to have died ("
                    (plural(limit.observations, "gap", "gaps")) " observed)." },
            }
        }
    }
}

/// What keeping connections would save.
fn replayed(replay: Result<&whatif::Destination, &'static str>) -> Markup {
    html! {
        h3 { "What if connections were kept for longer?" }
        @match replay {
            Err(why) => p .note { "No curve: " (why) "." },
            Ok(of) => (replay_of(of)),
        }
    }
}

fn replay_of(of: &whatif::Destination) -> Markup {
    let left_out = of.messages.counted.saturating_sub(of.messages.replayed);
    let set_up = of.set_up.total_us.map(|us| time(us as f64));
    html! {
        p {
            (plural(of.messages.replayed, "message", "messages")) " over "
            (plural(of.observed.connections, "connection", "connections")) " replayed"
            @if left_out > 0 { "; " (grouped(left_out)) " left out: when they were sent is not known" }
            @if let Some(set_up) = set_up { "; set-up " (set_up) " (median)" }
            "."
            @if let Some(path) = &of.path { " Path: " (path_words(path)) "." }
            @if let Some(ran) = &of.as_it_ran { " As it ran: " (ran_words(ran, of.observed.connections)) "." }
        }
        @if let Some(chart) = what_if(of) { (chart) }
    }
}
