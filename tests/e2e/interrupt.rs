//! Signals and deadlines: how tracing ends, and what is left when it is killed.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tests::{
    lab::Lab, namespace::run, needs, server::Server, session::Session, skip, tracer::Tracer, wait,
};

const PATIENCE: Duration = Duration::from_secs(5);

fn open(lab: &Lab) -> Session {
    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    session.begin().unwrap();
    session
}

/// One connection ends, one is open when `signal` comes: both must be recorded.
fn check_signal(signal: Signal) {
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    open(&lab).quit().unwrap();
    lab.wait_for_ends(PATIENCE).unwrap();
    let begin = Instant::now();
    let still_open = open(&lab);
    std::thread::sleep(Duration::from_millis(300));
    let run = tracer.stop_with(signal).unwrap();
    let longest = u64::try_from(begin.elapsed().as_micros()).unwrap();
    assert_eq!(run.status.code(), Some(0), "{}", run.stderr);
    run.recording.ensure_complete().unwrap();
    let [ended, open] = run.recording.connections.as_slice() else {
        panic!("{:?}", run.recording.connections)
    };
    assert_eq!(ended.text("end_cause").unwrap(), Some("peer_fin"), "{}", ended.json());
    assert_eq!(open.text("end_cause").unwrap(), Some("open"), "{}", open.json());
    let port = u64::from(still_open.local().port());
    assert_eq!(open.known("sport").unwrap(), port, "{}", open.json());
    let lifetime = open.known("lifetime_us").unwrap();
    assert!((300_000..=longest).contains(&lifetime), "{}", open.json());
    assert_eq!(open.known("turns").unwrap(), 1, "{}", open.json());
}

#[test]
fn sigint() {
    needs!(Namespaces, Tracer);
    check_signal(Signal::SIGINT);
}

#[test]
fn sigterm() {
    needs!(Namespaces, Tracer);
    check_signal(Signal::SIGTERM);
}

#[test]
fn duration() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let tracer = Tracer::start_with(&lab, &["--duration", "2s"]).unwrap();
    let start = Instant::now();
    open(&lab).quit().unwrap();
    let run = tracer.wait().unwrap();
    let took = start.elapsed();
    assert_eq!(run.status.code(), Some(0), "{}", run.stderr);
    assert!((Duration::from_millis(1_500)..Duration::from_secs(4)).contains(&took), "{took:?}");
    run.recording.ensure_complete().unwrap();
    run.recording.single().unwrap();
}

#[test]
fn killed() {
    const SESSIONS: usize = 5;
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    for _ in 0..SESSIONS {
        open(&lab).quit().unwrap();
    }
    lab.wait_for_ends(PATIENCE).unwrap();
    wait::until("all ended connections in the file", PATIENCE, || {
        let recording = tracer.recording_so_far()?;
        Ok((recording.connections.len() == SESSIONS).then_some(()))
    })
    .unwrap();
    let programs = held_programs(tracer.pid());
    assert!(!programs.is_empty(), "the tracer holds no BPF program");
    let run = tracer.stop_with(Signal::SIGKILL).unwrap();
    assert_eq!(run.status.code(), None);
    assert_eq!(run.recording.connections.len(), SESSIONS);
    assert!(run.recording.trailer.is_none());

    needs!("programs left in the kernel": Bpftool);
    wait::until("the kernel to free the programs", PATIENCE, || {
        let left = programs.intersection(&loaded_programs()).count();
        Ok((left == 0).then_some(()))
    })
    .unwrap();

    // Nothing stands in the way of the next one.
    let tracer = Tracer::start(&lab).unwrap();
    open(&lab).quit().unwrap();
    lab.wait_for_ends(PATIENCE).unwrap();
    tracer.stop_cleanly().unwrap().recording.single().unwrap();
}

/// Ids of the BPF programs that a process holds.
fn held_programs(pid: u32) -> BTreeSet<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    let mut programs = BTreeSet::new();
    for text in texts {
        programs.extend(text.lines().filter_map(|line| {
            line.strip_prefix("prog_id:").and_then(|id| id.trim().parse::<u64>().ok())
        }));
    }
    programs
}

/// Ids of the BPF programs in the kernel.
fn loaded_programs() -> BTreeSet<u64> {
    let output = run(Command::new("bpftool").args(["prog", "list", "-j"])).unwrap();
    let programs: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let programs = programs.as_array().unwrap();
    programs.iter().map(|program| program["id"].as_u64().unwrap()).collect()
}

#[test]
fn the_next_tracer_starts_while_another_runs() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let port = lab.port().to_string();
    let first = Tracer::start(&lab).unwrap();
    let second = Tracer::start_raw(&lab.file("second.jsonl"), &["--dport", &port]).unwrap();
    open(&lab).quit().unwrap();
    lab.wait_for_ends(PATIENCE).unwrap();
    for run in [first.stop_cleanly().unwrap(), second.stop_cleanly().unwrap()] {
        run.recording.single().unwrap();
    }
    if fs::read_dir("/sys/fs/bpf").is_err() {
        skip!("bpffs is not mounted");
    }
    // Nothing is pinned: it would outlive its tracer.
    let pinned = fs::read_dir("/sys/fs/bpf").unwrap().filter_map(Result::ok);
    let ours = pinned.filter(|entry| entry.file_name().to_string_lossy().contains("smtp"));
    assert_eq!(ours.count(), 0);
}
