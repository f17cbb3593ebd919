//! The log of intervals: written while tracing, the same from the recording, and right by the records.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde_json::Value;
use tests::{
    lab::{self, Lab},
    needs, python,
    recording::Recording,
    server::{Script, Server},
    session::Session,
    tracer::{self, Tracer},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Prints each histogram of a log: tag, begin and end in milliseconds, values and their counts.
const READ_LOG: &str = "
import json, sys
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
reader = HistogramLogReader(sys.argv[1], HdrHistogram(1, 2**53 - 1, 2))
while True:
    h = reader.get_next_interval_histogram()
    if h is None:
        break
    values = [[it.value_iterated_to, it.count_at_value_iterated_to]
              for it in h.get_recorded_iterator()]
    print(json.dumps([h.get_tag(), round(h.get_start_time_stamp()), round(h.get_end_time_stamp()), values]))
";

/// Of an interval: its begin and end in milliseconds since 1970.
type Span = (i64, i64);

/// Values and their counts by interval and tag. Pieces of one interval are added up.
fn read_log(file: &Path) -> BTreeMap<(Span, String), BTreeMap<u64, u64>> {
    let mut all: BTreeMap<_, BTreeMap<u64, u64>> = BTreeMap::new();
    for line in python::run(READ_LOG, &[file.to_str().unwrap()]).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let number = |at: usize| line[at].as_i64().unwrap();
        let tag = line[0].as_str().unwrap().to_owned();
        let values = all.entry(((number(1), number(2)), tag)).or_default();
        for pair in line[3].as_array().unwrap() {
            *values.entry(pair[0].as_u64().unwrap()).or_default() += pair[1].as_u64().unwrap();
        }
    }
    all
}

/// Connections by the second in which they ended (or tracing did) and destination, from the recording.
fn ended(recording: &Recording) -> BTreeMap<(i64, String), u64> {
    let mut all = BTreeMap::new();
    for record in &recording.connections {
        let second = record.end().unwrap() / 1_000_000_000;
        let key = record.text("dst").unwrap().unwrap().to_owned();
        *all.entry((second, key)).or_default() += 1;
        *all.entry((second, "total".to_owned())).or_default() += 1;
    }
    all
}

#[test]
fn intervals_hold_the_connections_that_ended_in_them() {
    needs!(Namespaces, Tracer, PythonModule("hdrh"));
    let lab = Lab::up().unwrap();
    let second = (lab::server_v4(1), lab.port()).into();
    let script = Script::mail_server("220 server.test ESMTP");
    let _first = Server::start(&lab.server, lab.server_v4(), script.clone()).unwrap();
    let _second = Server::start(&lab.server, second, script).unwrap();
    let live = lab.file("live.hlog");
    let arguments = ["--format", "hlog", "--interval", "1s", "--output", live.to_str().unwrap()];
    let tracer = Tracer::start_with(&lab, &arguments).unwrap();
    for pause_ms in [0, 300, 700, 1_200, 0] {
        std::thread::sleep(Duration::from_millis(pause_ms));
        for to in [lab.server_v4(), second] {
            let mut session = Session::connect(&lab.client, to).unwrap();
            session.begin().unwrap();
            session.message(500).unwrap();
            session.quit().unwrap();
        }
    }
    let mut open = Session::connect(&lab.client, second).unwrap();
    open.begin().unwrap();

    // Each interval is written soon after it is over, not at the end.
    wait::until("ten connections in the log", PATIENCE, || {
        let log = read_log(&live);
        let total = log.iter().filter(|((_, tag), _)| tag == "total.connect_us");
        let count: u64 = total.flat_map(|(_, values)| values.values()).sum();
        Ok((count == 10).then_some(()))
    })
    .unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let live = read_log(&live);

    let output = tracer::command([
        "report",
        run.file.to_str().unwrap(),
        "--format",
        "hlog",
        "--interval",
        "1s",
    ])
    .unwrap();
    assert!(output.status.success(), "{output:?}");
    let file = lab.file("report.hlog");
    fs::write(&file, output.stdout).unwrap();
    assert_eq!(read_log(&file), live, "the recording gives another log than the trace");

    let mut counted = BTreeMap::new();
    for (((begin, end), tag), values) in &live {
        assert!(end - begin <= 1_000 && begin.div_euclid(1_000) == (end - 1).div_euclid(1_000));
        if let Some(key) = tag.strip_suffix(".connect_us") {
            let count: u64 = values.values().sum();
            counted.insert((begin.div_euclid(1_000), key.to_owned()), count);
        }
    }
    assert_eq!(counted, ended(&run.recording));
    assert_eq!(counted.values().sum::<u64>(), 22, "11 connections, once each and in the total");
    let full = live.keys().filter(|((begin, end), _)| end - begin == 1_000);
    assert!(full.count() > 0, "{live:?}");
}
