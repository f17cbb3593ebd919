//! Whether the server turns us away, and whether by the number of connections or by their rate.

use super::{
    Code, Confidence, Severity, Subject, Verdict,
    idle_path::over,
    message_limit, settings,
    step::{Observation, Step, step},
};
use crate::{
    connection::Family,
    destination::{Aggregate, Group, Moment, Reception, Throttling},
};

/// Refusals below which nothing is said.
const FEWEST: u64 = 3;
/// Numbers that are tried as the cause: open, three ways to count a minute.
const TRIED: f64 = 4.0;
/// The same where each family is tried as well as both together.
const TRIED_BY_FAMILY: f64 = 12.0;
/// By how much more likely the better of two explanations has to be: 1 to 20, 1 to 100 (logarithms).
const BETTER: [(Confidence, f64, f64); 2] =
    [(Confidence::High, 4.605, 0.01), (Confidence::Medium, 2.996, 0.05)];
/// Share of accepted connections that the server refused to go on with from which on it matters.
const OFTEN: f64 = 0.05;

/// One verdict on a destination, or one for each family that has a limit of its own; none on the whole
/// host, which no server counts.
pub(super) fn verdicts(subject: &Subject<'_>) -> Vec<Verdict> {
    let group = subject.group;
    let throttling = &group.all.throttling;
    let later = throttling.refused_later;
    if subject.is_total || throttling.refusals() + later < FEWEST {
        return Vec::new();
    }
    let refused = throttling.count(Reception::Refused);
    let all = concluded(&group.all, &group.all.arrivals.moments(), TRIED);
    let families = by_family(group);
    if differ(&all, &families) {
        return families.iter().filter_map(|party| limited(party, &party.conclusion)).collect();
    }
    let party = Party { group, of: &group.all, family: None, conclusion: all };
    let verdict = match &party.conclusion {
        Conclusion::Open(..) | Conclusion::Rate(..) => limited(&party, &party.conclusion),
        _ if refused < FEWEST && later >= FEWEST => {
            // A server that ends each connection after a number of messages says so there.
            let by_number = !message_limit::verdicts(subject).is_empty();
            (!by_number).then(|| refused_later(&party))
        }
        // Connects that fail without a word have many reasons.
        _ if refused == 0 => None,
        Conclusion::Either(one, other) => Some(throttled(&party, Some((*one, *other)))),
        Conclusion::Neither => Some(throttled(&party, None)),
    };
    verdict.into_iter().collect()
}

/// Whose connections a limit is about: all of a destination, or those over one family.
#[derive(Debug)]
struct Party<'a> {
    group: &'a Group,
    of: &'a Aggregate,
    family: Option<Family>,
    conclusion: Conclusion,
}

/// What each family shows by itself, if there are both.
fn by_family(group: &Group) -> Vec<Party<'_>> {
    let (Some(ipv4), Some(ipv6)) = (&group.ipv4, &group.ipv6) else { return Vec::new() };
    let families = [(Family::Ipv4, ipv4), (Family::Ipv6, ipv6)];
    let party = families.map(|(family, of)| {
        let moments = group.all.arrivals.moments_over(family);
        let conclusion = concluded(of, &moments, TRIED_BY_FAMILY);
        Party { group, of, family: Some(family), conclusion }
    });
    party.into()
}

/// Whether the limits of the families are not the same: no one number lies within what both allow, or
/// only by itself does one show a limit.
fn differ(all: &Conclusion, families: &[Party<'_>]) -> bool {
    let mut sure = families.iter().filter_map(|it| it.conclusion.limit());
    match (sure.next(), sure.next()) {
        (Some((kind, one)), Some((other_kind, other))) => {
            kind != other_kind || one.after.max(other.after) >= one.limit.min(other.limit)
        }
        (Some(_), None) => all.limit().is_none(),
        _ => false,
    }
}

fn concluded(of: &Aggregate, moments: &[Moment], tried: f64) -> Conclusion {
    let by_open = explained_by(moments, |it| Some(it.open));
    let by_rate = best_rate(moments, of.throttling.count(Reception::Refused) > 0);
    conclude(by_open, by_rate, tried)
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

impl Conclusion {
    /// The limit, if one is sure, and whether it is one of new connections per minute.
    const fn limit(&self) -> Option<(bool, Step)> {
        match self {
            Self::Open(step, _) => Some((false, *step)),
            Self::Rate(step, _) => Some((true, *step)),
            Self::Either(..) | Self::Neither => None,
        }
    }
}

fn conclude(open: Option<Step>, rate: Option<Step>, tried: f64) -> Conclusion {
    let gain = |it: &Option<Step>| it.map_or(0.0, |it| it.gain);
    let lead = gain(&open) - gain(&rate);
    let sure = |it: Option<Step>, lead: f64| {
        let it = it.filter(|it| it.is_sharp() && it.below.all >= 5 && it.from.refused >= 5)?;
        let level = BETTER
            .iter()
            .find(|(_, better, chance)| lead >= *better && it.chance * tried <= *chance)?;
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

/// A limit that is sure.
fn limited(party: &Party<'_>, conclusion: &Conclusion) -> Option<Verdict> {
    let (step, confidence, code, name) = match *conclusion {
        Conclusion::Open(step, sure) => (step, sure, Code::ConcurrencyLimited, "limit"),
        Conclusion::Rate(step, sure) => (step, sure, Code::RateLimited, "limit_per_minute"),
        Conclusion::Either(..) | Conclusion::Neither => return None,
    };
    let (limit, over) = (step.limit, party.over());
    let per_minute = code == Code::RateLimited;
    let (allows, when) = if per_minute {
        ("new connections per minute", format!("when there had been {limit} or more"))
    } else {
        ("connections at a time", format!("when {limit} or more were open"))
    };
    let summary = format!(
        "{} allows {limit} {allows}{over}: of {} that came {when}, it refused {}; of {} others, {}.{}",
        party.whose(),
        step.from.all,
        step.from.refused,
        step.below.all,
        step.below.refused,
        party.other_family(),
    );
    let key = &party.group.key;
    let severity = Severity::of_refusals(party.of.throttling.refusals(), party.of.connections);
    let verdict =
        Verdict::new(code, severity, confidence, key, summary).because(name, u64::from(limit));
    let verdict = with_evidence(verdict, party, Some(step));
    Some(advised(verdict, party, |verdict| {
        let how = if per_minute { "per minute" } else { "at a time" };
        let otherwise = format!("Open at most {limit} connections to it {how}{over}.");
        settings::advise(verdict, party.group, &otherwise, |mta| {
            if per_minute {
                settings::fewer_per_minute(mta, limit)
            } else {
                settings::fewer_at_a_time(mta, limit)
            }
        })
    }))
}

/// It throttles, but by what rule cannot be told; with the limits that would explain it equally well.
fn throttled(party: &Party<'_>, candidates: Option<(Step, Step)>) -> Verdict {
    let throttling = &party.of.throttling;
    let (refused, all) = (throttling.count(Reception::Refused), party.of.connections);
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
        "{} turned away {refused} of {all} connections{} ({}). {rule}",
        party.whose(),
        match throttling.refused_later {
            0 => String::new(),
            n => format!(", and {n} after it had accepted them"),
        },
        replies(throttling)
    );
    let severity = Severity::of_refusals(throttling.refusals(), all);
    let verdict =
        Verdict::new(Code::Throttled, severity, Confidence::Low, &party.group.key, summary);
    let verdict = with_evidence(verdict, party, None)
        .because("limit", candidates.map(|(open, _)| u64::from(open.limit)))
        .because("limit_per_minute", candidates.map(|(_, rate)| u64::from(rate.limit)));
    advised(verdict, party, |verdict| {
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

/// It accepts connections and has enough of them later, by a rule that connections cannot show.
fn refused_later(party: &Party<'_>) -> Verdict {
    let throttling = &party.of.throttling;
    let (later, accepted) = (throttling.refused_later, throttling.count(Reception::Accepted));
    let summary = format!(
        "{} accepted {accepted} connections and refused to go on with {later} of them later ({}). \
         Cannot tell the rule: it may count messages or recipients.",
        party.whose(),
        replies(throttling)
    );
    let often = later as f64 >= OFTEN * accepted as f64;
    let severity = if often { Severity::Warning } else { Severity::Info };
    let key = &party.group.key;
    let verdict = Verdict::new(Code::Throttled, severity, Confidence::Low, key, summary)
        .because("limit", None::<u64>)
        .because("limit_per_minute", None::<u64>);
    let advice = "Needed: the text of the replies in the mail log, which names the reason as a rule, and \
                  how many messages and recipients the server had taken in that hour.";
    advised(with_evidence(verdict, party, None), party, |verdict| verdict.advise(None, advice))
}

impl Party<'_> {
    /// Who refuses: the peer, or this host.
    fn whose(&self) -> &'static str {
        if self.is_ourselves() { "This host's own server" } else { "The server" }
    }

    fn is_ourselves(&self) -> bool {
        self.of.throttling.to_ourselves * 2 > self.of.connections
    }

    /// ` over IPv4`, if it is about one family.
    fn over(&self) -> &'static str {
        self.family.map_or("", over)
    }

    /// How the other family fares.
    fn other_family(&self) -> String {
        let (family, of) = match (self.family, &self.group.ipv4, &self.group.ipv6) {
            (Some(Family::Ipv4), _, Some(of)) => ("IPv6", of),
            (Some(Family::Ipv6), Some(of), _) => ("IPv4", of),
            _ => return String::new(),
        };
        format!(" Over {family} it refused {} of {}.", of.throttling.refusals(), of.connections)
    }
}

/// What to set: on our side of the wire, or, if the server is our own, there.
fn advised(
    verdict: Verdict,
    party: &Party<'_>,
    advice: impl FnOnce(Verdict) -> Verdict,
) -> Verdict {
    if !party.is_ourselves() {
        return advice(verdict);
    }
    verdict.advise(
        None,
        "The limit is set on this host. In Postfix: smtpd_client_connection_count_limit, \
         smtpd_client_connection_rate_limit, maxproc in master.cf; in a content filter: its number of \
         processes.",
    )
}

fn with_evidence(verdict: Verdict, party: &Party<'_>, step: Option<Step>) -> Verdict {
    let throttling = &party.of.throttling;
    let verdict = verdict
        .touching(throttling.refusals() + throttling.refused_later)
        .because("connections", party.of.connections)
        .because("accepted", throttling.count(Reception::Accepted))
        .because("refused_by_reply", throttling.count(Reception::Refused))
        .because("refused_connects", throttling.count(Reception::ConnectRefused))
        .because("unanswered", throttling.count(Reception::Unanswered))
        .because("refused_later", throttling.refused_later)
        .because("replies", replies(throttling).as_str())
        .because("side", if party.is_ourselves() { "own" } else { "peer" })
        .because("sample", party.group.all.arrivals.is_sample());
    let verdict = match party.family {
        Some(Family::Ipv4) => verdict.because("family", "IPv4"),
        Some(Family::Ipv6) => verdict.because("family", "IPv6"),
        None => verdict,
    };
    let Some(step) = step else { return verdict };
    verdict
        .because("at_limit", step.from.all)
        .because("at_limit_refused", step.from.refused)
        .because("below_limit", step.below.all)
        .because("below_limit_refused", step.below.refused)
}

/// Replies by number, the most frequent first: `40 x 421 4.7.0, 2 x 450`.
fn replies(throttling: &Throttling) -> String {
    let mut replies: Vec<_> = throttling.replies.iter().collect();
    replies.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    let told: u64 = throttling.replies.values().sum();
    let all = throttling.count(Reception::Refused) + throttling.refused_later;
    let silent = all.saturating_sub(told);
    let mut words: Vec<_> = replies
        .iter()
        .take(4)
        .map(|(reply, n)| format!("{n} x {}", if &***reply == "0" { "others" } else { reply }))
        .collect();
    words.extend((silent > 0).then(|| format!("{silent} without a word")));
    words.join(", ")
}
