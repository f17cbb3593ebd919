//! `smtptrace check` and `--fail-on`: exit status, and output as monitoring plugins give it.

use std::{fs, process::Output, time::Duration};

use tests::{
    lab::Lab,
    needs,
    server::{Script, Server, Step},
    session::Session,
    tracer::{self, Run, Tracer},
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Two connections, one with three messages and one with a single one; greetings after 0.3 s.
fn trace(lab: &Lab) -> Run {
    let pause = Duration::from_millis(300);
    let slow = Script::default().pause(pause).send("220 server.test ESMTP\r\n").then(Step::Serve);
    let _server = Server::start(&lab.server, lab.server_v4(), slow).unwrap();
    let tracer = Tracer::start(lab).unwrap();
    for messages in [3, 1] {
        let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
        session.begin().unwrap();
        (0..messages).for_each(|_| session.message(300).unwrap());
        session.quit().unwrap();
    }
    lab.wait_for_ends(PATIENCE).unwrap();
    tracer.stop_cleanly().unwrap()
}

fn check(arguments: &[&str]) -> (i32, String) {
    let output = tracer::command([&["check"], arguments].concat()).unwrap();
    (output.status.code().unwrap(), stdout(&output))
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Value of a label among the performance data, with its unit and levels.
fn datum<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let (_, data) = text.lines().next()?.split_once(" | ")?;
    let quoted = format!("'{label}'=");
    data.split(' ').find_map(|datum| datum.strip_prefix(&quoted))
}

#[test]
fn exit_status_and_output() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let run = trace(&lab);
    let file = run.file.to_str().unwrap();

    // Two of four messages needed no new connection.
    let (code, text) = check(&["--min-reuse", "50%", file]);
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("SMTPTRACE OK - "), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_eq!(datum(&text, "reuse"), Some("50%;;50:;0;100"), "{text}");
    assert_eq!(datum(&text, "messages"), Some("4;;;0"), "{text}");
    let (code, text) = check(&["--min-reuse", "60%,10%", file]);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.starts_with("SMTPTRACE WARNING - messages reused 50.0 % is below 60.0 %"),
        "{text}"
    );
    assert_eq!(datum(&text, "reuse"), Some("50%;60:;10:;0;100"), "{text}");

    let nagios = |arguments: &[&str]| check(&[&["--nagios", file], arguments].concat());
    assert_eq!(nagios(&["--min-reuse", "60%,10%"]).0, 1);
    assert_eq!(nagios(&["--min-reuse", "60%"]).0, 2);
    assert_eq!(nagios(&["--min-reuse", "0.5"]).0, 0);
    let (code, text) = nagios(&["--max-greeting-p99", "100ms,10s", "--min-reuse", "10%"]);
    assert_eq!(code, 1, "{text}");
    let greeting = datum(&text, "greeting_p99").unwrap();
    let seconds: f64 = greeting.split_once("s;").unwrap().0.parse().unwrap();
    assert!((0.29..2.0).contains(&seconds) && greeting.ends_with("s;0.1;10;0"), "{text}");

    // One destination, each destination, and one that is not there.
    let (code, text) = check(&["--each", "--min-connections", "1", "--min-reuse", "60%", file]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("10.71.2.2: messages reused 50.0 %"), "{text}");
    assert_eq!(datum(&text, "reuse_10.71.2.2"), Some("50%;;60:;0;100"), "{text}");
    let (code, text) = nagios(&["--destination", "192.0.2.9", "--min-reuse", "60%"]);
    assert_eq!(code, 3, "{text}");
    assert!(text.starts_with("SMTPTRACE UNKNOWN - "), "{text}");

    // A report gives what its recording gives.
    let saved = lab.file("report.json");
    let report = ["report", "--format", "json", "--output", saved.to_str().unwrap(), file];
    assert!(tracer::command(report).unwrap().status.success());
    let of_report = check(&["--min-reuse", "60%", saved.to_str().unwrap()]);
    assert_eq!(of_report, check(&["--min-reuse", "60%", file]));
}

#[test]
fn errors_are_not_critical_to_a_plugin() {
    needs!(Tracer);
    let missing = "/nonexistent/recording.jsonl";
    for arguments in [
        &["check", "--nagios", "--min-reuse", "50%", missing][..],
        &["check", "--nagios", "--min-reuse", "half", missing],
        &["check", "--nagios", missing],
        &["check", "--nagios", "--no-such-flag"],
    ] {
        let output = tracer::command(arguments).unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(stdout(&output).starts_with("SMTPTRACE UNKNOWN - "), "{output:?}");
        let without = arguments.iter().filter(|argument| **argument != "--nagios");
        let output = tracer::command(without).unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn verdicts_decide_the_status_of_a_report_and_of_a_trace() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let run = trace(&lab);
    // Without its last line a recording may lack connections: a verdict of severity warning.
    let cut = lab.file("cut.jsonl");
    let text = fs::read_to_string(&run.file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    fs::write(&cut, format!("{}\n", lines[..lines.len() - 1].join("\n"))).unwrap();
    let cut = cut.to_str().unwrap();
    for format in ["text", "json", "jsonl"] {
        for (severity, code) in [("info", 1), ("warning", 1), ("critical", 0)] {
            let report = ["report", "--format", format, "--fail-on", severity, cut];
            let output = tracer::command(report).unwrap();
            assert_eq!(output.status.code(), Some(code), "{format} {severity}: {output:?}");
            assert!(!output.stdout.is_empty(), "it is printed all the same");
        }
    }
    let (code, text) = check(&["--nagios", "--fail-on", "warning", cut]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("evidence_incomplete"), "{text}");

    // A trace that has room for one connection loses the second.
    let script = Script::mail_server("220 server.test ESMTP");
    let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
    let room = ["--max-connections", "1", "--fail-on", "warning"];
    let tracer = Tracer::start_with(&lab, &room).unwrap();
    let sessions: Vec<Session> =
        (0..2).map(|_| Session::connect(&lab.client, lab.server_v4()).unwrap()).collect();
    drop(sessions);
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop().unwrap();
    assert_eq!(run.status.code(), Some(1), "{}", run.stderr);
    assert!(run.stdout.contains("evidence_incomplete"), "{}", run.stdout);
}
