//! Server replies (RFC 5321 section 4.2) from a byte stream, in bounded memory.

use super::EnhancedCode;

/// Text bytes kept of a line; the rest is skipped. RFC 5321 section 4.5.3.1.5 allows 512 in all.
const LINE_TEXT: usize = 512;

/// A complete reply.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct Reply {
    /// Reply code, 200 to 599.
    pub code: u16,
    /// Text of the first line, at most 512 bytes, as sent.
    pub first: Vec<u8>,
    /// Text of the last line, at most 512 bytes, as sent.
    pub last: Vec<u8>,
    /// Whether a line offers CHUNKING (RFC 3030 section 2): messages may come by BDAT, without a 354.
    pub offers_chunking: bool,
    /// Whether a line offers PIPELINING (RFC 2920 section 3).
    pub offers_pipelining: bool,
    /// Whether a line offers AUTH (RFC 4954 section 3).
    pub offers_auth: bool,
    /// Whether a line offers XEXCH50, an extension of Exchange that has a 354 of its own (no RFC has it).
    pub offers_xexch50: bool,
    /// Bytes of the reply on the wire, all lines and line ends.
    pub bytes: u32,
}

impl Reply {
    /// The enhanced status code that the last line begins with. Its class must be that of the reply
    /// code (RFC 2034 section 4).
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        EnhancedCode::at_start(&self.last).filter(|it| u16::from(it.class) == self.code / 100)
    }
}

/// What a byte completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A reply.
    Reply(Reply),
    /// Where a reply should begin stands a TLS record (RFC 8446 section 5.1: content types 20 to 23, major
    /// version 3). Feed nothing more.
    Tls,
    /// A line that is no reply. The parser goes on with the next line.
    NotAReply,
}

/// Finds the replies in a stream of bytes.
#[derive(Debug, Clone, Default)]
pub struct ReplyParser {
    /// Current line without its line break, at most code, separator and `LINE_TEXT` bytes.
    line: Vec<u8>,
    /// A reply that goes on: what its lines said so far.
    begun: Option<Reply>,
    /// Bytes of the current line, those not kept included.
    line_bytes: u32,
}

impl ReplyParser {
    /// A parser at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next byte.
    pub fn feed(&mut self, byte: u8) -> Option<Step> {
        if let ([20..=23], 3) = (&self.line[..], byte) {
            return Some(Step::Tls);
        }
        self.line_bytes = self.line_bytes.saturating_add(1);
        if byte != b'\n' {
            if self.line.len() < 4 + LINE_TEXT {
                self.line.push(byte);
            }
            return None;
        }
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        let mut line = std::mem::take(&mut self.line);
        let step = self.end_line(&line);
        line.clear();
        self.line = line; // its memory is used again
        step
    }

    /// Whether the parser stands between two replies.
    pub fn is_between_replies(&self) -> bool {
        self.line.is_empty() && self.begun.is_none()
    }

    fn end_line(&mut self, line: &[u8]) -> Option<Step> {
        let line_bytes = std::mem::take(&mut self.line_bytes);
        let Some((code, more, text)) = split(line) else {
            self.begun = None;
            return Some(Step::NotAReply);
        };
        // RFC 5321 section 4.2.1: every line of a reply has the same code.
        let begun = self.begun.take().filter(|begun| begun.code == code);
        let mut reply = begun.unwrap_or_else(|| Reply::begin(code, text));
        reply.line(text, line_bytes);
        if more {
            self.begun = Some(reply);
            return None;
        }
        text.clone_into(&mut reply.last);
        Some(Step::Reply(reply))
    }
}

impl Reply {
    fn begin(code: u16, first: &[u8]) -> Self {
        Self {
            code,
            first: first.to_vec(),
            last: Vec::new(),
            offers_chunking: false,
            offers_pipelining: false,
            offers_auth: false,
            offers_xexch50: false,
            bytes: 0,
        }
    }

    fn line(&mut self, text: &[u8], bytes: u32) {
        let keyword = text.split(|byte| *byte == b' ').next().unwrap_or_default();
        self.offers_chunking |= keyword.eq_ignore_ascii_case(b"CHUNKING");
        self.offers_pipelining |= keyword.eq_ignore_ascii_case(b"PIPELINING");
        self.offers_auth |= keyword.eq_ignore_ascii_case(b"AUTH");
        self.offers_xexch50 |= keyword.eq_ignore_ascii_case(b"XEXCH50");
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// Whether `bytes`, the beginning of which is that of a line, are lines of replies and nothing else; the last
/// one may be unfinished. At least one must be complete.
pub fn are_reply_lines(bytes: &[u8]) -> bool {
    let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else { return false };
    let (lines, rest) = bytes.split_at(end);
    let is_text = |line: &[u8]| line.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
    let lines = lines.split(|byte| *byte == b'\n');
    lines
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .all(|line| split(line).is_some() && is_text(line))
        && rest.get(1..).is_some_and(|rest| rest.iter().take(3).all(u8::is_ascii_digit))
}

/// Code, whether another line follows, text.
fn split(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] = line else { return None };
    let code = [a, b, c].iter().fold(0, |code, digit| code * 10 + u16::from(**digit - b'0'));
    match rest {
        [] => Some((code, false, rest)),
        [b' ', text @ ..] => Some((code, false, text)),
        [b'-', text @ ..] => Some((code, true, text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_replies_are_told_from_anything_else() {
        for text in
            ["250 ok\r\n", "250-a\r\n250 SIZE 1\r\n", "250 ok\n", "250\r\n25", "421 x\r\n22\r"]
        {
            let expected = text != "421 x\r\n22\r";
            assert_eq!(are_reply_lines(text.as_bytes()), expected, "{text:?}");
        }
        for bytes in
            [&b"SIZE 1\r\n250 ok\r\n"[..], b"250 o\x00k\r\n", b"250 no end", b"", b"\x17\x03\x03\n"]
        {
            assert!(!are_reply_lines(bytes), "{bytes:?}");
        }
    }

    fn steps(bytes: &[u8]) -> Vec<Step> {
        let mut parser = ReplyParser::new();
        bytes.iter().filter_map(|byte| parser.feed(*byte)).collect()
    }

    fn reply(code: u16, first: &str, last: &str, bytes: u32) -> Step {
        let last = last.as_bytes().to_vec();
        Step::Reply(Reply { last, bytes, ..Reply::begin(code, first.as_bytes()) })
    }

    #[test]
    fn single_and_multi_line() {
        let text =
            b"220 mx.example ESMTP\r\n250-mx.example\r\n250-PIPELINING\r\n250 SIZE\r\n354\r\n";
        let Step::Reply(ehlo) = reply(250, "mx.example", "SIZE", 42) else { panic!("no reply") };
        assert_eq!(
            steps(text),
            [
                reply(220, "mx.example ESMTP", "mx.example ESMTP", 22),
                Step::Reply(Reply { offers_pipelining: true, ..ehlo }),
                reply(354, "", "", 5)
            ]
        );
    }

    #[test]
    fn chunking_is_noticed_in_any_line() {
        for text in ["250-mx\r\n250-CHUNKING\r\n250 SIZE\r\n", "250-mx\r\n250 chunking\r\n"] {
            let [Step::Reply(reply)] = &steps(text.as_bytes())[..] else { panic!("{text:?}") };
            assert!(reply.offers_chunking);
        }
    }

    #[test]
    fn enhanced_codes() {
        let code = |code, last: &str| {
            Reply { last: last.as_bytes().to_vec(), ..Reply::begin(code, b"") }.enhanced()
        };
        let [subject, detail] = [1, 5];
        assert_eq!(code(250, "2.1.5 Ok"), Some(EnhancedCode { class: 2, subject, detail }));
        for none in ["OK", "", "5.1.1 no", "2.1 Ok", "2.1.5.1 Ok", "2..5 Ok", "2.1.1234", "2.+1.5"]
        {
            assert_eq!(code(250, none), None, "{none}");
        }
    }

    #[test]
    fn offers_of_an_ehlo_reply() {
        let [Step::Reply(reply)] =
            &steps(b"250-mx AUTH\r\n250-auth PLAIN LOGIN\r\n250 SIZE\r\n")[..]
        else {
            panic!("not one reply")
        };
        assert!(reply.offers_auth && !reply.offers_pipelining && !reply.offers_chunking);
        let [Step::Reply(reply)] = &steps(b"250-mx\r\n250 AUTHENTIC\r\n")[..] else {
            panic!("not one reply")
        };
        assert!(!reply.offers_auth);
    }

    #[test]
    fn tls_ends_the_cleartext() {
        assert_eq!(steps(b"220 go\r\n\x16\x03"), [reply(220, "go", "go", 8), Step::Tls]);
    }

    #[test]
    fn a_byte_that_could_begin_tls_does_not_make_a_line_tls() {
        let ok = reply(250, "ok", "ok", 8);
        assert_eq!(steps(b"\x16\x14\r\n250 ok\r\n"), [Step::NotAReply, ok]);
    }

    #[test]
    fn nonsense_is_no_reply_and_the_next_line_counts() {
        assert_eq!(
            steps(b"hello\r\n2x0 a\n250 ok\n"),
            [Step::NotAReply, Step::NotAReply, reply(250, "ok", "ok", 7)]
        );
    }

    #[test]
    fn endless_line_takes_bounded_memory() {
        let mut parser = ReplyParser::new();
        for byte in b"220 ".iter().copied().chain(std::iter::repeat_n(b'x', 100_000)) {
            assert_eq!(parser.feed(byte), None);
        }
        let Some(Step::Reply(reply)) = parser.feed(b'\n') else { panic!("no reply") };
        assert_eq!((reply.code, reply.last.len()), (220, LINE_TEXT));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            for step in steps(&bytes) {
                if let Step::Reply(reply) = step {
                    prop_assert!((200..600).contains(&reply.code));
                }
            }
        }
    }
}
