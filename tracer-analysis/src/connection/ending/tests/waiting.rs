//! Pauses in which somebody waits for an answer, or for the rest of one.

use proptest::prelude::*;

use super::*;

/// A session in which part of an envelope is answered: the client waits for the rest.
fn answered_in_part(answers: &[u8]) -> Session {
    Session::greeted()
        .talks(1_001, 17, b"250-mx.example\r\n250 PIPELINING\r\n")
        .talks(1_002, 72, answers)
}

#[test]
fn who_waits_for_an_answer_is_not_idle() {
    for answers in
        [&b"250 2.1.0 Ok\r\n"[..], b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n", b"250 2.1.0 Ok\r\n25"]
    {
        let session = || answered_in_part(answers);
        assert_eq!(said(session().local_fin(6_000)), (LocalFin, Some(Dialogue), None));
        assert_eq!(said(session().peer_fin(6_000)), (PeerFin, Some(Dialogue), Some(Peer)));
        let reset = session().reset(6_000, SERVER, true);
        assert_eq!(said(reset), (RstReceived, Some(Dialogue), Some(Peer)));
        assert_eq!(said(session().times_out(900_000, ETIMEDOUT)), (Timeout, Some(Dialogue), None));
        // QUIT, and a close that does not wait for the answer to it.
        assert_eq!(
            said(session().writes(6_000, 6).local_fin(6_001)),
            (LocalFin, Some(Dialogue), None)
        );
        // The rest comes late, and the server closes behind it.
        let late = session().hears(6_000, b"0 2.1.5 Ok\r\n354 go\r\n").peer_fin(6_000);
        assert_eq!(said(late), (PeerFin, Some(Dialogue), Some(Peer)));
        // A 421 in place of it.
        let refused = session().hears(6_000, b"421 4.7.0 mx.example too many\r\n").peer_fin(6_000);
        assert_eq!(said(refused), (PeerFin, Some(Dialogue), Some(Peer)));
    }
    // Nothing more can be due: without PIPELINING, or if the server says that it waits for us.
    let alone =
        Session::greeted().talks(1_001, 17, b"250 mx.example\r\n").talks(1_002, 36, b"250 Ok\r\n");
    assert_eq!(said(alone.peer_fin(6_000)), (PeerFin, Some(Idle), Some(Peer)));
    let farewell = b"421 4.4.2 mx.example Error: timeout exceeded\r\n";
    let timeout = answered_in_part(b"250 2.1.0 Ok\r\n").hears(6_002, farewell).peer_fin(6_002);
    assert_eq!(
        (said(timeout), timeout.idle_us),
        ((PeerFin, Some(Idle), Some(Peer)), Some(5_000_000))
    );
    // Of an envelope that was refused more answers may be due.
    let refused = answered_in_part(b"450 4.7.1 no\r\n").peer_fin(6_000);
    assert_eq!(said(refused), (PeerFin, None, Some(Peer)));
}

#[test]
fn who_owes_the_rest_is_not_idle() {
    // The server asked for a body, and waited for it.
    let body = || answered_in_part(b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 go\r\n");
    assert_eq!(said(body().peer_fin(300_000)), (PeerFin, Some(Dialogue), Some(Peer)));
    let farewell = b"421 4.4.2 mx.example Error: timeout exceeded\r\n";
    assert_eq!(
        said(body().hears(300_000, farewell).peer_fin(300_000)),
        (PeerFin, Some(Dialogue), Some(Peer))
    );
    assert_eq!(
        said(body().writes(5_000, 900).gives_up(30_000, ETIMEDOUT)),
        (Unanswered, Some(Dialogue), None)
    );
    let challenge =
        Session::greeted().talks(1_001, 17, b"250 mx\r\n").talks(1_002, 12, b"334 \r\n");
    assert_eq!(said(challenge.local_fin(6_000)), (LocalFin, Some(Dialogue), None));
}

#[test]
fn replies_that_drip_are_no_idle_time() {
    let mut session = Session::greeted().talks(1_001, 17, b"250 mx.example\r\n").writes(1_002, 36);
    session.state.direction = direction::SERVER;
    session.state.current.first_byte_ns = 1_300 * MS;
    let reply = b"450 4.7.1 try later\r\n";
    for (at, byte) in (2..).zip(reply) {
        session = session.hears(at * 1_000, &[*byte]);
    }
    let last = 1_000 * (reply.len() as u64 + 1);
    assert!(session.state.idle_from_ns != 0, "the kernel side saw gaps");
    let end = session.peer_fin(last);
    assert_eq!((said(end), end.idle_us), ((PeerFin, Some(Dialogue), Some(Peer)), Some(0)));
    // It ends within the line.
    let session = Session::greeted().talks(1_001, 17, b"250-mx.example\r\n250 SI");
    assert_eq!(said(session.peer_fin(9_000)), (PeerFin, Some(Dialogue), Some(Peer)));
}

#[test]
fn farewell_to_a_session_that_carried_nothing() {
    for farewell in
        [&b"421 mx.example closing\r\n"[..], b"421 4.4.2 mx.example timeout\r\n", b"421 mx"]
    {
        let greeted = Session::greeted().hears(3_000, farewell).peer_fin(3_000);
        assert_eq!((said(greeted).0, said(greeted).1), (PeerFin, Some(Idle)));
        assert_eq!(greeted.idle_us, Some(2_000_000));
        let unused = Session::greeted()
            .talks(1_001, 17, b"250 mx\r\n")
            .hears(3_001, farewell)
            .peer_fin(3_001);
        assert_eq!((said(unused).0, said(unused).1), (PeerFin, Some(Idle)));
        assert_eq!(unused.idle_us, Some(2_000_000));
    }
}

#[test]
fn lengths_tell_under_tls_who_waits() {
    let end = |standing| {
        let session = || Session { under_tls: standing, ..after_an_encrypted_message() };
        let spoke = session().hears(4_005, b"\x17").local_fin(4_006);
        let [fin, spoke] = [session().peer_fin(9_000), spoke].map(|it| it.during);
        assert_eq!(fin, spoke);
        fin
    };
    assert_eq!(end(Standing::Settled), Some(Idle));
    assert_eq!(end(Standing::Open), Some(Dialogue));
    assert_eq!(end(Standing::Owing), Some(Dialogue));
    assert_eq!(end(Standing::Unclear), None);
}

/// What a client writes in one go, and how the server answers each command of it.
fn exchanges(chunking: bool, recipients: usize, ends_with: &str) -> Vec<(u32, Vec<String>)> {
    let mut commands = vec![("MAIL FROM:<a@client.example>".to_owned(), "250 2.1.0 Ok".to_owned())];
    for at in 0..recipients {
        let reply = if at % 3 == 2 { "450 4.2.0 later" } else { "250 2.1.5 Ok" };
        commands.push((format!("RCPT TO:<user{at}@mx.example>"), reply.to_owned()));
    }
    let lines = |commands: &[(String, String)]| -> u32 {
        commands.iter().map(|(line, _)| u32::try_from(line.len()).unwrap() + 2).sum()
    };
    let replies = |commands: Vec<(String, String)>| -> Vec<String> {
        commands.into_iter().map(|(_, reply)| reply).collect()
    };
    let taken = vec!["250 2.0.0 Ok: queued as 4A5B6C".to_owned()];
    let mut all = if chunking {
        commands.push(("BDAT 900 LAST".to_owned(), taken[0].clone()));
        vec![(lines(&commands) + 900, replies(commands))]
    } else {
        commands.push(("DATA".to_owned(), "354 go".to_owned()));
        vec![(lines(&commands), replies(commands)), (903, taken)]
    };
    if ends_with == "RSET" {
        all.push((6, vec!["250 2.0.0 Ok".to_owned()]));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// A session of messages whose server stops to speak at any byte, and closes five seconds later. Who still
    /// waits is never called idle, and who has all answers between two messages is never said to wait.
    #[test]
    fn pauses_against_what_both_sides_know(
        chunking in any::<bool>(),
        messages in prop::collection::vec((1_usize..5, prop_oneof![Just(""), Just("RSET")]), 1..3),
        stop in 0_usize..400,
    ) {
        let offers = if chunking { "250-PIPELINING\r\n250 CHUNKING\r\n" } else { "250 PIPELINING\r\n" };
        let ehlo = format!("250-mx.example\r\n{offers}");
        let mut session = Session::greeted().talks(1_001, 16, ehlo.as_bytes());
        let all = messages.iter().flat_map(|(recipients, end)| exchanges(chunking, *recipients, end));
        let (mut at, mut left, mut between) = (1_010, stop, true);
        let mut waits = false;
        for (bytes, replies) in all {
            let whole: String = replies.iter().flat_map(|reply| [reply, "\r\n"]).collect();
            let said = &whole[..left.min(whole.len())];
            left -= said.len();
            at += 10;
            session = if said.is_empty() {
                session.writes(at, bytes)
            } else {
                session.talks(at, bytes, said.as_bytes())
            };
            waits = said.len() < whole.len();
            between = whole.ends_with("2.0.0 Ok\r\n") || whole.contains("queued");
            if waits {
                break;
            }
        }
        let end = session.peer_fin(at + 5_000);
        if waits || !between {
            prop_assert_ne!(end.during, Some(Idle));
        } else {
            prop_assert_eq!(end.during, Some(Idle));
            prop_assert_eq!(end.idle_us, Some(5_000_000));
        }
    }
}
