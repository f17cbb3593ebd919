//! Every way to end, against the flags in the capture.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    thread,
    time::{Duration, Instant},
};

use tests::{
    capture::Capture,
    comparison::{self, Pair},
    flow::{ClosingFlag, Flow},
    lab::Lab,
    prerequisite::{Prerequisite, skipped},
    recording::Record,
    server::{Script, Server, Step},
    session::{Session, SocketKind},
    tracer::Tracer,
};

const NEEDS: [Prerequisite; 3] =
    [Prerequisite::Namespaces, Prerequisite::Tracer, Prerequisite::Tcpdump];
const PATIENCE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_millis(600);

/// Traces and captures one connection; `work` ends it.
fn trace(
    lab: &Lab,
    script: Script,
    prepare: impl FnOnce(&socket2::Socket) -> std::io::Result<()> + Send,
    work: impl FnOnce(Session),
) -> (Record, Flow) {
    let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
    let capture = Capture::start(&lab.client, "c0", lab.port(), &lab.file("c0.pcap")).unwrap();
    let tracer = Tracer::start(lab).unwrap();
    let kind = SocketKind::Native;
    work(Session::connect_with(&lab.client, lab.server_v4(), kind, prepare).unwrap());
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let flows = capture.stop().unwrap();
    let pairs = comparison::pair(&run.recording.connections, &flows).unwrap();
    let [Pair { record, flow }] = pairs.as_slice() else { panic!("{pairs:?}") };
    ((*record).clone(), (*flow).clone())
}

/// Like [`trace`], with an ordinary server and an ending that the capture shows.
fn trace_visible_end(script: Script, work: impl FnOnce(&Lab, Session)) -> (Record, Flow) {
    let lab = Lab::up().unwrap();
    let (record, flow) = trace(&lab, script, |_| Ok(()), |session| work(&lab, session));
    let pair = Pair { record: &record, flow: &flow };
    comparison::ensure_cause_agrees(pair).unwrap();
    comparison::ensure_bytes_agree(pair).unwrap();
    comparison::ensure_times_agree(&[pair]).unwrap();
    (record, flow)
}

fn mail_server() -> Script {
    Script::mail_server("220 server.test ESMTP")
}

fn cause(record: &Record) -> Option<&str> {
    record.text("end_cause").unwrap()
}

fn check_idle(record: &Record) {
    let expected = u64::try_from(IDLE.as_micros()).unwrap();
    let idle = record.known("end_idle_us").unwrap();
    // The kernel's own idle clock ticks in steps of up to 10 ms.
    assert!(idle.abs_diff(expected) < 50_000, "{}", record.json());
}

#[test]
fn local_fin_while_idle() {
    if skipped("local_fin_while_idle", &NEEDS) {
        return;
    }
    let (record, _) = trace_visible_end(mail_server(), |_, mut session| {
        session.begin().unwrap();
        thread::sleep(IDLE);
        session.close();
    });
    assert_eq!(cause(&record), Some("local_fin"), "{}", record.json());
    record.ensure_right_or_unknown("end_during", "idle").unwrap();
    check_idle(&record);
}

#[test]
fn peer_fin_after_quit() {
    if skipped("peer_fin_after_quit", &NEEDS) {
        return;
    }
    let (record, _) = trace_visible_end(mail_server(), |_, mut session| {
        session.begin().unwrap();
        session.message(2_000).unwrap();
        session.quit().unwrap();
    });
    assert_eq!(cause(&record), Some("peer_fin"), "{}", record.json());
    assert!(record.field("end_suspect").unwrap().is_null(), "{}", record.json());
}

/// A server that answers one command and closes after an idle time, having sent `farewell`.
fn trace_idle_close(farewell: &str) -> Record {
    let script = Script::default()
        .send("220 server.test\r\n")
        .then(Step::Command)
        .send("250 server.test\r\n")
        .pause(IDLE)
        .send(farewell);
    let (record, _) = trace_visible_end(script, |_, mut session| {
        session.begin().unwrap();
        assert!(session.wait_for_end(PATIENCE).unwrap().is_none());
    });
    assert_eq!(cause(&record), Some("peer_fin"), "{}", record.json());
    assert_ne!(record.text("end_suspect").unwrap(), Some("middlebox"), "{}", record.json());
    record
}

#[test]
fn peer_closes_an_idle_session() {
    if skipped("peer_closes_an_idle_session", &NEEDS) {
        return;
    }
    let record = trace_idle_close("");
    record.ensure_right_or_unknown("end_during", "idle").unwrap();
    check_idle(&record);
}

#[test]
fn peer_closes_an_idle_session_with_421() {
    if skipped("peer_closes_an_idle_session_with_421", &NEEDS) {
        return;
    }
    let record = trace_idle_close("421 4.4.2 server.test Error: timeout exceeded\r\n");
    assert_eq!(record.field("replies").unwrap()["421"], 1, "{}", record.json());
    record.ensure_right_or_unknown("end_during", "idle").unwrap();
    // The idle time before the 421, which ended it.
    check_idle(&record);
}

#[test]
fn reset_by_the_server() {
    if skipped("reset_by_the_server", &NEEDS) {
        return;
    }
    let script =
        Script::default().send("220 server.test\r\n").then(Step::Command).close_with_reset();
    let (record, flow) = trace_visible_end(script, |_, mut session| {
        session.reply().unwrap();
        session.send(b"EHLO client.test\r\n").unwrap();
        assert!(session.wait_for_end(PATIENCE).unwrap().is_some());
    });
    assert_eq!(cause(&record), Some("rst_received"), "{}", record.json());
    record.ensure_right_or_unknown("end_during", "dialogue").unwrap();
    check_ttls(&record, &flow);
    assert_ne!(record.text("end_suspect").unwrap(), Some("middlebox"), "{}", record.json());
}

fn check_ttls(record: &Record, flow: &Flow) {
    let reset = flow.closings.iter().find(|closing| closing.flag == ClosingFlag::Rst).unwrap();
    let peer = flow.server_ttl.unwrap();
    record.ensure_right_or_unknown("reset_ttl", reset.ttl).unwrap();
    record.ensure_right_or_unknown("peer_ttl", peer).unwrap();
}

#[test]
fn reset_by_a_box_on_reuse() {
    if skipped("reset_by_a_box_on_reuse", &NEEDS) {
        return;
    }
    let (record, flow) = trace_visible_end(mail_server(), |lab, mut session| {
        session.begin().unwrap();
        let start = Instant::now();
        // The delayed acknowledgement of the last reply must not meet the box.
        thread::sleep(IDLE / 3);
        lab.router_rules(&format!(
            "table inet box {{\n chain path {{\n type filter hook forward priority filter; \
             policy accept;\n tcp dport {} reject with tcp reset\n }}\n}}\n",
            lab.port()
        ))
        .unwrap();
        thread::sleep(IDLE.saturating_sub(start.elapsed()));
        session.send(b"RSET\r\n").unwrap();
        assert!(session.wait_for_end(PATIENCE).unwrap().is_some());
    });
    assert_eq!(cause(&record), Some("rst_received"), "{}", record.json());
    record.ensure_right_or_unknown("end_during", "reuse").unwrap();
    check_ttls(&record, &flow);
    // The write that met the box ended the gap, which it did not survive.
    let gaps = record.field("idle_gaps_us").unwrap().as_array().unwrap();
    let [gap] = gaps.as_slice() else { panic!("{}", record.json()) };
    assert!(gap.as_u64().unwrap().abs_diff(600_000) < 50_000, "{}", record.json());
    let survived = record.number("idle_max_survived_us").unwrap();
    assert!(survived < Some(500_000), "{}", record.json());
    record.ensure_right_or_unknown("end_suspect", "middlebox").unwrap();
}

#[test]
fn reset_sent_by_choice() {
    if skipped("reset_sent_by_choice", &NEEDS) {
        return;
    }
    let (record, _) = trace_visible_end(mail_server(), |_, mut session| {
        session.begin().unwrap();
        session.reset().unwrap();
    });
    assert_eq!(cause(&record), Some("rst_sent"), "{}", record.json());
    assert!(record.field("reset_ttl").unwrap().is_null(), "{}", record.json());
}

#[test]
fn reset_sent_for_unread_data() {
    if skipped("reset_sent_for_unread_data", &NEEDS) {
        return;
    }
    let (record, _) = trace_visible_end(mail_server(), |_, mut session| {
        session.begin().unwrap();
        session.send(b"NOOP\r\n").unwrap();
        session.close_unread().unwrap();
    });
    assert_eq!(cause(&record), Some("rst_sent"), "{}", record.json());
}

#[test]
fn server_falls_silent() {
    if skipped("server_falls_silent", &NEEDS) {
        return;
    }
    let lab = Lab::up().unwrap();
    let limit = Some(Duration::from_millis(1_500));
    let prepare = |socket: &socket2::Socket| socket.set_tcp_user_timeout(limit);
    let (record, flow) = trace(&lab, mail_server(), prepare, |mut session| {
        session.begin().unwrap();
        lab.router_drop(&format!("tcp sport {}", lab.port())).unwrap();
        lab.router_rules(&format!("add rule inet box path tcp dport {} drop", lab.port())).unwrap();
        session.send(b"NOOP\r\n").unwrap();
        let error = session.wait_for_end(PATIENCE).unwrap().unwrap();
        assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::ETIMEDOUT as i32), "{error}");
    });
    assert_eq!(cause(&record), Some("timeout"), "{}", record.json());
    assert!(flow.retransmitted_segments > 0);
    let retransmits = record.known("retransmits").unwrap();
    assert_eq!(retransmits, u64::from(flow.retransmitted_segments), "{}", record.json());
    assert_eq!(record.known("bytes_sent").unwrap(), flow.sent.total, "{}", record.json());
    assert_ne!(record.text("end_suspect").unwrap(), Some("peer"), "{}", record.json());
}

#[test]
fn keepalive_goes_unanswered() {
    if skipped("keepalive_goes_unanswered", &NEEDS) {
        return;
    }
    let lab = Lab::up().unwrap();
    let second = Duration::from_secs(1);
    let prepare = |socket: &socket2::Socket| {
        let keepalive = socket2::TcpKeepalive::new().with_time(second).with_interval(second);
        socket.set_tcp_keepalive(&keepalive.with_retries(1))
    };
    let (record, _) = trace(&lab, mail_server(), prepare, |mut session| {
        session.begin().unwrap();
        lab.router_drop(&format!("tcp dport {}", lab.port())).unwrap();
        assert!(session.wait_for_end(PATIENCE).unwrap().is_some());
    });
    assert_eq!(cause(&record), Some("timeout"), "{}", record.json());
    record.ensure_right_or_unknown("end_during", "idle").unwrap();
    assert_eq!(record.field("keepalive").unwrap(), true, "{}", record.json());
    record.ensure_right_or_unknown("keepalive_idle_s", 1).unwrap();
}

#[test]
fn client_gives_up_a_silent_server() {
    if skipped("client_gives_up_a_silent_server", &NEEDS) {
        return;
    }
    let lab = Lab::up().unwrap();
    // The orphaned socket must not linger for the many minutes of the default.
    lab.client.sysctl("net.ipv4.tcp_orphan_retries", "3").unwrap();
    let (record, _) = trace(
        &lab,
        mail_server(),
        |_| Ok(()),
        |mut session| {
            session.begin().unwrap();
            thread::sleep(IDLE);
            lab.router_drop(&format!("tcp dport {}", lab.port())).unwrap();
            session.send(b"RSET\r\n").unwrap();
            thread::sleep(Duration::from_millis(1_500));
            session.close();
        },
    );
    assert_eq!(cause(&record), Some("unanswered"), "{}", record.json());
    record.ensure_right_or_unknown("end_during", "reuse").unwrap();
}
