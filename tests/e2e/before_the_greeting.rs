//! What stands before the greeting and what begins the dialogue once more: proxies, EHLO that does not wait, XCLIENT.

use std::{
    thread,
    time::{Duration, Instant},
};

use tests::{
    attempt,
    lab::Lab,
    needs, pace,
    recording::Record,
    server::{Script, Server, Step},
    session::Session,
    tracer::Tracer,
};

/// Traces one session over each family.
fn trace(script: &Script, client: impl Fn(Session)) -> Vec<Record> {
    let lab = Lab::up().unwrap();
    let addresses = [lab.server_v4(), lab.server_v6()];
    let servers =
        addresses.map(|address| Server::start(&lab.server, address, script.clone()).unwrap());
    let tracer = Tracer::start(&lab).unwrap();
    for address in addresses {
        client(Session::connect(&lab.client, address).unwrap());
    }
    lab.wait_for_ends(Duration::from_secs(10)).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    for server in servers {
        assert_eq!(server.failures(), Vec::<String>::new());
    }
    assert_eq!(run.recording.connections.len(), 2);
    run.recording.connections
}

/// A proxy: what the client says to it, what it answers, and how many bytes that is.
struct Proxy {
    asks: &'static [u8],
    answers: &'static [u8],
}

const PROXIES: [Proxy; 4] = [
    // SOCKS 5, method and request in one write; the address looks like a TLS record behind a line end.
    Proxy {
        asks: b"\x05\x01\x00\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x19\r\n",
        answers: b"\x05\x00\x05\x00\x00\x01\x0a\x16\x03\x03\x16\x0a",
    },
    Proxy {
        asks: b"CONNECT mx.test:25 HTTP/1.1\r\n",
        answers: b"HTTP/1.1 200 Connection established\r\nProxy-Agent: lab/1.0\r\n220: not a greeting\r\n\r\n",
    },
    // PROXY headers go the way of the client; the server may say nothing to them.
    Proxy { asks: b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 25\r\n", answers: b"" },
    Proxy { asks: b"PROXY UNKNOWN\r\n", answers: b"PROXY TCP6 2001:db8::1 2001:db8::2 5000 25\r\n" },
];

#[test]
fn the_greeting_is_the_first_reply_after_a_proxy() {
    needs!(Namespaces, Tracer);
    for proxy in PROXIES {
        let begin = Script::default().then(Step::Command).then(Step::Send(proxy.answers.to_vec()));
        let script = begin
            .clone()
            .pause(Duration::from_millis(150))
            .followed_by(&Script::mail_server("220 behind.test ESMTP"));
        let records = trace(&script, |mut session| {
            session.send(proxy.asks).unwrap();
            session.skip(proxy.answers.len()).unwrap();
            session.reply().unwrap();
            let asked = Instant::now();
            session.command("EHLO client.test", "250").unwrap();
            attempt::expect_in_time("the answer to EHLO", asked, Duration::ZERO);
            session.message(700).unwrap();
            session.quit().unwrap();
        });
        for record in records {
            let about = record.json();
            assert_eq!(record.known("banner_code").unwrap(), 220, "{about}");
            assert_eq!(record.text("banner_host").unwrap(), Some("behind.test"), "{about}");
            assert_eq!(record.text("tls").unwrap(), Some("none"), "{about}");
            assert_eq!(record.known("transactions").unwrap(), 1, "{about}");
            assert_eq!(record.field("transactions_exact").unwrap(), true, "{about}");
            let ehlo_us = record.known("ehlo_us").unwrap();
            assert!(ehlo_us < pace::wider(100_000), "{about}");
            assert!(record.known("greeting_us").unwrap() >= 150_000, "{about}");
        }
        let refused = begin.send("421 4.7.0 behind.test Too busy\r\n");
        for record in trace(&refused, |mut session| {
            session.send(proxy.asks).unwrap();
            session.skip(proxy.answers.len()).unwrap();
            session.wait_for_end(Duration::from_secs(5)).unwrap();
        }) {
            assert_eq!(record.known("banner_code").unwrap(), 421, "{}", record.json());
            assert_eq!(
                record.field("refusals").unwrap()[0]["during"],
                "greeting",
                "{}",
                record.json()
            );
        }
    }
}

#[test]
fn a_second_greeting_is_not_an_answer_to_starttls() {
    needs!(Namespaces, Tracer);
    let begin = Script::default()
        .send("220 first.test ESMTP\r\n")
        .then(Step::Command)
        .send("250-first.test\r\n250-XCLIENT NAME ADDR\r\n250 STARTTLS\r\n")
        .then(Step::Command)
        .pause(Duration::from_millis(120))
        .send("220 first.test ESMTP\r\n")
        .then(Step::Command)
        .send("250 first.test\r\n");
    let again = |session: &mut Session| {
        session.begin().unwrap();
        session.command("XCLIENT NAME=other.test", "220").unwrap();
        session.command("EHLO other.test", "250").unwrap();
    };
    let script = begin.clone().then(Step::Serve);
    for record in trace(&script, |mut session| {
        again(&mut session);
        session.message(300).unwrap();
        session.quit().unwrap();
    }) {
        assert_eq!(record.number("starttls_us").unwrap(), None, "{}", record.json());
        assert_eq!(record.known("transactions").unwrap(), 1, "{}", record.json());
        assert_eq!(record.field("transactions_exact").unwrap(), true, "{}", record.json());
    }
    // STARTTLS was accepted, and nothing came of it.
    let script = begin.then(Step::Command).send("220 2.0.0 Go ahead\r\n");
    for record in trace(&script, |mut session| {
        again(&mut session);
        session.command("STARTTLS", "220").unwrap();
        session.wait_for_end(Duration::from_secs(5)).unwrap();
    }) {
        assert_eq!(record.number("starttls_us").unwrap(), None, "{}", record.json());
        assert_eq!(record.text("tls").unwrap(), Some("none"), "{}", record.json());
    }
}

#[test]
fn ehlo_that_does_not_wait_has_no_time_of_another() {
    needs!(Namespaces, Tracer);
    let script = Script::default()
        .then(Step::Command)
        .pause(Duration::from_millis(80))
        .send("220 late.test ESMTP\r\n250-late.test\r\n250 PIPELINING\r\n")
        .then(Step::Command)
        .pause(Duration::from_millis(400))
        .send("250 2.1.0 Ok\r\n")
        .then(Step::Serve);
    for record in trace(&script, |mut session| {
        session.send(b"EHLO client.test\r\n").unwrap();
        session.reply().unwrap();
        session.reply().unwrap();
        let begun = Instant::now();
        session.command("MAIL FROM:<a@client.test>", "250").unwrap();
        session.command("RCPT TO:<b@late.test>", "250").unwrap();
        session.command("DATA", "354").unwrap();
        // A pause of the server, and otherwise answers at once.
        attempt::expect_in_time("the envelope", begun, Duration::from_millis(400));
        thread::sleep(Duration::from_millis(30));
        session.command("Subject: a\r\n.", "250").unwrap();
        session.quit().unwrap();
    }) {
        let about = record.json();
        assert_eq!(record.known("transactions").unwrap(), 1, "{about}");
        assert!(
            record.number("ehlo_us").unwrap().is_none_or(|us| us < pace::wider(150_000)),
            "{about}"
        );
        assert!(record.known("turns").unwrap() >= 5, "{about}");
    }
}
