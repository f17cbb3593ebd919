//! Privileges: which are needed, what is said where one is missing, and that none is left while smtptrace reads
//! what comes from the network.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};
use tests::{
    journal::Journal,
    lab::Lab,
    needs,
    prerequisite::report_skip,
    privileges::{
        as_nobody_with, counts_maps_as_locked, descendants, ensure_given_up, ensure_kept,
        kept_for_maps, open_to_all, threads,
    },
    recording::Recording,
    scrape,
    server::Server,
    session::{Session, failing_connect},
    skip,
    terminal::Terminal,
    this_test,
    tracer::{self, Tracer},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(60);
const BPF: u64 = 1 << 39;
const PERFMON: u64 = 1 << 38;
const CHECKPOINT_RESTORE: u64 = 1 << 40;
const SYS_ADMIN: u64 = 1 << 21;
const SYS_PTRACE: u64 = 1 << 19;

/// One session with two messages.
fn send(lab: &Lab) {
    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    session.begin().unwrap();
    session.message(500).unwrap();
    session.message(500).unwrap();
    session.quit().unwrap();
}

/// The only session was recorded, with its messages.
fn check_session(recording: &Recording) {
    let record = recording.single().unwrap();
    assert_eq!(record.known("transactions").unwrap(), 2, "{}", record.json());
    assert_eq!(record.known("banner_code").unwrap(), 220, "{}", record.json());
    recording.ensure_complete().unwrap();
}

/// Ends the process also when the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already if the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A copy of the binary that every user may run: the build directory may be closed to others.
fn binary_for_all(lab: &Lab) -> PathBuf {
    let copy = lab.file("smtptrace");
    fs::copy(tracer::binary(), &copy).unwrap();
    copy
}

/// smtptrace as nobody with these capabilities only, and memory enough.
fn restricted(lab: &Lab, capabilities: &str) -> Command {
    let memory = counts_maps_as_locked().unwrap().then_some("unlimited");
    limited(lab, capabilities, memory)
}

/// The same; it may lock so much `memory`.
fn limited(lab: &Lab, capabilities: &str, memory: Option<&str>) -> Command {
    let before = as_nobody_with(capabilities, memory);
    let mut command = Command::new(&before[0]);
    command.args(&before[1..]).arg(binary_for_all(lab));
    command
}

/// All these processes end.
fn wait_for_ends(processes: &[u32]) {
    wait::until("the end of the other processes", PATIENCE, || {
        let runs = |pid: &u32| threads(*pid).is_ok_and(|threads| !threads.is_empty());
        Ok((!processes.iter().any(runs)).then_some(()))
    })
    .unwrap();
}

/// Nobody is left to make files for, also where there was no time to say so.
#[test]
fn nothing_outlasts_a_trace_that_is_killed() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let tracer = Tracer::start_with(&lab, &["--tls-probes"]).unwrap();
    let beside = descendants(tracer.pid()).unwrap();
    assert_eq!(beside.len(), 3, "{beside:?}");
    tracer.signal(Signal::SIGKILL).unwrap();
    wait_for_ends(&beside);
}

#[test]
fn nothing_is_left_while_it_traces() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    ensure_given_up(tracer.pid(), kept_for_maps().unwrap()).unwrap();
    // The processes that make its files keep root's id, and nothing else.
    let beside = descendants(tracer.pid()).unwrap();
    assert_eq!(beside.len(), 2, "{beside:?}");
    for process in &beside {
        assert_eq!(ensure_kept(*process, 0).unwrap(), 1);
    }
    send(&lab);
    lab.wait_for_ends(PATIENCE).unwrap();
    ensure_given_up(tracer.pid(), kept_for_maps().unwrap()).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    check_session(&run.recording);
    wait_for_ends(&beside);
    assert!(!run.stderr.contains("filter of system calls"), "{}", run.stderr);
    let but = run.stderr.contains("all capabilities are dropped but CAP_BPF");
    assert_eq!(but, kept_for_maps().unwrap() == BPF, "{}", run.stderr);
}

#[test]
fn everything_works_with_nothing_left() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let address = scrape::free_address().unwrap();
    let journal_socket = lab.file("journal");
    let journal = Journal::listen(&journal_socket).unwrap();
    let nobody = format!("http://{}", scrape::free_address().unwrap());
    let output = lab.file("report.json");
    let tracer = Tracer::start_with(
        &lab,
        &[
            &["--listen", &address.to_string(), "--otlp", &nobody, "--interval", "300ms"][..],
            &["--journal", "--journal-socket", journal_socket.to_str().unwrap()],
            &["--format", "json", "--output", output.to_str().unwrap(), "--resolve"],
            &["--measure-overhead"],
        ]
        .concat(),
    )
    .unwrap();
    send(&lab);
    let refused = (tests::lab::server_v4(1), lab.port()).into();
    failing_connect(&lab.client, refused).unwrap();
    lab.wait_for_ends(PATIENCE).unwrap();
    wait::until("both connections to be recorded", PATIENCE, || {
        Ok((tracer.recording_so_far()?.connections.len() == 2).then_some(()))
    })
    .unwrap();
    wait::until("a failed export", PATIENCE, || {
        let metrics = scrape::get(address, scrape::OPENMETRICS)?.body;
        let failed =
            metrics.lines().find(|line| line.contains(r#"exports_total{result="failed"}"#));
        Ok(failed.is_some_and(|line| !line.ends_with(" 0")).then_some(()))
    })
    .unwrap();
    let metrics = scrape::get(address, scrape::OPENMETRICS).unwrap();
    assert_eq!(metrics.status, 200);
    assert!(metrics.body.contains("smtptrace_messages_total"), "{}", metrics.body);
    // The trace, and the threads that export.
    assert!(ensure_given_up(tracer.pid(), kept_for_maps().unwrap()).unwrap() >= 2);
    let run = tracer.stop().unwrap();
    assert!(run.status.success(), "{}", run.stderr);
    assert!(run.stderr.contains("exports to"), "the threads exported: {}", run.stderr);
    let report: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&output).unwrap()).unwrap();
    assert_eq!(report["totals"]["connections"], 2);
    assert!(report["trust"]["overhead"]["kernel_cpu_us"].as_u64() > Some(0), "{}", report["trust"]);
    let messages = journal.messages().unwrap();
    assert!(messages.iter().any(|it| it["MESSAGE_ID"] == b"6bf4fedc06144643afe19b41ffd4a0ab"));
}

#[test]
fn a_recording_goes_on_in_new_files() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let pieces = || {
        let all = fs::read_dir(lab.directory()).unwrap().map(|entry| entry.unwrap().path());
        let is_piece = |path: &PathBuf| path.to_string_lossy().contains("piece-");
        let mut pieces: Vec<PathBuf> = all.filter(is_piece).collect();
        pieces.sort();
        pieces
    };
    let mut command = Command::new(tracer::binary());
    command.args(["--dport", &lab.port().to_string(), "--rotate-every", "1s"]);
    command.arg("--record").arg(lab.file("piece.jsonl")).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = Running(command.spawn().unwrap());
    wait::until("a second piece", PATIENCE, || Ok((pieces().len() > 1).then_some(()))).unwrap();
    ensure_given_up(running.0.id(), kept_for_maps().unwrap()).unwrap();
    send(&lab);
    lab.wait_for_ends(PATIENCE).unwrap();
    kill(Pid::from_raw(running.0.id().cast_signed()), Signal::SIGINT).unwrap();
    assert!(running.0.wait().unwrap().success());
    let recordings: Vec<Recording> =
        pieces().iter().map(|piece| Recording::read(piece).unwrap()).collect();
    for piece in &recordings {
        piece.ensure_complete().unwrap();
    }
    let with_it: Vec<_> = recordings.iter().filter(|it| !it.connections.is_empty()).collect();
    let [recording] = &with_it[..] else { panic!("{} pieces have it", with_it.len()) };
    check_session(recording);
}

#[test]
fn the_live_view_works_with_nothing_left() {
    needs!(Namespaces, Tracer, Tmux);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let terminal = Terminal::open(100, 30).unwrap();
    let binary = tracer::binary().canonicalize().unwrap();
    let (port, recording) = (lab.port(), lab.file("live.jsonl"));
    let command = format!("{} --dport {port} --record {}", binary.display(), recording.display());
    terminal.type_line(&format!("clear; {command}; echo status=$?")).unwrap();
    terminal.wait_for("the live view", |screen| screen.contains("no connection yet")).unwrap();
    let pid = terminal.child().unwrap();
    ensure_given_up(pid, kept_for_maps().unwrap()).unwrap();
    send(&lab);
    let address = lab.server_v4().ip().to_string();
    terminal.wait_for("the destination", |screen| screen.contains(&address)).unwrap();
    terminal.press(&["Enter"]).unwrap();
    terminal.press(&["q"]).unwrap();
    terminal.wait_for("the end", |screen| screen.contains("status=0")).unwrap();
    check_session(&Recording::read(&recording).unwrap());
}

/// Whether this may be a kernel that wants `CAP_SYS_ADMIN` of who opens perf events, as Debian's 5.10 does.
fn has_hardened_perf_events() -> bool {
    let value = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    value.trim().parse::<i32>().is_ok_and(|value| value > 2)
}

#[test]
fn two_capabilities_are_enough_without_root() {
    needs!(Namespaces, Tracer, Setpriv);
    let lab = Lab::up().unwrap();
    open_to_all(lab.directory()).unwrap();
    let _server = Server::mail(&lab).unwrap();
    let recording = lab.file("recording.jsonl");
    let port = lab.port().to_string();
    let mut arguments = vec!["--dport", port.as_str()];
    let start = |arguments: &[&str]| {
        let command = restricted(&lab, "+bpf,+perfmon");
        Tracer::start_command(command, &recording, arguments)
    };
    let tracer = start(&arguments).or_else(|error| {
        let reason = format!("{error:#}");
        assert!(has_hardened_perf_events() && reason.contains("--no-replies"), "{reason}");
        assert!(reason.contains("kernel.perf_event_paranoid=2"), "{reason}");
        let reason = reason.lines().next().unwrap_or_default();
        report_skip(this_test!(), Some("replies"), reason);
        arguments.push("--no-replies");
        start(&arguments)
    });
    let tracer = tracer.unwrap();
    // Without CAP_SETPCAP the bounding set cannot be made smaller; nothing can be gained from it.
    for thread in threads(tracer.pid()).unwrap() {
        assert_eq!(thread.capabilities("CapBnd").unwrap(), BPF | PERFMON);
        let kept = kept_for_maps().unwrap();
        for (set, expected) in [("CapEff", kept), ("CapPrm", kept), ("CapInh", 0), ("CapAmb", 0)] {
            assert_eq!(thread.capabilities(set).unwrap(), expected, "{set}: {thread:?}");
        }
    }
    send(&lab);
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    if !arguments.contains(&"--no-replies") {
        check_session(&run.recording);
    }
    let record = run.recording.single().unwrap();
    assert_eq!(record.known("turns").unwrap(), 10, "EHLO, 2 x 4, QUIT: {}", record.json());
    assert_eq!(record.known("pid").unwrap(), u64::from(std::process::id()));
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn each_missing_capability_is_named() {
    needs!(Namespaces, Tracer, Setpriv);
    let lab = Lab::up().unwrap();
    let port = lab.port().to_string();
    for (capabilities, arguments, missing) in [
        ("+perfmon", &[][..], "CAP_BPF"),
        ("+bpf", &[], "CAP_PERFMON"),
        ("", &[], "CAP_PERFMON and CAP_BPF"),
        ("+bpf,+perfmon", &["--measure-overhead"], "CAP_SYS_ADMIN"),
        ("+bpf,+perfmon", &["--listen", "127.0.0.1:80"], "CAP_NET_BIND_SERVICE"),
    ] {
        let mut command = restricted(&lab, capabilities);
        command.args(["--dport", &port, "--duration", "1s"]).args(arguments);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{capabilities} {arguments:?}: {output:?}");
        assert!(text(&output).contains(missing), "{missing} is not named: {}", text(&output));
    }
    // What a capability gives, it gives.
    for (capabilities, arguments) in [
        ("+sys_admin", &["--measure-overhead"][..]),
        ("+bpf,+perfmon,+sys_admin", &["--measure-overhead"]),
    ] {
        let mut command = restricted(&lab, capabilities);
        command.args(["--dport", &port, "--duration", "1s"]).args(arguments);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{capabilities}: {}", text(&output));
    }
}

#[test]
fn too_little_locked_memory_is_named() {
    needs!(Namespaces, Tracer, Setpriv);
    if !counts_maps_as_locked().unwrap() {
        skip!("this kernel does not count maps as locked memory");
    }
    let lab = Lab::up().unwrap();
    let mut command = limited(&lab, "+bpf,+perfmon", Some("65536"));
    command.args(["--dport", &lab.port().to_string(), "--duration", "1s"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let message = text(&output);
    assert!(message.contains("64 kB") && message.contains("LimitMEMLOCK"), "{message}");
}

#[test]
fn what_tls_probes_take_is_kept_by_a_process_apart() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let tracer = Tracer::start_with(&lab, &["--tls-probes"]).unwrap();
    ensure_given_up(tracer.pid(), kept_for_maps().unwrap()).unwrap();
    // Which kernel wants more for uprobes differs between stable releases.
    let may_attach = |pid: &u32| {
        ensure_kept(*pid, PERFMON | CHECKPOINT_RESTORE | SYS_PTRACE).is_ok()
            || ensure_kept(*pid, SYS_ADMIN | SYS_PTRACE).is_ok()
    };
    let children = descendants(tracer.pid()).unwrap();
    let [attacher] = children.iter().copied().filter(may_attach).collect::<Vec<_>>()[..] else {
        panic!("{:?}", children.iter().map(|pid| threads(*pid)).collect::<Vec<_>>())
    };
    // Stdin, stdout and stderr, which lead nowhere, and the channel.
    let open = fs::read_dir(format!("/proc/{attacher}/fd")).unwrap();
    assert_eq!(open.count(), 4);
    tracer.stop_cleanly().unwrap();
    wait_for_ends(&children);
}

/// Whoever reads a file that may be anybody's has nothing but what is open, before the first byte comes.
#[test]
fn readers_have_given_everything_up_before_they_read() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let input = lab.file("input");
    mkfifo(&input, Mode::S_IRWXU).unwrap();
    // Its other end, at which nothing is written.
    let _writer = fs::File::options().read(true).write(true).open(&input).unwrap();
    let path = input.to_str().unwrap();
    let directory = lab.file("histograms");
    let all: [(&[&str], bool); 6] = [
        (&["report", path], true),
        (&["report", "--format", "json", "--output", "/dev/null", "--resolve", path], true),
        (&["check", "--min-reuse", "1%", path], true),
        (&["compare", path, path], true),
        (&["what-if", path], true),
        // Files are made in a directory that is root's.
        (&["report", "--format", "hgrm", "--output", directory.to_str().unwrap(), path], false),
    ];
    for (arguments, as_nobody) in all {
        let mut command = Command::new(tracer::binary());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let running = Running(command.spawn().unwrap());
        let ensure = if as_nobody { ensure_given_up } else { ensure_kept };
        let mut last = None;
        let given_up = wait::until("a reader without privileges", PATIENCE, || {
            last = Some(ensure(running.0.id(), 0));
            Ok(matches!(last, Some(Ok(_))).then_some(()))
        });
        given_up.unwrap_or_else(|error| panic!("{arguments:?}: {error:#} {last:?}"));
    }
}

#[test]
fn files_that_could_not_be_made_later_are_told_of_at_once() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let directory = lab.file("of-nobody");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    chown(&directory, Some(65_534), Some(65_534)).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(tracer::binary());
        command.args(["--dport", &lab.port().to_string(), "--duration", "1s", "--record"]);
        command.arg(directory.join("mx1.jsonl")).args(arguments).stdin(Stdio::null());
        command.output().unwrap()
    };
    let output = run(&["--rotate-every", "1h"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let message = text(&output);
    assert!(message.contains("of-nobody") && message.contains("CAP_DAC_OVERRIDE"), "{message}");
    // One file only: it is open before.
    let output = run(&[]);
    assert!(output.status.success(), "{}", text(&output));
}

/// As in a container that has no capability, or that does not know `nobody`.
#[test]
fn readers_work_where_root_can_become_nobody_else() {
    needs!(Tracer, Setpriv);
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings/mx2.jsonl");
    for before in [&["setpriv", "--bounding-set=-all"][..], &["unshare", "--map-root-user"]] {
        let command = |program: PathBuf, arguments: &[&str]| {
            let mut command = Command::new(before[0]);
            command.args(&before[1..]).arg(program).args(arguments);
            command.stdin(Stdio::null()).output()
        };
        if !command("true".into(), &[]).is_ok_and(|output| output.status.success()) {
            report_skip(this_test!(), Some(before[0]), "it does not work here");
            continue;
        }
        for arguments in [&["report"][..], &["what-if"]] {
            let arguments = [arguments, &[recording.to_str().unwrap()]].concat();
            let output = command(tracer::binary().canonicalize().unwrap(), &arguments).unwrap();
            assert!(output.status.success(), "{before:?} {arguments:?}: {}", text(&output));
            assert!(!text(&output).contains("goes on as"), "{}", text(&output));
        }
    }
}
