//! Phases of a session, and messages that come by BDAT, against scripts.

use std::{thread, time::Duration};

use serde_json::json;
use tests::{
    lab::Lab,
    needs, pace,
    postfix::{self, Postfix, Starttls},
    recording::Record,
    report,
    server::{Script, Server, Step},
    session::Session,
    tracer::{self, Run, Tracer},
};

/// How much longer than its pause a phase may take.
const SLACK_US: u64 = 100_000;

const fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

#[track_caller]
fn check_pause(record: &Record, field: &str, value: Option<u64>, pause: u64) {
    let value = value.unwrap_or_else(|| panic!("{field} is null: {}", record.json()));
    let pause_us = pause * 1_000;
    let fits = (pause_us..pause_us + pace::wider(SLACK_US)).contains(&value);
    assert!(fits, "{field} is {value}, the pause was {pause} ms: {}", record.json());
}

fn element(record: &Record, field: &str, at: usize) -> Option<u64> {
    record.field(field).unwrap()[at].as_u64()
}

/// Traces one session that `client` makes with a server that plays `script`.
fn trace(lab: &Lab, script: Script, client: impl FnOnce(Session)) -> Run {
    let server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
    let tracer = Tracer::start(lab).unwrap();
    client(Session::connect(&lab.client, lab.server_v4()).unwrap());
    lab.wait_for_ends(Duration::from_secs(15)).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    assert_eq!(server.failures(), Vec::<String>::new());
    run
}

#[test]
fn each_phase_shows_its_own_pause() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let script = Script::default()
        .pause(ms(300))
        .send("220 slow.test ESMTP\r\n")
        .then(Step::Command)
        .pause(ms(400))
        .send("250-slow.test\r\n250-CHUNKING\r\n250 AUTH PLAIN\r\n")
        .then(Step::Command)
        .pause(ms(500))
        .send("235 2.7.0 ok\r\n")
        .then(Step::Command)
        .send("250 2.1.0 Ok\r\n")
        .then(Step::Command)
        .send("250 2.1.5 Ok\r\n")
        .then(Step::Command)
        .pause(ms(600))
        .send("354 go\r\n")
        .then(Step::Command)
        .then(Step::Command)
        .then(Step::Command)
        .pause(ms(700))
        .send("250 2.0.0 Ok: queued as 1\r\n")
        .then(Step::Command)
        .send("221 bye\r\n");
    let run = trace(&lab, script, |mut session| {
        session.reply().unwrap();
        session.command("EHLO client.test", "250").unwrap();
        thread::sleep(ms(200)); // idle: part of no phase
        session.command("AUTH PLAIN AGEAYg==", "235").unwrap();
        session.command("MAIL FROM:<a@client.test>", "250").unwrap();
        session.command("RCPT TO:<b@slow.test>", "250").unwrap();
        session.command("DATA", "354").unwrap();
        session.send(b"Subject: first part\r\n").unwrap();
        thread::sleep(ms(350));
        session.command("second part\r\n.", "250").unwrap();
        session.quit().unwrap();
    });
    let record = run.recording.single().unwrap();
    check_pause(record, "greeting_us", record.number("greeting_us").unwrap(), 300);
    check_pause(record, "ehlo_us", record.number("ehlo_us").unwrap(), 400);
    check_pause(record, "auth_us", record.number("auth_us").unwrap(), 500);
    check_pause(record, "envelope_us", element(record, "envelope_us", 0), 600);
    check_pause(record, "body_us", element(record, "body_us", 0), 350);
    check_pause(record, "final_reply_us", element(record, "final_reply_us", 0), 700);
    let span = &record.field("transaction_spans_us").unwrap()[0];
    let length = span[1].as_u64().unwrap() - span[0].as_u64().unwrap();
    check_pause(record, "transaction", Some(length), 600 + 350 + 700);
    // Greeting, EHLO, idle time and AUTH came before.
    check_pause(record, "begin", span[0].as_u64(), 300 + 400 + 200 + 500);
    for unknown in ["starttls_us", "tls_handshake_us"] {
        assert_eq!(record.number(unknown).unwrap(), None, "{}", record.json());
    }
    assert_eq!(record.known("transactions").unwrap(), 1, "{}", record.json());
    assert_eq!(record.field("transactions_exact").unwrap(), true, "{}", record.json());

    let output = tracer::command(["report", run.file.to_str().unwrap(), "--format", "json"]);
    let report = report::parse(&String::from_utf8(output.unwrap().stdout).unwrap()).unwrap();
    let histograms = &report["totals"]["histograms"];
    for (name, pause_ms) in
        [("ehlo_us", 400), ("auth_us", 500), ("final_reply_us", 700), ("transaction_us", 1_650)]
    {
        assert_eq!(histograms[name]["count"], 1, "{name}: {histograms}");
        check_pause(record, name, histograms[name]["p50"].as_u64(), pause_ms);
    }
    assert!(histograms["starttls_us"].is_null(), "{histograms}");
    let counted = json!({"replies": {"connections": 1, "exact_connections": 1, "transactions": 1}});
    assert_eq!(report["totals"]["counted_by"], counted);
}

#[test]
fn starttls_is_told_from_the_handshake() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let script = Script::default()
        .send("220 slow.test ESMTP\r\n")
        .then(Step::Command)
        .pause(ms(400))
        .send("250-slow.test\r\n250 STARTTLS\r\n")
        .then(Step::Command)
        .pause(ms(300))
        .send("220 2.0.0 go\r\n")
        .then(Step::Command)
        .pause(ms(250))
        .then(Step::Send(b"\x16\x03\x03\x00\x02ab".to_vec()))
        .then(Step::DrainToEnd);
    let run = trace(&lab, script, |mut session| {
        session.reply().unwrap();
        session.command("EHLO client.test", "250").unwrap();
        session.command("STARTTLS", "220").unwrap();
        session.send(b"\x16\x03\x01\x00\x05hallo\n").unwrap();
        thread::sleep(ms(500));
        session.close();
    });
    let record = run.recording.single().unwrap();
    assert_eq!(record.text("tls").unwrap(), Some("starttls"), "{}", record.json());
    check_pause(record, "ehlo_us", record.number("ehlo_us").unwrap(), 400);
    check_pause(record, "starttls_us", record.number("starttls_us").unwrap(), 300);
    for unknown in ["auth_us", "envelope_us", "body_us", "final_reply_us"] {
        assert!(record.field(unknown).unwrap().is_null(), "{}", record.json());
    }
}

/// How a server words its replies to MAIL, RCPT, a chunk and a message; whether that names a message.
struct Wording {
    mail: &'static str,
    rcpt: &'static str,
    chunk: &'static str,
    taken: &'static str,
    names_message: bool,
}

const WORDINGS: [Wording; 3] = [
    Wording {
        mail: "250 OK",
        rcpt: "250 Accepted",
        chunk: "250 512 byte chunk received",
        taken: "250- 512 byte chunk, total 512\r\n250 OK id=1uzGEy-000032-1y",
        names_message: true,
    },
    Wording {
        mail: "250 2.1.0 Sender OK",
        rcpt: "250 2.1.5 Recipient OK",
        chunk: "250 2.6.0 CHUNK received OK, 512 octets",
        taken: "250 2.6.0 <1@x> [InternalId=1] 512 bytes in 0.1, 4 KB/sec Queued mail for delivery",
        names_message: true,
    },
    Wording {
        mail: "250 2.1.0 OK a1 - gsmtp",
        rcpt: "250 2.1.5 OK a1 - gsmtp",
        chunk: "250 2.0.0 OK a1 - gsmtp",
        taken: "250 2.0.0 OK  1700000000 a1 - gsmtp",
        names_message: false,
    },
];

/// A message with BDAT: a chunk in one write with the envelope, another one if `chunks`, the last.
fn hand_over(session: &mut Session, wording: &Wording, chunks: bool) {
    let line = format!("{}\r\n", "X".repeat(510));
    let first = if chunks { "BDAT 512" } else { "BDAT 512 LAST" };
    let envelope = "MAIL FROM:<a@client.test>\r\nRCPT TO:<b@x.test>\r\n";
    session.send(format!("{envelope}{first}\r\n{line}").as_bytes()).unwrap();
    for _ in 0..3 {
        assert!(session.reply().unwrap().starts_with("250"));
    }
    if chunks {
        session.send(format!("BDAT 512 LAST\r\n{line}").as_bytes()).unwrap();
        assert!(session.reply().unwrap().ends_with(&format!("{}\r\n", wording.taken)));
    }
}

#[test]
fn bdat_is_counted_as_the_script_says() {
    needs!(Namespaces, Tracer);
    // Of each session, which messages come in two chunks.
    let sessions: [&[bool]; 4] = [&[], &[false], &[false, false, false], &[true, false, true]];
    let lab = Lab::up().unwrap();
    for wording in &WORDINGS {
        for chunked in sessions {
            let mut script = Script::default()
                .send("220 bdat.test ESMTP\r\n")
                .then(Step::Command)
                .send("250-bdat.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n");
            for chunks in chunked {
                // MAIL, RCPT, BDAT and a body of one line.
                script = (0..4).fold(script, |script, _| script.then(Step::Command));
                let answer = if *chunks { wording.chunk } else { wording.taken };
                let replies = [wording.mail, wording.rcpt, answer].join("\r\n");
                script = script.send(&format!("{replies}\r\n"));
                if *chunks {
                    script = script.then(Step::Command).then(Step::Command);
                    script = script.send(&format!("{}\r\n", wording.taken));
                }
            }
            let script = script.then(Step::Command).send("221 bye\r\n");
            let run = trace(&lab, script, |mut session| {
                session.begin().unwrap();
                for chunks in chunked {
                    hand_over(&mut session, wording, *chunks);
                }
                session.quit().unwrap();
            });
            let record = run.recording.single().unwrap();
            let count = chunked.len() as u64;
            assert_eq!(record.known("transactions").unwrap(), count, "{}", record.json());
            // Without words for it, the last message may have been a chunk that nothing followed.
            let exact = wording.names_message || count == 0;
            assert_eq!(record.field("transactions_exact").unwrap(), exact, "{}", record.json());
            assert_eq!(record.text("transactions_method").unwrap(), Some("replies"));
            // Where more than one reading is left, they may agree on the count but not on the times.
            let spans = record.field("transaction_spans_us").unwrap().as_array();
            let spans = spans.map(|spans| spans.len() as u64);
            assert!(spans == Some(count) || spans.is_none() && !exact, "{}", record.json());
        }
    }
}

#[test]
fn bdat_to_a_real_postfix() {
    needs!(Namespaces, Tracer, Postfix);
    let lab = Lab::up().unwrap();
    let _receiver = Postfix::receiver(&lab, lab.server_v4(), Starttls::None).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    session.begin().unwrap();
    let body = format!("Subject: x\r\n\r\n{}", "line\r\n".repeat(100));
    for pieces in [1, 3, 1] {
        session.command("MAIL FROM:<a@client.test>", "250").unwrap();
        session.command("RCPT TO:<b@sink.test>", "250").unwrap();
        for piece in 1..=pieces {
            let last = if piece == pieces { " LAST" } else { "" };
            session.send(format!("BDAT {}{last}\r\n{body}", body.len()).as_bytes()).unwrap();
            assert!(session.reply().unwrap().starts_with("250"));
        }
        session.command("RSET", "250").unwrap();
    }
    session.quit().unwrap();
    lab.wait_for_ends(Duration::from_secs(5)).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let record = run.recording.single().unwrap();
    assert_eq!(record.known("transactions").unwrap(), 3, "{}", record.json());
    assert_eq!(record.field("transactions_exact").unwrap(), true, "{}", record.json());
    ensure_phases_add_up(record, 3);
}

#[test]
fn phases_of_postfix_add_up() {
    const MAILS: usize = 5;
    needs!(Namespaces, Tracer, Postfix);
    let settings = [
        ("smtp_connection_cache_destinations", "static:all"),
        ("smtp_destination_concurrency_limit", "1"),
        ("smtp_tls_security_level", "none"),
    ];
    let lab = Lab::up().unwrap();
    let _receiver = Postfix::receiver(&lab, lab.server_v4(), Starttls::None).unwrap();
    let sender = Postfix::sender(&lab, lab.server_v4(), &settings).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    postfix::submit(&lab, MAILS, 200_000).unwrap();
    sender.wait_for_deliveries(MAILS, Duration::from_secs(40)).unwrap();
    lab.wait_for_ends(Duration::from_secs(15)).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let record = run.recording.single().unwrap();
    assert!(record.known("ehlo_us").unwrap() > 0, "{}", record.json());
    ensure_phases_add_up(record, MAILS);
}

/// Envelope, body and wait make up each transaction, and no two transactions overlap.
fn ensure_phases_add_up(record: &Record, count: usize) {
    let spans = record.field("transaction_spans_us").unwrap().as_array().unwrap();
    assert_eq!(spans.len(), count, "{}", record.json());
    let lifetime = record.known("lifetime_us").unwrap();
    let mut last_end = record.known("connect_us").unwrap();
    for (at, span) in spans.iter().enumerate() {
        let (begin, end) = (span[0].as_u64().unwrap(), span[1].as_u64().unwrap());
        assert!(last_end <= begin && begin < end && end <= lifetime, "{}", record.json());
        let phase = |field| element(record, field, at).unwrap();
        let sum = phase("envelope_us") + phase("body_us") + phase("final_reply_us");
        // Each is rounded down.
        assert!(sum.abs_diff(end - begin) <= 3, "{sum} of {span}: {}", record.json());
        last_end = end;
    }
}
