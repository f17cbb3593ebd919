//! Replies that may turn the client away for a while: throttling and its kin.

use serde::{Deserialize, Serialize};

use super::EndDuring;
use crate::smtp::{EnhancedCode, Reply};

/// A reply that may mean "not now": a greeting that is not positive, a 421 or 432, or a temporary refusal
/// with an enhanced code x.7.x, x.3.2 or x.4.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Refusal {
    /// Reply code.
    pub code: u16,
    /// Enhanced status code, if the reply begins with one.
    pub enhanced: Option<EnhancedCode>,
    /// When it was complete, in microseconds since the start of the connection.
    pub at_us: u64,
    /// `greeting`: in place of it; `dialogue`: later.
    pub during: EndDuring,
}

impl Refusal {
    /// Most that a record holds.
    pub const KEPT: usize = 8;

    /// Whether a reply stands in the record: a greeting that is not positive, a 421 or 432 at any
    /// time, or a temporary refusal for reasons of policy (x.7.x), of the mail system (x.3.2) or of
    /// congestion (x.4.5). Which of them is throttling is for the reader to judge.
    pub(super) fn is_noted(code: u16, enhanced: Option<EnhancedCode>, greeting: bool) -> bool {
        let reason = enhanced.is_some_and(|it| {
            it.subject == 7 || matches!((it.subject, it.detail), (3, 2) | (4, 5))
        });
        match code {
            421 | 432 => true,
            400..=499 => greeting || reason,
            500..=599 => greeting,
            _ => false,
        }
    }

    /// Whether it is throttling: the server has had enough of us for now, whatever the message.
    ///
    /// Any refusal in place of the greeting is. Later, a 421 is unless it says that we were silent for
    /// too long (4.4.1, 4.4.2), a 432 is, and so is a temporary refusal with one of the codes that large
    /// providers use for it (4.3.2, 4.4.5, 4.7.500 to 4.7.699). Others, 4.7.1 above all, are
    /// greylisting more often than not.
    pub fn is_throttling(&self) -> bool {
        let detail = self.enhanced.map(|it| (it.subject, it.detail));
        match (self.code, detail) {
            (421, Some((4, 1 | 2))) => false,
            (421 | 432, _) => true,
            _ if self.during == EndDuring::Greeting => true,
            (400..=499, Some((3, 2) | (4, 5) | (7, 500..=699))) => true,
            _ => false,
        }
    }
}

/// The refusals of one connection as they come in, with `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusals(Vec<(u64, Refusal)>);

impl Refusals {
    /// Takes the next reply.
    pub(super) fn reply(&mut self, reply: &Reply, time_ns: u64, greeting: bool) {
        let enhanced = reply.enhanced();
        if self.0.len() < Refusal::KEPT && Refusal::is_noted(reply.code, enhanced, greeting) {
            let during = if greeting { EndDuring::Greeting } else { EndDuring::Dialogue };
            self.0.push((time_ns, Refusal { code: reply.code, enhanced, at_us: 0, during }));
        }
    }

    /// All of them, their times counted from `start_ns`.
    pub(super) fn since(&self, start_ns: u64) -> Vec<Refusal> {
        let since = |ns: u64| ns.saturating_sub(start_ns) / 1_000;
        self.0.iter().map(|(ns, refusal)| Refusal { at_us: since(*ns), ..*refusal }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::{ReplyParser, Step};

    fn noted(text: &str) -> Vec<Refusal> {
        let (mut parser, mut refusals) = (ReplyParser::new(), Refusals::default());
        let mut greeting = true;
        for (time_us, byte) in (1..).zip(text.bytes()) {
            if let Some(Step::Reply(reply)) = parser.feed(byte) {
                refusals.reply(&reply, time_us * 1_000, greeting);
                greeting = false;
            }
        }
        refusals.since(1_000)
    }

    #[test]
    fn greeting_that_refuses() {
        let [refusal] = noted("421 4.7.0 mx Error: too many connections\r\n")[..] else { panic!() };
        assert_eq!((refusal.code, refusal.during), (421, EndDuring::Greeting));
        assert_eq!(refusal.enhanced.map(|it| it.to_string()).as_deref(), Some("4.7.0"));
        assert_eq!(refusal.at_us, 41);
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
    fn endless_refusals_take_bounded_memory() {
        assert_eq!(noted(&"421 no\r\n".repeat(1000)).len(), Refusal::KEPT);
    }
}
