//! IPv4, IPv6 and IPv4 in an IPv6 socket.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{net::SocketAddr, time::Duration};

use tests::{
    lab::Lab,
    prerequisite::{Prerequisite, skipped},
    recording::Record,
    server::{Script, Server},
    session::{COMM, Session, SocketKind},
    tracer::Tracer,
};

/// Traces one session with one message and returns its record.
fn trace(lab: &Lab, to: SocketAddr, kind: SocketKind) -> (Record, SocketAddr) {
    let script = Script::mail_server("220 server.test ESMTP");
    let server = Server::start(&lab.server, to, script).unwrap();
    let tracer = Tracer::start(lab).unwrap();
    let mut session = Session::connect_with(&lab.client, to, kind, |_| Ok(())).unwrap();
    let local = session.local();
    session.begin().unwrap();
    session.message(1_000).unwrap();
    session.quit().unwrap();
    lab.wait_for_ends(Duration::from_secs(5)).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    assert_eq!(server.failures(), Vec::<String>::new());
    (run.recording.single().unwrap().clone(), local)
}

fn check(record: &Record, family: &str, src: &str, dst: &str, local: SocketAddr, lab: &Lab) {
    let text = |name| record.text(name).unwrap();
    assert_eq!(text("family"), Some(family), "{}", record.json());
    assert_eq!(text("src"), Some(src), "{}", record.json());
    assert_eq!(text("dst"), Some(dst), "{}", record.json());
    assert_eq!(record.known("sport").unwrap(), u64::from(local.port()), "{}", record.json());
    assert_eq!(record.known("dport").unwrap(), u64::from(lab.port()), "{}", record.json());
    assert_eq!(record.known("netns").unwrap(), lab.client.inode().unwrap(), "{}", record.json());
    assert_eq!(record.known("pid").unwrap(), u64::from(std::process::id()), "{}", record.json());
    assert_eq!(text("comm"), Some(COMM), "{}", record.json());
    assert_eq!(record.known("uid").unwrap(), 0, "{}", record.json());
    assert_eq!(record.known("banner_code").unwrap(), 220, "{}", record.json());
    assert_eq!(text("banner_host"), Some("server.test"), "{}", record.json());
    assert_eq!(text("end_cause"), Some("peer_fin"), "{}", record.json());
    // EHLO, MAIL, RCPT, DATA, body, QUIT.
    assert_eq!(record.known("turns").unwrap(), 6, "{}", record.json());
}

#[test]
fn ipv4() {
    if skipped("ipv4", &[Prerequisite::Namespaces, Prerequisite::Tracer]) {
        return;
    }
    let lab = Lab::up().unwrap();
    let (record, local) = trace(&lab, lab.server_v4(), SocketKind::Native);
    check(&record, "ipv4", "10.71.1.2", "10.71.2.2", local, &lab);
}

#[test]
fn ipv6() {
    if skipped("ipv6", &[Prerequisite::Namespaces, Prerequisite::Tracer]) {
        return;
    }
    let lab = Lab::up().unwrap();
    let (record, local) = trace(&lab, lab.server_v6(), SocketKind::Native);
    check(&record, "ipv6", "fd71:1::2", "fd71:2::2", local, &lab);
}

#[test]
fn ipv4_mapped() {
    if skipped("ipv4_mapped", &[Prerequisite::Namespaces, Prerequisite::Tracer]) {
        return;
    }
    let lab = Lab::up().unwrap();
    let (record, local) = trace(&lab, lab.server_v4(), SocketKind::Ipv4Mapped);
    check(&record, "ipv4", "10.71.1.2", "10.71.2.2", local, &lab);
}
