//! Greetings: late, in two parts, hostile, and unread; and where the reading of replies ends.

use std::{fs, process::Command, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::{
    lab::Lab,
    namespace::run,
    needs, pace,
    recording::Record,
    server::{Script, Server, Step},
    session::Session,
    tracer::{Run, Tracer},
    wait,
};

const TOLERANCE_US: u64 = 20_000;

/// Traces one connection on which the client only waits for the complete greeting.
fn trace(lab: &Lab, script: Script, arguments: &[&str]) -> Run {
    let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
    let tracer = Tracer::start_with(lab, arguments).unwrap();
    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    session.reply().unwrap();
    session.close();
    lab.wait_for_ends(Duration::from_secs(5)).unwrap();
    tracer.stop_cleanly().unwrap()
}

fn check_about(record: &Record, field: &str, expected_us: u64) {
    let value = record.known(field).unwrap();
    let close = value.abs_diff(expected_us) < pace::wider(TOLERANCE_US);
    assert!(close, "{field} should be about {expected_us}: {}", record.json());
}

#[test]
fn late() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let script = Script::default()
        .pause(Duration::from_secs(2))
        .send("220 slow.test ESMTP\r\n")
        .then(Step::DrainToEnd);
    let run = trace(&lab, script, &[]);
    let record = run.recording.single().unwrap();
    check_about(record, "connect_us", 0);
    check_about(record, "banner_us", 2_000_000);
    check_about(record, "greeting_us", 2_000_000);
    assert_eq!(record.text("banner_host").unwrap(), Some("slow.test"), "{}", record.json());
    // The greeting is not a turn.
    assert_eq!(record.known("turns").unwrap(), 0, "{}", record.json());
}

#[test]
fn in_two_parts() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let script = Script::default()
        .send("220-teaser.test wait\r\n")
        .pause(Duration::from_secs(1))
        .send("220 real.test ESMTP\r\n")
        .then(Step::DrainToEnd);
    let run = trace(&lab, script, &[]);
    let record = run.recording.single().unwrap();
    check_about(record, "banner_us", 0);
    check_about(record, "greeting_us", 1_000_000);
    assert_eq!(record.known("banner_code").unwrap(), 220, "{}", record.json());
}

#[test]
fn refusal() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let script = Script::default().send("421 4.7.0 busy.test Error: too many connections\r\n");
    let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    assert!(session.wait_for_end(Duration::from_secs(5)).unwrap().is_none());
    session.close();
    lab.wait_for_ends(Duration::from_secs(5)).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let record = run.recording.single().unwrap();
    assert_eq!(record.known("banner_code").unwrap(), 421, "{}", record.json());
    assert_eq!(record.text("end_cause").unwrap(), Some("peer_fin"), "{}", record.json());
    assert_eq!(record.field("replies").unwrap()["421"], 1, "{}", record.json());
    // An enhanced status code is no host name.
    record.ensure_right_or_unknown("banner_host", "busy.test").unwrap();
}

#[test]
fn never_sent() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let script = Script::default().then(Step::DrainToEnd);
    let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    let session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    session.close();
    lab.wait_for_ends(Duration::from_secs(5)).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let record = run.recording.single().unwrap();
    assert_eq!(record.number("banner_us").unwrap(), None, "{}", record.json());
    assert_eq!(record.number("greeting_us").unwrap(), None, "{}", record.json());
    assert_eq!(record.number("banner_code").unwrap(), None, "{}", record.json());
    assert_eq!(record.text("end_cause").unwrap(), Some("local_fin"), "{}", record.json());
    record.ensure_ending([Some("local_fin"), Some("greeting"), None]).unwrap();
    check_about(record, "lifetime_us", 300_000);
}

#[test]
fn hostile() {
    needs!(Namespaces, Tracer);
    let greetings: [Vec<u8>; 6] = [
        b"220 \x1b[31mevil\x1b]0;title\x07.test ESMTP\r\n".to_vec(),
        b"220-\x1b[2J\r\n220 \x9b31m<script>alert(1)</script>\r\n".to_vec(),
        [b"220 ".as_slice(), &b"A".repeat(65_536), b"\r\n"].concat(),
        b"220 \xff\xfe\xc3\x28.test ESMTP\r\n".to_vec(),
        b"220 a\0b.test\r\n".to_vec(),
        b"99999999999999999999 \r\n".to_vec(),
    ];
    let lab = Lab::up().unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    for greeting in &greetings {
        let script = Script::default().then(Step::Send(greeting.clone())).then(Step::DrainToEnd);
        let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
        let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
        session.reply().unwrap();
        session.close();
        lab.wait_for_ends(Duration::from_secs(5)).unwrap();
    }
    let run = tracer.stop_cleanly().unwrap();
    assert_eq!(run.recording.connections.len(), greetings.len());
    for record in &run.recording.connections {
        assert!(record.number("banner_us").unwrap().is_some(), "{}", record.json());
        let host = record.text("banner_host").unwrap().unwrap_or_default();
        let clean = host.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        assert!(clean && host.len() <= 255, "{}", record.json());
    }
    let file = run.file.to_str().unwrap();
    let mut outputs = vec![run.stdout.into_bytes(), run.stderr.into_bytes()];
    outputs.push(fs::read(&run.file).unwrap());
    for format in ["text", "json"] {
        let output = tests::tracer::command(["report", file, "--format", format]).unwrap();
        assert!(output.status.success(), "{output:?}");
        outputs.push(output.stdout);
        outputs.push(output.stderr);
    }
    for output in outputs {
        let text = String::from_utf8(output).expect("output is UTF-8");
        let control = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
        assert_eq!(control, None, "{text:?}");
        assert!(!text.contains("\\u001b"), "{text}");
    }
}

#[test]
fn unread_on_request() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let script = Script::default()
        .pause(Duration::from_millis(200))
        .send("220 secret.test ESMTP\r\n")
        .then(Step::DrainToEnd);
    let run = trace(&lab, script, &["--no-replies"]);
    let record = run.recording.single().unwrap();
    check_about(record, "banner_us", 200_000);
    for unknown in ["banner_code", "banner_host", "replies", "greeting_us"] {
        assert!(record.field(unknown).unwrap().is_null(), "{unknown}: {}", record.json());
    }
    assert_eq!(run.recording.header["filters"]["replies"], false, "{}", run.recording.header);
    assert!(!fs::read_to_string(&run.file).unwrap().contains("secret.test"));
}

/// Pieces of 11,590 bytes: more than the buffers of replies hold, each byte of which is copied if any is.
const PIECES: usize = 700;
const PIECE: usize = 11_590;
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that sends [`PIECES`] when it has got a line. In cleartext they are lines of one reply, else
/// records of TLS that [`Session::reply`] takes for such: their fourth byte is a hyphen.
fn flood(encrypted: bool) -> Script {
    let begin: &[u8] = if encrypted { b"\x17\x03\x03\x2d\x41" } else { b"250-X" };
    let end: &[u8] = if encrypted { b"\x17\x03\x03\x00\x01\n" } else { b"250 X\n" };
    let mut piece = begin.to_vec();
    piece.resize(PIECE - 1, b'X');
    piece.push(b'\n');
    let script = Script::default().send("220 flood.test\r\n").then(Step::Command);
    let script = if encrypted {
        script
            .send("250 STARTTLS\r\n")
            .then(Step::Command)
            .send("220 2.0.0 go\r\n")
            .then(Step::Command)
            .then(Step::Send(b"\x16\x03\x03\x00\x02a\n".to_vec()))
            .then(Step::Command)
    } else {
        script
    };
    script.then(Step::Send([piece.repeat(PIECES).as_slice(), end].concat())).then(Step::DrainToEnd)
}

/// Freezes smtptrace while the server sends, and returns what was recorded.
fn flood_a_frozen_tracer(encrypted: bool) -> Run {
    let lab = Lab::up().unwrap();
    // Each packet is one segment where it arrives.
    lab.server.run("ip", ["link", "set", "s0", "gso_max_segs", "1"]).unwrap();
    let _server = Server::start(&lab.server, lab.server_v4(), flood(encrypted)).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    session.reply().unwrap();
    if encrypted {
        session.command("EHLO client.test", "250").unwrap();
        session.command("STARTTLS", "220").unwrap();
        session.send(b"\x16\x03\x01\x00\x02a\n").unwrap();
        session.reply().unwrap();
        let stopped = held_map(&tracer, "STOPPED");
        wait::until("an end of reading", PATIENCE, || Ok((entries(&stopped) == 1).then_some(())))
            .unwrap();
    }
    tracer.signal(Signal::SIGSTOP).unwrap();
    wait::until("smtptrace to be frozen", PATIENCE, || {
        let status = fs::read_to_string(format!("/proc/{}/status", tracer.pid()))?;
        Ok(status.contains("State:\tT").then_some(()))
    })
    .unwrap();
    session.send(b"\x17\x03\x03\x00\x01\n").unwrap();
    session.reply().unwrap();
    tracer.signal(Signal::SIGCONT).unwrap();
    session.close();
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop().unwrap();
    assert!(run.status.success(), "{}", run.stderr);
    let received = run.recording.single().unwrap().known("bytes_received").unwrap();
    assert!(received > (PIECES * PIECE) as u64, "{received}");
    run
}

/// The id of a map that smtptrace holds.
fn held_map(tracer: &Tracer, name: &str) -> String {
    let entries = fs::read_dir(format!("/proc/{}/fdinfo", tracer.pid())).unwrap();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    let ids = texts.filter_map(|text| {
        text.lines().find_map(|line| Some(line.strip_prefix("map_id:")?.trim().to_owned()))
    });
    let mut named = ids.filter(|id| {
        let shown = run(Command::new("bpftool").args(["-j", "map", "show", "id", id])).unwrap();
        let map: Value = serde_json::from_slice(&shown.stdout).unwrap();
        map["name"] == name
    });
    named.next().unwrap_or_else(|| panic!("no map {name}"))
}

fn entries(map: &str) -> usize {
    let dump = run(Command::new("bpftool").args(["-j", "map", "dump", "id", map])).unwrap();
    let dump: Value = serde_json::from_slice(&dump.stdout).unwrap();
    dump.as_array().unwrap().len()
}

/// While smtptrace is frozen, all that the kernel copies for it beyond its buffers is counted as lost: most of a
/// long reply in cleartext. Of what comes under TLS nothing is lost, so nothing is copied.
#[test]
fn no_byte_is_copied_once_tls_has_begun() {
    needs!(Namespaces, Tracer, Bpftool);
    let lost = flood_a_frozen_tracer(false).recording.trust("events_lost").unwrap();
    assert!(lost > Some(1_000), "this shows nothing: {lost:?} lost in cleartext");
    let run = flood_a_frozen_tracer(true);
    run.recording.ensure_complete().unwrap();
    let record = run.recording.single().unwrap();
    assert_eq!(record.text("tls").unwrap(), Some("starttls"), "{}", record.json());
}
