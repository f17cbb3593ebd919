//! Connections that were open before smtptrace starts: found in every network namespace, with their owner, once each. Needs
//! `ip` and smtptrace only.

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};
use tests::{
    churn::{Ends, Life, churn, take_told},
    handover::Waiting,
    kernel,
    lab::{ABSENT_V4, Lab, server_v4},
    namespace::Namespace,
    needs,
    prerequisite::report_skip,
    recording::Record,
    server::{Script, Server, Step},
    session::{COMM, Session},
    this_test,
    tracer::Tracer,
    wait,
};

/// The first kernel with `bpf_sock_from_file`, which the better way to find open connections needs.
const TASK_FILE: (u32, u32) = (5, 11);
const NOBODY: u32 = 65_534;
const PATIENCE: Duration = Duration::from_secs(60);

fn serve(namespace: &Namespace, address: SocketAddr) -> Server {
    Server::start(namespace, address, Script::mail_server("220 server.test ESMTP")).unwrap()
}

/// The ways to find open connections that this kernel has; what `test` leaves out is said.
fn iterators(test: &str) -> &'static [&'static str] {
    if kernel::version().unwrap() >= TASK_FILE {
        return &["task_file", "tcp"];
    }
    report_skip(test, Some("task_file"), "the kernel is older than 5.11");
    &["auto", "tcp"]
}

/// Starts smtptrace; what it finds open, it finds by `iterator`.
fn start(lab: &Lab, iterator: &str, arguments: &[&str]) -> Tracer {
    let wish: &[&str] = if iterator == "auto" { &[] } else { &["--seed-by", iterator] };
    let tracer = Tracer::start_with(lab, &[wish, arguments].concat()).unwrap();
    let header = tracer.recording_so_far().unwrap().header;
    let hooks = header["hooks"].as_array().unwrap();
    let hook = hooks.iter().find(|hook| hook["hook"] == "task_file").unwrap();
    let expected = if iterator == "task_file" { "attached" } else { "fallback" };
    assert_eq!(hook["state"], expected, "{hook}");
    tracer
}

/// Starts a connect that nobody answers.
fn connecting(namespace: &Namespace, to: SocketAddr) -> Socket {
    let connect = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        let error = socket.connect(&to.into()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EINPROGRESS as i32));
        Ok(socket)
    };
    namespace.enter(COMM, connect).unwrap()
}

fn wait_for_records(tracer: &Tracer, count: usize) -> anyhow::Result<()> {
    wait::until("records", PATIENCE, || {
        let records = tracer.recording_so_far()?.connections.len();
        Ok((records >= count).then_some(()))
    })
}

fn assert_null(record: &Record, names: &[&str]) {
    for name in names {
        assert!(record.field(name).unwrap().is_null(), "{name}: {}", record.json());
    }
}

#[test]
fn sessions_open_before_the_start_are_recorded() {
    needs!(Links, Tracer);
    for iterator in iterators(this_test!()) {
        sessions_of_every_kind(iterator);
    }
}

#[expect(clippy::too_many_lines, reason = "one session of each kind, told one after the other")]
fn sessions_of_every_kind(iterator: &str) {
    let lab = Lab::up().unwrap();
    let leaving = SocketAddr::from((server_v4(1), lab.port()));
    let _servers = [lab.server_v4(), lab.server_v6()].map(|address| serve(&lab.server, address));
    let farewell = Script::default().send("421 4.3.2 server.test closes\r\n");
    let _leaving = Server::start(&lab.server, leaving, farewell).unwrap();
    // Nobody answers there, and no router says so.
    let nobody = SocketAddr::from((ABSENT_V4, lab.port()));
    let neighbour = ["neigh", "add", &ABSENT_V4.to_string(), "lladdr", "02:00:00:00:00:01"];
    let permanent = ["dev", "r1", "nud", "permanent"];
    lab.router.run("ip", [&neighbour[..], &permanent[..]].concat()).unwrap();

    let begun = |namespace, to| {
        let mut session = Session::connect(namespace, to).unwrap();
        session.begin().unwrap();
        session
    };
    let ended = begun(&lab.client, lab.server_v4());
    ended.quit().unwrap();
    let mut idle = begun(&lab.client, lab.server_v4());
    let mut busy = begun(&lab.router, lab.server_v6());
    busy.message(2_000).unwrap();
    let reset = begun(&lab.client, lab.server_v6());
    let left_open = begun(&lab.client, lab.server_v4());
    let program = Path::new(env!("CARGO_BIN_EXE_lab-session"));
    let held_twice: OwnedFd = left_open.as_fd().try_clone_to_owned().unwrap();
    let waiting =
        Waiting::start(&lab.router, program, lab.server_v4(), Stdio::from(held_twice), 0).unwrap();
    let mut half_closed = Session::connect(&lab.client, leaving).unwrap();
    half_closed.reply().unwrap();
    let in_vain = connecting(&lab.client, nobody);
    let in_vain_from = in_vain.local_addr().unwrap().as_socket().unwrap();
    // The greeting has not come: no word of this dialogue is missed.
    let dumb = SocketAddr::from((server_v4(2), lab.port()));
    let listener = tests::server::listen(&lab.server, dumb).unwrap();
    let ungreeted = Session::connect(&lab.client, dumb).unwrap();
    let (greeter, _) = listener.accept().unwrap();
    let written = Instant::now();
    idle.command("RSET", "250").unwrap();
    let answered = Instant::now();
    thread::sleep(Duration::from_secs(2));

    let tracer = start(&lab, iterator, &[]);
    assert!(answered.elapsed() > Duration::from_secs(2));
    let least = answered.elapsed();
    idle.command("RSET", "250").unwrap();
    let most = written.elapsed();
    for _ in 0..3 {
        busy.message(500).unwrap();
    }
    let addresses = [
        idle.local(),
        busy.local(),
        reset.local(),
        left_open.local(),
        half_closed.local(),
        in_vain_from,
        ungreeted.local(),
    ];
    let script = thread::spawn(move || {
        Script::mail_server("220 server.test ESMTP").play(greeter).unwrap();
    });
    let mut ungreeted = ungreeted;
    ungreeted.begin().unwrap();
    ungreeted.message(500).unwrap();
    ungreeted.quit().unwrap();
    script.join().unwrap();
    idle.quit().unwrap();
    busy.quit().unwrap();
    reset.reset().unwrap();
    half_closed.close();
    drop(in_vain);
    let new = begun(&lab.client, lab.server_v4());
    let new_local = new.local();
    new.quit().unwrap();
    let waiting_pid = waiting.pid();
    drop(waiting);
    wait_for_records(&tracer, 8).unwrap();
    let run = tracer.stop_cleanly().unwrap();

    let mut records: HashMap<SocketAddr, &Record> = HashMap::new();
    for record in &run.recording.connections {
        let twice = records.insert(record.client().unwrap(), record);
        assert!(twice.is_none(), "{iterator}: twice: {}", record.json());
    }
    assert_eq!(records.len(), 9, "{iterator}: {records:?}");
    let new = records.remove(&new_local).expect("the connection that was opened later");
    assert_eq!(new.text("seen_from").unwrap(), Some("connect"));
    let [idle, busy, reset, left_open, half_closed, in_vain, ungreeted] =
        addresses.map(|address| records.remove(&address).unwrap_or_else(|| panic!("{address}")));
    let waiting = *records.values().next().unwrap();

    let own_pid = u64::from(std::process::id());
    let own_comm = fs::read_to_string("/proc/self/comm").unwrap();
    let (client, router) = (lab.client.inode().unwrap(), lab.router.inode().unwrap());
    for record in [idle, busy, reset, left_open, half_closed, in_vain, ungreeted, waiting] {
        let json = record.json();
        assert_eq!(record.text("seen_from").unwrap(), Some("midlife"), "{json}");
        assert_eq!(json["dst_is_own"], false, "{json}");
        assert_null(record, &["connect_us", "lifetime_us", "connect_error"]);
        let of_router = [busy, waiting].iter().any(|it| std::ptr::eq(*it, record));
        let netns = if of_router { router } else { client };
        assert_eq!(record.known("netns").unwrap(), netns, "{json}");
        let (pid, comm) = if std::ptr::eq(waiting, record) {
            (waiting_pid, "lab-session")
        } else {
            (own_pid, own_comm.trim_end())
        };
        if std::ptr::eq(left_open, record) && waiting_pid < own_pid {
            continue; // the process ids have started anew
        }
        assert_eq!(
            (record.known("pid").unwrap(), record.text("comm").unwrap()),
            (pid, Some(comm)),
            "{json}"
        );
        assert_eq!(record.owners().unwrap(), [(pid, comm)], "{json}");
        assert_eq!(record.known("uid").unwrap(), 0, "{json}");
    }
    for record in [idle, busy, reset, left_open, half_closed, waiting] {
        assert_null(
            record,
            &["transactions", "transactions_method", "banner_us", "greeting_us", "banner_code"],
        );
    }

    // RSET and QUIT; the gap that ran at the start is whole.
    assert_eq!(idle.known("turns").unwrap(), 2, "{}", idle.json());
    let gaps = idle.field("idle_gaps_us").unwrap().as_array().unwrap();
    let first = Duration::from_micros(gaps[0].as_u64().unwrap());
    // From the answer before to the command after. The kernel keeps the time of the answer in ticks of up to 10 ms.
    let tick = Duration::from_millis(20);
    assert!(
        (least..=most + 2 * tick).contains(&(first + tick)),
        "{least:?} to {most:?}: {}",
        idle.json()
    );
    assert!(idle.known("idle_max_survived_us").unwrap() >= gaps[0].as_u64().unwrap());
    assert_eq!(idle.known("bytes_sent").unwrap(), 12, "{}", idle.json());
    let replies = "250 2.0.0 ok\r\n221 2.0.0 bye\r\n".len() as u64;
    assert_eq!(idle.known("bytes_received").unwrap(), replies, "{}", idle.json());
    assert_eq!(idle.field("replies").unwrap(), &serde_json::json!({"221": 1, "250": 1}));
    assert_eq!(idle.text("tls").unwrap(), Some("none"));
    assert_eq!(idle.text("end_cause").unwrap(), Some("peer_fin"), "{}", idle.json());

    assert_eq!(busy.known("turns").unwrap(), 3 * 4 + 1, "{}", busy.json());
    assert_eq!(busy.field("replies").unwrap(), &serde_json::json!({"221": 1, "250": 9, "354": 3}));
    assert_eq!(busy.text("family").unwrap(), Some("ipv6"));

    assert_eq!(reset.text("end_cause").unwrap(), Some("rst_sent"), "{}", reset.json());
    assert_eq!(reset.text("end_during").unwrap(), Some("idle"), "{}", reset.json());
    assert_eq!(reset.known("turns").unwrap(), 0, "{}", reset.json());

    assert_eq!(left_open.text("end_cause").unwrap(), Some("open"), "{}", left_open.json());
    assert!(left_open.known("end_idle_us").unwrap() > 2_000_000, "{}", left_open.json());

    half_closed.ensure_ending([Some("peer_fin"), None, None]).unwrap();
    assert_null(half_closed, &["end_idle_us"]);
    in_vain.ensure_ending([Some("local_fin"), Some("connect"), None]).unwrap();
    assert_eq!(waiting.text("end_cause").unwrap(), Some("local_fin"), "{}", waiting.json());

    assert_eq!(ungreeted.known("transactions").unwrap(), 1, "{}", ungreeted.json());
    assert_eq!(ungreeted.known("banner_code").unwrap(), 220, "{}", ungreeted.json());
    assert_null(ungreeted, &["banner_us", "greeting_us"]);

    assert!(run.stdout.contains("8 connections of unknown age"), "{}", run.stdout);
}

#[test]
fn filters_apply_to_open_connections() {
    needs!(Links, Tracer);
    let lab = Lab::up().unwrap();
    let other = SocketAddr::from((server_v4(1), lab.port()));
    let _servers = [lab.server_v4(), other].map(|address| serve(&lab.server, address));
    let copy = |name: &str| {
        let copy = lab.file(name);
        fs::copy(env!("CARGO_BIN_EXE_lab-session"), &copy).unwrap();
        copy
    };
    let (plain, renamed) = (copy("lab-session"), copy("other-mta"));
    let wait_as = |program: &Path, user| {
        Waiting::start(&lab.client, program, lab.server_v4(), Stdio::null(), user).unwrap()
    };
    let (named, user) = (wait_as(&renamed, 0), wait_as(&plain, NOBODY));
    let session = Session::connect(&lab.router, other).unwrap();
    let router = lab.router.inode().unwrap().to_string();
    let (named_pid, own_pid) = (named.pid(), u64::from(std::process::id()));
    for iterator in iterators("filters_apply_to_open_connections") {
        for (filter, value, expected) in [
            ("--pid", named_pid.to_string(), named_pid),
            ("--comm", "other-mta".to_owned(), named_pid),
            ("--uid", NOBODY.to_string(), user.pid()),
            ("--netns", router.clone(), own_pid),
            ("--dest", other.ip().to_string(), own_pid),
        ] {
            let run = start(&lab, iterator, &[filter, &value]).stop_cleanly().unwrap();
            let record = run.recording.single().unwrap();
            assert_eq!(record.known("pid").unwrap(), expected, "{iterator} {filter}");
            assert_eq!(record.text("seen_from").unwrap(), Some("midlife"));
        }
    }
    drop((session, named, user));
}

#[test]
fn no_connection_is_missed_or_counted_twice_around_the_start() {
    needs!(Links, Tracer);
    for iterator in iterators(this_test!()) {
        around_the_start(this_test!(), iterator);
    }
}

fn around_the_start(test: &str, iterator: &str) {
    let lab = Lab::up().unwrap();
    let addresses = [0, 1, 2, 3].map(|at| SocketAddr::from((server_v4(at), lab.port())));
    let script = Script::default().then(Step::DrainToEnd);
    let servers = addresses.map(|to| Server::start(&lab.server, to, script.clone()).unwrap());
    let accepted = || servers.iter().map(Server::accepted).sum::<usize>();
    let open = |_| Session::connect(&lab.client, addresses[0]).unwrap();
    let held: Vec<Session> = (0..50).map(open).collect();
    let stop = AtomicBool::new(false);
    let (lives, before, after, tracer) = thread::scope(|scope| {
        let churning = || lab.client.enter(COMM, || churn(&addresses, &stop)).unwrap();
        let threads = [scope.spawn(churning), scope.spawn(churning)];
        let goes_on = || {
            let so_far = accepted();
            wait::until("connections", PATIENCE, || Ok((accepted() > so_far + 200).then_some(())))
        };
        // The threads end even if something fails here.
        let started = goes_on().map(|()| {
            let before = Instant::now();
            let tracer = start(&lab, iterator, &[]);
            (before, Instant::now(), tracer)
        });
        let gone_on = goes_on();
        stop.store(true, Ordering::SeqCst);
        let lives: Vec<Life> = threads.into_iter().flat_map(|it| it.join().unwrap()).collect();
        let (before, after, tracer) = started.unwrap();
        gone_on.unwrap();
        (lives, before, after, tracer)
    });
    let alive = lives.iter().filter(|life| life.until > after).count();
    let recorded = wait_for_records(&tracer, alive);
    let run = tracer.stop().unwrap();
    assert!(run.status.success(), "{}", run.stderr);
    if run.recording.trust("connections_lost").unwrap().is_none() {
        // Runs for sockets that are not traced count too: so nothing can be demanded.
        let reason =
            "this kernel skipped runs of programs, so records may be missing; that is said";
        report_skip(test, Some(iterator), reason);
        return;
    }
    recorded.unwrap();
    run.recording.ensure_complete().unwrap();

    let mut seen: HashMap<Ends, Vec<&str>> = HashMap::new();
    for record in &run.recording.connections {
        let ends = [record.server().unwrap(), record.client().unwrap()];
        seen.entry(ends).or_default().push(record.text("seen_from").unwrap().unwrap());
    }
    let [earlier, across, later] = take_told(&lives, [before, after], &mut seen)
        .unwrap_or_else(|error| panic!("{iterator}: {error:#}"));
    for session in &held {
        let records = seen.remove(&[addresses[0], session.local()]).unwrap_or_default();
        assert_eq!(records, ["midlife"], "{iterator}: {:?}", session.local());
    }
    assert!(seen.is_empty(), "{iterator}: nobody opened {seen:?}");
    assert!(earlier > 100 && later > 100, "{earlier} before the start, {later} after");
    println!("{iterator}: {earlier} before the start, {across} across it, {later} after");
}
