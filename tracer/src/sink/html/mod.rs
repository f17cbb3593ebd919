//! The report as one HTML file that needs nothing else: no script, font or image from elsewhere, and a policy
//! that forbids them. Without its own small script everything can be read; the script sorts tables and opens
//! what is folded for printing.
//!
//! All text goes through `maud`, which escapes; what comes from the network or from files goes through
//! [`safe`] before, so that nothing in it is invisible or changes the direction of the line.

mod chart;
mod destination;
mod senders;
mod table;
mod trust;
mod verdicts;

use std::io;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use tracer_analysis::{
    report::{Name, Report, TOTAL},
    whatif::WhatIf,
};

use super::{
    quantity::{grouped, plural},
    safe_text::safe,
    text::{filters, listed, window},
};

/// What to show.
#[derive(Debug)]
pub(crate) struct HtmlOptions {
    /// Destinations that get a section of their own.
    pub(crate) top: usize,
}

/// Destinations in the table at most: beyond that a browser takes seconds to sort it.
const ROWS: usize = 1000;
/// Verdicts at the top, at most; those on a destination with a section stand there as well.
const VERDICTS: usize = 50;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Nothing may be loaded, sent or run but the style and the script of the page itself, by their SHA-256.
const POLICY: &str = "default-src 'none'; \
     style-src 'sha256-C0zH2eex48A2lJWOijAEWmF8VRuGBOnd2HYuaRLo2Ks='; \
     script-src 'sha256-aiydal9DsBKn7JVJUhAVy2hH23MA4ZR+SnuWNZyySUU='; \
     base-uri 'none'; form-action 'none'";

/// Writes the page. `what_if`: the replay, if there is one.
pub(crate) fn write(
    report: &Report,
    what_if: Option<&WhatIf>,
    out: &mut impl io::Write,
    options: &HtmlOptions,
) -> io::Result<()> {
    out.write_all(page(report, what_if, options).into_string().as_bytes())
}

fn page(report: &Report, what_if: Option<&WhatIf>, options: &HtmlOptions) -> Markup {
    let shown = &report.destinations[..options.top.min(report.destinations.len())];
    let title = format!("smtptrace: {}", hosts(report));
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(report))
                main {
                    (verdicts::worst(report, shown, VERDICTS))
                    @if report.totals.connections == 0 {
                        p { "No connections were seen: nothing to show." }
                    } @else {
                        (table::destinations(report, shown, ROWS))
                        (senders::section(report))
                        section #all {
                            h2 { "All destinations" }
                            (destination::content(&report.totals, report, replay(what_if, TOTAL)))
                        }
                        (sections(report, shown, what_if))
                    }
                    (trust::section(report))
                }
                footer {
                    p {
                        "Made by smtptrace " (safe(&report.version)) " from report schema " (report.schema)
                        ". Percentiles are within 1 % of the exact value. The same numbers for machines: "
                        code { "--format json" } "."
                    }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

fn hosts(report: &Report) -> String {
    let hosts = listed(report.hosts.iter().map(|host| safe(host)));
    if report.hosts.len() > 1 { format!("{} hosts: {hosts}", report.hosts.len()) } else { hosts }
}

/// Who, when, what and how it went.
fn head(report: &Report) -> Markup {
    let all = &report.totals;
    html! {
        header {
            h1 { "Outbound SMTP connections of " (hosts(report)) }
            p {
                (window(&report.window)) ". Traced: " (filters(report.filters.as_ref())) ". By "
                (report.group_by.as_str()) "."
            }
            p .lead {
                strong { (plural(all.connections, "connection", "connections")) } " to "
                (plural(report.destinations_known(), "destination", "destinations")) "; "
                strong { (grouped(all.connect_failures)) } " failed to connect, "
                strong { (grouped(all.died)) } " died"
                @if let Some(messages) = all.transactions {
                    "; " strong { (plural(messages, "message", "messages")) }
                    @if let Some(ratio) = all.reuse_ratio {
                        ", " (format!("{:.0} %", ratio * 100.0)) " of them without a new connection"
                    }
                }
                "."
            }
            p .trustline { (trust::line(report)) }
        }
    }
}

/// A section for each destination that is shown, folded but for the first ones.
fn sections(
    report: &Report,
    shown: &[tracer_analysis::report::Destination],
    what_if: Option<&WhatIf>,
) -> Markup {
    let rest = (report.destinations.len() - shown.len()) as u64;
    html! {
        section #each {
            h2 { "Destinations, the worst first" }
            @for (at, one) in shown.iter().enumerate() {
                details .destination open[at < OPEN] {
                    summary {
                        span .key { (safe(&one.key)) } " "
                        @if let Some(name) = &one.name { (dns_name(name)) " " }
                        (verdicts::worst_badge(report, &one.key))
                        span .brief { (destination::brief(one)) }
                    }
                    div id={ "d" (at) } {
                        (destination::content(one, report, replay(what_if, &one.key)))
                    }
                }
            }
            @if rest > 0 {
                p { "... and " (plural(rest, "more destination", "more destinations")) " without charts ("
                    code { "--top N" } ")." }
            }
        }
    }
}

/// Sections that are open at first.
const OPEN: usize = 3;

/// What the owner of an address calls it, and whether the name has that address, too.
fn dns_name(name: &Name) -> Markup {
    let doubt = if name.verified { "" } else { " (not verified)" };
    html! { span .brief { (safe(&name.name)) (doubt) } }
}

/// The replay of one destination; `Err` says why there is none.
fn replay<'a>(
    what_if: Option<&'a WhatIf>,
    key: &str,
) -> Result<&'a tracer_analysis::whatif::Destination, &'static str> {
    let Some(what_if) = what_if else {
        return Err("not replayed: this report was made without the messages themselves");
    };
    let mut all = what_if.destinations.iter().chain([&what_if.totals]);
    let found = if key == TOTAL { Some(&what_if.totals) } else { all.find(|one| one.key == key) };
    match found {
        Some(one) if one.messages.replayed > 0 => Ok(one),
        _ => Err("nothing to replay: of no message is it known when it was sent"),
    }
}

#[cfg(test)]
mod tests;
