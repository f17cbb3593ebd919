//! Every way to end, against the flags in the capture.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tests::{
    capture::Capture,
    comparison::{self, Pair},
    flow::{ClosingFlag, Flow, Nanos},
    lab::Lab,
    needs,
    recording::Record,
    server::{Script, Server, Step},
    session::Session,
    single::trace,
    sink::Sink,
    tracer::Tracer,
    wait,
};

const PATIENCE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_millis(600);
/// Long enough for the next write to be a reuse.
const LONG_IDLE: Duration = Duration::from_millis(1_400);
/// TTL of the server's packets when they arrive.
const SERVER_TTL: u64 = 63;

/// Traces one connection whose ending the capture shows.
fn trace_visible_end(script: &Script, work: impl Fn(&Lab, Session)) -> (Record, Flow) {
    let traced = comparison::undisturbed(|| {
        let lab = Lab::up()?;
        let work = |session| work(&lab, session);
        let (record, flow) = trace(&lab, script.clone(), |_| Ok(()), work)?;
        let pair = Pair { record: &record, flow: &flow };
        comparison::ensure_cause_agrees(pair)?;
        comparison::ensure_bytes_agree(pair)?;
        Ok((comparison::compare_times(&[pair])?, (record, flow)))
    });
    traced.unwrap()
}

fn nanos(time: Duration) -> Nanos {
    Nanos::try_from(time.as_nanos()).unwrap()
}

/// It idled for `least` until the first FIN or reset, and the record says for how long.
fn check_idle(record: &Record, flow: &Flow, least: Duration) {
    let idle = flow.idle_before(flow.closings[0].at);
    record.ensure_as_captured("end_idle_us", idle).unwrap();
    assert!(idle >= Some(nanos(least)), "{flow:?}");
}

fn mail_server() -> Script {
    Script::mail_server("220 server.test ESMTP")
}

#[test]
fn local_fin_while_idle() {
    needs!(Namespaces, Tracer, Tcpdump);
    let (record, flow) = trace_visible_end(&mail_server(), |_, mut session| {
        session.begin().unwrap();
        thread::sleep(IDLE);
        session.close();
    });
    record.ensure_ending([Some("local_fin"), Some("idle"), None]).unwrap();
    check_idle(&record, &flow, IDLE);
    assert_eq!(record.number("fin_ttl").unwrap(), None, "{}", record.json());
    assert_eq!(record.field("keepalive").unwrap(), false, "{}", record.json());
    assert_eq!(record.number("keepalive_idle_s").unwrap(), None, "{}", record.json());
}

#[test]
fn peer_fin_after_quit() {
    needs!(Namespaces, Tracer, Tcpdump);
    let (record, _) = trace_visible_end(&mail_server(), |_, mut session| {
        session.begin().unwrap();
        session.message(2_000).unwrap();
        session.quit().unwrap();
    });
    record.ensure_ending([Some("peer_fin"), Some("dialogue"), None]).unwrap();
    assert_eq!(record.known("fin_ttl").unwrap(), SERVER_TTL, "{}", record.json());
    assert_eq!(record.number("reset_ttl").unwrap(), None, "{}", record.json());
    assert_eq!(record.number("end_unanswered_us").unwrap(), None, "{}", record.json());
}

/// A server that answers one command and closes after an idle time, having sent `farewell`.
fn trace_idle_close(farewell: &str) -> Record {
    let script = Script::default()
        .send("220 server.test\r\n")
        .then(Step::Command)
        .send("250 server.test\r\n")
        .pause(IDLE)
        .send(farewell);
    let (record, flow) = trace_visible_end(&script, |_, mut session| {
        session.begin().unwrap();
        assert!(session.wait_for_end(PATIENCE).unwrap().is_none());
    });
    record.ensure_ending([Some("peer_fin"), Some("idle"), Some("peer")]).unwrap();
    // The idle time before a 421, which ended it.
    let last = flow.progress.last().unwrap();
    let end = if farewell.is_empty() { flow.closings[0].at } else { last.at };
    record.ensure_as_captured("end_idle_us", flow.idle_before(end)).unwrap();
    assert!(flow.idle_before(end) >= Some(nanos(IDLE)), "{flow:?}");
    record
}

#[test]
fn peer_closes_an_idle_session() {
    needs!(Namespaces, Tracer, Tcpdump);
    trace_idle_close("");
}

#[test]
fn peer_closes_an_idle_session_with_421() {
    needs!(Namespaces, Tracer, Tcpdump);
    let record = trace_idle_close("421 4.4.2 server.test Error: timeout exceeded\r\n");
    assert_eq!(record.field("replies").unwrap()["421"], 1, "{}", record.json());
}

#[test]
fn reset_by_the_server() {
    needs!(Namespaces, Tracer, Tcpdump);
    let script =
        Script::default().send("220 server.test\r\n").then(Step::Command).close_with_reset();
    let (record, flow) = trace_visible_end(&script, |_, mut session| {
        session.reply().unwrap();
        session.send(b"EHLO client.test\r\n").unwrap();
        assert!(session.wait_for_end(PATIENCE).unwrap().is_some());
    });
    record.ensure_ending([Some("rst_received"), Some("dialogue"), Some("peer")]).unwrap();
    check_ttls(&record, &flow);
    assert_eq!(record.field("reset_ack").unwrap(), true, "{}", record.json());
}

#[test]
fn reset_by_the_server_while_idle() {
    needs!(Namespaces, Tracer, Tcpdump);
    let script = Script::default()
        .send("220 server.test\r\n")
        .then(Step::Command)
        .send("250 server.test\r\n")
        .pause(IDLE)
        .close_with_reset();
    let (record, flow) = trace_visible_end(&script, |_, mut session| {
        session.begin().unwrap();
        assert!(session.wait_for_end(PATIENCE).unwrap().is_some());
    });
    record.ensure_ending([Some("rst_received"), Some("idle"), Some("peer")]).unwrap();
    check_ttls(&record, &flow);
    check_idle(&record, &flow, IDLE);
}

/// A server that was restarted, or whose FIN a box has kept: it answers with a reset of its own, and that
/// does not say who is to blame.
#[test]
fn server_that_has_forgotten_the_session() {
    needs!(Namespaces, Tracer, Tcpdump);
    let (record, flow) = trace_visible_end(&mail_server(), |lab, mut session| {
        session.begin().unwrap();
        // A delayed acknowledgement would be answered by a reset as well.
        thread::sleep(Duration::from_millis(300));
        lab.router_drop("tcp flags rst").unwrap();
        let client = format!("dport = :{}", session.local().port());
        lab.server.run("ss", ["-KtH", client.as_str()]).unwrap();
        lab.router_open().unwrap();
        thread::sleep(LONG_IDLE);
        session.send(b"RSET\r\n").unwrap();
        assert!(session.wait_for_end(PATIENCE).unwrap().is_some());
    });
    record.ensure_ending([Some("rst_received"), Some("reuse"), None]).unwrap();
    check_ttls(&record, &flow);
    assert_eq!(record.field("reset_ack").unwrap(), false, "{}", record.json());
}

fn check_ttls(record: &Record, flow: &Flow) {
    let reset = flow.closings.iter().find(|closing| closing.flag == ClosingFlag::Rst).unwrap();
    let peer = flow.server_ttl.unwrap();
    assert_eq!(record.known("reset_ttl").unwrap(), u64::from(reset.ttl), "{}", record.json());
    assert_eq!(record.known("peer_ttl").unwrap(), u64::from(peer), "{}", record.json());
}

#[test]
fn reset_by_a_box_on_reuse() {
    needs!(Namespaces, Tracer, Tcpdump);
    let (record, flow) = trace_visible_end(&mail_server(), |lab, mut session| {
        session.begin().unwrap();
        let start = Instant::now();
        // The delayed acknowledgement of the last reply must not meet the box.
        thread::sleep(LONG_IDLE / 3);
        lab.router_rules(&format!(
            "table inet box {{\n chain path {{\n type filter hook forward priority filter; \
             policy accept;\n tcp dport {} reject with tcp reset\n }}\n}}\n",
            lab.port()
        ))
        .unwrap();
        thread::sleep(LONG_IDLE.saturating_sub(start.elapsed()));
        session.send(b"RSET\r\n").unwrap();
        assert!(session.wait_for_end(PATIENCE).unwrap().is_some());
    });
    record.ensure_ending([Some("rst_received"), Some("reuse"), Some("middlebox")]).unwrap();
    check_ttls(&record, &flow);
    // It idled until it wrote.
    let idle = flow.idle_before(flow.last_write().unwrap());
    record.ensure_as_captured("end_idle_us", idle).unwrap();
    assert!(idle >= Some(nanos(LONG_IDLE)), "{flow:?}");
    assert_eq!(record.field("reset_ack").unwrap(), false, "{}", record.json());
    // The write that met the box ended the gap, which it did not survive.
    let gaps = record.field("idle_gaps_us").unwrap().as_array().unwrap();
    let [gap] = gaps.as_slice() else { panic!("{}", record.json()) };
    assert_eq!(gap.as_u64(), record.number("end_idle_us").unwrap(), "{}", record.json());
    let survived = record.number("idle_max_survived_us").unwrap();
    assert!(survived < Some(500_000), "{}", record.json());
}

#[test]
fn reset_sent_by_choice() {
    needs!(Namespaces, Tracer, Tcpdump);
    let (record, _) = trace_visible_end(&mail_server(), |_, mut session| {
        session.begin().unwrap();
        session.reset().unwrap();
    });
    record.ensure_ending([Some("rst_sent"), Some("dialogue"), None]).unwrap();
    assert!(record.field("reset_ttl").unwrap().is_null(), "{}", record.json());
}

#[test]
fn reset_sent_for_unread_data() {
    needs!(Namespaces, Tracer, Tcpdump);
    let (record, _) = trace_visible_end(&mail_server(), |_, mut session| {
        session.begin().unwrap();
        session.send(b"NOOP\r\n").unwrap();
        session.close_unread().unwrap();
    });
    record.ensure_ending([Some("rst_sent"), Some("dialogue"), None]).unwrap();
}

#[test]
fn client_is_killed() {
    needs!(Namespaces, Tracer, Tcpdump);
    let (lab, script) = (Lab::up().unwrap(), mail_server());
    let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
    let capture = Capture::start(&lab.client, "c0", lab.port(), &lab.file("c0.pcap")).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab-session"));
    command.arg("wait").arg(lab.server_v4().to_string()).stdout(Stdio::piped());
    let mut client = lab.client.spawn(&mut command).unwrap();
    let mut word = String::new();
    BufReader::new(client.stdout.take().unwrap()).read_line(&mut word).unwrap();
    assert_eq!(word, "waiting\n");
    thread::sleep(IDLE);
    client.kill().unwrap();
    client.wait().unwrap();
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let record = run.recording.single().unwrap();
    record.ensure_ending([Some("local_fin"), Some("idle"), None]).unwrap();
    check_idle(record, &capture.stop().unwrap()[0], IDLE);
}

/// It holds data that it has not read: the kernel sends a reset in its name.
#[test]
fn server_is_killed_before_it_has_read_all() {
    needs!(Namespaces, Tracer, Tcpdump, Postfix);
    let lab = Lab::up().unwrap();
    let server = Sink::start(&lab.server, lab.server_v4(), &[]).unwrap();
    let capture = Capture::start(&lab.client, "c0", lab.port(), &lab.file("c0.pcap")).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    session.begin().unwrap();
    server.freeze().unwrap();
    // Not of six bytes: that could be QUIT, after which a reset is ordinary.
    let command = b"MAIL FROM:<a@client.test>\r\n";
    session.send(command).unwrap();
    let (port, unread) = (format!("sport = :{}", lab.port()), command.len().to_string());
    wait::until("data that the server has not read", PATIENCE, || {
        let sockets = lab.server.run("ss", ["-tnH", port.as_str()])?;
        let sockets = String::from_utf8(sockets.stdout)?;
        let all = sockets.split_ascii_whitespace().nth(1).is_some_and(|queue| queue == unread);
        Ok(all.then_some(()))
    })
    .unwrap();
    drop(server);
    assert!(session.wait_for_end(PATIENCE).unwrap().is_some());
    session.close();
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let flows = capture.stop().unwrap();
    let pairs = comparison::pair(&run.recording.connections, &flows).unwrap();
    let [pair] = pairs.as_slice() else { panic!("{pairs:?}") };
    comparison::ensure_cause_agrees(*pair).unwrap();
    let Pair { record, flow } = pair;
    record.ensure_ending([Some("rst_received"), Some("dialogue"), Some("peer")]).unwrap();
    check_ttls(record, flow);
    assert_eq!(record.known("reset_ttl").unwrap(), SERVER_TTL, "{}", record.json());
    assert!(flow.closings.iter().all(|closing| closing.flag == ClosingFlag::Rst), "{flow:?}");
}

#[test]
fn server_is_killed() {
    needs!(Namespaces, Tracer, Tcpdump, Postfix);
    let lab = Lab::up().unwrap();
    let server = Sink::start(&lab.server, lab.server_v4(), &[]).unwrap();
    let capture = Capture::start(&lab.client, "c0", lab.port(), &lab.file("c0.pcap")).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    session.begin().unwrap();
    thread::sleep(IDLE);
    drop(server);
    assert!(session.wait_for_end(PATIENCE).unwrap().is_none());
    session.close();
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let record = run.recording.single().unwrap();
    record.ensure_ending([Some("peer_fin"), Some("idle"), Some("peer")]).unwrap();
    check_idle(record, &capture.stop().unwrap()[0], IDLE);
}
