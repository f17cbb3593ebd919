//! The lab itself: its ground truth must be right before anything is compared with it.

use std::time::Duration;

use tests::{
    capture::Capture,
    comparison::expected_cause,
    lab::Lab,
    namespace::Namespace,
    needs,
    postfix::{self, Postfix, Starttls},
    server::{Script, Server, Step},
    session::{Session, SocketKind, failing_connect, give_up_connect},
    socket_statistics::SocketStatistics,
};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn capture_and_kernel_count_the_same_bytes() {
    needs!(Namespaces, Tcpdump);
    let lab = Lab::up().unwrap();
    let capture = Capture::start(&lab.client, "c0", lab.port(), &lab.file("lab.pcap")).unwrap();
    let server = Server::mail(&lab).unwrap();

    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    session.begin().unwrap();
    session.message(100_000).unwrap();
    let statistics = SocketStatistics::read(&lab.client, session.local()).unwrap();
    let local = session.local();
    session.close();
    lab.wait_for_ends(PATIENCE).unwrap();

    let flows = capture.stop().unwrap();
    let [flow] = flows.as_slice() else { panic!("{flows:?}") };
    assert_eq!((flow.client, flow.server), (local, lab.server_v4()));
    assert_eq!(flow.sent.total, statistics.bytes_sent);
    assert!(statistics.bytes_sent > 100_000);
    assert_eq!(flow.received.unique, statistics.bytes_received);
    assert_eq!(flow.retransmitted_segments, statistics.retransmits);
    assert!(flow.end().unwrap() >= flow.first_received.unwrap());
    assert_eq!(server.accepted(), 1);
    assert_eq!(server.failures(), Vec::<String>::new());
}

#[test]
fn every_ending_shows_in_the_capture() {
    needs!(Namespaces, Tcpdump);
    let lab = Lab::up().unwrap();
    let capture = Capture::start(&lab.client, "c0", lab.port(), &lab.file("lab.pcap")).unwrap();
    let greeting = "220 server.test ESMTP";
    {
        let script = Script::mail_server(greeting);
        let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
        let connect = || Session::connect(&lab.client, lab.server_v4()).unwrap();
        let mut local_fin = connect();
        local_fin.begin().unwrap();
        local_fin.close();
        let mut peer_fin = connect();
        peer_fin.begin().unwrap();
        peer_fin.quit().unwrap();
        let mut linger = connect();
        linger.begin().unwrap();
        linger.reset().unwrap();
        connect().close_unread().unwrap();
        lab.wait_for_ends(PATIENCE).unwrap();
    }
    {
        let script = Script::default().send("220 x\r\n").then(Step::Command).close_with_reset();
        let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
        let mut session =
            Session::connect_with(&lab.client, lab.server_v4(), SocketKind::Ipv4Mapped, |_| Ok(()))
                .unwrap();
        assert_eq!(session.local().ip().to_string(), "10.71.1.2");
        session.reply().unwrap();
        session.send(b"EHLO x\r\n").unwrap();
        assert!(session.wait_for_end(PATIENCE).unwrap().is_some());
    }
    let flows = capture.stop().unwrap();
    let causes: Vec<_> = flows.iter().map(|flow| expected_cause(flow).unwrap()).collect();
    assert_eq!(causes, ["local_fin", "peer_fin", "rst_sent", "rst_sent", "rst_received"]);
}

#[test]
fn connects_fail_as_arranged() {
    needs!(Namespaces);
    let lab = Lab::up().unwrap();
    let refused = failing_connect(&lab.client, lab.server_v6()).unwrap();
    assert_eq!(refused.error.kind(), std::io::ErrorKind::ConnectionRefused);
    lab.router_drop("tcp dport != 9 tcp flags & (syn|ack) == syn").unwrap();
    lab.client.sysctl("net.ipv4.tcp_syn_retries", "1").unwrap();
    let timed_out = failing_connect(&lab.client, lab.server_v4()).unwrap();
    assert_eq!(timed_out.error.kind(), std::io::ErrorKind::TimedOut);
    assert!(timed_out.took > Duration::from_secs(1), "{timed_out:?}");
    let (given_up, _) =
        give_up_connect(&lab.client, lab.server_v4(), Duration::from_millis(100)).unwrap();
    assert!(given_up >= Duration::from_millis(100));
    lab.router_open().unwrap();
    let refused = failing_connect(&lab.client, lab.server_v4()).unwrap();
    assert_eq!(refused.error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn namespaces_vanish_with_their_processes() {
    needs!(Namespaces);
    let namespace = Namespace::create("x").unwrap();
    let path = std::path::PathBuf::from("/run/netns").join(namespace.name());
    let mut sleeper = namespace.spawn(std::process::Command::new("sleep").arg("1000")).unwrap();
    assert!(path.exists());
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _namespace = namespace;
        panic!("as a failing test does");
    }));
    assert!(panicked.is_err());
    assert!(!path.exists());
    assert!(!sleeper.wait().unwrap().success());
}

#[test]
fn mail_goes_from_postfix_to_postfix() {
    needs!(Namespaces, Postfix, Openssl);
    let lab = Lab::up().unwrap();
    let _receiver = Postfix::receiver(&lab, lab.server_v4(), Starttls::Offered).unwrap();
    let sender =
        Postfix::sender(&lab, lab.server_v4(), &[("smtp_tls_security_level", "encrypt")]).unwrap();
    postfix::submit(&lab, 3, 500).unwrap();
    let deliveries = sender.wait_for_deliveries(3, PATIENCE).unwrap();
    let relay = format!("10.71.2.2[10.71.2.2]:{}", lab.port());
    for delivery in deliveries {
        assert_eq!((delivery.status.as_str(), &delivery.relay), ("sent", &relay));
    }
}
