//! Names of addresses (`--resolve`) and networks of any length (`--prefix4`, `--prefix6`).

use std::{
    net::IpAddr,
    process::Output,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{
    lab::{self, Lab},
    name_server::{NameServer, Zone, resolving_there},
    needs, report,
    session::failing_connect,
    tracer::{self, Run, Tracer},
};

/// The report waits five seconds for names; the rest is a busy machine.
const SOON: Duration = Duration::from_secs(25);

/// Traces a connect to each address of the server.
fn trace(lab: &Lab, arguments: &[&str]) -> Run {
    let tracer = Tracer::start_with(lab, arguments).unwrap();
    for offset in 0..lab::SERVER_ADDRESSES {
        for address in [IpAddr::from(lab::server_v4(offset)), lab::server_v6(offset).into()] {
            failing_connect(&lab.client, (address, lab.port()).into()).unwrap();
        }
    }
    tracer.stop_cleanly().unwrap()
}

fn report_there(lab: &Lab, run: &Run, arguments: &[&str]) -> Output {
    let binary = tracer::binary();
    let words = [binary.to_str().unwrap(), "report", run.file.to_str().unwrap()];
    let output = resolving_there(lab, &[&words, arguments].concat()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn parsed(output: &Output) -> Value {
    report::parse(std::str::from_utf8(&output.stdout).unwrap()).unwrap()
}

fn name(report: &Value, offset: u8) -> Value {
    let key = lab::server_v4(offset).to_string();
    report::destination(report, &key).unwrap()["name"].clone()
}

fn long_name() -> String {
    [&"a".repeat(60), &"b".repeat(60), &"c".repeat(60), &"d".repeat(60)]
        .map(String::as_str)
        .join(".")
}

/// Offsets 0 to 7: good, a liar, a number, control characters, unknown, silent, long, hexadecimal.
fn zone() -> Zone {
    let at = lab::server_v4;
    Zone::default()
        .called(at(0), b"mx.good.example")
        .has("mx.good.example", at(0))
        .called(at(1), b"mx.liar.example")
        .has("mx.liar.example", at(0))
        .called(at(2), at(2).to_string().as_bytes())
        .called(at(3), b"\x1b[31m\x07mx.evil.example")
        .silent_about(at(5))
        .called(at(6), long_name().as_bytes())
        .has(&long_name(), at(6))
        .called(at(7), b"0x0a470209")
}

#[test]
fn names_are_those_of_dns_and_say_whether_they_are_verified() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let run = trace(&lab, &[]);
    let server = NameServer::start(&lab.client, zone()).unwrap();

    let without = report_there(&lab, &run, &["--format", "json"]);
    assert_eq!(server.queries(), 0, "nobody is asked unless --resolve is given");
    assert_eq!(name(&parsed(&without), 0), Value::Null);

    let start = Instant::now();
    let json = report_there(&lab, &run, &["--resolve", "--format", "json"]);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    let found = parsed(&json);
    assert_eq!(name(&found, 0), json!({"name": "mx.good.example", "verified": true}));
    assert_eq!(name(&found, 1), json!({"name": "mx.liar.example", "verified": false}));
    assert_eq!(name(&found, 6), json!({"name": long_name(), "verified": true}));
    for nameless in [2, 4, 5, 7] {
        assert_eq!(name(&found, nameless), Value::Null, "{nameless}");
    }
    let six = report::destination(&found, &lab::server_v6(0).to_string()).unwrap();
    assert_eq!(six["name"], Value::Null);

    for format in ["text", "csv"] {
        let output = report_there(&lab, &run, &["--resolve", "--format", format]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("mx.good.example"), "{text}");
        assert!(!text.contains('\x1b') && !text.contains('\x07'), "{text:?}");
        if format == "text" {
            assert!(text.contains("mx.liar.example (not verified)"), "{text}");
            assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        } else {
            assert!(text.lines().any(|line| line.contains("mx.liar.example,false")), "{text}");
        }
    }
}

#[test]
fn without_a_name_server_there_are_no_names() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let run = trace(&lab, &[]);
    let start = Instant::now();
    let found = parsed(&report_there(&lab, &run, &["--resolve", "--format", "json"]));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert!((0..lab::SERVER_ADDRESSES).all(|offset| name(&found, offset) == Value::Null));
}

#[test]
fn networks_are_as_large_as_is_asked() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let by = ["--group-by", "prefix", "--prefix4", "29", "--prefix6", "64"];
    let live = trace(&lab, &[&["--format", "json"], &by[..]].concat());
    let live = report::parse(&live.stdout).unwrap();
    assert_eq!(live["prefixes"], json!({"ipv4": 29, "ipv6": 64}), "{live}");
    // The server has the addresses .2 to .9: six below .8, two from there on.
    for (key, connections) in [("10.71.2.0/29", 6), ("10.71.2.8/29", 2), ("fd71:2::/64", 8)] {
        let row = report::destination(&live, key).unwrap();
        assert_eq!(
            (&row["connections"], &row["addresses"]),
            (&json!(connections), &json!(connections))
        );
    }
    let recording = lab.file("recording.jsonl");
    let recording = recording.to_str().unwrap();
    let saved = lab.file("saved.json");
    let saved = saved.to_str().unwrap();
    let all = [&["report", "--format", "json", "--output", saved, recording], &by[..]].concat();
    assert!(tracer::command(all).unwrap().status.success());
    let again = report::read(saved.as_ref()).unwrap();
    assert_eq!(again["destinations"], live["destinations"]);
    let usual = ["report", "--format", "json", "--group-by", "prefix", recording];
    let usual = parsed(&tracer::command(usual).unwrap());
    assert_eq!(usual["prefixes"], json!({"ipv4": 24, "ipv6": 48}));
    report::destination(&usual, "10.71.2.0/24").unwrap();
    let plain = parsed(&tracer::command(["report", "--format", "json", recording]).unwrap());
    assert_eq!(plain["prefixes"], Value::Null);

    let what_if = [&["what-if", "--format", "json", recording], &by[..]].concat();
    let what_if = tracer::command(what_if).unwrap();
    assert!(what_if.status.success(), "{what_if:?}");
    let what_if: Value = serde_json::from_slice(&what_if.stdout).unwrap();
    assert_eq!(what_if["prefixes"], json!({"ipv4": 29, "ipv6": 64}));

    // A saved report keeps its networks; asking for others is refused.
    let same = tracer::command(["compare", saved, recording, "--format", "json"]).unwrap();
    let same: Value = serde_json::from_slice(&same.stdout).unwrap();
    assert_eq!(same["prefixes"], json!({"ipv4": 29, "ipv6": 64}));
    let check = ["check", "--min-reuse", "1%", "--group-by", "prefix", "--prefix4", "28", saved];
    let refusals: [(&[&str], &str); 4] = [
        (&check, "/29"),
        (&["report", "--prefix4", "20", recording], "--group-by prefix"),
        (&["--group-by", "host", "--prefix6", "56"], "--group-by prefix"),
        (&["report", "--group-by", "prefix", "--prefix4", "33", recording], "33"),
    ];
    for (arguments, words) in refusals {
        let output = tracer::command(arguments).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(words), "{words:?} is not in {stderr}");
    }
}
