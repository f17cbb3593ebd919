//! Greetings: late, in two parts, hostile, and unread; and where the reading of replies ends.

use std::{fs, process::Command, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::{
    comparison::{self, Pair},
    flow::{Flow, Nanos},
    lab::Lab,
    namespace::run,
    needs,
    server::{Script, Server, Step},
    session::Session,
    single::{self, trace_with},
    tracer::{Run, Tracer},
    wait,
};

/// Traces and captures one connection on which the client only waits for the complete greeting. Made again if its times
/// are not those of the capture: on a busy machine the server is late, and the tracer is right to say so.
fn trace(script: &Script, arguments: &[&str]) -> (Lab, Run, Flow) {
    let traced = comparison::undisturbed(|| {
        let lab = Lab::up()?;
        let (run, flow) = trace_with(
            &lab,
            arguments,
            script.clone(),
            |_| Ok(()),
            |mut session| {
                session.reply().unwrap();
                session.close();
            },
        )?;
        let record = run.recording.single()?;
        // The time to the first byte, among others.
        let mut times = comparison::compare_times(&[Pair { record, flow: &flow }])?;
        if record.number("greeting_us")?.is_some() {
            times = times.and(comparison::compare_time(record, "greeting_us", greeted(&flow))?);
        }
        Ok((times, (lab, run, flow)))
    });
    traced.unwrap()
}

/// When all that the server said was there, from the end of the connect on.
fn greeted(flow: &Flow) -> Option<Nanos> {
    Some(flow.arrival(flow.received.unique)? - flow.established?)
}

#[test]
fn late() {
    needs!(Namespaces, Tracer, Tcpdump);
    let script = Script::default()
        .pause(Duration::from_secs(2))
        .send("220 slow.test ESMTP\r\n")
        .then(Step::DrainToEnd);
    let (_lab, run, _) = trace(&script, &[]);
    let record = run.recording.single().unwrap();
    let greeting_us = record.known("greeting_us").unwrap();
    assert!(greeting_us > 1_990_000, "{}", record.json());
    assert_eq!(record.known("banner_us").unwrap(), greeting_us, "{}", record.json());
    assert_eq!(record.text("banner_host").unwrap(), Some("slow.test"), "{}", record.json());
    // The greeting is not a turn.
    assert_eq!(record.known("turns").unwrap(), 0, "{}", record.json());
}

#[test]
fn in_two_parts() {
    needs!(Namespaces, Tracer, Tcpdump);
    let script = Script::default()
        .send("220-teaser.test wait\r\n")
        .pause(Duration::from_secs(1))
        .send("220 real.test ESMTP\r\n")
        .then(Step::DrainToEnd);
    let (_lab, run, flow) = trace(&script, &[]);
    let record = run.recording.single().unwrap();
    assert!(flow.arrival(1) < flow.arrival(flow.received.unique), "{flow:?}");
    assert!(record.known("greeting_us").unwrap() > 990_000, "{}", record.json());
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
    needs!(Namespaces, Tracer, Tcpdump);
    let script = Script::default().then(Step::DrainToEnd);
    let traced = comparison::undisturbed(|| {
        let (lab, pause) = (Lab::up()?, Duration::from_millis(300));
        let (record, flow) = single::trace(
            &lab,
            script.clone(),
            |_| Ok(()),
            |session| {
                std::thread::sleep(pause);
                session.close();
            },
        )?;
        // Its lifetime, among others.
        Ok((comparison::compare_times(&[Pair { record: &record, flow: &flow }])?, record))
    });
    let record = traced.unwrap();
    assert_eq!(record.number("banner_us").unwrap(), None, "{}", record.json());
    assert_eq!(record.number("greeting_us").unwrap(), None, "{}", record.json());
    assert_eq!(record.number("banner_code").unwrap(), None, "{}", record.json());
    assert_eq!(record.text("end_cause").unwrap(), Some("local_fin"), "{}", record.json());
    record.ensure_ending([Some("local_fin"), Some("greeting"), None]).unwrap();
    assert!(record.known("lifetime_us").unwrap() > 290_000, "{}", record.json());
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
    needs!(Namespaces, Tracer, Tcpdump);
    let script = Script::default()
        .pause(Duration::from_millis(200))
        .send("220 secret.test ESMTP\r\n")
        .then(Step::DrainToEnd);
    let (_lab, run, _) = trace(&script, &["--no-replies"]);
    let record = run.recording.single().unwrap();
    assert!(record.known("banner_us").unwrap() > 190_000, "{}", record.json());
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
