//! Whether the server closes connections after a number of messages, or says that these are enough.

use super::{Code, Confidence, Severity, Subject, Verdict, settings};
use crate::destination::Ends;

/// Closes by the server that are needed.
const FEWEST: u64 = 5;

/// Replies that name the limit, from which on chance is no explanation.
const FEWEST_TOLD: u64 = 2;

/// At most one verdict on a destination.
///
/// A server that says that a session has carried enough messages needs no other proof, and may leave the close
/// to us. Of one that does not say so, the closes must come at one number, nine of ten of them. In both cases
/// no connection may have carried more. A close after QUIT is not the server's; under TLS a QUIT cannot be seen, so the limit may be our
/// own, and one message proves nothing.
pub(super) fn verdicts(subject: &Subject<'_>) -> Vec<Verdict> {
    let group = subject.group;
    if subject.is_total || group.all.throttling.ends_omitted > 0 {
        return Vec::new();
    }
    let ends = || group.all.throttling.ends.iter().filter(|(messages, _)| **messages > 0);
    let Some((&limit, &at)) = ends().next_back() else { return Vec::new() };
    let seen = spike(limit, at.by_server, ends().map(|(_, ends)| ends.by_server).sum());
    let either = |ends: &Ends| ends.by_server + ends.by_server_or_quit;
    let unclear = spike(limit, either(&at), ends().map(|(_, ends)| either(ends)).sum());
    let all_told: u64 = ends().map(|(_, ends)| ends.told).sum();
    let told = (at.told > 0 && at.told * 10 >= all_told * 9).then_some(if at.told >= FEWEST_TOLD {
        Confidence::High
    } else {
        Confidence::Medium
    });
    let (closed, confidence, quit_seen) = match (told.or(seen), unclear) {
        (Some(confidence), _) => (at.by_server, confidence, true),
        (None, Some(_)) if limit > 1 => (either(&at), Confidence::Low, false),
        _ => return Vec::new(),
    };
    let doubt = if told.is_some() {
        " It says so in its replies."
    } else if quit_seen {
        ""
    } else {
        " Under TLS it cannot be seen whether we said QUIT: it may be a limit of your own mail server."
    };
    let summary = format!(
        "The server closes after {limit} message{}: {closed} connections ended there, none carried \
         more.{doubt}",
        if limit == 1 { "" } else { "s" },
    );
    let verdict = Verdict::new(Code::MessageLimit, Severity::Info, confidence, &group.key, summary)
        .because("limit", u64::from(limit))
        .because("closed_at_limit", closed)
        .because("closed_before", ends().map(|(_, ends)| either(ends)).sum::<u64>() - either(&at))
        .because("told_in_a_reply", at.told)
        .because("quit_can_be_seen", quit_seen);
    let verdict = if limit == 1 {
        verdict.advise(None, "No cache helps there: it ends each session after its first message.")
    } else if !quit_seen {
        verdict
            .advise(None, "Compare it with the limit of messages per connection that you have set.")
    } else {
        let otherwise = format!("Close after {limit} messages yourself, before the server does.");
        settings::advise(verdict, group, &otherwise, |mta| settings::fewer_messages(mta, limit))
    };
    vec![verdict]
}

/// Whether `at` of `all` closes at `limit` are no chance: if the server closed after any message with the
/// same probability, that many closes at just this number would be rarer than the confidence says.
fn spike(limit: u32, at: u64, all: u64) -> Option<Confidence> {
    if at < FEWEST || at * 10 < all * 9 {
        return None;
    }
    // The share of closes at `limit` messages is highest for the probability 1 / limit.
    let others = f64::from(limit - 1) / f64::from(limit);
    let share = others.powf(f64::from(limit - 1)) / f64::from(limit);
    let exponent = i32::try_from(at).unwrap_or(i32::MAX);
    if limit == 1 || share.powi(exponent) <= 0.01 {
        // After one message only the number speaks: half of all servers that close at random would
        // have let one pass.
        let enough = limit > 1 || 0.5_f64.powi(exponent) <= 0.01;
        return Some(if enough { Confidence::High } else { Confidence::Medium });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spikes() {
        assert_eq!(spike(20, 5, 5), Some(Confidence::High));
        assert_eq!(spike(20, 4, 4), None, "too few");
        assert_eq!(spike(20, 10, 20), None, "half of them elsewhere");
        assert_eq!(spike(1, 5, 5), Some(Confidence::Medium));
        assert_eq!(spike(1, 9, 9), Some(Confidence::High));
    }
}
