//! What the server said in cleartext: greeting, reply codes, and where TLS begins.

use std::collections::BTreeMap;

use tracer_common::record::{ReplySegment, Turn, flag};

use super::{Tls, join::Join, refusals::Refusals};
use crate::{
    dialogue::{
        lengths::Server,
        replies::{Dialogue, Said, Told},
    },
    smtp::{EnhancedCode, Prelude, Reply, ReplyParser, Step},
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

    /// Replies that may turn us away.
    pub(super) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// What the replies told, at the end of the connection; messages only if all replies were read.
    /// `turns_missing`: some turns never came. What was said is used up.
    pub(super) fn told(&mut self, turns_missing: bool) -> Told {
        let cleartext = self.tls.is_none() && self.counts().is_some();
        let mut told = std::mem::take(&mut self.dialogue).finish(turns_missing);
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

/// The host name of a greeting (RFC 5321 section 4.2: the domain comes first). A teaser line, as
/// postscreen sends it, may say anything, so the last line is asked before the first. A refusal may begin
/// with an enhanced status code, and then with a sentence: its word must look like a domain.
fn greeting_host(reply: &Reply) -> Option<String> {
    let [last, first] = [&reply.last, &reply.first].map(|text| host_name(text));
    let is_domain = |host: &String| host.contains('.');
    match last {
        Some(host) if is_domain(&host) => Some(host),
        last if reply.code == 220 => first.filter(is_domain).or(last),
        _ => first.filter(is_domain),
    }
}

/// The first word of `text` that is no enhanced status code, if it could be a host name.
fn host_name(text: &[u8]) -> Option<String> {
    let mut words = text.split(|byte| matches!(byte, b' ' | b'\t')).filter(|it| !it.is_empty());
    let word = words.find(|word| EnhancedCode::parse(word).is_none())?;
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let starts_well = word.first().is_some_and(u8::is_ascii_alphanumeric);
    if !starts_well || word.len() > 255 || !word.iter().all(allowed) {
        return None;
    }
    let host = String::from_utf8_lossy(word).to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    let top = host.rsplit('.').next().unwrap_or_default();
    (!top.bytes().all(|byte| byte.is_ascii_digit())).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use proptest::prelude::*;

    use super::*;

    fn meta(offset: usize, payload: &[u8], time_ns: u64) -> ReplySegment {
        let offset = u32::try_from(offset).unwrap();
        let payload = u32::try_from(payload.len()).unwrap();
        ReplySegment { offset, payload, time_ns, ..ReplySegment::zeroed() }
    }

    fn in_pieces(pieces: &[&[u8]]) -> Replies {
        let mut replies = Replies::default();
        let (mut offset, mut time) = (0, 0);
        for piece in pieces {
            time += 1;
            replies.segment(&meta(offset, piece, time), piece);
            offset += piece.len();
        }
        replies
    }

    #[test]
    fn greeting_is_complete_with_its_last_line() {
        let pieces: [&[u8]; 3] = [b"220-Please wait\r\n", b"220 MX1.Example.", b"com ESMTP\r\n"];
        let greeting = in_pieces(&pieces).greeting().unwrap().clone();
        assert_eq!((greeting.code, greeting.complete_ns), (220, 3));
        assert_eq!(greeting.host.as_deref(), Some("mx1.example.com"));
    }

    #[test]
    fn first_line_names_the_host_when_the_last_does_not() {
        let replies = in_pieces(&[b"220-mx.example.net ESMTP\r\n220 By connecting you agree\r\n"]);
        assert_eq!(replies.greeting().unwrap().host.as_deref(), Some("mx.example.net"));
    }

    #[test]
    fn refusals_name_their_host_if_they_do() {
        let host = |text: &str| in_pieces(&[text.as_bytes()]).greeting().unwrap().host.clone();
        assert_eq!(host("421 4.7.0 mx.example Too many\r\n").as_deref(), Some("mx.example"));
        assert_eq!(host("554 mx.example no\r\n").as_deref(), Some("mx.example"));
        assert_eq!(host("421 4.0.0 Server closing connection\r\n"), None);
        assert_eq!(host("421 Too many connections\r\n"), None);
        assert_eq!(host("220 192.0.2.1 ESMTP\r\n"), None);
        assert_eq!(host("220 localhost ESMTP\r\n").as_deref(), Some("localhost"));
    }

    #[test]
    fn hostile_greeting_has_no_host() {
        for text in ["220 \x1b[31mroot\r\n", "220 <script>\r\n", "220 -rf\r\n", "220\r\n"] {
            assert_eq!(in_pieces(&[text.as_bytes()]).greeting().unwrap().host, None, "{text:?}");
        }
    }

    #[test]
    fn tls_is_told_from_cleartext() {
        let starttls: &[u8] = b"220 a.b\r\n250 a\r\n220 go\r\n\x16\x03\x03";
        assert_eq!(in_pieces(&[starttls]).tls(), Some(Tls::Starttls));
        assert_eq!(in_pieces(&[b"\x16\x03\x03"]).tls(), Some(Tls::Implicit));
        assert_eq!(in_pieces(&[b"220 a.b\r\n"]).tls(), Some(Tls::None));
        assert_eq!(Replies::default().tls(), None);
        assert!(!Replies::default().heard());
    }

    /// As from a raw tracepoint, which reads no page fragments.
    #[test]
    fn nothing_is_told_of_segments_without_their_bytes() {
        let mut replies = Replies::default();
        replies.segment(&meta(0, b"220 a.b\r\n", 1), b"");
        assert_eq!((replies.tls(), replies.counts(), replies.heard()), (None, None, false));
        assert_eq!(replies.greeting(), None);
        // Was STARTTLS among what is missing?
        replies.segment(&meta(9, b"250 ok\r\n", 1), b"250 ok\r\n");
        assert_eq!((replies.tls(), replies.counts(), replies.heard()), (None, None, true));
        replies.segment(&meta(17, b"\x16\x03\x03", 1), b"\x16\x03\x03");
        assert_eq!(replies.tls(), Some(Tls::Starttls));
    }

    #[test]
    fn truncated_segment_makes_the_counts_unknown() {
        let mut replies = Replies::default();
        let mut cut = meta(0, b"220 a.b\r\n", 1);
        cut.payload = 5_000;
        replies.segment(&cut, b"220 a.b\r\n");
        assert_eq!(replies.counts(), None);
        assert_eq!(replies.greeting().unwrap().code, 220);
    }

    #[test]
    fn greeting_stands_when_later_segments_overtake_it() {
        let mut replies = Replies::default();
        for at in 0..100_usize {
            replies.segment(&meta(9 + at * 8, b"250 ok\r\n", 2), b"250 ok\r\n");
        }
        replies.segment(&meta(0, b"220 a.b\r\n", 1), b"220 a.b\r\n");
        assert_eq!(replies.greeting().unwrap().host.as_deref(), Some("a.b"));
        assert_eq!(replies.counts(), None, "some of the hundred were dropped");
    }

    proptest! {
        /// However the stream is cut, doubled and shuffled within reach, the replies are the same.
        #[test]
        fn order_of_arrival_does_not_matter(
            cuts in prop::collection::vec(1_usize..20, 3..12),
            swaps in prop::collection::vec((0_usize..12, 0_usize..12), 0..6),
        ) {
            let stream = b"220 mx.example ESMTP\r\n250-mx\r\n250 SIZE\r\n250 ok\r\n354 go\r\n250 ok\r\n";
            let mut segments = Vec::new();
            let mut at = 0;
            for cut in cuts {
                let end = (at + cut).min(stream.len());
                segments.push((at, &stream[at..end]));
                at = end;
            }
            segments.push((at, &stream[at..]));
            for (a, b) in swaps {
                let (a, b) = (a % segments.len(), b % segments.len());
                segments.swap(a, b);
            }
            let doubled = segments[0];
            segments.push(doubled);
            let mut replies = Replies::default();
            for (offset, payload) in segments {
                replies.segment(&meta(offset, payload, 1), payload);
            }
            let counts = replies.counts().unwrap();
            prop_assert_eq!(counts, &BTreeMap::from([(220, 1), (250, 3), (354, 1)]));
        }
    }
}
