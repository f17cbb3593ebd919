//! How far the numbers can be trusted.

use maud::{Markup, html};
use tracer_analysis::{
    recording::{HookState, HookStatus},
    report::Report,
};

use crate::sink::{
    quantity::grouped,
    safe_text::safe,
    trust_text::{cost, losses},
};

/// The trust line.
pub(super) fn line(report: &Report) -> String {
    format!("Trust: {}.", losses(&report.trust).join(", "))
}

/// Losses, hooks and the cost of tracing.
pub(super) fn section(report: &Report) -> Markup {
    let hooks = &report.trust.hooks;
    let missing = |hook: &&HookStatus| hook.state == HookState::Unavailable;
    let attached = hooks.len() - hooks.iter().filter(missing).count();
    html! {
        section #trust {
            h2 { "Trust" }
            p { (line(report)) " A number other than 0 is what this report does not show." }
            p { "Cost: " (cost(report)) "." }
            @if hooks.is_empty() {
                p { "Hooks: not known." }
            } @else {
                p { "Hooks: " (attached) " of " (hooks.len()) " attached." }
                div .scroll {
                    table {
                        thead {
                            tr {
                                th { "hook" } th { "what it records" } th { "state" }
                                th .n { "events lost" } th .n { "map full" } th { "reason" }
                            }
                        }
                        tbody { @for hook in hooks { (row(hook)) } }
                    }
                }
            }
        }
    }
}

fn row(hook: &HookStatus) -> Markup {
    let state = match hook.state {
        HookState::Attached => "attached".to_owned(),
        HookState::Fallback => {
            format!("second choice: {}", safe(hook.program.as_deref().unwrap_or("another hook")))
        }
        HookState::Unavailable => "missing".to_owned(),
    };
    html! {
        tr {
            th scope="row" { (safe(&hook.hook)) }
            td .words { (safe(&hook.fact)) }
            td { (state) }
            td .n { (grouped(hook.events_lost)) }
            td .n { (grouped(hook.map_full)) }
            td .words { (hook.reason.as_deref().map(safe).unwrap_or_default()) }
        }
    }
}
