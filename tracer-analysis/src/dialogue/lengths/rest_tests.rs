//! Where a dialogue under TLS stands, by the lengths of a capture of Postfix to Postfix (TLS 1.3).

use tracer_common::record::Turn;

use super::*;
use crate::smtp::{ReplyParser, Step as Parsed};

const CLEAR: &[u8] = b"220 mx.example ESMTP Postfix\r\n250-mx.example\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n\
    250-STARTTLS\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250 DSN\r\n220 2.0.0 Ready to start TLS\r\n";

fn server() -> Server {
    let (mut parser, mut server) = (ReplyParser::new(), Server::default());
    for byte in CLEAR {
        if let Some(Parsed::Reply(reply)) = parser.feed(*byte) {
            server.reply(&reply);
        }
    }
    server
}

/// After EHLO, STARTTLS, handshake, EHLO, and `turns`: bytes of client and server.
fn rest(turns: &[[u32; 2]]) -> Rest {
    let opening = [[17, 142], [10, 30], [517, 1_500], [80, 255], [39, 150]];
    let mut lengths = Lengths::new();
    lengths.opened_by(Some(Mta::Postfix));
    for (at, [client_bytes, server_bytes]) in (1..).zip(opening.iter().chain(turns)) {
        let start_ns = at * 1_000_000;
        let answered = *server_bytes != 0;
        lengths.turn(&Turn {
            start_ns,
            first_byte_ns: if answered { start_ns + 1_000 } else { 0 },
            last_write_ns: start_ns,
            last_ns: start_ns + 1_000,
            client_bytes: *client_bytes,
            server_bytes: *server_bytes,
        });
        if at == 3 {
            lengths.tls_begins(start_ns + 1_000, &server());
        }
    }
    lengths.finish().rest.unwrap()
}

const ENVELOPE: [u32; 2] = [110, 87];
const BODY: [u32; 2] = [3_299, 59];
const RSET: [u32; 2] = [28, 36];

#[test]
fn between_messages_a_pause_is_idle_time() {
    for turns in [
        &[][..],
        &[ENVELOPE, BODY],
        &[ENVELOPE, BODY, RSET],
        &[ENVELOPE, BODY, RSET, ENVELOPE, BODY],
    ] {
        assert_eq!(rest(turns).now, Standing::Settled, "{turns:?}");
    }
    // A RSET that nobody answers: what stood before it decides.
    assert_eq!(rest(&[ENVELOPE, BODY, [28, 0]]).before, Standing::Settled);
}

#[test]
fn who_waits_within_a_message_is_not_idle() {
    let whole = [ENVELOPE, BODY, RSET];
    for turns in [&[ENVELOPE][..], &[ENVELOPE, BODY, RSET, ENVELOPE]] {
        assert_eq!(rest(turns).now, Standing::Owing, "a body is due: {turns:?}");
    }
    assert_eq!(rest(&[ENVELOPE, [3_299, 0]]).before, Standing::Owing);
    // One and two of the three replies to an envelope, in one record.
    for answered in [36, 50] {
        let part = [&whole[..], &[[110, answered]]].concat();
        assert_ne!(rest(&part).now, Standing::Settled, "{answered}");
    }
}
