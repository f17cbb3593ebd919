//! The verdicts as text.

use tracer_analysis::{
    report::{Report, TOTAL},
    verdict::{Finding, Held},
};

use super::{
    quantity::{grouped, plural},
    safe_text::{safe, wrap, wrap_list},
};

/// Findings that are listed; more are counted.
pub(crate) const LISTED: usize = 20;

/// What was concluded, the worst first; empty if there is nothing to say.
pub(super) fn verdicts(report: &Report) -> String {
    if report.findings.is_empty() {
        return String::new();
    }
    let mut text = String::from("\nVerdicts\n");
    for finding in report.findings.iter().take(LISTED) {
        text.push_str(&one(finding));
    }
    let rest = report.findings.len().saturating_sub(LISTED);
    if rest > 0 {
        text.push_str(&wrap("", 2, &format!("... and {rest} more (--format json)")));
    }
    text
}

fn one(finding: &Finding) -> String {
    let verdict = &finding.verdict;
    let severity = verdict.severity.as_str().to_uppercase();
    let confidence = verdict.confidence.as_str();
    let heading = format!("{}: {} ({confidence} confidence)", about(finding), verdict.code);
    let mut text = wrap(&format!("{severity:<8} "), 9, &heading);
    text.push_str(&wrap(INDENT, INDENT.len(), &summary(finding)));
    let places = places(finding);
    if !places.is_empty() {
        text.push_str(&wrap_list(&format!("{INDENT}Where: "), 11, &places));
    }
    for advice in &verdict.advice {
        let whose = advice.mta.map_or(String::new(), |mta| format!("{}: ", mta.as_str()));
        text.push_str(&wrap(&format!("{INDENT}> "), 11, &format!("{whose}{}", safe(&advice.text))));
    }
    text
}

/// Of what it is said.
pub(super) fn about(finding: &Finding) -> String {
    match (finding.verdict.destination.as_str(), finding.count) {
        (TOTAL, _) => "all destinations".to_owned(),
        (key, 1) => safe(key),
        (_, several) => format!(
            "{} ({})",
            plural(several, "destination", "destinations"),
            plural(finding.connections, "connection", "connections")
        ),
    }
}

/// What is said. Of several destinations it is that of one, which is named.
pub(super) fn summary(finding: &Finding) -> String {
    let verdict = &finding.verdict;
    let summary = safe(&verdict.summary);
    if verdict.destination == TOTAL || finding.count == 1 {
        return summary;
    }
    format!("{}: {summary}", safe(&verdict.destination))
}

/// The destinations, those with most connections first; none if the heading has the only one.
fn places(finding: &Finding) -> Vec<String> {
    if !lists_places(finding) {
        return Vec::new();
    }
    let named = finding.destinations.iter().enumerate();
    let named = named.map(|(n, it)| format!("{} ({})", safe(&it.destination), touched(it, n)));
    let rest = finding.count - finding.destinations.len() as u64;
    let more = (rest > 0).then(|| format!("and {} more", grouped(rest)));
    named.chain(more).collect()
}

/// Whether the destinations are listed.
pub(super) fn lists_places(finding: &Finding) -> bool {
    let in_heading = u64::from(finding.verdict.destination != TOTAL);
    finding.count > in_heading
}

/// Connections touched at the `n`th place of the list; the first says what is counted.
pub(super) fn touched(held: &Held, n: usize) -> String {
    match n {
        0 => plural(held.connections, "connection", "connections"),
        _ => grouped(held.connections),
    }
}

const INDENT: &str = "         ";
