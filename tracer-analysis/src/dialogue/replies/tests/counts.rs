//! How many messages were handed over.

use super::*;

#[test]
fn bdat_is_counted_exactly_where_the_server_names_the_message() {
    for name in ["Postfix", "Exim", "Microsoft", "Sendmail"] {
        for way in WAYS {
            for body in [20, 300, 5_000] {
                let by = server(name);
                let one = Session::begin().message(by, way, body);
                let three = one.message(by, way, body).says(6, by.rset).message(by, way, body);
                assert_eq!(count(&three.quit()), (Some(3), true), "{name} {way:?} {body}");
                let one = Session::begin().message(by, way, body).quit();
                assert_eq!(count(&one), (Some(1), true), "{name} {way:?} {body}");
            }
        }
    }
}

/// The last message may have been a chunk after which the client gave up: nobody does, but who knows.
#[test]
fn bdat_is_likely_where_the_last_message_may_have_been_a_chunk() {
    let by = server("Google");
    for (way, body) in WAYS.into_iter().flat_map(|way| [(way, 500), (way, 3_000)]) {
        let two = Session::begin().message(by, way, body).message(by, way, body);
        let three = two.message(by, way, body).quit();
        assert_eq!(count(&three), (Some(3), false), "{way:?} {body}");
    }
    // A MAIL that is accepted proves that the message before it was complete.
    let session = Session::begin().message(by, Way::Single, 3_000).says(30, by.mail).quit();
    assert_eq!(count(&session), (Some(1), true));
}

#[test]
fn terse_server_is_told_apart_by_lengths_or_not_at_all() {
    let by = server("terse");
    for (body, expected) in [(3_000, (Some(2), false)), (60, (None, false))] {
        let one = Session::begin().message(by, Way::Single, body);
        assert_eq!(count(&one.message(by, Way::Single, body).quit()), expected, "{body}");
    }
    // Two recipients, or one and a short message.
    let short = Session::begin().group(150, &[by.mail, by.rcpt, by.taken]).quit();
    assert_eq!(count(&short), (None, false));
}

#[test]
fn data_is_counted_exactly_whatever_is_offered() {
    for by in &SERVERS {
        let message =
            |it: Session, last: &str| it.group(90, &[by.mail, by.rcpt, "354 Go"]).says(900, last);
        let taken = message(Session::begin(), by.taken).says(6, by.rset);
        let refused = message(taken, "554 5.7.1 Spam").quit();
        assert_eq!(count(&refused), (Some(2), true), "{}", by.name);
        let nobody = Session::begin().group(90, &[by.mail, by.no_rcpt, by.no_data]);
        let then = message(nobody.says(6, by.rset), by.taken).quit();
        // Whether the 5xx refused DATA or a body cannot always be told.
        assert_eq!(count(&then).0, Some(1), "{}", by.name);
    }
}

#[test]
fn both_ways_in_one_session_are_never_miscounted_exactly() {
    for by in &SERVERS {
        for way in WAYS {
            let bdat = |it: Session| it.message(by, way, 900);
            let data =
                |it: Session| it.group(90, &[by.mail, by.rcpt, "354 Go"]).says(900, by.taken);
            for session in [data(bdat(Session::begin())), bdat(data(Session::begin()))] {
                let (told, exact) = count(&session.quit());
                assert!(!exact || told == Some(2), "{} {way:?}: {told:?}", by.name);
            }
        }
        if matches!(by.name, "Postfix" | "Exim" | "Microsoft") {
            let session = Session::begin().message(by, Way::Apart, 900);
            let both = session.group(90, &[by.mail, by.rcpt, "354 Go"]).says(900, by.taken).quit();
            assert_eq!(count(&both), (Some(2), true), "{}", by.name);
        }
    }
}

#[test]
fn without_the_offer_nobody_uses_bdat() {
    for ehlo in ["250 mx", "250-mx\r\n250 PIPELINING"] {
        let by = server("terse");
        let session = Session::default().says(16, ehlo).message(by, Way::Single, 3_000).quit();
        assert_eq!(count(&session), (Some(0), true), "they were recipients, or RSET");
    }
    let helo = Session::default().says(16, "500 What?").says(16, "250 mx");
    let helo = helo.says(30, "250 OK").says(30, "250 OK").says(6, "354 Go").says(90, "250 OK");
    assert_eq!(count(&helo.quit()), (Some(1), true));
}

#[test]
fn envelope_without_a_message_carries_none() {
    for name in ["Postfix", "Microsoft", "Google", "Sendmail"] {
        let by = server(name);
        let verified = Session::begin().says(30, by.mail).says(30, by.rcpt).says(6, by.rset);
        assert_eq!(count(&verified.quit()), (Some(0), true), "{name}");
        let many = Session::begin().group(300, &[by.mail, by.rcpt, by.rcpt, by.rcpt]);
        assert_eq!(count(&many.says(6, by.rset).quit()), (Some(0), true), "{name}");
        let refused = Session::begin().says(30, by.mail).says(30, by.no_rcpt).says(6, by.rset);
        assert_eq!(count(&refused.quit()), (Some(0), true), "{name}");
    }
}

#[test]
fn refused_bodies_count() {
    let by = server("Postfix");
    let envelope = || Session::begin().group(60, &[by.mail, by.rcpt]);
    let refused = envelope().says(2_000, "554 5.7.1 Spam");
    // Too long for a recipient. It may have been a chunk that was not the last.
    assert_eq!(count(&refused.quit()), (None, false));
    let chunked = envelope().says(4_000, by.chunk).says(4_000, by.taken).says(6, by.rset);
    assert_eq!(count(&chunked.quit()), (Some(1), true), "a chunk is no message");
}

#[test]
fn server_that_hangs_up() {
    let data = || Session::begin().group(60, &["250 2.1.0 Ok", "250 2.1.5 Ok", "354 Go"]);
    // The answer to the body, most likely: refused for now. But the server may have closed in the middle of it.
    assert_eq!(count(&data().says(900, "421 4.3.2 Shutting down")), (Some(1), false));
    assert_eq!(count(&data().says(900, "421 busy")), (Some(1), false));
    // It waited too long for the end of the body, though not for long after the last write.
    assert_eq!(count(&data().says(900, "421 4.4.2 Timeout exceeded")), (Some(0), false));
    // Whoever closes says nothing else.
    let goes_on = data().says(900, "421 busy").says(6, "250 2.0.0 Ok");
    assert_eq!(count(&goes_on), (Some(1), true));
    for text in ["421 4.4.2 Timeout exceeded", "421 4.7.0 Too much"] {
        let by = server("Exim");
        let idle = Session::begin().message(by, Way::Whole, 3_000).group(0, &[text]);
        assert_eq!(count(&idle), (Some(1), true), "{text}");
    }
    let by = server("Postfix");
    let envelope = Session::begin().group(60, &[by.mail, by.rcpt]);
    assert_eq!(count(&envelope.says(30, "421 4.7.0 Slow down")).0, Some(0));
    let body = Session::begin().message(by, Way::Apart, 3_000).group(60, &[by.mail, by.rcpt]);
    assert_eq!(count(&body.says(3_000, "421 4.7.0 Slow down")), (Some(2), false));
}

/// One final reply per recipient: whatever the count, it is not more than there were messages.
#[test]
fn lmtp_does_not_run_wild() {
    let by = server("Postfix");
    let data = Session::begin().group(90, &[by.mail, by.rcpt, by.rcpt, "354 Go"]);
    let data = data.group(900, &["250 2.0.0 <b> Saved", "250 2.0.0 <c> Saved"]).quit();
    assert_eq!(count(&data), (Some(1), true));
    let bdat = Session::begin().group(60, &[by.mail, by.rcpt, by.rcpt]);
    let bdat = bdat.group(900, &[by.taken, by.taken]).quit();
    assert!(matches!(count(&bdat).0, None | Some(1)));
}

/// The server replies to the envelope while the client is still writing the body.
#[test]
fn body_in_several_turns() {
    for name in ["Postfix", "Exim", "Microsoft"] {
        let by = server(name);
        let long = Session::begin().group(8_192, &[by.mail, by.rcpt]).says(90_000, by.taken);
        let three = long.group(8_192, &[by.mail]).group(8_192, &[by.rcpt]).says(900, by.taken);
        assert_eq!(count(&three.quit()), (Some(2), true), "{name}");
    }
}

#[test]
fn commands_around_messages() {
    let by = server("Exim");
    let auth = Session::begin().says(12, "334 VXNlcm5hbWU6").says(1_500, "235 ok");
    let noop = auth.says(6, "250 OK").message(by, Way::Whole, 700).says(6, "250 OK");
    assert_eq!(count(&noop.message(by, Way::Chunks, 700).quit()), (Some(2), true));
    // RSET rides with the next envelope.
    let kumo = Session::begin().message(by, Way::Apart, 700);
    let kumo = kumo.group(66, &[by.rset, by.mail, by.rcpt]).says(900, by.taken);
    assert_eq!(count(&kumo.quit()), (Some(2), true));
    // QUIT rides with the last message.
    let last = Session::begin().group(900, &[by.mail, by.rcpt, by.taken, "221 Bye"]);
    assert_eq!(count(&last), (Some(1), true));
    // Many recipients, all accepted in the same words.
    let mut replies = vec![by.mail];
    replies.extend([by.rcpt; 100]);
    replies.push(by.taken);
    assert_eq!(count(&Session::begin().group(9_000, &replies).quit()).0, Some(1));
}
