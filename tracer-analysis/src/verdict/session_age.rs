//! Whether the server closes sessions at an age, whatever they carried.

use super::{
    Code, Confidence, Severity, Subject, Verdict,
    idle_path::{Seconds, evidence_s},
    settings,
};
use crate::destination::{Distribution, Group};

/// Closes by the server that are needed.
const FEWEST: u64 = 5;
/// A close this long after the last data, in microseconds, does not answer it: no path is that long.
const QUIET_US: u64 = 500_000;
/// Shorter gaps than this before a close are no timeout of an idle session.
const TIMEOUT_US: u64 = 1_000_000;

/// The age at which a server closes sessions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct AgeLimit {
    /// The age, in microseconds.
    pub(super) age_us: u64,
    /// Closes at that age.
    pub(super) closed: u64,
    /// All closes by the server.
    pub(super) all: u64,
    /// Whether most closes came into a quiet session, and so answered neither a message nor a command.
    pub(super) unprompted: bool,
    /// How sure it is that chance does not explain it.
    pub(super) confidence: Confidence,
}

impl AgeLimit {
    /// Of a destination: nine in ten of the server's closes come at one age, few sessions were older, and
    /// neither chance nor a timeout of idle sessions explains that.
    pub(super) fn of(group: &Group) -> Option<Self> {
        let ages = &group.all.ages;
        let (all, age_us) = (ages.closed_us.count(), ages.closed_us.quantile(0.5)?);
        let [from, to] = around(age_us);
        let closed = within(&ages.closed_us, [from, to]);
        let outlived = ages.others_us.count() - within(&ages.others_us, [0, to]);
        if closed < FEWEST || closed * 10 < all * 9 || outlived * 10 > closed {
            return None;
        }
        if explained_by_idling(group) {
            return None;
        }
        let chance = at_random(from, to).powf(closed as f64);
        let confidence = match chance {
            ..=0.01 => Confidence::High,
            ..=0.05 => Confidence::Medium,
            _ => return None,
        };
        let unprompted = ages.quiet_us.quantile(0.5)? >= QUIET_US;
        Some(Self { age_us, closed, all, unprompted, confidence })
    }

    /// The verdict; `messages`: if all these sessions had carried as many, how many.
    pub(super) fn verdict(&self, subject: &Subject<'_>, messages: Option<u32>) -> Verdict {
        let Self { age_us, closed, all, .. } = *self;
        let ages = &subject.group.all.ages;
        let (carried, confidence) = match messages {
            Some(n) => (
                format!(
                    ". All had carried {n} messages by then, but the closes came {} after the last \
                     data: a limit of messages closes at once",
                    Seconds(ages.quiet_us.quantile(0.5).unwrap_or(0))
                ),
                self.confidence.min(Confidence::Medium),
            ),
            None => (", whatever they had carried".to_owned(), self.confidence),
        };
        let summary = format!(
            "The server closes sessions at an age of {}: {closed} of {all} that it closed{carried}.",
            Seconds(age_us)
        );
        let (code, key) = (Code::SessionAgeLimit, &subject.group.key);
        let verdict = Verdict::new(code, Severity::Info, confidence, key, summary)
            .touching(closed)
            .because("age_s", evidence_s(age_us))
            .because("youngest_s", ages.closed_us.min().map(evidence_s))
            .because("oldest_s", ages.closed_us.max().map(evidence_s))
            .because("closed_at_age", closed)
            .because("closed", all)
            .because("oldest_other_s", ages.others_us.max().map(evidence_s))
            .because("messages_of_each", messages.map(u64::from));
        let seconds = age_us / 1_000_000;
        let otherwise = match seconds {
            0 => "Use each session for a few messages at once, and close it.".to_owned(),
            _ => format!("Close sessions yourself before they are {seconds} s old."),
        };
        settings::advise(verdict, subject.group, &otherwise, |mta| {
            settings::younger_sessions(mta, seconds)
        })
    }
}

/// What counts as the same age: a server's timer may be checked once a second only.
fn around(age_us: u64) -> [u64; 2] {
    let slack_us = age_us / 50 + 500_000;
    [age_us.saturating_sub(slack_us), age_us + slack_us]
}

fn within(of: &Distribution, [from, to]: [u64; 2]) -> u64 {
    let inside = of.spans().filter(|span| span.highest >= from && span.lowest <= to);
    inside.map(|span| span.count).sum()
}

/// Whether a timeout of idle sessions may have closed them: the quiet time before is the same each time as
/// well, and no longer one survived.
fn explained_by_idling(group: &Group) -> bool {
    let quiet = &group.all.ages.quiet_us;
    let Some(median) = quiet.quantile(0.5).filter(|&us| us >= TIMEOUT_US) else { return false };
    let [from, to] = around(median);
    let survived = group.all.idle.as_deref().and_then(|gaps| gaps.survived.max());
    within(quiet, [from, to]) * 10 >= quiet.count() * 9 && survived < Some(from)
}

/// Highest probability that a server which closes at random, at any constant rate, closes between these
/// ages: of an exponential distribution with the rate ln(to / from) / (to - from).
fn at_random(from: u64, to: u64) -> f64 {
    if from == 0 {
        return 1.0;
    }
    let (a, b) = (from as f64, to as f64);
    let ratio = b / a;
    ratio.powf(-a / (b - a)) - ratio.powf(-b / (b - a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_of_an_age() {
        assert!((at_random(0, 5) - 1.0).abs() < 1e-9);
        // At rate ln 2: 1/2 - 1/4.
        assert!((at_random(1, 2) - 0.25).abs() < 1e-9);
        let of = |seconds: u64| {
            at_random(around(seconds * 1_000_000)[0], around(seconds * 1_000_000)[1])
        };
        assert!(of(1) > 0.3 && of(10) < 0.06 && of(300) < 0.02);
    }
}
