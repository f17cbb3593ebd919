//! Who sent.

use maud::{Markup, html};
use tracer_analysis::report::{Report, Sender};

use super::{ROWS, table::Cell};
use crate::sink::{
    quantity::plural,
    sender_text::{beyond, sender_name, tell},
};

/// A table of senders, at most [`ROWS`]; nothing if there is nothing to tell.
pub(super) fn section(report: &Report) -> Markup {
    if !tell(&report.senders) {
        return html! {};
    }
    let listed = &report.senders[..ROWS.min(report.senders.len())];
    let rest = (report.senders.len() - listed.len()) as u64;
    html! {
        section #senders {
            h2 { "Senders" }
            div .scroll {
                table .sortable {
                    thead {
                        tr .names {
                            th scope="col" { "sender" }
                            @for name in COLUMNS { th .n scope="col" { (name) } }
                        }
                    }
                    tbody { @for one in listed { (row(one, report)) } }
                }
            }
            p .note {
                "A sender is a systemd unit, a container, or else a command. turned away: by a greeting other \
                 than 220, a 421 or the like, before a message; 4xx, 5xx: replies that could be read; \
                 -: not known."
            }
            @if rest > 0 {
                p { "... and " (plural(rest, "more sender", "more senders")) "." }
            }
            @let others = beyond(report);
            @if !others.is_empty() { p { (others) "." } }
        }
    }
}

const COLUMNS: [&str; 9] = [
    "conns",
    "failed",
    "died",
    "turned away",
    "messages",
    "messages/conn",
    "reused %",
    "4xx",
    "5xx",
];

fn row(of: &Sender, report: &Report) -> Markup {
    let name = sender_name(of, report);
    let cells = [
        Cell::count(Some(of.connections)),
        Cell::count(Some(of.connect_failures)),
        Cell::count(Some(of.died)),
        Cell::count(Some(of.turned_away)),
        Cell::count(of.transactions),
        Cell::decimal(of.messages_per_connection),
        Cell::percent(of.reuse_ratio),
        Cell::count(of.replies_4xx),
        Cell::count(of.replies_5xx),
    ];
    html! {
        tr {
            th scope="row" data-v=(name) { (name) }
            @for cell in cells { td .n data-v=[cell.value] { (cell.shown) } }
        }
    }
}
