//! Metrics as an OpenTelemetry receiver gets them, decoded by the generated code of the protocol.

use std::{
    fs,
    path::PathBuf,
    process::Child,
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::{
    lab::{self, Lab},
    needs, python, report, scrape,
    server::{Script, Server},
    session::Session,
    tracer::{self, Tracer},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A receiver in Python; it is killed when dropped.
struct Receiver {
    process: Child,
    url: String,
    exports: PathBuf,
}

impl Receiver {
    /// Starts one that answers with `status`, or with 0 never, and waits until it listens.
    fn start(lab: &Lab, status: u16) -> Self {
        let address = scrape::free_address().unwrap();
        let exports = lab.file("exports.jsonl");
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/python/otlp_receiver.py");
        let mut command = python::interpreter();
        command.arg(program).arg(address.port().to_string()).arg(&exports).arg(status.to_string());
        let process = command.spawn().unwrap();
        let receiver = Self { process, url: format!("http://{address}"), exports };
        wait::until("the receiver to listen", PATIENCE, || {
            Ok(std::net::TcpStream::connect(address).ok().map(drop))
        })
        .unwrap();
        receiver
    }

    /// What it was sent so far.
    fn exports(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.exports).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Two servers: 16 and 7 messages over three connections.
fn send_mail(lab: &Lab) -> Vec<Server> {
    let script = Script::mail_server("220 server.test ESMTP");
    let mut servers = Vec::new();
    for (offset, sessions) in [(0, &[1, 15][..]), (1, &[7])] {
        let to = (lab::server_v4(offset), lab.port()).into();
        servers.push(Server::start(&lab.server, to, script.clone()).unwrap());
        for &messages in sessions {
            let mut session = Session::connect(&lab.client, to).unwrap();
            session.begin().unwrap();
            for _ in 0..messages {
                session.message(300).unwrap();
            }
            session.quit().unwrap();
        }
    }
    lab.wait_for_ends(PATIENCE).unwrap();
    servers
}

fn metric<'a>(export: &'a Value, name: &str) -> Option<&'a Value> {
    export["metrics"].as_array().unwrap().iter().find(|it| it["name"] == name)
}

/// The sum of the points of `name` to a destination.
fn sum(export: &Value, name: &str, field: &str, destination: &str) -> Option<f64> {
    let points = metric(export, name)?["points"].as_array().unwrap().iter();
    let here = points.filter(|it| it["attributes"]["destination"] == destination);
    Some(here.filter_map(|it| it[field].as_f64()).sum())
}

#[test]
fn a_receiver_gets_the_numbers_of_the_report() {
    needs!(
        Namespaces,
        Tracer,
        PythonModule("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")
    );
    let lab = Lab::up().unwrap();
    let receiver = Receiver::start(&lab, 200);
    let arguments = ["--otlp", &receiver.url, "--interval", "300ms"];
    let tracer = Tracer::start_with(&lab, &arguments).unwrap();
    let _servers = send_mail(&lab);
    let first = lab::server_v4(0).to_string();
    wait::until("an export while the trace runs", PATIENCE, || {
        let seen =
            |export: &Value| sum(export, "smtptrace.messages", "value", &first) == Some(16.0);
        Ok(receiver.exports().iter().any(seen).then_some(()))
    })
    .unwrap();
    let run = tracer.stop_cleanly().unwrap();
    assert!(!run.stderr.contains("export"), "{}", run.stderr);
    let exports = receiver.exports();
    let last = exports.last().unwrap();
    assert_eq!(last["resource"]["service.name"], "smtptrace");
    assert!(!last["resource"]["host.name"].as_str().unwrap().is_empty());
    assert_eq!(last["resource"]["service.version"], env!("CARGO_PKG_VERSION"));
    let json = tracer::command(["report", "--format", "json", run.file.to_str().unwrap()]).unwrap();
    let report = report::parse(&String::from_utf8(json.stdout).unwrap()).unwrap();
    for destination in report::destinations(&report).unwrap() {
        let key = destination["key"].as_str().unwrap();
        let value = |name: &str| sum(last, name, "value", key);
        assert_eq!(value("smtptrace.messages"), destination["transactions"].as_f64());
        assert_eq!(value("smtptrace.connections"), destination["connections"].as_f64());
        assert_eq!(value("smtptrace.sent"), destination["bytes_sent"].as_f64());
        for (field, name) in [
            ("connect_us", "smtptrace.connect_duration"),
            ("transaction_us", "smtptrace.transaction_duration"),
            ("messages_per_connection", "smtptrace.connection_messages"),
        ] {
            let count = destination["histograms"][field]["count"].as_f64();
            assert_eq!(sum(last, name, "count", key), count, "{name} of {key}");
        }
        let carried = sum(last, "smtptrace.connection_messages", "sum", key);
        assert_eq!(carried, destination["transactions"].as_f64());
    }
    let connects = metric(last, "smtptrace.connect_duration").unwrap();
    assert_eq!((&connects["unit"], &connects["kind"]), (&"s".into(), &"histogram".into()));
    for point in connects["points"].as_array().unwrap() {
        let buckets = point["buckets"].as_array().unwrap();
        assert_eq!(buckets.len(), point["edges"].as_array().unwrap().len() + 1);
        let in_buckets: u64 = buckets.iter().filter_map(Value::as_u64).sum();
        assert_eq!(Some(in_buckets), point["count"].as_u64());
    }
    assert_eq!(metric(last, "smtptrace.sent").unwrap()["unit"], "By");
    let complete = metric(last, "smtptrace.evidence_complete").unwrap();
    assert_eq!(
        (&complete["kind"], &complete["points"][0]["value"]),
        (&"gauge".into(), &1.0.into())
    );
    // Cumulative, and never less than before.
    let mut before = 0.0;
    for export in &exports {
        for metric in export["metrics"].as_array().unwrap() {
            assert_eq!(metric["cumulative"], true, "{metric}");
            assert_eq!(metric["monotonic"], Value::from((metric["kind"] == "sum").then_some(true)));
        }
        let now = sum(export, "smtptrace.messages", "value", &first).unwrap_or(0.0);
        assert!(now >= before, "{now} {before}");
        before = now;
    }
}

/// Traces some mail while exports fail. Returns what smtptrace says and how long its end took.
fn with_failing_exports(lab: &Lab, url: &str) -> (String, Duration) {
    let arguments = ["--otlp", url, "--interval", "200ms", "--format", "prometheus"];
    let tracer = Tracer::start_with(lab, &arguments).unwrap();
    let _servers = send_mail(lab);
    wait::until("the records of all connections", PATIENCE, || {
        Ok((tracer.recording_so_far()?.connections.len() == 3).then_some(()))
    })
    .unwrap();
    let begin = Instant::now();
    let run = tracer.stop_cleanly().unwrap();
    let took = begin.elapsed();
    let messages = run.recording.connections.iter();
    let messages: u64 = messages.filter_map(|it| it.json()["transactions"].as_u64()).sum();
    assert_eq!(messages, 23);
    let failed = |line: &&str| line.starts_with("smtptrace_otlp_exports_total{result=\"failed\"}");
    assert!(run.stdout.lines().any(|line| failed(&line)), "{}", run.stdout);
    let warnings = run.stderr.matches("cannot export metrics to").count();
    assert!(warnings <= 1, "{}", run.stderr);
    (run.stderr, took)
}

#[test]
fn a_receiver_that_fails_delays_nothing() {
    needs!(
        Namespaces,
        Tracer,
        PythonModule("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")
    );
    let lab = Lab::up().unwrap();
    let nobody = format!("http://{}", scrape::free_address().unwrap());
    let (said, _) = with_failing_exports(&lab, &nobody);
    assert!(said.contains("Connection refused") && said.contains(" exports to "), "{said}");

    let unavailable = Receiver::start(&lab, 503);
    let (said, took) = with_failing_exports(&lab, &unavailable.url);
    assert!(said.contains("503"), "{said}");
    assert!(took < Duration::from_secs(15), "{took:?}");

    // It takes the request and never answers.
    let silent = Receiver::start(&lab, 0);
    let (said, took) = with_failing_exports(&lab, &silent.url);
    assert!(said.contains("did not end within 5 s") || said.contains("timeout"), "{said}");
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[test]
fn a_url_that_cannot_be_is_refused() {
    needs!(
        Namespaces,
        Tracer,
        PythonModule("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")
    );
    for url in ["https://127.0.0.1:4318", "127.0.0.1:4318", "http://"] {
        let output = tracer::command(["--otlp", url, "--duration", "1s"]).unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("--otlp"), "{output:?}");
    }
}
