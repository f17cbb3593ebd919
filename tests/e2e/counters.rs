//! Bytes and retransmissions against the kernel's counters, as ss(8) shows them.

use std::time::Duration;

use tests::{
    capture::Capture,
    lab::Lab,
    needs,
    server::{Script, Server},
    session::Session,
    socket_statistics::SocketStatistics,
    tracer::Tracer,
};

/// Traces a session with some messages; checks its counters and returns the kernel's.
fn trace(lab: &Lab, messages: usize, size: usize) -> SocketStatistics {
    let script = Script::mail_server("220 server.test ESMTP");
    let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
    // Each segment is a packet of its own, so that the capture and the kernel count the same.
    lab.client.run("ip", ["link", "set", "c0", "gso_max_segs", "1"]).unwrap();
    let capture = Capture::start(&lab.client, "c0", lab.port(), &lab.file("c0.pcap")).unwrap();
    let tracer = Tracer::start(lab).unwrap();

    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    session.begin().unwrap();
    for _ in 0..messages {
        session.message(size).unwrap();
    }
    let statistics = SocketStatistics::read(&lab.client, session.local()).unwrap();
    // Nothing may be lost any more, or it would count.
    lab.router_open().unwrap();
    session.close();
    lab.wait_for_ends(Duration::from_secs(5)).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let flows = capture.stop().unwrap();

    let record = run.recording.single().unwrap();
    let known = |name| record.known(name).unwrap();
    assert_eq!(known("bytes_sent"), statistics.bytes_sent, "{statistics:?} {}", record.json());
    let received = statistics.bytes_received;
    assert_eq!(known("bytes_received"), received, "{statistics:?} {}", record.json());
    let retransmits = u64::from(statistics.retransmits);
    assert_eq!(known("retransmits"), retransmits, "{statistics:?} {}", record.json());
    // And both agree with the wire.
    assert_eq!(statistics.bytes_sent, flows[0].sent.total);
    assert_eq!(statistics.bytes_received, flows[0].received.unique);
    let on_the_wire = flows[0].retransmitted_segments + flows[0].syn_retransmits;
    assert_eq!(statistics.retransmits, on_the_wire);
    assert!(flows[0].sent.unique > u64::try_from(messages * size).unwrap());
    statistics
}

#[test]
fn nothing_lost() {
    needs!(Namespaces, Tracer, Tcpdump);
    // On a busy machine an acknowledgement may be late, and then something is sent again. That of a SYN has no
    // setting: such a run is made again.
    let retransmits = || {
        let lab = Lab::up().unwrap();
        lab.client.sysctl("net.ipv4.tcp_early_retrans", "0").unwrap();
        let route = ["route", "change", "default", "via", "10.71.1.1", "rto_min", "10s"];
        lab.client.run("ip", route).unwrap();
        trace(&lab, 5, 50_000).retransmits
    };
    assert!((0..3).any(|_| retransmits() == 0));
}

#[test]
fn data_lost() {
    needs!(Namespaces, Tracer, Tcpdump);
    let lab = Lab::up().unwrap();
    let port = lab.port();
    lab.router_drop(&format!("tcp dport {port} meta length > 500 numgen inc mod 7 == 0")).unwrap();
    let statistics = trace(&lab, 2, 40_000);
    assert!(statistics.retransmits > 0, "{statistics:?}");
    assert!(statistics.bytes_retransmitted > 0, "{statistics:?}");
}

#[test]
fn first_syn_lost() {
    needs!(Namespaces, Tracer, Tcpdump);
    let lab = Lab::up().unwrap();
    let syn = format!("tcp dport {} tcp flags & (syn|ack) == syn", lab.port());
    lab.router_drop(&format!("{syn} numgen inc mod 2 == 0")).unwrap();
    let statistics = trace(&lab, 1, 1_000);
    assert_eq!(statistics.retransmits, 1);
}
