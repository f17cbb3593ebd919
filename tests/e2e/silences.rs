//! Connections that end in silence: nobody says that they are over.

use std::{
    thread,
    time::{Duration, Instant},
};

use tests::{flow::Flow, lab::Lab, needs, recording::Record, server::Script, single::trace};

const PATIENCE: Duration = Duration::from_secs(10);
/// A pause within a dialogue, and one long enough for the next write to be a reuse.
const SHORT: Duration = Duration::from_millis(600);
const LONG: Duration = Duration::from_millis(1_400);

fn mail_server() -> Script {
    Script::mail_server("220 server.test ESMTP")
}

/// What `run` traced of a client that idled for less than a second, after which its next write is a reuse. A slow
/// machine may make it idle for longer than it means to; then it runs again.
fn in_dialogue<T>(run: impl Fn() -> (T, Duration)) -> T {
    let mut runs = (0..5).map(|_| run());
    let in_time = runs.find(|(_, idled)| *idled < Duration::from_millis(900));
    in_time.expect("one of five clients idles for less than a second").0
}

/// A session whose server does not answer any more, with how long the client idled before.
fn trace_silence() -> ((Record, Flow), Duration) {
    let lab = Lab::up().unwrap();
    let limit = Some(Duration::from_millis(1_500));
    let prepare = |socket: &socket2::Socket| socket.set_tcp_user_timeout(limit);
    let mut idled = Duration::ZERO;
    let traced = trace(&lab, mail_server(), prepare, |mut session| {
        session.begin().unwrap();
        let start = Instant::now();
        lab.router_drop(&format!("tcp sport {}", lab.port())).unwrap();
        lab.router_rules(&format!("add rule inet box path tcp dport {} drop", lab.port())).unwrap();
        session.send(b"NOOP\r\n").unwrap();
        idled = start.elapsed();
        let error = session.wait_for_end(PATIENCE).unwrap().unwrap();
        assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::ETIMEDOUT as i32), "{error}");
    });
    (traced.unwrap(), idled)
}

#[test]
fn server_falls_silent() {
    needs!(Namespaces, Tracer, Tcpdump);
    let (record, flow) = in_dialogue(trace_silence);
    // Somebody fell silent in the middle of a dialogue: it could be anybody.
    record.ensure_ending([Some("timeout"), Some("dialogue"), None]).unwrap();
    assert!(flow.retransmitted_segments > 0);
    let retransmits = record.known("retransmits").unwrap();
    assert_eq!(retransmits, u64::from(flow.retransmitted_segments), "{}", record.json());
    assert_eq!(record.known("bytes_sent").unwrap(), flow.sent.total, "{}", record.json());
}

#[test]
fn keepalive_goes_unanswered() {
    needs!(Namespaces, Tracer, Tcpdump);
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
    })
    .unwrap();
    record.ensure_ending([Some("timeout"), Some("idle"), Some("middlebox")]).unwrap();
    assert_eq!(record.field("keepalive").unwrap(), true, "{}", record.json());
    assert_eq!(record.known("keepalive_idle_s").unwrap(), 1, "{}", record.json());
}

#[test]
fn keepalive_time_is_that_of_the_namespace() {
    needs!(Namespaces, Tracer, Tcpdump);
    let lab = Lab::up().unwrap();
    lab.client.sysctl("net.ipv4.tcp_keepalive_time", "4321").unwrap();
    let prepare = |socket: &socket2::Socket| socket.set_keepalive(true);
    let (record, _) = trace(&lab, mail_server(), prepare, |mut session| {
        session.begin().unwrap();
        session.quit().unwrap();
    })
    .unwrap();
    assert_eq!(record.field("keepalive").unwrap(), true, "{}", record.json());
    assert_eq!(record.known("keepalive_idle_s").unwrap(), 4321, "{}", record.json());
}

/// A client that waits a second and a half for an answer to the write after `gap`. Returns also how long that was
/// on this machine.
fn trace_give_up(gap: Duration) -> ((Record, Flow), Duration) {
    let lab = Lab::up().unwrap();
    // The orphaned socket must not linger for the many minutes of the default.
    lab.client.sysctl("net.ipv4.tcp_orphan_retries", "3").unwrap();
    let patience = Duration::from_millis(1_500);
    let (mut idled, mut most) = (Duration::ZERO, Duration::ZERO);
    let (record, flow) = trace(
        &lab,
        mail_server(),
        |_| Ok(()),
        |mut session| {
            session.begin().unwrap();
            let start = Instant::now();
            thread::sleep(gap / 3);
            lab.router_drop(&format!("tcp dport {}", lab.port())).unwrap();
            thread::sleep(gap.saturating_sub(start.elapsed()));
            let written = Instant::now();
            session.send(b"RSET\r\n").unwrap();
            idled = start.elapsed();
            thread::sleep(patience);
            session.close();
            most = written.elapsed();
        },
    )
    .unwrap();
    // The capture does not show when it closed: the FIN waits for the acknowledgement of the command.
    let waited = Duration::from_micros(record.known("end_unanswered_us").unwrap());
    assert!((patience..=most).contains(&waited), "{most:?}: {}", record.json());
    ((record, flow), idled)
}

#[test]
fn client_gives_up_a_silent_server() {
    needs!(Namespaces, Tracer, Tcpdump);
    let ((record, flow), _) = trace_give_up(LONG);
    record.ensure_ending([Some("unanswered"), Some("reuse"), Some("middlebox")]).unwrap();
    let idle = flow.idle_before(flow.last_write().unwrap());
    record.ensure_as_captured("end_idle_us", idle).unwrap();
    assert!(idle >= Some(1_400_000_000), "{flow:?}");
}

#[test]
fn client_gives_up_in_a_dialogue() {
    needs!(Namespaces, Tracer, Tcpdump);
    let (record, _) = in_dialogue(|| trace_give_up(SHORT));
    record.ensure_ending([Some("unanswered"), Some("dialogue"), None]).unwrap();
}

/// The router says that the server is gone: no box is suspected, although the session had idled.
#[test]
fn link_of_the_server_goes_down() {
    needs!(Namespaces, Tracer, Tcpdump);
    let lab = Lab::up().unwrap();
    // The router looks for its neighbour for three seconds before it tells.
    let limit = Some(Duration::from_secs(6));
    let prepare = |socket: &socket2::Socket| socket.set_tcp_user_timeout(limit);
    let (record, _) = trace(&lab, mail_server(), prepare, |mut session| {
        session.begin().unwrap();
        lab.server.run("ip", ["link", "set", "s0", "down"]).unwrap();
        thread::sleep(LONG);
        session.send(b"RSET\r\n").unwrap();
        let error = session.wait_for_end(Duration::from_secs(30)).unwrap().unwrap();
        assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EHOSTUNREACH as i32), "{error}");
    })
    .unwrap();
    record.ensure_ending([Some("timeout"), Some("reuse"), None]).unwrap();
}
