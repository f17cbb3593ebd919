//! What became of idle sessions, as text.

use std::collections::BTreeMap;

use tracer_analysis::report::{Destination, IdleLimit, Keepalive};

use super::{
    quantity::{grouped, plural},
    safe_text::{safe, wrap},
};

/// A line or two for each destination with idle sessions; empty if there is none. `key` columns are kept
/// for their names.
pub(super) fn idle_sessions(shown: &[Destination], key: usize) -> String {
    let lines: String = shown.iter().filter_map(|of| lines(of, key)).collect();
    if lines.is_empty() { lines } else { format!("\nIdle sessions\n{lines}") }
}

fn lines(of: &Destination, width: usize) -> Option<String> {
    let text = sentence(of)?;
    let (key, margin) = (safe(&of.key), width + 2);
    Some(if key.len() <= width {
        wrap(&format!("{key:width$}  "), margin, &text)
    } else {
        format!("{}{}", wrap("", 2, &key), wrap(&" ".repeat(margin), margin, &text))
    })
}

/// What became of idle sessions, in words; `None` if there were none.
pub(crate) fn sentence(of: &Destination) -> Option<String> {
    Some(parts(of, of.idle_limit.as_ref()?).join(", "))
}

/// What is known, item by item.
pub(super) fn parts(of: &Destination, idle: &IdleLimit) -> Vec<String> {
    let mut parts = Vec::new();
    let died: u64 = idle.deaths.values().sum();
    match idle.survived_s {
        Some(s) if idle.survived > 0 => {
            let closed = idle.closed_by_server.map_or(0, |closed| closed.count);
            let gaps = plural(idle.survived + closed, "gap", "gaps");
            parts.push(format!("longest gap that survived {} ({gaps})", seconds(s)));
        }
        Some(_) => {} // that which the server ended
        None => parts.push("no gap is known to have survived".to_owned()),
    }
    if died > 0 {
        let from = match idle.died_s {
            Some(s) => format!("dead from {} on", seconds(s)),
            None => "dead after gaps that others survived".to_owned(),
        };
        parts.push(format!(
            "{from} ({}; suspect: {})",
            manners(&idle.deaths),
            most(&idle.suspects)
        ));
    }
    if let (Some([low, high]), true) = (idle.interval_s, idle.interval_s != bracket(idle)) {
        parts.push(format!("limit between {} and {} (95 %)", seconds(low), seconds(high)));
    }
    if let Some(longest) = idle.longest_gap_s
        && idle.untested > 0
        && died == 0
        && Some(longest) != idle.survived_s
    {
        parts.push(format!("longest gap {}, not put to the test", seconds(longest)));
    }
    if let Some(closed) = &idle.closed_by_server {
        let said = if closed.with_421 > 0 {
            format!(", {} with a 421", grouped(closed.with_421))
        } else {
            String::new()
        };
        let after = seconds(closed.median_s);
        parts.push(format!("closed by the server after {after} ({}{said})", grouped(closed.count)));
    }
    if died > 0 {
        parts.push(keepalives(of, idle));
    }
    parts
}

fn bracket(idle: &IdleLimit) -> Option<[f64; 2]> {
    Some([idle.survived_s?, idle.died_s?])
}

/// Of both families, if they differ.
fn keepalives(of: &Destination, idle: &IdleLimit) -> String {
    let family = |family: &Option<_>| -> Option<Keepalive> {
        let family: &tracer_analysis::report::FamilySummary = family.as_ref()?;
        family.idle_limit.as_ref().map(|it| it.keepalive)
    };
    match (family(&of.families.ipv4), family(&of.families.ipv6)) {
        (Some(v4), Some(v6)) if keepalive(&v4) != keepalive(&v6) => {
            format!("keepalive {} over IPv4, {} over IPv6", keepalive(&v4), keepalive(&v6))
        }
        _ => format!("keepalive {}", keepalive(&idle.keepalive)),
    }
}

fn keepalive(of: &Keepalive) -> String {
    let first = match of.first_probe_s {
        Some([low, high]) if low == high => format!(" (first probe after {low} s)"),
        Some([low, high]) => format!(" (first probe after {low} to {high} s)"),
        None => String::new(),
    };
    match (of.on, of.off) {
        (0, 0) => "not known".to_owned(),
        (0, _) => "off".to_owned(),
        (_, 0) => format!("on{first}"),
        (on, off) => format!("on for {} of {}{first}", grouped(on), grouped(on + off)),
    }
}

/// How they died: `3 silent, 1 reset when used again`.
fn manners(deaths: &BTreeMap<String, u64>) -> String {
    let each = deaths.iter().map(|(manner, &n)| {
        let words = match manner.as_str() {
            "silent" => "silent",
            "reset_on_reuse" => "reset when used again",
            "reset_while_idle" => "reset while idle",
            _ => "dead",
        };
        format!("{} {words}", grouped(n))
    });
    each.collect::<Vec<_>>().join(", ")
}

/// Who is suspected of most.
fn most(suspects: &BTreeMap<String, u64>) -> String {
    let most = suspects.iter().max_by_key(|(_, n)| **n);
    match most.map(|(name, _)| name.as_str()) {
        Some("middlebox") => "a box on the path".to_owned(),
        Some("server") => "the server".to_owned(),
        _ => "not known".to_owned(),
    }
}

fn seconds(seconds: f64) -> String {
    if seconds < 99.95 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") }
}
