//! Tables that can be sorted: each cell has its exact value in `data-v`.

use maud::{Markup, html};
use tracer_analysis::report::{Destination, Report, TOTAL};

use super::verdicts::{badge, worst_on};
use crate::sink::{
    quantity::{grouped, milliseconds, percent, plural, seconds, unknown},
    safe_text::safe,
};

/// A number as it is shown, and what it is sorted by; `None` is unknown.
pub(super) struct Cell {
    pub(super) shown: String,
    pub(super) value: Option<String>,
}

impl Cell {
    pub(super) fn count(n: Option<u64>) -> Self {
        Self { shown: n.map_or_else(unknown, grouped), value: n.map(|n| n.to_string()) }
    }

    pub(super) fn percent(share: Option<f64>) -> Self {
        Self { shown: percent(share), value: share.map(|share| share.to_string()) }
    }

    /// To one digit behind the point.
    pub(super) fn decimal(x: Option<f64>) -> Self {
        Self {
            shown: x.map_or_else(unknown, |x| format!("{x:.1}")),
            value: x.map(|x| x.to_string()),
        }
    }

    fn time(us: Option<u64>, show: fn(Option<u64>) -> String) -> Self {
        Self { shown: show(us), value: us.map(|us| us.to_string()) }
    }

    pub(super) fn markup(&self, field: &str) -> Markup {
        html! { td .n data-f=(field) data-v=[self.value.as_deref()] { (self.shown) } }
    }
}

/// A column of numbers of a destination.
struct Column {
    /// Above it, shared with its neighbours.
    above: &'static str,
    name: &'static str,
    /// Where the number stands in the JSON report.
    field: &'static str,
    cell: fn(&Destination) -> Cell,
}

const fn column(
    above: &'static str,
    name: &'static str,
    field: &'static str,
    cell: fn(&Destination) -> Cell,
) -> Column {
    Column { above, name, field, cell }
}

const COLUMNS: [Column; 18] = [
    column("connections", "all", "connections", |it| Cell::count(Some(it.connections))),
    column("connections", "failed", "connect_failures", |it| {
        Cell::count(Some(it.connect_failures))
    }),
    column("connections", "died", "died", |it| Cell::count(Some(it.died))),
    column("highest", "open", "peak_concurrency", |it| {
        let inexact = if it.peak_concurrency_exact { "" } else { "~" };
        let cell = Cell::count(Some(it.peak_concurrency));
        Cell { shown: format!("{inexact}{}", cell.shown), ..cell }
    }),
    column("highest", "/min", "connections_per_minute.peak", |it| {
        Cell::count(Some(it.connections_per_minute.peak))
    }),
    column("connect ms", "p50", "histograms.connect_us.p50", |it| {
        Cell::time(it.histograms.connect_us.p50, milliseconds)
    }),
    column("connect ms", "p99", "histograms.connect_us.p99", |it| {
        Cell::time(it.histograms.connect_us.p99, milliseconds)
    }),
    column("greeting ms", "p50", "histograms.banner_us.p50", |it| {
        Cell::time(it.histograms.banner_us.p50, milliseconds)
    }),
    column("greeting ms", "p99", "histograms.banner_us.p99", |it| {
        Cell::time(it.histograms.banner_us.p99, milliseconds)
    }),
    column("TLS ms", "p50", "histograms.tls_handshake_us.p50", |it| {
        Cell::time(it.histograms.tls_handshake_us.as_ref().and_then(|it| it.p50), milliseconds)
    }),
    column("transaction ms", "p50", "histograms.transaction_us.p50", |it| {
        Cell::time(it.histograms.transaction_us.as_ref().and_then(|it| it.p50), milliseconds)
    }),
    column("lifetime s", "p50", "histograms.lifetime_us.p50", |it| {
        Cell::time(it.histograms.lifetime_us.p50, seconds)
    }),
    column("messages", "all", "transactions", |it| Cell::count(it.transactions)),
    column("messages", "reused %", "reuse_ratio", |it| Cell::percent(it.reuse_ratio)),
    column("connections", "unused", "unused_connections", |it| Cell::count(it.unused_connections)),
    column("connections", "missed reuse", "missed_reuse", |it| Cell::count(it.missed_reuse)),
    column("idle s", "alive", "idle_limit.survived_s", |it| {
        Cell::decimal(it.idle_limit.as_ref().and_then(|it| it.survived_s))
    }),
    column("idle s", "dead", "idle_limit.died_s", |it| {
        Cell::decimal(it.idle_limit.as_ref().and_then(|it| it.died_s))
    }),
];

/// All destinations, at most `most`; those in `shown` lead to their sections.
pub(super) fn destinations(report: &Report, shown: &[Destination], most: usize) -> Markup {
    let listed = &report.destinations[..most.min(report.destinations.len())];
    let rest = (report.destinations.len() - listed.len()) as u64;
    html! {
        section #table {
            h2 { "Destinations" }
            div .scroll {
                table .sortable #destinations {
                    (head(report.group_by.as_str()))
                    tbody {
                        @for (at, one) in listed.iter().enumerate() {
                            (row(one, report, (at < shown.len()).then_some(at)))
                        }
                    }
                    tfoot { (row(&report.totals, report, None)) }
                }
            }
            p .note {
                "failed: never established; died: reset, timed out or without an answer; highest: most open at \
                 the same time, most opened in one minute; reused: messages that needed no new connection; \
                 missed reuse: opened although another one stood idle; idle: longest gap that sessions \
                 survived, and from which on they were dead; -: not known; ~: not exact."
            }
            @if rest > 0 {
                p { "... and " (plural(rest, "more destination", "more destinations")) ", less bad than these ("
                    code { "--format csv" } " has all)." }
            }
            @if report.destinations_omitted.connections > 0 {
                p {
                    (plural(report.destinations_omitted.connections, "connection", "connections"))
                    " to further destinations are in one row, ~other: more than "
                    (grouped(report.destinations_omitted.limit)) " are not kept apart ("
                    code { "--max-destinations" } ")."
                }
            }
        }
    }
}

fn head(key: &str) -> Markup {
    html! {
        thead {
            tr .above {
                th {} th {}
                @for same in COLUMNS.chunk_by(|a, b| a.above == b.above) {
                    th colspan=(same.len()) scope="colgroup" { (same[0].above) }
                }
            }
            tr .names {
                th scope="col" { (key) }
                th scope="col" { "verdict" }
                @for column in &COLUMNS { th .n scope="col" { (column.name) } }
            }
        }
    }
}

fn row(of: &Destination, report: &Report, section: Option<usize>) -> Markup {
    let name = if of.key == TOTAL { "all".to_owned() } else { safe(&of.key) };
    let verdict = worst_on(report, &of.key);
    html! {
        tr data-key=(name) {
            th scope="row" data-v=(name) {
                @if let Some(at) = section { a href={ "#d" (at) } { (name) } } @else { (name) }
            }
            td data-v=[verdict.map(|verdict| verdict.severity as u8)] {
                @if let Some(verdict) = verdict {
                    (badge(verdict.severity)) " " (verdict.code.as_str())
                }
            }
            @for column in &COLUMNS { ((column.cell)(of).markup(column.field)) }
        }
    }
}
