//! Any turns after any cleartext: no panic, the promises of the inference hold.
//!
//! The input is the cleartext up to a zero byte, then turns: lengths of client and server, two
//! bytes each, little-endian, the highest bit times 4096.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_analysis::{
    dialogue::lengths::{Lengths, Server},
    smtp::{ReplyParser, Step},
};
use tracer_common::record::Turn;

/// EHLO, STARTTLS, hello, flight, EHLO: without them few inputs would reach the grammar.
const OPENING: [(u32, u32); 5] = [(17, 165), (10, 30), (517, 1337), (80, 255), (39, 169)];

fn length(bytes: [u8; 2]) -> u32 {
    let word = u32::from(u16::from_le_bytes(bytes));
    if word & 0x8000 == 0 { word } else { (word & 0x7fff) << 12 }
}

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let (Some(clear), Some(turns)) = (parts.next(), parts.next()) else { return };
    let (mut parser, mut server) = (ReplyParser::new(), Server::default());
    for byte in clear {
        if let Some(Step::Reply(reply)) = parser.feed(*byte) {
            server.reply(&reply);
        }
    }
    let turns = turns.chunks_exact(4).map(|it| (length([it[0], it[1]]), length([it[2], it[3]])));
    let with_opening = clear.len() % 2 == 0;
    let opening = OPENING.into_iter().filter(|_| with_opening);
    let mut lengths = Lengths::new();
    lengths.tls_begins(3_000, &server);
    for ((client_bytes, server_bytes), at) in opening.chain(turns).zip(1_u64..) {
        let start_ns = at * 1_000;
        let first_byte_ns = if server_bytes == 0 { 0 } else { start_ns + 1 };
        let (last_write_ns, last_ns) = (start_ns, start_ns + 1);
        lengths.turn(&Turn {
            start_ns,
            first_byte_ns,
            last_write_ns,
            last_ns,
            client_bytes,
            server_bytes,
        });
    }
    let inferred = lengths.finish();
    assert!(!inferred.exact && inferred.spans.len() <= 256);
    match inferred.transactions {
        Some(count) => {
            assert_eq!(
                inferred.spans.len() as u64 + u64::from(inferred.spans_omitted),
                u64::from(count)
            );
        }
        None => assert!(inferred.reason.is_some() && inferred.spans.is_empty()),
    }
});
