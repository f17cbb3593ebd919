//! What a proxy on the way to the server says before the server does: SOCKS, HTTP CONNECT, PROXY headers.

/// Signature of a PROXY header in its binary form (`HAProxy`, `proxy-protocol.txt`, section 2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes kept of a line: enough for `HTTP/1.1 200`.
const LINE: usize = 12;

/// Takes what comes before the server's first reply out of a stream that was seen from its beginning. Proxies may
/// stand one behind the other. Nothing but numbers of bytes is kept.
#[derive(Debug, Clone, Default)]
pub struct Prelude(State);

#[derive(Debug, Clone, Copy, Default)]
enum State {
    /// The next byte begins something.
    #[default]
    Between,
    /// So many bytes of the signature of a PROXY header have come.
    Signature(usize),
    /// Then version, family and two bytes of length.
    Header {
        read: u8,
        length: u16,
    },
    /// SOCKS 5: the method, the answer to a password, the answer to the request.
    Method,
    Password {
        read: u8,
    },
    Answer {
        read: u8,
    },
    /// Its address is a name: the length of it comes next.
    NameLength,
    /// SOCKS 4: the code of the answer.
    Answer4,
    /// So many bytes belong to what was begun.
    Skip(u32),
    /// A line of text: its beginning.
    Line {
        start: [u8; LINE],
        read: usize,
    },
    /// Fields of an HTTP response; whether the line is empty so far.
    Fields {
        empty: bool,
    },
    /// The proxy refused: the server never speaks.
    Refused,
    /// The server speaks.
    Over,
}

impl Prelude {
    /// Of a stream whose beginning is past.
    pub fn over() -> Self {
        Self(State::Over)
    }

    /// Takes the next byte. Returns whether it is one of a proxy; once it is not, none is.
    pub fn takes(&mut self, byte: u8) -> bool {
        self.0 = match self.0 {
            State::Over => return false,
            State::Signature(read) if SIGNATURE.get(read) == Some(&byte) => {
                if read + 1 == SIGNATURE.len() {
                    State::Header { read: 0, length: 0 }
                } else {
                    State::Signature(read + 1)
                }
            }
            State::Between | State::Signature(_) => begin(byte),
            State::Header { read, length } => match (read, length << 8 | u16::from(byte)) {
                (0 | 1, _) => State::Header { read: read + 1, length: 0 },
                (2, length) => State::Header { read: 3, length },
                (_, length) => skip(length.into()),
            },
            State::Method => match byte {
                0 => State::Answer { read: 0 },
                2 => State::Password { read: 0 },
                _ => State::Refused, // or a method that wraps all that follows
            },
            State::Password { read: 0 } => State::Password { read: 1 },
            State::Password { .. } if byte == 0 => State::Answer { read: 0 },
            State::Answer { read: 1 } if byte != 0 => State::Refused,
            State::Answer { read: read @ 0..=2 } => State::Answer { read: read + 1 },
            State::Answer { .. } => match byte {
                1 => skip(4 + 2),
                3 => State::NameLength,
                4 => skip(16 + 2),
                _ => State::Refused,
            },
            State::NameLength => skip(u32::from(byte) + 2),
            State::Answer4 if byte == 0x5a => skip(2 + 4),
            State::Skip(left) => skip(left - 1),
            State::Line { start, .. } if byte == b'\n' => end_line(&start),
            State::Line { mut start, read } => {
                if let Some(place) = start.get_mut(read) {
                    *place = byte;
                }
                State::Line { start, read: read.saturating_add(1) }
            }
            State::Fields { empty: true } if byte == b'\n' => State::Between,
            State::Fields { empty } => {
                State::Fields { empty: byte == b'\n' || empty && byte == b'\r' }
            }
            State::Password { .. } | State::Answer4 | State::Refused => State::Refused,
        };
        !matches!(self.0, State::Over)
    }
}

fn skip(bytes: u32) -> State {
    if bytes == 0 { State::Between } else { State::Skip(bytes) }
}

/// What begins with this byte.
fn begin(byte: u8) -> State {
    match byte {
        b'0'..=b'9' | 20..=23 => State::Over, // a reply, or a TLS record
        b'\r' => State::Signature(1),
        5 => State::Method,
        0 => State::Answer4,
        b'\n' => State::Between,
        _ => {
            let mut start = [0; LINE];
            start[0] = byte;
            State::Line { start, read: 1 }
        }
    }
}

/// After a line of text: a status line of HTTP is followed by fields, anything else stands alone.
fn end_line(start: &[u8; LINE]) -> State {
    match start {
        [b'H', b'T', b'T', b'P', b'/', rest @ ..] => {
            let status = rest.iter().position(|byte| *byte == b' ').and_then(|at| rest.get(at + 1));
            if status == Some(&b'2') { State::Fields { empty: true } } else { State::Refused }
        }
        _ => State::Between,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of a stream for the server.
    fn rest(stream: &[u8]) -> Vec<u8> {
        let mut prelude = Prelude::default();
        stream.iter().copied().filter(|byte| !prelude.takes(*byte)).collect()
    }

    const GREETING: &[u8] = b"220 mx.example ESMTP\r\n250 \x05ok\r\n";

    #[test]
    fn proxies_are_taken_out() {
        let socks5: &[u8] = b"\x05\x00\x05\x00\x00\x01\x0a\x16\x14\x0a\x16\x0a";
        let with_password: &[u8] =
            b"\x05\x02\x01\x00\x05\x00\x00\x04\n\x16\x03\x01567890123456\x09\xc5";
        let by_name: &[u8] = b"\x05\x00\x05\x00\x00\x03\x0a220 a.test\x00\x19";
        let socks4: &[u8] = b"\x00\x5a\x00\x19\x0a\x17\x0a\x16";
        let http: &[u8] =
            b"HTTP/1.1 200 Connection established\r\nVia: 1.1 a\r\n220: no greeting\r\n\r\n";
        let old_http: &[u8] = b"HTTP/1.0 200\n\n";
        let version_1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 25\r\n";
        let version_2: &[u8] =
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x0a\x16\x14\x0a\x0a\x17\x0a\x0a\x0a\x16\x00\x19";
        let local: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
        let all =
            [socks5, with_password, by_name, socks4, http, old_http, version_1, version_2, local];
        for proxy in all {
            assert_eq!(rest(&[proxy, GREETING].concat()), GREETING, "{proxy:?}");
            // One behind the other, and TLS behind them.
            assert_eq!(rest(&[proxy, http, proxy, b"\x16\x03\x03"].concat()), b"\x16\x03\x03");
        }
        assert_eq!(rest(GREETING), GREETING);
        assert_eq!(rest(b"\r\nhello\n220 a\r\n"), b"220 a\r\n");
    }

    #[test]
    fn after_a_refusal_nothing_is_the_servers() {
        let refusals: [&[u8]; 5] = [
            b"\x05\xff",
            b"\x05\x00\x05\x05\x00\x01\0\0\0\0\0\0",
            b"\x05\x02\x01\x01",
            b"\x00\x5b\0\0\0\0\0\0",
            b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        ];
        for refusal in refusals {
            assert_eq!(rest(&[refusal, b"220 not a greeting\r\n"].concat()), b"", "{refusal:?}");
        }
    }
}
