//! Replies that may turn the client away for a while: throttling and its kin.

use serde::{Deserialize, Serialize};

use super::EndDuring;
use crate::{
    dialogue::replies::Moment,
    smtp::{EnhancedCode, Reason, Reply},
};

/// A reply that may mean "not now": a greeting that is not positive; a 421 or 432; a temporary refusal with an
/// enhanced code x.7.x, x.3.2 or x.4.5; a refusal whose words tell why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Refusal {
    /// Reply code.
    pub code: u16,
    /// Enhanced status code, if the reply begins with one.
    pub enhanced: Option<EnhancedCode>,
    /// When it was complete, in microseconds since the start of the connection.
    pub at_us: u64,
    /// `greeting`: in place of it; `dialogue`: an answer; `idle`: not an answer, the server had waited for us.
    pub during: EndDuring,
    /// Why, by its code, its moment and its words. `None` in records of versions that did not note it.
    #[serde(default)]
    pub reason: Option<Reason>,
}

impl Refusal {
    /// Most that a record holds.
    pub const KEPT: usize = 8;

    /// Whether a reply stands in the record: a greeting that is not positive, a 421 or 432 at any
    /// time, a temporary refusal for reasons of policy (x.7.x), of the mail system (x.3.2) or of
    /// congestion (x.4.5), or one that says why. Which of them is throttling is for the reader to judge.
    fn is_noted(reply: &Reply, greeting: bool) -> bool {
        let coded = reply.enhanced().is_some_and(|it| {
            it.subject == 7 || matches!((it.subject, it.detail), (3, 2) | (4, 5))
        });
        let worded = || reply.reason().is_some_and(|it| it != Reason::Other);
        match reply.code {
            421 | 432 => true,
            400..=499 => greeting || coded || worded(),
            500..=599 => greeting || worded(),
            _ => false,
        }
    }

    /// Whether it is throttling: the server has had enough of us for now, whatever the message.
    ///
    /// Any refusal in place of the greeting is. Later, one is that speaks of a rate or of connections at a time,
    /// with whatever code and at whatever command. What a session has had enough of (messages, age), greylisting
    /// and content are not. If it says nothing of these, a 421 is unless the server had waited for us, a 432
    /// is, and so is a temporary refusal with one of the codes that large providers use for it (4.3.2, 4.4.5,
    /// 4.7.500 to 4.7.699). Others, 4.7.1 above all, are greylisting more often than not.
    pub fn is_throttling(&self) -> bool {
        if self.during == EndDuring::Greeting {
            return true;
        }
        let detail = self.enhanced.map(|it| (it.subject, it.detail));
        match (self.reason, self.code, detail) {
            (Some(Reason::Rate | Reason::Concurrency), ..) => true,
            (Some(Reason::Messages | Reason::Age | Reason::Content | Reason::Greylisting), ..) => {
                false
            }
            _ if self.during == EndDuring::Idle => false,
            (None, 421, Some((4, 1 | 2))) => false,
            (_, 421 | 432, _) | (_, 400..=499, Some((3, 2) | (4, 5) | (7, 500..=699))) => true,
            _ => false,
        }
    }

    /// Whether it says that the session has carried enough messages.
    pub fn is_message_limit(&self) -> bool {
        self.reason == Some(Reason::Messages)
    }
}

/// A reply that is noted, before it is known when in the dialogue it came.
#[derive(Debug, Clone, Copy)]
struct Noted {
    complete_ns: u64,
    code: u16,
    enhanced: Option<EnhancedCode>,
    greeting: bool,
    reason: Option<Reason>,
    timeout: bool,
}

impl Noted {
    fn refusal(&self, start_ns: u64, moment: Option<&Moment>) -> Refusal {
        let waited = moment.map_or(self.timeout, |it| it.waited);
        let during = match (self.greeting, waited) {
            (true, _) => EndDuring::Greeting,
            (false, true) => EndDuring::Idle,
            (false, false) => EndDuring::Dialogue,
        };
        let detail = self.enhanced.map(|it| (it.subject, it.detail));
        let to_recipient = moment.is_some_and(|it| it.to_recipient);
        let reason = match (self.reason, self.code, detail) {
            (Some(reason), ..) => reason,
            // postscreen(8) has no words of its own for a client that it has not met before.
            (None, 450, Some((3, 2))) if to_recipient => Reason::Greylisting,
            // Microsoft: too many connections; limited for now. Google: an unusual rate.
            (None, _, Some((7, 652))) => Reason::Concurrency,
            (None, 400..=499, Some((7, 28 | 500..=699))) => Reason::Rate,
            _ => Reason::Other,
        };
        Refusal {
            code: self.code,
            enhanced: self.enhanced,
            at_us: self.complete_ns.saturating_sub(start_ns) / 1_000,
            during,
            reason: Some(reason),
        }
    }
}

/// The refusals of one connection as they come in, with `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusals(Vec<Noted>);

impl Refusals {
    /// Takes the next reply.
    pub(super) fn reply(&mut self, reply: &Reply, complete_ns: u64, greeting: bool) {
        if !Refusal::is_noted(reply, greeting) {
            return;
        }
        if self.0.len() >= Refusal::KEPT {
            // The last word of a server says more than its eighth.
            if reply.code != 421 {
                return;
            }
            self.0.truncate(Refusal::KEPT - 1);
        }
        self.0.push(Noted {
            complete_ns,
            code: reply.code,
            enhanced: reply.enhanced(),
            greeting,
            reason: reply.reason(),
            timeout: reply.is_timeout(),
        });
    }

    /// All of them, their times counted from `start_ns`. `moments`: when in the dialogue refusals came, in
    /// order, as far as that is known.
    pub(super) fn since(&self, start_ns: u64, moments: &[Moment]) -> Vec<Refusal> {
        let mut moments = moments.iter();
        let mut refusals = Vec::with_capacity(self.0.len());
        for noted in &self.0 {
            let mut rest = moments.clone();
            let is_it = |it: &&Moment| (it.complete_ns, it.code) == (noted.complete_ns, noted.code);
            let moment = rest.find(is_it);
            if moment.is_some() {
                moments = rest;
            }
            refusals.push(noted.refusal(start_ns, moment));
        }
        refusals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::{ReplyParser, Step};

    fn noted(text: &str) -> Vec<Refusal> {
        at(text, &[])
    }

    fn at(text: &str, moments: &[Moment]) -> Vec<Refusal> {
        let (mut parser, mut refusals) = (ReplyParser::new(), Refusals::default());
        let mut greeting = true;
        for (time_us, byte) in (1..).zip(text.bytes()) {
            if let Some(Step::Reply(reply)) = parser.feed(byte) {
                refusals.reply(&reply, time_us * 1_000, greeting);
                greeting = false;
            }
        }
        refusals.since(1_000, moments)
    }

    /// The refusal in `reply`, which follows a greeting.
    fn later(reply: &str, waited: bool, to_recipient: bool) -> Option<Refusal> {
        let text = format!("220 mx\r\n{reply}\r\n");
        let complete_ns = text.len() as u64 * 1_000;
        let code = reply[..3].parse().unwrap();
        at(&text, &[Moment { complete_ns, code, waited, to_recipient }]).first().copied()
    }

    #[test]
    fn greeting_that_refuses() {
        let [refusal] = noted("421 4.7.0 mx Error: too many connections\r\n")[..] else { panic!() };
        assert_eq!((refusal.code, refusal.during), (421, EndDuring::Greeting));
        assert_eq!(refusal.enhanced.map(|it| it.to_string()).as_deref(), Some("4.7.0"));
        assert_eq!((refusal.at_us, refusal.reason), (41, Some(Reason::Concurrency)));
        assert!(refusal.is_throttling());
        assert_eq!(noted("220 mx ESMTP\r\n250 ok\r\n"), []);
        assert!(noted("554 no SMTP service here\r\n")[0].is_throttling());
    }

    #[test]
    fn later_ones() {
        let throttling = |reply: &str| -> Option<bool> {
            noted(&format!("220 mx\r\n{reply}\r\n")).first().map(Refusal::is_throttling)
        };
        assert_eq!(
            throttling("451 4.7.652 exceeded the maximum number of connections"),
            Some(true)
        );
        assert_eq!(throttling("432 4.3.2 concurrent connection limit exceeded"), Some(true));
        assert_eq!(throttling("421 Service not available"), Some(true));
        assert_eq!(throttling("421 4.4.2 mx Error: timeout exceeded"), Some(false));
        assert_eq!(throttling("450 4.7.1 Greylisted"), Some(false));
        assert_eq!(throttling("450 4.2.1 mailbox busy"), None);
        assert_eq!(throttling("550 5.7.1 no"), None);
        assert_eq!(throttling("451 5.7.500 a class that is not that of the reply"), None);
    }

    #[test]
    fn moment_makes_a_timeout_or_a_limit_of_the_same_words() {
        for text in ["421 4.4.2 mx closing", "421 mx closing transmission channel"] {
            let timeout = later(text, true, false).unwrap();
            assert_eq!((timeout.during, timeout.is_throttling()), (EndDuring::Idle, false));
            let limit = later(text, false, false).unwrap();
            assert_eq!((limit.during, limit.is_throttling()), (EndDuring::Dialogue, true));
            assert_eq!(limit.reason, Some(Reason::Other));
        }
        // Words of a limit are one whenever they come.
        assert!(later("421 4.7.0 too many connections", true, false).unwrap().is_throttling());
    }

    #[test]
    fn limits_with_other_codes() {
        for text in [
            "450 4.7.1 Error: too much mail from 192.0.2.1",
            "451 4.7.1 please try again slower",
            "452 4.3.2 Connection rate limit exceeded",
            "550 Connection frequency limited",
        ] {
            let refusal = later(text, false, false).unwrap();
            assert_eq!((refusal.reason, refusal.is_throttling()), (Some(Reason::Rate), true));
        }
        let enough = later("452 4.2.1 maximum messages per session", false, false).unwrap();
        assert_eq!((enough.is_message_limit(), enough.is_throttling()), (true, false));
        let aged = later("421 maximum session lifetime reached", true, false).unwrap();
        assert_eq!((aged.reason, aged.is_throttling()), (Some(Reason::Age), false));
    }

    #[test]
    fn first_visit_to_postscreen_is_greylisting() {
        let text = "450 4.3.2 Service currently unavailable";
        let visit = later(text, false, true).unwrap();
        assert_eq!((visit.reason, visit.is_throttling()), (Some(Reason::Greylisting), false));
        let elsewhere = later(text, false, false).unwrap();
        assert_eq!((elsewhere.reason, elsewhere.is_throttling()), (Some(Reason::Other), true));
    }

    #[test]
    fn endless_refusals_take_bounded_memory() {
        let all = noted(&format!("{}421 4.7.0 no\r\n", "450 4.7.1 no\r\n".repeat(1000)));
        assert_eq!(all.len(), Refusal::KEPT);
        assert_eq!(all.last().map(|it| it.code), Some(421), "the last word is kept");
        assert_eq!(noted(&"421 no\r\n".repeat(1000)).len(), Refusal::KEPT);
    }

    #[test]
    fn older_records_have_no_reason() {
        let old = r#"{"code":421,"enhanced":"4.4.2","at_us":7,"during":"dialogue"}"#;
        let old: Refusal = serde_json::from_str(old).unwrap();
        assert_eq!((old.reason, old.is_throttling()), (None, false));
    }
}
