//! A client that closes its sending direction and reads on: what the server says then is an answer.

use std::{net::SocketAddr, thread, time::Duration};

use tests::{
    lab::Lab,
    needs,
    recording::Record,
    server::{Script, Server, Step},
    session::Session,
    tracer::Tracer,
};

const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(300);

/// A session that greets, and then does what `end` adds.
fn script(end: impl Fn(Script) -> Script) -> Script {
    end(Script::default()
        .send("220 server.test ESMTP\r\n")
        .then(Step::Command)
        .send("250 server.test\r\n")
        .then(Step::Command))
}

/// Traces a client that says EHLO, writes `command`, closes its sending direction after `pause`, waits for
/// `unread` before it reads, and reads to the end.
fn trace(
    script: Script,
    to: impl Fn(&Lab) -> SocketAddr,
    command: &str,
    [pause, unread]: [Duration; 2],
) -> Record {
    let lab = Lab::up().unwrap();
    let _server = Server::start(&lab.server, to(&lab), script).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    let mut session = Session::connect(&lab.client, to(&lab)).unwrap();
    session.begin().unwrap();
    session.send(command.as_bytes()).unwrap();
    thread::sleep(pause);
    session.shut_down().unwrap();
    thread::sleep(unread);
    assert!(session.wait_for_end(PATIENCE).unwrap().is_none());
    session.close();
    lab.wait_for_ends(PATIENCE).unwrap();
    tracer.stop_cleanly().unwrap().recording.single().unwrap().clone()
}

fn check(record: &Record, replies: &serde_json::Value, received: &[&str]) {
    assert_eq!(record.text("end_cause").unwrap(), Some("local_fin"), "{}", record.json());
    assert_eq!(record.number("end_unanswered_us").unwrap(), None, "{}", record.json());
    assert_eq!(record.field("replies").unwrap(), replies, "{}", record.json());
    let greeting = "220 server.test ESMTP\r\n250 server.test\r\n".len();
    let received = greeting + received.iter().map(|it| it.len()).sum::<usize>();
    assert_eq!(record.known("bytes_received").unwrap(), received as u64, "{}", record.json());
    assert_eq!(record.known("turns").unwrap(), 2, "{}", record.json());
}

#[test]
fn reply_after_the_half_close_is_an_answer() {
    needs!(Namespaces, Tracer);
    let reply = "250 2.0.0 Ok\r\n";
    let late = || script(|it| it.pause(3 * PAUSE).send(reply));
    let expected = serde_json::json!({"220": 1, "250": 2});
    let check = |to: fn(&Lab) -> SocketAddr, times| {
        let record = trace(late(), to, "NOOP\r\n", times);
        check(&record, &expected, &[reply]);
        record.ensure_ending([Some("local_fin"), Some("dialogue"), None]).unwrap();
    };
    // The client waits for the reply, in both families.
    check(Lab::server_v4, [PAUSE, Duration::ZERO]);
    check(Lab::server_v6, [PAUSE, Duration::ZERO]);
    // It writes and closes at once.
    check(Lab::server_v4, [Duration::ZERO; 2]);
    // It reads when the connection is over.
    check(Lab::server_v6, [PAUSE, 5 * PAUSE]);
}

#[test]
fn each_of_several_replies_counts_once() {
    needs!(Namespaces, Tracer);
    let (first, second) = ("252-2.0.0 Perhaps\r\n252 2.0.0 or not\r\n", "502 5.5.2 What?\r\n");
    let expected = serde_json::json!({"220": 1, "250": 1, "252": 1, "502": 1});
    let both = script(|it| it.pause(2 * PAUSE).send(first).pause(PAUSE).send(second));
    let times = [PAUSE, Duration::ZERO];
    let record = trace(both, Lab::server_v4, "VRFY somebody\r\nWHAT\r\n", times);
    check(&record, &expected, &[first, second]);
    // The first came before the half-close, and is read after it.
    let around = script(|it| it.send(first).pause(3 * PAUSE).send(second));
    let record = trace(around, Lab::server_v6, "VRFY somebody\r\nWHAT\r\n", [PAUSE, PAUSE]);
    check(&record, &expected, &[first, second]);
}

/// What nobody reads is told as unknown, never as "not there".
#[test]
fn reply_that_nobody_reads_is_unknown() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let script = script(|it| it.pause(2 * PAUSE).send("250 2.0.0 Ok\r\n"));
    let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    session.begin().unwrap();
    session.send(b"NOOP\r\n").unwrap();
    session.shut_down().unwrap();
    thread::sleep(4 * PAUSE);
    session.close();
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let record = run.recording.single().unwrap();
    record.ensure_ending([Some("local_fin"), Some("dialogue"), None]).unwrap();
    assert_eq!(record.number("end_unanswered_us").unwrap(), None, "{}", record.json());
    record.ensure_right_or_unknown("replies", serde_json::json!({"220": 1, "250": 2})).unwrap();
}
