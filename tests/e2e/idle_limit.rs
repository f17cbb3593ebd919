//! Idle limits: what the report concludes about boxes that forget, servers that time out, and neither.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
    time::Duration,
};

use serde_json::Value;
use socket2::TcpKeepalive;
use tests::{
    idling::{Idled, idle},
    lab::{Lab, server_v4, server_v6},
    middlebox::{Installed, Manner, Middlebox},
    needs, report,
    server::{Script, Server},
    session::{Session, SocketKind},
    tracer::{self, Run, Tracer},
};

const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client waits for an answer: shorter than the kernel.
const GIVES_UP: Duration = Duration::from_secs(2);
/// Sessions for each gap.
const EACH: usize = 2;

/// An address of the server, what stands before it, and the gaps after which sessions use it again.
struct Path {
    server: IpAddr,
    forgets: Option<(u64, Manner)>,
    translates: bool,
    /// Idle time before the first keepalive probe.
    keepalive: Duration,
    gaps_ms: Vec<u64>,
}

/// Gaps around a limit: none is nearer to it than half a second.
fn gaps_around(limit: u64) -> Vec<u64> {
    match limit {
        3 => vec![1_000, 2_000, 2_500, 3_500, 4_000, 5_000],
        _ => vec![2_000, 4_000, 6_000, 6_500, 7_500, 8_000, 9_000],
    }
}

/// Every manner with every time over both families, two of them behind address translation, and two that
/// let sessions live.
fn paths() -> Vec<Path> {
    const RARELY: Duration = Duration::from_secs(7_200);
    let forgetting = |server, limit, manner| Path {
        server,
        forgets: Some((limit, manner)),
        translates: false,
        keepalive: RARELY,
        gaps_ms: gaps_around(limit),
    };
    let manners = [Manner::Silent, Manner::ResetOnReuse, Manner::ResetWhileIdle];
    let boxes = manners.into_iter().flat_map(|manner| [(3, manner), (7, manner)]);
    let mut paths = Vec::new();
    for (offset, (limit, manner)) in (0..).zip(boxes) {
        for server in [server_v4(offset).into(), server_v6(offset).into()] {
            paths.push(forgetting(server, limit, manner));
        }
    }
    let translated_v4 = forgetting(server_v4(6).into(), 3, Manner::Silent);
    let translated_v6 = forgetting(server_v6(6).into(), 7, Manner::ResetOnReuse);
    paths.push(Path { translates: true, ..translated_v4 });
    paths.push(Path { translates: true, ..translated_v6 });
    paths.push(Path {
        keepalive: Duration::from_secs(2),
        gaps_ms: vec![4_000, 5_000],
        ..forgetting(server_v4(7).into(), 3, Manner::Silent)
    });
    paths.push(Path {
        server: server_v6(7).into(),
        forgets: None,
        translates: false,
        keepalive: RARELY,
        gaps_ms: vec![500, 1_000, 5_000, 9_000],
    });
    paths
}

fn install(lab: &Lab, path: &Path) -> Option<Installed> {
    let (limit, manner) = path.forgets?;
    let mut middlebox =
        Middlebox::before(path.server).forgetting(Duration::from_secs(limit), manner);
    if path.translates {
        middlebox = middlebox.translating();
    }
    Some(middlebox.install(lab).unwrap())
}

/// One session for each gap, [`EACH`] times; all at the same time.
fn idle_on(lab: &Lab, path: &Path) -> Vec<Idled> {
    let server = SocketAddr::new(path.server, lab.port());
    // After the first probe the kernel goes on at the interval, 75 s by default.
    let keepalive = TcpKeepalive::new().with_time(path.keepalive).with_interval(path.keepalive);
    thread::scope(|scope| {
        let gaps = path.gaps_ms.iter().flat_map(|&gap| [Duration::from_millis(gap); EACH]);
        let clients: Vec<_> = gaps
            .map(|gap| {
                let keepalive = &keepalive;
                scope.spawn(move || {
                    let kind = SocketKind::Native;
                    let prepare = |socket: &socket2::Socket| socket.set_tcp_keepalive(keepalive);
                    let session = Session::connect_with(&lab.client, server, kind, prepare);
                    idle(session.unwrap(), &[gap], GIVES_UP).unwrap()
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

fn report_on(run: &Run) -> Value {
    let file = run.file.to_str().unwrap();
    let text = tracer::command(["report", file]).unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    println!("{text}");
    assert!(text.contains("\nIdle sessions\n"), "{text}");
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    let json = tracer::command(["report", "--format", "json", file]).unwrap();
    assert!(json.status.success(), "{}", String::from_utf8_lossy(&json.stderr));
    report::parse(&String::from_utf8(json.stdout).unwrap()).unwrap()
}

/// The verdict of that code on a destination.
fn verdict<'a>(report: &'a Value, destination: &str, code: &str) -> Option<&'a Value> {
    let all = report["verdicts"].as_array().unwrap();
    all.iter().find(|it| it["destination"] == destination && it["code"] == code)
}

const KILLED: &str = "idle_killed_by_middlebox";
const CLOSED: &str = "idle_closed_by_server";

#[test]
fn the_bracket_holds_the_time_of_the_box() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    // Sockets that were closed without an answer must not linger for the minutes of the default.
    lab.client.sysctl("net.ipv4.tcp_orphan_retries", "2").unwrap();
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let _servers = any.map(|any| {
        let script = Script::mail_server("220 server.test ESMTP");
        Server::start(&lab.server, SocketAddr::new(any, lab.port()), script).unwrap()
    });
    let paths = paths();
    let _boxes: Vec<_> = paths.iter().map(|path| install(&lab, path)).collect();
    let tracer = Tracer::start_with(&lab, &["--group-by", "address"]).unwrap();
    let truths: Vec<Vec<Idled>> = thread::scope(|scope| {
        let clients: Vec<_> =
            paths.iter().map(|path| scope.spawn(|| idle_on(&lab, path))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let report = report_on(&run);
    check_threshold(&run, &paths, &truths);
    for (path, truth) in paths.iter().zip(&truths) {
        match path.forgets {
            Some((limit, manner)) if path.keepalive.as_secs() > limit => {
                check_box(&report, path, limit, manner, truth);
            }
            _ => check_alive(&report, path, truth),
        }
    }
}

/// `check --max-dead-on-reuse` counts the sessions that somebody tried to use in vain.
fn check_threshold(run: &Run, paths: &[Path], truths: &[Vec<Idled>]) {
    let tried = |path: &&Path| {
        path.forgets.is_some_and(|(_, manner)| manner != Manner::ResetWhileIdle)
            && path.keepalive.as_secs() > 60
    };
    let dead = paths.iter().zip(truths).filter(|(path, _)| tried(path));
    let dead: usize = dead.map(|(_, truth)| died(truth).count()).sum();
    let status = |most: usize| {
        let most = most.to_string();
        let file = run.file.to_str().unwrap();
        let output = tracer::command(["check", "--max-dead-on-reuse", &most, file]).unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(status(dead).0, Some(0), "{dead}: {}", status(dead).1);
    assert_eq!(status(dead - 1).0, Some(1), "{dead}: {}", status(dead - 1).1);
}

/// Gaps after which a session was dead.
fn died(truth: &[Idled]) -> impl Iterator<Item = &tests::idling::Death> {
    truth.iter().filter_map(|session| session.died.as_ref())
}

fn check_box(report: &Value, path: &Path, limit: u64, manner: Manner, truth: &[Idled]) {
    let (key, limit_s) = (path.server.to_string(), limit as f64);
    let (below, above): (Vec<u64>, Vec<u64>) =
        path.gaps_ms.iter().partition(|gap| **gap < limit * 1_000);
    assert_eq!(died(truth).count(), above.len() * EACH, "the lab did not do what it was told");

    let killed = verdict(report, &key, KILLED).unwrap_or_else(|| panic!("{key}: {report}"));
    let evidence = &killed["evidence"];
    let number = |name: &str| evidence[name].as_f64().unwrap();
    let expected = match manner {
        Manner::Silent => "silent",
        Manner::ResetOnReuse => "reset_on_reuse",
        Manner::ResetWhileIdle => "reset_while_idle",
    };
    assert_eq!(evidence["manner"], expected, "{killed}");
    assert_eq!(evidence["suspect"], "middlebox", "{killed}");
    assert_eq!(killed["confidence"], "high", "{killed}");
    assert_eq!(
        (number("survived"), number("died")),
        (below.len() as f64 * 2.0, above.len() as f64 * 2.0)
    );
    // The bracket contains the time of the box, and is as narrow as the schedule allows.
    let (alive, dead) = (number("survived_s"), number("died_s"));
    assert!(alive < limit_s && limit_s <= dead, "{killed}");
    let spacing = (above[0] - below[below.len() - 1]) as f64 / 1e3;
    assert!(dead - alive < spacing + 0.2, "{killed}");
    assert!(number("limit_above_s") < limit_s && limit_s <= number("limit_at_most_s"), "{killed}");
    assert!(verdict(report, &key, "keepalive_too_slow").is_some(), "{report}");

    let of = report::destination(report, &key).unwrap();
    let idle = &of["idle_limit"];
    assert_eq!(idle["survived_s"], evidence["survived_s"]);
    assert_eq!(idle["died_s"], evidence["died_s"]);
    assert_eq!(idle["deaths"][expected], above.len() * EACH, "{idle}");
    assert_eq!(idle["keepalive"]["first_probe_s"], serde_json::json!([7_200, 7_200]));
    let family = if path.server.is_ipv4() { "ipv4" } else { "ipv6" };
    assert_eq!(&of["families"][family]["idle_limit"], idle);
    check_cost(report, &key, manner, truth);
}

/// Dead sessions that somebody tried to use, and the time that took.
fn check_cost(report: &Value, key: &str, manner: Manner, truth: &[Idled]) {
    let verdict = verdict(report, key, "dead_on_reuse");
    if manner == Manner::ResetWhileIdle {
        assert!(verdict.is_none(), "the reset came before anybody tried: {report}");
        return;
    }
    let evidence = &verdict.unwrap()["evidence"];
    assert_eq!(evidence["dead"], died(truth).count(), "{evidence}");
    let cost: f64 = died(truth).map(|death| death.cost.as_secs_f64()).sum();
    let said = evidence["cost_seconds"].as_f64().unwrap();
    assert!((said - cost).abs() < 0.5, "{said} {cost}");
}

fn check_alive(report: &Value, path: &Path, truth: &[Idled]) {
    assert_eq!(died(truth).count(), 0, "the lab did not do what it was told");
    let key = path.server.to_string();
    for code in [KILLED, CLOSED, "dead_on_reuse", "keepalive_too_slow"] {
        assert_eq!(verdict(report, &key, code), None);
    }
    let idle = &report::destination(report, &key).unwrap()["idle_limit"];
    assert_eq!(idle["deaths"], serde_json::json!({}), "{idle}");
    assert_eq!(idle["died_s"], Value::Null, "{idle}");
    assert_eq!(idle["survived"], truth.len(), "{idle}");
    // Where probes were sent, only the time until the first counts.
    let longest = path.gaps_ms[path.gaps_ms.len() - 1] as f64 / 1e3;
    let expected = longest.min(path.keepalive.as_secs_f64());
    let survived = idle["survived_s"].as_f64().unwrap();
    assert!((survived - expected).abs() < 0.1, "{survived} {expected}");
}

#[test]
fn a_server_that_times_out_is_no_box() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let addresses = [server_v4(0), server_v4(1)];
    let farewells = ["421 4.4.2 server.test Error: timeout exceeded\r\n", ""];
    let _servers: Vec<_> = addresses
        .iter()
        .zip(farewells)
        .map(|(&address, farewell)| {
            let script = Script::default()
                .send("220 server.test\r\n")
                .then(tests::server::Step::Command)
                .send("250 server.test\r\n")
                .pause(Duration::from_secs(2))
                .send(farewell);
            Server::start(&lab.server, (address, lab.port()).into(), script).unwrap()
        })
        .collect();
    let tracer = Tracer::start_with(&lab, &["--group-by", "address"]).unwrap();
    thread::scope(|scope| {
        for address in addresses.repeat(3) {
            let lab = &lab;
            scope.spawn(move || {
                let server = SocketAddr::from((address, lab.port()));
                let mut session = Session::connect(&lab.client, server).unwrap();
                session.begin().unwrap();
                assert!(session.wait_for_end(PATIENCE).unwrap().is_none());
            });
        }
    });
    lab.wait_for_ends(PATIENCE).unwrap();
    let report = report_on(&tracer.stop_cleanly().unwrap());
    for (address, with_421) in addresses.iter().zip([3, 0]) {
        let key = address.to_string();
        let closed = verdict(&report, &key, CLOSED).unwrap_or_else(|| panic!("{report}"));
        assert_eq!(closed["evidence"]["closed"], 3, "{closed}");
        assert_eq!(closed["evidence"]["with_421"], with_421, "{closed}");
        let after = closed["evidence"]["closed_s"].as_f64().unwrap();
        assert!((after - 2.0).abs() < 0.2, "{closed}");
        assert_eq!(verdict(&report, &key, KILLED), None, "{report}");
        let idle = &report::destination(&report, &key).unwrap()["idle_limit"];
        assert_eq!(idle["deaths"], serde_json::json!({}), "{idle}");
    }
    assert!(verdict(&report, "total", "idle_limit_unknown").is_some(), "{report}");
}
