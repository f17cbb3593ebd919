//! Whether the server turns us away, and whether by the number of connections or by their rate.

use super::{
    Code, Confidence, Severity, Subject, Verdict, settings,
    step::{Observation, Step, step},
};
use crate::destination::{Group, Moment, Reception};

/// Refusals below which nothing is said.
const FEWEST: u64 = 3;
/// Numbers that are tried as the cause: open, three ways to count a minute.
const TRIED: f64 = 4.0;
/// By how much more likely the better of two explanations has to be: 1 to 20, 1 to 100 (logarithms).
const BETTER: [(Confidence, f64, f64); 2] =
    [(Confidence::High, 4.605, 0.01), (Confidence::Medium, 2.996, 0.05)];

/// At most one verdict on a destination; none on the whole host, which no server counts.
pub(super) fn verdicts(subject: &Subject<'_>) -> Vec<Verdict> {
    let group = subject.group;
    if subject.is_total || group.all.throttling.refusals() < FEWEST {
        return Vec::new();
    }
    let moments = group.all.arrivals.moments();
    let by_open = explained_by(&moments, |it| Some(it.open));
    let only_connects = group.all.throttling.count(Reception::Refused) == 0;
    let by_rate = best_rate(&moments, !only_connects);
    match conclude(by_open, by_rate) {
        Conclusion::Open(step, confidence) => vec![open(group, step, confidence)],
        Conclusion::Rate(step, confidence) => vec![rate(group, step, confidence)],
        // Connects that fail without a word have many reasons.
        _ if only_connects => Vec::new(),
        Conclusion::Either(one, other) => vec![throttled(group, Some((one, other)))],
        Conclusion::Neither => vec![throttled(group, None)],
    }
}

fn explained_by(moments: &[Moment], number: impl Fn(&Moment) -> Option<u32>) -> Option<Step> {
    let observations: Option<Vec<Observation>> = moments
        .iter()
        .map(|it| {
            let (refused, follows) = (it.reception.is_refusal(), it.follows);
            Some(Observation { number: number(it)?, refused, follows })
        })
        .collect();
    step(&observations?)
}

/// The best of the ways in which servers count a minute. Whether attempts that were refused count as well
/// can only be asked where a reply refused them: after failures of the path there are more attempts.
fn best_rate(moments: &[Moment], with_refused: bool) -> Option<Step> {
    let ways = [
        explained_by(moments, |it| Some(it.accepted)),
        explained_by(moments, |it| Some(it.arrived)).filter(|_| with_refused),
        explained_by(moments, |it| it.in_window).filter(|_| with_refused),
    ];
    let value = |it: &Step| (it.is_sharp() && it.chance < 0.05, it.gain);
    ways.into_iter().flatten().max_by(|a, b| {
        let ((a_good, a_gain), (b_good, b_gain)) = (value(a), value(b));
        a_good.cmp(&b_good).then(a_gain.total_cmp(&b_gain))
    })
}

#[derive(Debug)]
enum Conclusion {
    Open(Step, Confidence),
    Rate(Step, Confidence),
    Either(Step, Step),
    Neither,
}

fn conclude(open: Option<Step>, rate: Option<Step>) -> Conclusion {
    let gain = |it: &Option<Step>| it.map_or(0.0, |it| it.gain);
    let lead = gain(&open) - gain(&rate);
    let sure = |it: Option<Step>, lead: f64| {
        let it = it.filter(|it| it.is_sharp() && it.below.all >= 5 && it.from.refused >= 5)?;
        let level = BETTER
            .iter()
            .find(|(_, better, chance)| lead >= *better && it.chance * TRIED <= *chance)?;
        Some((it, level.0))
    };
    if let Some((step, confidence)) = sure(open, lead) {
        return Conclusion::Open(step, confidence);
    }
    if let Some((step, confidence)) = sure(rate, -lead) {
        return Conclusion::Rate(step, confidence);
    }
    match (open, rate) {
        (Some(open), Some(rate)) if open.is_sharp() && rate.is_sharp() => {
            Conclusion::Either(open, rate)
        }
        _ => Conclusion::Neither,
    }
}

fn open(group: &Group, step: Step, confidence: Confidence) -> Verdict {
    let limit = step.limit;
    let summary = format!(
        "{} allows {limit} connections at a time: of {} that came when {limit} or more were open, it \
         refused {}; of {} others, {}.",
        whose(group),
        step.from.all,
        step.from.refused,
        step.below.all,
        step.below.refused,
    );
    let code = Code::ConcurrencyLimited;
    let verdict = Verdict::new(code, Severity::Warning, confidence, &group.key, summary)
        .because("limit", u64::from(limit));
    let verdict = with_evidence(verdict, group, Some(step));
    advised(verdict, group, |group, verdict| {
        let otherwise = format!("Open at most {limit} connections to it at a time.");
        settings::advise(verdict, group, &otherwise, |mta| settings::fewer_at_a_time(mta, limit))
    })
}

fn rate(group: &Group, step: Step, confidence: Confidence) -> Verdict {
    let limit = step.limit;
    let summary = format!(
        "{} allows {limit} new connections per minute: of {} that came when there had been {limit} or \
         more, it refused {}; of {} others, {}.",
        whose(group),
        step.from.all,
        step.from.refused,
        step.below.all,
        step.below.refused,
    );
    let verdict =
        Verdict::new(Code::RateLimited, Severity::Warning, confidence, &group.key, summary)
            .because("limit_per_minute", u64::from(limit));
    let verdict = with_evidence(verdict, group, Some(step));
    advised(verdict, group, |group, verdict| {
        let otherwise = format!("Open at most {limit} connections to it per minute.");
        settings::advise(verdict, group, &otherwise, |mta| settings::fewer_per_minute(mta, limit))
    })
}

/// It throttles, but by what rule cannot be told; with the limits that would explain it equally well.
fn throttled(group: &Group, candidates: Option<(Step, Step)>) -> Verdict {
    let throttling = &group.all.throttling;
    let (refused, all) = (throttling.count(Reception::Refused), group.all.connections);
    let rule = match &candidates {
        _ if throttling.count(Reception::Accepted) == 0 => {
            "It accepted none, so this is no limit that was reached: a block, or it is down."
                .to_owned()
        }
        Some((open, rate)) => format!(
            "Cannot tell the rule: {} connections at a time or {} new ones per minute explain it about \
             equally well.",
            open.limit, rate.limit
        ),
        None => {
            "Cannot tell the rule: neither the number of open connections nor that of new ones per \
                 minute explains when."
                .to_owned()
        }
    };
    let summary = format!(
        "{} turned away {refused} of {all} connections ({}). {rule}",
        whose(group),
        replies(group)
    );
    let blocked = refused * 10 >= all * 9;
    let severity = if blocked { Severity::Critical } else { Severity::Warning };
    let verdict = Verdict::new(Code::Throttled, severity, Confidence::Low, &group.key, summary);
    let verdict = with_evidence(verdict, group, None)
        .because("limit", candidates.map(|(open, _)| u64::from(open.limit)))
        .because("limit_per_minute", candidates.map(|(_, rate)| u64::from(rate.limit)));
    advised(verdict, group, |_, verdict| {
        verdict.advise(
            None,
            if throttling.count(Reception::Accepted) == 0 {
                "Read the text of the replies in the mail log: it names the reason as a rule."
            } else {
                "To tell: a longer trace with busy and quiet times, --group-by provider if several \
                 addresses share a limit, and the text of the replies in the mail log."
            },
        )
    })
}

/// Who refuses: the peer, or this host.
fn whose(group: &Group) -> &'static str {
    if is_ourselves(group) { "This host's own server" } else { "The server" }
}

fn is_ourselves(group: &Group) -> bool {
    group.all.throttling.to_ourselves * 2 > group.all.connections
}

/// What to set: on our side of the wire, or, if the server is our own, there.
fn advised(
    verdict: Verdict,
    group: &Group,
    advice: impl FnOnce(&Group, Verdict) -> Verdict,
) -> Verdict {
    if !is_ourselves(group) {
        return advice(group, verdict);
    }
    verdict.advise(
        None,
        "The limit is set on this host. In Postfix: smtpd_client_connection_count_limit, \
         smtpd_client_connection_rate_limit, maxproc in master.cf; in a content filter: its number of \
         processes.",
    )
}

fn with_evidence(verdict: Verdict, group: &Group, step: Option<Step>) -> Verdict {
    let throttling = &group.all.throttling;
    let verdict = verdict
        .because("connections", group.all.connections)
        .because("accepted", throttling.count(Reception::Accepted))
        .because("refused_by_reply", throttling.count(Reception::Refused))
        .because("refused_connects", throttling.count(Reception::ConnectRefused))
        .because("unanswered", throttling.count(Reception::Unanswered))
        .because("replies", replies(group).as_str())
        .because("side", if is_ourselves(group) { "own" } else { "peer" })
        .because("sample", group.all.arrivals.is_sample());
    let Some(step) = step else { return verdict };
    verdict
        .because("at_limit", step.from.all)
        .because("at_limit_refused", step.from.refused)
        .because("below_limit", step.below.all)
        .because("below_limit_refused", step.below.refused)
}

/// Replies by number, the most frequent first: `40 x 421 4.7.0, 2 x 450`.
fn replies(group: &Group) -> String {
    let mut replies: Vec<_> = group.all.throttling.replies.iter().collect();
    replies.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    let refused = group.all.throttling.count(Reception::Refused);
    let silent = refused.saturating_sub(group.all.throttling.replies.values().sum());
    let mut words: Vec<_> = replies
        .iter()
        .take(4)
        .map(|(reply, n)| format!("{n} x {}", if &***reply == "0" { "others" } else { reply }))
        .collect();
    words.extend((silent > 0).then(|| format!("{silent} without a word")));
    words.join(", ")
}
