//! What became of idle sessions, as text.

use std::collections::BTreeMap;

use tracer_analysis::report::{Destination, FamilySummary, IdleLimit, Keepalive};

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
    let idle = of.idle_limit.as_ref()?;
    let mut text = parts(of, idle).join(", ");
    for part in needed(of, idle) {
        text.push_str("; ");
        text.push_str(&part);
    }
    Some(text)
}

const TOO_SHORT: &str = "no known middlebox timer is that short";

/// What would tell what cannot be told.
fn needed(of: &Destination, idle: &IdleLimit) -> Vec<String> {
    if let Some(it) = &idle.cannot_tell {
        let needed = it.needed.as_ref().map(|needed| format!("needed: {}", safe(needed)));
        return vec![needed.unwrap_or_else(|| TOO_SHORT.to_owned())];
    }
    if !idle.by_family {
        return Vec::new();
    }
    let families = [("IPv4", &of.families.ipv4), ("IPv6", &of.families.ipv6)];
    let untold = families.into_iter().filter_map(|(name, family)| {
        let idle = family.as_ref()?.idle_limit.as_ref()?;
        let longest = seconds(idle.longest_gap_s?);
        Some(match &idle.cannot_tell.as_ref()?.needed {
            Some(needed) => {
                let needed = safe(needed);
                format!("over {name} cannot tell: longest gap {longest}, needed: {needed}")
            }
            None => format!("over {name} longest gap {longest}: {TOO_SHORT}"),
        })
    });
    untold.collect()
}

/// What is known, item by item; the longest gap is always among it.
fn parts(of: &Destination, idle: &IdleLimit) -> Vec<String> {
    let mut parts = Vec::new();
    let died: u64 = idle.deaths.values().sum();
    let untested = idle.untested > 0 && died == 0 && idle.longest_gap_s != idle.survived_s;
    let tested = if untested { ", not put to the test" } else { "" };
    let longest = idle.longest_gap_s.map(|s| format!("longest gap {}{tested}", seconds(s)));
    if let Some(it) = &idle.cannot_tell {
        let doubt = if it.needed.is_some() { "cannot tell: " } else { "" };
        parts.extend(longest.iter().map(|longest| format!("{doubt}{longest}")));
    }
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
    if idle.cannot_tell.is_none() && idle.longest_gap_s != idle.survived_s {
        parts.extend(longest);
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
        let family: &FamilySummary = family.as_ref()?;
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

#[cfg(test)]
mod tests {
    use tracer_analysis::{
        connection::{Connection, EndCause, EndDuring},
        destination::{Fold, GroupBy},
        report::Report,
    };

    use super::*;
    use crate::sink::tests::{connection, context};

    const MINUTE_US: u64 = 60_000_000;

    /// One that idled so long over `dst`, and was then answered or not.
    fn idled(dst: &str, gap_us: u64, alive: bool) -> Connection {
        let dead = !alive;
        Connection {
            banner_host: Some("mx.example.org".to_owned()),
            idle_gaps_us: Some(vec![gap_us]),
            idle_max_survived_us: alive.then_some(gap_us),
            end_cause: if dead { EndCause::Unanswered } else { EndCause::LocalFin },
            end_during: Some(if dead { EndDuring::Reuse } else { EndDuring::Dialogue }),
            end_idle_us: dead.then_some(gap_us),
            end_unanswered_us: dead.then_some(20_000_000),
            ..connection(dst, None, 0, 1_000)
        }
    }

    fn section(all: &[Connection]) -> String {
        let mut fold = Fold::new(10);
        for connection in all {
            fold.add(connection);
        }
        let report = Report::new(&fold, GroupBy::Provider, context());
        // As it stands in the report, but without its line breaks.
        idle_sessions(&report.destinations, 11).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    const V4: &str = "192.0.2.1";
    const V6: &str = "2001:db8::1";

    #[test]
    fn short_gaps_of_a_provider_meet_no_timer() {
        let text = section(&[idled(V4, 2_000_000, true), idled(V6, 1_000_000, true)]);
        assert_eq!(
            text,
            "Idle sessions example.org longest gap 2.0 s, longest gap that survived 2.0 s (2 gaps); no \
             known middlebox timer is that short"
        );
    }

    #[test]
    fn a_family_of_its_own_is_told_apart() {
        let mut all: Vec<_> = (0..20).map(|n| idled(V4, MINUTE_US + n, true)).collect();
        all.extend((0..5).map(|n| idled(V4, 2 * MINUTE_US + n, false)));
        let known = section(&all);
        assert!(known.contains("dead from 120 s on") && !known.contains("cannot tell"), "{known}");
        assert!(known.contains("longest gap 120 s"), "the longest is always named: {known}");
        all.push(idled(V6, 3 * MINUTE_US, true));
        let text = section(&all);
        let said = "; over IPv6 longest gap 180 s: no known middlebox timer is that short";
        assert!(text.contains(said), "{text}");
        assert!(!text.contains("example.org cannot tell"), "{text}");
    }

    #[test]
    fn long_gaps_tell() {
        let text = section(&[idled(V4, 5 * MINUTE_US, true)]);
        assert_eq!(text, "Idle sessions example.org longest gap that survived 300 s (1 gap)");
    }
}
