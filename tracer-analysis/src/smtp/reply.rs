//! Server replies (RFC 5321 section 4.2) from a byte stream, in bounded memory.

/// Text bytes kept of a line; the rest is skipped. RFC 5321 section 4.5.3.1.5 allows 512 in all.
const LINE_TEXT: usize = 512;

/// A complete reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Reply code, 200 to 599.
    pub code: u16,
    /// Text of the first line, at most 512 bytes, as sent.
    pub first: Vec<u8>,
    /// Text of the last line, at most 512 bytes, as sent.
    pub last: Vec<u8>,
    /// Whether a line offers CHUNKING (RFC 3030 section 2): messages may come by BDAT, without a 354.
    pub offers_chunking: bool,
}

impl Reply {
    /// Subject and detail of the enhanced status code (RFC 3463 section 2) that the last line begins
    /// with, for example `(1, 5)` of `2.1.5`. Its class must be that of the reply code (RFC 2034).
    pub fn enhanced(&self) -> Option<(u16, u16)> {
        let word = self.last.split(|byte| matches!(byte, b' ' | b'\t')).next()?;
        let mut parts = word.split(|byte| *byte == b'.').map(number);
        let [class, subject, detail] = [parts.next()??, parts.next()??, parts.next()??];
        (parts.next().is_none() && class == self.code / 100).then_some((subject, detail))
    }
}

/// A decimal number of one to three digits.
fn number(digits: &[u8]) -> Option<u16> {
    let text = (digits.len() <= 3).then(|| str::from_utf8(digits).ok())??;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// What a byte completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A reply.
    Reply(Reply),
    /// Where a reply should begin stands the first byte of a TLS record (RFC 8446 section 5.1: content
    /// types 20 to 23). Feed nothing more.
    Tls,
    /// A line that is no reply. The parser goes on with the next line.
    NotAReply,
}

/// Finds the replies in a stream of bytes.
#[derive(Debug, Clone, Default)]
pub struct ReplyParser {
    /// Current line without its line break, at most code, separator and `LINE_TEXT` bytes.
    line: Vec<u8>,
    /// A reply that goes on: its code, its first line, whether CHUNKING was offered.
    begun: Option<(u16, Vec<u8>, bool)>,
}

impl ReplyParser {
    /// A parser at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next byte.
    pub fn feed(&mut self, byte: u8) -> Option<Step> {
        if self.line.is_empty() && (20..=23).contains(&byte) {
            return Some(Step::Tls);
        }
        if byte != b'\n' {
            if self.line.len() < 4 + LINE_TEXT {
                self.line.push(byte);
            }
            return None;
        }
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        let line = std::mem::take(&mut self.line);
        self.end_line(&line)
    }

    /// Whether the parser stands between two replies.
    pub fn is_between_replies(&self) -> bool {
        self.line.is_empty() && self.begun.is_none()
    }

    fn end_line(&mut self, line: &[u8]) -> Option<Step> {
        let Some((code, more, text)) = split(line) else {
            self.begun = None;
            return Some(Step::NotAReply);
        };
        let (first, offered) = match self.begun.take() {
            // RFC 5321 section 4.2.1: every line of a reply has the same code.
            Some((begun, first, offered)) if begun == code => (first, offered),
            _ => (text.to_vec(), false),
        };
        let offers_chunking = offered || text.eq_ignore_ascii_case(b"CHUNKING");
        if more {
            self.begun = Some((code, first, offers_chunking));
            return None;
        }
        Some(Step::Reply(Reply { code, first, last: text.to_vec(), offers_chunking }))
    }
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

    fn steps(bytes: &[u8]) -> Vec<Step> {
        let mut parser = ReplyParser::new();
        bytes.iter().filter_map(|byte| parser.feed(*byte)).collect()
    }

    fn reply(code: u16, first: &str, last: &str) -> Step {
        let (first, last) = (first.into(), last.into());
        Step::Reply(Reply { code, first, last, offers_chunking: false })
    }

    #[test]
    fn single_and_multi_line() {
        let text =
            b"220 mx.example ESMTP\r\n250-mx.example\r\n250-PIPELINING\r\n250 SIZE\r\n354\r\n";
        assert_eq!(
            steps(text),
            [
                reply(220, "mx.example ESMTP", "mx.example ESMTP"),
                reply(250, "mx.example", "SIZE"),
                reply(354, "", "")
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
            let last = last.as_bytes().to_vec();
            Reply { code, first: Vec::new(), last, offers_chunking: false }.enhanced()
        };
        assert_eq!(code(250, "2.1.5 Ok"), Some((1, 5)));
        assert_eq!(code(421, "4.4.2"), Some((4, 2)));
        for none in ["OK", "", "5.1.1 no", "2.1 Ok", "2.1.5.1 Ok", "2..5 Ok", "2.1.1234", "2.+1.5"]
        {
            assert_eq!(code(250, none), None, "{none}");
        }
    }

    #[test]
    fn tls_ends_the_cleartext() {
        assert_eq!(steps(b"220 go\r\n\x16\x03\x03"), [reply(220, "go", "go"), Step::Tls]);
    }

    #[test]
    fn nonsense_is_no_reply_and_the_next_line_counts() {
        assert_eq!(
            steps(b"hello\r\n2x0 a\n250 ok\n"),
            [Step::NotAReply, Step::NotAReply, reply(250, "ok", "ok")]
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
