//! Keepalive that is on, but probes after the session is dead.

use super::{
    Code, Confidence, Severity, Subject, Verdict,
    idle_advice::probe_earlier,
    idle_path::{LimitedPath, Seconds, evidence_s, limited_paths, over},
};
use crate::{
    connection::Family,
    destination::{Aggregate, Keepalive},
};

/// One verdict for each limit of a destination that keepalive comes too late for.
pub(super) fn verdicts(subject: &Subject<'_>) -> Vec<Verdict> {
    if subject.is_total {
        return Vec::new();
    }
    let paths = limited_paths(subject.group);
    let sure = paths.iter().filter(|path| path.confidence() > Confidence::Low);
    sure.filter_map(|path| too_slow(subject, path)).collect()
}

fn too_slow(subject: &Subject<'_>, path: &LimitedPath<'_>) -> Option<Verdict> {
    let [_, latest_s] = path.gaps.keepalive.first_probe_s?;
    if u64::from(latest_s) * 1_000_000 < path.limit.dead_us {
        return None;
    }
    let families = [(Family::Ipv4, &subject.group.ipv4), (Family::Ipv6, &subject.group.ipv6)];
    let others = families.iter().filter(|(family, _)| path.family.is_none_or(|of| of == *family));
    let off: Vec<_> = others
        .filter(|(_, of)| keepalive(of.as_ref()).is_some_and(|it| it.on == 0 && it.off > 0))
        .map(|(family, _)| format!(" It is off{}.", over(*family)))
        .collect();
    let off = off.concat();
    let summary = format!(
        "Keepalive is on{}, but its first probe comes after {latest_s} s; idle sessions are dead \
         after {}.{off}",
        path.over(),
        Seconds(path.limit.dead_us)
    );
    let (key, confidence) = (&subject.group.key, path.confidence());
    let mut verdict =
        Verdict::new(Code::KeepaliveTooSlow, Severity::Info, confidence, key, summary)
            .touching(path.limit.above.dead)
            .because("keepalive_idle_s", u64::from(latest_s))
            .because("died_s", evidence_s(path.limit.dead_us))
            .because("survived_s", path.limit.alive_us.map(evidence_s))
            .because("died", path.limit.above.dead);
    for (family, of) in families {
        if let Some(of) = keepalive(of.as_ref()) {
            let name = if family == Family::Ipv4 { "ipv4" } else { "ipv6" };
            verdict = verdict
                .because(&format!("{name}_on"), of.on)
                .because(&format!("{name}_off"), of.off);
        }
    }
    Some(probe_earlier(verdict, &path.gaps.keepalive, path.limit.alive_us))
}

fn keepalive(of: Option<&Aggregate>) -> Option<Keepalive> {
    of?.idle.as_deref().map(|gaps| gaps.keepalive)
}
