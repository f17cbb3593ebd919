//! Recordings and reports that somebody else has made: how much memory they take, whatever they say.

use std::{
    env, fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};
use tests::{needs, tracer};

/// Most that a command may take, in kilobytes.
const MOST_KB: i64 = 300 << 10;

/// Just below the longest line that is read.
const LINE: usize = 1_000_000;

/// Lines of a recording.
const LINES: usize = 60;

fn header(n: usize, changes: &Value) -> Value {
    let hook = json!({
        "hook": format!("h{n}"), "fact": "f", "state": "attached", "program": null, "reason": null,
    });
    let line = json!({
        "kind": "header", "schema": 1, "version": "1", "host": "mx", "kernel": "6",
        "start": "2026-11-22T00:00:00Z", "hooks": [hook], "filters": {},
    });
    changed(line, changes)
}

fn connection(n: usize, changes: &Value) -> Value {
    let line = json!({
        "kind": "connection", "schema": 1, "id": "1", "host": "mx", "start": "2026-11-22T00:00:00Z",
        "seen_from": "connect", "family": "ipv4", "src": "192.0.2.1", "dst": format!("192.0.2.{n}"),
        "dport": 25, "connect_us": 5_000, "lifetime_us": 1_000_000, "transactions": 1,
        "transactions_method": "replies", "transactions_exact": true, "end_cause": "local_fin",
    });
    changed(line, changes)
}

fn changed(mut line: Value, changes: &Value) -> Value {
    let to = line.as_object_mut().unwrap();
    to.extend(changes.as_object().unwrap().clone());
    line
}

/// A directory for files, until it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let path = env::temp_dir().join(format!("smtptrace-hostile-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs smtptrace with these lines as its input. Returns its standard error.
fn fed(arguments: &[&str], lines: &mut dyn Iterator<Item = String>) -> String {
    let mut child = Command::new(tracer::binary())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for line in lines {
        writeln!(input, "{line}").unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {} {said}", output.status);
    said
}

/// The largest process so far, in kilobytes.
fn largest_kb() -> i64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss()
}

/// Each line is as long as one that is read may be and says something else; all of them would be kept.
#[test]
fn a_recording_takes_no_more_memory_than_it_may() {
    needs!(Tracer);
    let texts = vec![""; LINE / 3];
    let filters = header(0, &json!({ "filters": { "dest": texts } })).to_string();
    let comm = connection(0, &json!({ "comm": "x".repeat(LINE) })).to_string();
    let good = connection(1, &json!({})).to_string();
    for (long, format) in [(filters, "text"), (comm, "html")] {
        let mut lines = (0..LINES)
            .map(|n| long.replacen("\"mx\"", &format!("\"mx{n}\""), 1))
            .chain([good.clone()]);
        fed(&["report", "--format", format, "-"], &mut lines);
        assert!(largest_kb() < MOST_KB, "{format}: {} kB", largest_kb());
    }
}

/// Short lines; each names something that no other does.
#[test]
fn what_a_report_lists_is_bounded_and_what_is_left_out_is_said() {
    needs!(Tracer);
    let hooks = |n: usize| -> Vec<Value> {
        let hook = |it: usize| {
            json!({
                "hook": format!("h{n}.{it}"), "fact": "f", "state": "attached", "program": null,
                "reason": null, "events_lost": u64::MAX,
            })
        };
        (0..1_000).map(hook).collect()
    };
    let named = |n: usize| {
        let text = format!("{n}.{}", "x".repeat(200));
        json!({ "host": text, "version": text, "hooks": if n < 4 { hooks(n) } else { Vec::new() } })
    };
    let lines = (0..5_000).map(|n| header(n, &named(n)));
    let mut lines = lines.chain([connection(1, &json!({}))]).map(|line| line.to_string());
    let said = fed(&["report", "-"], &mut lines);
    for what in ["hosts beyond", "versions of smtptrace beyond", "hooks beyond"] {
        assert!(said.contains("left out: ") && said.contains(what), "{said}");
    }
    assert!(largest_kb() < MOST_KB, "{} kB", largest_kb());
}

/// A report claims a histogram of 4 GB, and one is larger than any.
#[test]
fn a_report_takes_no_more_memory_than_it_may() {
    needs!(Tracer);
    let directory = Directory::new();
    let (recording, report) = (directory.0.join("x.jsonl"), directory.0.join("x.json"));
    let lines = (0..20).map(|n| connection(n, &json!({})).to_string());
    let lines: Vec<String> =
        std::iter::once(header(0, &json!({})).to_string()).chain(lines).collect();
    fs::write(&recording, lines.join("\n") + "\n").unwrap();
    let made = tracer::command([
        "report".as_ref(),
        "--format".as_ref(),
        "json".as_ref(),
        "--output".as_ref(),
        report.as_os_str(),
        recording.as_os_str(),
    ]);
    assert!(made.unwrap().status.success());
    let text = fs::read_to_string(&report).unwrap();
    let mut document: Value = serde_json::from_str(&text).unwrap();
    // V2 of HdrHistogram: cookie, a length of 4 GB, no offset, two digits, 1 to 1,000, a ratio of 1.
    document["totals"]["histograms"]["connect_us"]["hdr"] =
        json!("HISTE/////8AAAAAAAAAAgAAAAAAAAABAAAAAAAAA+g/8AAAAAAAAA==");
    fs::write(&report, document.to_string()).unwrap();
    let compared = tracer::command(["compare".as_ref(), report.as_os_str(), report.as_os_str()]);
    assert!(compared.unwrap().status.success());
    assert!(largest_kb() < MOST_KB, "{} kB", largest_kb());

    let huge = fs::File::create(&report).unwrap();
    (&huge).write_all(b"{\n").unwrap();
    huge.set_len(1 << 40).unwrap();
    let refused = tracer::command(["compare".as_ref(), report.as_os_str(), report.as_os_str()]);
    let refused = refused.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("larger than 256 MB"), "{said}");
    assert!(largest_kb() < MOST_KB, "{} kB", largest_kb());
}
