//! Every kind of hook makes the same records of the same traffic: one smtptrace for each kind (`--hooks`)
//! traces it, all at the same time.

use std::{net::SocketAddr, path::Path, thread, time::Duration};

use serde_json::Value;
use tests::{
    deaths::Deaths,
    handover::hand_over,
    lab::{Lab, server_v4},
    needs,
    prerequisite::report_skip,
    recording::Recording,
    server::{Script, Server, Step},
    session::{Session, SocketKind, failing_connect},
    this_test,
    tiers::{Tolerance, ensure_same},
    tracer::{self, Tracer},
};

/// Kinds of hooks; the first is what the others are compared with.
const TIERS: [&str; 5] = ["auto", "tracepoint", "raw", "fentry", "kprobe"];

/// What the kernel does between two hooks for the same fact takes microseconds; but the processor of a virtual
/// machine may be taken away in between.
const TOLERANCE_US: u64 = 250_000;

/// The same where one of the two has no hook for writes, so that the time of a write is the departure of its last
/// segment: the lab's network takes what is written at once, but an emulated one needs its time.
const WRITE_TOLERANCE_US: u64 = 500_000;

const IDLE: Duration = Duration::from_millis(700);
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether this kernel need not have `tier`. Trampolines need the same support as kprobes on `x86_64`, and came
/// later on other machines.
fn may_be_missing(tier: &str) -> bool {
    let has_kprobes = Path::new("/sys/bus/event_source/devices/kprobe").exists();
    match tier {
        "kprobe" => !has_kprobes,
        "fentry" => !has_kprobes || cfg!(not(target_arch = "x86_64")),
        _ => false,
    }
}

/// One smtptrace for each kind of hook that this kernel has.
fn start(test: &str, lab: &Lab) -> Vec<(&'static str, Tracer)> {
    let port = lab.port().to_string();
    let mut tracers = Vec::new();
    for tier in TIERS {
        let recording = lab.file(&format!("{tier}.jsonl"));
        match Tracer::start_raw(&recording, &["--dport", port.as_str(), "--hooks", tier]) {
            Ok(tracer) => tracers.push((tier, tracer)),
            Err(error) if may_be_missing(tier) => {
                let reason = format!("{error:#}");
                assert!(reason.contains("exit status: 2"), "{reason}");
                assert!(reason.contains(tier) && reason.contains("--hooks auto"), "{reason}");
                let first = reason.lines().next().unwrap_or_default();
                report_skip(test, Some(&format!("--hooks {tier}")), first);
            }
            Err(error) => panic!("--hooks {tier}: {error:#}"),
        }
    }
    tracers
}

/// Servers, one for each way to go on.
fn servers(lab: &Lab) -> Vec<Server> {
    let mail = || Script::mail_server("220 server.test ESMTP");
    let answered = || Script::default().send("220 server.test ESMTP\r\n").then(Step::Command);
    let at = |offset| SocketAddr::from((server_v4(offset), lab.port()));
    let ehlo = || answered().send("250 server.test\r\n");
    let scripts = [
        (lab.server_v4(), mail()),
        (lab.server_v6(), mail()),
        (at(1), answered().close_with_reset()),
        (at(2), ehlo().pause(IDLE)),
        (at(3), ehlo().then(Step::Command).send("250 ok\r\n").then(Step::DrainToEnd)),
        (at(4), ehlo().then(Step::DrainToEnd)),
    ];
    let start = |(address, script)| Server::start(&lab.server, address, script).unwrap();
    scripts.into_iter().map(start).collect()
}

/// Every way to begin, go on and end. Returns the number of connections.
fn traffic(lab: &Lab) -> usize {
    let at = |offset: u8| SocketAddr::from((server_v4(offset), lab.port()));
    let connect = |to| Session::connect(&lab.client, to).unwrap();
    // Five messages, an idle gap before the fourth; the fifth in many segments.
    let mut session = connect(lab.server_v4());
    session.begin().unwrap();
    for size in [700, 700, 20_000] {
        session.message(size).unwrap();
    }
    thread::sleep(IDLE);
    session.message(700).unwrap();
    session.message(100_000).unwrap();
    session.quit().unwrap();
    // IPv6, and IPv4 from an IPv6 socket.
    let mut session = connect(lab.server_v6());
    session.begin().unwrap();
    session.message(700).unwrap();
    session.quit().unwrap();
    let kind = SocketKind::Ipv4Mapped;
    let keepalive = |socket: &socket2::Socket| socket.set_keepalive(true);
    let mut session = Session::connect_with(&lab.client, lab.server_v4(), kind, keepalive).unwrap();
    session.begin().unwrap();
    session.close();
    // Two writes, then two replies.
    let mut session = connect(lab.server_v4());
    session.begin().unwrap();
    session.send(b"NOOP\r\n").unwrap();
    session.send(b"NOOP\r\n").unwrap();
    session.reply().unwrap();
    session.reply().unwrap();
    session.shut_down_and_wait().unwrap();
    // A command that is never finished; and one that nobody waits to be answered.
    let mut session = connect(lab.server_v4());
    session.begin().unwrap();
    session.send(b"MAIL FROM:<a").unwrap();
    session.close();
    let mut session = connect(at(4));
    session.begin().unwrap();
    session.send(b"NOOP\r\n").unwrap();
    session.close();
    // The socket goes to another process.
    let mut session = connect(lab.server_v4());
    session.begin().unwrap();
    hand_over(session, &lab.client, Path::new(env!("CARGO_BIN_EXE_lab-session"))).unwrap();
    // Refused.
    failing_connect(&lab.client, at(6)).unwrap();
    // Reset by the server, closed by the server, reset by the client in two ways.
    let mut session = connect(at(1));
    session.reply().unwrap();
    session.send(b"EHLO client.test\r\n").unwrap();
    assert!(session.wait_for_end(PATIENCE).unwrap().is_some());
    let mut session = connect(at(2));
    session.begin().unwrap();
    assert!(session.wait_for_end(PATIENCE).unwrap().is_none());
    let mut session = connect(at(3));
    session.begin().unwrap();
    session.send(b"NOOP\r\n").unwrap();
    session.close_unread().unwrap();
    let mut session = connect(at(4));
    session.begin().unwrap();
    session.reset().unwrap();
    12
}

/// The program that sees writes.
fn writes(recording: &Recording) -> Option<&str> {
    let hooks = recording.header["hooks"].as_array()?;
    hooks.iter().find(|hook| hook["hook"] == "tcp_sendmsg_locked")?["program"].as_str()
}

/// Fails unless the header names the hooks that `tier` stands for.
fn check_hooks(tier: &str, recording: &Recording) {
    let hooks = recording.header["hooks"].as_array().unwrap();
    let program = |name: &str| {
        let hook = hooks.iter().find(|hook| hook["hook"] == name).unwrap();
        hook["program"].as_str().map(str::to_owned)
    };
    let function = ["tcp_connect", "tcp_sendmsg_locked"].map(program);
    match tier {
        "fentry" | "kprobe" => assert_eq!(function, [Some(tier.into()), Some(tier.into())]),
        "tracepoint" | "raw" => assert_eq!(function[0], None),
        _ => {}
    }
    let tracepoint = if tier == "raw" { "raw_tp" } else { "tp_btf" };
    for name in ["inet_sock_set_state", "tcp_destroy_sock", "tcp_probe", "tcp_receive_reset"] {
        assert_eq!(program(name).as_deref(), Some(tracepoint), "{tier}: {name}");
    }
    for hook in hooks {
        let explained = hook["state"] == "attached" || hook["reason"].is_string();
        assert!(explained, "{tier}: no reason: {hook}");
    }
}

/// Fails if something was lost that the tier does not lose by its nature.
fn check_trust(tier: &str, recording: &Recording) {
    if tier != "raw" {
        recording.ensure_complete().unwrap();
        return;
    }
    for counter in ["map_full", "undecodable", "connections_lost"] {
        assert_eq!(recording.trust(counter).unwrap(), Some(0), "{counter}");
    }
    let hooks = recording.trailer().unwrap()["trust"]["hooks"].as_array().unwrap();
    let of = |hook: &Value| hook["events_lost"].as_u64().unwrap_or(0);
    let probe = hooks.iter().find(|hook| hook["hook"] == "tcp_probe").unwrap();
    assert_eq!(recording.trust("events_lost").unwrap(), Some(of(probe)), "only replies are lost");
}

#[test]
fn every_kind_of_hook_makes_the_same_records() {
    needs!(Namespaces, Tracer, KernelTypes);
    let lab = Lab::up().unwrap();
    let servers = servers(&lab);
    let tracers = start(this_test!(), &lab);
    let count = traffic(&lab);
    lab.wait_for_ends(PATIENCE).unwrap();
    let failures: Vec<String> = servers.iter().flat_map(Server::failures).collect();
    assert_eq!(failures, Vec::<String>::new());
    compare(tracers, count);
}

/// A write on a dead socket is no exchange, whichever hook sees the write.
#[test]
fn every_kind_of_hook_tells_the_same_deaths() {
    needs!(Namespaces, Tracer, KernelTypes);
    let lab = Lab::up().unwrap();
    let deaths = Deaths::prepare(&lab).unwrap();
    let tracers = start(this_test!(), &lab);
    let count = deaths.play(&lab).unwrap();
    lab.wait_for_ends(PATIENCE).unwrap();
    for (tier, recording) in compare(tracers, count) {
        deaths.check(&recording).unwrap_or_else(|error| panic!("--hooks {tier}: {error:#}"));
    }
}

/// Stops the tracers. Fails unless all have recorded the same `count` connections.
fn compare(tracers: Vec<(&'static str, Tracer)>, count: usize) -> Vec<(&'static str, Recording)> {
    let runs: Vec<(&str, Recording)> = tracers
        .into_iter()
        .map(|(tier, tracer)| {
            let run = tracer.stop().unwrap();
            assert!(run.status.success(), "--hooks {tier}: {}", run.stderr);
            (tier, run.recording)
        })
        .collect();
    let (_, reference) = runs.first().unwrap();
    assert_eq!(reference.connections.len(), count, "{reference:?}");
    for (tier, recording) in &runs {
        check_hooks(tier, recording);
        check_trust(tier, recording);
        let same_hook = writes(reference).is_some() == writes(recording).is_some();
        let micros = if same_hook { TOLERANCE_US } else { WRITE_TOLERANCE_US };
        let tolerance = Tolerance { micros, without_replies: *tier == "raw" };
        let difference = ensure_same(reference, recording, tolerance)
            .unwrap_or_else(|error| panic!("--hooks {tier}: {error:#}"));
        println!("--hooks {tier}: {count} records the same, times within {difference} us");
    }
    runs
}

#[test]
fn unknown_kind_is_refused_with_the_known_ones() {
    needs!(Tracer);
    let output = tracer::command(["--hooks", "lsm"]).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for tier in TIERS {
        assert!(stderr.contains(tier), "{stderr}");
    }
}
