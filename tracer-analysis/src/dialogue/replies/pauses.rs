//! Who waits for whom, and what that makes of a pause.

use super::{readings::TurnTimes, said::Said};
use crate::dialogue::{PAUSES, Rest, Standing};
use tracer_common::record::IDLE_NS;

/// A server that answers so late, in the words of a timeout, has waited for us. What it refuses by a limit
/// it refuses at once.
const ANSWER_NS: u64 = 1_000_000_000;

/// Moments kept; more refusals than that have none.
const MOMENTS: usize = 64;

/// When in the dialogue a refusal came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The reply was complete.
    pub(crate) complete_ns: u64,
    /// Its code.
    pub(crate) code: u16,
    /// It does not answer anything: the server had waited for us.
    pub(crate) waited: bool,
    /// It answers RCPT.
    pub(crate) to_recipient: bool,
}

/// The pauses of one dialogue as it goes on.
#[derive(Debug, Clone, Default)]
pub(super) struct Pauses {
    /// The server offers PIPELINING: a reply may be one of several that are due.
    pipelining: bool,
    /// The last reply asks for more (3yz), or promises another one.
    intermediate: bool,
    /// The server has spoken since the last write.
    answered: bool,
    /// Last data in either direction.
    last_ns: u64,
    before: Standing,
    unasked: Option<[u64; 2]>,
    /// Begins of turns before which somebody waited, in order.
    pub(super) waited_ns: Vec<u64>,
    /// When refusals came, in order.
    pub(super) moments: Vec<Moment>,
}

impl Pauses {
    /// Whether a reply may be one of several that are due.
    pub(super) fn pipelining(&self) -> bool {
        self.pipelining
    }

    /// The greeting was complete.
    pub(super) fn greeted(&mut self, complete_ns: u64) {
        self.last_ns = self.last_ns.max(complete_ns);
        self.answered = true;
    }

    /// The client writes, where the dialogue stood like this.
    pub(super) fn turn(&mut self, times: TurnTimes, standing: Standing) {
        self.before = self.really(standing);
        let paused = times.start_ns.saturating_sub(self.last_ns) >= IDLE_NS;
        if paused && self.before.is_waiting() && self.waited_ns.len() < PAUSES {
            self.waited_ns.push(times.start_ns);
        }
        (self.answered, self.unasked) = (false, None);
        self.last_ns = self.last_ns.max(times.sent_ns);
    }

    /// The server replies, where the dialogue stood like this.
    pub(super) fn reply(&mut self, said: &Said, standing: Standing, to_recipient: bool) {
        let standing = self.really(standing);
        let pause_ns = said.begin_ns.saturating_sub(self.last_ns);
        // Nothing but a farewell comes unasked (RFC 5321 section 4.2.3): any other reply is a late answer.
        let farewell = said.code >= 400 || said.code == 221;
        let unasked = farewell && self.answered && pause_ns >= IDLE_NS;
        let waited = match standing {
            Standing::Settled | Standing::Unclear => unasked,
            Standing::Open => unasked && said.times_out,
            Standing::Owing => farewell && said.times_out && pause_ns >= ANSWER_NS,
        };
        if waited && standing != Standing::Owing {
            self.unasked = Some([self.last_ns, said.begin_ns]);
        }
        if said.code >= 400 && self.moments.len() < MOMENTS {
            let (complete_ns, code) = (said.complete_ns, said.code);
            self.moments.push(Moment { complete_ns, code, waited, to_recipient });
        }
        self.pipelining |= said.offers_pipelining;
        self.intermediate = said.code / 100 == 3;
        self.answered = true;
        self.last_ns = self.last_ns.max(said.complete_ns);
    }

    /// What the pause at the end is, where the dialogue stands like this. `unfinished_ns`: when the first byte of
    /// a reply came whose end did not.
    pub(super) fn rest(&self, standing: Standing, unfinished_ns: Option<u64>) -> Rest {
        let standing = self.really(standing);
        let mut rest =
            Rest { before: self.before, now: standing, unasked: self.unasked, read: true };
        if let Some(begin_ns) = unfinished_ns {
            let idle = self.answered && begin_ns.saturating_sub(self.last_ns) >= IDLE_NS;
            if idle && standing == Standing::Settled {
                rest.unasked = Some([self.last_ns, begin_ns]);
            } else {
                rest.now = Standing::Owing;
            }
        }
        rest
    }

    /// Whatever the bytes say: who asked for more has not answered.
    fn really(&self, standing: Standing) -> Standing {
        if self.intermediate { Standing::Owing } else { standing }
    }
}
