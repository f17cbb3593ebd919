//! Dialogues whose truth is known: each server in its own words, each client in its own way to write.

mod any;
mod counts;
mod times;

use tracer_common::record::Turn;

use super::*;
use crate::smtp::{ReplyParser, Step};

const MILLISECOND: u64 = 1_000_000;

/// How a server answers. `{n}` is a number of bytes, `{q}` a queue id.
struct Server {
    name: &'static str,
    mail: &'static str,
    rcpt: &'static str,
    chunk: &'static str,
    taken: &'static str,
    rset: &'static str,
    no_rcpt: &'static str,
    no_data: &'static str,
}

const SERVERS: [Server; 6] = [
    Server {
        name: "Postfix",
        mail: "250 2.1.0 Ok",
        rcpt: "250 2.1.5 Ok",
        chunk: "250 2.0.0 Ok: {n} bytes",
        taken: "250 2.0.0 Ok: queued as {q}",
        rset: "250 2.0.0 Ok",
        no_rcpt: "550 5.1.1 <b@x>: Recipient address rejected: User unknown",
        no_data: "554 5.5.1 Error: no valid recipients",
    },
    Server {
        name: "Exim",
        mail: "250 OK",
        rcpt: "250 Accepted",
        chunk: "250 {n} byte chunk received",
        taken: "250- {n} byte chunk, total {n}\r\n250 OK id={q}",
        rset: "250 Reset OK",
        no_rcpt: "550 relay not permitted",
        no_data: "503 Valid RCPT command must precede BDAT",
    },
    Server {
        name: "Microsoft",
        mail: "250 2.1.0 Sender OK",
        rcpt: "250 2.1.5 Recipient OK",
        chunk: "250 2.6.0 CHUNK received OK, {n} octets",
        taken: "250 2.6.0 <{q}@x> [InternalId=1, Hostname=x] {n} bytes in 0.1, 4 KB/sec Queued mail for delivery",
        rset: "250 2.0.0 Resetting",
        no_rcpt: "550 5.4.1 Recipient address rejected: Access denied",
        no_data: "503 5.5.2 Need rcpt command",
    },
    Server {
        name: "Google",
        mail: "250 2.1.0 OK {q} - gsmtp",
        rcpt: "250 2.1.5 OK {q} - gsmtp",
        chunk: "250 2.0.0 OK {n} {q} - gsmtp",
        taken: "250 2.0.0 OK  1700000000 {q} - gsmtp",
        rset: "250 2.1.5 Flushed {q} - gsmtp",
        no_rcpt: "550-5.1.1 The account does not exist\r\n550 5.1.1 {q} - gsmtp",
        no_data: "503 5.5.1 RCPT first. {q} - gsmtp",
    },
    Server {
        name: "Sendmail",
        mail: "250 2.1.0 <a@x>... Sender ok",
        rcpt: "250 2.1.5 <b@x>... Recipient ok",
        chunk: "250 2.0.0 {n} octets",
        taken: "250 2.0.0 {q} Message accepted for delivery",
        rset: "250 2.0.0 Reset state",
        no_rcpt: "550 5.1.1 <b@x>... User unknown",
        no_data: "503 5.0.0 Need RCPT (recipient)",
    },
    Server {
        name: "terse",
        mail: "250 OK",
        rcpt: "250 OK",
        chunk: "250 OK",
        taken: "250 OK",
        rset: "250 OK",
        no_rcpt: "550 No",
        no_data: "503 No",
    },
];

fn server(name: &str) -> &'static Server {
    SERVERS.iter().find(|it| it.name == name).unwrap()
}

fn replies(dialogue: &mut Dialogue, said: &[Said]) {
    for said in said {
        dialogue.reply(*said);
    }
}

fn writes(dialogue: &mut Dialogue, turns: &[Turn]) {
    for turn in turns {
        dialogue.turn(turn);
    }
}

/// A session: what the client wrote in each turn, and what the server said to it.
#[derive(Default)]
struct Session {
    exchanges: Vec<(u32, String)>,
}

const EHLO: &str = "250-mx\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250 CHUNKING";

impl Session {
    fn begin() -> Self {
        Self::default().says(16, EHLO)
    }

    fn says(mut self, bytes: u32, reply: &str) -> Self {
        let number = 1_000 + self.exchanges.len();
        let reply =
            reply.replace("{n}", &number.to_string()).replace("{q}", &format!("4F{number}"));
        self.exchanges.push((bytes, format!("{reply}\r\n")));
        self
    }

    /// One exchange of several replies.
    fn group(self, bytes: u32, replies: &[&str]) -> Self {
        self.says(bytes, &replies.join("\r\n"))
    }

    fn quit(self) -> Self {
        self.says(6, "221 Bye")
    }

    fn told(&self) -> Told {
        self.told_in(|dialogue, turns, said| {
            replies(dialogue, said);
            writes(dialogue, turns);
        })
    }

    /// Turns at 1 s, 2 s, ...: a reply begins 1 ms after the turn, and each further one 1 ms later.
    fn told_in(&self, feed: impl Fn(&mut Dialogue, &[Turn], &[Said])) -> Told {
        let (mut turns, mut said) = (Vec::new(), Vec::new());
        let mut parser = ReplyParser::new();
        for (at, (client_bytes, text)) in self.exchanges.iter().enumerate() {
            let start_ns = (at as u64 + 1) * 1_000 * MILLISECOND;
            let mut now_ns = start_ns + MILLISECOND;
            turns.push(Turn {
                start_ns,
                first_byte_ns: now_ns,
                last_write_ns: start_ns + 1_000,
                last_ns: now_ns,
                client_bytes: *client_bytes,
                server_bytes: u32::try_from(text.len()).unwrap(),
            });
            for byte in text.bytes() {
                if let Some(Step::Reply(reply)) = parser.feed(byte) {
                    said.push(Said::new(&reply, now_ns, now_ns));
                    now_ns += MILLISECOND;
                }
            }
        }
        let mut dialogue = Dialogue::default();
        dialogue.greeted(&greeting("220 mx"), MILLISECOND);
        feed(&mut dialogue, &turns, &said);
        dialogue.finish(false)
    }
}

fn greeting(text: &str) -> Reply {
    let mut parser = ReplyParser::new();
    let step = format!("{text}\r\n").bytes().find_map(|byte| parser.feed(byte));
    let Some(Step::Reply(reply)) = step else { panic!("{text} is not a reply") };
    reply
}

/// Count, and whether it is exact.
fn count(session: &Session) -> (Option<u32>, bool) {
    let told = session.told();
    if let (Some(count), Some(times)) = (told.transactions, &told.times) {
        assert_eq!(times.len(), count.min(256) as usize);
        assert!(times.iter().all(|it| it.begin_ns > 0 && it.begin_ns < it.end_ns));
    }
    (told.transactions, told.exact)
}

/// How a client writes a message that goes by BDAT.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Envelope, BDAT and body in one write (Exim).
    Whole,
    /// The envelope in one write, then BDAT with the body.
    Apart,
    /// Each command alone.
    Single,
    /// The envelope in one write, then two chunks.
    Chunks,
    /// Envelope and a first chunk in one write, then the last chunk.
    WholeChunks,
}

const WAYS: [Way; 5] = [Way::Whole, Way::Apart, Way::Single, Way::Chunks, Way::WholeChunks];

impl Session {
    fn message(self, by: &Server, way: Way, body: u32) -> Self {
        let (mail, rcpt, chunk, taken) = (by.mail, by.rcpt, by.chunk, by.taken);
        match way {
            Way::Whole => self.group(75 + body, &[mail, rcpt, taken]),
            Way::Apart => self.group(60, &[mail, rcpt]).says(15 + body, taken),
            Way::Single => self.says(30, mail).says(30, rcpt).says(15 + body, taken),
            Way::Chunks => {
                self.group(60, &[mail, rcpt]).says(10 + body, chunk).says(15 + body, taken)
            }
            Way::WholeChunks => self.group(70 + body, &[mail, rcpt, chunk]).says(15 + body, taken),
        }
    }
}
