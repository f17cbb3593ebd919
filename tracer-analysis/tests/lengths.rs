//! Counts inferred from lengths, against sessions whose counts are known.

#![expect(clippy::unwrap_used, reason = "a test may fail by panic")]

mod captures;

use std::collections::BTreeMap;

use captures::{Cut, connections};
use proptest::prelude::*;
use serde::Deserialize;
use tracer_analysis::{
    dialogue::lengths::{Inference, Lengths, Server},
    mta::Mta,
    smtp::{ReplyParser, Step},
};
use tracer_common::record::Turn;

const MILLISECOND: u64 = 1_000_000;

/// Most wrong counts among those given, in thousandths.
const WRONG_PER_MILLE: u32 = 3;

/// First line of the corpus.
#[derive(Deserialize)]
struct Names {
    /// The names of variations.
    tags: Vec<String>,
    /// What servers said before TLS.
    texts: Vec<String>,
}

/// One session of the corpus.
#[derive(Deserialize)]
struct Session {
    /// Messages handed over, by the server's count.
    n: u32,
    /// Turn of the `ClientHello`.
    hello: usize,
    /// Variations, as places in [`Names::tags`].
    tags: Vec<usize>,
    /// Greeting and reply to EHLO, as places in [`Names::texts`]; none with implicit TLS.
    clear: Vec<usize>,
    /// Bytes of client and server by turns.
    turns: Vec<u32>,
}

fn turn(at: usize, client_bytes: u32, server_bytes: u32) -> Turn {
    let start_ns = (at as u64 + 1) * MILLISECOND;
    let first_byte_ns = if server_bytes == 0 { 0 } else { start_ns + 1_000 };
    let (last_write_ns, last_ns) = (start_ns, start_ns + 1_000);
    Turn { start_ns, first_byte_ns, last_write_ns, last_ns, client_bytes, server_bytes }
}

/// A server that said `clear` before TLS.
fn server(clear: impl IntoIterator<Item = u8>) -> Server {
    let (mut parser, mut server) = (ReplyParser::new(), Server::default());
    for byte in clear {
        if let Some(Step::Reply(reply)) = parser.feed(byte) {
            server.reply(&reply);
        }
    }
    server
}

fn infer(turns: &[Turn], hello: usize, server: &Server, client: Option<Mta>) -> Inference {
    let mut lengths = Lengths::new();
    lengths.opened_by(client);
    lengths.tls_begins(turns[hello].first_byte_ns, server);
    for turn in turns {
        lengths.turn(turn);
    }
    lengths.finish()
}

/// The mail server that opened a session with these tags, if its process would have a known name.
fn client(tags: &[&str]) -> Option<Mta> {
    let name = tags.iter().find_map(|tag| tag.strip_prefix("client-"))?;
    serde_json::from_value(name.into()).ok()
}

/// How many sessions of one variation were counted right, wrong and not at all.
#[derive(Default, Debug, Clone, Copy, PartialEq, Eq)]
struct Score {
    right: u32,
    none: u32,
    wrong: u32,
}

fn scores() -> BTreeMap<String, Score> {
    let mut scores: BTreeMap<String, Score> = BTreeMap::new();
    let corpus = include_str!("captures/corpus.jsonl");
    let mut lines = corpus.lines();
    let names: Names = serde_json::from_str(lines.next().unwrap()).unwrap();
    for line in lines {
        let session: Session = serde_json::from_str(line).unwrap();
        let pairs = session.turns.chunks_exact(2).enumerate();
        let turns: Vec<Turn> = pairs.map(|(at, it)| turn(at, it[0], it[1])).collect();
        let clear = session.clear.iter().flat_map(|text| names.texts[*text].bytes());
        let tags: Vec<&str> = session.tags.iter().map(|tag| names.tags[*tag].as_str()).collect();
        let inferred = infer(&turns, session.hello, &server(clear), client(&tags));
        assert!(!inferred.exact);
        for tag in tags.into_iter().chain(["all"]) {
            let score = scores.entry(tag.to_owned()).or_default();
            match inferred.transactions {
                None => score.none += 1,
                Some(count) if count == session.n => score.right += 1,
                Some(_) => score.wrong += 1,
            }
        }
        if let Some(count) = inferred.transactions {
            let spans = u32::try_from(inferred.spans.len()).unwrap() + inferred.spans_omitted;
            assert_eq!(spans, count, "a span for each message");
        } else {
            assert!(inferred.reason.is_some());
        }
    }
    scores
}

/// The table of `docs/inference.md`.
fn table(scores: &BTreeMap<String, Score>) -> String {
    let rows = scores.iter().map(|(tag, it)| {
        let sessions = it.right + it.none + it.wrong;
        let share = f64::from(it.right) * 100.0 / f64::from(sessions);
        format!("| {tag} | {sessions} | {} | {} | {} | {share:.1} |\n", it.right, it.none, it.wrong)
    });
    rows.collect()
}

#[test]
fn corpus_is_counted_as_published() {
    let scores = scores();
    let table = table(&scores);
    println!("{table}");
    let all = scores["all"];
    assert!(all.wrong * 1_000 <= (all.right + all.wrong) * WRONG_PER_MILLE, "{all:?}");
    let published = include_str!("../../docs/inference.md");
    assert!(published.contains(&table), "docs/inference.md is not what was measured:\n{table}");
}

/// What is inferred of sessions that `client` opened.
fn counts(pcap: &[u8], client: Option<Mta>) -> Vec<Option<u32>> {
    let encrypted = connections(pcap).into_iter().filter_map(|cut| {
        let hello = cut.hello?;
        let turns: Vec<Turn> = cut.turns.iter().map(|it| it.turn).collect();
        Some(infer(&turns, hello, &server(cut.clear), client).transactions)
    });
    encrypted.collect()
}

#[test]
fn real_servers_are_counted() {
    for client in [None, Some(Mta::Postfix)] {
        // Postfix, a handshake per message; Postfix, four messages over one connection.
        assert_eq!(counts(include_bytes!("captures/t1.pcap"), client), [Some(1); 4]);
        assert_eq!(counts(include_bytes!("captures/t2.pcap"), client), [Some(4)]);
        // A cached connection that a box forgot: RSET got no answer, the next message a new connection.
        assert_eq!(counts(include_bytes!("captures/tm_drop.pcap"), client), [Some(1); 2]);
        assert_eq!(counts(include_bytes!("captures/tm_rst.pcap"), client), [Some(1); 2]);
    }
    // OpenSMTPD, no pipelining.
    for client in [None, Some(Mta::Opensmtpd)] {
        assert_eq!(counts(include_bytes!("captures/o2.pcap"), client), [Some(5)]);
    }
}

#[test]
fn real_servers_are_never_miscounted() {
    let right_or_none = |pcap: &[u8], truth: &[u32]| {
        for client in [None, Some(Mta::Exim)] {
            let counts = counts(pcap, client);
            println!("{client:?}: {counts:?}");
            assert_eq!(counts.len(), truth.len());
            for (count, truth) in counts.iter().zip(truth) {
                assert!(count.is_none_or(|count| count == *truth), "{counts:?}");
            }
        }
    };
    // Exim with BDAT and short bodies, one turn per message; 421 into an idle session.
    right_or_none(include_bytes!("captures/e2.pcap"), &[4]);
    right_or_none(include_bytes!("captures/e3.pcap"), &[1; 4]);
    right_or_none(include_bytes!("captures/x3t.pcap"), &[1; 2]);
}

/// The cleartext session as TLS 1.3 would have carried it: a record per segment.
fn encrypt(clear: &Cut) -> Vec<Turn> {
    const OVERHEAD: u32 = 22;
    let ehlo = clear.turns[0].turn;
    let start = [(ehlo.client_bytes, 165), (10, 30), (517, 1337), (80, 255)];
    let records = clear.turns.iter().map(|it| {
        let client = it.turn.client_bytes + it.client_segments * OVERHEAD;
        (client, it.turn.server_bytes + it.server_segments * OVERHEAD)
    });
    let all = start.into_iter().chain(records).enumerate();
    all.map(|(at, (client, server))| turn(at, client, server)).collect()
}

#[test]
fn cleartext_sessions_count_the_same_when_encrypted() {
    let count = |pcap: &[u8]| infer(&encrypt(&connections(pcap)[0]), 2, &Server::default(), None);
    let postfix = count(include_bytes!("captures/b1b.pcap"));
    assert_eq!((postfix.transactions, postfix.overhead), (Some(12), Some(22)));
    assert_eq!(count(include_bytes!("captures/o1.pcap")).transactions, Some(5));
    assert_eq!(count(include_bytes!("captures/e1.pcap")).transactions, Some(6));
}

#[test]
fn hello_may_be_announced_after_its_turn() {
    let cut = &connections(include_bytes!("captures/t2.pcap"))[0];
    let hello = cut.turns[cut.hello.unwrap()].turn;
    let mut lengths = Lengths::new();
    for it in &cut.turns {
        lengths.turn(&it.turn);
    }
    lengths.tls_begins(hello.first_byte_ns, &server(cut.clear.iter().copied()));
    let inferred = lengths.finish();
    assert_eq!((inferred.transactions, inferred.overhead), (Some(4), Some(22)));
    let (begin, end) = inferred.handshake.unwrap();
    assert!(begin == hello.start_ns && end > hello.first_byte_ns);
    assert!(inferred.spans.iter().all(|span| span[0] > end && span[1] > span[0]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_turns_are_read_without_panic(
        turns in prop::collection::vec((any::<u32>(), any::<u32>()), 0..40),
        short in prop::collection::vec((0..200_u32, 0..200_u32), 0..120),
        hello in 0..4_u64,
        greeting in "220 [a-z.]{1,9} ESMTP( Postfix| Exim 4| Sendmail 8| OpenSMTPD| [a-z0-9]{0,60} - gsmtp)?\r\n",
        ehlo in "250-a\r\n(250-PIPELINING\r\n)?(250-CHUNKING\r\n)?(250-AUTH PLAIN\r\n)?250 HELP\r\n",
    ) {
        let clear = greeting.bytes().chain(ehlo.bytes());
        let mut lengths = Lengths::new();
        lengths.tls_begins(hello * MILLISECOND, &server(clear));
        let session = [(17, 161), (10, 30), (517, 1337), (80, 255), (39, 169)];
        for (at, (client, server)) in session.into_iter().chain(short).chain(turns).enumerate() {
            lengths.turn(&turn(at, client, server));
        }
        let inferred = lengths.finish();
        prop_assert!(inferred.spans.len() <= 256 && !inferred.exact);
        prop_assert_eq!(inferred.transactions.is_none(), inferred.reason.is_some());
    }
}

#[test]
fn long_sessions_keep_bounded_memory() {
    let mut turns = vec![turn(0, 17, 161), turn(1, 10, 30), turn(2, 517, 1337)];
    turns.extend([turn(3, 80, 255), turn(4, 39, 169)]);
    for at in 0..1_000 {
        let at = 5 + 3 * at;
        turns.extend([turn(at, 110, 87), turn(at + 1, 3_299, 59), turn(at + 2, 28, 36)]);
    }
    let inferred = infer(&turns, 2, &Server::default(), None);
    assert_eq!(inferred.transactions, Some(1_000));
    assert_eq!((inferred.spans.len(), inferred.spans_omitted), (256, 744));
}
