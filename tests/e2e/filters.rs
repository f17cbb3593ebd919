//! Filters: each must let its own connections pass and no others.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tests::{
    cgroup::{self, Cgroup},
    handover::Dialer,
    lab::{self, Lab},
    namespace::Namespace,
    needs,
    recording::Recording,
    server::{Script, Server},
    session::Session,
    tracer::{self, Run, Tracer},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(60);
const NOBODY: u32 = 65_534;
const UNIT: &str = "smtptrace-lab@-.service";
const ID: &str = "6df79a0a53f3a1ec1d7a0d0a6d8f3b2c9f5e4d3c2b1a09f8e7d6c5b4a3928170";

fn serve(namespace: &Namespace, address: SocketAddr) -> Server {
    let script = Script::mail_server("220 server.test ESMTP");
    Server::start(namespace, address, script).unwrap()
}

fn visit(namespace: &Namespace, to: SocketAddr) {
    let mut session = Session::connect(namespace, to).unwrap();
    session.begin().unwrap();
    session.quit().unwrap();
}

fn finish(lab: &Lab, tracer: Tracer) -> Run {
    lab.wait_for_ends(PATIENCE).unwrap();
    tracer.stop_cleanly().unwrap()
}

/// A copy of the client program that every user may run, under the name `name`.
fn program(lab: &Lab, name: &str) -> PathBuf {
    let copy = lab.file(name);
    fs::copy(Path::new(env!("CARGO_BIN_EXE_lab-session")), &copy).unwrap();
    copy
}

#[test]
fn destination_networks() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let other = SocketAddr::from((lab::server_v4(1), lab.port()));
    let servers = [lab.server_v4(), other, lab.server_v6()];
    let _servers = servers.map(|address| serve(&lab.server, address));
    for (network, expected) in [
        ("10.71.2.3/32", other),
        ("10.71.2.2/32", lab.server_v4()),
        ("fd71:2::/64", lab.server_v6()),
    ] {
        let tracer = Tracer::start_with(&lab, &["--dest", network]).unwrap();
        for server in servers {
            visit(&lab.client, server);
        }
        let run = finish(&lab, tracer);
        let record = run.recording.single().unwrap();
        assert_eq!(record.server().unwrap(), expected, "--dest {network}");
        assert_eq!(run.recording.header["filters"]["dest"][0], network);
    }
}

#[test]
fn processes_users_and_names() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let _server = serve(&lab.server, lab.server_v4());
    let (plain, renamed) = (program(&lab, "lab-session"), program(&lab, "other-mta"));
    let start =
        |program: &Path, user| Dialer::start(&lab.client, program, lab.server_v4(), user).unwrap();
    for filter in ["--pid", "--uid", "--comm"] {
        let dialers = [start(&plain, None), start(&plain, Some(NOBODY)), start(&renamed, None)];
        let (wanted, value) = match filter {
            "--pid" => (dialers[0].pid(), dialers[0].pid().to_string()),
            "--uid" => (dialers[1].pid(), NOBODY.to_string()),
            _ => (dialers[2].pid(), "other-mta".to_owned()),
        };
        let tracer = Tracer::start_with(&lab, &[filter, &value]).unwrap();
        for dialer in dialers {
            dialer.dial().unwrap();
        }
        let run = finish(&lab, tracer);
        let record = run.recording.single().unwrap();
        assert_eq!(record.known("pid").unwrap(), u64::from(wanted), "{filter} {}", record.json());
        if filter == "--uid" {
            assert_eq!(record.known("uid").unwrap(), u64::from(NOBODY), "{}", record.json());
        }
    }
}

#[test]
fn cgroups_and_those_below() {
    needs!(Namespaces, Tracer, Cgroup2);
    let parent = Cgroup::create(&cgroup::hierarchy().unwrap(), "filter").unwrap();
    let child = parent.child("below").unwrap();
    let lab = Lab::up().unwrap();
    let _server = serve(&lab.server, lab.server_v4());
    let program = program(&lab, "lab-session");
    let dialers =
        [(); 2].map(|()| Dialer::start(&lab.client, &program, lab.server_v4(), None).unwrap());
    let inside = dialers[0].pid();
    child.adopt(inside).unwrap();
    let tracer = Tracer::start_with(&lab, &["--cgroup", parent.path().to_str().unwrap()]).unwrap();
    for dialer in dialers {
        dialer.dial().unwrap();
    }
    let run = finish(&lab, tracer);
    let record = run.recording.single().unwrap();
    assert_eq!(record.known("pid").unwrap(), u64::from(inside), "{}", record.json());
    assert_eq!(record.known("cgroup").unwrap(), child.id().unwrap(), "{}", record.json());
    drop(child);
}

/// Who is in the recording, a name for each connection: its unit, container or else `-`.
fn senders(run: &Run) -> Vec<String> {
    let records = run.recording.connections.iter();
    let mut names: Vec<_> = records
        .map(|record| {
            let named = |field| record.text(field).unwrap();
            named("unit").or(named("container")).unwrap_or("-").to_owned()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn units_and_containers() {
    needs!(Namespaces, Tracer, Cgroup2);
    let root = Cgroup::create(&cgroup::hierarchy().unwrap(), "units").unwrap();
    let lab = Lab::up().unwrap();
    let _server = serve(&lab.server, lab.server_v4());
    let program = program(&lab, "lab-session");
    let send = |cgroup: &Cgroup| {
        let dialer = Dialer::start(&lab.client, &program, lab.server_v4(), None).unwrap();
        cgroup.adopt(dialer.pid()).unwrap();
        dialer.dial().unwrap();
    };

    // One that comes after the start. A process may be gone before its cgroup is looked up: it sends again.
    let tracer = Tracer::start_with(&lab, &["--unit", UNIT]).unwrap();
    let [unit, container, plain] =
        [UNIT, &format!("docker-{ID}.scope"), "plain"].map(|name| root.child(name).unwrap());
    wait::until("a connection of the unit", PATIENCE, || {
        send(&plain);
        send(&unit);
        Ok((!tracer.recording_so_far()?.connections.is_empty()).then_some(()))
    })
    .unwrap();
    let run = finish(&lab, tracer);
    assert!(senders(&run).iter().all(|name| name == UNIT), "{:?}", senders(&run));
    let warning = format!("no unit {UNIT} runs now; it is recorded when it does");
    assert!(run.stderr.contains(&warning), "{}", run.stderr);

    for (filters, expected) in [
        (&["--unit", "smtptrace-lab@-"][..], &[UNIT][..]),
        (&["--unit", "nobody", "--unit", "smtptrace-l?b@*"], &[UNIT]),
        (&["--container", &ID[..12]], &[ID]),
        (&["--unit", UNIT, "--container", ID], &[]),
        (&[], &["-", ID, UNIT]),
    ] {
        let tracer = Tracer::start_with(&lab, filters).unwrap();
        for cgroup in [&unit, &container, &plain] {
            send(cgroup);
        }
        let run = finish(&lab, tracer);
        assert_eq!(senders(&run), expected, "{filters:?}: {}", run.stderr);
        if let others @ 1.. = 3 - expected.len() {
            let left_out = format!("left out: {others} connections of other senders\n");
            assert!(run.stderr.contains(&left_out), "{filters:?}: {}", run.stderr);
        }
        let absent = run.stderr.contains("no unit nobody.service runs now");
        assert_eq!(absent, filters.contains(&"nobody"), "{}", run.stderr);
    }

    take_one_of_all(&lab);
}

/// The last recording has all senders; `report` takes one of them.
fn take_one_of_all(lab: &Lab) {
    let run = lab.file("recording.jsonl");
    let file = run.to_str().unwrap();
    let one = lab.file("one.jsonl");
    let output = ["--format", "jsonl", "--output", one.to_str().unwrap()];
    let report = [&["report", "--container", &ID[..12], file], &output[..]].concat();
    let output = tracer::command(report).unwrap();
    assert!(output.status.success(), "{output:?}");
    let recording = Recording::read(&one).unwrap();
    recording.ensure_complete().unwrap();
    assert_eq!(recording.single().unwrap().text("container").unwrap(), Some(ID));
    assert_eq!(recording.header["filters"]["container"], serde_json::json!([&ID[..12]]));
}

#[test]
fn network_namespaces() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let _server = serve(&lab.server, lab.server_v4());
    let inode = lab.router.inode().unwrap();
    let tracer = Tracer::start_with(&lab, &["--netns", &inode.to_string()]).unwrap();
    visit(&lab.client, lab.server_v4());
    visit(&lab.router, lab.server_v4());
    let run = finish(&lab, tracer);
    let record = run.recording.single().unwrap();
    assert_eq!(record.known("netns").unwrap(), inode, "{}", record.json());
    assert_eq!(record.text("src").unwrap(), Some("10.71.2.1"), "{}", record.json());
}

#[test]
fn loopback_only_on_request() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, lab.port()));
    let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, lab.port()));
    let _servers = [v4, v6].map(|address| serve(&lab.client, address));
    for (arguments, expected) in
        [(&[][..], &[][..]), (&["--include-loopback"][..], &["127.0.0.1", "::1"][..])]
    {
        let tracer = Tracer::start_with(&lab, arguments).unwrap();
        visit(&lab.client, v4);
        visit(&lab.client, v6);
        let run = finish(&lab, tracer);
        let records = run.recording.connections.iter();
        let seen: Vec<_> = records.map(|record| record.text("dst").unwrap().unwrap()).collect();
        assert_eq!(seen, expected, "{arguments:?}");
    }
}

#[test]
fn several_ports() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    // The lab's port, and others above the range that labs draw from.
    let ports = [lab.port(), 30_587, 30_465];
    let address = |port| SocketAddr::from((lab::SERVER_V4, port));
    let _servers = ports.map(|port| serve(&lab.server, address(port)));
    let list = format!("{},{}", ports[0], ports[1]);
    let tracer = Tracer::start_raw(&lab.file("recording.jsonl"), &["--dport", &list]).unwrap();
    for port in ports {
        visit(&lab.client, address(port));
    }
    std::thread::sleep(Duration::from_millis(100));
    let run = finish(&lab, tracer);
    let records = run.recording.connections.iter();
    let seen: Vec<_> = records.map(|record| record.known("dport").unwrap()).collect();
    assert_eq!(seen, [u64::from(ports[0]), u64::from(ports[1])]);
    assert_eq!(run.recording.header["filters"]["dport"], serde_json::json!(ports[..2]));
}

/// The kernel counts processes from the initial pid namespace; a number of another one would select nothing, or
/// somebody else.
#[test]
fn a_process_id_of_another_pid_namespace_is_refused() {
    needs!(Tracer);
    let own = std::process::id().to_string();
    for (arguments, refused) in [(&["--pid", own.as_str()][..], true), (&[], false)] {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc"]).arg(tracer::binary());
        command.args(["--dport", "2", "--duration", "100ms", "--format", "json"]).args(arguments);
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(if refused { 2 } else { 0 }), "{told}");
        assert_eq!(told.contains("--pid"), refused, "{told}");
    }
}
