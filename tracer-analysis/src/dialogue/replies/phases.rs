//! How long EHLO, STARTTLS and AUTH took.

use super::said::Said;

/// Durations in nanoseconds; `None` if it did not happen, or cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Phases {
    /// EHLO (or HELO) that was accepted, from its write to the end of the reply.
    pub(crate) ehlo_ns: Option<u64>,
    /// The last command that was answered with 220: STARTTLS, if TLS followed.
    pub(crate) starttls_ns: Option<u64>,
    /// The last AUTH, from its command to the end of the reply that decided it.
    pub(crate) auth_ns: Option<u64>,
    /// A 250 has come: the answer to EHLO.
    known: bool,
    /// Write of the AUTH that is under way.
    auth_begin_ns: Option<u64>,
}

impl Phases {
    /// Takes the next reply after the greeting, in a turn that began at `turn_ns`. `greeted_ns`: the
    /// greeting was complete.
    pub(super) fn reply(&mut self, said: &Said, turn_ns: u64, greeted_ns: u64) {
        let took = |begin_ns: u64| Some(said.complete_ns.saturating_sub(begin_ns));
        match said.code {
            // A client that did not wait for the greeting (Exim's PIPECONNECT) waits for both.
            250 if !self.known => {
                self.known = true;
                self.ehlo_ns = took(turn_ns).filter(|_| turn_ns >= greeted_ns);
            }
            220 => self.starttls_ns = took(turn_ns),
            // RFC 4954: 334 asks for more; 235 accepts; 535, 534, 538 and 432 refuse.
            334 => _ = self.auth_begin_ns.get_or_insert(turn_ns),
            235 | 432 | 534 | 535 | 538 => {
                self.auth_ns = took(self.auth_begin_ns.take().unwrap_or(turn_ns));
            }
            400.. => {
                if let Some(begin_ns) = self.auth_begin_ns.take() {
                    self.auth_ns = took(begin_ns);
                }
            }
            _ => {}
        }
    }
}
