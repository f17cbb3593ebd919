//! Where connections come from: processes in cgroups that are named as container runtimes and systemd name
//! theirs, in network namespaces of their own. And when, where smtptrace is in a time namespace.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tests::{
    cgroup::{self, Cgroup},
    handover::Dialer,
    lab::{Lab, server_v4},
    namespace::Namespace,
    needs,
    privileges::{ensure_given_up, kept_for_maps},
    recording::Record,
    report,
    server::{Script, Server, Step},
    session::Session,
    skip,
    tracer::{self, Tracer},
};

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
    needs!(Namespaces, Tracer, Cgroup2);
    let hierarchy = cgroup::hierarchy().unwrap();
    let lab = Lab::up().unwrap();
    // As long as a server far away: on a starved machine a sender that is there for a moment only can be missed.
    let script = Script::default()
        .pause(Duration::from_millis(300))
        .send("220 server.test ESMTP\r\n")
        .then(Step::Serve);
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

/// What one sender does.
struct Sends<'a> {
    namespace: &'a Namespace,
    /// Its cgroup.
    path: String,
    /// Messages of each of its connections to the mail server.
    messages: &'static [usize],
    /// Connects to a port where nobody listens.
    in_vain: usize,
    /// Connections to a server that turns all away.
    turned_away: usize,
}

impl Sends<'_> {
    fn send(&self, made: &[Cgroup], [mail, busy, nobody]: [SocketAddr; 3]) {
        let dial = |messages, to| {
            let program = Path::new(env!("CARGO_BIN_EXE_lab-session"));
            let dialer = Dialer::sending(messages, self.namespace, program, to).unwrap();
            made.last().unwrap().adopt(dialer.pid()).unwrap();
            dialer.dial()
        };
        self.messages.iter().for_each(|messages| dial(*messages, mail).unwrap());
        (0..self.in_vain).for_each(|_| drop(dial(1, nobody).unwrap_err()));
        (0..self.turned_away).for_each(|_| drop(dial(1, busy).unwrap_err()));
    }
}

/// The numbers of a sender in a report, in the order of the columns of text.
fn numbers(sender: &Value) -> Vec<Value> {
    let fields = ["connections", "connect_failures", "died", "turned_away", "transactions"];
    let more = ["messages_per_connection", "reuse_ratio", "replies_4xx", "replies_5xx"];
    fields.into_iter().chain(more).map(|field| sender[field].clone()).collect()
}

#[test]
fn senders_are_told_apart() {
    needs!(Namespaces, Tracer, Cgroup2);
    let hierarchy = cgroup::hierarchy().unwrap();
    let lab = Lab::up().unwrap();
    let [busy, nobody] = [1, 2].map(|n| SocketAddr::from((server_v4(n), lab.port())));
    let server = Server::mail(&lab).unwrap();
    let turns_away = Script::default().send("421 4.7.0 too many connections\r\n");
    let busy_server = Server::start(&lab.server, busy, turns_away).unwrap();
    let root = Cgroup::create(&hierarchy, "senders").unwrap();
    let sends = |namespace, path: &str, messages, in_vain, turned_away| Sends {
        namespace,
        path: path.to_owned(),
        messages,
        in_vain,
        turned_away,
    };
    let all = [
        sends(&lab.client, &format!("docker-{ID}.scope"), &[3, 1][..], 0, 2),
        sends(&lab.client, "system.slice/postfix@-.service", &[4][..], 1, 0),
        sends(&lab.router, "plain", &[1, 1][..], 0, 0),
    ];
    let made = all.each_ref().map(|one| make(&root, &one.path));
    let live = lab.file("live.json");
    let tracer =
        Tracer::start_with(&lab, &["--format", "json", "--output", live.to_str().unwrap()])
            .unwrap();
    for (one, made) in all.iter().zip(&made) {
        one.send(made, [lab.server_v4(), busy, nobody]);
    }
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    made.into_iter().for_each(remove);
    assert_eq!((server.accepted(), busy_server.accepted()), (5, 2));

    let in_netns = format!("lab-session in netns {}", lab.router.name());
    let expected = [
        ("container 6df79a0a53f3", "container", json!([4, 0, 0, 2, 4, 1.0, 0.5, 2, 0])),
        ("postfix@-.service", "unit", json!([2, 1, 0, 0, 4, 4.0, 0.75, 0, 0])),
        (in_netns.as_str(), "netns", json!([2, 0, 0, 0, 2, 1.0, 0.0, 0, 0])),
    ];
    let live = report::read(&live).unwrap();
    let senders = live["senders"].as_array().unwrap();
    assert_eq!(senders.len(), expected.len(), "{senders:?}");
    for (sender, (name, kind, counts)) in senders.iter().zip(&expected) {
        assert_eq!((sender["name"].as_str(), sender["kind"].as_str()), (Some(*name), Some(*kind)));
        assert_eq!(json!(numbers(sender)), *counts, "{sender}");
    }
    for field in ["connections", "connect_failures", "died", "transactions"] {
        let sum: u64 = senders.iter().map(|sender| sender[field].as_u64().unwrap()).sum();
        assert_eq!(live["totals"][field], sum, "{field}");
    }
    assert_eq!(live["senders_omitted"]["connections"], 0);

    check_report(&run.file, &live["senders"], &in_netns);
}

/// The report on the recording says the same as `live`, in JSON and in text.
fn check_report(recording: &Path, live: &Value, in_netns: &str) {
    let file = recording.to_str().unwrap();
    let later = tracer::command(["report", "--format", "json", file]).unwrap();
    let later = report::parse(&String::from_utf8(later.stdout).unwrap()).unwrap();
    assert_eq!(later["senders"], *live, "of the recording");

    let text = tracer::command(["report", file]).unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (name, cells) in [
        ("container 6df79a0a53f3", "4 0 0 2 4 50 2 0"),
        ("postfix@-.service", "2 1 0 0 4 75 0 0"),
        (in_netns, "2 0 0 0 2 0 0 0"),
    ] {
        assert!(words.contains(&format!(" {name} {cells} ")), "{name} in {text}");
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_nanos()).unwrap()
}

/// In a time namespace the clock of processes is moved, that of the kernel is not.
#[test]
fn times_are_right_in_a_time_namespace() {
    const MOVED: [&str; 5] = ["--time", "--boottime", "100000", "--fork", "--kill-child"];
    needs!(Namespaces, Tracer);
    let tried = Command::new("unshare").args(MOVED).arg("true").output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        skip!("no time namespace can be made");
    }
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let mut inside = Command::new("unshare");
    inside.args(MOVED).arg(tracer::binary());
    let port = lab.port().to_string();
    let file = lab.file("recording.jsonl");
    let tracer = Tracer::start_command(inside, &file, &["--dport", &port]).unwrap();
    let begin = now();
    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    session.begin().unwrap();
    session.quit().unwrap();
    lab.wait_for_ends(PATIENCE).unwrap();
    let end = now();
    // unshare passes no signal on.
    let child = format!("/proc/{0}/task/{0}/children", tracer.pid());
    let child: i32 = fs::read_to_string(child).unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(child), Signal::SIGINT).unwrap();
    let run = tracer.wait().unwrap();
    run.recording.ensure_complete().unwrap();
    let record = run.recording.single().unwrap();
    // To the microsecond, and the clocks are read one after the other.
    let slack = 10_000_000;
    let (start, close) = (record.start().unwrap(), record.end().unwrap());
    assert!(begin - slack <= start && start <= close && close <= end + slack, "{}", record.json());
}
