//! Pauses in which somebody waits for an answer, or for the rest of one.

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
