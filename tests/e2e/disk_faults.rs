//! The disk of a recording fails: everything else goes on, and so does the recording when the disk takes it again.

use std::{
    fs::{self, File},
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tests::{
    lab::Lab,
    needs,
    recording::Recording,
    report,
    scrape::{self, PROMETHEUS},
    server::Server,
    session::Session,
    tracer, wait,
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
        recordings(&self.0)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn recordings(directory: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.to_string_lossy().contains(".jsonl")).collect()
}

fn send(lab: &Lab) {
    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    session.begin().unwrap();
    session.quit().unwrap();
}

fn reported(files: &[PathBuf]) -> Value {
    let files = files.iter().map(|path| path.to_str().unwrap());
    let output = tracer::command(["report", "--format", "json"].into_iter().chain(files)).unwrap();
    report::parse(&String::from_utf8(output.stdout).unwrap()).unwrap()
}

/// smtptrace with metrics and a report in JSON. Ended also when the test fails.
struct Running {
    process: Child,
    address: SocketAddr,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// How it ended.
struct End {
    status: ExitStatus,
    report: Value,
    stderr: String,
}

impl Running {
    /// Starts it, and returns when it traces.
    fn start(lab: &Lab, recording: &Path) -> Self {
        Self::start_command(Command::new(tracer::binary()), lab, recording)
    }

    /// The same by another command, which runs it with the arguments that follow.
    fn start_command(mut command: Command, lab: &Lab, recording: &Path) -> Self {
        let (stdout, stderr) = (lab.file("report.json"), lab.file("stderr.txt"));
        let address = scrape::free_address().unwrap();
        command.args(["--dport", &lab.port().to_string(), "--listen", &address.to_string()]);
        command.args(["--format", "json", "--record"]).arg(recording).stdin(Stdio::null());
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        let running = Self { process: command.spawn().unwrap(), address, stdout, stderr };
        wait::until("tracing to begin", PATIENCE, || {
            Ok(scrape::get(address, PROMETHEUS).is_ok().then_some(()))
        })
        .unwrap();
        running
    }

    /// The value of a metric without labels.
    fn metric(&self, name: &str) -> Option<u64> {
        let answer = scrape::get(self.address, PROMETHEUS).unwrap();
        let line = answer.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
    }

    /// Connections to all destinations that ended.
    fn ended(&self) -> u64 {
        let text = scrape::get(self.address, PROMETHEUS).unwrap().body;
        let counts = text.lines().filter(|line| line.starts_with("smtptrace_connections_total{"));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Sends until the recording takes no more. Returns how many sessions that were.
    fn send_until_full(&self, lab: &Lab) -> u64 {
        let mut sent = 0;
        wait::until("the recording to fail", PATIENCE, || {
            send(lab);
            sent += 1;
            Ok((self.metric("smtptrace_recording_failed") == Some(1)).then_some(()))
        })
        .unwrap();
        sent
    }

    fn wait_until_it_goes_on(&self) {
        wait::until("the recording to go on", PATIENCE, || {
            Ok((self.metric("smtptrace_recording_failed") == Some(0)).then_some(()))
        })
        .unwrap();
    }

    fn stop(mut self, signal: Signal) -> End {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).unwrap();
        let status = self.process.wait().unwrap();
        let text = |path: &Path| fs::read_to_string(path).unwrap();
        let (report, stderr) = (text(&self.stdout), text(&self.stderr));
        End { status, report: report::parse(&report).unwrap(), stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already if the test went well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Fills the disk while the recording `name` is written, and makes room again. `owner`: of the directory; where it is
/// not root, no file may be made there once privileges are given up.
fn check_full_disk(name: &str, left: usize, owner: u32) {
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let disk = Disk::new(&lab, "512k");
    chown(&disk.0, Some(owner), None).unwrap();
    fs::set_permissions(&disk.0, fs::Permissions::from_mode(0o755)).unwrap();
    let ballast = disk.fill(left);
    let running = Running::start(&lab, &disk.0.join(name));
    let mut sent = running.send_until_full(&lab);
    // More than one new try, and what waits stays.
    for _ in 0..20 {
        send(&lab);
        sent += 1;
    }
    let all = || Ok((running.ended() == sent).then_some(()));
    wait::until("everything in the metrics", PATIENCE, all).unwrap();
    assert_eq!(disk.recordings().len(), 1, "stubs: {:?}", disk.recordings());
    fs::remove_file(ballast).unwrap();
    running.wait_until_it_goes_on();
    send(&lab);
    sent += 1;
    lab.wait_for_ends(PATIENCE).unwrap();
    let end = running.stop(Signal::SIGINT);
    assert_eq!(end.status.code(), Some(0), "{}", end.stderr);
    let told = end.stderr.matches("No space left on device").count();
    assert!(told == 1 || owner != 0 && told < 4, "{}", end.stderr);
    assert!(end.stderr.contains("the recording goes on in"), "{}", end.stderr);
    assert_eq!(end.report["totals"]["connections"].as_u64(), Some(sent));
    let files = disk.recordings();
    let whole = reported(&files);
    let trust = &whole["trust"];
    assert_eq!(whole["totals"]["connections"].as_u64(), Some(sent), "{trust}");
    let counts = ["unreadable_lines", "not_recorded"];
    assert_eq!(counts.map(|name| trust[name].as_u64()), [Some(0); 2], "{trust}");
    // The first of two has no trailer.
    assert_eq!(trust["unfinished_recordings"].as_u64(), Some(files.len() as u64 - 1), "{trust}");
    assert!(owner != 0 || files.len() == 2, "{files:?}");
}

#[test]
fn a_full_disk_suspends_the_recording_and_nothing_is_lost() {
    needs!(Namespaces, Tracer);
    check_full_disk("r.jsonl", 24 << 10, 0);
}

#[test]
fn a_full_disk_suspends_a_compressed_recording_too() {
    needs!(Namespaces, Tracer);
    check_full_disk("r.jsonl.zst", 4 << 10, 0);
}

#[test]
fn a_recording_in_the_directory_of_somebody_else_goes_on_too() {
    needs!(Namespaces, Tracer);
    for (name, left) in [("r.jsonl", 24 << 10), ("r.jsonl.zst", 4 << 10)] {
        check_full_disk(name, left, 65_534);
    }
}

/// `ulimit -f`: the signal that comes with it ends nothing, and the next piece has room.
#[test]
fn a_limit_on_the_size_of_files_is_no_end() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    fs::create_dir(lab.file("pieces")).unwrap();
    let recording = lab.file("pieces/r.jsonl");
    let mut limited = Command::new("sh");
    // Blocks of 512 or 1024 bytes.
    limited.args(["-c", "ulimit -f 256; exec \"$0\" \"$@\""]).arg(tracer::binary());
    let running = Running::start_command(limited, &lab, &recording);
    let sent = running.send_until_full(&lab);
    running.wait_until_it_goes_on();
    lab.wait_for_ends(PATIENCE).unwrap();
    let end = running.stop(Signal::SIGINT);
    assert!(end.status.success() && end.stderr.contains("File too large"), "{}", end.stderr);
    assert_eq!(Recording::read(&recording).unwrap().remainder, "", "a part of a line was left");
    let whole = reported(&recordings(&lab.file("pieces")));
    assert_eq!(whole["totals"]["connections"].as_u64(), Some(sent), "{}", whole["trust"]);
}

#[test]
fn what_never_found_room_is_counted_and_the_report_is_made() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let disk = Disk::new(&lab, "512k");
    disk.fill(24 << 10);
    let recording = disk.0.join("r.jsonl");
    let running = Running::start(&lab, &recording);
    let sent = running.send_until_full(&lab);
    lab.wait_for_ends(PATIENCE).unwrap();
    let end = running.stop(Signal::SIGTERM);
    assert_eq!(end.status.code(), Some(2), "{}", end.stderr);
    assert!(end.stderr.contains("No space left on device"), "{}", end.stderr);
    assert_eq!(end.report["totals"]["connections"].as_u64(), Some(sent));
    let trust = &end.report["trust"];
    assert_eq!(trust["connections_lost"].as_u64(), Some(0), "{trust}");
    let not_recorded = trust["not_recorded"].as_u64().unwrap();
    let recorded = Recording::read(&recording).unwrap();
    assert_eq!(recorded.connections.len() as u64 + not_recorded, sent, "{trust}");
    assert!(not_recorded > 0 && recorded.remainder.is_empty());
    assert_eq!(disk.recordings().len(), 1, "stubs: {:?}", disk.recordings());
}
