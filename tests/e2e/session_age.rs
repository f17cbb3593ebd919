//! Servers that end sessions at an age, after a number of messages, or when they idle: which of these it is.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    sync::mpsc::{self, Sender},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::{
    lab::{Lab, server_v4, server_v6},
    limited::{Limit, LimitedServer},
    needs, report,
    server::listen,
    session::Session,
    tracer::Tracer,
};

/// Sessions to each server.
const SESSIONS: usize = 7;
const AGE: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(2);

/// When a server ends a session.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    /// At [`AGE`], with these words before the FIN.
    AtAge(&'static str),
    /// After [`IDLE`] without a command.
    WhenIdle,
}

/// Answers commands until the session ends, and tells how old it was.
fn serve(stream: TcpStream, ends: Ends, ages: &Sender<Duration>) -> std::io::Result<()> {
    let begin = Instant::now();
    let mut reader = BufReader::new(stream);
    reader.get_mut().write_all(b"220 aged.test ESMTP\r\n")?;
    let (mut body, mut line) = (false, Vec::new());
    loop {
        let left = match ends {
            Ends::AtAge(_) => AGE.saturating_sub(begin.elapsed()),
            Ends::WhenIdle => IDLE,
        };
        reader.get_mut().set_read_timeout(Some(left.max(Duration::from_micros(1))))?;
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(()),
            Ok(_) if !line.ends_with(b"\n") => continue,
            Ok(_) => {}
            Err(_) => break, // it is time
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        let reply = match text.split(' ').next().unwrap_or_default() {
            "." => {
                body = false;
                "250 2.0.0 queued"
            }
            _ if body => continue,
            "DATA" => {
                body = true;
                "354 go on"
            }
            "QUIT" => "221 2.0.0 bye",
            _ => "250 2.0.0 ok",
        };
        reader.get_mut().write_all(format!("{reply}\r\n").as_bytes())?;
        if text == "QUIT" {
            return Ok(());
        }
    }
    if let Ends::AtAge(words) = ends {
        reader.get_mut().write_all(words.as_bytes())?;
    }
    let _ = ages.send(begin.elapsed()); // the test may have seen enough
    Ok(())
}

/// Listens on `at`; returns where the ages of sessions that it ended come.
fn start(lab: &Lab, at: SocketAddr, ends: Ends) -> mpsc::Receiver<Duration> {
    let listener = listen(&lab.server, at).unwrap();
    let (ages, seen) = mpsc::channel();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let ages = ages.clone();
            thread::spawn(move || serve(stream, ends, &ages));
        }
    });
    seen
}

/// Hands over a message every `pace`, `most` at most, until the server has closed.
fn send(lab: &Lab, to: SocketAddr, pace: Duration, most: usize) {
    let mut session = Session::connect(&lab.client, to).unwrap();
    session.begin().unwrap();
    for _ in 0..most {
        if session.message(200).is_err() {
            return;
        }
        thread::sleep(pace);
    }
    session.wait_for_end(Duration::from_secs(20)).unwrap();
}

fn on<'a>(report: &'a Value, key: &str) -> Vec<(&'a str, &'a Value)> {
    let verdicts = report["verdicts"].as_array().unwrap();
    let mine = verdicts.iter().filter(|it| it["destination"] == key);
    mine.map(|it| (it["code"].as_str().unwrap(), it)).collect()
}

fn with_code<'a>(report: &'a Value, key: &str, code: &str) -> &'a Value {
    let mine = on(report, key);
    let found = mine.iter().find(|(name, _)| *name == code);
    found.unwrap_or_else(|| panic!("no {code} in {mine:#?}")).1
}

fn ensure_lacks(report: &Value, key: &str, codes: &[&str]) {
    let mine = on(report, key);
    let wrong: Vec<_> = mine.iter().filter(|(name, _)| codes.contains(name)).collect();
    assert!(wrong.is_empty(), "{key}: {wrong:#?}");
}

#[test]
fn age_number_and_idleness_are_told_apart() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let v4 = |n| SocketAddr::from((server_v4(n), lab.port()));
    let v6 = SocketAddr::from((server_v6(0), lab.port()));
    let farewell = "421 aged.test Session too old, please come again\r\n";
    let ages = start(&lab, v4(0), Ends::AtAge(""));
    let told = start(&lab, v6, Ends::AtAge(farewell));
    let steady = start(&lab, v4(1), Ends::AtAge(""));
    let idle = start(&lab, v4(2), Ends::WhenIdle);
    let _number = LimitedServer::start(&lab.server, v4(3), Limit::Messages(4)).unwrap();

    let tracer = Tracer::start_with(&lab, &["--format", "json"]).unwrap();
    thread::scope(|scope| {
        let lab = &lab;
        for n in 0..SESSIONS {
            // None has a message on its way when the server closes.
            let different = Duration::from_millis(370 + 200 * n as u64);
            scope.spawn(move || send(lab, v4(0), different, 99));
            scope.spawn(move || send(lab, v6, different, 99));
            // 0.8 s after the last of five messages.
            scope.spawn(move || send(lab, v4(1), Duration::from_millis(1_050), 5));
            scope.spawn(move || send(lab, v4(2), Duration::ZERO, 1));
            scope.spawn(move || send(lab, v4(3), different, 99));
        }
    });
    lab.wait_for_ends(Duration::from_secs(10)).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let report = report::parse(&run.stdout).unwrap();

    for (key, ages) in [("10.71.2.2", &ages), ("fd71:2::2", &told), ("10.71.2.3", &steady)] {
        let truth: Vec<Duration> = ages.try_iter().collect();
        assert_eq!(truth.len(), SESSIONS, "{key}");
        let verdict = with_code(&report, key, "session_age_limit");
        let evidence = &verdict["evidence"];
        let seconds = |name: &str| evidence[name].as_f64().unwrap();
        let [youngest, oldest] =
            [truth.iter().min(), truth.iter().max()].map(|it| it.unwrap().as_secs_f64());
        // The server counts from accept(2), the record from the SYN.
        assert!(
            (youngest - 0.01..oldest + 0.25).contains(&seconds("age_s")),
            "{verdict:#} {truth:?}"
        );
        // A message may be on its way when the server closes: that end is another one.
        let closed = evidence["closed_at_age"].as_u64().unwrap();
        assert!((5..=SESSIONS as u64).contains(&closed), "{verdict:#}");
        assert_eq!(evidence["closed"], closed, "{verdict:#}");
        ensure_lacks(&report, key, &["message_limit", "idle_closed_by_server"]);
        let sure = if key == "10.71.2.3" { "medium" } else { "high" };
        assert_eq!(verdict["confidence"], sure, "{verdict:#}");
    }
    assert_eq!(idle.try_iter().count(), SESSIONS);
    with_code(&report, "10.71.2.4", "idle_closed_by_server");
    ensure_lacks(&report, "10.71.2.4", &["message_limit", "session_age_limit"]);
    let number = with_code(&report, "10.71.2.5", "message_limit");
    assert_eq!(number["evidence"]["limit"], 4, "{number:#}");
    ensure_lacks(&report, "10.71.2.5", &["session_age_limit"]);
}
