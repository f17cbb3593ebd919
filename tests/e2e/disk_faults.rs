//! The disk of a recording fails: everything else goes on, and so does the recording when the disk takes it again.

use std::{
    fs::{self, File},
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
};
use serde_json::Value;
use tests::{
    lab::Lab,
    needs, report,
    scrape::{self, PROMETHEUS},
    server::Server,
    session::Session,
    tracer::{self, Tracer},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A small file system in memory; unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn new(lab: &Lab, size: &str) -> Self {
        let (path, none) = (lab.file("disk"), None::<&str>);
        fs::create_dir(&path).unwrap();
        let size = format!("size={size}");
        mount(none, &path, Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).unwrap();
        Self(path)
    }

    /// Takes all room but about `left` bytes. Removing the file that it returns gives it back.
    fn fill(&self, left: usize) -> PathBuf {
        let path = self.0.join("ballast");
        let mut file = File::create(&path).unwrap();
        let mut written = 0;
        while let Ok(more) = file.write(&[1; 4_096]) {
            written += more;
        }
        file.set_len((written - left) as u64).unwrap();
        path
    }

    /// The recordings on it.
    fn recordings(&self) -> Vec<PathBuf> {
        let all = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| path.to_string_lossy().contains(".jsonl")).collect()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn send(lab: &Lab) {
    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    session.begin().unwrap();
    session.quit().unwrap();
}

/// The value of a metric without labels.
fn metric(address: SocketAddr, name: &str) -> Option<u64> {
    let answer = scrape::get(address, PROMETHEUS).unwrap();
    let line = answer.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok())
}

fn reported(files: &[PathBuf]) -> Value {
    let files = files.iter().map(|path| path.to_str().unwrap());
    let output = tracer::command(["report", "--format", "json"].into_iter().chain(files)).unwrap();
    report::parse(&String::from_utf8(output.stdout).unwrap()).unwrap()
}

fn start(lab: &Lab, recording: &Path, more: &[&str]) -> (Tracer, SocketAddr) {
    let address = scrape::free_address().unwrap();
    let (port, listen) = (lab.port().to_string(), address.to_string());
    let all = [&["--dport", &port, "--listen", &listen], more].concat();
    (Tracer::start_raw(recording, &all).unwrap(), address)
}

/// Sends until the recording takes no more. Returns how many sessions that were.
fn send_until_full(lab: &Lab, address: SocketAddr) -> u64 {
    let mut sent = 0;
    wait::until("the recording to fail", PATIENCE, || {
        send(lab);
        sent += 1;
        Ok((metric(address, "smtptrace_recording_failed") == Some(1)).then_some(()))
    })
    .unwrap();
    sent
}

#[test]
fn a_full_disk_suspends_the_recording_and_nothing_is_lost() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let disk = Disk::new(&lab, "512k");
    let ballast = disk.fill(24 << 10);
    let (tracer, address) = start(&lab, &disk.0.join("r.jsonl"), &["--format", "json"]);
    let mut sent = send_until_full(&lab, address);
    // More than one new try, and what waits stays.
    for _ in 0..20 {
        send(&lab);
        sent += 1;
    }
    wait::until("everything in the metrics", PATIENCE, || {
        let text = scrape::get(address, PROMETHEUS).unwrap().body;
        let all = format!("smtptrace_connections_total{{destination=\"{}\"", lab.server_v4().ip());
        let counts = text.lines().filter(|line| line.starts_with(&all));
        let ended: u64 =
            counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
        Ok((ended == sent).then_some(()))
    })
    .unwrap();
    assert_eq!(disk.recordings().len(), 1, "stubs: {:?}", disk.recordings());
    fs::remove_file(ballast).unwrap();
    wait::until("the recording to go on", PATIENCE, || {
        Ok((metric(address, "smtptrace_recording_failed") == Some(0)).then_some(()))
    })
    .unwrap();
    send(&lab);
    sent += 1;
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop().unwrap();
    assert_eq!(run.status.code(), Some(0), "{}", run.stderr);
    assert_eq!(run.stderr.matches("No space left on device").count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains("the recording goes on in"), "{}", run.stderr);
    assert_eq!(run.recording.remainder, "", "a part of a line was left");
    let live = report::parse(&run.stdout).unwrap();
    assert_eq!(live["totals"]["connections"].as_u64(), Some(sent));
    // The first has no trailer, the second says that nothing is missing.
    let files = disk.recordings();
    assert_eq!(files.len(), 2, "{files:?}");
    let whole = reported(&files);
    assert_eq!(whole["totals"]["connections"].as_u64(), Some(sent), "{}", whole["trust"]);
    let trust = &whole["trust"];
    let counts = ["unfinished_recordings", "unreadable_lines", "not_recorded"];
    assert_eq!(counts.map(|name| trust[name].as_u64()), [Some(1), Some(0), Some(0)], "{trust}");
}

#[test]
fn what_never_found_room_is_counted_and_the_report_is_made() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let disk = Disk::new(&lab, "512k");
    disk.fill(24 << 10);
    let (tracer, address) = start(&lab, &disk.0.join("r.jsonl"), &["--format", "json"]);
    let sent = send_until_full(&lab, address);
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop_with(Signal::SIGTERM).unwrap();
    assert_eq!(run.status.code(), Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("No space left on device"), "{}", run.stderr);
    let live = report::parse(&run.stdout).unwrap();
    assert_eq!(live["totals"]["connections"].as_u64(), Some(sent));
    assert_eq!(live["trust"]["connections_lost"].as_u64(), Some(0), "{}", live["trust"]);
    let not_recorded = live["trust"]["not_recorded"].as_u64().unwrap();
    let recorded = run.recording.connections.len() as u64;
    assert_eq!(recorded + not_recorded, sent, "{}", live["trust"]);
    assert!(not_recorded > 0 && run.recording.remainder.is_empty());
    assert_eq!(disk.recordings().len(), 1, "stubs: {:?}", disk.recordings());
}
