//! IPv4, IPv6 and IPv4 in an IPv6 socket; and what is said when one of them does not work.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tests::{
    lab::{Lab, server_v4, server_v6},
    needs,
    postfix::{self, Postfix},
    recording::Record,
    report,
    server::{Script, Server},
    session::{COMM, Session, SocketKind, failing_connect},
    sink::Sink,
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
    assert_eq!(record.json()["dst_is_own"], false, "{}", record.json());
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
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let (record, local) = trace(&lab, lab.server_v4(), SocketKind::Native);
    check(&record, "ipv4", "10.71.1.2", "10.71.2.2", local, &lab);
}

#[test]
fn ipv6() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let (record, local) = trace(&lab, lab.server_v6(), SocketKind::Native);
    check(&record, "ipv6", "fd71:1::2", "fd71:2::2", local, &lab);
}

#[test]
fn ipv4_mapped() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let (record, local) = trace(&lab, lab.server_v4(), SocketKind::Ipv4Mapped);
    check(&record, "ipv4", "10.71.1.2", "10.71.2.2", local, &lab);
}

/// Linux takes the first IPv4 address of a device as the source of what goes to its second, so that addresses alone
/// do not tell.
#[test]
fn own_address() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    let addresses: [(IpAddr, &str); 2] =
        [(server_v4(3).into(), "10.71.2.2"), (server_v6(3).into(), "fd71:2::5")];
    for (address, _) in addresses {
        let to = SocketAddr::from((address, lab.port()));
        let refused = failing_connect(&lab.server, to).unwrap();
        assert_eq!(refused.error.kind(), std::io::ErrorKind::ConnectionRefused);
        let script = Script::mail_server("220 server.test ESMTP");
        let _server = Server::start(&lab.server, to, script).unwrap();
        let mut session = Session::connect(&lab.server, to).unwrap();
        session.begin().unwrap();
        session.quit().unwrap();
        lab.wait_for_ends(Duration::from_secs(5)).unwrap();
    }
    let run = tracer.stop_cleanly().unwrap();
    let records = run.recording.connections;
    assert_eq!(records.len(), 4, "{records:?}");
    for (two, (dst, src)) in records.chunks(2).zip(addresses) {
        let [refused, session] = two else { panic!("{two:?}") };
        assert_eq!(refused.text("connect_error").unwrap(), Some("ECONNREFUSED"), "{two:?}");
        assert_eq!(session.text("src").unwrap(), Some(src), "{two:?}");
        for record in two {
            assert_eq!(record.text("dst").unwrap(), Some(&*dst.to_string()), "{two:?}");
            assert_eq!(record.json()["dst_is_own"], true, "{two:?}");
        }
    }
}

/// Postfix tries IPv6 first, gives up and delivers over IPv4: late, and says so nowhere but in its delays.
#[test]
fn ipv6_that_is_dropped() {
    const MAILS: usize = 6;
    needs!(Namespaces, Tracer, Postfix);
    let lab = Lab::up().unwrap();
    let port = lab.port();
    lab.router_drop(&format!("meta nfproto ipv6 tcp dport {port}")).unwrap();
    let _sink = Sink::start(&lab.server, lab.server_v4(), &[]).unwrap();
    let (first, then) = (lab.server_v6().ip(), lab.server_v4().ip());
    let both = format!("inline:{{ {{sink.test = smtp:[{first}]:{port}, [{then}]:{port}}} }}");
    let settings = [
        ("transport_maps", both.as_str()),
        ("smtp_connect_timeout", "2s"),
        ("smtp_connection_cache_on_demand", "no"),
        ("initial_destination_concurrency", "6"),
    ];
    let sender = Postfix::sender(&lab, lab.server_v4(), &settings).unwrap();
    let tracer = Tracer::start_with(&lab, &["--format", "json"]).unwrap();
    postfix::submit(&lab, MAILS, 500).unwrap();
    let deliveries = sender.wait_for_deliveries(MAILS, Duration::from_secs(60)).unwrap();
    lab.wait_for_ends(Duration::from_secs(15)).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    for delivery in &deliveries {
        assert_eq!(delivery.status, "sent", "{delivery:?}");
        assert!(delivery.delays[2] >= 2.0, "{delivery:?}");
    }
    let report = report::parse(&run.stdout).unwrap();
    let families = &report["totals"]["families"];
    assert_eq!(families["ipv6"]["connections"], MAILS, "{families}");
    let verdicts = report["verdicts"].as_array().unwrap();
    let asymmetry = verdicts.iter().find(|verdict| verdict["code"] == "family_asymmetry");
    let asymmetry = asymmetry.unwrap_or_else(|| panic!("{verdicts:#?}"));
    let evidence = &asymmetry["evidence"];
    assert_eq!(evidence["worse"], "IPv6", "{asymmetry:#}");
    assert_eq!(evidence["ipv6_connect_failures"], MAILS, "{asymmetry:#}");
    assert_eq!(evidence["ipv4_connect_failures"], 0, "{asymmetry:#}");
    assert_eq!(asymmetry["confidence"], "high", "{asymmetry:#}");
    // Postfix waited two seconds for each.
    let lost = evidence["ipv6_failed_seconds"].as_f64().unwrap();
    let logged: f64 = deliveries.iter().map(|delivery| delivery.delays[2]).sum();
    assert!((2.0 * MAILS as f64..=logged + 0.1).contains(&lost), "{lost} {logged}");
}
