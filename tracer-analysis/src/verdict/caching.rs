//! Whether connections are used for several messages where they could be.

use super::{Code, Confidence, Severity, Subject, Verdict, settings};
use crate::destination::{Aggregate, Arrivals, Group, Reception};

/// Messages below which nothing is said about caching.
const FEWEST_MESSAGES: u64 = 10;
/// Connections of one kind below which nothing is said about them.
const FEWEST: u64 = 5;
/// Share of messages without a new connection from which on caching is called effective, and below which
/// it is called ineffective, if the messages could have shared connections.
const EFFECTIVE: f64 = 0.5;
const INEFFECTIVE: f64 = 0.1;

/// What can be said about the use of connections.
pub(super) fn verdicts(subject: &Subject<'_>) -> Vec<Verdict> {
    reuse(subject).into_iter().chain(unused(subject)).collect()
}

/// At most one of: it works, it is ineffective, reuse was missed. Where messages could be counted but not
/// when connections stood idle, "cannot tell" is said of bad ratios only.
fn reuse(subject: &Subject<'_>) -> Option<Verdict> {
    let group = subject.group;
    let (messages, ratio) = (&group.all.messages, group.all.messages.reuse_ratio()?);
    if messages.transactions < FEWEST_MESSAGES {
        return None;
    }
    if subject.is_total {
        // What is missed is said where it is missed; of a single destination all is said there.
        let several = group.addresses != Some(1);
        return (several && ratio >= EFFECTIVE).then(|| works(group, ratio));
    }
    let missed = group.all.arrivals.missed_reuse();
    let judged = missed.judged + missed.unknown;
    let many = missed.missed >= FEWEST && missed.missed * 10 >= judged;
    if many && ratio < INEFFECTIVE && missed.missed * 2 >= missed.judged {
        return Some(ineffective(group, ratio));
    }
    if many {
        return Some(reuse_missed(group));
    }
    if ratio >= EFFECTIVE {
        return Some(works(group, ratio));
    }
    let unknown = missed.unknown * 2 > judged && messages.carrying >= FEWEST_MESSAGES;
    (unknown && ratio < INEFFECTIVE).then(|| cannot_tell(group, ratio))
}

fn works(group: &Group, ratio: f64) -> Verdict {
    let messages = &group.all.messages;
    let summary = format!(
        "{} messages took {} connections: {:.0} % needed no new one.",
        messages.transactions,
        messages.carrying,
        ratio * 100.0,
    );
    let verdict =
        Verdict::new(Code::CachingWorks, Severity::Ok, counted(group), &group.key, summary);
    with_counts(verdict, group)
}

fn ineffective(group: &Group, ratio: f64) -> Verdict {
    let (messages, missed) = (&group.all.messages, group.all.arrivals.missed_reuse());
    let saved = saved_seconds(&group.all);
    let summary = format!(
        "{} messages took {} connections ({:.0} % needed no new one). {} of the {} looked at could have \
         been saved: another was idle, or we had closed one at most {} s before{}.",
        messages.transactions,
        messages.carrying,
        ratio * 100.0,
        missed.missed,
        missed.judged,
        Arrivals::KEEPABLE_S,
        in_words(saved),
    );
    let code = Code::CachingIneffective;
    // It does no harm: mail that is refused because there are too many connections has a verdict of its own.
    let verdict = Verdict::new(code, Severity::Info, counted(group), &group.key, summary);
    use_again(with_missed(with_counts(verdict, group), group), group)
}

fn reuse_missed(group: &Group) -> Verdict {
    let missed = group.all.arrivals.missed_reuse();
    let saved = saved_seconds(&group.all);
    let summary = format!(
        "{} of {} connections could have been saved: another was idle, or we had closed one at most \
         {} s before{}.",
        missed.missed,
        missed.judged,
        Arrivals::KEEPABLE_S,
        in_words(saved),
    );
    let verdict =
        Verdict::new(Code::ReuseMissed, Severity::Info, counted(group), &group.key, summary);
    use_again(with_missed(with_counts(verdict, group), group), group)
}

fn cannot_tell(group: &Group, ratio: f64) -> Verdict {
    let messages = &group.all.messages;
    let missed = group.all.arrivals.missed_reuse();
    let summary = format!(
        "{} messages took {} connections ({:.0} % needed no new one). Cannot tell whether they could \
         have shared some: of {} it is not known when they stood idle.",
        messages.transactions,
        messages.carrying,
        ratio * 100.0,
        missed.unknown,
    );
    let code = Code::CachingIneffective;
    let verdict = Verdict::new(code, Severity::Info, Confidence::Low, &group.key, summary);
    with_missed(with_counts(verdict, group), group)
}

fn use_again(verdict: Verdict, group: &Group) -> Verdict {
    let encrypted = group.all.tls_handshake_us.count() * 2 > group.all.messages.carrying;
    let otherwise = "Keep connections open for some seconds after a message, and use them again.";
    settings::advise(verdict, group, otherwise, |mta| settings::use_again(mta, encrypted))
}

/// How sure a statement on messages is: by the share of connections whose messages are known.
fn counted(group: &Group) -> Confidence {
    let messages = &group.all.messages;
    let accepted = group.all.throttling.count(Reception::Accepted).max(messages.counted);
    match (messages.counted * 10).checked_div(accepted) {
        Some(9..) => Confidence::High,
        Some(5..) => Confidence::Medium,
        _ => Confidence::Low,
    }
}

fn with_counts(verdict: Verdict, group: &Group) -> Verdict {
    let messages = &group.all.messages;
    verdict
        .because("reuse_ratio", messages.reuse_ratio().map(|ratio| (ratio * 1e6).round() / 1e6))
        .because("messages", messages.transactions)
        .because("carrying_connections", messages.carrying)
        .because("counted_connections", messages.counted)
        .because("exact_connections", messages.exact)
}

fn with_missed(verdict: Verdict, group: &Group) -> Verdict {
    let missed = group.all.arrivals.missed_reuse();
    verdict
        .because("missed", missed.missed)
        .because("judged_connections", missed.judged)
        .because("unknown_connections", missed.unknown)
        .because("saved_seconds", saved_seconds(&group.all))
        .because("sample", group.all.arrivals.is_sample())
        .touching(missed.missed)
}

/// What the connections that were missed took to set up, in seconds: the median connect, greeting and TLS
/// handshake there, times their number. `None` if the first two are not known.
fn saved_seconds(all: &Aggregate) -> Option<f64> {
    let median = |of: &crate::destination::Distribution| of.quantile(0.5);
    let greeting = median(&all.greeting_us).or_else(|| median(&all.banner_us));
    let setup = median(&all.connect_us)? + greeting? + median(&all.tls_handshake_us).unwrap_or(0);
    let missed = all.arrivals.missed_reuse().missed;
    Some((missed as f64 * setup as f64 / 1e3).round() / 1e3)
}

fn in_words(saved_seconds: Option<f64>) -> String {
    match saved_seconds {
        Some(seconds) if seconds >= 10.0 => format!("; opening them took about {seconds:.0} s"),
        Some(seconds) if seconds >= 0.05 => format!("; opening them took about {seconds:.1} s"),
        Some(_) => "; opening them took less than 0.1 s".to_owned(),
        None => String::new(),
    }
}

/// Connections that were greeted and carried nothing; those that were turned away are not among them.
fn unused(subject: &Subject<'_>) -> Option<Verdict> {
    let group = subject.group;
    let messages = &group.all.messages;
    let refused = group.all.throttling.count(Reception::Refused);
    let unused = messages.unused.saturating_sub(refused);
    let counted = messages.counted.saturating_sub(refused);
    if subject.is_total || unused < FEWEST || unused * 10 < counted {
        return None;
    }
    let summary = format!(
        "{unused} of {counted} connections carried no message: every sender or recipient was refused, \
         or nothing was sent."
    );
    let (code, sure) = (Code::ConnectionsUnused, self::counted(group));
    // Unknown recipients and address probes are ordinary traffic.
    let verdict = Verdict::new(code, Severity::Info, sure, &group.key, summary)
        .touching(unused)
        .because("unused", unused)
        .because("counted_connections", counted)
        .because("refused", refused);
    let verdict = verdict.advise(
        None,
        "Look for the replies to MAIL and RCPT in the mail log: greylisting and unknown recipients end \
         like this; so do address probes.",
    );
    if group.all.mtas.is_empty() {
        return Some(verdict);
    }
    Some(settings::advise(verdict, group, "", |mta| settings::without_message(mta).to_owned()))
}
