//! Whether the report says what it must, and what the servers counted.

use std::collections::BTreeMap;

use tracer_analysis::{
    report::{Destination as Row, Report},
    verdict::{Confidence, Evidence, Verdict},
};

use super::{
    destinations::{DESTINATIONS, Destination, Expected, Fact},
    server::Count,
};

/// A statement about a destination, and whether it holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) holds: bool,
    pub(super) text: String,
}

/// Holds the report against the counts of the servers and the verdicts that must come, for each
/// destination in turn.
pub(super) fn findings<'a>(
    report: &'a Report,
    counts: &'a BTreeMap<String, Count>,
) -> impl Iterator<Item = (&'static Destination, Vec<Finding>)> + 'a {
    DESTINATIONS.iter().map(|destination| {
        let row = report.destinations.iter().find(|row| row.key == destination.host);
        let counted = counted(row, counts.get(destination.host));
        let verdicts = destination.expected.iter().map(|it| came(it, destination.host, report));
        (destination, std::iter::once(counted).chain(verdicts).collect())
    })
}

fn counted(row: Option<&Row>, count: Option<&Count>) -> Finding {
    let (Some(row), Some(count)) = (row, count) else {
        return Finding { holds: false, text: "is not in the report".into() };
    };
    let Count { greeted, refused, messages } = *count;
    let connections = greeted + refused;
    if (row.connections, row.transactions) == (connections, Some(messages)) {
        let text = format!("{messages} messages, {connections} connections: as the server counted");
        return Finding { holds: true, text };
    }
    let of_report = row.transactions.map_or_else(|| "unknown".into(), |it| it.to_string());
    let text = format!(
        "{of_report} messages, {} connections; the server counted {messages} and {connections}",
        row.connections
    );
    Finding { holds: false, text }
}

fn came(expected: &Expected, host: &str, report: &Report) -> Finding {
    let code = expected.code;
    let is_it = |it: &&Verdict| it.code == code && it.destination == host;
    let Some(verdict) = report.verdicts.iter().find(is_it) else {
        return Finding { holds: false, text: format!("{code} did not come") };
    };
    let facts: Vec<String> =
        expected.because.iter().map(|fact| in_words(fact, &verdict.evidence)).collect();
    let facts = if facts.is_empty() { String::new() } else { format!(", {}", facts.join(", ")) };
    let confidence = verdict.confidence;
    Finding {
        holds: confidence > Confidence::Low
            && expected.because.iter().all(|fact| holds(fact, &verdict.evidence)),
        text: format!("{code}{facts} ({} confidence)", confidence.as_str()),
    }
}

type Facts = BTreeMap<String, Evidence>;

fn number(name: &str, evidence: &Facts) -> Option<f64> {
    match evidence.get(name) {
        Some(Evidence::Count(count)) => Some(*count as f64),
        Some(Evidence::Number(number)) => Some(*number),
        _ => None,
    }
}

fn holds(fact: &Fact, evidence: &Facts) -> bool {
    match *fact {
        Fact::Equals(name, value) => {
            number(name, evidence).is_some_and(|it| (it - value).abs() < 1e-9)
        }
        Fact::Between(name, low, high) => {
            number(name, evidence).is_some_and(|it| (low..=high).contains(&it))
        }
        Fact::Says(name, word) => evidence.get(name) == Some(&word.into()),
    }
}

/// What was found, and what it should have been where it is not.
fn in_words(fact: &Fact, evidence: &Facts) -> String {
    let (Fact::Equals(name, _) | Fact::Between(name, ..) | Fact::Says(name, _)) = *fact;
    let found = match evidence.get(name) {
        Some(Evidence::Count(count)) => count.to_string(),
        Some(Evidence::Number(number)) => number.to_string(),
        Some(Evidence::Text(text)) => text.clone(),
        _ => "unknown".into(),
    };
    if holds(fact, evidence) {
        return format!("{name} {found}");
    }
    match *fact {
        Fact::Equals(_, value) => format!("{name} {found} instead of {value}"),
        Fact::Between(_, low, high) => format!("{name} {found}, not within {low} to {high}"),
        Fact::Says(_, word) => format!("{name} {found} instead of {word}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence() -> Facts {
        [("limit", Evidence::Count(3)), ("manner", "silent".into()), ("died_s", 5.0.into())]
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }

    #[test]
    fn facts() {
        for (fact, right, words) in [
            (Fact::Equals("limit", 3.0), true, "limit 3"),
            (Fact::Equals("limit", 4.0), false, "limit 3 instead of 4"),
            (Fact::Equals("rate", 4.0), false, "rate unknown instead of 4"),
            (Fact::Between("died_s", 2.9, 20.0), true, "died_s 5"),
            (Fact::Between("died_s", 6.0, 20.0), false, "died_s 5, not within 6 to 20"),
            (Fact::Says("manner", "silent"), true, "manner silent"),
            (Fact::Says("manner", "reset"), false, "manner silent instead of reset"),
        ] {
            assert_eq!(
                (holds(&fact, &evidence()), in_words(&fact, &evidence()).as_str()),
                (right, words)
            );
        }
    }

    #[test]
    fn what_is_not_there_does_not_hold() {
        assert!(!counted(None, None).holds);
    }
}
