//! Many connections: all recorded, or the loss counted exactly.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{thread, time::Duration};

use nix::sys::signal::Signal;

use tests::{
    lab::Lab,
    load::{self, GreetingServer, Load},
    prerequisite::{Prerequisite, skipped},
    server::{Script, Server},
    session::Session,
    tracer::{Run, Tracer},
};

const NEEDS: [Prerequisite; 2] = [Prerequisite::Namespaces, Prerequisite::Tracer];
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
    if skipped("thirty_seconds_without_loss", &NEEDS) {
        return;
    }
    let lab = Lab::up().unwrap();
    let (run, load) = trace(&lab, Duration::from_secs(30), &[], |_| ());
    assert!(load.rate() > 500.0, "too slow to say anything: {load:?}");
    run.recording.ensure_complete().unwrap();
    assert_eq!(run.recording.connections.len() as u64, load.connections);
    for record in &run.recording.connections {
        assert_eq!(record.text("end_cause").unwrap(), Some("peer_fin"), "{}", record.json());
        assert!(record.number("banner_us").unwrap().is_some(), "{}", record.json());
    }
}

#[test]
fn a_tracer_that_falls_behind_counts_what_it_lost() {
    if skipped("a_tracer_that_falls_behind_counts_what_it_lost", &NEEDS) {
        return;
    }
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

#[test]
fn a_full_table_turns_connections_away_and_says_so() {
    const OPEN: usize = 20;
    if skipped("a_full_table_turns_connections_away_and_says_so", &NEEDS) {
        return;
    }
    let lab = Lab::up().unwrap();
    let script = Script::mail_server("220 server.test ESMTP");
    let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
    let tracer = Tracer::start_with(&lab, &["--max-connections", "8"]).unwrap();
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
