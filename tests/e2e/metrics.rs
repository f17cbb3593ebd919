//! The metrics endpoint, read by the parsers of the Prometheus client for Python.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use serde_json::Value;
use tests::{
    lab::{self, Lab},
    needs, report,
    scrape::{self, Exposition, OPENMETRICS, PROMETHEUS},
    server::{Script, Server},
    session::{Session, failing_connect},
    tracer::{self, Run, Tracer},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn server(lab: &Lab, offset: u8) -> SocketAddr {
    (lab::server_v4(offset), lab.port()).into()
}

/// Sends `messages` over one connection.
fn mail(lab: &Lab, to: SocketAddr, messages: usize) {
    let mut session = Session::connect(&lab.client, to).unwrap();
    session.begin().unwrap();
    for _ in 0..messages {
        session.message(500).unwrap();
    }
    session.quit().unwrap();
}

/// Starts a trace with an endpoint.
fn start(lab: &Lab, more: &[&str]) -> (Tracer, SocketAddr) {
    let address = scrape::free_address().unwrap();
    let listen = address.to_string();
    let tracer = Tracer::start_with(lab, &[&["--listen", &listen], more].concat()).unwrap();
    (tracer, address)
}

fn scraped(lab: &Lab, address: SocketAddr, accept: &str) -> Exposition {
    let answer = scrape::get(address, accept).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.headers["content-length"], answer.body.len().to_string());
    let media = accept.split(';').next().unwrap();
    assert!(answer.headers["content-type"].starts_with(media), "{:?}", answer.headers);
    Exposition::parse(&answer.body, accept, &lab.file("metrics.txt")).unwrap()
}

/// Scrapes until that many connections have ended.
fn scraped_after(lab: &Lab, address: SocketAddr, connections: f64) -> Exposition {
    wait::until(&format!("{connections} connections"), PATIENCE, || {
        let exposition = scraped(lab, address, OPENMETRICS);
        let ended = exposition.sum("smtptrace_connections_total", &[]);
        Ok((ended == Some(connections)).then_some(exposition))
    })
    .unwrap()
}

fn reported(run: &Run, arguments: &[&str]) -> String {
    let file = run.file.to_str().unwrap();
    let output = tracer::command([&["report", file], arguments].concat()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_scrape_says_what_happened() {
    needs!(Namespaces, Tracer, PythonModule("prometheus_client"));
    let lab = Lab::up().unwrap();
    let script = Script::mail_server("220 server.test ESMTP");
    let (first, second, closed) = (server(&lab, 0), server(&lab, 1), server(&lab, 2));
    let _first = Server::start(&lab.server, first, script.clone()).unwrap();
    let _second = Server::start(&lab.server, second, script).unwrap();
    let (tracer, address) = start(&lab, &[]);
    // 23 messages over three connections, none over two, five refused connects, and one that stays.
    for messages in [1, 7, 15] {
        mail(&lab, first, messages);
    }
    mail(&lab, second, 0);
    mail(&lab, second, 0);
    for _ in 0..5 {
        failing_connect(&lab.client, closed).unwrap();
    }
    let mut open = Session::connect(&lab.client, first).unwrap();
    open.begin().unwrap();
    let live = scraped_after(&lab, address, 10.0);
    let name = |to: SocketAddr| to.ip().to_string();
    let [a, b, c] = [first, second, closed].map(name);
    let value = |name: &str, labels: &[(&str, &str)]| live.sum(name, labels);
    let of = |name: &str, destination: &str| value(name, &[("destination", destination)]);
    let messages = [("destination", a.as_str()), ("method", "replies"), ("exact", "true")];
    assert_eq!(value("smtptrace_messages_total", &messages), Some(23.0));
    assert_eq!(value("smtptrace_connections_with_message_total", &messages), Some(3.0));
    assert_eq!(of("smtptrace_connections_total", &a), Some(3.0));
    assert_eq!(of("smtptrace_connections_open", &a), Some(1.0));
    assert_eq!(of("smtptrace_connections_open", &b), Some(0.0));
    assert_eq!(of("smtptrace_messages_total", &b), Some(0.0));
    assert_eq!(of("smtptrace_connections_unused_total", &b), Some(2.0));
    let refused = [("destination", c.as_str()), ("error", "ECONNREFUSED"), ("family", "ipv4")];
    assert_eq!(value("smtptrace_connect_failures_total", &refused), Some(5.0));
    let receptions = [("destination", c.as_str()), ("reception", "connect_refused")];
    assert_eq!(value("smtptrace_receptions_total", &receptions), Some(5.0));
    let welcome = [("destination", a.as_str()), ("code", "220")];
    assert_eq!(value("smtptrace_greetings_total", &welcome), Some(3.0));
    assert_eq!(of("smtptrace_connect_duration_seconds_count", &a), Some(3.0));
    assert_eq!(of("smtptrace_transaction_duration_seconds_count", &a), Some(23.0));
    assert_eq!(of("smtptrace_connection_messages_sum", &a), Some(23.0));
    let few = [("destination", a.as_str()), ("le", "10.0")];
    assert_eq!(value("smtptrace_connection_messages_bucket", &few), Some(2.0));
    assert_eq!(value("smtptrace_events_lost_total", &[]), Some(0.0));
    assert_eq!(value("smtptrace_evidence_complete", &[]), Some(1.0));
    assert!(value("smtptrace_cpu_seconds_total", &[]) > Some(0.0));
    assert_eq!(value("smtptrace_build_info", &[]), Some(1.0));

    // Both formats, and the recording, say the same.
    open.quit().unwrap();
    scraped_after(&lab, address, 11.0);
    let run = tracer.stop_cleanly().unwrap();
    let texts = [("openmetrics", OPENMETRICS), ("prometheus", PROMETHEUS)];
    let [after, plain] = texts.map(|(format, accept)| {
        let text = reported(&run, &["--format", format]);
        Exposition::parse(&text, accept, &lab.file("report.txt")).unwrap()
    });
    let samples = |of: &Exposition| -> Vec<String> {
        let of = of.samples.iter();
        of.map(|it| format!("{} {:?} {}", it.name, it.labels, it.value)).collect()
    };
    assert_eq!(samples(&after), samples(&plain));
    let report = report::parse(&reported(&run, &["--format", "json"])).unwrap();
    agree(&after, &report, &run);
}

/// Compares an exposition with the report and the recording of the same trace.
fn agree(metrics: &Exposition, report: &Value, run: &Run) {
    for destination in report::destinations(report).unwrap() {
        let key = destination["key"].as_str().unwrap();
        let label = [("destination", key)];
        let same = |name: &str, field: &Value| {
            let number = metrics.sum(name, &label).unwrap_or(0.0);
            assert_eq!(Some(number), field.as_f64().or(Some(0.0)), "{name} of {key}");
        };
        same("smtptrace_connections_total", &destination["connections"]);
        same("smtptrace_endings_total", &destination["connections"]);
        same("smtptrace_connect_failures_total", &destination["connect_failures"]);
        same("smtptrace_died_total", &destination["died"]);
        same("smtptrace_messages_total", &destination["transactions"]);
        same("smtptrace_sent_bytes_total", &destination["bytes_sent"]);
        same("smtptrace_received_bytes_total", &destination["bytes_received"]);
        same("smtptrace_reuse_missed", &destination["missed_reuse"]);
        for (name, family) in [
            ("connect_us", "smtptrace_connect_duration_seconds"),
            ("banner_us", "smtptrace_banner_duration_seconds"),
            ("transaction_us", "smtptrace_transaction_duration_seconds"),
            ("lifetime_us", "smtptrace_lifetime_seconds"),
            ("messages_per_connection", "smtptrace_connection_messages"),
        ] {
            same(&format!("{family}_count"), &destination["histograms"][name]["count"]);
        }
        histograms_are_sound(metrics, key);
        let connects: Vec<u64> = run
            .recording
            .connections
            .iter()
            .filter(|it| it.json()["dst"] == key)
            .filter_map(|it| it.json()["connect_us"].as_u64())
            .collect();
        let sum = metrics.sum("smtptrace_connect_duration_seconds_sum", &label);
        let exactly = connects.iter().sum::<u64>() as f64 / 1e6;
        assert!((sum.unwrap_or(0.0) - exactly).abs() < 1e-9, "{sum:?} {exactly}");
        let in_10_ms = connects.iter().filter(|&&it| it <= 10_000).count() as f64;
        let in_10_1_ms = connects.iter().filter(|&&it| it <= 10_100).count() as f64;
        let le = [("destination", key), ("le", "0.01")];
        let bucket = metrics.sum("smtptrace_connect_duration_seconds_bucket", &le).unwrap_or(0.0);
        assert!((in_10_ms..=in_10_1_ms).contains(&bucket), "{bucket} {connects:?}");
    }
    for verdict in report["verdicts"].as_array().unwrap() {
        let labels =
            ["destination", "code", "severity"].map(|it| (it, verdict[it].as_str().unwrap()));
        assert_eq!(metrics.sum("smtptrace_verdict", &labels), Some(1.0), "{verdict}");
    }
}

/// Buckets ascend to the count.
fn histograms_are_sound(metrics: &Exposition, destination: &str) {
    let mut buckets: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for sample in &metrics.samples {
        let here = sample.labels.get("destination").is_some_and(|it| it == destination);
        if let (Some(name), true) = (sample.name.strip_suffix("_bucket"), here) {
            buckets.entry(name).or_default().push(sample.value);
        }
    }
    for (name, buckets) in buckets {
        assert!(buckets.is_sorted(), "{name} {buckets:?}");
        let count = metrics.sum(&format!("{name}_count"), &[("destination", destination)]);
        assert_eq!(buckets.last().copied(), count, "{name}");
    }
}

#[test]
fn destinations_beyond_the_bound_are_one() {
    needs!(Namespaces, Tracer, PythonModule("prometheus_client"));
    let lab = Lab::up().unwrap();
    let script = Script::mail_server("220 server.test ESMTP");
    let servers: Vec<Server> = (0..3)
        .map(|offset| Server::start(&lab.server, server(&lab, offset), script.clone()).unwrap())
        .collect();
    let (tracer, address) = start(&lab, &["--metrics-destinations", "1"]);
    mail(&lab, server(&lab, 0), 1);
    scraped_after(&lab, address, 1.0);
    let mut before = scraped(&lab, address, OPENMETRICS);
    // The others grow larger than the first; what was counted stays where it is.
    for round in 1..=3 {
        mail(&lab, server(&lab, 1), 2);
        mail(&lab, server(&lab, 2), 3);
        let now = scraped_after(&lab, address, f64::from(1 + 2 * round));
        for sample in before.samples.iter().filter(|it| it.kind == "counter") {
            let labels: Vec<(&str, &str)> =
                sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let value = now.sum(&sample.name, &labels);
            assert!(value >= Some(sample.value), "{sample:?} {value:?}");
        }
        before = now;
    }
    let messages = |key: &str| before.sum("smtptrace_messages_total", &[("destination", key)]);
    assert_eq!(messages(&lab::server_v4(0).to_string()), Some(1.0));
    assert_eq!(messages("~other"), Some(15.0));
    assert_eq!(before.sum("smtptrace_connections_total", &[("destination", "~other")]), Some(6.0));
    drop(servers);
    tracer.stop_cleanly().unwrap();
}

#[test]
fn clients_that_misbehave_hold_nobody_up() {
    needs!(Namespaces, Tracer, PythonModule("prometheus_client"));
    let lab = Lab::up().unwrap();
    let to = lab.server_v4();
    let _server = Server::start(&lab.server, to, Script::mail_server("220 server.test")).unwrap();
    let (tracer, address) = start(&lab, &[]);
    // Half a request, then silence; and one that reads nothing of the answer.
    let half: Vec<TcpStream> = (0..5)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHos").unwrap();
            stream
        })
        .collect();
    let mut deaf = TcpStream::connect(address).unwrap();
    deaf.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    mail(&lab, to, 3);
    scraped_after(&lab, address, 1.0);
    let status = |request: &str| scrape::exchange(address, request.as_bytes()).unwrap().status;
    assert_eq!(status("POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"), 405);
    assert_eq!(status("GET /other HTTP/1.1\r\n\r\n"), 404);
    assert_eq!(status("EHLO client.test\r\n\r\n"), 400);
    assert_eq!(status(&format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(9_000))), 431);
    assert_eq!(scrape::exchange(address, b"\xff\xfe\0\x01\r\n\r\n").unwrap().status, 400);
    let head = scrape::exchange(address, b"HEAD /metrics HTTP/1.1\r\n\r\n").unwrap();
    assert!(
        head.body.is_empty() && head.headers["content-length"].parse::<usize>().unwrap() > 1_000
    );
    // A hundred at once, while mail goes on.
    thread::scope(|scope| {
        let clients: Vec<_> = (0..100)
            .map(|_| scope.spawn(move || scrape::get(address, PROMETHEUS).unwrap()))
            .collect();
        mail(&lab, to, 20);
        for client in clients {
            let answer = client.join().unwrap();
            assert_eq!(answer.status, 200);
            assert!(answer.body.contains("smtptrace_connections_total"), "{}", answer.body);
        }
    });
    let after = scraped_after(&lab, address, 2.0);
    assert!(after.sum("smtptrace_scrapes_total", &[("code", "200")]) >= Some(100.0));
    assert_eq!(after.sum("smtptrace_scrapes_total", &[("code", "405")]), Some(1.0));
    // Those that said nothing more are hung up on.
    for mut stream in half {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        assert!(end.is_err() || rest.is_empty(), "{rest:?}");
    }
    let run = tracer.stop_cleanly().unwrap();
    let connections = run.recording.connections.iter();
    let messages: u64 = connections.filter_map(|it| it.json()["transactions"].as_u64()).sum();
    assert_eq!(messages, 23);
}

#[test]
fn an_occupied_port_is_said_at_once() {
    needs!(Namespaces, Tracer, PythonModule("prometheus_client"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = tracer::command(["--listen", &address, "--duration", "20s"]).unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains(&address) && message.contains("--listen"), "{message}");
}
