//! What is refused, reset or never finished hands nothing over.

use std::{thread, time::Duration};

use tests::{
    lab::Lab,
    needs,
    recording::Record,
    server::{Script, Server, Step},
    session::Session,
    tracer::Tracer,
};

const ALL: &str = "250-PIPELINING\r\n250-CHUNKING\r\n250 ENHANCEDSTATUSCODES\r\n";
const NO_CHUNKS: &str = "250-PIPELINING\r\n250 ENHANCEDSTATUSCODES\r\n";

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

/// Traces one session over each family, with a server that plays `rest` after EHLO.
fn trace(offers: &str, rest: &Script, client: impl Fn(&mut Session)) -> Vec<Record> {
    let lab = Lab::up().unwrap();
    let begin = Script::default()
        .send("220 strict.test ESMTP\r\n")
        .then(Step::Command)
        .send(&format!("250-strict.test\r\n{offers}"));
    let script = begin.followed_by(rest);
    let addresses = [lab.server_v4(), lab.server_v6()];
    let servers =
        addresses.map(|address| Server::start(&lab.server, address, script.clone()).unwrap());
    let tracer = Tracer::start(&lab).unwrap();
    for address in addresses {
        let mut session = Session::connect(&lab.client, address).unwrap();
        session.reply().unwrap();
        session.command("EHLO client.test", "250").unwrap();
        client(&mut session);
        session.wait_for_end(ms(8_000)).unwrap();
    }
    lab.wait_for_ends(Duration::from_secs(10)).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    for server in servers {
        assert_eq!(server.failures(), Vec::<String>::new());
    }
    assert_eq!(run.recording.connections.len(), 2);
    run.recording.connections
}

#[track_caller]
fn nothing(records: &[Record]) {
    for record in records {
        let count = record.number("transactions").unwrap();
        assert!(matches!(count, None | Some(0)), "{}", record.json());
    }
}

fn commands(count: usize) -> Script {
    (0..count).fold(Script::default(), |script, _| script.then(Step::Command))
}

#[test]
fn probes_and_lone_dots_are_no_messages() {
    needs!(Namespaces, Tracer);
    let group = "MAIL FROM:<probe@a-client.test>\r\nRCPT TO:<is-it-there@strict.test>\r\n";
    for offers in [ALL, NO_CHUNKS] {
        let rest = commands(4)
            .send("250 2.1.0 Fine\r\n250 2.1.5 Fine\r\n250 2.0.0 Flushed\r\n221 2.0.0 Bye\r\n");
        nothing(&trace(offers, &rest, |session| {
            session.send(format!("{group}RSET\r\nQUIT\r\n").as_bytes()).unwrap();
        }));
        let refused = commands(3).send("250 2.1.0 Fine\r\n550 5.1.1 Nobody\r\n354 Then what\r\n");
        let rest = refused.then(Step::Command).send("554 5.5.1 Nothing to do\r\n");
        let rest = rest.then(Step::Command).send("221 2.0.0 Bye\r\n");
        let records = trace(offers, &rest, |session| {
            session.send(format!("{group}DATA\r\n").as_bytes()).unwrap();
            for code in ["250", "550", "354"] {
                assert!(session.reply().unwrap().starts_with(code));
            }
            session.command(".", "554").unwrap();
            session.command("QUIT", "221").unwrap();
        });
        nothing(&records);
        assert!(records.iter().all(|it| it.field("transactions_exact").unwrap() == true));
    }
}

#[test]
fn a_server_that_gives_up_has_no_message() {
    needs!(Namespaces, Tracer);
    for (pause, reply) in [
        (1_500, "421 strict.test waited too long"),
        (2_200, "451 4.4.2 Input timeout"),
        (2_800, "421 4.4.1 Session timed out"),
    ] {
        let rest = commands(3).send("250 2.1.0 Fine\r\n250 2.1.5 Fine\r\n354 Go\r\n");
        let rest = rest.then(Step::Command).pause(ms(pause)).send(&format!("{reply}\r\n"));
        let records = trace(NO_CHUNKS, &rest, |session| {
            session
                .send(b"MAIL FROM:<a@client.test>\r\nRCPT TO:<b@strict.test>\r\nDATA\r\n")
                .unwrap();
            for code in ["250", "250", "354"] {
                assert!(session.reply().unwrap().starts_with(code));
            }
            session.send(b"Subject: the beginning\r\n").unwrap();
            thread::sleep(ms(100));
        });
        nothing(&records);
    }
    // What is refused at once was all there.
    let rest = commands(3).send("250 2.1.0 Fine\r\n250 2.1.5 Fine\r\n354 Go\r\n");
    let rest = rest.then(Step::Command).then(Step::Command).send("451 4.7.1 Come back later\r\n");
    let rest = rest.then(Step::Command).send("221 2.0.0 Bye\r\n");
    for record in trace(NO_CHUNKS, &rest, |session| {
        session.send(b"MAIL FROM:<a@client.test>\r\nRCPT TO:<b@strict.test>\r\nDATA\r\n").unwrap();
        for code in ["250", "250", "354"] {
            assert!(session.reply().unwrap().starts_with(code));
        }
        session.command("Subject: all\r\n.", "451").unwrap();
        session.command("QUIT", "221").unwrap();
    }) {
        assert_eq!(record.known("transactions").unwrap(), 1, "{}", record.json());
        assert_eq!(record.field("transactions_exact").unwrap(), true, "{}", record.json());
    }
}

/// XEXCH50 has a 354 of its own, which asks for no message.
#[test]
fn a_354_of_an_extension_is_no_message() {
    needs!(Namespaces, Tracer);
    let rest = commands(2).send("250 2.1.0 Fine\r\n250 2.1.5 Fine\r\n");
    let rest = rest.then(Step::Command).send("354 Send binary data\r\n");
    let rest = rest.then(Step::Command).send("250 XEXCH50 OK\r\n");
    let rest = rest.then(Step::Command).send("354 Go\r\n").then(Step::Command).then(Step::Command);
    let rest = rest.send("250 2.6.0 Queued mail\r\n").then(Step::Command).send("221 2.0.0 Bye\r\n");
    for offers in [NO_CHUNKS, "250-XEXCH50\r\n250 PIPELINING\r\n"] {
        for record in trace(offers, &rest, |session| {
            session.send(b"MAIL FROM:<a@client.test>\r\nRCPT TO:<b@strict.test>\r\n").unwrap();
            session.reply().unwrap();
            session.reply().unwrap();
            session.command("XEXCH50 20 2", "354").unwrap();
            session.command("0123456789abcdefgh", "250").unwrap();
            session.command("DATA", "354").unwrap();
            session.command("Subject: one\r\n.", "250").unwrap();
            session.command("QUIT", "221").unwrap();
        }) {
            assert_eq!(record.known("transactions").unwrap(), 1, "{}", record.json());
        }
    }
}
