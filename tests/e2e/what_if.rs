//! `smtptrace what-if` against what really happens: clients and Postfix with the setting changed.

use std::{
    cmp, fs, mem, thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::{
    attempt,
    capture::Capture,
    comparison::{self, Times},
    flow::{ClosingFlag, Direction, Flow},
    lab::Lab,
    needs,
    postfix::{self, Postfix, Starttls},
    server::{Script, Server},
    session::{COMM, Session, SocketKind},
    tracer::{self, Run, Tracer},
};

const PATIENCE: Duration = Duration::from_secs(15);

/// The answer of what-if on a recording, for the only destination.
fn what_if(run: &Run, arguments: &[&str]) -> Value {
    let file = run.file.to_str().unwrap();
    let arguments = [&["what-if", "--format", "json", file], arguments].concat();
    let output = tracer::command(arguments).unwrap();
    assert!(output.status.success(), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["destinations"][0].clone()
}

/// Connections that another one could have spared, as the report says.
fn missed_reuse(run: &Run) -> u64 {
    let file = run.file.to_str().unwrap();
    let output = tracer::command(["report", "--format", "json", file]).unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["totals"]["missed_reuse"].as_u64().unwrap_or_else(|| panic!("{report}"))
}

/// The outcome of one policy.
fn policy(answer: &Value, cache_time_s: f64) -> &Value {
    let policies = answer["policies"].as_array().unwrap();
    let found = policies.iter().find(|it| it["cache_time_s"].as_f64() == Some(cache_time_s));
    found.unwrap_or_else(|| panic!("no policy of {cache_time_s} s in {answer}"))
}

fn observed(answer: &Value) -> u64 {
    answer["observed"]["connections"].as_u64().unwrap()
}

/// Fails unless the replay of what ran is within 2 % of what was observed.
fn check_that_it_reproduces(answer: &Value) {
    let ran = &answer["as_it_ran"];
    assert_eq!(ran["reproduces"], true, "{answer}");
    let replayed = ran["connections"].as_f64().unwrap();
    let observed = observed(answer) as f64;
    assert!((replayed - observed).abs() <= 0.02 * observed, "{ran} against {observed}");
}

/// A pool of connections, as a mail server keeps them: of several idle ones the one stored first is
/// taken, and one that has been idle for `keep` is closed.
struct Pool<'a> {
    lab: &'a Lab,
    keep: Duration,
    idle: Vec<(Instant, Session)>,
    opened: u64,
}

impl Pool<'_> {
    fn expire(&mut self) {
        let keep = self.keep;
        // Dropping a session closes it.
        self.idle.retain(|(since, _)| since.elapsed() < keep);
    }

    fn take(&mut self) -> Session {
        self.expire();
        if self.idle.is_empty() {
            self.opened += 1;
            let to = self.lab.server_v4();
            let session = self.lab.client.enter(COMM, || {
                let mut session = Session::connect_here(to, SocketKind::Native, |_| Ok(()))?;
                session.begin()?;
                Ok(session)
            });
            return session.unwrap();
        }
        self.idle.remove(0).1
    }

    fn put_back(&mut self, session: Session) {
        self.idle.push((Instant::now(), session));
    }
}

/// A gap, and a limit of the pool, that lasts for so much longer than it should may come to another outcome: gaps and
/// limits are farther apart.
const LATE: Duration = Duration::from_millis(100);

/// Sends messages, some of them together, each time after a gap without any, through a pool that keeps
/// connections for `keep`. Returns the connections that it opened, and how often the clock of the client says that
/// it was late. Gaps run from the end of the messages before, so that a machine that is slow for a while does not shorten them.
fn send(lab: &Lab, gaps: &[(Duration, usize)], keep: Duration) -> (u64, u64) {
    let mut pool = Pool { lab, keep, idle: Vec::new(), opened: 0 };
    let mut late = 0;
    let mut check = |what: &str, since: Instant, meant: Duration| {
        if since.elapsed() > meant + LATE {
            println!("disturbed: {what} took {:?} instead of {meant:?}", since.elapsed());
            late += 1;
        }
    };
    let mut begun = Instant::now();
    for &(gap, together) in gaps {
        let start = Instant::now();
        // Connections are closed on time, not only when the next message comes.
        while start.elapsed() < gap {
            let nap = Instant::now();
            thread::sleep(Duration::from_millis(5).min(gap.saturating_sub(start.elapsed())));
            pool.expire();
            check("a nap", nap, Duration::ZERO);
        }
        let last = mem::replace(&mut begun, Instant::now());
        let mut taken: Vec<Session> = (0..together).map(|_| pool.take()).collect();
        // All of them are begun before the first is done.
        for line in ["MAIL FROM:<a@client.test>", "RCPT TO:<b@server.test>"] {
            for session in &mut taken {
                session.command(line, "250").unwrap();
            }
        }
        // From the messages before to these, whichever side was late.
        check("messages and a gap", last, gap);
        for session in &mut taken {
            session.command("DATA", "354").unwrap();
            session.command("Subject: test\r\n\r\ntext\r\n.", "250").unwrap();
        }
        for session in taken {
            pool.put_back(session);
        }
    }
    thread::sleep(keep + Duration::from_millis(20));
    pool.expire();
    (pool.opened, late)
}

/// How many messages are sent together, at most.
const AT_ONCE: u64 = 3;

/// Gaps of 150, 400 and 700 ms in an order that repeats only after a while, then one to three messages.
fn schedule() -> Vec<(Duration, usize)> {
    let gaps = [150, 700, 150, 400, 700, 700, 400, 150].map(Duration::from_millis);
    let together = [1, 2, 1, 3, 1, 2, 1];
    (0..40).map(|i| (gaps[i % gaps.len()], together[i % together.len()])).collect()
}

#[test]
fn a_pool_with_the_setting_changed_does_as_foretold() {
    needs!(Namespaces, Tracer);
    attempt::go_first();
    let lab = Lab::up().unwrap();
    let script = Script::mail_server("220 server.test ESMTP");
    let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
    let messages: u64 = schedule().iter().map(|(_, together)| *together as u64).sum();
    // Far from the gaps, which are 150, 400 and 700 ms.
    let keeps = [20, 270, 530, 2_000].map(Duration::from_millis);
    let times = "20ms,270ms,530ms,2s";
    let run = |keep| {
        let tracer = Tracer::start(&lab).unwrap();
        let (opened, late) = send(&lab, &schedule(), keep);
        lab.wait_for_ends(PATIENCE).unwrap();
        let run = tracer.stop_cleanly().unwrap();
        assert_eq!(run.recording.connections.len() as u64, opened);
        (opened, what_if(&run, &["--cache-time", times]), late)
    };
    // One that was late is made again, three times at most; the least late one counts.
    let runs: Vec<(u64, Value, u64)> = keeps
        .iter()
        .map(|&keep| {
            let mut best = run(keep);
            for _ in 1..3 {
                if best.2 > 0 {
                    best = cmp::min_by_key(best, run(keep), |it| it.2);
                }
            }
            best
        })
        .collect();
    let opened: Vec<u64> = runs.iter().map(|(opened, ..)| *opened).collect();
    println!("connections with 20, 270, 530 and 2000 ms: {opened:?} for {messages} messages");
    assert!(opened.is_sorted_by(|a, b| a > b), "the settings make a difference: {opened:?}");

    let (opened_longest, longest, longest_late) = &runs[3];
    for ((opened, answer, late), keep) in runs.iter().zip(keeps) {
        // As many connections at most as are used at once are another number for each time that the client was late.
        let [own, both] = [*late, late + longest_late].map(|late| AT_ONCE * late);
        assert_eq!(answer["messages"]["replayed"], messages, "{answer}");
        assert_eq!(observed(answer), *opened);
        if own == 0 {
            check_that_it_reproduces(answer);
        }
        let replayed = answer["as_it_ran"]["connections"].as_f64().unwrap();
        // From the run in which every gap was survived, each other run is foretold.
        let foretold =
            policy(longest, keep.as_secs_f64())["known"]["connections"].as_f64().unwrap();
        let real = *opened as f64;
        for (told, allowed) in [(replayed, own), (foretold, both)] {
            assert!(
                (told - real).abs() <= 0.02 * real + allowed as f64,
                "{keep:?}: {told} told, {real} real, {allowed} allowed"
            );
        }
        // From every run, as far as the path is known; and if it survives more, all of it.
        let possible = policy(answer, 2.0)["if_path_survives"]["connections"].as_u64().unwrap();
        assert!(
            possible.abs_diff(*opened_longest) <= 1 + both,
            "{possible} for {opened_longest}: {answer}"
        );
        let known = policy(answer, 2.0)["known"]["connections"].as_u64().unwrap();
        assert!(known <= *opened, "{answer}");
    }
}

/// Starts a Postfix with these settings of its cache, sends each mail three seconds after the delivery of the one before,
/// and returns what was recorded; with `survivor`, also a session that idles for all that time and is then used again.
///
/// Made again if Postfix said QUIT to a connection that it had kept, and the server closed first: then nothing but the
/// capture shows that it was Postfix who ended it.
fn postfix_run(cache: &[(&str, &str)], mails: usize, survivor: bool) -> Run {
    let run = || {
        let (run, times) = disturbed_postfix_run(cache, mails, survivor);
        if times == Times::Disturbed {
            fs::remove_file(&run.file)?;
        }
        Ok((times, run))
    };
    comparison::undisturbed(run).unwrap()
}

fn is_kept_from_closing(flow: &Flow) -> bool {
    let by_server = flow.first_closing() == Some((Direction::FromServer, ClosingFlag::Fin));
    let last_idle = flow.last_write().and_then(|write| flow.idle_before(write));
    by_server && last_idle > Some(1_000_000_000)
}

fn disturbed_postfix_run(cache: &[(&str, &str)], mails: usize, survivor: bool) -> (Run, Times) {
    let lab = Lab::up().unwrap();
    let _receiver = Postfix::receiver(&lab, lab.server_v4(), Starttls::Offered).unwrap();
    let settings =
        [cache, &[("smtp_tls_security_level", "may"), ("smtp_tls_connection_reuse", "yes")]]
            .concat();
    let sender = Postfix::sender(&lab, lab.server_v4(), &settings).unwrap();
    let capture = Capture::start(&lab.client, "c0", lab.port(), &lab.file("c0.pcap")).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    let idler = survivor.then(|| {
        let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
        session.begin().unwrap();
        session
    });
    for i in 0..mails {
        if i > 0 {
            thread::sleep(Duration::from_secs(3));
        }
        postfix::submit(&lab, 1, 500).unwrap();
        sender.wait_for_deliveries(i + 1, PATIENCE).unwrap();
    }
    if let Some(mut session) = idler {
        // A path that let this one live for so long is known to survive it.
        session.command("NOOP", "250").unwrap();
        session.quit().unwrap();
    }
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let deliveries = sender.deliveries().unwrap();
    assert!(deliveries.iter().all(|it| it.status == "sent"), "{deliveries:?}");
    assert_eq!(deliveries.len(), mails);
    let mut times = Times::Agree;
    if let Some(late) = capture.stop().unwrap().iter().find(|it| is_kept_from_closing(it)) {
        attempt::disturbed(&format!("Postfix said QUIT, and the server closed first: {late:?}"));
        times = Times::Disturbed;
    }
    if let Some(late) = deliveries.iter().find(|it| it.delays.iter().sum::<f64>() > 1.0) {
        attempt::disturbed(&format!("Postfix took more than a second for a mail: {late:?}"));
    }
    // The lab, with the recording, is about to be removed.
    let kept = std::env::temp_dir().join(format!("what-if-{}-{}", std::process::id(), lab.port()));
    fs::copy(&run.file, &kept).unwrap();
    (Run { file: kept, ..run }, times)
}

const MAILS: usize = 6;
const ALWAYS: (&str, &str) = ("smtp_connection_cache_destinations", "static:all");
const ONE: (&str, &str) = ("smtp_destination_concurrency_limit", "1");

#[test]
fn postfix_with_the_setting_changed_does_as_foretold() {
    needs!(Namespaces, Tracer, Postfix, Openssl, Tcpdump);
    let short = postfix_run(&[ALWAYS, ONE], MAILS, true); // two seconds, the default
    let long = [
        ALWAYS,
        ONE,
        ("smtp_connection_cache_time_limit", "8s"),
        ("connection_cache_ttl_limit", "8s"),
    ];
    let long = postfix_run(&long, MAILS, false);

    // All but the first came soon after one that Postfix had closed itself; none with a longer time.
    assert_eq!(missed_reuse(&short), MAILS as u64 - 1);
    assert_eq!(missed_reuse(&long), 0);
    let answer = what_if(&short, &["--cache-time", "2s,8s"]);
    fs::remove_file(&short.file).unwrap();
    assert_eq!(answer["messages"]["replayed"], MAILS as u64, "{answer}");
    assert_eq!(observed(&answer), MAILS as u64, "mails come every three seconds: {answer}");
    check_that_it_reproduces(&answer);
    let ran = answer["as_it_ran"]["cache_time_s"].as_f64().unwrap();
    assert!((1.0..=2.5).contains(&ran), "the cache time that ran: {answer}");
    assert!(answer["path"]["bridged_s"].as_f64().unwrap() > 4.0, "{answer}");
    let kept = &policy(&answer, 8.0)["known"];

    let real = what_if(&long, &["--cache-time", "2s,8s"]);
    fs::remove_file(&long.file).unwrap();
    assert_eq!(observed(&real), 1, "{real}");
    assert_eq!(kept["connections"], 1, "foretold what then happened: {answer}");
    assert_eq!(kept["saved_connections"], MAILS as u64 - 1, "{answer}");
    assert_eq!(kept["saved_tls_handshakes"], MAILS as u64 - 1, "{answer}");
    check_that_it_reproduces(&real);
    // And back: what ran for eight seconds says what two would have done.
    assert_eq!(policy(&real, 2.0)["known"]["connections"], MAILS as u64, "{real}");
    // The time saved is that of the set-ups that were measured.
    let set_up_us = answer["set_up"]["total_us"].as_f64().unwrap();
    let saved = kept["saved_s"].as_f64().unwrap();
    assert!((saved - (MAILS - 1) as f64 * set_up_us / 1e6).abs() < 1e-6, "{answer}");
}

/// A run without a cache. On a busy machine Postfix may be kept from its QUIT for longer than a client takes that does not
/// keep its connection: that says nothing of the replay, and such a run is made again, three times at most.
fn run_without_cache() -> Run {
    let run = || postfix_run(&[("smtp_connection_cache_on_demand", "no")], 3, false);
    let is_disturbed = |run: &Run| {
        run.recording.connections.iter().any(|record| {
            let record = record.json();
            let spans = record["transaction_spans_us"].as_array().unwrap();
            let last_end = spans.last().map_or(0, |span| span[1].as_u64().unwrap());
            record["lifetime_us"].as_u64().unwrap().saturating_sub(last_end) > 100_000
        })
    };
    let mut made = run();
    for _ in 1..3 {
        if is_disturbed(&made) {
            fs::remove_file(&made.file).unwrap();
            made = run();
        }
    }
    made
}

#[test]
fn postfix_without_cache_is_reproduced() {
    needs!(Namespaces, Tracer, Postfix, Openssl, Tcpdump);
    let kept = [
        ALWAYS,
        ONE,
        ("smtp_connection_cache_time_limit", "5s"),
        ("connection_cache_ttl_limit", "5s"),
    ];
    let (without, with_cache) = thread::scope(|scope| {
        let with_cache = scope.spawn(|| postfix_run(&kept, 3, false));
        let without = run_without_cache();
        (without, with_cache.join().unwrap())
    });
    let answer = what_if(&without, &["--cache-time", "0,60s"]);
    assert_eq!((observed(&answer), &answer["as_it_ran"]["kept_share"]), (3, &Value::from(0.0)));
    check_that_it_reproduces(&answer);
    assert_eq!(policy(&answer, 0.0)["known"]["connections"], 3);
    // Nothing idled, so nothing is known of the path, and nothing is promised.
    assert_eq!(policy(&answer, 60.0)["known"]["saved_connections"], 0, "{answer}");
    let foretold = &policy(&answer, 60.0)["if_path_survives"];
    assert_eq!(foretold["saved_connections"], 2, "{answer}");
    assert_eq!(missed_reuse(&without), 2);
    // As it is when the cache is really on.
    let real = what_if(&with_cache, &["--cache-time", "60s"]);
    assert_eq!(foretold["connections"], observed(&real), "{answer} {real}");
    assert_eq!(missed_reuse(&with_cache), 0);
    for run in [without, with_cache] {
        fs::remove_file(&run.file).unwrap();
    }
}

#[test]
fn a_report_cannot_be_replayed() {
    needs!(Tracer);
    let directory = std::env::temp_dir();
    let file = directory.join(format!("what-if-report-{}.json", std::process::id()));
    fs::write(&file, "{\n  \"kind\": \"report\",\n  \"schema\": 99\n}\n").unwrap();
    let output = tracer::command(["what-if", file.to_str().unwrap()]).unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("schema 99"), "{message}");
}
