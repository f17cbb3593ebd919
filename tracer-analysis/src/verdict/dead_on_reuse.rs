//! Sessions that were dead when they were used again.

use super::{
    Code, Confidence, Severity, Subject, Verdict,
    idle_advice::close_earlier,
    idle_doubt::IdleDoubt,
    idle_path::{plural, safe_idle_us},
    settings,
};
use crate::destination::Group;

/// Share of dead sessions from which on it matters.
const OFTEN: f64 = 0.05;
/// Seconds lost on them from which on it matters.
const MUCH_S: f64 = 60.0;

/// At most one verdict, on a destination.
pub(super) fn verdicts(subject: &Subject<'_>) -> Vec<Verdict> {
    let Some(gaps) = subject.group.all.idle.as_deref() else { return Vec::new() };
    let dead = gaps.dead_on_reuse;
    if dead == 0 || subject.is_total {
        return Vec::new();
    }
    let survived = gaps.survived.count();
    let lost_s = (gaps.dead_on_reuse_us as f64 / 1e5).round() / 10.0;
    let cost = if lost_s > 0.0 {
        format!("{lost_s} s were lost waiting for an answer")
    } else {
        "that showed at once".to_owned()
    };
    let times = plural(dead + survived, "time", "times");
    let summary = format!(
        "{dead} of {times} that a session was used again after idling, it was dead; {cost}."
    );
    let (code, key) = (Code::DeadOnReuse, &subject.group.key);
    let often = dead as f64 >= OFTEN * (dead + survived) as f64;
    let severity = if often || lost_s >= MUCH_S { Severity::Warning } else { Severity::Info };
    // Each is a fact; nothing is inferred.
    let verdict = Verdict::new(code, severity, Confidence::High, key, summary)
        .because("dead", dead)
        .because("cost_seconds", lost_s)
        .because("survived", survived)
        .touching(dead)
        .because("mean_cost_seconds", (lost_s / dead as f64 * 1e3).round() / 1e3);
    vec![advised(verdict, subject.group)]
}

/// Where it is known from which idle time on sessions are dead, how to close them before; else what a dead
/// one costs at most.
fn advised(verdict: Verdict, group: &Group) -> Verdict {
    if let Some(safe_us) = safe_idle_us(group) {
        return close_earlier(verdict, &group.all, Some(safe_us));
    }
    let verdict = match IdleDoubt::of(group).and_then(IdleDoubt::needed) {
        Some(needed) => {
            verdict.advise(None, format!("Cannot tell after which idle time; needed: {needed}."))
        }
        None => verdict,
    };
    let otherwise = "When your mail server uses an idle session again, let it wait for an answer for a few \
                     seconds only.";
    settings::advise(verdict, group, otherwise, |mta| settings::wait_on_reuse(mta).to_owned())
}
