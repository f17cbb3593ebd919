//! What logrotate does to a recording: moves it and sends SIGHUP, or copies and truncates it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
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
    server::Server,
    session::Session,
    terminal::Terminal,
    tracer::{self, Tracer},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(30);
const SESSIONS: usize = 3;

/// Ends the process also when the test fails.
struct Running(Child);

impl Running {
    /// smtptrace, when it traces.
    fn start(lab: &Lab, recording: &Path) -> Self {
        let mut command = Command::new(tracer::binary());
        command.args(["--dport", &lab.port().to_string(), "--record"]).arg(recording);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let running = Self(command.spawn().unwrap());
        wait_for(recording, "header");
        running
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
    }

    fn stop(mut self) {
        self.signal(Signal::SIGINT);
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process of somebody else's. It is killed when dropped, unless it has ended.
struct Orphan(Pid);

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

fn lines(recording: &Path) -> Vec<Value> {
    let arguments = ["report", "--format", "jsonl", recording.to_str().unwrap()];
    let output = tracer::command(arguments).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn count(recording: &Path, kind: &str) -> usize {
    lines(recording).iter().filter(|line| line["kind"] == kind).count()
}

fn wait_for(recording: &Path, kind: &str) {
    let what = format!("a {kind} in {}", recording.display());
    wait::until(&what, PATIENCE, || Ok((count(recording, kind) > 0).then_some(()))).unwrap();
}

fn send(lab: &Lab, recording: &Path) {
    for _ in 0..SESSIONS {
        let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
        session.begin().unwrap();
        session.quit().unwrap();
    }
    wait::until("the sessions in the recording", PATIENCE, || {
        Ok((count(recording, "connection") == SESSIONS).then_some(()))
    })
    .unwrap();
}

fn reported(files: &[&Path]) -> (Value, String) {
    let files = files.iter().map(|path| path.to_str().unwrap());
    let output = tracer::command(["report", "--format", "json"].into_iter().chain(files)).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (report::parse(&String::from_utf8(output.stdout).unwrap()).unwrap(), stderr)
}

fn names(lab: &Lab) -> [[PathBuf; 2]; 2] {
    ["r.jsonl", "r.jsonl.zst"].map(|name| [lab.file(name), lab.file(&format!("old-{name}"))])
}

#[test]
fn sighup_ends_a_moved_recording_and_begins_the_next() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    for [recording, old] in names(&lab) {
        let running = Running::start(&lab, &recording);
        // Nobody has moved it: nothing becomes of that.
        running.signal(Signal::SIGHUP);
        send(&lab, &recording);
        fs::rename(&recording, &old).unwrap();
        running.signal(Signal::SIGHUP);
        wait_for(&recording, "header");
        send(&lab, &recording);
        running.stop();
        for file in [&recording, &old] {
            let lines = lines(file);
            assert_eq!(lines.first().unwrap()["kind"], "header");
            let trailer = lines.last().unwrap();
            assert_eq!(trailer["kind"], "trailer", "{}", file.display());
            assert_eq!(trailer["connections"].as_u64(), Some(SESSIONS as u64));
            assert_eq!(count(file, "header"), 1);
        }
        let (whole, _) = reported(&[&recording, &old]);
        assert_eq!(whole["totals"]["connections"].as_u64(), Some(2 * SESSIONS as u64));
        assert_eq!(whole["trust"]["connections_lost"], 0, "{}", whole["trust"]);
    }
}

#[test]
fn a_truncated_recording_begins_again_with_a_header() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    for [recording, old] in names(&lab) {
        let running = Running::start(&lab, &recording);
        send(&lab, &recording);
        fs::copy(&recording, &old).unwrap();
        File::options().write(true).open(&recording).unwrap().set_len(0).unwrap();
        send(&lab, &recording);
        running.stop();
        assert_ne!(fs::read(&recording).unwrap()[0], 0, "a hole");
        assert_eq!((count(&recording, "header"), count(&recording, "trailer")), (1, 1));
        let (whole, stderr) = reported(&[&recording, &old]);
        assert_eq!(whole["totals"]["connections"].as_u64(), Some(2 * SESSIONS as u64));
        assert_eq!(stderr, "");
    }
}

/// A recording of an older version after `copytruncate`, and the rest of one.
#[test]
fn a_hole_and_a_missing_header_are_said_and_the_rest_is_read() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    send(&lab, &lab.file("recording.jsonl"));
    let run = tracer.stop_cleanly().unwrap();
    let text = fs::read_to_string(run.file).unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    let broken = lab.file("broken.jsonl");
    fs::write(&broken, "\0".repeat(6_280) + rest).unwrap();
    let (report, stderr) = reported(&[&broken]);
    assert_eq!(report["totals"]["connections"].as_u64(), Some(SESSIONS as u64));
    assert!(stderr.contains("6280 bytes of zero") && stderr.contains("has no header"), "{stderr}");
    assert_eq!(report["trust"]["unreadable_lines"], 0, "{}", report["trust"]);
}

#[test]
fn sighup_ends_nothing_without_a_recording() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let stream = lab.file("stream.jsonl");
    let mut command = Command::new(tracer::binary());
    command.args(["--dport", &lab.port().to_string(), "--format", "jsonl"]);
    command.stdin(Stdio::null()).stdout(File::create(&stream).unwrap()).stderr(Stdio::null());
    let running = Running(command.spawn().unwrap());
    wait_for(&stream, "header");
    running.signal(Signal::SIGHUP);
    send(&lab, &stream);
    running.stop();
    assert_eq!(count(&stream, "trailer"), 1);
}

#[test]
fn the_hangup_of_its_terminal_ends_a_trace_unless_nohup_says_otherwise() {
    needs!(Namespaces, Tracer, Tmux);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let program = tracer::binary().display().to_string();
    for prefix in ["", "nohup "] {
        let recording = lab.file(&format!("{}r.jsonl", prefix.trim()));
        let terminal = Terminal::open(80, 24).unwrap();
        let arguments = format!("--dport {} --no-tui --record {}", lab.port(), recording.display());
        terminal.type_line(&format!("{prefix}{program} {arguments} > /dev/null 2>&1")).unwrap();
        wait_for(&recording, "header");
        let orphan = Orphan(Pid::from_raw(terminal.child().unwrap().cast_signed()));
        drop(terminal);
        if !prefix.is_empty() {
            send(&lab, &recording);
            kill(orphan.0, Signal::SIGINT).unwrap();
        }
        wait_for(&recording, "trailer");
    }
}
