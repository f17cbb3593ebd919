//! Any bytes as a server's cleartext stream: no panic, replies within their bounds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_analysis::{
    dialogue::lengths::Server,
    smtp::{ReplyParser, Step},
};

fuzz_target!(|bytes: &[u8]| {
    let (mut parser, mut server) = (ReplyParser::new(), Server::default());
    for byte in bytes {
        match parser.feed(*byte) {
            None | Some(Step::NotAReply) => {}
            Some(Step::Tls) => return,
            Some(Step::Reply(reply)) => {
                assert!((200..600).contains(&reply.code));
                assert!(reply.first.len() <= 512 && reply.last.len() <= 512);
                assert!(reply.bytes as usize <= bytes.len());
                server.reply(&reply);
            }
        }
    }
});
