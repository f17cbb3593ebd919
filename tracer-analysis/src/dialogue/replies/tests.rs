//! Dialogues whose truth is known: each server in its own words, each client in its own way to write.

use proptest::prelude::*;
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
        dialogue.greeted(MILLISECOND);
        feed(&mut dialogue, &turns, &said);
        dialogue.finish(false)
    }
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

#[test]
fn bdat_is_counted_exactly_where_the_server_names_the_message() {
    for name in ["Postfix", "Exim", "Microsoft", "Sendmail"] {
        for way in WAYS {
            for body in [20, 300, 5_000] {
                let by = server(name);
                let one = Session::begin().message(by, way, body);
                let three = one.message(by, way, body).says(6, by.rset).message(by, way, body);
                assert_eq!(count(&three.quit()), (Some(3), true), "{name} {way:?} {body}");
                let one = Session::begin().message(by, way, body).quit();
                assert_eq!(count(&one), (Some(1), true), "{name} {way:?} {body}");
            }
        }
    }
}

/// The last message may have been a chunk after which the client gave up: nobody does, but who knows.
#[test]
fn bdat_is_likely_where_the_last_message_may_have_been_a_chunk() {
    let by = server("Google");
    for (way, body) in WAYS.into_iter().flat_map(|way| [(way, 500), (way, 3_000)]) {
        let two = Session::begin().message(by, way, body).message(by, way, body);
        let three = two.message(by, way, body).quit();
        assert_eq!(count(&three), (Some(3), false), "{way:?} {body}");
    }
    // A MAIL that is accepted proves that the message before it was complete.
    let session = Session::begin().message(by, Way::Single, 3_000).says(30, by.mail).quit();
    assert_eq!(count(&session), (Some(1), true));
}

#[test]
fn terse_server_is_told_apart_by_lengths_or_not_at_all() {
    let by = server("terse");
    for (body, expected) in [(3_000, (Some(2), false)), (60, (None, false))] {
        let one = Session::begin().message(by, Way::Single, body);
        assert_eq!(count(&one.message(by, Way::Single, body).quit()), expected, "{body}");
    }
    // Two recipients, or one and a short message.
    let short = Session::begin().group(150, &[by.mail, by.rcpt, by.taken]).quit();
    assert_eq!(count(&short), (None, false));
}

#[test]
fn data_is_counted_exactly_whatever_is_offered() {
    for by in &SERVERS {
        let message =
            |it: Session, last: &str| it.group(90, &[by.mail, by.rcpt, "354 Go"]).says(900, last);
        let taken = message(Session::begin(), by.taken).says(6, by.rset);
        let refused = message(taken, "554 5.7.1 Spam").quit();
        assert_eq!(count(&refused), (Some(2), true), "{}", by.name);
        let nobody = Session::begin().group(90, &[by.mail, by.no_rcpt, by.no_data]);
        let then = message(nobody.says(6, by.rset), by.taken).quit();
        assert_eq!(count(&then), (Some(1), true), "{}", by.name);
    }
}

#[test]
fn without_the_offer_nobody_uses_bdat() {
    for ehlo in ["250 mx", "250-mx\r\n250 PIPELINING"] {
        let by = server("terse");
        let session = Session::default().says(16, ehlo).message(by, Way::Single, 3_000).quit();
        assert_eq!(count(&session), (Some(0), true), "they were recipients, or RSET");
    }
    let helo = Session::default().says(16, "500 What?").says(16, "250 mx");
    let helo = helo.says(30, "250 OK").says(30, "250 OK").says(6, "354 Go").says(90, "250 OK");
    assert_eq!(count(&helo.quit()), (Some(1), true));
}

#[test]
fn envelope_without_a_message_carries_none() {
    for name in ["Postfix", "Microsoft", "Google", "Sendmail"] {
        let by = server(name);
        let verified = Session::begin().says(30, by.mail).says(30, by.rcpt).says(6, by.rset);
        assert_eq!(count(&verified.quit()), (Some(0), true), "{name}");
        let many = Session::begin().group(300, &[by.mail, by.rcpt, by.rcpt, by.rcpt]);
        assert_eq!(count(&many.says(6, by.rset).quit()), (Some(0), true), "{name}");
        let refused = Session::begin().says(30, by.mail).says(30, by.no_rcpt).says(6, by.rset);
        assert_eq!(count(&refused.quit()), (Some(0), true), "{name}");
    }
}

#[test]
fn refused_bodies_count() {
    let by = server("Postfix");
    let envelope = || Session::begin().group(60, &[by.mail, by.rcpt]);
    let refused = envelope().says(2_000, "554 5.7.1 Spam");
    // Too long for a recipient. It may have been a chunk that was not the last.
    assert_eq!(count(&refused.quit()), (None, false));
    let chunked = envelope().says(4_000, by.chunk).says(4_000, by.taken).says(6, by.rset);
    assert_eq!(count(&chunked.quit()), (Some(1), true), "a chunk is no message");
}

#[test]
fn server_that_hangs_up() {
    let data = || Session::begin().group(60, &["250 2.1.0 Ok", "250 2.1.5 Ok", "354 Go"]);
    // The answer to the body: refused for now.
    assert_eq!(count(&data().says(900, "421 4.3.2 Shutting down")), (Some(1), true));
    assert_eq!(count(&data().says(900, "421 busy")), (Some(1), true));
    // It waited for the end of the body in vain.
    assert_eq!(count(&data().says(900, "421 4.4.2 Timeout exceeded")), (Some(0), true));
    for text in ["421 4.4.2 Timeout exceeded", "421 4.7.0 Too much"] {
        let by = server("Exim");
        let idle = Session::begin().message(by, Way::Whole, 3_000).group(0, &[text]);
        assert_eq!(count(&idle), (Some(1), true), "{text}");
    }
    let by = server("Postfix");
    let envelope = Session::begin().group(60, &[by.mail, by.rcpt]);
    assert_eq!(count(&envelope.says(30, "421 4.7.0 Slow down")).0, Some(0));
    let body = Session::begin().message(by, Way::Apart, 3_000).group(60, &[by.mail, by.rcpt]);
    assert_eq!(count(&body.says(3_000, "421 4.7.0 Slow down")), (Some(2), false));
}

/// One final reply per recipient: whatever the count, it is not more than there were messages.
#[test]
fn lmtp_does_not_run_wild() {
    let by = server("Postfix");
    let data = Session::begin().group(90, &[by.mail, by.rcpt, by.rcpt, "354 Go"]);
    let data = data.group(900, &["250 2.0.0 <b> Saved", "250 2.0.0 <c> Saved"]).quit();
    assert_eq!(count(&data), (Some(1), true));
    let bdat = Session::begin().group(60, &[by.mail, by.rcpt, by.rcpt]);
    let bdat = bdat.group(900, &[by.taken, by.taken]).quit();
    assert!(matches!(count(&bdat).0, None | Some(1)));
}

/// The server replies to the envelope while the client is still writing the body.
#[test]
fn body_in_several_turns() {
    for name in ["Postfix", "Exim", "Microsoft"] {
        let by = server(name);
        let long = Session::begin().group(8_192, &[by.mail, by.rcpt]).says(90_000, by.taken);
        let three = long.group(8_192, &[by.mail]).group(8_192, &[by.rcpt]).says(900, by.taken);
        assert_eq!(count(&three.quit()), (Some(2), true), "{name}");
    }
}

#[test]
fn commands_around_messages() {
    let by = server("Exim");
    let auth = Session::begin().says(12, "334 VXNlcm5hbWU6").says(1_500, "235 ok");
    let noop = auth.says(6, "250 OK").message(by, Way::Whole, 700).says(6, "250 OK");
    assert_eq!(count(&noop.message(by, Way::Chunks, 700).quit()), (Some(2), true));
    // RSET rides with the next envelope.
    let kumo = Session::begin().message(by, Way::Apart, 700);
    let kumo = kumo.group(66, &[by.rset, by.mail, by.rcpt]).says(900, by.taken);
    assert_eq!(count(&kumo.quit()), (Some(2), true));
    // QUIT rides with the last message.
    let last = Session::begin().group(900, &[by.mail, by.rcpt, by.taken, "221 Bye"]);
    assert_eq!(count(&last), (Some(1), true));
    // Many recipients, all accepted in the same words.
    let mut replies = vec![by.mail];
    replies.extend([by.rcpt; 100]);
    replies.push(by.taken);
    assert_eq!(count(&Session::begin().group(9_000, &replies).quit()).0, Some(1));
}

#[test]
fn times_of_transactions() {
    let by = server("Exim");
    let second = 1_000 * MILLISECOND;
    let apart = Session::begin().message(by, Way::Apart, 700).quit().told();
    assert_eq!(
        apart.times.unwrap(),
        [Transaction {
            begin_ns: 2 * second,
            ready_ns: Some(3 * second),
            sent_ns: 3 * second + 1_000,
            end_ns: 3 * second + MILLISECOND,
        }]
    );
    let whole = Session::begin().message(by, Way::Whole, 700).quit().told();
    assert_eq!(
        whole.times.unwrap(),
        [Transaction {
            begin_ns: 2 * second,
            ready_ns: None,
            sent_ns: 2 * second + 1_000,
            end_ns: 2 * second + 3 * MILLISECOND,
        }]
    );
    let data = Session::begin().group(60, &[by.mail, by.rcpt, "354 Go"]).says(900, by.taken);
    assert_eq!(
        data.told().times.unwrap(),
        [Transaction {
            begin_ns: 2 * second,
            ready_ns: Some(2 * second + 3 * MILLISECOND),
            sent_ns: 3 * second + 1_000,
            end_ns: 3 * second + MILLISECOND,
        }]
    );
}

#[test]
fn phases() {
    let session = Session::begin().says(12, "334 x").says(20, "334 y").says(20, "535 5.7.8 No");
    let phases = session.told().phases;
    assert_eq!(phases.ehlo_ns, Some(MILLISECOND));
    assert_eq!(phases.auth_ns, Some(2_001 * MILLISECOND));
    let plain = Session::begin().says(12, "535 No").says(30, "235 Yes").says(10, "220 Go");
    assert_eq!(plain.told().phases.auth_ns, Some(MILLISECOND));
    assert_eq!(plain.told().phases.starttls_ns, Some(MILLISECOND));
    // EHLO was written before the greeting came.
    let early = Session::begin().says(30, "250 ok").told_in(|dialogue, turns, said| {
        *dialogue = Dialogue::default();
        dialogue.greeted(turns[0].start_ns + 1);
        replies(dialogue, said);
        writes(dialogue, turns);
    });
    assert_eq!(early.phases.ehlo_ns, None);
}

#[test]
fn memory_is_bounded() {
    let by = server("Exim");
    let mut session = Session::begin();
    for _ in 0..600 {
        session = session.message(by, Way::Whole, 700);
    }
    let told = session.told();
    assert_eq!((told.transactions, told.exact), (Some(600), true));
    assert_eq!(told.times.unwrap().len(), 256);
    // No replies at all, and nothing but replies.
    let silent = session.told_in(|dialogue, turns, _| writes(dialogue, turns));
    assert_eq!(silent, Told { transactions: Some(0), exact: true, ..Told::default() });
    let flood = session.told_in(|dialogue, _, said| {
        for _ in 0..100 {
            replies(dialogue, said);
        }
    });
    assert_eq!((flood.transactions, flood.times), (None, None));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    /// Whatever buffer is read first, and however far, the result is the same.
    #[test]
    fn order_of_buffers_does_not_matter(
        messages in prop::collection::vec((0..5_usize, 20..4_000_u32), 0..12),
        server in 0..SERVERS.len(),
        steps in prop::collection::vec((0..2_usize, 0..3_usize), 0..40),
    ) {
        let mut session = Session::begin();
        for (way, body) in messages {
            session = session.message(&SERVERS[server], WAYS[way], body);
        }
        let session = session.quit();
        let expected = session.told();
        let told = session.told_in(|dialogue, turns, said| {
            let (mut at, mut reply) = (0, 0);
            for (turns_read, replies_read) in steps.iter().copied().chain([(99, 99)]) {
                for turn in turns.iter().skip(at).take(turns_read) {
                    dialogue.turn(turn);
                }
                for said in said.iter().skip(reply).take(replies_read) {
                    dialogue.reply(*said);
                }
                (at, reply) = (at + turns_read, reply + replies_read);
            }
        });
        prop_assert_eq!(told, expected);
    }

    /// Exact means exact, and likely is seldom anything else: never more than the truth here.
    #[test]
    fn counts_are_true(
        messages in prop::collection::vec((0..5_usize, 70..9_000_u32, any::<bool>()), 0..8),
        server in 0..SERVERS.len(),
    ) {
        let by = &SERVERS[server];
        let mut session = Session::begin();
        let truth = u32::try_from(messages.len()).unwrap();
        for (way, body, rset) in messages {
            session = session.message(by, WAYS[way], body);
            if rset {
                session = session.says(6, by.rset);
            }
        }
        let (told, exact) = count(&session.quit());
        prop_assert!(told.is_none_or(|told| told == truth), "{told:?} {exact} of {truth}");
    }

    #[test]
    fn any_dialogue_is_read_without_panic(
        exchanges in prop::collection::vec(
            (any::<u32>(), prop::collection::vec((0..14_usize, any::<bool>()), 0..6)), 0..30),
    ) {
        let words = [
            "220 x", "221 x", "235 x", "250 OK", "250 2.1.5 OK", "250 2.1.0 OK", "250 queued",
            "250 2.0.0 OK", "334 x", "354 x", "421 4.4.2 x", "421 x", "450 x", "550 5.1.1 x",
        ];
        let mut session = Session::begin();
        for (bytes, replies) in exchanges {
            let texts: Vec<&str> = replies.iter().map(|(at, _)| words[*at]).collect();
            let bytes = if replies.first().is_some_and(|it| it.1) { bytes } else { bytes % 200 };
            session = session.group(bytes, &texts);
        }
        let told = session.told();
        prop_assert!(told.transactions.is_some() || !told.exact);
    }
}
