//! What idling does to sessions: the path kills them, the server closes them, or nothing is known.

use super::{
    Code, Confidence, Severity, Subject, Verdict,
    idle_advice::close_earlier,
    idle_doubt::IdleDoubt,
    idle_path::{LimitedPath, Seconds, evidence_s, limited_paths, plural},
    session_age::AgeLimit,
    timers,
};
use crate::destination::{Distribution, IdleGaps, Killer, Manner};

/// Timers of more different lengths than this in a bracket point nowhere.
const HINTS: usize = 3;
/// Share of the dead above a limit that all destinations share. Where more survive, each has its own.
const SHARED: f64 = 0.9;
/// Shorter gaps before a FIN are pauses of a server that closes anyway.
const TIMEOUT_US: u64 = 1_000_000;

/// On each destination: its limits and the timeout of its server. On the host: the limit that all
/// destinations share, or that none is known.
pub(super) fn verdicts(subject: &Subject<'_>) -> Vec<Verdict> {
    let Some(gaps) = subject.group.all.idle.as_deref().filter(|gaps| gaps.count() > 0) else {
        return Vec::new();
    };
    let paths = limited_paths(subject.group);
    if !subject.is_total {
        let paths = paths.iter().filter(|path| is_worth_saying(path));
        let killed = paths.map(|path| killed(subject, path));
        return killed.chain(closed_by_server(subject, gaps)).collect();
    }
    let sure: Vec<_> = paths.iter().filter(|path| path.confidence() > Confidence::Low).collect();
    match subject.group.addresses {
        _ if sure.is_empty() => vec![unlimited(subject, gaps, IdleDoubt::on(gaps, &paths))],
        Some(1) => Vec::new(), // that of the destination says it
        _ => {
            let shared = sure.iter().filter(|path| path.limit.above.dead_share() >= SHARED);
            shared.map(|path| killed(subject, path)).collect()
        }
    }
}

/// One session that fell silent may have had any reason; one reset that did not come from the server has
/// one.
fn is_worth_saying(path: &LimitedPath<'_>) -> bool {
    let proven = path.killer() == Killer::Middlebox && path.manner() != Manner::Silent;
    path.confidence() > Confidence::Low || path.limit.above.dead > 1 || proven
}

/// Sessions die from a length of idle gap on.
fn killed(subject: &Subject<'_>, path: &LimitedPath<'_>) -> Verdict {
    let LimitedPath { limit, gaps, .. } = path;
    let (manner, killer, confidence) = (path.manner(), path.killer(), path.confidence());
    let (code, by) = match killer {
        Killer::Server => (Code::IdleClosedByServer, "; suspect: the server itself"),
        Killer::Middlebox => (Code::IdleKilledByMiddlebox, "; suspect: a box on the path"),
        Killer::Unknown => {
            (Code::IdleKilledByMiddlebox, "; a box on the path or the server, not known which")
        }
    };
    let severity = match confidence {
        Confidence::Low => Severity::Info,
        _ => Severity::Warning,
    };
    let alive = match limit.alive_us {
        Some(us) => {
            format!("alive after {} ({})", Seconds(us), plural(limit.below.alive, "gap", "gaps"))
        }
        None => "no idle gap survived".to_owned(),
    };
    let tried = limit.above.alive + limit.above.dead;
    let dead = format!("dead after {} ({} of {tried})", Seconds(limit.dead_us), limit.above.dead);
    let how = how(path);
    let hint = hint(limit.alive_us.unwrap_or(0), limit.dead_us);
    let over = path.over();
    let summary = format!("Idle sessions{over}: {alive}, {dead}: {how}{by}.{hint}");
    let known = timers::named(timers::between(limit.alive_us.unwrap_or(0), limit.dead_us));
    let share = |interval: Option<[f64; 2]>, end: usize| interval.map(|it| rounded(it[end]));
    let verdict = Verdict::new(code, severity, confidence, &subject.group.key, summary)
        .because("survived_s", limit.alive_us.map(evidence_s))
        .because("died_s", evidence_s(limit.dead_us))
        .because("limit_above_s", evidence_s(limit.interval_us[0]))
        .because("limit_at_most_s", evidence_s(limit.interval_us[1]))
        .because("survived", limit.below.alive)
        .because("died", limit.above.dead)
        .because("died_below", limit.below.dead)
        .because("survived_above", limit.above.alive)
        .because("dead_share_below_at_most", share(limit.below.dead_share_interval(), 1))
        .because("dead_share_above_at_least", share(limit.above.dead_share_interval(), 0))
        .because("chance", rounded(limit.chance))
        .because("manner", manner.as_str())
        .because("died_silent", path.died(Manner::Silent))
        .because("died_reset_on_reuse", path.died(Manner::ResetOnReuse))
        .because("died_reset_while_idle", path.died(Manner::ResetWhileIdle))
        .because("suspect", killer.as_str())
        .because("longest_gap_s", gaps.longest_us().map(evidence_s))
        .because("keepalive_on", gaps.keepalive.on)
        .because("keepalive_off", gaps.keepalive.off)
        .because("died_in_use", gaps.dead_in_use)
        .because("known_timers", known.as_str());
    let verdict = match (killer, path.family) {
        (Killer::Server, _) => verdict.because("closed_s", evidence_s(limit.dead_us)),
        _ => verdict,
    };
    let verdict = match path.over().strip_prefix(" over ") {
        Some(family) => verdict.because("family", family),
        None => verdict,
    };
    let verdict = verdict.touching(limit.above.dead);
    match (confidence, IdleDoubt::on_path(path).needed()) {
        // A hint is no reason to change settings.
        (Confidence::Low, Some(needed)) => verdict.advise(None, format!("To be sure: {needed}.")),
        (Confidence::Low, None) => verdict,
        // What all destinations can bear is what the one that bears least can.
        _ => close_earlier(
            verdict,
            &subject.group.all,
            limit.alive_us.min(subject.strictest_us.or(limit.alive_us)),
        ),
    }
}

/// How sessions were found dead, with the numbers if in several ways.
fn how(path: &LimitedPath<'_>) -> String {
    let all = [
        (Manner::ResetOnReuse, "a reset answers the next command", "reset on the next command"),
        (Manner::ResetWhileIdle, "a reset comes while they idle", "reset while idle"),
        (Manner::Silent, "no answer any more", "silent"),
    ];
    let seen = all.map(|(manner, alone, among)| (path.died(manner), alone, among));
    let mut seen: Vec<_> = seen.into_iter().filter(|(died, ..)| *died > 0).collect();
    if let [(_, alone, _)] = seen[..] {
        return alone.to_owned();
    }
    seen.sort_by_key(|(died, ..)| std::cmp::Reverse(*died));
    let each = seen.iter().map(|(died, _, among)| format!("{died} {among}"));
    each.collect::<Vec<_>>().join(", ")
}

/// Known timers in a bracket, if they are few.
fn hint(alive_us: u64, dead_us: u64) -> String {
    let mut lengths: Vec<_> =
        timers::between(alive_us, dead_us).map(|timer| timer.seconds).collect();
    lengths.dedup();
    match lengths.len() {
        0 => String::new(),
        1..=HINTS => {
            format!(
                " Known timers in between: {}.",
                timers::named(timers::between(alive_us, dead_us))
            )
        }
        many => format!(" {many} known timers are in between."),
    }
}

/// Whether the server itself ends idle sessions: one FIN without a word is no timer.
pub(super) fn closes_idle_sessions(gaps: &IdleGaps) -> bool {
    let closed = &gaps.closed_by_server;
    let several = closed.count() > 1 || gaps.closed_with_421 > 0;
    several && closed.quantile(0.5).is_some_and(|median| median >= TIMEOUT_US)
}

/// The server ends idle sessions with a FIN.
fn closed_by_server(subject: &Subject<'_>, gaps: &IdleGaps) -> Option<Verdict> {
    let closed = &gaps.closed_by_server;
    let (count, farewells) = (closed.count(), gaps.closed_with_421);
    let (shortest, median, longest) = (closed.min()?, closed.quantile(0.5)?, closed.max()?);
    if !closes_idle_sessions(gaps) || AgeLimit::of(subject.group).is_some() {
        return None;
    }
    // A timer always takes the same time; a server that shuts down does not.
    let steady = longest - shortest <= shortest / 5 + TIMEOUT_US;
    let confidence = match (steady, count) {
        (true, 3..) => Confidence::High,
        (true, _) => Confidence::Medium,
        (false, _) => Confidence::Low,
    };
    let after = if steady {
        format!("about {}", Seconds(median))
    } else {
        format!("{} to {}, mostly {}", Seconds(shortest), Seconds(longest), Seconds(median))
    };
    let said = match farewells {
        0 => String::new(),
        n => format!(", {n} with a 421"),
    };
    let times = plural(count, "session", "sessions");
    let who = if gaps.closed_by_box * 2 > count {
        "The server, or a box in its place,"
    } else {
        "The server"
    };
    let summary = format!("{who} closes sessions that idle for {after} ({times}{said}).");
    let key = &subject.group.key;
    let verdict = Verdict::new(Code::IdleClosedByServer, Severity::Info, confidence, key, summary)
        .because("closed_s", evidence_s(median))
        .because("shortest_s", evidence_s(shortest))
        .because("longest_s", evidence_s(longest))
        .because("closed", count)
        .because("with_421", farewells)
        .because("survived", gaps.survived.count())
        .because("longest_survived_s", gaps.survived.max().map(evidence_s))
        .touching(count);
    Some(close_earlier(verdict, &subject.group.all, shortest.checked_sub(TIMEOUT_US)))
}

/// No limit is sure: the gaps were too short, or long enough to say that there is none, or too few died.
fn unlimited(subject: &Subject<'_>, gaps: &IdleGaps, doubt: Option<IdleDoubt>) -> Verdict {
    let alive = gaps.longest_alive_us();
    let (longest, shortest_timer) = (gaps.longest_us().unwrap_or(0), timers::SHORTEST_US);
    let sure = if doubt.is_some() { Confidence::Low } else { Confidence::High };
    let verdict = |code, severity, summary| {
        Verdict::new(code, severity, sure, &subject.group.key, summary)
            .because("longest_gap_s", evidence_s(longest))
            .because("longest_survived_s", alive.map(evidence_s))
            .because("gaps", gaps.count())
            .because("survived", gaps.survived.count())
            .because("untested", gaps.untested.count())
            .because("died", gaps.died(|_, _| true, 0))
            .because("shortest_known_timer_s", evidence_s(shortest_timer))
    };
    let Some(doubt) = doubt else {
        let us = alive.unwrap_or(0);
        let long = at_least(&gaps.survived, shortest_timer)
            + at_least(&gaps.closed_by_server, shortest_timer);
        let summary = format!(
            "Idle sessions survive: the longest gap after which one was alive is {} ({} of {} or more).",
            Seconds(us),
            plural(long, "gap", "gaps"),
            Seconds(shortest_timer),
        );
        let ruled_out = timers::named(timers::between(0, us));
        return verdict(Code::IdleSurvives, Severity::Ok, summary)
            .because("survived_s", evidence_s(us))
            .because("timers_outlived", ruled_out.as_str());
    };
    let advice = match doubt.needed() {
        Some(needed) => format!("Needed to tell: {needed}."),
        None => "Nothing has to be done.".to_owned(),
    };
    verdict(Code::IdleLimitUnknown, Severity::Info, untold(gaps, doubt))
        .because("needed", doubt.needed())
        .advise(None, advice)
}

/// Why it cannot be told, or need not be.
fn untold(gaps: &IdleGaps, doubt: IdleDoubt) -> String {
    let (longest, alive) = (gaps.longest_us().unwrap_or(0), gaps.longest_alive_us());
    let seen = plural(gaps.count(), "gap", "gaps");
    let but = match doubt {
        IdleDoubt::TooFewDied => "too few to be sure of a limit",
        IdleDoubt::NoPattern => "but others survived gaps as long",
        IdleDoubt::DieInUse => "but as many died in use",
        IdleDoubt::GapsTooShort => {
            return format!(
                "Sessions idle for at most {} here ({seen}); no known middlebox timer is that short.",
                Seconds(longest)
            );
        }
        IdleDoubt::ServerClosesFirst => {
            return format!(
                "Servers close sessions that idle, after {} at most ({seen}); no known middlebox \
                 timer is that short.",
                Seconds(longest)
            );
        }
        IdleDoubt::NotTested => {
            let tested = match alive {
                Some(us) if us < longest => {
                    format!(", of those put to the test {}", Seconds(us))
                }
                None => ", none put to the test".to_owned(),
                Some(_) => String::new(),
            };
            return format!(
                "Cannot tell: longest gap {} ({seen}){tested}; the shortest known timer is {}.",
                Seconds(longest),
                Seconds(timers::SHORTEST_US)
            );
        }
    };
    let died = plural(gaps.died(|_, _| true, 0), "session", "sessions");
    format!("Cannot tell: {died} died idle, {but}; longest gap {} ({seen}).", Seconds(longest))
}

/// How many are `us` or longer.
fn at_least(gaps: &Distribution, us: u64) -> u64 {
    gaps.spans().filter(|span| span.highest >= us).map(|span| span.count).sum()
}

/// To the millionth.
fn rounded(share: f64) -> f64 {
    (share * 1e6).round() / 1e6
}
