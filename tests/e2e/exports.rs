//! Histograms in the formats of other tools, read by an implementation that is not ours; and JSON Lines, as jq reads
//! them while tracing goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use serde_json::Value;
use tests::{
    lab::{self, Lab},
    needs, python, report,
    server::{Script, Server},
    session::{Session, failing_connect},
    tracer::{self, Run, Tracer},
    wait,
};

/// Prints each interval of a log: tag, count, median and maximum.
const READ_LOG: &str = "
import json, sys
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
reader = HistogramLogReader(sys.argv[1], HdrHistogram(1, 2**53 - 1, 2))
while True:
    h = reader.get_next_interval_histogram()
    if h is None:
        break
    print(json.dumps([h.get_tag(), h.get_total_count(), h.get_value_at_percentile(50),
                      h.get_max_value(), h.get_start_time_stamp(), h.get_end_time_stamp()]))
";

/// Prints count, median and maximum of a histogram in base64.
const DECODE: &str = "
import json, sys
from hdrh.histogram import HdrHistogram
h = HdrHistogram.decode(sys.argv[1])
print(json.dumps([h.get_total_count(), h.get_value_at_percentile(50), h.get_max_value()]))
";

/// Some sessions to two destinations.
fn trace(lab: &Lab) -> Run {
    let second = (lab::server_v4(1), lab.port()).into();
    let script = Script::mail_server("220 server.test ESMTP");
    let _first = Server::start(&lab.server, lab.server_v4(), script.clone()).unwrap();
    let _second = Server::start(&lab.server, second, script.pause(Duration::ZERO)).unwrap();
    let tracer = Tracer::start(lab).unwrap();
    for (to, messages) in [(lab.server_v4(), 1), (lab.server_v4(), 7), (second, 2), (second, 0)] {
        let mut session = Session::connect(&lab.client, to).unwrap();
        session.begin().unwrap();
        for _ in 0..messages {
            session.message(500).unwrap();
        }
        session.quit().unwrap();
    }
    lab.wait_for_ends(Duration::from_secs(5)).unwrap();
    tracer.stop_cleanly().unwrap()
}

fn exported(run: &Run, arguments: &[&str]) -> String {
    let file = run.file.to_str().unwrap();
    let output = tracer::command([&["report", file], arguments].concat()).unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Count, median and maximum of each histogram that is not empty, by `destination.metric`.
fn expected(report: &Value) -> BTreeMap<String, [u64; 3]> {
    let destinations = report::destinations(report).unwrap().iter().chain([&report["totals"]]);
    let mut all = BTreeMap::new();
    for destination in destinations {
        for (name, summary) in destination["histograms"].as_object().unwrap() {
            let known = ["count", "p50", "max"].map(|field| summary[field].as_u64());
            if let [Some(count), Some(p50), Some(max)] = known {
                let key = destination["key"].as_str().unwrap();
                all.insert(format!("{key}.{name}"), [count, p50, max]);
            }
        }
    }
    all
}

/// Whether `read` is what `true` looks like in a histogram of two digits.
fn agrees(read: f64, truth: u64) -> bool {
    let truth = truth as f64;
    (truth..=truth * 1.01 + 1.0).contains(&read)
}

#[test]
fn other_tools_read_the_histograms() {
    needs!(Namespaces, Tracer, PythonModule("hdrh"));
    let lab = Lab::up().unwrap();
    let run = trace(&lab);
    let report = report::parse(&exported(&run, &["--format", "json"])).unwrap();
    let expected = expected(&report);
    assert!(expected.contains_key("total.connect_us"), "{expected:?}");
    let messages = &expected["total.messages_per_connection"];
    assert_eq!((messages[0], messages[2]), (4, 7));

    // The log of intervals, as one: the first begins and the last ends with the trace.
    let log = lab.file("all.hlog");
    fs::write(&log, exported(&run, &["--format", "hlog", "--interval", "365days"])).unwrap();
    let mut seen = 0;
    for line in python::run(READ_LOG, &[log.to_str().unwrap()]).unwrap().lines() {
        let values: Value = serde_json::from_str(line).unwrap();
        let [count, p50, max] = expected[values[0].as_str().unwrap()];
        assert_eq!(values[1].as_u64(), Some(count), "{values}");
        assert!(agrees(values[2].as_f64().unwrap(), p50), "{values} {p50}");
        assert!(agrees(values[3].as_f64().unwrap(), max), "{values} {max}");
        let window = (values[4].as_f64().unwrap(), values[5].as_f64().unwrap());
        let length = report["window"]["duration_s"].as_f64().unwrap() * 1_000.0;
        assert!((window.1 - window.0 - length).abs() < 2.0, "milliseconds: {values}");
        seen += 1;
    }
    assert_eq!(seen, expected.len());

    // The same in the JSON report.
    let hdr = report["totals"]["histograms"]["connect_us"]["hdr"].as_str().unwrap();
    let decoded: [f64; 3] = serde_json::from_str(&python::run(DECODE, &[hdr]).unwrap()).unwrap();
    let [count, p50, max] = expected["total.connect_us"];
    assert!((decoded[0] - count as f64).abs() < 0.5, "{decoded:?}");
    assert!(agrees(decoded[1], p50) && agrees(decoded[2], max), "{decoded:?}");

    // Percentile text: the last line with a value is the maximum, and counts all.
    let directory = lab.file("hgrm");
    exported(&run, &["--format", "hgrm", "--output", directory.to_str().unwrap()]);
    for (name, [count, _, max]) in &expected {
        let text = fs::read_to_string(directory.join(format!("{name}.hgrm"))).unwrap();
        let last = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
        let words: Vec<f64> = last.split_whitespace().map(|word| word.parse().unwrap()).collect();
        assert!((words[1] - 1.0).abs() < 1e-9, "{name}: {last}");
        assert!((words[2] - *count as f64).abs() < 0.5, "{name}: {last}");
        assert!(agrees(words[0], *max), "{name}: {last}");
    }
    assert_eq!(fs::read_dir(&directory).unwrap().count(), expected.len());
}

#[test]
fn csv_is_a_table() {
    needs!(Namespaces, Tracer, PythonModule("hdrh"));
    let lab = Lab::up().unwrap();
    let run = trace(&lab);
    let text = exported(&run, &["--format", "csv"]);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{text}");
    let column = |name: &str| rows[0].iter().position(|head| *head == name).unwrap();
    let row = |key: &str| rows.iter().find(|row| row[0] == key).unwrap();
    assert_eq!(row("total")[column("connections")], "4");
    let first = lab.server_v4().ip().to_string();
    assert_eq!(row(&first)[column("transactions")], "8");
    assert_eq!(row(&first)[column("messages_per_connection_max")], "7");
}

/// The fields of a connection that may not change without a new number of the schema.
const CONTRACT: [&str; 48] = [
    "kind",
    "schema",
    "id",
    "host",
    "start",
    "seen_from",
    "family",
    "src",
    "sport",
    "dst",
    "dport",
    "netns",
    "cgroup",
    "pid",
    "comm",
    "uid",
    "owners",
    "connect_us",
    "connect_error",
    "banner_us",
    "greeting_us",
    "banner_code",
    "banner_host",
    "tls",
    "tls_handshake_us",
    "lifetime_us",
    "bytes_sent",
    "bytes_received",
    "retransmits",
    "srtt_us",
    "turns",
    "transactions",
    "transactions_method",
    "transactions_exact",
    "replies",
    "transaction_spans_us",
    "transaction_spans_omitted",
    "idle_gaps_us",
    "idle_gaps_omitted",
    "idle_max_survived_us",
    "end_cause",
    "end_during",
    "end_idle_us",
    "end_suspect",
    "reset_ttl",
    "peer_ttl",
    "keepalive",
    "keepalive_idle_s",
];

/// `smtptrace --dport PORT --include-loopback --format jsonl | jq` prints each connection when it has ended.
#[test]
fn jq_reads_each_connection_as_it_ends() {
    const SESSIONS: usize = 5;
    const PATIENCE: Duration = Duration::from_secs(60);
    needs!(Namespaces, Tracer, Jq);
    let lab = Lab::up().unwrap();
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, lab.port()));
    let script = Script::mail_server("220 server.test ESMTP");
    let _server = Server::start(&lab.client, local, script).unwrap();
    let port = lab.port().to_string();
    let mut tracing = Command::new(tracer::binary())
        .args(["--dport", &port, "--include-loopback", "--format", "jsonl"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // What it is, its ports, and which fields are missing.
    let program = format!("[.kind, .sport, .dport, {} - keys]", Value::from(&CONTRACT[..]));
    let mut jq = Command::new("jq")
        .args(["--unbuffered", "-c", &program])
        .stdin(tracing.stdout.take().unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(jq.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };

    assert_eq!(next()[0], "header");
    let mut ports = BTreeSet::new();
    for messages in 0..SESSIONS {
        let mut session = Session::connect(&lab.client, local).unwrap();
        ports.insert(u64::from(session.local().port()));
        session.begin().unwrap();
        (0..messages).for_each(|_| session.message(500).unwrap());
        session.quit().unwrap();
    }
    let failed = failing_connect(&lab.client, lab.server_v4()).unwrap();
    assert_eq!(failed.error.kind(), std::io::ErrorKind::ConnectionRefused);
    let mut seen = BTreeSet::new();
    for _ in 0..=SESSIONS {
        let line = next();
        assert_eq!((&line[0], &line[3]), (&"connection".into(), &Value::Array(vec![])), "{line}");
        assert_eq!(line[2], lab.port(), "{line}");
        seen.insert(line[1].as_u64().unwrap());
    }
    assert_eq!(seen.len(), SESSIONS + 1);
    assert!(seen.is_superset(&ports), "{ports:?} {seen:?}");

    signal::kill(Pid::from_raw(tracing.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(next()[0], "trailer");
    let status = wait::until("smtptrace to end", PATIENCE, || Ok(tracing.try_wait()?)).unwrap();
    assert!(status.success(), "{status}");
    assert!(jq.wait().unwrap().success());
    assert!(lines.next().is_none(), "a line after the trailer");
}
