//! `smtptrace demo`: the verdicts come, the numbers are those of its servers, and nothing stays behind.

use std::{
    fs,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::Value;
use tests::{lab::Lab, namespace::run, needs, recording::Recording, report, tracer, wait};

/// It says half a minute; a machine with other work takes longer.
const PATIENCE: Duration = Duration::from_secs(120);
const HOSTS: [&str; 6] = [
    "mx.reuse.example",
    "mx.single.example",
    "mx.silence.example",
    "mx.reset.example",
    "mx.timeout.example",
    "mx.limit.example",
];

/// A demo under way, the leader of a process group, as a shell would have started it.
struct Demo {
    process: Child,
    directory: PathBuf,
}

struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Demo {
    fn start(lab: &Lab, arguments: &[&str]) -> Self {
        let directory = lab.directory().to_owned();
        let file = |name: &str| fs::File::create(directory.join(name)).unwrap();
        let mut command = Command::new(tracer::binary());
        command.arg("demo").args(arguments).stdin(Stdio::null()).process_group(0);
        command.stdout(file("demo.stdout")).stderr(file("demo.stderr"));
        Self { process: command.spawn().unwrap(), directory }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.join(name)).unwrap()
    }

    /// The process in which mail is sent.
    fn scene(&self) -> Option<Pid> {
        let pid = self.process.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok().map(Pid::from_raw)
    }

    /// Waits until mail is sent: the hooks are attached, and so is the scene's own namespace.
    fn wait_for_the_start(&mut self) -> Pid {
        wait::until("the demo to trace", PATIENCE, || {
            assert_eq!(self.process.try_wait()?, None, "{}", self.read("demo.stderr"));
            Ok(self.read("demo.stderr").contains("tracing TCP to port").then_some(()))
        })
        .unwrap();
        self.scene().unwrap()
    }

    /// As Ctrl-C does.
    fn interrupt(&self) {
        killpg(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGINT).unwrap();
    }

    fn wait(mut self) -> Ended {
        let status =
            wait::until("the demo to end", PATIENCE, || Ok(self.process.try_wait()?)).unwrap();
        Ended { status, stdout: self.read("demo.stdout"), stderr: self.read("demo.stderr") }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It has ended already after `wait`.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn namespace_of(pid: Pid) -> u64 {
    fs::metadata(format!("/proc/{pid}/ns/net")).unwrap().ino()
}

/// What a demo could leave on the host: links and routes.
fn host() -> [Vec<u8>; 2] {
    [&["-o", "link"][..], &["-4", "route", "show", "table", "all"]]
        .map(|arguments| run(Command::new("ip").args(arguments)).unwrap().stdout)
}

/// No process is left in the namespace, nor is the scene.
fn check_nothing_left(scene: Pid, namespace: u64, before: &[Vec<u8>; 2]) {
    wait::until("the scene to vanish", Duration::from_secs(10), || {
        let processes = fs::read_dir("/proc")?.flatten();
        let inside = processes
            .filter_map(|entry| fs::metadata(entry.path().join("ns/net")).ok())
            .any(|it| it.ino() == namespace);
        // A dead process that nobody has waited for yet has no namespace any more.
        let lives = fs::metadata(format!("/proc/{scene}/ns/net")).is_ok();
        Ok((!inside && !lives).then_some(()))
    })
    .unwrap();
    assert_eq!(&host(), before);
}

fn verdicts<'a>(report: &'a Value, host: &str) -> Vec<&'a Value> {
    let all = report["verdicts"].as_array().unwrap();
    all.iter().filter(|verdict| verdict["destination"] == host).collect()
}

fn verdict<'a>(report: &'a Value, host: &str, code: &str) -> &'a Value {
    let found = verdicts(report, host).into_iter().find(|verdict| verdict["code"] == code);
    let found = found.unwrap_or_else(|| panic!("no {code} on {host}: {}", report["verdicts"]));
    assert_eq!(found["confidence"], "high", "{found}");
    found
}

/// The verdicts, from outside: not by what the demo says of itself.
fn check_report(report: &Value) {
    for host in HOSTS {
        let row = report::destination(report, host).unwrap();
        assert!(row["transactions"].as_u64().unwrap() >= 10, "{row}");
        assert_eq!(row["connect_failures"], 0, "{row}");
    }
    assert_eq!(report["destinations"].as_array().unwrap().len(), HOSTS.len());
    let died = |host: &str| report::destination(report, host).unwrap()["died"].as_u64().unwrap();
    verdict(report, "mx.reuse.example", "caching_works");
    verdict(report, "mx.single.example", "caching_ineffective");
    for (host, manner) in [("mx.silence.example", "silent"), ("mx.reset.example", "reset_on_reuse")]
    {
        let killed = verdict(report, host, "idle_killed_by_middlebox");
        let evidence = &killed["evidence"];
        assert_eq!(evidence["manner"], manner, "{killed}");
        assert!(evidence["survived_s"].as_f64().unwrap() < 3.1, "{killed}");
        assert!(evidence["died_s"].as_f64().unwrap() > 2.9, "{killed}");
        assert_eq!(evidence["died"].as_u64().unwrap(), died(host), "{killed}");
        verdict(report, host, "dead_on_reuse");
    }
    verdict(report, "mx.timeout.example", "idle_closed_by_server");
    let limited = verdict(report, "mx.limit.example", "concurrency_limited");
    assert_eq!(limited["evidence"]["limit"], 3, "{limited}");
    for innocent in ["mx.reuse.example", "mx.single.example", "mx.timeout.example"] {
        assert_eq!(died(innocent), 0, "{innocent}");
        for verdict in verdicts(report, innocent) {
            assert_ne!(verdict["code"], "idle_killed_by_middlebox", "{verdict}");
            assert_ne!(verdict["code"], "concurrency_limited", "{verdict}");
        }
    }
}

#[test]
fn shows_the_right_verdicts_and_leaves_nothing() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let before = host();
    let start = Instant::now();
    let file = lab.file("demo.jsonl");
    let mut demo = Demo::start(&lab, &["--format", "json", "--record", file.to_str().unwrap()]);
    let scene = demo.wait_for_the_start();
    let namespace = namespace_of(scene);
    let ended = demo.wait();
    let Ended { status, stdout, stderr } = &ended;
    println!("the demo took {:.1} s\n{stderr}", start.elapsed().as_secs_f64());
    assert_eq!(status.code(), Some(0), "{stderr}");
    check_nothing_left(scene, namespace, &before);
    let report = report::parse(stdout).unwrap();
    check_report(&report);
    assert!(!stderr.contains("WRONG"), "{stderr}");
    // Each server's own count, against the report.
    assert_eq!(stderr.matches("as the server counted").count(), HOSTS.len(), "{stderr}");
    for (host, messages) in [("mx.reuse.example", 122), ("mx.single.example", 16)] {
        let row = report::destination(&report, host).unwrap();
        assert_eq!(row["transactions"], messages, "{row}");
    }
    // It never sees the traffic of the host.
    let recording = Recording::read(&file).unwrap();
    recording.ensure_complete().unwrap();
    for connection in &recording.connections {
        assert_eq!(connection.known("netns").unwrap(), namespace, "{}", connection.json());
    }
    again_and_interrupted(&lab, &before);
}

/// The second run works at once, and Ctrl-C in the middle ends it with the report.
fn again_and_interrupted(lab: &Lab, before: &[Vec<u8>; 2]) {
    let mut demo = Demo::start(lab, &["--format", "json"]);
    let scene = demo.wait_for_the_start();
    let namespace = namespace_of(scene);
    std::thread::sleep(Duration::from_secs(4));
    demo.interrupt();
    let ended = demo.wait();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("stopped early"), "{}", ended.stderr);
    let report = report::parse(&ended.stdout).unwrap();
    assert!(!report::destinations(&report).unwrap().is_empty(), "{report}");
    check_nothing_left(scene, namespace, before);
}

#[test]
fn a_killed_demo_leaves_nothing() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let before = host();
    let mut demo = Demo::start(&lab, &[]);
    let scene = demo.wait_for_the_start();
    let namespace = namespace_of(scene);
    demo.process.kill().unwrap();
    demo.process.wait().unwrap();
    check_nothing_left(scene, namespace, &before);
}

#[test]
fn without_privilege_or_device_it_says_so() {
    needs!(Namespaces, Tracer, Setpriv);
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let no_device = "mount -t tmpfs none /dev/net && exec \"$@\"";
    let no_device = ["unshare", "--mount", "sh", "-c", no_device, "sh"];
    for (before, words) in [(&nobody[..], "not root"), (&no_device[..], "/dev/net/tun")] {
        let mut command = Command::new(before[0]);
        command.args(&before[1..]).arg(tracer::binary()).arg("demo").stdin(Stdio::null());
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(output.stdout.is_empty() && stderr.contains(words), "{words:?}: {stderr}");
    }
}
