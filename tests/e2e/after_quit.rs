//! What follows QUIT is an ordinary end, whoever closes first, and with a reset or without.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tests::{
    lab::{Lab, server_v4, server_v6},
    needs, report,
    server::{Script, Server, Step},
    session::Session,
    tracer::{self, Tracer},
};

const PATIENCE: Duration = Duration::from_secs(20);

fn answers(last: &str) -> Script {
    Script::default()
        .send("220 mx.test ESMTP\r\n")
        .then(Step::Command)
        .send("250 mx.test\r\n")
        .then(Step::Command)
        .send(last)
}

fn quits(mut session: Session) {
    session.begin().unwrap();
    session.send(b"QUIT\r\n").unwrap();
    session.wait_for_end(PATIENCE).unwrap();
}

fn quits_and_closes(mut session: Session) {
    session.begin().unwrap();
    session.send(b"QUIT\r\n").unwrap();
}

fn waits_for_the_end(mut session: Session) {
    session.begin().unwrap();
    session.send(b"NOOP\r\n").unwrap();
    session.wait_for_end(PATIENCE).unwrap();
}

fn closes(mut session: Session) {
    session.begin().unwrap();
    session.command("NOOP", "250").unwrap();
}

type Case = (&'static str, Script, fn(Session), &'static str, Option<bool>);

#[test]
fn only_ends_without_quit_are_named_by_who_did_them() {
    needs!(Namespaces, Tracer);
    let cases: [Case; 6] = [
        ("the server closes", answers("221 Bye\r\n"), quits, "peer_fin", Some(true)),
        ("it resets", answers("221 Bye\r\n").close_with_reset(), quits, "rst_received", Some(true)),
        (
            "we do not wait",
            answers("").then(Step::DrainToEnd),
            quits_and_closes,
            "local_fin",
            Some(true),
        ),
        (
            "no QUIT: we close",
            answers("250 Ok\r\n").then(Step::DrainToEnd),
            closes,
            "local_fin",
            Some(false),
        ),
        (
            "no QUIT: the server closes",
            answers("250 Ok\r\n"),
            waits_for_the_end,
            "peer_fin",
            Some(false),
        ),
        (
            "no QUIT: it resets",
            answers("250 Ok\r\n").close_with_reset(),
            waits_for_the_end,
            "rst_received",
            Some(false),
        ),
    ];
    let lab = Lab::up().unwrap();
    let address = |at: u8| -> SocketAddr {
        let ip: IpAddr =
            if at.is_multiple_of(2) { server_v6(at / 2).into() } else { server_v4(at / 2).into() };
        SocketAddr::new(ip, lab.port())
    };
    let all: Vec<_> = (0..).map(address).zip(&cases).collect();
    let _servers: Vec<_> = all
        .iter()
        .map(|(at, case)| Server::start(&lab.server, *at, case.1.clone()).unwrap())
        .collect();
    let tracer = Tracer::start(&lab).unwrap();
    for (at, case) in &all {
        (case.2)(Session::connect(&lab.client, *at).unwrap());
    }
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    for (at, (name, _, _, cause, quit)) in &all {
        let records = run.recording.connections.iter();
        let record = records.clone().find(|it| it.server().unwrap() == *at).unwrap();
        println!("{name}: {}", record.json());
        assert_eq!(record.text("end_cause").unwrap(), Some(*cause), "{name}: {}", record.json());
        assert_eq!(record.field("end_quit").unwrap().as_bool(), *quit, "{name}: {}", record.json());
    }
    let arguments = |format: &'static str| {
        let arguments =
            ["report".as_ref(), run.file.as_os_str(), "--format".as_ref(), format.as_ref()];
        String::from_utf8(tracer::command(arguments).unwrap().stdout).unwrap()
    };
    let report = report::parse(&arguments("json")).unwrap();
    for (at, (name, .., cause, quit)) in &all {
        let destination = report::destination(&report, &at.ip().to_string()).unwrap();
        let after = destination["after_quit"].get(*cause).and_then(serde_json::Value::as_u64);
        assert_eq!(after, (*quit == Some(true)).then_some(1), "{name}: {destination:#}");
        let died = *cause == "rst_received" && *quit == Some(false);
        assert_eq!(destination["died"], u64::from(died), "{name}: {destination:#}");
    }
    let text = arguments("text");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let endings = words.split("How they ended").nth(1).unwrap();
    let times = |said: &str| endings.matches(said).count();
    let said =
        ["closed after QUIT", "closed by us", "closed by the server", "reset by the other side"];
    assert_eq!(said.map(times), [3, 1, 1, 1], "{text}");
}
