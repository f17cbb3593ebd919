//! The verdicts, the worst first.

use maud::{Markup, html};
use tracer_analysis::{
    report::{Destination, Report, TOTAL},
    verdict::{Finding, Severity, Verdict},
};

use crate::sink::{quantity::plural, safe_text::safe, verdict_text};

/// The worst findings of all; at most `most`. Those on a destination in `shown` lead to its section.
pub(super) fn worst(report: &Report, shown: &[Destination], most: usize) -> Markup {
    let rest = report.findings.len().saturating_sub(most) as u64;
    html! {
        section #verdicts {
            h2 { "Verdicts" }
            @if report.findings.is_empty() {
                p { "Nothing to say: too little was seen to conclude anything." }
            }
            ol .verdicts {
                @for finding in report.findings.iter().take(most) {
                    li { (found(finding, shown)) }
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
            ol .verdicts { @for verdict in mine { li { (one(verdict, None, &safe(&verdict.summary), None)) } } }
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

/// A finding: what it is about, what is said, and where.
fn found(of: &Finding, shown: &[Destination]) -> Markup {
    let about = match (of.verdict.destination.as_str(), of.count) {
        (TOTAL, _) => html! { a href="#all" { "all destinations" } },
        (key, 1) => link(key, shown),
        _ => html! { (verdict_text::about(of)) },
    };
    let places = verdict_text::lists_places(of).then(|| {
        let rest = of.count - of.destinations.len() as u64;
        html! {
            p .where {
                "Where: "
                @for (n, it) in of.destinations.iter().enumerate() {
                    @if n > 0 { ", " }
                    (link(&it.destination, shown)) " (" (verdict_text::touched(it, n)) ")"
                }
                @if rest > 0 { ", and " (rest) " more" }
            }
        }
    });
    one(&of.verdict, Some(&about), &verdict_text::summary(of), places.as_ref())
}

/// A destination, with a link to where the numbers are.
fn link(key: &str, shown: &[Destination]) -> Markup {
    let place = shown.iter().position(|one| one.key == key);
    html! {
        @if let Some(at) = place { a href={ "#d" (at) } { (safe(key)) } } @else { (safe(key)) }
    }
}

/// `summary` is safe already.
fn one(
    verdict: &Verdict,
    about: Option<&Markup>,
    summary: &str,
    places: Option<&Markup>,
) -> Markup {
    html! {
        p .what {
            (badge(verdict.severity)) " "
            @if let Some(about) = about { (about) ": " }
            strong { (verdict.code.as_str()) } " "
            span .sure { "(" (verdict.confidence.as_str()) " confidence)" }
        }
        p { (summary) }
        @if let Some(places) = places { (places) }
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
