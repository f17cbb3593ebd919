//! Connects that fail: one record each, with the reason and the time it took.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tests::{
    capture::Capture,
    lab::{ABSENT_V4, Lab},
    needs, pace,
    recording::Record,
    session::{failing_connect, give_up_connect},
    tracer::{Run, Tracer},
};

const TOLERANCE: Duration = Duration::from_millis(20);

/// How long a connect took, and for how much of that its thread waited for a processor.
type Took = (Duration, Duration);

fn trace(lab: &Lab, connect: impl FnOnce() -> Took) -> (Run, Took) {
    let tracer = Tracer::start(lab).unwrap();
    let took = connect();
    lab.wait_for_ends(Duration::from_secs(5)).unwrap();
    (tracer.stop_cleanly().unwrap(), took)
}

/// The connection lived within the call, and for all of it but what the thread waited for a processor.
fn check_time(record: &Record, (took, waited): Took) {
    let lifetime = Duration::from_micros(record.known("lifetime_us").unwrap());
    let most = took + Duration::from_micros(1); // it is rounded
    let least = took.saturating_sub(waited + pace::stretched(TOLERANCE));
    assert!(
        (least..=most).contains(&lifetime),
        "took {took:?}, waited {waited:?}: {}",
        record.json()
    );
}

/// Traces one connect to `to`, which must fail with `errno`.
fn check_failure(lab: &Lab, to: SocketAddr, errno: nix::errno::Errno) -> Record {
    let (run, took) = trace(lab, || {
        let failure = failing_connect(&lab.client, to).unwrap();
        assert_eq!(failure.error.raw_os_error(), Some(errno as i32), "{failure:?}");
        (failure.took, failure.waited)
    });
    let record = run.recording.single().unwrap();
    let name = format!("{errno:?}");
    assert_eq!(record.text("connect_error").unwrap(), Some(name.as_str()), "{}", record.json());
    assert_eq!(record.text("end_cause").unwrap(), Some("connect_error"), "{}", record.json());
    assert_eq!(record.text("end_during").unwrap(), Some("connect"), "{}", record.json());
    assert_eq!(record.text("dst").unwrap(), Some(to.ip().to_string().as_str()));
    assert_eq!(record.known("pid").unwrap(), u64::from(std::process::id()), "{}", record.json());
    for unknown in ["connect_us", "banner_us", "greeting_us", "banner_code"] {
        assert_eq!(record.number(unknown).unwrap(), None, "{unknown}: {}", record.json());
    }
    check_time(record, took);
    record.clone()
}

#[test]
fn refused() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    check_failure(&lab, lab.server_v4(), nix::errno::Errno::ECONNREFUSED);
    check_failure(&lab, lab.server_v6(), nix::errno::Errno::ECONNREFUSED);
}

#[test]
fn host_unreachable() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    // The router says so, having asked for the neighbour in vain.
    let behind_the_router = SocketAddr::from((ABSENT_V4, lab.port()));
    check_failure(&lab, behind_the_router, nix::errno::Errno::EHOSTUNREACH);
    // The client itself asks for the neighbour in vain.
    let on_the_link = SocketAddr::from((Ipv4Addr::new(10, 71, 1, 99), lab.port()));
    check_failure(&lab, on_the_link, nix::errno::Errno::EHOSTUNREACH);
}

#[test]
fn timed_out() {
    needs!(Namespaces, Tracer, Tcpdump);
    let lab = Lab::up().unwrap();
    lab.router_drop(&format!("tcp dport {}", lab.port())).unwrap();
    lab.client.sysctl("net.ipv4.tcp_syn_retries", "1").unwrap();
    let capture = Capture::start(&lab.client, "c0", lab.port(), &lab.file("c0.pcap")).unwrap();
    let record = check_failure(&lab, lab.server_v4(), nix::errno::Errno::ETIMEDOUT);
    let flows = capture.stop().unwrap();
    let [flow] = flows.as_slice() else { panic!("{flows:?}") };
    assert!(flow.syn_retransmits > 0);
    let retransmits = record.known("retransmits").unwrap();
    assert_eq!(retransmits, u64::from(flow.syn_retransmits), "{}", record.json());
}

#[test]
fn given_up_by_the_application() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    lab.router_drop(&format!("tcp dport {}", lab.port())).unwrap();
    let patience = Duration::from_millis(700);
    let (run, took) =
        trace(&lab, || give_up_connect(&lab.client, lab.server_v4(), patience).unwrap());
    let record = run.recording.single().unwrap();
    assert_eq!(record.text("end_cause").unwrap(), Some("local_fin"), "{}", record.json());
    assert_eq!(record.text("end_during").unwrap(), Some("connect"), "{}", record.json());
    assert_eq!(record.text("connect_error").unwrap(), None, "{}", record.json());
    assert_eq!(record.number("connect_us").unwrap(), None, "{}", record.json());
    check_time(record, took);
}

#[test]
fn no_route_is_no_connection() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    lab.client.run("ip", ["-6", "route", "del", "default"]).unwrap();
    let (run, _) = trace(&lab, || {
        let failure = failing_connect(&lab.client, lab.server_v6()).unwrap();
        let expected = Some(nix::errno::Errno::ENETUNREACH as i32);
        assert_eq!(failure.error.raw_os_error(), expected, "{failure:?}");
        // One that is recorded, to show that the tracer was at work.
        let failure = failing_connect(&lab.client, lab.server_v4()).unwrap();
        (failure.took, failure.waited)
    });
    let record = run.recording.single().unwrap();
    assert_eq!(record.text("family").unwrap(), Some("ipv4"), "{}", record.json());
}
