//! Servers and processes that put into their text what terminals, tables and the journal act on.

use std::{fs, net::SocketAddr, time::Duration};

use serde_json::Value;
use tests::{
    journal::Journal,
    lab::{self, Lab},
    needs, python,
    server::{Script, Server, Step},
    session::{Session, SocketKind},
    tracer::{self, Run, Tracer},
};

/// A command name that clears a screen and adds a field.
const COMM: &str = "\u{1b}[2J<b>\",\nP=0";

/// What servers greet with, without the line end.
fn greetings() -> Vec<Vec<u8>> {
    let with = |text: &str| format!("220 {text} ESMTP").into_bytes();
    vec![
        with("\u{1b}[2J\u{1b}]0;owned\u{7}mx"),
        with("<script>alert(1)</script>"),
        with("mx\",le=\"1\"}\\"),
        with("mx.\u{202e}moc.elpmaxe\u{2066}"),
        b"220 mx.\xff\xfe\xc3\x28.example ESMTP".to_vec(),
        b"220 mx\0.example\x7f\x9b ESMTP".to_vec(),
        [b"220-first\r\n220-".to_vec(), vec![b'x'; 64 << 10], b"\r\n220 mx,a=b;c ESMTP".to_vec()]
            .concat(),
        b"421 4.7.0 \x1b[31mmx\tPRIORITY=0 too many".to_vec(),
    ]
}

/// Sessions of [`trace`].
const SESSIONS: usize = 16;

/// Two sessions with each of them, by a process with a hostile name; each ends in a reset.
fn trace(lab: &Lab, arguments: &[&str]) -> Run {
    let greetings = greetings();
    let addresses: Vec<SocketAddr> =
        (0..8).map(|n| (lab::server_v4(n), lab.port()).into()).collect();
    let scripts = greetings.iter().map(|greeting| {
        let line = [greeting.as_slice(), b"\r\n"].concat();
        Script::default().then(Step::Send(line)).then(Step::Command).close_with_reset()
    });
    let servers: Vec<Server> = addresses
        .iter()
        .zip(scripts)
        .map(|(address, script)| Server::start(&lab.server, *address, script).unwrap())
        .collect();
    let tracer = Tracer::start_with(lab, arguments).unwrap();
    for address in addresses.iter().cycle().take(SESSIONS) {
        let open = || Session::connect_here(*address, SocketKind::Native, |_| Ok(()));
        let mut session = lab.client.enter(COMM, open).unwrap();
        session.reply().unwrap();
        session.send(b"NOOP\r\n").unwrap();
        session.wait_for_end(Duration::from_secs(10)).unwrap();
    }
    lab.wait_for_ends(Duration::from_secs(10)).unwrap();
    drop(servers);
    tracer.stop_cleanly().unwrap()
}

/// Nothing but printable characters, tabs and line ends.
#[track_caller]
fn assert_harmless(form: &str, bytes: Vec<u8>) -> String {
    let text = String::from_utf8(bytes).unwrap();
    let bad = text.chars().find(|c| !matches!(c, ' '..='~' | '\n' | '\t'));
    assert_eq!(bad, None, "in {form}");
    text
}

/// No control characters but line ends, and nothing that turns the direction of text. A page has typographic
/// signs of its own, and a script and markup of its own.
#[track_caller]
fn assert_no_controls(page: &str) {
    let turns =
        |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let bad = page.chars().find(|&c| c != '\n' && c.is_control() || turns(c));
    assert_eq!(bad, None, "in html");
    assert_eq!(page.matches("<script").count(), 1);
}

#[test]
fn every_form_is_harmless_and_can_be_parsed() {
    needs!(Namespaces, Tracer, PythonModule("hdrh"));
    let lab = Lab::up().unwrap();
    let run = trace(&lab, &["--group-by", "host"]);
    assert_eq!(run.recording.connections.len(), SESSIONS);
    let comms: Vec<_> =
        run.recording.connections.iter().map(|it| it.text("comm").unwrap().unwrap()).collect();
    assert!(comms.iter().all(|comm| comm.starts_with('\u{1b}')), "{comms:?}");
    assert_harmless("the recording", fs::read(&run.file).unwrap());
    assert_harmless("stdout", run.stdout.into_bytes());
    assert_harmless("stderr", run.stderr.into_bytes());

    for form in
        ["text", "json", "jsonl", "csv", "hlog", "hgrm", "openmetrics", "prometheus", "html"]
    {
        let path = lab.file(form);
        let (file, output) = (run.file.to_str().unwrap(), path.to_str().unwrap());
        let arguments =
            ["report", "--group-by", "host", "--format", form, "--output", output, file];
        let done = tracer::command(arguments).unwrap();
        assert!(done.status.success(), "{done:?}");
        if form == "hgrm" {
            for entry in fs::read_dir(&path).unwrap() {
                assert_harmless(form, fs::read(entry.unwrap().path()).unwrap());
            }
            continue;
        }
        if form == "html" {
            assert_no_controls(&fs::read_to_string(&path).unwrap());
            continue;
        }
        let text = assert_harmless(form, fs::read(&path).unwrap());
        match form {
            "json" => drop(serde_json::from_str::<Value>(&text).unwrap()),
            "jsonl" => {
                let lines = text.lines().map(serde_json::from_str::<Value>);
                assert_eq!(lines.map(Result::unwrap).count(), SESSIONS + 2);
            }
            "csv" => {
                let rows = python::run(READ_CSV, &[output]).unwrap();
                let rows: Vec<Vec<String>> = serde_json::from_str(&rows).unwrap();
                assert!(rows.len() > 2 && rows.iter().all(|row| row.len() == rows[0].len()));
            }
            "hlog" => {
                let read = python::run(READ_LOG, &[output]).unwrap();
                let count: usize = serde_json::from_str(&read).unwrap();
                assert_eq!(count, SESSIONS, "connections of the total");
            }
            _ => {}
        }
    }
}

const READ_CSV: &str = "
import csv, json, sys
print(json.dumps(list(csv.reader(open(sys.argv[1], newline='')))))
";

const READ_LOG: &str = "
import sys
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
reader = HistogramLogReader(sys.argv[1], HdrHistogram(1, 2**53 - 1, 2))
count = 0
while (h := reader.get_next_interval_histogram()) is not None:
    if h.get_tag() == 'total.connect_us':
        count += h.get_total_count()
print(count)
";

#[test]
fn journal_gets_what_costs_mail_and_no_forged_field() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let socket = lab.file("journal");
    let journal = Journal::listen(&socket).unwrap();
    // All servers are in one network: one destination, about which three messages a minute are sent.
    let socket = socket.to_str().unwrap();
    let arguments =
        ["--journal", "--journal-socket", socket, "--group-by", "prefix", "--format", "json"];
    let run = trace(&lab, &arguments);
    assert!(!run.stderr.contains("did not take"), "{}", run.stderr);
    let messages = journal.messages().unwrap();
    let text = |message: &tests::journal::Message, field: &str| {
        String::from_utf8(message.get(field).cloned().unwrap_or_default()).unwrap()
    };
    for message in &messages {
        assert_eq!(text(message, "SYSLOG_IDENTIFIER"), "smtptrace");
        assert_eq!(text(message, "MESSAGE_ID").len(), 32);
        assert!(!text(message, "SMTPTRACE_CODE").is_empty() && !message.contains_key("P"));
        for (name, value) in message {
            assert_harmless(name, value.clone());
        }
    }
    let of = |code: &str| messages.iter().filter(|it| text(it, "SMTPTRACE_CODE") == code).count();
    let ended = |cause: &str| {
        let records = run.recording.connections.iter();
        records.filter(|it| it.text("end_cause").unwrap() == Some(cause)).count()
    };
    let died = ended("rst_received");
    assert!(died >= SESSIONS - 2, "{:?}", run.recording.connections);
    assert_eq!(of("connection_died"), 3 + 1, "three, and one that counts the rest: {messages:?}");
    let rest = messages.iter().find(|it| it.contains_key("SMTPTRACE_SUPPRESSED")).unwrap();
    assert_eq!(text(rest, "SMTPTRACE_SUPPRESSED"), (died - 3).to_string());
    let warning =
        messages.iter().find(|it| text(it, "SMTPTRACE_CODE") == "connection_died").unwrap();
    assert_eq!(text(warning, "PRIORITY"), "4");
    assert!(text(warning, "SMTPTRACE_COMM").starts_with("\\x1b[2J"), "{warning:?}");

    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let verdicts = report["verdicts"].as_array().unwrap();
    assert!(!verdicts.is_empty(), "{report}");
    let told = messages.iter().filter(|it| it.contains_key("SMTPTRACE_SEVERITY"));
    let told: Vec<_> =
        told.map(|it| (text(it, "SMTPTRACE_CODE"), text(it, "SMTPTRACE_DESTINATION"))).collect();
    let expected: Vec<_> = verdicts
        .iter()
        .map(|it| ["code", "destination"].map(|field| it[field].as_str().unwrap().to_owned()))
        .map(|[code, destination]| (code, destination))
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn without_a_journal_nothing_is_traced() {
    needs!(Namespaces, Tracer);
    let arguments = ["--journal", "--journal-socket", "/nonexistent/journal", "--duration", "1s"];
    let output = tracer::command(arguments).unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/nonexistent/journal") && said.contains("journald"), "{said}");
}

#[test]
fn stderr_has_priorities_if_it_is_the_journal() {
    needs!(Namespaces, Tracer);
    let run = python::run(STDERR, &[tracer::binary().to_str().unwrap()]).unwrap();
    let lines: Vec<&str> = run.lines().collect();
    let [journal, other] = lines[..] else { panic!("{run}") };
    assert!(journal.starts_with("<3>cannot open"), "{journal}");
    assert!(other.starts_with("smtptrace: cannot open"), "{other}");
}

/// Runs a command that fails, with a socket as stderr: once as the journal, once as something else.
const STDERR: &str = "
import os, socket, subprocess, sys
for shift in (0, 1):
    ours, theirs = socket.socketpair()
    stat = os.fstat(theirs.fileno())
    stream = f'{stat.st_dev}:{stat.st_ino + shift}'
    subprocess.run([sys.argv[1], 'report', '/nonexistent'], stderr=theirs,
                   env={**os.environ, 'JOURNAL_STREAM': stream})
    theirs.close()
    print(ours.recv(4096).decode().strip())
";
