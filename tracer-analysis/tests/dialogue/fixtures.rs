//! Dialogues as the RFCs have them, each with what the record must say.

use tracer_analysis::connection::{Connection, Tls};

use crate::script::play;

/// Count, and whether it is exact.
fn count(it: &Connection) -> (Option<u32>, bool) {
    (it.transactions, it.transactions_exact)
}

#[track_caller]
fn check(script: &str, expected: (Option<u32>, bool)) -> Connection {
    let connection = play(script);
    assert_eq!(count(&connection), expected, "{script}\n{connection:?}");
    connection
}

/// A session that begins with EHLO, to which a server answers that has `offers`, and has QUIT at its end.
fn session(offers: &str, dialogue: &str) -> String {
    begun(offers, &format!("{dialogue}\nC: QUIT\nS: 221 2.0.0 Bye\nS closes"))
}

fn begun(offers: &str, dialogue: &str) -> String {
    let words: Vec<&str> = std::iter::once("mx.test").chain(offers.split_whitespace()).collect();
    let (last, more) = words.split_last().unwrap();
    let more: Vec<String> = more.iter().map(|word| format!("250-{word}|")).collect();
    let more = more.concat();
    format!("S: 220 mx.test ESMTP\nC: EHLO client.test\nS: {more}250 {last}\n{dialogue}")
}

const GROUP: &str =
    "C: MAIL FROM:<a@client.test>|RCPT TO:<b@mx.test>|DATA\nS: 250 2.1.0 Ok|250 2.1.5 Ok|354 Go on";
const TWO: &str = "C: MAIL FROM:<a@client.test>|RCPT TO:<b@mx.test>|RCPT TO:<c@mx.test>|DATA
    S: 250 2.1.0 Ok|250 2.1.5 Ok|250 2.1.5 Ok|354 Go on";
const ALL: &str = "PIPELINING ENHANCEDSTATUSCODES CHUNKING";

// RFC 5321

#[test]
fn a_typical_transaction() {
    let script = session("8BITMIME SIZE", "C: MAIL FROM:<Smith@bar.test>\nS: 250 OK
        C: RCPT TO:<Jones@foo.test>\nS: 250 OK\nC: RCPT TO:<Green@foo.test>\nS: 550 No such user here
        C: RCPT TO:<Brown@foo.test>\nS: 250 OK\nC: DATA\nS: 354 Start mail input; end with <CRLF>.<CRLF>
        C* 800\n... 40\nC: .\n... 300\nS: 250 OK");
    let it = check(&script, (Some(1), true));
    assert_eq!(it.final_reply_us, Some(vec![301_000]), "from the dot on");
    assert_eq!(it.body_us, Some(vec![Some(42_000)]));
}

#[test]
fn an_aborted_transaction() {
    let script = session(
        "SIZE",
        "C: MAIL FROM:<Smith@bar.test>\nS: 250 OK\nC: RCPT TO:<Jones@foo.test>\nS: 250 OK
        C: RSET\nS: 250 OK",
    );
    check(&script, (Some(0), true));
}

#[test]
fn verifying_and_asking() {
    let script = session("SIZE HELP", "C: VRFY Crispin\nS: 252 Cannot VRFY, but will take\nC: HELP\nS: 214-See|214 RFC 5321
        C: NOOP\nS: 250 OK\nC: MAIL FROM:<a@client.test>\nS: 250 OK\nC: RCPT TO:<b@mx.test>\nS: 251 will forward
        C: DATA\nS: 354 go\nC* 90\nS: 250 OK");
    check(&script, (Some(1), true));
}

#[test]
fn a_refused_message_and_the_next() {
    let one = "C: MAIL FROM:<a@client.test>\nS: 250 OK\nC: RCPT TO:<b@mx.test>\nS: 250 OK\nC: DATA\nS: 354 go\nC* 700";
    let script = session(
        "SIZE",
        &format!("{one}\nS: 554 Transaction failed\n{one}\nS: 452 full\n{one}\nS: 250 OK"),
    );
    check(&script, (Some(3), true));
}

#[test]
fn a_server_that_gives_up_waiting() {
    for reply in [
        "421 mx.test closing channel",
        "451 4.4.2 Timeout",
        "421 4.4.2 Error: timeout exceeded",
        "451 Data timed out",
    ] {
        let half =
            begun("PIPELINING", &format!("{GROUP}\nC* 9000\n... 3000\nS: {reply}\nS closes"));
        check(&half, (Some(0), false));
    }
    // At once it is an answer.
    let at_once = begun(
        "PIPELINING",
        &format!("{GROUP}\nC* 9000\n... 200\nS: 421 4.3.2 Shutting down\nS closes"),
    );
    check(&at_once, (Some(1), false));
    let refused = begun(
        "PIPELINING",
        &format!("{GROUP}\nC* 9000\n... 200\nS: 451 4.7.1 Greylisted\nC closes"),
    );
    check(&refused, (Some(1), true));
    // Whoever goes on had its answer.
    let slow = session(
        "PIPELINING",
        &format!("{GROUP}\nC* 9000\n... 3000\nS: 451 4.4.2 Timeout of the scanner"),
    );
    check(&slow, (Some(1), true));
    // The client goes on writing, and is not heard.
    let too_long =
        begun("PIPELINING", &format!("{GROUP}\nC* 9000\nS: 552 5.3.4 Too long\nC* 9000\nreset"));
    assert!(!check(&too_long, (Some(1), false)).transactions_exact);
}

#[test]
fn nothing_before_the_final_reply_is_a_message() {
    for end in ["S closes", "C closes", "reset"] {
        check(&begun("PIPELINING", &format!("{GROUP}\nC* 9000\n{end}")), (Some(0), true));
    }
}

// RFC 2920

#[test]
fn a_group_of_which_nothing_is_accepted() {
    let script = session(
        "PIPELINING",
        "C: MAIL FROM:<a@client.test>|RCPT TO:<b@mx.test>|RCPT TO:<c@mx.test>|DATA
        S: 250 sender ok|550 no|550 no|354 go ahead\nC: .\nS: 554 no valid recipients",
    );
    check(&script, (Some(0), true));
    check(
        &script
            .replace("354 go ahead", "554 no valid")
            .replace("C: .\nS: 554 no valid recipients", ""),
        (Some(0), true),
    );
    // With the goodbye behind the dot.
    let both = script
        .replace("C: .\nS: 554 no valid recipients\nC: QUIT\nS: ", "C: .|QUIT\nS: 554 no valid|");
    check(&both, (Some(0), true));
}

#[test]
fn a_message_and_the_next_group() {
    let next = "C* 700\nS: 250 2.0.0 ok|250 2.1.0 ok|250 2.1.5 ok|354 go\nC* 900\nS: 250 ok";
    let two = session("PIPELINING", &format!("{GROUP}\n{next}"));
    check(&two, (Some(2), true));
}

#[test]
fn an_address_probe_hands_nothing_over() {
    let probe = "C: MAIL FROM:<double-bounce@client.test>|RCPT TO:<b@mx.test>|RSET|QUIT
        S: 250 2.1.0 Ok|250 2.1.5 Ok|250 2.0.0 Ok|221 2.0.0 Bye\nS closes";
    check(&begun("PIPELINING", probe), (Some(0), true));
    let count = play(&begun(ALL, probe)).transactions;
    assert!(matches!(count, None | Some(0)), "{count:?}");
}

// RFC 2034

#[test]
fn codes_tell_recipients_from_bodies() {
    let script = session(ALL, "C: MAIL FROM:<a@client.test>|RCPT TO:<b@mx.test>|RCPT TO:<c@mx.test>
        S: 250 2.1.0 Sender ok|250 2.1.5 Recipient ok|550 5.1.1 unknown\nC* 5000\nS: 250 2.6.0 queued");
    check(&script, (Some(1), true));
    let verified = session(
        ALL,
        "C: MAIL FROM:<a@client.test>\nS: 250 2.1.0 Ok\nC: RCPT TO:<b@mx.test>\nS: 250 2.1.5 Ok",
    );
    check(&verified, (Some(0), true));
}

// RFC 3030

#[test]
fn chunks() {
    let envelope = "C: MAIL FROM:<a@client.test>|RCPT TO:<b@mx.test>\nS: 250 2.1.0 ok|250 2.1.5 ok";
    let script = session(
        ALL,
        &format!(
            "{envelope}\nC* 4009\nS: 250 2.0.0 4000 octets\nC* 90
        S: 250 2.0.0 queued as 1\n{envelope}\nC* 16\nS: 250 2.0.0 queued as 2"
        ),
    );
    check(&script, (Some(2), true));
}

#[test]
fn chunks_that_are_reset() {
    let script = session(
        ALL,
        "C: MAIL FROM:<a@client.test>|RCPT TO:<b@mx.test>\nS: 250 2.1.0 ok|250 2.1.5 ok
        C* 4009\nS: 250 2.0.0 Ok: 4000 bytes\nC: RSET\nS: 250 2.0.0 ok",
    );
    let it = play(&script);
    assert!(it.transactions == Some(0) || !it.transactions_exact, "{it:?}");
}

#[test]
fn both_ways_behind_an_extension_with_its_own_354() {
    let own =
        "C: MAIL FROM:<a@client.test>\nS: 250 2.1.0 ok\nC: RCPT TO:<b@mx.test>\nS: 250 2.1.5 ok
        C: XEXCH50 1036 2\nS: 354 Send binary data\nC* 1036\nS: 250 XEXCH50 OK";
    for offers in ["XEXCH50 PIPELINING", "PIPELINING"] {
        let data =
            session(offers, &format!("{own}\nC: DATA\nS: 354 go\nC* 600\nS: 250 2.6.0 queued"));
        check(&data, (Some(1), true));
        check(&session(offers, &format!("{own}\nC: RSET\nS: 250 2.0.0 ok")), (Some(0), true));
    }
    let chunk = session(
        "XEXCH50 CHUNKING",
        &format!("{own}\nC* 7000\nS: 250 2.6.0 Queued mail for delivery"),
    );
    check(&chunk, (Some(1), true));
}

// PRDR (draft-hall-prdr)

#[test]
fn a_reply_for_each_recipient_and_one_for_all() {
    for offers in ["PIPELINING PRDR", "PIPELINING CHUNKING PRDR"] {
        for (fates, last) in [
            ("250 b|550 c", "250 OK id=1"),
            ("550 b|550 c", "550 no"),
            ("250 b|250 c", "250 OK id=2"),
        ] {
            let one = format!(
                "{TWO}\nC* 900\nS: 353 content analysis begins\n... 50\nS: {fates}\n... 300\nS: {last}"
            );
            let it = check(&session(offers, &one), (Some(1), true));
            assert_eq!(it.final_reply_us, Some(vec![353_000]), "the last one is final");
            check(&session(offers, &format!("{one}\n{one}")), (Some(2), true));
        }
        let cut = begun(offers, &format!("{TWO}\nC* 900\nS: 353 begins\nS: 250 b\nreset"));
        check(&cut, (Some(0), true));
    }
}

#[test]
fn a_reply_for_each_recipient_of_a_chunk() {
    let script = session("PIPELINING CHUNKING PRDR", "C: MAIL FROM:<a@client.test> PRDR|RCPT TO:<b@mx.test>|RCPT TO:<c@mx.test>
        S: 250 OK|250 Accepted|250 Accepted\nC* 5000\nS: 353 begins\nS: 250 b|550 c\n... 90\nS: 250 OK id=1");
    let it = check(&script, (Some(1), true));
    assert_eq!(it.final_reply_us, Some(vec![93_000]));
}

// RFC 2033

#[test]
fn lmtp_answers_for_each_recipient() {
    for greeting in ["220 foo.test LMTP server ready", "220 foo.test ESMTP"] {
        for fates in
            ["250 2.1.5 <b> ok|452 4.2.2 <c> full", "250 OK|250 OK", "550 5.1.1 b|550 5.1.1 c"]
        {
            let fates = fates.replace('|', "\n... 500\nS: ");
            let lmtp = |offers, text: String| {
                session(offers, &text).replace("220 mx.test ESMTP", greeting)
            };
            let it =
                check(&lmtp("PIPELINING", format!("{TWO}\nC* 400\nS: {fates}")), (Some(1), true));
            assert_eq!(it.final_reply_us, Some(vec![502_000]), "{fates}");
            let it = play(&lmtp(
                ALL,
                format!(
                    "{}\nC* 4000\nS: {fates}",
                    TWO.replace("|DATA", "").replace("|354 Go on", "")
                ),
            ));
            assert!(matches!(it.transactions, None | Some(1)), "{:?} {fates}", count(&it));
        }
    }
}

#[test]
fn lmtp_goes_on_to_the_next_group_at_once() {
    let script = session(
        "PIPELINING",
        &format!(
            "{TWO}\nC* 900\nS: 250 b|450 c|250 2.1.0 Ok|250 2.1.5 Ok|354 go\nC* 300\nS: 250 d"
        ),
    );
    check(&script.replace("ESMTP", "LMTP"), (Some(2), true));
}

// Before the greeting, and after it

#[test]
fn a_proxy_speaks_first() {
    let socks = "C* 3\nS! 05 00\nC* 10\nS! 05 00 00 01 0a 16 03 01 16 0a";
    let connect = "C* 60\nS: HTTP/1.1 200 Connection established|Proxy-Agent: x|";
    for proxy in
        [socks, connect, "C: PROXY TCP4 192.0.2.1 192.0.2.2 5000 25", "C* 28\nS: PROXY UNKNOWN"]
    {
        let script = format!(
            "{proxy}\n... 20\n{}",
            session("PIPELINING", &format!("{GROUP}\nC* 400\n... 20\nS: 250 ok"))
        );
        let it = check(&script, (Some(1), true));
        assert_eq!(
            (it.banner_code, it.banner_host.as_deref(), it.tls),
            (Some(220), Some("mx.test"), Some(Tls::None))
        );
        assert_eq!((it.ehlo_us, it.replies.unwrap()[&250]), (Some(1_000), 4), "{script}");
        let refused = play(&format!("{proxy}\nS: 421 4.7.0 Too many connections\nS closes"));
        assert_eq!((refused.banner_code, refused.refusals.unwrap().len()), (Some(421), 1));
    }
}

#[test]
fn the_dialogue_begins_once_more() {
    let script = session("XCLIENT STARTTLS", "C: XCLIENT ADDR=192.0.2.1\nS: 220 mx.test ESMTP
        C: EHLO other.test\nS: 250 mx.test\nC: MAIL FROM:<a@client.test>\nS: 250 ok\nC: RCPT TO:<b@mx.test>\nS: 250 ok
        C: DATA\nS: 354 go\nC* 90\nS: 250 ok");
    let it = check(&script, (Some(1), true));
    assert_eq!((it.starttls_us, it.tls, it.banner_code), (None, Some(Tls::None), Some(220)));
    // TLS follows only the second time.
    let begin = "C: XCLIENT ADDR=192.0.2.1\n... 30\nS: 220 mx.test ESMTP\nC: EHLO a.test\nS: 250 STARTTLS\nC: STARTTLS\n... 70\nS: 220 go";
    let it = play(&begun("XCLIENT", &format!("{begin}\nC* 517\nS! 16 03 03 00 01 02\nC closes")));
    assert_eq!((it.starttls_us, it.tls), (Some(71_000), Some(Tls::Starttls)));
    for end in ["S closes", "C* 517\nreset", "reset"] {
        let it = play(&begun("XCLIENT", &format!("{begin}\n{end}")));
        assert_eq!((it.starttls_us, it.tls), (None, Some(Tls::None)));
    }
}

#[test]
fn a_client_that_does_not_wait_for_the_greeting() {
    let rest = "... 190\nS: 220 mx.test ESMTP|250-mx.test|250 PIPELINING\nC: MAIL FROM:<a@client.test>\n... 500\nS: 250 ok
        C: RCPT TO:<b@mx.test>\nS: 250 ok\nC: DATA\nS: 354 go\nC* 90\nS: 250 ok\nC: QUIT\nS: 221 bye\nS closes";
    // With data in the SYN the first write may be unseen.
    for script in [format!("C: EHLO client.test\n{rest}"), rest.to_owned()] {
        let it = check(&script, (Some(1), true));
        assert_eq!((it.ehlo_us, it.banner_code), (None, Some(220)));
    }
}

#[test]
fn odd_but_lawful_replies() {
    let script = "S: 220-|220-|220 ****************\nC: EHLO client.test\nS: 500 5.5.1 what\nC: HELO client.test\n... 200\nS: 250 mx.test
        C: AUTH LOGIN\nS: 334\nC: dXNlcg==\nS: 334\nC: cGFzcw==\nS: 235\nC: MAIL FROM:<a@client.test>\nS: 250
        C: RCPT TO:<b@mx.test>\nS: 250\nC: DATA\nS: 354\nC* 90\nS: 250\nC: QUIT\nS: 221\nS closes";
    let it = check(script, (Some(1), true));
    assert_eq!((it.banner_code, it.banner_host, it.ehlo_us), (Some(220), None, Some(201_000)));
}

/// The last exchange of a session that is still open is complete, and counts: as it would if the session ended
/// there.
#[test]
fn an_open_session_under_tls_has_all_its_messages() {
    let begin = "S: 220 mx.test ESMTP Postfix\nC: EHLO mta-a.test\nS: 250-mx.test|250-PIPELINING|250-SIZE 10240000|250-STARTTLS|250 DSN
        C: STARTTLS\nS: 220 2.0.0 Ready to start TLS\nC* 517\nS* 1500\nC* 80\nS* 255\nC* 39\nS* 80";
    let message = "C* 110\nS* 87\nC* 3299\nS* 59";
    for messages in 0..=5_u32 {
        let all = vec![message; messages as usize].join("\nC* 28\nS* 36\n");
        for end in ["open", "C closes", "C* 28\nopen"] {
            let it = play(&format!("{begin}\n{all}\n{end}"));
            assert_eq!((it.tls, it.transactions), (Some(Tls::Starttls), Some(messages)), "{end}");
        }
    }
    // Of a body that has no answer yet nothing is known.
    let it = play(&format!("{begin}\n{message}\nC* 28\nS* 36\nC* 110\nS* 87\nC* 3299\nopen"));
    assert_eq!(it.transactions, Some(1));
}
