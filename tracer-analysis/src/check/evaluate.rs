//! Holding a report against thresholds.

use std::cmp::Reverse;

use super::{
    Check, CheckError, Finding, Levels, Limits, Measured, Metric, Scope, State, Thresholds, Value,
};
use crate::{
    report::{Destination, IdleLimit, Report},
    verdict::{Severity, Verdict},
};

/// Checks `report`. Only numbers that have a threshold make a finding; the others are there to be drawn.
pub fn check(report: &Report, thresholds: &Thresholds, scope: &Scope) -> Result<Check, CheckError> {
    let (checked, named) = in_scope(report, scope)?;
    let mut measured = Vec::new();
    for of in &checked {
        let key = named.then(|| of.key.clone());
        measured.extend(with_thresholds(of, key.as_ref(), thresholds));
        if !matches!(scope, Scope::Each(_)) {
            measured.extend(without_thresholds(of, key.as_ref()));
        }
    }
    let mut findings: Vec<Finding> = measured
        .iter()
        .filter(|one| one.state != State::Ok)
        .cloned()
        .map(Finding::Number)
        .collect();
    if let Some(least) = thresholds.fail_on {
        let verdicts = report.verdicts.iter().filter(|it| {
            let about = !matches!(scope, Scope::One(key) if *key != it.destination);
            about && it.severity >= least
        });
        findings.extend(verdicts.map(of_verdict));
    }
    findings.sort_by_key(|finding| Reverse(finding.state()));
    Ok(Check {
        state: findings.first().map_or(State::Ok, Finding::state),
        measured,
        findings,
        destinations: if named { checked.len() as u64 } else { 0 },
    })
}

/// What to check, and whether that has a name.
fn in_scope<'a>(
    report: &'a Report,
    scope: &Scope,
) -> Result<(Vec<&'a Destination>, bool), CheckError> {
    let all = report.destinations.iter();
    match scope {
        Scope::Total => Ok((vec![&report.totals], false)),
        Scope::Each(least) => Ok((all.filter(|one| one.connections >= *least).collect(), true)),
        Scope::One(key) => {
            let found = all.into_iter().find(|one| one.key == *key);
            let found = found.ok_or_else(|| CheckError::NoSuchDestination(key.clone()))?;
            Ok((vec![found], true))
        }
    }
}

fn of_verdict(verdict: &Verdict) -> Finding {
    let state =
        if verdict.severity >= Severity::Critical { State::Critical } else { State::Warning };
    Finding::Verdict {
        state,
        severity: verdict.severity,
        code: verdict.code.as_str(),
        destination: verdict.destination.clone(),
        summary: verdict.summary.clone(),
    }
}

fn with_thresholds(
    of: &Destination,
    key: Option<&String>,
    thresholds: &Thresholds,
) -> Vec<Measured> {
    let mut measured = Vec::new();
    let mut add = |metric, value, levels: Option<Levels<Value>>| {
        measured.push(measure(key, metric, value, levels));
    };
    let reuse = of.reuse_ratio.map(Value::Share);
    add(Metric::Reuse, reuse, thresholds.min_reuse.map(|levels| levels.map(Value::Share)));
    let greeting = of.histograms.greeting_us.p99.map(Value::Us);
    let levels = thresholds.max_greeting_p99_us.map(|levels| levels.map(Value::Us));
    add(Metric::GreetingP99, greeting, levels);
    let dead = DeadOnReuse::of(of);
    let count = Some(Value::Count(dead.dead));
    match thresholds.max_dead_on_reuse {
        None => add(Metric::DeadOnReuse, count, None),
        Some(Limits::Count(levels)) => {
            add(Metric::DeadOnReuse, count, Some(levels.map(Value::Count)));
        }
        Some(Limits::Share(levels)) => {
            let share = Some(Value::Share(dead.share()));
            add(Metric::DeadOnReuseShare, share, Some(levels.map(Value::Share)));
        }
    }
    measured
}

fn without_thresholds(of: &Destination, key: Option<&String>) -> Vec<Measured> {
    let numbers = [
        (Metric::Connections, Some(of.connections)),
        (Metric::Messages, of.transactions),
        (Metric::ConnectFailures, Some(of.connect_failures)),
        (Metric::Died, Some(of.died)),
    ];
    numbers.map(|(metric, n)| measure(key, metric, n.map(Value::Count), None)).into()
}

fn measure(
    key: Option<&String>,
    metric: Metric,
    value: Option<Value>,
    levels: Option<Levels<Value>>,
) -> Measured {
    let crossed = |value: Value, level: Value| {
        let (value, level) = (value.number(), level.number());
        if metric.less_is_worse() { value < level } else { value > level }
    };
    let state = match (value, levels) {
        (_, None) => State::Ok,
        (None, Some(_)) => State::Unknown,
        (Some(value), Some(levels)) if crossed(value, levels.critical) => State::Critical,
        (Some(value), Some(levels)) => match levels.warning {
            Some(warning) if crossed(value, warning) => State::Warning,
            _ => State::Ok,
        },
    };
    Measured { destination: key.cloned(), metric, value, levels, state }
}

impl<T: Copy> Levels<T> {
    fn map<U>(self, to: impl Fn(T) -> U) -> Levels<U> {
        Levels { warning: self.warning.map(&to), critical: to(self.critical) }
    }
}

/// Sessions that were used again after they had idled.
#[derive(Debug, Clone, Copy)]
struct DeadOnReuse {
    /// Those that were dead.
    dead: u64,
    /// Those that answered.
    alive: u64,
}

impl DeadOnReuse {
    /// Of a destination without idle gaps none was used again.
    fn of(of: &Destination) -> Self {
        let known = |it: &IdleLimit| Self { dead: it.dead_on_reuse, alive: it.survived };
        of.idle_limit.as_ref().map_or(Self { dead: 0, alive: 0 }, known)
    }

    /// The dead as a share of all; 0 if none was used again.
    fn share(self) -> f64 {
        let all = self.dead + self.alive;
        if all == 0 { 0.0 } else { self.dead as f64 / all as f64 }
    }
}
