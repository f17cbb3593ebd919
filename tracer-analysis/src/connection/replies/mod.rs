//! What the server said in cleartext: greeting, reply codes, and where TLS begins.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use tracer_common::record::{ReplySegment, Turn, flag};

use super::{
    Tls,
    greeting_host::greeting_host,
    join::Join,
    refusals::{Refusal, Refusals},
};
use crate::{
    dialogue::{
        lengths::Server,
        replies::{Dialogue, Moment, Said, Told},
    },
    smtp::{Prelude, Reply, ReplyParser, Step},
};

/// Segments kept that arrived ahead of their turn, and their bytes.
const AHEAD: usize = 32;
const AHEAD_BYTES: usize = 8 << 10;

/// The greeting of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Greeting {
    /// Reply code.
    pub(super) code: u16,
    /// Host name, if one stands there: letters, digits, dots, hyphens and underscores, lower case.
    pub(super) host: Option<String>,
    /// When its last line was complete, `CLOCK_BOOTTIME`.
    pub(super) complete_ns: u64,
}

/// The cleartext part of the server's stream, put together from segments.
#[derive(Debug, Clone, Default)]
pub(super) struct Replies {
    prelude: Prelude,
    parser: ReplyParser,
    /// Where the next byte to read stands in the stream.
    next: u32,
    /// Segments that came ahead of their turn, by their place in the stream. They do on a path that
    /// reorders, and when two CPUs handed them over and the later buffer was read first.
    ahead: BTreeMap<u32, (u64, Vec<u8>)>,
    greeting: Option<Greeting>,
    last_code: Option<u16>,
    counts: BTreeMap<u16, u32>,
    refusals: Refusals,
    /// When in the dialogue refusals came; known at the end.
    moments: Vec<Moment>,
    dialogue: Dialogue,
    /// When the first byte of the reply under way arrived.
    begin_ns: u64,
    /// When the last byte that was read arrived.
    latest_ns: u64,
    server: Server,
    tls: Option<Tls>,
    tls_ns: Option<u64>,
    /// Some replies may be missing from `counts`.
    incomplete: bool,
    /// What came before is not known, so no reply is the greeting.
    skipped: bool,
    /// Bytes are missing after the first that was read: TLS may have begun there.
    has_gap: bool,
    join: Join,
}

impl Replies {
    /// Takes the next segment. Returns whether TLS has begun: nothing more is wanted then.
    pub(super) fn segment(&mut self, meta: &ReplySegment, payload: &[u8]) -> bool {
        if self.tls.is_some() {
            return true;
        }
        if meta.flags & u32::from(flag::MIDSTREAM) != 0 {
            match self.join(meta, payload) {
                Join::Found => {}
                other => return other == Join::Opaque,
            }
        }
        if meta.offset.wrapping_sub(self.next).cast_signed() > 0 {
            let bytes: usize = self.ahead.values().map(|(_, payload)| payload.len()).sum();
            if self.ahead.len() < AHEAD && bytes + payload.len() <= AHEAD_BYTES {
                self.ahead.insert(meta.offset, (meta.time_ns, payload.to_vec()));
            } else {
                self.incomplete = true;
            }
            return false;
        }
        self.in_order(meta.offset, payload, meta.time_ns);
        if (payload.len() as u64) < u64::from(meta.payload) {
            // Longer than what the kernel hands over: the rest is missing.
            self.skip_to(meta.offset.wrapping_add(meta.payload));
        }
        self.drain_ahead();
        self.tls.is_some()
    }

    /// Goes on looking for a reply in a stream that was not seen from its beginning.
    fn join(&mut self, meta: &ReplySegment, payload: &[u8]) -> Join {
        let before = self.join;
        self.join = before.next(payload);
        if let (Join::Sought(attempts), Join::Found) = (before, self.join) {
            // What was said before is not known, so no reply is the greeting.
            self.skipped = true;
            self.incomplete = attempts > 0 || meta.offset != 0;
            self.prelude = Prelude::over();
            self.next = meta.offset;
        }
        self.join
    }

    fn drain_ahead(&mut self) {
        let due = |ahead: &BTreeMap<u32, _>, next| {
            ahead.keys().copied().find(|offset: &u32| offset.wrapping_sub(next).cast_signed() <= 0)
        };
        while let Some(offset) = due(&self.ahead, self.next) {
            if let Some((time_ns, payload)) = self.ahead.remove(&offset) {
                self.in_order(offset, &payload, time_ns);
            }
        }
    }

    /// Reads the part of a segment that is new. What came ahead of its turn counts from when the bytes
    /// before it were there.
    fn in_order(&mut self, offset: u32, payload: &[u8], time_ns: u64) {
        let time_ns = time_ns.max(self.latest_ns);
        self.latest_ns = time_ns;
        let known = self.next.wrapping_sub(offset) as usize;
        let Some(new) = payload.get(known..).filter(|new| !new.is_empty()) else { return };
        #[expect(clippy::cast_possible_truncation, reason = "at most the bytes of one segment")]
        let len = new.len() as u32;
        self.next = self.next.wrapping_add(len);
        for byte in new {
            if self.prelude.takes(*byte) {
                continue;
            }
            if self.parser.is_between_replies() {
                self.begin_ns = time_ns;
            }
            match self.parser.feed(*byte) {
                None | Some(Step::NotAReply) => {}
                Some(Step::Reply(reply)) => self.reply(&reply, time_ns),
                Some(Step::Tls) => {
                    let first = self.greeting.is_none() && self.counts.is_empty() && !self.skipped;
                    self.tls = Some(if first { Tls::Implicit } else { Tls::Starttls });
                    self.tls_ns = Some(time_ns);
                    self.ahead.clear();
                    return;
                }
            }
        }
    }

    fn skip_to(&mut self, offset: u32) {
        if self.tls.is_none() {
            self.incomplete = true;
            self.skipped = true;
            self.has_gap = true;
            (self.prelude, self.parser) = (Prelude::over(), ReplyParser::new());
            self.next = offset;
        }
    }

    fn reply(&mut self, reply: &Reply, time_ns: u64) {
        *self.counts.entry(reply.code).or_insert(0) += 1;
        self.last_code = Some(reply.code);
        self.refusals.reply(reply, time_ns, self.greeting.is_none() && !self.skipped);
        self.server.reply(reply);
        if self.greeting.is_none() && !self.skipped {
            let host = greeting_host(reply);
            self.greeting = Some(Greeting { code: reply.code, host, complete_ns: time_ns });
            self.dialogue.greeted(reply, time_ns);
        } else if !self.skipped {
            self.dialogue.reply(Said::new(reply, self.begin_ns, time_ns));
        }
    }

    /// The connection has ended, after so many bytes of the server: what was not read by now never will be.
    pub(super) fn end(&mut self, bytes_received: u64) {
        #[expect(clippy::cast_possible_truncation, reason = "as the places in the stream")]
        let end = bytes_received as u32;
        self.incomplete |= self.tls.is_none() && end.wrapping_sub(self.next).cast_signed() > 0;
    }

    /// Takes the next turn. May come before or after the replies to it.
    pub(super) fn turn(&mut self, turn: &Turn) {
        if self.tls_ns.is_none_or(|tls_ns| turn.start_ns <= tls_ns) {
            self.dialogue.turn(turn);
        }
    }

    /// The greeting, once it is complete.
    pub(super) fn greeting(&self) -> Option<&Greeting> {
        self.greeting.as_ref()
    }

    /// Replies by code; `None` if some may be missing.
    pub(super) fn counts(&self) -> Option<&BTreeMap<u16, u32>> {
        let complete = !self.incomplete && self.ahead.is_empty();
        (complete && self.next > 0).then_some(&self.counts)
    }

    /// Replies that may turn us away, their times counted from `start_ns`. Complete once all is
    /// [told](Self::told).
    pub(super) fn refusals(&self, start_ns: u64) -> Vec<Refusal> {
        self.refusals.since(start_ns, &self.moments)
    }

    /// What the replies told, at the end of the connection; messages only if all replies were read.
    /// `turns_missing`: some turns never came. What was said is used up.
    pub(super) fn told(&mut self, turns_missing: bool) -> Told {
        let cleartext = self.tls.is_none() && self.counts().is_some();
        let mut dialogue = std::mem::take(&mut self.dialogue);
        if !self.parser.is_between_replies() {
            dialogue.unfinished(self.begin_ns);
        }
        let mut told = dialogue.finish(turns_missing);
        self.moments = std::mem::take(&mut told.moments);
        if self.tls != Some(Tls::Starttls) {
            told.phases.starttls_ns = None;
        }
        if cleartext { told } else { Told { phases: told.phases, ..Told::default() } }
    }

    /// Code of the last reply; `None` if that may be missing, and if TLS hid it.
    pub(super) fn last_code(&self) -> Option<u16> {
        self.counts().and(self.last_code).filter(|_| self.tls.is_none())
    }

    /// What the server said about itself.
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// When the server's first TLS record arrived, `CLOCK_BOOTTIME`.
    pub(super) fn tls_ns(&self) -> Option<u64> {
        self.tls_ns
    }

    /// Whether and how the session was encrypted; `None` if the server never spoke, or if TLS may have begun
    /// in what was not handed over.
    pub(super) fn tls(&self) -> Option<Tls> {
        let whole = self.next > 0 && !self.has_gap && self.ahead.is_empty();
        self.tls.or(whole.then_some(Tls::None))
    }

    /// Whether anything of what the server said is known.
    pub(super) fn heard(&self) -> bool {
        self.tls().is_some() || !self.counts.is_empty()
    }
}
