//! What it takes until a message can be sent: the greeting, the TLS handshake, segments lost.

use super::{Code, Confidence, Severity, Subject, Verdict, settings};
use crate::{
    destination::{Distribution, Group},
    mta::Mta,
};

/// Connections below which nothing is said.
const FEWEST: u64 = 5;
/// A greeting or handshake is slow from this median on, in microseconds.
const SLOW_US: u64 = 1_000_000;
/// Lost segments are worth a word from this share on.
const LOSSY: f64 = 0.02;

/// At most one verdict of each kind on a destination.
pub(super) fn verdicts(subject: &Subject<'_>) -> Vec<Verdict> {
    let group = subject.group;
    if subject.is_total {
        return Vec::new();
    }
    [greeting(group), tls(group), path(group)].into_iter().flatten().collect()
}

fn seconds(us: u64) -> f64 {
    (us as f64 / 1e5).round() / 10.0
}

/// Medians of one measure and of the connect, if the measure is slow and the path is not the reason.
fn slow(of: &Distribution, group: &Group) -> Option<(u64, u64)> {
    let (median, connect) = (of.quantile(0.5)?, group.all.connect_us.quantile(0.5).unwrap_or(0));
    (of.count() >= FEWEST && median >= SLOW_US && median >= connect * 5)
        .then_some((median, connect))
}

fn greeting(group: &Group) -> Option<Verdict> {
    let of = &group.all.greeting_us;
    let (median, connect) = slow(of, group)?;
    let (fast, late) = (of.quantile(0.1)?, of.quantile(0.9)?);
    let teaser = group.all.banner_us.quantile(0.5).is_some_and(|banner| banner * 4 < median);
    // A timer is the same every time; a queue is not.
    let timer = late - fast <= median / 5;
    let why = match (teaser, timer) {
        (true, _) => {
            "It sends a first line at once and the rest later: a deliberate test of patience \
                      (postscreen and its like)."
        }
        (false, true) => {
            "The delay is the same every time: a deliberate wait, or a timeout of the \
                          server's own, a DNS lookup for instance."
        }
        (false, false) => {
            "The delay varies: an overloaded server, or one that is made to wait itself."
        }
    };
    let total = seconds(median.saturating_mul(of.count()));
    let summary = format!(
        "The greeting takes {} s, connecting {} ms. {why} It cost about {total} s in {} connections.",
        seconds(median),
        connect / 1_000,
        of.count(),
    );
    let severity = if median >= 10 * SLOW_US { Severity::Warning } else { Severity::Info };
    let confidence = if of.count() >= 20 { Confidence::High } else { Confidence::Medium };
    let verdict = Verdict::new(Code::GreetingSlow, severity, confidence, &group.key, summary)
        .because("greeting_s", seconds(median))
        .because("greeting_p10_s", seconds(fast))
        .because("greeting_p90_s", seconds(late))
        .because("first_byte_s", group.all.banner_us.quantile(0.5).map(seconds))
        .because("connect_s", seconds(connect))
        .because("deliberate", teaser.then_some(true).or(timer.then_some(true)))
        .because("connections", of.count())
        .because("cost_seconds", total);
    let verdict = verdict.advise(
        None,
        "Nothing is wrong on this side, and the timeout must stay above it. Each connection pays it \
         once: the more messages share one, the less it costs.",
    );
    Some(shared(verdict, group, settings::wait_for_greeting))
}

fn tls(group: &Group) -> Option<Verdict> {
    let of = &group.all.tls_handshake_us;
    let (median, connect) = slow(of, group)?;
    let total = seconds(median.saturating_mul(of.count()));
    let summary = format!(
        "The TLS handshake takes {} s, connecting {} ms: one or the other end computes or waits. It cost \
         about {total} s in {} connections.",
        seconds(median),
        connect / 1_000,
        of.count(),
    );
    let verdict =
        Verdict::new(Code::TlsSlow, Severity::Info, Confidence::Medium, &group.key, summary)
            .because("tls_handshake_s", seconds(median))
            .because("connect_s", seconds(connect))
            .because("connections", of.count())
            .because("cost_seconds", total);
    let verdict = verdict.advise(
        None,
        "If other destinations are fast, it is the server. Sessions that carry several messages pay it \
         once.",
    );
    Some(shared(verdict, group, settings::handshake))
}

/// Adds, for each mail server that is known, its own setting and how its messages share connections.
fn shared(verdict: Verdict, group: &Group, own: fn(Mta) -> &'static str) -> Verdict {
    if group.all.mtas.is_empty() {
        return verdict; // what holds for any is said
    }
    let encrypted = group.all.tls_handshake_us.count() * 2 > group.all.messages.carrying;
    settings::advise(verdict, group, "", |mta| {
        format!("{}. To share connections: {}", own(mta), settings::use_again(mta, encrypted))
    })
}

fn path(group: &Group) -> Option<Verdict> {
    let cost = &group.all.cost;
    let share = cost.resent as f64 / cost.segments.max(1) as f64;
    if cost.healthy < FEWEST || cost.resent < 20 || cost.lossy * 5 < cost.healthy || share < LOSSY {
        return None;
    }
    let summary = format!(
        "{} of about {} segments had to be sent again ({:.0} %), in {} of {} connections that ended well.",
        cost.resent,
        cost.segments,
        share * 100.0,
        cost.lossy,
        cost.healthy,
    );
    let code = Code::PathLossy;
    let verdict = Verdict::new(code, Severity::Warning, Confidence::Medium, &group.key, summary)
        .touching(cost.lossy)
        .because("resent", cost.resent)
        .because("segments_about", cost.segments)
        .because("lossy_connections", cost.lossy)
        .because("connections", cost.healthy);
    Some(verdict.advise(
        None,
        "If it is so for many destinations, the loss is near: interface errors, a full uplink, an MTU \
         that is not announced (ip -s link; tracepath HOST).",
    ))
}
