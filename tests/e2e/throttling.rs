//! Which limit a server has: told from how it received connections.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::{
    lab::{Lab, server_v4},
    limited::{Limit, LimitedServer},
    namespace::Namespace,
    needs,
    postfix::{Postfix, Starttls},
    report,
    session::Session,
    tracer::{Run, Tracer},
};

/// Opens `at_once` sessions from `client` one after the other, hands over a message on each that is welcome,
/// and quits when all are open.
fn burst(client: &Namespace, to: SocketAddr, at_once: usize) {
    let sessions: Vec<Session> = (0..at_once)
        .filter_map(|_| {
            let mut session = Session::connect(client, to).unwrap();
            if session.reply().unwrap().starts_with("220") {
                session.command("EHLO client.test", "250").unwrap();
                if session.message(100).is_ok() {
                    return Some(session);
                }
                session.quit().unwrap();
                return None;
            }
            // The server's FIN comes first, as with a mail server that reads the 421.
            session.wait_for_end(Duration::from_secs(10)).unwrap();
            None
        })
        .collect();
    for session in sessions {
        session.quit().unwrap();
    }
}

/// Bursts of 1 to 8 connections.
fn bursts(client: &Namespace, to: SocketAddr, count: usize) {
    for turn in 0..count {
        burst(client, to, 1 + turn * 5 % 8);
        thread::sleep(Duration::from_millis(50));
    }
}

/// One connection at a time, at a steady pace: 77.5 a minute.
fn steadily(lab: &Lab, to: SocketAddr, time: Duration) {
    let (begin, interval) = (Instant::now(), Duration::from_millis(774));
    for turn in 0.. {
        let due = interval * turn;
        if due > time {
            return;
        }
        thread::sleep(due.saturating_sub(begin.elapsed()));
        burst(&lab.client, to, 1);
    }
}

/// As many messages on each connection as the server takes, up to 25; some with fewer.
fn long_sessions(lab: &Lab, to: SocketAddr) {
    for most in [25, 7, 25, 25, 3, 25, 25, 25, 25] {
        let mut session = Session::connect(&lab.client, to).unwrap();
        session.begin().unwrap();
        let sent = (0..most).take_while(|_| session.message(100).is_ok()).count();
        if sent == most {
            session.quit().unwrap();
        }
    }
}

/// Verdicts of a run on one destination, but for those on how connections are used.
fn verdicts(run: &Run, address: &str) -> Vec<Value> {
    let report = report::parse(&run.stdout).unwrap();
    let caching = ["caching_works", "caching_ineffective", "reuse_missed", "connections_unused"];
    let all = report["verdicts"].as_array().unwrap().iter();
    let about = all.filter(|verdict| verdict["destination"] == address);
    about.filter(|it| !caching.contains(&it["code"].as_str().unwrap())).cloned().collect()
}

fn only(run: &Run, address: &str) -> Value {
    let [verdict] = &verdicts(run, address)[..] else {
        panic!("one verdict: {:#?}", verdicts(run, address))
    };
    verdict.clone()
}

fn check_counts(verdict: &Value, server: &LimitedServer) {
    let (accepted, refused) = server.tally();
    assert_eq!(verdict["evidence"]["accepted"], accepted, "{verdict:#}");
    assert_eq!(verdict["evidence"]["refused_by_reply"], refused, "{verdict:#}");
}

#[test]
fn kind_and_number_are_named() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    // The last has a server for this host's own connections, which come from another of its addresses.
    let address = |n: u8| SocketAddr::from((server_v4(n), lab.port()));
    let limits = [
        Limit::Open(5),
        Limit::PerMinute(30),
        Limit::Messages(20),
        Limit::None,
        Limit::OpenAtMail(3),
        Limit::Open(4),
    ];
    let servers: Vec<LimitedServer> = (0..)
        .zip(limits)
        .map(|(n, limit)| LimitedServer::start(&lab.server, address(n), limit).unwrap())
        .collect();
    let tracer = Tracer::start_with(&lab, &["--format", "json"]).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| bursts(&lab.client, address(0), 60));
        scope.spawn(|| steadily(&lab, address(1), Duration::from_secs(95)));
        scope.spawn(|| long_sessions(&lab, address(2)));
        scope.spawn(|| {
            bursts(&lab.client, address(3), 60);
            steadily(&lab, address(3), Duration::from_secs(40));
        });
        scope.spawn(|| bursts(&lab.client, address(4), 40));
        scope.spawn(|| bursts(&lab.server, address(5), 40));
    });
    lab.wait_for_ends(Duration::from_secs(10)).unwrap();
    let run = tracer.stop_cleanly().unwrap();

    let file = run.file.to_str().unwrap();
    let text = tests::tracer::command(["report", file]).unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    println!("{text}");
    assert!(text.contains("10.71.2.2: concurrency_limited"), "{text}");
    assert!(text.contains("allows 5 connections at a time"), "{text}");

    let open = only(&run, "10.71.2.2");
    assert_eq!(
        (&open["code"], &open["evidence"]["limit"]),
        (&"concurrency_limited".into(), &5.into())
    );
    check_counts(&open, &servers[0]);
    assert_eq!(open["evidence"]["side"], "peer");
    assert_eq!(open["evidence"]["replies"], format!("{} x 421 4.7.0", servers[0].tally().1));
    let rate = only(&run, "10.71.2.3");
    assert_eq!(rate["code"], "rate_limited", "{rate:#}");
    assert_eq!(rate["evidence"]["limit_per_minute"], 30, "{rate:#}");
    check_counts(&rate, &servers[1]);
    assert_eq!(rate["evidence"]["side"], "peer");
    let messages = only(&run, "10.71.2.4");
    assert_eq!(messages["code"], "message_limit", "{messages:#}");
    assert_eq!(messages["evidence"]["limit"], 20, "{messages:#}");
    assert_eq!(messages["evidence"]["closed_at_limit"], 7, "{messages:#}");
    assert_eq!(verdicts(&run, "10.71.2.5"), Vec::<Value>::new());
    assert_eq!(servers[3].tally().1, 0);
    check_others(&run, &servers[4], &servers[5]);
}

/// A server that says so only at MAIL, and one that is this host itself.
fn check_others(run: &Run, at_mail: &LimitedServer, own: &LimitedServer) {
    for (address, server, limit, side, reply) in [
        ("10.71.2.6", at_mail, 3, "peer", "451 4.7.652"),
        ("10.71.2.7", own, 4, "own", "421 4.7.0"),
    ] {
        let verdict = only(run, address);
        assert_eq!(verdict["code"], "concurrency_limited", "{verdict:#}");
        assert_eq!(verdict["evidence"]["limit"], limit, "{verdict:#}");
        assert_eq!(verdict["evidence"]["side"], side, "{verdict:#}");
        check_counts(&verdict, server);
        let replies = format!("{} x {reply}", server.tally().1);
        assert_eq!(verdict["evidence"]["replies"], replies, "{verdict:#}");
    }
}

/// smtpd(8) and anvil(8) of Postfix.
#[test]
fn limit_of_postfix() {
    needs!(Namespaces, Tracer, Postfix);
    let lab = Lab::up().unwrap();
    let settings = [
        ("smtpd_client_connection_count_limit", "4"),
        ("smtpd_client_event_limit_exceptions", ""),
        ("mydestination", "server.test"),
    ];
    let _server = Postfix::receiver_with(&lab, lab.server_v4(), Starttls::None, &settings).unwrap();
    let tracer = Tracer::start_with(&lab, &["--format", "json"]).unwrap();
    bursts(&lab.client, lab.server_v4(), 40);
    lab.wait_for_ends(Duration::from_secs(10)).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let verdict = only(&run, "10.71.2.2");
    assert_eq!(verdict["code"], "concurrency_limited", "{verdict:#}");
    assert_eq!(verdict["evidence"]["limit"], 4, "{verdict:#}");
}
