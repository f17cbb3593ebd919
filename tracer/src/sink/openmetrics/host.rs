//! The families about the tracer and how far its numbers can be trusted.

use std::sync::Arc;

use tracer_analysis::recording::{HookState, HookStatus};

use super::{
    About,
    family::{Description, Family, Label, counter, gauge, info},
};
use crate::listen::Unfinished;

/// A family and where its samples come from.
type Source = (Description, fn(&About<'_>, &mut Family));

/// All of them.
pub(super) const SOURCES: &[Source] = &[
    (info("smtptrace_build", "Version of smtptrace."), |about, family| {
        family.fact(vec![("version", about.version.into())]);
    }),
    (info("smtptrace_trace", "What is traced, and what makes a destination."), |about, family| {
        for host in about.hosts {
            let by = ("group_by", about.group_by.as_str().into());
            family.fact(vec![("host", host.as_str().into()), by]);
        }
    }),
    (
        gauge("smtptrace_trace_start_time_seconds", "When tracing began, since 1970 (UTC).")
            .measured_in("seconds"),
        |about, family| family.number(Vec::new(), Some(about.start.micros() as f64 / 1e6)),
    ),
    (
        gauge("smtptrace_trace_duration_seconds", "How long has been traced.")
            .measured_in("seconds"),
        |about, family| family.number(Vec::new(), Some(about.duration_s)),
    ),
    (
        gauge("smtptrace_destinations_named", "Destinations with series of their own."),
        |about, family| family.count(Vec::new(), about.named as u64),
    ),
    (
        gauge("smtptrace_destinations_limit", "Destinations that may have series of their own."),
        |about, family| family.count(Vec::new(), about.limit as u64),
    ),
    (
        counter(
            "smtptrace_destinations_replaced",
            "Times a destination lost its series to a busier one; its counts are those of ~other since then.",
        ),
        |about, family| family.count(Vec::new(), about.replaced),
    ),
    (
        counter("smtptrace_events_lost", "Records that the kernel could not hand over, by hook."),
        |about, family| by_hook(about, family, |hook| Some(hook.events_lost)),
    ),
    (
        counter(
            "smtptrace_map_full",
            "Times a table was full, by hook; user_space for the tables of smtptrace itself.",
        ),
        |about, family| {
            by_hook(about, family, |hook| Some(hook.map_full));
            let kernel: u64 = about.trust.hooks.iter().map(|hook| hook.map_full).sum();
            let own = about.trust.map_full.saturating_sub(kernel);
            family.count(vec![("hook", "user_space".into())], own);
        },
    ),
    (
        counter(
            "smtptrace_connections_over_quota",
            "Connections that are not traced, because their user held an eighth of the kernel's table, or \
             more, while less than an eighth of it was free.",
        ),
        |about, family| family.count(Vec::new(), about.trust.over_quota),
    ),
    (counter("smtptrace_undecodable", "Records that could not be decoded."), |about, family| {
        family.count(Vec::new(), about.trust.undecodable);
    }),
    (
        counter(
            "smtptrace_connections_lost",
            "Connections without a record; absent if their number cannot be known.",
        ),
        |about, family| {
            if let Some(lost) = about.trust.connections_lost {
                family.count(Vec::new(), lost);
            }
        },
    ),
    (
        gauge(
            "smtptrace_recording_failed",
            "1 while the recording takes no more: its disk refuses it, or does not keep up.",
        ),
        |about, family| {
            if let Some(failed) = about.own.recording_failed {
                family.count(Vec::new(), u64::from(failed));
            }
        },
    ),
    (
        counter(
            "smtptrace_connections_not_recorded",
            "Connections that are not in the recording because of its disk.",
        ),
        |about, family| family.count(Vec::new(), about.trust.not_recorded),
    ),
    (
        gauge(
            "smtptrace_evidence_complete",
            "1 if nothing was lost: every connection has its record, and every record was read.",
        ),
        |about, family| family.count(Vec::new(), u64::from(about.trust.is_complete())),
    ),
    (
        info("smtptrace_hook", "Hooks: what they record and whether they are attached."),
        |about, family| {
            for hook in &about.trust.hooks {
                family.fact(vec![
                    name(hook),
                    ("fact", hook.fact.as_str().into()),
                    ("state", state(hook.state).into()),
                    ("program", hook.program.as_deref().unwrap_or_default().into()),
                ]);
            }
        },
    ),
    (
        counter("smtptrace_hook_runs", "Runs of a hook's program, with --measure-overhead."),
        |about, family| by_hook(about, family, |hook| hook.run_count),
    ),
    (
        counter(
            "smtptrace_hook_cpu_seconds",
            "CPU time of a hook's program, with --measure-overhead.",
        )
        .measured_in("seconds"),
        |about, family| {
            for hook in &about.trust.hooks {
                let time = hook.run_time_ns.map(|nanos| nanos as f64 / 1e9);
                family.number(vec![name(hook)], time);
            }
        },
    ),
    (
        counter("smtptrace_cpu_seconds", "CPU time of the smtptrace process since it traces.")
            .measured_in("seconds"),
        |about, family| {
            let time = about.trust.overhead.user_cpu_us.map(|micros| micros as f64 / 1e6);
            family.number(Vec::new(), time);
        },
    ),
    (
        counter("smtptrace_scrapes", "Requests to the metrics endpoint, by status of the answer."),
        |about, family| {
            for (status, n) in &about.own.scrapes {
                family.count(vec![("code", status.to_string().into())], *n);
            }
        },
    ),
    (
        counter(
            "smtptrace_scrapes_unfinished",
            "Connections to the endpoint closed before their answer was taken, by reason: no_room, too_slow.",
        ),
        |about, family| {
            let reasons = |it: Unfinished| [("no_room", it.no_room), ("too_slow", it.too_slow)];
            for (reason, n) in about.own.unfinished.into_iter().flat_map(reasons) {
                family.count(vec![("reason", reason.into())], n);
            }
        },
    ),
    (
        gauge("smtptrace_exposition_seconds", "Time it took to build the exposition before this.")
            .measured_in("seconds"),
        |about, family| {
            family.number(Vec::new(), about.own.build_time.map(|time| time.as_secs_f64()));
        },
    ),
    (
        counter("smtptrace_otlp_exports", "Exports to the OTLP receiver, by result."),
        |about, family| {
            for (result, n) in about.own.exports.iter().flatten() {
                family.count(vec![("result", (*result).into())], *n);
            }
        },
    ),
];

fn by_hook(about: &About<'_>, family: &mut Family, count: fn(&HookStatus) -> Option<u64>) {
    for hook in &about.trust.hooks {
        if let Some(n) = count(hook) {
            family.count(vec![name(hook)], n);
        }
    }
}

fn name(hook: &HookStatus) -> Label {
    ("hook", Arc::from(hook.hook.as_str()))
}

fn state(state: HookState) -> &'static str {
    match state {
        HookState::Attached => "attached",
        HookState::Fallback => "fallback",
        HookState::Unavailable => "unavailable",
    }
}
