//! The verdicts as text.

use tracer_analysis::{
    report::{Report, TOTAL},
    verdict::Verdict,
};

use super::safe_text::{safe, wrap};

/// Verdicts that are listed; more are counted.
pub(crate) const LISTED: usize = 20;

/// What was concluded, the worst first; empty if there is nothing to say.
pub(super) fn verdicts(report: &Report) -> String {
    if report.verdicts.is_empty() {
        return String::new();
    }
    let mut text = String::from("\nVerdicts\n");
    for verdict in report.verdicts.iter().take(LISTED) {
        text.push_str(&one(verdict));
    }
    let rest = report.verdicts.len().saturating_sub(LISTED) as u64 + report.unlisted.verdicts;
    if rest > 0 {
        text.push_str(&wrap("", 2, &format!("... and {rest} more (--format json)")));
    }
    text
}

fn one(verdict: &Verdict) -> String {
    let severity = verdict.severity.as_str().to_uppercase();
    let about = match verdict.destination.as_str() {
        TOTAL => "all destinations".to_owned(),
        key => safe(key),
    };
    let confidence = verdict.confidence.as_str();
    let heading = format!("{about}: {} ({confidence} confidence)", verdict.code);
    let mut text = wrap(&format!("{severity:<8} "), 9, &heading);
    text.push_str(&wrap(INDENT, INDENT.len(), &safe(&verdict.summary)));
    for advice in &verdict.advice {
        let whose = advice.mta.map_or(String::new(), |mta| format!("{}: ", mta.as_str()));
        text.push_str(&wrap(&format!("{INDENT}> "), 11, &format!("{whose}{}", safe(&advice.text))));
    }
    text
}

const INDENT: &str = "         ";
