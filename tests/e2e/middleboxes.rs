//! Boxes that forget idle sessions, and what is said about the sessions behind them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
    time::Duration,
};

use tests::{
    capture::Capture,
    comparison::{self, Pair},
    flow::{Flow, Nanos},
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
    needs!(Namespaces, Tracer, Tcpdump);
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
    let capture = Capture::start(&lab.client, "c0", lab.port(), &lab.file("c0.pcap")).unwrap();
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
    let flows = capture.stop().unwrap();
    assert_eq!(run.recording.connections.len(), sessions.len());
    let pairs = comparison::pair(&run.recording.connections, &flows).unwrap();
    for ((server, path, installed), truth) in sessions.iter().zip(&truths) {
        let server = SocketAddr::new(*server, lab.port());
        let Pair { record, flow } = pairs.iter().find(|it| it.flow.server == server).unwrap();
        println!("{server} {path:?}: {truth:?}");
        check_lab(*path, installed, truth);
        check(*path, truth, record);
        check_times(*path, truth, record, flow);
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
    // A client that is told of the end, or does not write, waits for no answer.
    let waits = ending[0] == "unanswered" || ending[..2] == ["rst_received", "reuse"];
    let waited = record.number("end_unanswered_us").unwrap();
    assert_eq!(waited.is_some(), waits && truth.died.is_some(), "{}", record.json());
}

/// Idle times, and the time without an answer, are those of the capture.
fn check_times(path: Path, truth: &Idled, record: &Record, flow: &Flow) {
    const LEAST_GAP: Nanos = 900_000_000;
    let as_captured = |name, captured| record.ensure_as_captured(name, captured).unwrap();
    let gaps = flow.gaps(LEAST_GAP);
    let mut survived = gaps.as_slice();
    match path.forgets {
        None => {}
        Some((limit, Manner::ResetWhileIdle)) => {
            // It died when the box forgot it, not when the client noticed.
            let idle = flow.idle_before(flow.closings[0].at);
            as_captured("end_idle_us", idle);
            assert!(idle > Some(Nanos::try_from(limit).unwrap() * 1_000_000_000), "{flow:?}");
        }
        Some((_, manner)) => {
            let written = flow.last_write().unwrap();
            as_captured("end_idle_us", flow.idle_before(written));
            survived = &gaps[..gaps.len() - 1];
            if manner == Manner::ResetOnReuse {
                as_captured("end_unanswered_us", Some(flow.closings[0].at - written));
            } else {
                // The FIN waits for the acknowledgement of the command: the client's clock has to do.
                let waited = Duration::from_micros(record.known("end_unanswered_us").unwrap());
                let most = truth.died.as_ref().unwrap().lasted;
                assert!((GIVES_UP..=most).contains(&waited), "{most:?}: {}", record.json());
            }
        }
    }
    as_captured("idle_max_survived_us", survived.iter().max().copied());
    let recorded = record.field("idle_gaps_us").unwrap().as_array().unwrap();
    let recorded: Vec<Nanos> = recorded.iter().map(|it| it.as_i64().unwrap() * 1_000).collect();
    assert_eq!(recorded.len(), gaps.len(), "{} {gaps:?}", record.json());
    let near = |(one, other): (&Nanos, &Nanos)| one.abs_diff(*other) < 100_000_000;
    assert!(recorded.iter().zip(&gaps).all(near), "{} {gaps:?}", record.json());
}
