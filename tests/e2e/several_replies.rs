//! More than one reply to one body, by PRDR and LMTP: one message, whose last reply is the final one.

use std::{net::SocketAddr, time::Duration};

use tests::{
    lab::Lab,
    needs, pace,
    recording::Record,
    server::{Script, Server, Step},
    session::Session,
    tracer::Tracer,
};

/// How much longer than its pauses a phase may take.
const SLACK_US: u64 = 500_000;

/// One session of one message.
struct Case {
    greeting: &'static str,
    offers: &'static str,
    recipients: usize,
    /// The body comes by BDAT.
    bdat: bool,
    /// What the server says to the body, each reply so many milliseconds after the one before.
    replies: &'static [(u64, &'static str)],
}

fn script(case: &Case) -> Script {
    let mut script = Script::default()
        .send(case.greeting)
        .then(Step::Command)
        .send(&format!("250-several.test\r\n250-PIPELINING\r\n{}250 SIZE\r\n", case.offers))
        .then(Step::Command)
        .send("250 2.1.0 Sender fine\r\n");
    for _ in 0..case.recipients {
        script = script.then(Step::Command).send("250 2.1.5 Recipient fine\r\n");
    }
    if !case.bdat {
        script = script.then(Step::Command).send("354 Go on\r\n");
    }
    script = script.then(Step::Command).then(Step::Command).then(Step::Command);
    for (pause, reply) in case.replies {
        script = script.pause(Duration::from_millis(*pause)).send(&format!("{reply}\r\n"));
    }
    script.then(Step::Command).send("221 2.0.0 So long\r\n")
}

fn client(mut session: Session, case: &Case) {
    session.reply().unwrap();
    session.command("EHLO client.test", "250").unwrap();
    let mut group = "MAIL FROM:<sender@client.test>\r\n".to_owned();
    for number in 0..case.recipients {
        group.extend(["RCPT TO:<recipient-", &number.to_string(), "@several.test>\r\n"]);
    }
    if !case.bdat {
        group.push_str("DATA\r\n");
    }
    session.send(group.as_bytes()).unwrap();
    for _ in 0..=case.recipients + usize::from(!case.bdat) {
        session.reply().unwrap();
    }
    if case.bdat {
        let body = format!("Subject: a\r\n{}\r\n", "b".repeat(2_000));
        session.send(format!("BDAT {} LAST\r\n{body}", body.len()).as_bytes()).unwrap();
    } else {
        session.send(format!("Subject: a\r\n{}\r\n.\r\n", "b".repeat(300)).as_bytes()).unwrap();
    }
    for _ in case.replies {
        session.reply().unwrap();
    }
    session.quit().unwrap();
}

fn check(record: &Record, case: &Case) {
    let about = record.json();
    assert_eq!(record.known("transactions").unwrap(), 1, "{about}");
    let final_us = record.field("final_reply_us").unwrap()[0].as_u64();
    // A reply to a chunk that speaks of an address may be one to a recipient, so its time may not be known.
    let Some(final_us) = final_us else {
        assert!(case.bdat && case.greeting.contains("LMTP"), "{about}");
        return;
    };
    let expected: u64 = case.replies.iter().map(|(pause, _)| pause * 1_000).sum();
    let fits = (expected..expected + pace::wider(SLACK_US)).contains(&final_us);
    assert!(fits, "final_reply_us is {final_us}, the pauses were {expected}: {about}");
}

#[test]
fn several_replies_to_a_body_are_one_message() {
    needs!(Namespaces, Tracer);
    let prdr: &[_] = &[
        (20, "353 Looking at it"),
        (30, "250 2.6.0 first takes it"),
        (0, "452 4.2.2 second is full"),
        (150, "250 2.0.0 Ok: queued as 77"),
    ];
    let all_refuse: &[_] = &[
        (0, "353 Looking at it"),
        (80, "550 5.7.1 first does not"),
        (80, "550 5.7.1 nor does second"),
        (80, "550 5.7.1 Nobody takes it"),
    ];
    let lmtp: &[_] = &[
        (40, "250 2.1.5 <a> delivered"),
        (200, "550 5.2.2 <b> is full"),
        (90, "250 2.1.5 <c> delivered"),
    ];
    let (esmtp, chunks) = ("220 several.test ESMTP\r\n", "250-CHUNKING\r\n");
    let of = |greeting, offers, recipients, bdat, replies| Case {
        greeting,
        offers,
        recipients,
        bdat,
        replies,
    };
    let cases = [
        of(esmtp, "250-PRDR\r\n", 2, false, prdr),
        of(esmtp, "250-PRDR\r\n250-CHUNKING\r\n", 2, false, all_refuse),
        of(esmtp, "250-PRDR\r\n250-CHUNKING\r\n", 2, true, prdr),
        of("220 several.test LMTP here\r\n", "", 3, false, lmtp),
        of("220 several.test LMTP here\r\n", chunks, 3, true, lmtp),
        of(esmtp, chunks, 3, false, lmtp),
    ];
    for (number, case) in cases.iter().enumerate() {
        let lab = Lab::up().unwrap();
        let address: SocketAddr = if number % 2 == 0 { lab.server_v4() } else { lab.server_v6() };
        let server = Server::start(&lab.server, address, script(case)).unwrap();
        let tracer = Tracer::start(&lab).unwrap();
        client(Session::connect(&lab.client, address).unwrap(), case);
        lab.wait_for_ends(Duration::from_secs(10)).unwrap();
        let run = tracer.stop_cleanly().unwrap();
        assert_eq!(server.failures(), Vec::<String>::new());
        println!("case {number}");
        check(run.recording.single().unwrap(), case);
    }
}
