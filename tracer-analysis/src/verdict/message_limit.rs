//! Whether the server closes connections after a number of messages, or says that these are enough, or closes at an age.

use super::{
    Code, Confidence, Severity, Subject, Verdict,
    idle_path::{Seconds, evidence_s},
    session_age::AgeLimit,
    settings,
};
use crate::destination::{Ends, Group};

/// Closes by the server that are needed.
const FEWEST: u64 = 5;

/// Replies that name the limit, from which on chance is no explanation.
const FEWEST_TOLD: u64 = 2;

/// At most one verdict on a destination: it limits the messages of a session, or its age.
///
/// A server that says that a session has carried enough messages needs no other proof, and may leave the close
/// to us. Of one that does not say so, the closes must come at one number, nine of ten of them. In both cases
/// no connection may have carried more. A close after QUIT is not the server's; under TLS a QUIT cannot be seen, so the limit may be our
/// own, and one message proves nothing. Where one age explains them as well, a close into a quiet session
/// speaks for the age: a server that counts messages closes with the last one, or at the next command.
pub(super) fn verdicts(subject: &Subject<'_>) -> Vec<Verdict> {
    if subject.is_total {
        return Vec::new();
    }
    let verdict = match (AgeLimit::of(subject.group), Number::of(subject.group)) {
        (Some(age), None) => age.verdict(subject, None),
        (Some(age), Some(number)) if age.unprompted && number.told == 0 => {
            age.verdict(subject, Some(number.limit))
        }
        (age, Some(number)) => number.verdict(subject, age),
        (None, None) => return Vec::new(),
    };
    vec![verdict]
}

/// The number of messages after which a server closes.
struct Number {
    limit: u32,
    closed: u64,
    closed_before: u64,
    /// Replies that say so.
    told: u64,
    confidence: Confidence,
    quit_seen: bool,
}

impl Number {
    fn of(group: &Group) -> Option<Self> {
        if group.all.throttling.ends_omitted > 0 {
            return None;
        }
        let ends = || group.all.throttling.ends.iter().filter(|(messages, _)| **messages > 0);
        let (&limit, &at) = ends().next_back()?;
        let seen = spike(limit, at.by_server, ends().map(|(_, ends)| ends.by_server).sum());
        let either = |ends: &Ends| ends.by_server + ends.by_server_or_quit;
        let all = ends().map(|(_, ends)| either(ends)).sum::<u64>();
        let all_told: u64 = ends().map(|(_, ends)| ends.told).sum();
        let says_so = at.told > 0 && at.told * 10 >= all_told * 9;
        let told = says_so.then_some(if at.told >= FEWEST_TOLD {
            Confidence::High
        } else {
            Confidence::Medium
        });
        let (closed, confidence, quit_seen) = match (told.or(seen), spike(limit, either(&at), all))
        {
            (Some(confidence), _) => (at.by_server, confidence, true),
            (None, Some(_)) if limit > 1 => (either(&at), Confidence::Low, false),
            _ => return None,
        };
        let closed_before = all - either(&at);
        let told = if says_so { at.told } else { 0 };
        Some(Self { limit, closed, closed_before, told, confidence, quit_seen })
    }

    /// The verdict; `age`: what explains the closes as well.
    fn verdict(&self, subject: &Subject<'_>, age: Option<AgeLimit>) -> Verdict {
        let Self { limit, closed, quit_seen, .. } = *self;
        // What it says itself needs no other explanation.
        let age = age.filter(|_| self.told == 0);
        let doubt = match (quit_seen, age) {
            _ if self.told > 0 => " It says so in its replies.".to_owned(),
            (false, _) => {
                " Under TLS it cannot be seen whether we said QUIT: it may be a limit of your own mail \
                 server."
                    .to_owned()
            }
            (true, Some(age)) => format!(
                " All were about {} old by then: a limit of age explains it as well.",
                Seconds(age.age_us)
            ),
            (true, None) => String::new(),
        };
        let confidence =
            if age.is_some() { self.confidence.min(Confidence::Medium) } else { self.confidence };
        let summary = format!(
            "The server closes after {limit} message{}: {closed} connections ended there, none carried \
             more.{doubt}",
            if limit == 1 { "" } else { "s" },
        );
        let (code, group) = (Code::MessageLimit, subject.group);
        let verdict = Verdict::new(code, Severity::Info, confidence, &group.key, summary)
            .touching(closed.max(self.told))
            .because("limit", u64::from(limit))
            .because("closed_at_limit", closed)
            .because("closed_before", self.closed_before)
            .because("told_in_a_reply", self.told)
            .because("quit_can_be_seen", quit_seen)
            .because("age_s", age.map(|age| evidence_s(age.age_us)));
        if limit == 1 {
            verdict
                .advise(None, "No cache helps there: it ends each session after its first message.")
        } else if !quit_seen {
            verdict.advise(
                None,
                "Compare it with the limit of messages per connection that you have set.",
            )
        } else {
            let otherwise =
                format!("Close after {limit} messages yourself, before the server does.");
            settings::advise(verdict, group, &otherwise, |mta| settings::fewer_messages(mta, limit))
        }
    }
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
