//! How long EHLO, STARTTLS and AUTH took.

use super::said::Said;

/// Durations in nanoseconds; `None` if it did not happen, or cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Phases {
    /// EHLO (or HELO) that was accepted, from its write to the end of the reply.
    pub(crate) ehlo_ns: Option<u64>,
    /// The command that was answered last, with 220: STARTTLS, if TLS followed.
    pub(crate) starttls_ns: Option<u64>,
    /// The last AUTH, from its command to the end of the reply that decided it.
    pub(crate) auth_ns: Option<u64>,
    /// A 250 has come: the answer to EHLO.
    known: bool,
    /// Write of the AUTH that is under way.
    auth_begin_ns: Option<u64>,
}

impl Phases {
    /// Takes the next reply after the greeting, in a turn that began at `turn_ns`; `None` if it was not seen (data
    /// in the SYN). `greeted_ns`: the greeting was complete.
    pub(super) fn reply(&mut self, said: &Said, turn_ns: Option<u64>, greeted_ns: u64) {
        let took = |begin_ns: u64| said.complete_ns.saturating_sub(begin_ns);
        // A second 220 (XCLIENT) is not to STARTTLS: other commands follow it.
        self.starttls_ns = None;
        match said.code {
            // A client that did not wait for the greeting (Exim's PIPECONNECT) waits for both.
            250 if !self.known => {
                self.known = true;
                self.ehlo_ns = turn_ns.filter(|turn_ns| *turn_ns >= greeted_ns).map(took);
            }
            220 => self.starttls_ns = turn_ns.map(took),
            // RFC 4954: 334 asks for more; 235 accepts; 535, 534, 538 and 432 refuse.
            334 => self.auth_begin_ns = self.auth_begin_ns.or(turn_ns),
            235 | 432 | 534 | 535 | 538 => {
                self.auth_ns = self.auth_begin_ns.take().or(turn_ns).map(took);
            }
            400.. => {
                if let Some(begin_ns) = self.auth_begin_ns.take() {
                    self.auth_ns = Some(took(begin_ns));
                }
            }
            _ => {}
        }
    }
}
