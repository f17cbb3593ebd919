//! Recordings in pieces, compressed, and read back from files and from stdin.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tests::{
    lab::Lab,
    needs, report,
    server::{Script, Server},
    session::Session,
    tracer, wait,
};

const SESSIONS: usize = 12;

/// Ends the process also when the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Traces sessions into pieces; the same lines, in one stream, go to `stream`.
fn trace(lab: &Lab, stream: &Path, arguments: &[&str]) {
    let script = Script::mail_server("220 server.test ESMTP");
    let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
    let mut command = Command::new(tracer::binary());
    command.args(["--dport", &lab.port().to_string(), "--format", "jsonl"]).args(arguments);
    command.stdin(Stdio::null()).stdout(File::create(stream).unwrap()).stderr(Stdio::null());
    let mut running = Running(command.spawn().unwrap());
    let lines = || fs::read_to_string(stream).unwrap().lines().count();
    let patience = Duration::from_secs(30);
    wait::until("tracing to begin", patience, || Ok((lines() > 0).then_some(()))).unwrap();
    for n in 0..SESSIONS {
        let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
        session.begin().unwrap();
        session.quit().unwrap();
        // Each gets to the recording by itself.
        let written = || Ok((lines() > n + 1).then_some(()));
        wait::until("the session to be recorded", patience, written).unwrap();
    }
    kill(Pid::from_raw(running.0.id().cast_signed()), Signal::SIGINT).unwrap();
    assert!(running.0.wait().unwrap().success());
}

fn pieces(lab: &Lab) -> Vec<PathBuf> {
    let directory = lab.file("");
    let all = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut pieces: Vec<PathBuf> =
        all.filter(|path| path.to_string_lossy().contains("piece-")).collect();
    pieces.sort();
    pieces
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The lines of a recording, read by smtptrace.
fn unpacked(piece: &Path) -> Vec<Value> {
    let piece = piece.to_str().unwrap();
    lines(&succeeded(&tracer::command(["report", "--format", "jsonl", piece]).unwrap()))
}

fn ids<'a>(lines: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    let connections = lines.into_iter().filter(|line| line["kind"] == "connection");
    connections.map(|line| line["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn pieces_hold_every_connection_once() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let (stream, template) = (lab.file("stream.jsonl"), lab.file("piece.jsonl.zst"));
    let record = ["--record", template.to_str().unwrap(), "--rotate-size", "3k"];
    trace(&lab, &stream, &record);
    let truth = lines(&fs::read_to_string(&stream).unwrap());
    assert_eq!(ids(&truth).len(), SESSIONS);

    let pieces = pieces(&lab);
    assert!(pieces.len() > 2, "{pieces:?}");
    let mut found = Vec::new();
    for piece in &pieces {
        assert_eq!(fs::read(piece).unwrap()[..4], [0x28, 0xb5, 0x2f, 0xfd], "not compressed");
        let lines = unpacked(piece);
        let trailer = lines.last().unwrap();
        assert_eq!((&lines[0]["kind"], &trailer["kind"]), (&"header".into(), &"trailer".into()));
        let connections = lines.len() - 2;
        assert_eq!(trailer["connections"].as_u64(), Some(connections as u64), "{trailer}");
        assert_eq!(trailer["trust"]["connections_lost"], 0, "{trailer}");
        found.extend(lines);
    }
    let connections = found.iter().filter(|line| line["kind"] == "connection");
    assert_eq!(connections.count(), SESSIONS, "one is there twice");
    assert_eq!(ids(&found), ids(&truth));

    // All pieces give the report of the stream; so does stdin.
    let mut arguments = vec!["report", "--format", "json"];
    arguments.extend(pieces.iter().map(|piece| piece.to_str().unwrap()));
    let whole = report::parse(&succeeded(&tracer::command(arguments).unwrap())).unwrap();
    assert_eq!(whole["totals"]["connections"].as_u64(), Some(SESSIONS as u64));
    assert_eq!(whole["trust"]["unfinished_recordings"], 0);
    let mut from_stdin = Command::new(tracer::binary());
    from_stdin.args(["report", "--format", "json", "-"]).stdin(File::open(&stream).unwrap());
    let piped = report::parse(&succeeded(&from_stdin.output().unwrap())).unwrap();
    assert_eq!(piped["totals"], whole["totals"]);
}

#[test]
fn only_the_newest_pieces_stay() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let (stream, template) = (lab.file("stream.jsonl"), lab.file("piece.jsonl"));
    let template = template.to_str().unwrap();
    let keep = ["--record", template, "--rotate-size", "2k", "--rotate-keep", "2"];
    trace(&lab, &stream, &keep);
    let truth = lines(&fs::read_to_string(&stream).unwrap());
    let pieces = pieces(&lab);
    assert_eq!(pieces.len(), 2, "{pieces:?}");
    let kept: Vec<Value> = pieces.iter().flat_map(|piece| unpacked(piece)).collect();
    let newest = truth.iter().rev().filter(|line| line["kind"] == "connection");
    let newest = ids(newest.take(ids(&kept).len()));
    assert!(!newest.is_empty());
    assert_eq!(ids(&kept), newest);
}
