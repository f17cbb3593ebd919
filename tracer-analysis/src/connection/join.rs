//! The way into a stream of replies that was not seen from its beginning.

use crate::smtp::are_reply_lines;

/// Segments after which a stream that was joined in the middle is given up, if none begins with a reply.
const ATTEMPTS: u8 = 16;

/// How far the way into a stream has led that was not seen from its beginning: in the middle of a line, or
/// of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    /// Nothing was understood of so many segments.
    Sought(u8),
    /// It has led to a reply.
    Found,
    /// It is encrypted, or no SMTP.
    Opaque,
}

impl Default for Join {
    fn default() -> Self {
        Self::Sought(0)
    }
}

impl Join {
    /// Looks at the next segment. There is no reply at its beginning unless all of it are lines of replies:
    /// anything else may be the middle of something.
    pub(super) fn next(self, payload: &[u8]) -> Self {
        match self {
            Self::Sought(_) if are_reply_lines(payload) => Self::Found,
            Self::Sought(_) if is_tls_record(payload) => Self::Opaque,
            Self::Sought(attempts) if attempts + 1 >= ATTEMPTS => Self::Opaque,
            Self::Sought(attempts) => Self::Sought(attempts + 1),
            known => known,
        }
    }
}

/// Whether `bytes` begin with the header of a TLS record (RFC 8446 section 5.1): type, major version 3.
fn is_tls_record(bytes: &[u8]) -> bool {
    matches!(bytes, [20..=23, 3, 0..=4, ..])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytemuck::Zeroable;
    use tracer_common::record::{ReplySegment, flag};

    use super::*;
    use crate::connection::{Tls, replies::Replies};

    /// What is made of a stream that was joined in the middle.
    fn joined(pieces: &[&[u8]]) -> (Replies, bool) {
        let (mut replies, mut offset, mut done) = (Replies::default(), 0, false);
        for piece in pieces {
            let payload = u32::try_from(piece.len()).unwrap();
            let meta = ReplySegment {
                flags: flag::MIDSTREAM.into(),
                offset,
                payload,
                time_ns: 1,
                ..ReplySegment::zeroed()
            };
            done = replies.segment(&meta, piece);
            offset += payload;
        }
        (replies, done)
    }

    #[test]
    fn stream_joined_between_replies_is_read_and_has_no_greeting() {
        let (replies, done) = joined(&[b"250 ok\r\n", b"421 4.3.2 Shutting", b" down\r\n"]);
        assert!(!done);
        assert_eq!(replies.counts(), Some(&BTreeMap::from([(250, 1), (421, 1)])));
        assert_eq!((replies.greeting(), replies.tls()), (None, Some(Tls::None)));
        assert_eq!(replies.last_code(), Some(421));
        let (replies, done) = joined(&[b"250 ok\r\n", b"220 go\r\n", b"\x16\x03\x03"]);
        assert_eq!((replies.tls(), done), (Some(Tls::Starttls), true));
    }

    #[test]
    fn stream_joined_in_a_line_is_read_from_the_next_but_has_no_counts() {
        let (replies, done) = joined(&[b"SIZE\r\n", b"354 go\r\n"]);
        assert!(!done);
        assert_eq!((replies.counts(), replies.last_code()), (None, None));
        assert_eq!(replies.tls(), Some(Tls::None));
    }

    #[test]
    fn nothing_in_an_encrypted_stream_is_taken_for_a_reply() {
        let (replies, done) = joined(&[b"\x17\x03\x03\x00\x13..."]);
        assert!(done, "no more is wanted");
        assert_eq!((replies.counts(), replies.tls()), (None, None), "how it began is not known");
        // In the middle of a record, where ciphertext may look like anything for a while.
        let (replies, done) = joined(&[b"250 \x80\x07\r\n", b"9\r\n", &[0x20; 40]]);
        assert!(!done);
        assert_eq!((replies.counts(), replies.tls()), (None, None));
        let noise = [0x9a_u8; 30];
        let (replies, done) = joined(&[&noise[..]; ATTEMPTS as usize]);
        assert!(done);
        assert_eq!((replies.counts(), replies.tls()), (None, None));
    }
}
