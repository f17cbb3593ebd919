//! The verdicts, the worst first.

use maud::{Markup, html};
use tracer_analysis::{
    report::{Destination, Report, TOTAL},
    verdict::{Severity, Verdict},
};

use crate::sink::{quantity::plural, safe_text::safe};

/// The worst verdicts of all; at most `most`. Those on a destination in `shown` lead to its section.
pub(super) fn worst(report: &Report, shown: &[Destination], most: usize) -> Markup {
    let rest = report.verdicts.len().saturating_sub(most) as u64;
    html! {
        section #verdicts {
            h2 { "Verdicts" }
            @if report.verdicts.is_empty() {
                p { "Nothing to say: too little was seen to conclude anything." }
            }
            ol .verdicts {
                @for verdict in report.verdicts.iter().take(most) {
                    li { (one(verdict, Some(&about(verdict, shown)))) }
                }
            }
            @if rest > 0 {
                p { "... and " (plural(rest, "more verdict", "more verdicts")) ", none of them worse ("
                    code { "--format json" } " has all)." }
            }
        }
    }
}

/// The verdicts on one destination; empty if there are none.
pub(super) fn on(report: &Report, key: &str) -> Markup {
    let mine: Vec<&Verdict> =
        report.verdicts.iter().filter(|verdict| verdict.destination == key).collect();
    html! {
        @if !mine.is_empty() {
            ol .verdicts { @for verdict in mine { li { (one(verdict, None)) } } }
        }
    }
}

/// The worst verdict on a destination: how bad it is, and which.
pub(super) fn worst_on<'a>(report: &'a Report, key: &str) -> Option<&'a Verdict> {
    let mine = report.verdicts.iter().filter(|verdict| verdict.destination == key);
    // The first of several: they are in order of what matters.
    mine.rev().max_by_key(|verdict| verdict.severity)
}

/// That one as a badge; empty if there is none.
pub(super) fn worst_badge(report: &Report, key: &str) -> Markup {
    html! { @if let Some(verdict) = worst_on(report, key) { (badge(verdict.severity)) " " } }
}

/// How bad: told by its word and its frame.
pub(super) fn badge(severity: Severity) -> Markup {
    html! { span class={ "badge " (severity.as_str()) } { (severity.as_str()) } }
}

/// What a verdict is about, with a link to where the numbers are.
fn about(verdict: &Verdict, shown: &[Destination]) -> Markup {
    let place = shown.iter().position(|one| one.key == verdict.destination);
    html! {
        @match (verdict.destination.as_str(), place) {
            (TOTAL, _) => a href="#all" { "all destinations" },
            (key, Some(at)) => a href={ "#d" (at) } { (safe(key)) },
            (key, None) => (safe(key)),
        }
    }
}

fn one(verdict: &Verdict, about: Option<&Markup>) -> Markup {
    html! {
        p .what {
            (badge(verdict.severity)) " "
            @if let Some(about) = about { (about) ": " }
            strong { (verdict.code.as_str()) } " "
            span .sure { "(" (verdict.confidence.as_str()) " confidence)" }
        }
        p { (safe(&verdict.summary)) }
        @if !verdict.advice.is_empty() {
            ul .advice {
                @for advice in &verdict.advice {
                    li {
                        @if let Some(mta) = advice.mta { b { (mta.as_str()) } ": " }
                        (safe(&advice.text))
                    }
                }
            }
        }
    }
}
