//! The part of the text report that says how far it can be trusted.

use tracer_analysis::{
    recording::{HookState, HookStatus, Trust},
    report::Report,
};

use super::{
    quantity::{grouped, plural},
    safe_text::{safe, wrap, wrap_list},
};

/// Losses, hooks and the cost of tracing.
pub(super) fn trust(report: &Report) -> String {
    let mut text = wrap_list("Trust: ", 2, &losses(&report.trust));
    text.push_str(&hooks(&report.trust.hooks));
    text.push_str(&wrap("Cost: ", 2, &cost(report)));
    text
}

pub(super) fn losses(trust: &Trust) -> Vec<String> {
    let connections_lost = match trust.connections_lost {
        Some(n) => plural(n, "connection lost", "connections lost"),
        None => "connections lost: not known".to_owned(),
    };
    let mut parts = vec![
        plural(trust.events_lost, "event lost", "events lost"),
        format!("{} map full", grouped(trust.map_full)),
        format!("{} undecodable", grouped(trust.undecodable)),
        connections_lost,
        plural(trust.midlife, "connection of unknown age", "connections of unknown age"),
    ];
    if trust.over_quota > 0 {
        let over = plural(trust.over_quota, "connection", "connections");
        parts.push(format!("{over} over the quota of a user"));
    }
    if trust.clock_steps > 0 {
        let times = plural(trust.clock_steps, "time", "times");
        parts.push(format!("the clock was set {times}"));
    }
    if trust.unreadable_lines > 0 {
        parts.push(plural(trust.unreadable_lines, "unreadable line", "unreadable lines"));
    }
    if trust.unfinished_recordings > 0 {
        let unfinished = trust.unfinished_recordings;
        parts.push(plural(unfinished, "recording not finished", "recordings not finished"));
    }
    if trust.not_recorded > 0 {
        let (one, many) = ("connection not in the recording", "connections not in the recording");
        parts.push(plural(trust.not_recorded, one, many));
    }
    parts
}

fn hooks(hooks: &[HookStatus]) -> String {
    if hooks.is_empty() {
        return wrap("Hooks: ", 2, "not known");
    }
    let missing = |hook: &&HookStatus| hook.state == HookState::Unavailable;
    let attached = hooks.len() - hooks.iter().filter(missing).count();
    let mut text = wrap("Hooks: ", 2, &format!("{attached} of {} attached", hooks.len()));
    for hook in hooks {
        let reason = hook.reason.as_deref().map(|reason| format!(" ({})", safe(reason)));
        let reason = reason.unwrap_or_default();
        let (name, fact) = (safe(&hook.hook), safe(&hook.fact));
        let line = match hook.state {
            HookState::Attached => continue,
            HookState::Fallback => {
                let program = safe(hook.program.as_deref().unwrap_or("another hook"));
                format!("second choice: {name} by {program}{reason}")
            }
            HookState::Unavailable => format!("missing: {name}{reason}; not recorded: {fact}"),
        };
        text.push_str(&wrap("  ", 4, &line));
    }
    text
}

/// What tracing cost.
pub(super) fn cost(report: &Report) -> String {
    let used = |cpu_us: Option<u64>, share: Option<f64>| match (cpu_us, share) {
        (Some(cpu_us), Some(share)) => {
            format!("{:.2} s CPU ({:.2} % of one core)", cpu_us as f64 / 1e6, share * 100.0)
        }
        (Some(cpu_us), None) => format!("{:.2} s CPU", cpu_us as f64 / 1e6),
        (None, _) => "not measured".to_owned(),
    };
    let (overhead, share) = (report.trust.overhead, report.tracer_cpu);
    format!(
        "smtptrace {}; BPF programs {}",
        used(overhead.user_cpu_us, share.user_share),
        used(overhead.kernel_cpu_us, share.kernel_share)
    )
}
