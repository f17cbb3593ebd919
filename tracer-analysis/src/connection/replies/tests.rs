//! Streams cut into segments.

use bytemuck::Zeroable;
use proptest::prelude::*;

use super::*;
use crate::smtp::Reason;

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

/// postscreen(8) to a client that it has not met before, and that writes its envelope in one go or not.
#[test]
fn refusal_of_a_recipient_is_told_from_that_of_a_sender() {
    let reason = |bytes: &[u32], said: &[&[u8]]| {
        let mut replies = in_pieces(&[b"220 mx ESMTP\r\n"]);
        let mut offset = 14;
        for ((at, bytes), said) in (10..).zip(bytes).zip(said) {
            let start_ns = at * 1_000;
            let turn =
                Turn { start_ns, last_write_ns: start_ns, client_bytes: *bytes, ..Turn::zeroed() };
            replies.turn(&turn);
            replies.segment(&meta(offset, said, start_ns + 1), said);
            offset += said.len();
        }
        replies.told(false);
        let [refusal] = replies.refusals(0)[..] else { panic!("{:?}", replies.refusals(0)) };
        (refusal.reason.unwrap(), refusal.is_throttling())
    };
    let ehlo = &b"250-mx\r\n250 PIPELINING\r\n"[..];
    let no = &b"450 4.3.2 Service currently unavailable\r\n"[..];
    let after_mail = [b"250 2.1.0 Ok\r\n", no, b"554 5.5.1 no\r\n"].concat();
    assert_eq!(reason(&[16, 72], &[ehlo, &after_mail]), (Reason::Greylisting, false));
    let apart = [ehlo, b"250 2.1.0 Ok\r\n", no];
    assert_eq!(reason(&[16, 34, 30], &apart), (Reason::Greylisting, false));
    assert_eq!(reason(&[16, 34], &[ehlo, no]), (Reason::Other, true));
    assert_eq!(reason(&[16], &[no]), (Reason::Other, true));
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
