//! Where connections come from: processes in cgroups that are named as container runtimes and systemd name
//! theirs, in network namespaces of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, path::Path, time::Duration};

use tests::{
    cgroup::{self, Cgroup},
    handover::Dialer,
    lab::Lab,
    prerequisite::{Prerequisite, skipped},
    privileges::{ensure_given_up, kept_for_maps},
    recording::Record,
    server::{Script, Server},
    tracer::Tracer,
};

const NEEDS: [Prerequisite; 3] =
    [Prerequisite::Namespaces, Prerequisite::Tracer, Prerequisite::Cgroup2];
const PATIENCE: Duration = Duration::from_secs(60);
const ID: &str = "6df79a0a53f3a1ec1d7a0d0a6d8f3b2c9f5e4d3c2b1a09f8e7d6c5b4a3928170";
const OTHER_ID: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";

/// Directories below that of the test, the container and the unit that they tell of.
fn forms() -> Vec<(String, Option<&'static str>, Option<&'static str>)> {
    vec![
        (format!("docker-{ID}.scope"), Some(ID), None),
        (format!("kubepods/burstable/pod7/{OTHER_ID}"), Some(OTHER_ID), None),
        (
            "lxc.payload.mail/system.slice/postfix.service".into(),
            Some("mail"),
            Some("postfix.service"),
        ),
        ("system.slice/exim4.service".into(), None, Some("exim4.service")),
        ("plain".into(), None, None),
    ]
}

/// Makes `path`, directory by directory; the last of them is the cgroup.
fn make(root: &Cgroup, path: &str) -> Vec<Cgroup> {
    let mut made: Vec<Cgroup> = Vec::new();
    for name in path.split('/') {
        let child = made.last().unwrap_or(root).child(name).unwrap();
        made.push(child);
    }
    made
}

fn remove(made: Vec<Cgroup>) {
    for cgroup in made.into_iter().rev() {
        drop(cgroup);
    }
}

fn text<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    record.text(name).unwrap()
}

fn path_in(hierarchy: &Path, cgroup: &Cgroup) -> String {
    format!("/{}", cgroup.path().strip_prefix(hierarchy).unwrap().display())
}

#[test]
fn containers_units_and_namespaces_are_named() {
    if skipped("containers_units_and_namespaces_are_named", &NEEDS) {
        return;
    }
    let hierarchy = cgroup::hierarchy().unwrap();
    let lab = Lab::up().unwrap();
    let script = Script::mail_server("220 server.test ESMTP");
    let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
    let root = Cgroup::create(&hierarchy, "origins").unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_lab-session"));
    let tracer = Tracer::start(&lab).unwrap();
    // Nothing is left by which more than anybody sees could be read.
    ensure_given_up(tracer.pid(), kept_for_maps().unwrap()).unwrap();
    let mut expected = BTreeMap::new();
    for (n, (path, container, unit)) in forms().into_iter().enumerate() {
        // Made after tracing has begun, and gone before its record can have been read.
        let made = make(&root, &path);
        let cgroup = made.last().unwrap();
        // Half of them from the router's namespace.
        let namespace = if n % 2 == 0 { &lab.client } else { &lab.router };
        let dialer = Dialer::start(namespace, program, lab.server_v4(), None).unwrap();
        let pid = dialer.pid();
        cgroup.adopt(pid).unwrap();
        let names = (namespace.name(), path_in(&hierarchy, cgroup), cgroup.id().unwrap());
        dialer.dial().unwrap();
        remove(made);
        expected.insert(u64::from(pid), (names, container, unit));
    }
    drop(root);
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    assert_eq!(run.recording.connections.len(), expected.len());
    for record in &run.recording.connections {
        let ((namespace, path, id), container, unit) = &expected[&record.known("pid").unwrap()];
        assert_eq!(record.known("cgroup").unwrap(), *id, "{}", record.json());
        assert_eq!(text(record, "cgroup_path"), Some(path.as_str()), "{}", record.json());
        assert_eq!(text(record, "container"), *container, "{}", record.json());
        assert_eq!(text(record, "unit"), *unit, "{}", record.json());
        assert_eq!(text(record, "netns_name"), Some(*namespace), "{}", record.json());
        assert_eq!(record.known("transactions").unwrap(), 1, "{}", record.json());
    }
}
