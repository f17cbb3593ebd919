//! Pauses in which somebody waits for an answer, or for the rest of one: nobody is idle then.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use tests::{
    capture::Capture,
    comparison::{self, Pair},
    flow::{Flow, Nanos},
    lab::{Lab, server_v4, server_v6},
    needs,
    recording::Record,
    report,
    server::{Script, Server, Step},
    session::Session,
    tracer::{self, Tracer},
};

const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(1_300);

/// One session: what the server does, what the client writes after EHLO, and what the end is.
struct Play {
    name: &'static str,
    server: Script,
    client: fn(&mut Session),
    /// Cause, moment, suspect.
    end: [Option<&'static str>; 3],
    /// The idle time that belongs to the end.
    idle: Option<Duration>,
}

/// A server that offers these extensions.
fn offering(extensions: &[&str]) -> Script {
    let mut lines: Vec<_> = ["mx.test"].iter().chain(extensions).copied().collect();
    let last = lines.pop().unwrap_or_default();
    let ehlo = lines.iter().fold(String::new(), |ehlo, line| ehlo + "250-" + line + "\r\n");
    greeting().then(Step::Command).send(&format!("{ehlo}250 {last}\r\n"))
}

fn greeting() -> Script {
    Script::default().send("220 mx.test ESMTP\r\n")
}

fn reads(script: Script, lines: usize) -> Script {
    (0..lines).fold(script, |script, _| script.then(Step::Command))
}

/// Sends `reply` byte by byte.
fn drips(script: Script, reply: &str, every: Duration) -> Script {
    reply.bytes().fold(script, |script, byte| script.pause(every).then(Step::Send(vec![byte])))
}

const GROUP: &[u8] =
    b"MAIL FROM:<a@client.test>\r\nRCPT TO:<b@mx.test>\r\nRCPT TO:<c@mx.test>\r\nDATA\r\n";

fn writes_a_group(session: &mut Session) {
    session.begin().unwrap();
    session.send(GROUP).unwrap();
    session.wait_for_end(PATIENCE).unwrap();
}

#[expect(clippy::too_many_lines, reason = "a list of plays")]
fn waiting() -> Vec<Play> {
    let pipelining = || reads(offering(&["SIZE 10240000", "PIPELINING"]), 4);
    let peer = |cause| [Some(cause), Some("dialogue"), Some("peer")];
    vec![
        Play {
            name: "half of the group is answered, then the server closes",
            server: pipelining().send("250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n").pause(PAUSE),
            client: writes_a_group,
            end: peer("peer_fin"),
            idle: None,
        },
        Play {
            name: "one answer to an envelope with its chunk, then a reset",
            server: reads(offering(&["PIPELINING", "CHUNKING"]), 4)
                .send("250 2.1.0 Ok\r\n")
                .pause(PAUSE)
                .close_with_reset(),
            client: |session| {
                session.begin().unwrap();
                let chunk = b"MAIL FROM:<a@client.test>\r\nRCPT TO:<b@mx.test>\r\nBDAT 9 LAST\r\nSubject\r\n";
                session.send(chunk).unwrap();
                assert!(session.wait_for_end(PATIENCE).unwrap().is_some());
            },
            end: peer("rst_received"),
            idle: None,
        },
        Play {
            name: "only the RSET before the group is answered, then the client gives up",
            server: reads(offering(&["PIPELINING"]), 5)
                .send("250 2.0.0 Ok\r\n")
                .then(Step::DrainToEnd),
            client: |session| {
                session.begin().unwrap();
                session.send(&[b"RSET\r\n", GROUP].concat()).unwrap();
                session.reply().unwrap();
                thread::sleep(PAUSE);
            },
            end: [Some("local_fin"), Some("dialogue"), None],
            idle: None,
        },
        Play {
            name: "one answer to a group, then the client gives up with QUIT",
            server: pipelining()
                .send("250 2.1.0 Ok\r\n")
                .then(Step::Command)
                .send("250 2.1.5 Ok\r\n421 4.3.0 closing\r\n"),
            client: |session| {
                session.begin().unwrap();
                session.send(GROUP).unwrap();
                session.reply().unwrap();
                thread::sleep(PAUSE);
                session.send(b"QUIT\r\n").unwrap();
                session.wait_for_end(PATIENCE).unwrap();
            },
            end: peer("peer_fin"),
            idle: None,
        },
        Play {
            name: "a reply that drips, and a close behind its end",
            server: drips(
                reads(offering(&[]), 1).send("250 Ok\r\n").then(Step::Command),
                "451 4.3.0 later\r\n",
                Duration::from_millis(150),
            ),
            client: |session| {
                session.begin().unwrap();
                session.command("MAIL FROM:<a@client.test>", "250").unwrap();
                session.command("RCPT TO:<b@mx.test>", "451").unwrap();
                session.wait_for_end(PATIENCE).unwrap();
            },
            end: peer("peer_fin"),
            idle: None,
        },
        Play {
            name: "a reply that ends in the middle of its line",
            server: reads(offering(&[]), 1).send("250 O").pause(PAUSE),
            client: |session| {
                session.begin().unwrap();
                session.send(b"NOOP\r\n").unwrap();
                session.wait_for_end(PATIENCE).unwrap();
            },
            end: peer("peer_fin"),
            idle: None,
        },
        Play {
            name: "replies that come apart from each other, and a close behind the last",
            server: ["250 2.1.0 Ok", "250 2.1.5 Ok", "450 4.2.0 later", "421 4.3.0 closing"]
                .iter()
                .fold(pipelining(), |script, reply| {
                    script.pause(Duration::from_millis(600)).send(&format!("{reply}\r\n"))
                }),
            client: writes_a_group,
            end: peer("peer_fin"),
            idle: None,
        },
        Play {
            name: "a body that the server asked for and did not get",
            server: pipelining()
                .send("250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n250 2.1.5 Ok\r\n354 go\r\n")
                .pause(PAUSE)
                .send("421 4.4.2 mx.test Error: timeout exceeded\r\n"),
            client: writes_a_group,
            end: peer("peer_fin"),
            idle: None,
        },
    ]
}

fn idling() -> Vec<Play> {
    let farewell = "421 mx.test closing transmission channel\r\n";
    let closed = [Some("peer_fin"), Some("idle"), Some("peer")];
    let until_the_end = |session: &mut Session| {
        session.begin().unwrap();
        session.command("NOOP", "250").unwrap();
        session.wait_for_end(PATIENCE).unwrap();
    };
    vec![
        Play {
            name: "a farewell after an answer",
            server: reads(offering(&["PIPELINING", "CHUNKING"]), 1)
                .send("250 2.0.0 Ok\r\n")
                .pause(PAUSE)
                .send(farewell),
            client: until_the_end,
            end: closed,
            idle: Some(PAUSE),
        },
        Play {
            name: "a farewell after the greeting",
            server: greeting().pause(PAUSE).send(farewell),
            client: |session| {
                session.reply().unwrap();
                session.wait_for_end(PATIENCE).unwrap();
            },
            end: closed,
            idle: Some(PAUSE),
        },
        Play {
            name: "one command, and no other can be due",
            server: reads(offering(&["SIZE 9"]), 1).send("250 Ok\r\n").pause(PAUSE),
            client: |session| {
                session.begin().unwrap();
                session.command("MAIL FROM:<a@client.test>", "250").unwrap();
                session.wait_for_end(PATIENCE).unwrap();
            },
            end: closed,
            idle: Some(PAUSE),
        },
        Play {
            name: "a server that says that it waited, in an envelope",
            server: reads(offering(&["PIPELINING"]), 1)
                .send("250 Ok\r\n")
                .pause(PAUSE)
                .send("421 4.4.2 timeout\r\n"),
            client: |session| {
                session.begin().unwrap();
                session.command("MAIL FROM:<a@client.test>", "250").unwrap();
                session.wait_for_end(PATIENCE).unwrap();
            },
            end: closed,
            idle: Some(PAUSE),
        },
    ]
}

/// Plays each session to an address of its own, over both families in turn. Returns the records in order, and what
/// the report says of each destination.
fn trace(plays: &[Play]) -> Vec<(Record, Flow, serde_json::Value)> {
    let lab = Lab::up().unwrap();
    let address = |at: u8| -> SocketAddr {
        let ip: IpAddr =
            if at.is_multiple_of(2) { server_v4(at / 2).into() } else { server_v6(at / 2).into() };
        SocketAddr::new(ip, lab.port())
    };
    let listeners: Vec<_> = (0..).map(address).zip(plays).collect();
    let _servers: Vec<_> = listeners
        .iter()
        .map(|(at, play)| Server::start(&lab.server, *at, play.server.clone()).unwrap())
        .collect();
    let capture = Capture::start(&lab.client, "c0", lab.port(), &lab.file("c0.pcap")).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    thread::scope(|scope| {
        for (at, play) in &listeners {
            let lab = &lab;
            scope.spawn(move || {
                let mut session = Session::connect(&lab.client, *at).unwrap();
                (play.client)(&mut session);
            });
        }
    });
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let flows = capture.stop().unwrap();
    let pairs = comparison::pair(&run.recording.connections, &flows).unwrap();
    let said = tracer::command([
        "report".as_ref(),
        run.file.as_os_str(),
        "--format".as_ref(),
        "json".as_ref(),
    ]);
    let report = report::parse(&String::from_utf8(said.unwrap().stdout).unwrap()).unwrap();
    let of = |at: &SocketAddr| {
        let Pair { record, flow } = *pairs.iter().find(|it| it.flow.server == *at).unwrap();
        let key = at.ip().to_string();
        (record.clone(), flow.clone(), report::destination(&report, &key).unwrap().clone())
    };
    listeners.iter().map(|(at, _)| of(at)).collect()
}

#[test]
fn who_waits_is_not_idle() {
    needs!(Namespaces, Tracer, Tcpdump);
    let plays = waiting();
    for (play, (record, _, destination)) in plays.iter().zip(trace(&plays)) {
        println!("{}: {}", play.name, record.json());
        record.ensure_ending(play.end).unwrap();
        let gaps = record.field("idle_gaps_us").unwrap().as_array().unwrap();
        assert!(gaps.is_empty(), "{}", record.json());
        assert!(destination["idle_limit"]["closed_by_server"].is_null(), "{destination:#}");
        let deaths = destination["idle_limit"]["deaths"].as_object();
        assert!(deaths.is_none_or(serde_json::Map::is_empty), "{destination:#}");
    }
}

#[test]
fn who_has_all_answers_is_idle() {
    needs!(Namespaces, Tracer, Tcpdump);
    let plays = idling();
    for (play, (record, flow, destination)) in plays.iter().zip(trace(&plays)) {
        println!("{}: {}", play.name, record.json());
        record.ensure_ending(play.end).unwrap();
        // Before the end, or before the farewell.
        let ends = [flow.closings[0].at, flow.progress.last().unwrap().at];
        let idle = ends.into_iter().filter_map(|end| flow.idle_before(end)).max().unwrap();
        record.ensure_as_captured("end_idle_us", Some(idle)).unwrap();
        assert!(idle >= Nanos::try_from(play.idle.unwrap().as_nanos()).unwrap(), "{flow:?}");
        let closed = &destination["idle_limit"]["closed_by_server"];
        assert_eq!(closed["count"], 1, "{destination:#}");
        // A farewell does not refuse anything.
        let refusals = record.field("refusals").unwrap().as_array().unwrap();
        assert!(refusals.iter().all(|it| it["during"] == "idle"), "{}", record.json());
    }
}
