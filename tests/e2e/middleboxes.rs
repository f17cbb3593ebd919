//! Boxes that forget idle sessions, and what is said about the sessions behind them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
    time::Duration,
};

use tests::{
    idling::{Idled, idle},
    lab::{Lab, server_v4, server_v6},
    middlebox::{Installed, Manner, Middlebox},
    needs,
    recording::Record,
    server::{Script, Server},
    session::Session,
    tracer::Tracer,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Idle times of every session, in seconds, unless a box ends it.
const SCHEDULE: [u64; 5] = [1, 2, 4, 5, 8];
/// Times after which boxes forget, in seconds.
const LIMITS: [u64; 2] = [3, 7];
/// How long a client waits for an answer: shorter than the kernel.
const GIVES_UP: Duration = Duration::from_secs(2);
/// TTL of a packet of the server when it arrives behind the router, and of one that the router makes.
const SERVER_TTL: u64 = 63;
const ROUTER_TTL: u64 = 64;
/// TTL of the resets that a box sends when it forgets.
const EXPIRY_TTL: u64 = 128;

/// What stands before an address of the server.
#[derive(Debug, Clone, Copy)]
struct Path {
    forgets: Option<(u64, Manner)>,
    translates: bool,
}

/// One for each address of the server.
fn paths() -> Vec<Path> {
    let mut paths = vec![Path { forgets: None, translates: true }];
    for manner in [Manner::Silent, Manner::ResetOnReuse, Manner::ResetWhileIdle] {
        for limit in LIMITS {
            paths.push(Path { forgets: Some((limit, manner)), translates: false });
        }
    }
    paths.push(Path { forgets: Some((LIMITS[0], Manner::Silent)), translates: true });
    paths
}

fn install(lab: &Lab, server: IpAddr, path: Path) -> Installed {
    let mut middlebox = Middlebox::before(server);
    if let Some((limit, manner)) = path.forgets {
        middlebox = middlebox.forgetting(Duration::from_secs(limit), manner);
    }
    if path.translates {
        middlebox = middlebox.translating();
    }
    middlebox.install(lab).unwrap()
}

#[test]
fn every_manner_is_told_and_nothing_else_is_suspected() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    // Sockets that were closed without an answer must not linger for the minutes of the default.
    lab.client.sysctl("net.ipv4.tcp_orphan_retries", "2").unwrap();
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let _servers = any.map(|any| {
        let script = Script::mail_server("220 server.test ESMTP");
        Server::start(&lab.server, SocketAddr::new(any, lab.port()), script).unwrap()
    });
    let mut sessions = Vec::new();
    for (offset, path) in (0..).zip(paths()) {
        for server in [IpAddr::from(server_v4(offset)), server_v6(offset).into()] {
            sessions.push((server, path, install(&lab, server, path)));
        }
    }
    let tracer = Tracer::start(&lab).unwrap();
    let schedule = SCHEDULE.map(Duration::from_secs);
    let truths: Vec<Idled> = thread::scope(|scope| {
        let clients: Vec<_> = sessions
            .iter()
            .map(|(server, ..)| {
                let (lab, schedule) = (&lab, &schedule);
                scope.spawn(move || {
                    let server = SocketAddr::new(*server, lab.port());
                    idle(Session::connect(&lab.client, server).unwrap(), schedule, GIVES_UP)
                        .unwrap()
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    assert_eq!(run.recording.connections.len(), sessions.len());
    for ((server, path, installed), truth) in sessions.iter().zip(&truths) {
        let record = run
            .recording
            .connections
            .iter()
            .find(|record| record.server().unwrap() == SocketAddr::new(*server, lab.port()));
        println!("{server} {path:?}: {truth:?}");
        check_lab(*path, installed, truth);
        check(*path, truth, record.unwrap());
    }
}

/// The lab did what it was told to do.
fn check_lab(path: Path, installed: &Installed, truth: &Idled) {
    let limit = path.forgets.map_or(u64::MAX, |(limit, _)| limit);
    let survives = SCHEDULE.iter().take_while(|gap| **gap < limit).count();
    assert_eq!(truth.survived.len(), survives, "{path:?} {truth:?}");
    let resets = matches!(path.forgets, Some((_, Manner::ResetWhileIdle)));
    assert_eq!(installed.resets(), usize::from(resets), "{path:?}");
}

fn check(path: Path, truth: &Idled, record: &Record) {
    let text = |name: &str| record.text(name).unwrap().unwrap_or("null").to_owned();
    let ending = ["end_cause", "end_during", "end_suspect"].map(text);
    let expected = match path.forgets {
        None => ["local_fin", "dialogue", "null"],
        Some((_, Manner::Silent)) => ["unanswered", "reuse", "middlebox"],
        Some((_, Manner::ResetOnReuse)) => ["rst_received", "reuse", "middlebox"],
        Some((_, Manner::ResetWhileIdle)) => ["rst_received", "idle", "middlebox"],
    };
    assert_eq!(ending, expected, "{}", record.json());
    let reset_ttl = match path.forgets {
        Some((_, Manner::ResetOnReuse)) => Some(ROUTER_TTL),
        Some((_, Manner::ResetWhileIdle)) => Some(EXPIRY_TTL),
        _ => None,
    };
    assert_eq!(record.number("reset_ttl").unwrap(), reset_ttl, "{}", record.json());
    assert_eq!(record.known("peer_ttl").unwrap(), SERVER_TTL, "{}", record.json());
    check_gaps(path, truth, record);
}

fn check_gaps(path: Path, truth: &Idled, record: &Record) {
    let near = |us: u64, truth: Duration| us.abs_diff(micros(truth)) < 100_000;
    let mut gaps = truth.survived.clone();
    let waited = record.number("end_unanswered_us").unwrap();
    match (path.forgets, &truth.died) {
        (None, None) => assert_eq!(waited, None, "{}", record.json()),
        (Some((limit, Manner::ResetWhileIdle)), Some(_)) => {
            // It died when the box forgot it, not when the client noticed.
            let idle = record.known("end_idle_us").unwrap();
            let acknowledged = Duration::from_millis(50);
            assert!(near(idle, Duration::from_secs(limit) + acknowledged), "{}", record.json());
            assert_eq!(waited, None, "{}", record.json());
        }
        (Some(_), Some(death)) => {
            assert!(near(record.known("end_idle_us").unwrap(), death.gap), "{}", record.json());
            assert!(near(waited.unwrap(), death.cost), "{} {death:?}", record.json());
            gaps.push(death.gap);
        }
        _ => panic!("{path:?} {truth:?}"),
    }
    let recorded = record.field("idle_gaps_us").unwrap().as_array().unwrap();
    let recorded: Vec<u64> = recorded.iter().map(|gap| gap.as_u64().unwrap()).collect();
    assert_eq!(recorded.len(), gaps.len(), "{}", record.json());
    assert!(recorded.iter().zip(&gaps).all(|(us, gap)| near(*us, *gap)), "{}", record.json());
    let survived = truth.survived.iter().max().unwrap();
    assert!(near(record.known("idle_max_survived_us").unwrap(), *survived), "{}", record.json());
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap()
}
