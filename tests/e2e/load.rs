//! Many connections: all recorded, or the loss counted exactly.

use std::{collections::BTreeMap, net::SocketAddr, thread, time::Duration};

use nix::{errno::Errno, sys::signal::Signal};

use tests::{
    lab::{Lab, server_v4},
    load::{self, GreetingServer, Load},
    needs, pace,
    prerequisite::report_skip,
    server::{Script, Server},
    session::{Session, failing_connect},
    this_test,
    tracer::{Run, Tracer},
};

const PER_SECOND: u32 = 2_000;

fn trace(
    lab: &Lab,
    time: Duration,
    arguments: &[&str],
    meanwhile: impl FnOnce(&Tracer),
) -> (Run, Load) {
    let server = GreetingServer::start(lab).unwrap();
    let tracer = Tracer::start_with(lab, arguments).unwrap();
    let load = thread::scope(|scope| {
        let load = scope.spawn(|| load::generate(lab, PER_SECOND, time));
        meanwhile(&tracer);
        load.join().unwrap().unwrap()
    });
    drop(server);
    lab.wait_for_ends(Duration::from_secs(15)).unwrap();
    let run = tracer.stop().unwrap();
    assert!(run.status.success(), "{}", run.stderr);
    println!("{load:?}: {:.0} connections per second", load.rate());
    assert_eq!(load.failures, 0, "{load:?}");
    (run, load)
}

#[test]
fn thirty_seconds_without_loss() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let (run, load) = trace(&lab, Duration::from_secs(30), &[], |_| ());
    run.recording.ensure_complete().unwrap();
    assert_eq!(run.recording.connections.len() as u64, load.connections);
    for record in &run.recording.connections {
        assert_eq!(record.text("end_cause").unwrap(), Some("peer_fin"), "{}", record.json());
        assert!(record.number("banner_us").unwrap().is_some(), "{}", record.json());
    }
    let enough = f64::from(PER_SECOND) * 0.9 / f64::from(*pace::SLOWNESS);
    if load.rate() < enough {
        let rate = load.rate();
        let reason = format!("no loss, but this machine opened only {rate:.0} a second");
        report_skip(this_test!(), Some("2,000 a second"), &reason);
    }
}

#[test]
fn a_tracer_that_falls_behind_counts_what_it_lost() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    // Stopped for a second, it cannot empty the ring, which is one page.
    let ring = ["--ring-size", "4096"];
    let (run, load) = trace(&lab, Duration::from_secs(4), &ring, |tracer| {
        thread::sleep(Duration::from_secs(1));
        tracer.signal(Signal::SIGSTOP).unwrap();
        thread::sleep(Duration::from_secs(1));
        tracer.signal(Signal::SIGCONT).unwrap();
    });
    let recorded = run.recording.connections.len() as u64;
    let lost = run.recording.trust("connections_lost").unwrap().unwrap();
    assert_eq!(recorded + lost, load.connections, "{:?}", run.recording.trailer);
    assert!(lost > 0, "nothing was lost: {:?}", run.recording.trailer);
    assert!(run.recording.trust("events_lost").unwrap() > Some(0), "{:?}", run.recording.trailer);
}

/// Failed connects free their places, however they fail.
#[test]
fn failed_connects_leave_room_in_the_table() {
    const ROOM: u8 = 4;
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let at = |offset| SocketAddr::from((server_v4(offset), lab.port()));
    let port = lab.port();
    lab.router_rules(&format!(
        "table inet box {{\n chain path {{\n type filter hook forward priority filter; \
         policy accept;\n ip daddr {} tcp dport {port} drop\n \
         ip daddr {} tcp dport {port} reject with icmp type host-unreachable\n }}\n}}\n",
        server_v4(1),
        server_v4(2)
    ))
    .unwrap();
    lab.client.sysctl("net.ipv4.tcp_syn_retries", "1").unwrap();
    let room = ROOM.to_string();
    let tracer = Tracer::start_with(&lab, &["--max-connections", &room]).unwrap();
    let fail = |to, errno: Errno| {
        let failure = failing_connect(&lab.client, to).unwrap();
        assert_eq!(failure.error.raw_os_error(), Some(errno as i32), "{failure:?}");
    };
    thread::scope(|scope| {
        for _ in 0..ROOM {
            scope.spawn(|| fail(at(1), Errno::ETIMEDOUT));
        }
    });
    (0..2 * ROOM).for_each(|_| fail(at(2), Errno::EHOSTUNREACH));
    (0..5 * ROOM).for_each(|_| fail(at(0), Errno::ECONNREFUSED));
    let _server = Server::mail(&lab).unwrap();
    let mut session = Session::connect(&lab.client, at(0)).unwrap();
    session.begin().unwrap();
    session.quit().unwrap();
    lab.wait_for_ends(Duration::from_secs(15)).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let mut reasons = BTreeMap::new();
    for record in &run.recording.connections {
        let reason = record.text("connect_error").unwrap().unwrap_or("none").to_owned();
        *reasons.entry(reason).or_insert(0) += 1;
    }
    let expected =
        [("ECONNREFUSED", 5 * ROOM), ("EHOSTUNREACH", 2 * ROOM), ("ETIMEDOUT", ROOM), ("none", 1)];
    assert_eq!(reasons, expected.map(|(reason, count)| (reason.to_owned(), count)).into());
}

#[test]
fn a_full_table_turns_connections_away_and_says_so() {
    const OPEN: usize = 20;
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let script = Script::mail_server("220 server.test ESMTP");
    let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
    // Less than eight: none is kept for other users.
    let tracer = Tracer::start_with(&lab, &["--max-connections", "7"]).unwrap();
    let open = |_| Session::connect(&lab.client, lab.server_v4()).unwrap();
    let sessions: Vec<Session> = (0..OPEN).map(open).collect();
    drop(sessions);
    lab.wait_for_ends(Duration::from_secs(5)).unwrap();
    // The table has room again.
    let mut later = open(OPEN);
    later.begin().unwrap();
    let later_port = later.local().port();
    later.quit().unwrap();
    lab.wait_for_ends(Duration::from_secs(5)).unwrap();
    let run = tracer.stop().unwrap();
    assert!(run.status.success(), "{}", run.stderr);
    let lost = run.recording.trust("connections_lost").unwrap().unwrap();
    let recorded = run.recording.connections.len();
    assert_eq!(recorded as u64 + lost, OPEN as u64 + 1, "{:?}", run.recording.trailer);
    assert!(lost > 0, "{:?}", run.recording.trailer);
    assert!(run.recording.trust("map_full").unwrap() > Some(0), "{:?}", run.recording.trailer);
    let newest = run.recording.connections.last().unwrap();
    assert_eq!(newest.known("sport").unwrap(), u64::from(later_port), "{}", newest.json());
}
