//! What a trace says on stderr while it is set up and runs.

use tracer_analysis::recording::{ClockStep, Header, HookState, HookStatus};

use crate::{
    diagnostics::{Level, say},
    origins::{Absent, LeftOut},
};

/// Says on stderr that tracing has begun, and which facts will be missing.
pub(super) fn announce(header: &Header) {
    let attached = header.hooks.iter().filter(|hook| hook.state == HookState::Attached).count();
    let ports: Vec<String> = header.filters.dport.iter().map(ToString::to_string).collect();
    let tracing = format!(
        "tracing TCP to port {}; {attached} of {} hooks as wanted; Ctrl-C ends with the report",
        ports.join(","),
        header.hooks.len()
    );
    say(Level::Info, &tracing);
    for hook in header.hooks.iter().filter(|hook| hook.state == HookState::Unavailable) {
        let reason = hook.reason.as_deref().unwrap_or_default();
        say(Level::Warning, &format!("without {} ({}): {reason}", hook.hook, hook.fact));
    }
}

/// Says on stderr that a TLS library was found, and whether it could be attached to.
pub(super) fn announce_library(library: &HookStatus) {
    let name = library.hook.escape_debug();
    match &library.reason {
        None => say(Level::Info, &format!("{}: attached to {name}", library.fact)),
        Some(reason) => {
            say(Level::Warning, &format!("without {name} ({}): {reason}", library.fact));
        }
    }
}

/// Says on stderr which units and containers that are wanted are not there. They may come.
pub(super) fn announce_absent(absent: &[Absent]) {
    for sender in absent {
        say(Level::Warning, &sender.to_string());
    }
}

/// Says on stderr how many connections were left out because of their senders.
pub(super) fn announce_left_out(left_out: LeftOut) {
    if left_out != LeftOut::default() {
        let level = if left_out.unknown > 0 { Level::Warning } else { Level::Info };
        say(level, &left_out.to_string());
    }
}

/// Says on stderr that the wall clock was set.
pub(super) fn announce_clock_step(step: &ClockStep) {
    let (seconds, way) = (step.step_us.unsigned_abs() as f64 / 1e6, step.step_us.signum());
    let way = if way < 0 { "back" } else { "forward" };
    let told = format!(
        "the clock was set {way} by {seconds:.3} s; times before that are by the clock as it was"
    );
    say(Level::Warning, &told);
}
