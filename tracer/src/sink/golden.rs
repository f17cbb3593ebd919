//! Every sink, on recordings of real traffic and on hostile text.
//!
//! `UPDATE_GOLDEN=1 cargo test -p tracer golden` writes the expected outputs in `testdata/golden` anew.

use std::{env, fs, path::PathBuf, time::Duration};

use tracer_analysis::{
    connection::Connection,
    destination::{GroupBy, SteadyFold},
    recording::Line,
    report::{Intervals, Report},
};

use super::{
    csv, hgrm,
    hlog::Log,
    html, json,
    openmetrics::{About, Dialect, Exposition, Own},
    tests, text,
};
use crate::{
    input::{Input, MEMORY},
    journal,
    memory::Memory,
    recording, report,
};

/// What is put into a form.
pub(super) struct Sample {
    connections: Vec<Connection>,
    report: Report,
}

/// A form: its name and what it makes of a sample.
type Sink = (&'static str, fn(&Sample) -> Vec<u8>);

/// Every sink. A new one is added here, and is then tested with the others.
const SINKS: [Sink; 10] = [
    ("text", |of| written(|out| text::write(&of.report, out, &text::TextOptions { top: 20 }))),
    ("json", |of| written(|out| json::write(&of.report, out))),
    ("csv", |of| written(|out| csv::write(&of.report, out))),
    ("hlog", |of| {
        let intervals = Intervals::new(Duration::from_secs(3_600), of.report.group_by, 100);
        let mut out = Vec::new();
        let mut log = Log::new(&mut out, intervals, "0.1.0");
        log.begin(of.report.window.start);
        of.connections.iter().for_each(|connection| log.add(connection).unwrap());
        log.finish(of.report.window.end).unwrap();
        out
    }),
    ("hgrm", |of| hgrm::total_of(&of.report)),
    ("jsonl", |of| {
        let mut writer = recording::Writer::plain(Vec::new());
        for connection in &of.connections {
            writer.line(&Line::Connection(Box::new(connection.clone()))).unwrap();
        }
        writer.into_bytes().unwrap()
    }),
    ("journal", |of| journal::all(&of.connections, &of.report)),
    ("html", |of| {
        written(|out| html::write(&of.report, None, out, &html::HtmlOptions { top: 20 }))
    }),
    ("openmetrics", |of| metrics(of, Dialect::OpenMetrics)),
    ("prometheus", |of| metrics(of, Dialect::Prometheus)),
];

/// The metrics of a sample; what the tracer itself costs is not in it.
fn metrics(of: &Sample, dialect: Dialect) -> Vec<u8> {
    let mut fold = SteadyFold::new(of.report.grouping(), 100);
    for connection in &of.connections {
        fold.add(connection, None);
    }
    let about = About {
        version: "0.1.0",
        hosts: &of.report.hosts,
        group_by: of.report.group_by,
        start: of.report.window.start,
        duration_s: of.report.window.duration_s,
        trust: &of.report.trust,
        open: None,
        named: fold.named(),
        replaced: fold.replaced(),
        limit: fold.limit(),
        own: Own::default(),
    };
    Exposition::new(&fold, &about).text(dialect).into_bytes()
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    out
}

fn recorded(name: &str) -> Sample {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/testdata/recordings");
    let path = path.join(name);
    let mut connections = Vec::new();
    let input = Input::open(&path).unwrap();
    recording::read(&input, |line| {
        if let Line::Connection(connection) = line {
            connections.push((**connection).clone());
        }
    })
    .unwrap();
    Sample {
        connections,
        report: report::on(&[input], GroupBy::Host.into(), 100, true, &mut Memory::open(MEMORY))
            .unwrap(),
    }
}

#[test]
fn recordings_of_real_traffic() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/sink/testdata/golden");
    for (recording, name) in [("mx1.jsonl.zst", "mx1"), ("mx2.jsonl", "mx2")] {
        let sample = recorded(recording);
        // The lines of a recording are that recording.
        for (sink, form) in SINKS.iter().filter(|(sink, _)| *sink != "jsonl") {
            let path = directory.join(format!("{name}.{sink}"));
            let made = form(&sample);
            if env::var_os("UPDATE_GOLDEN").is_some() {
                fs::create_dir_all(&directory).unwrap();
                fs::write(&path, &made).unwrap();
            }
            let same = fs::read(&path).is_ok_and(|found| found == made);
            let made = String::from_utf8_lossy(&made);
            assert!(same, "{} differs; UPDATE_GOLDEN=1 writes it anew:\n{made}", path.display());
        }
    }
}

/// What README.md shows is what is printed.
#[test]
fn the_report_in_the_readme_is_real() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let files = ["mx1.jsonl.zst", "mx2.jsonl"]
        .map(|name| root.join("tests/testdata/recordings").join(name));
    let report = report::on(
        &Input::open_all(&files).unwrap(),
        GroupBy::Host.into(),
        100,
        false,
        &mut Memory::open(MEMORY),
    )
    .unwrap();
    let made = written(|out| text::write(&report, out, &text::TextOptions { top: 20 }));
    let made = String::from_utf8(made).unwrap();
    let indented = made.lines().map(|line| format!("    {line}").trim_end().to_owned() + "\n");
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let shown = indented.collect::<String>();
    assert!(readme.contains(&shown), "README.md does not show it:\n{shown}");
}

/// Text as a hostile server, process or recording may bring it.
fn hostile() -> Vec<String> {
    // A longer one is not the name of a host, and makes no destination.
    let long = "x".repeat(200);
    [
        "\x1b[2J\x1b]0;owned\x07\r\n\u{9b}31m",
        "<script>alert(1)</script>&amp;'\"",
        "mx\",le=\"1\"} 7\nup{job=\"x\\\"",
        "\u{202e}\u{2066}moc.elpmaxe\u{2069}\u{200b}\u{feff}",
        "nul\0nul\u{fffd}\u{85}\u{2028}\x7f",
        "a,b;c\t\"d\"\n=cmd()\nPRIORITY=0\nTag=x,1,2,3",
        &long,
    ]
    .map(ToOwned::to_owned)
    .to_vec()
}

/// A mail server's hour, with `text` wherever text can stand.
fn sample_with(text: &str) -> Sample {
    let (connections, report) = tests::with_text_everywhere(text);
    Sample { connections, report }
}

/// Fields of journal messages, read by the protocol: name and value.
fn fields(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut fields = Vec::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let line = &bytes[..end];
        if line.is_empty() {
            bytes = &bytes[1..];
        } else if let Some(at) = line.iter().position(|byte| *byte == b'=') {
            let name = String::from_utf8(line[..at].to_vec()).unwrap();
            fields.push((name, line[at + 1..].to_vec()));
            bytes = &bytes[end + 1..];
        } else {
            let name = String::from_utf8(line.to_vec()).unwrap();
            let len = u64::from_le_bytes(bytes[end + 1..end + 9].try_into().unwrap());
            let value = &bytes[end + 9..][..usize::try_from(len).unwrap()];
            assert_eq!(bytes[end + 9 + value.len()], b'\n');
            fields.push((name, value.to_vec()));
            bytes = &bytes[end + 10 + value.len()..];
        }
    }
    fields
}

#[test]
fn hostile_text_is_harmless_in_every_form() {
    let tame = sample_with("mx.example.org");
    for text in hostile() {
        let sample = sample_with(&text);
        for (name, form) in SINKS {
            let (made, tame) = (form(&sample), form(&tame));
            if name == "journal" {
                let names = |bytes| fields(bytes).into_iter().map(|it| it.0).collect::<Vec<_>>();
                assert_eq!(names(&made), names(&tame), "{text:?} makes other fields");
                let values = fields(&made).into_iter().map(|(_, value)| value);
                values.for_each(|value| assert_printable(name, &text, value));
                continue;
            }
            let lines = |of: &[u8]| of.split(|byte| *byte == b'\n').count();
            if name != "text" {
                assert_eq!(lines(&made), lines(&tame), "{text:?} makes other lines of {name}");
            }
            assert_printable(name, &text, made);
        }
    }
}

#[track_caller]
fn assert_printable(sink: &str, text: &str, made: Vec<u8>) {
    let made = String::from_utf8(made).unwrap();
    // A page has its own sign for microseconds.
    let micro = |c| sink == "html" && c == '\u{b5}';
    let bad = made.chars().find(|&c| !matches!(c, ' '..='~' | '\n') && !micro(c));
    assert_eq!(bad, None, "in {sink} of {:?}", &text[..text.len().min(80)]);
}
