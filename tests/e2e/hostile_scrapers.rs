//! Clients of the metrics endpoint that want to keep others from it, and pages that want to read it.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tests::{
    lab::Lab,
    needs,
    scrape::{self, Exposition, OPENMETRICS},
    tracer::Tracer,
    wait,
};

/// Hostile clients at a time.
const HOSTILE: usize = 1_000;

/// Those of them that only close to make room: all but a third, whose answer is short enough to be sent.
const FORCED: f64 = 600.0;

const PATIENCE: Duration = Duration::from_secs(20);

/// Connections that the endpoint serves at a time.
const SERVED: usize = 64;

fn start(lab: &Lab) -> (Tracer, SocketAddr) {
    let address = scrape::free_address().unwrap();
    let listen = address.to_string();
    (Tracer::start_with(lab, &["--listen", &listen]).unwrap(), address)
}

fn descriptors(tracer: &Tracer) -> usize {
    fs::read_dir(format!("/proc/{}/fd", tracer.pid())).unwrap().count()
}

/// Silent ones, some with half a request, and some that ask and take nothing. No time is measured here: that
/// most were closed to make room, and not because they were slow, says that nobody waited for them.
#[test]
fn a_thousand_keep_nobody_out() {
    needs!(Namespaces, Tracer, PythonModule("prometheus_client"));
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let lab = Lab::up().unwrap();
    let (tracer, address) = start(&lab);
    assert_eq!(scrape::get(address, OPENMETRICS).unwrap().status, 200);
    let before = descriptors(&tracer);
    let said: [&[u8]; 3] =
        [b"", b"GET /metrics HTTP/1.1\r\nHost: lo", b"GET /metrics HTTP/1.0\r\n\r\n"];
    let hostile: Vec<TcpStream> = said
        .iter()
        .cycle()
        .take(HOSTILE)
        .map(|said| {
            let mut stream = TcpStream::connect(address).unwrap();
            // It may be closed already.
            let _ = stream.write_all(said);
            stream
        })
        .collect();
    // What is said may be a second old: until all that came were counted, others are asked for.
    let now = wait::until("the count of closed connections", PATIENCE, || {
        let answer = scrape::get(address, OPENMETRICS)?;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let read = Exposition::parse(&answer.body, OPENMETRICS, &lab.file("metrics.txt"))?;
        let closed = read.sum("smtptrace_scrapes_unfinished_total", &[("reason", "no_room")]);
        Ok((closed >= Some(FORCED)).then_some(read))
    })
    .unwrap();
    let slow = now.sum("smtptrace_scrapes_unfinished_total", &[("reason", "too_slow")]);
    assert!(slow < Some(SERVED as f64), "{slow:?}");
    let after = descriptors(&tracer);
    assert!(after <= before + SERVED + 2, "{before} descriptors before, {after} with {HOSTILE}");
    drop(hostile);
    tracer.stop_cleanly().unwrap();
}

#[test]
fn a_page_whose_name_points_here_reads_nothing() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let (tracer, address) = start(&lab);
    let status = |host: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n");
        scrape::exchange(address, request.as_bytes()).unwrap()
    };
    assert_eq!(status(&format!("localhost:{}", address.port())).status, 200);
    let refused = status(&format!("rebound.example:{}", address.port()));
    assert_eq!(refused.status, 421);
    assert!(!refused.body.contains("smtptrace_"), "{}", refused.body);
    let run = tracer.stop_cleanly().unwrap();
    assert!(!run.stderr.contains("not loopback"), "{}", run.stderr);
    // On other addresses a warning says who can read it.
    let port = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port();
    let tracer = Tracer::start_with(&lab, &["--listen", &format!("0.0.0.0:{port}")]).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    assert!(run.stderr.contains("which is not loopback"), "{}", run.stderr);
}
