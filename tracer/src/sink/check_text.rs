//! The outcome of a check, in the form of monitoring plugins: a line that says how things are, with
//! performance data after a `|`, and details below. Monitoring Plugins Development Guidelines, sections
//! 2.5 (ranges) and 2.6 (performance data).

use std::{fmt::Write as _, io};

use tracer_analysis::check::{Check, Finding, Measured, Metric, State, Value};

use super::{
    quantity::{grouped, plural},
    safe_text::safe,
};

/// Findings that are listed; more are counted.
const LISTED: usize = 50;
/// Numbers among the performance data; monitoring systems cut long lines.
const LABELS: usize = 64;

/// Writes the outcome.
pub(crate) fn write(check: &Check, out: &mut impl io::Write) -> io::Result<()> {
    let state = in_capitals(check.state);
    let mut text = format!("SMTPTRACE {state} - {}", summary(check));
    let data = performance_data(check);
    if !data.is_empty() {
        let _ = write!(text, " | {data}"); // a String takes everything
    }
    text.push('\n');
    for finding in check.findings.iter().take(LISTED) {
        let _ = writeln!(text, "{}: {}", in_capitals(finding.state()), words(finding));
    }
    let rest = check.findings.len().saturating_sub(LISTED);
    if rest > 0 {
        let _ = writeln!(text, "... and {} more", grouped(rest as u64));
    }
    out.write_all(text.as_bytes())
}

/// The line of a plugin that cannot tell.
pub(crate) fn unknown(why: &str) -> String {
    format!("SMTPTRACE UNKNOWN - {}\n", plain(why))
}

const fn in_capitals(state: State) -> &'static str {
    match state {
        State::Ok => "OK",
        State::Unknown => "UNKNOWN",
        State::Warning => "WARNING",
        State::Critical => "CRITICAL",
    }
}

/// Text without what has a meaning in the output of a plugin.
fn plain(text: &str) -> String {
    safe(text).replace('|', "\\x7c")
}

fn summary(check: &Check) -> String {
    match &check.findings[..] {
        [] if check.destinations > 0 => {
            let all = plural(check.destinations, "destination", "destinations");
            format!("{all} checked, nothing crossed")
        }
        [] => {
            let known = check.measured.iter().filter(|one| one.value.is_some());
            let numbers: Vec<String> = known.map(|one| number(one.metric, one.value)).collect();
            numbers.join(", ")
        }
        [only] => words(only),
        [first, rest @ ..] => format!("{} (and {} more)", words(first), grouped(rest.len() as u64)),
    }
}

fn words(finding: &Finding) -> String {
    match finding {
        Finding::Number(measured) => crossed(measured),
        Finding::Verdict { severity, code, destination, summary, .. } => {
            let (about, severity) = (plain(destination), severity.as_str());
            format!("{about}: {code} ({severity}): {}", plain(summary))
        }
    }
}

fn crossed(of: &Measured) -> String {
    let about = of.destination.as_ref().map_or(String::new(), |key| format!("{}: ", plain(key)));
    let number = number(of.metric, of.value);
    let level = of.levels.and_then(|levels| match of.state {
        State::Critical => Some(levels.critical),
        State::Warning => levels.warning,
        State::Ok | State::Unknown => None,
    });
    let side = if of.metric.less_is_worse() { "below" } else { "above" };
    match level {
        Some(level) => format!("{about}{number} is {side} {}", value(Some(level))),
        None => format!("{about}{number}"),
    }
}

fn number(metric: Metric, of: Option<Value>) -> String {
    let name = match metric {
        Metric::Reuse => "messages reused",
        Metric::DeadOnReuse | Metric::DeadOnReuseShare => "dead on reuse",
        Metric::GreetingP99 => "greeting p99",
        Metric::Connections => "connections",
        Metric::Messages => "messages",
        Metric::ConnectFailures => "connects failed",
        Metric::Died => "died",
    };
    format!("{name} {}", value(of))
}

fn value(of: Option<Value>) -> String {
    match of {
        None => "not known".to_owned(),
        Some(Value::Share(share)) => format!("{:.1} %", share * 100.0),
        Some(Value::Us(us)) => format!("{:.3} s", us as f64 / 1e6),
        Some(Value::Count(n)) => grouped(n),
    }
}

fn performance_data(check: &Check) -> String {
    let known = check.measured.iter().filter(|one| one.value.is_some() || one.levels.is_some());
    let data: Vec<String> = known.take(LABELS).map(datum).collect();
    data.join(" ")
}

/// `'label'=value[UOM];[warn];[crit];[min];[max]`; `U` is a value that is not known.
fn datum(of: &Measured) -> String {
    let label = match &of.destination {
        Some(key) => format!("{}_{}", of.metric.label(), plain(key)),
        None => of.metric.label().to_owned(),
    };
    let label = label.replace(['\'', '='], "_");
    let number = match of.value {
        None => "U".to_owned(),
        Some(value) => format!("{}{}", bare(value), unit(value)),
    };
    let range = |level: Option<Value>| match level {
        None => String::new(),
        // Nagios alerts outside of a range: `50:` is 50 or more, `5` is 0 to 5.
        Some(level) if of.metric.less_is_worse() => format!("{}:", bare(level)),
        Some(level) => bare(level),
    };
    let warning = range(of.levels.and_then(|levels| levels.warning));
    let critical = range(of.levels.map(|levels| levels.critical));
    let most = if matches!(of.value, Some(Value::Share(_))) { "100" } else { "" };
    let datum = format!("'{label}'={number};{warning};{critical};0;{most}");
    datum.trim_end_matches(';').to_owned()
}

fn bare(value: Value) -> String {
    match value {
        Value::Share(share) => trimmed(&format!("{:.4}", share * 100.0)),
        Value::Us(us) => trimmed(&format!("{:.6}", us as f64 / 1e6)),
        Value::Count(n) => n.to_string(),
    }
}

/// A decimal fraction without zeros at its end.
fn trimmed(number: &str) -> String {
    number.trim_end_matches('0').trim_end_matches('.').to_owned()
}

const fn unit(value: Value) -> &'static str {
    match value {
        Value::Share(_) => "%",
        Value::Us(_) => "s",
        Value::Count(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use tracer_analysis::check::Levels;

    use super::*;

    fn measured(metric: Metric, value: Option<Value>, levels: Option<Levels<Value>>) -> Measured {
        Measured { destination: None, metric, value, levels, state: State::Ok }
    }

    #[test]
    fn performance_data_has_the_form_of_the_guidelines() {
        let levels = Levels { warning: Some(Value::Share(0.5)), critical: Value::Share(0.125) };
        let reuse = measured(Metric::Reuse, Some(Value::Share(0.9734)), Some(levels));
        assert_eq!(datum(&reuse), "'reuse'=97.34%;50:;12.5:;0;100");
        let levels = Levels { warning: None, critical: Value::Us(5_000_000) };
        let greeting = measured(Metric::GreetingP99, Some(Value::Us(2_004_000)), Some(levels));
        assert_eq!(datum(&greeting), "'greeting_p99'=2.004s;;5;0");
        let unknown = measured(Metric::GreetingP99, None, Some(levels));
        assert_eq!(datum(&unknown), "'greeting_p99'=U;;5;0");
        let plain = measured(Metric::Connections, Some(Value::Count(0)), None);
        assert_eq!(datum(&plain), "'connections'=0;;;0");
    }

    #[test]
    fn names_from_the_network_break_nothing() {
        let key = "mx='|\n\u{1b}[2J".to_owned();
        let of = Measured {
            destination: Some(key),
            state: State::Critical,
            ..measured(Metric::Died, Some(Value::Count(3)), None)
        };
        let check = Check {
            state: State::Critical,
            measured: vec![of.clone()],
            findings: vec![Finding::Number(of)],
            destinations: 1,
        };
        let mut text = Vec::new();
        write(&check, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert_eq!(text.matches('|').count(), 1, "{text:?}");
        assert!(text.contains("'died_mx__\\x7c\\x0a\\x1b[2J'=3;;;0"), "{text:?}");
        assert!(text.chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{text:?}");
        assert_eq!(unknown("a|b\nc"), "SMTPTRACE UNKNOWN - a\\x7cb\\x0ac\n");
    }
}
