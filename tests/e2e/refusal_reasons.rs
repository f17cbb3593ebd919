//! What a reply means depends on its words, its code and its moment.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use serde_json::Value;
use tests::{
    lab::{Lab, server_v4, server_v6},
    needs, report,
    server::{Script, Server, Step},
    session::Session,
    tracer::{self, Tracer},
};

const PATIENCE: Duration = Duration::from_secs(20);
/// Sessions of each kind.
const SESSIONS: usize = 4;
/// What the server says beside its reason, and nobody keeps.
const SECRET: &str = "unspeakable";

/// A kind of server, and what is said of it.
struct Kind {
    name: &'static str,
    server: Script,
    client: fn(&mut Session),
    reason: &'static str,
    during: &'static str,
    /// The verdict on it among those on limits.
    verdict: Option<&'static str>,
}

fn served(offers: &str) -> Script {
    let ehlo = format!("250-mx.test\r\n250 {offers}\r\n");
    Script::default().send("220 mx.test ESMTP\r\n").then(Step::Command).send(&ehlo)
}

/// Answers MAIL with a refusal, and QUIT.
fn refuses_mail(offers: &str, reply: &str) -> Script {
    served(offers)
        .then(Step::Command)
        .send(&format!("{reply} {SECRET}\r\n"))
        .then(Step::Command)
        .send("221 Bye\r\n")
}

fn sends_mail(session: &mut Session) {
    session.begin().unwrap();
    session.send(b"MAIL FROM:<a@client.test>\r\n").unwrap();
    session.reply().unwrap();
    session.send(b"QUIT\r\n").unwrap();
    session.wait_for_end(PATIENCE).unwrap();
}

fn names_recipient(session: &mut Session) {
    session.begin().unwrap();
    session.command("MAIL FROM:<a@client.test>", "250").unwrap();
    session.send(b"RCPT TO:<b@mx.test>\r\n").unwrap();
    session.reply().unwrap();
    session.send(b"QUIT\r\n").unwrap();
    session.wait_for_end(PATIENCE).unwrap();
}

fn idles(session: &mut Session) {
    session.begin().unwrap();
    session.wait_for_end(PATIENCE).unwrap();
}

/// Two messages, and a third that is one too many. The client says so with QUIT and closes.
fn sends_three(session: &mut Session) {
    session.begin().unwrap();
    session.message(300).unwrap();
    session.message(900).unwrap();
    session.command("MAIL FROM:<a@client.test>", "452").unwrap();
    session.command("QUIT", "221").unwrap();
}

#[expect(clippy::too_many_lines, reason = "a list of servers")]
fn kinds() -> Vec<Kind> {
    let message = |script: Script| {
        // EHLO was answered: MAIL, RCPT, DATA and a body of many lines.
        let script =
            script.then(Step::Command).send("250 Ok\r\n").then(Step::Command).send("250 Ok\r\n");
        script.then(Step::Command).send("354 go\r\n")
    };
    let body = |script: Script, bytes: usize| {
        let lines = bytes.div_ceil(72) + 1;
        (0..lines).fold(script, |script, _| script.then(Step::Command)).send("250 queued as 1\r\n")
    };
    let rcpt = |offers: &str, reply: &str| {
        served(offers)
            .then(Step::Command)
            .send("250 2.1.0 Ok\r\n")
            .then(Step::Command)
            .send(&format!("{reply} {SECRET}\r\n"))
            .then(Step::Command)
            .send("221 Bye\r\n")
    };
    vec![
        Kind {
            name: "a rate, at MAIL",
            server: refuses_mail("PIPELINING", "450 4.7.1 too much mail from 192.0.2.1"),
            client: sends_mail,
            reason: "rate",
            during: "dialogue",
            verdict: Some("throttled"),
        },
        Kind {
            name: "a rate for good, at RCPT, without an enhanced code",
            server: rcpt("CHUNKING", "550 Connection frequency limited"),
            client: names_recipient,
            reason: "rate",
            during: "dialogue",
            verdict: Some("throttled"),
        },
        Kind {
            name: "connections at a time, at MAIL",
            server: refuses_mail(
                "SIZE 1000",
                "451 4.7.652 exceeded the maximum number of connections (S3115)",
            ),
            client: sends_mail,
            reason: "concurrency",
            during: "dialogue",
            verdict: Some("throttled"),
        },
        Kind {
            name: "the code of a timeout, at once after a command",
            server: served("PIPELINING").then(Step::Command).send("421 4.4.2 mx.test closing\r\n"),
            client: sends_mail,
            reason: "other",
            during: "dialogue",
            verdict: Some("throttled"),
        },
        Kind {
            name: "the same into an idle session",
            server: served("PIPELINING")
                .pause(Duration::from_millis(700))
                .send("421 4.4.2 mx.test closing\r\n"),
            client: idles,
            reason: "other",
            during: "idle",
            verdict: None,
        },
        Kind {
            name: "a bare 421 into an idle session",
            server: served("CHUNKING")
                .pause(Duration::from_millis(400))
                .send("421 mx.test closing\r\n"),
            client: idles,
            reason: "other",
            during: "idle",
            verdict: None,
        },
        Kind {
            name: "a first visit to postscreen",
            server: rcpt("SIZE 1000", "450 4.3.2 Service currently unavailable"),
            client: names_recipient,
            reason: "greylisting",
            during: "dialogue",
            verdict: None,
        },
        Kind {
            name: "enough messages for a session",
            server: body(message(body(message(served("SIZE 1000")), 300)), 900)
                .then(Step::Command)
                .send("452 4.5.0 maximum messages per session reached\r\n")
                .then(Step::Command)
                .send("221 Bye\r\n")
                .then(Step::DrainToEnd),
            client: sends_three,
            reason: "messages",
            during: "dialogue",
            verdict: Some("message_limit"),
        },
        Kind {
            name: "hostile words",
            server: refuses_mail(
                "SIZE 1000",
                "421 \u{1b}[31m\"}],\"x\":[{ too many simultaneous \u{7f}",
            ),
            client: sends_mail,
            reason: "concurrency",
            during: "dialogue",
            verdict: Some("throttled"),
        },
    ]
}

#[test]
fn words_code_and_moment() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let kinds = kinds();
    let address = |at: u8| -> SocketAddr {
        let ip: IpAddr =
            if at.is_multiple_of(2) { server_v4(at / 2).into() } else { server_v6(at / 2).into() };
        SocketAddr::new(ip, lab.port())
    };
    let all: Vec<_> = (0..).map(address).zip(&kinds).collect();
    let _servers: Vec<_> = all
        .iter()
        .map(|(at, kind)| Server::start(&lab.server, *at, kind.server.clone()).unwrap())
        .collect();
    let tracer = Tracer::start(&lab).unwrap();
    thread::scope(|scope| {
        for (at, kind) in &all {
            let lab = &lab;
            scope.spawn(move || {
                for _ in 0..SESSIONS {
                    (kind.client)(&mut Session::connect(&lab.client, *at).unwrap());
                }
            });
        }
    });
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let text = fs::read_to_string(&run.file).unwrap();
    assert!(!text.contains(SECRET) && !text.contains("currently"), "texts are not kept");
    let said = tracer::command([
        "report".as_ref(),
        run.file.as_os_str(),
        "--format".as_ref(),
        "json".as_ref(),
    ]);
    let report = report::parse(&String::from_utf8(said.unwrap().stdout).unwrap()).unwrap();
    for (at, kind) in &all {
        let records = run.recording.connections.iter();
        let records: Vec<_> = records.filter(|it| it.server().unwrap() == *at).collect();
        assert_eq!(records.len(), SESSIONS, "{}", kind.name);
        for record in records {
            let refusals = record.field("refusals").unwrap().as_array().unwrap();
            let [refusal] = &refusals[..] else { panic!("{}: {}", kind.name, record.json()) };
            let seen = [&refusal["reason"], &refusal["during"]];
            assert_eq!(seen, [kind.reason, kind.during], "{}: {}", kind.name, record.json());
        }
        let key = at.ip().to_string();
        let limits = ["throttled", "rate_limited", "concurrency_limited", "message_limit"];
        let verdicts = report["verdicts"].as_array().unwrap().iter();
        let about: Vec<&Value> = verdicts
            .filter(|it| it["destination"] == key && limits.contains(&it["code"].as_str().unwrap()))
            .collect();
        let codes: Vec<_> = about.iter().filter_map(|it| it["code"].as_str()).collect();
        assert_eq!(codes, Vec::from_iter(kind.verdict), "{}: {about:#?}", kind.name);
        if kind.verdict == Some("message_limit") {
            assert_eq!(about[0]["evidence"]["limit"], 2, "{about:#?}");
            assert_eq!(about[0]["evidence"]["told_in_a_reply"], SESSIONS, "{about:#?}");
        } else if kind.verdict.is_some() && kind.reason != "other" {
            let reasons = format!("{SESSIONS} x {}", kind.reason);
            assert_eq!(about[0]["evidence"]["reasons"], reasons, "{about:#?}");
        }
    }
}
