//! The kernel kills smtptrace because its cgroup has no memory left: what it had recorded can be read.

use std::{fs, os::unix::process::ExitStatusExt as _, time::Duration};

use nix::libc;
use serde_json::Value;
use tests::{
    cgroup::Cgroup,
    lab::Lab,
    needs,
    prerequisite::memory_hierarchy,
    server::{Script, Server},
    session::Session,
    tracer::{self, Tracer},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// Sessions that are recorded before memory is taken away.
const BEFORE: usize = 3;
/// Most sessions until memory runs out: each takes a few hundred bytes.
const MOST: usize = 3_000;

fn session(lab: &Lab) {
    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    session.begin().unwrap();
    session.quit().unwrap();
}

#[test]
fn what_was_recorded_can_be_read() {
    needs!(Namespaces, Tracer, MemoryCgroup);
    let lab = Lab::up().unwrap();
    let script = Script::mail_server("220 server.test ESMTP");
    let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
    let hierarchy = memory_hierarchy().unwrap();
    let cgroup = Cgroup::create(&hierarchy.root, "memory").unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    (0..BEFORE).for_each(|_| session(&lab));
    let recorded = || Ok((tracer.recording_so_far()?.connections.len() == BEFORE).then_some(()));
    wait::until("the sessions to be recorded", PATIENCE, recorded).unwrap();
    fs::write(cgroup.path().join(hierarchy.limit), "65536").unwrap();
    cgroup.adopt(tracer.pid()).unwrap();
    let killed = || {
        // A zombie has no memory.
        let status =
            fs::read_to_string(format!("/proc/{}/status", tracer.pid())).unwrap_or_default();
        !status.contains("VmRSS:")
    };
    for _ in 0..MOST {
        if killed() {
            break;
        }
        session(&lab);
    }
    let run = tracer.wait().unwrap();
    assert_eq!(run.status.signal(), Some(libc::SIGKILL), "{}", run.stderr);
    assert!(run.recording.connections.len() >= BEFORE);
    let file = run.file.to_str().unwrap();
    let output = tracer::command(["report", "--format", "json", file]).unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["trust"]["unfinished_recordings"], 1);
    assert!(report["totals"]["connections"].as_u64() >= Some(BEFORE as u64), "{report}");
    // Nothing is left in the kernel that keeps the next one out.
    let next = Tracer::start(&lab).unwrap();
    session(&lab);
    lab.wait_for_ends(PATIENCE).unwrap();
    next.stop_cleanly().unwrap().recording.single().unwrap();
}
