//! Endings as captures of real sessions show them.

mod waiting;

use bytemuck::Zeroable;
use tracer_common::record::{ConnectionState, ReplySegment, Turn, direction, flag};

use super::{Ending, ending};
use crate::{
    connection::{EndCause, EndDuring, EndSuspect, Tls, replies::Replies, turns::Turns},
    dialogue::{Rest, Standing},
};

const MS: u64 = 1_000_000;
const EACCES: u32 = 13;
const ETIMEDOUT: u32 = 110;
const ECONNREFUSED: u32 = 111;
const EHOSTUNREACH: u32 = 113;
const SERVER: u8 = 63;
const ROUTER: u8 = 64;

/// A session that began at 1 s and was greeted at once; times are milliseconds.
struct Session {
    state: ConnectionState,
    replies: Replies,
    heard: u32,
    /// What lengths say under TLS.
    under_tls: Standing,
}

impl Session {
    fn begin() -> Self {
        let state = ConnectionState {
            start_ns: 1_000 * MS,
            established_ns: 1_000 * MS,
            peer_ttl: SERVER,
            peer_ttl_min: SERVER,
            peer_ttl_max: SERVER,
            ..ConnectionState::zeroed()
        };
        Self { state, replies: Replies::default(), heard: 0, under_tls: Standing::Settled }
    }

    /// One in cleartext that was greeted.
    fn greeted() -> Self {
        Self::begin().hears(1_000, b"220 mx.example ESMTP\r\n")
    }

    /// One under TLS in which nothing was read but the greeting.
    fn encrypted() -> Self {
        Self::greeted().hears(1_000, b"\x16\x03\x03\x00\x7a")
    }

    /// The server says this to nobody in particular.
    fn hears(mut self, at: u64, bytes: &[u8]) -> Self {
        let payload = u32::try_from(bytes.len()).unwrap();
        let (offset, time_ns) = (self.heard, at * MS);
        self.replies
            .segment(&ReplySegment { offset, payload, time_ns, ..ReplySegment::zeroed() }, bytes);
        self.heard += payload;
        let state = &mut self.state;
        if state.first_byte_ns == 0 {
            state.first_byte_ns = at * MS;
        }
        if state.direction == direction::SERVER && at * MS - state.last_data_ns >= 100 * MS {
            (state.idle_from_ns, state.idle_until_ns) = (state.last_data_ns, at * MS);
        }
        state.current.last_ns = at * MS;
        state.last_data_ns = at * MS;
        self
    }

    /// The client writes, and nobody answers.
    fn writes(mut self, at: u64, bytes: u32) -> Self {
        let state = &mut self.state;
        if state.turns > 0 {
            state.batch.turns[state.batch.count as usize] = state.current;
            state.batch.count += 1;
        }
        state.turns += 1;
        let ns = at * MS;
        state.current = Turn { start_ns: ns, last_ns: ns, client_bytes: bytes, ..Turn::zeroed() };
        state.direction = direction::CLIENT;
        state.last_data_ns = ns;
        (state.idle_from_ns, state.idle_until_ns) = (0, 0);
        self
    }

    /// The client writes and gets `reply`; under TLS nobody reads what it is.
    fn talks(self, at: u64, bytes: u32, reply: &[u8]) -> Self {
        let mut session = self.writes(at, bytes);
        session.state.direction = direction::SERVER;
        session.state.current.first_byte_ns = at * MS;
        session.state.idle_from_ns = 0;
        session.hears(at, reply)
    }

    fn ends(mut self, change: impl FnOnce(&mut ConnectionState)) -> Ending {
        change(&mut self.state);
        let mut turns = Turns::default();
        turns.finish(&self.state);
        let current = (self.state.direction != direction::NONE).then_some(&self.state.current);
        for turn in self.state.batch.in_use().iter().chain(current) {
            self.replies.turn(turn);
        }
        let told = self.replies.told(turns.seen() != self.state.turns);
        let rest = match self.replies.tls() {
            Some(Tls::Starttls | Tls::Implicit) => {
                Some(Rest { before: self.under_tls, now: self.under_tls, ..Rest::default() })
            }
            _ => told.rest,
        };
        ending(&self.state, &turns, &self.replies, rest, 900_000 * MS)
    }

    fn reset(self, at: u64, ttl: u8, ack: bool) -> Ending {
        self.ends(|state| {
            (state.rst_received_ns, state.closed_ns) = (at * MS, at * MS);
            state.closing_ttl = ttl;
            state.errno = 104;
            state.flags = if ack { flag::RESET_ACK } else { 0 };
        })
    }

    fn peer_fin(self, at: u64) -> Ending {
        self.ends(|state| {
            state.peer_fin_ns = at * MS;
            state.closing_ttl = SERVER;
            state.closed_ns = (at + 60_000) * MS;
        })
    }

    /// The client closes; the rest of the end is ordinary.
    fn local_fin(self, at: u64) -> Ending {
        self.ends(|state| (state.local_fin_ns, state.closed_ns) = (at * MS, (at + 1) * MS))
    }

    /// The client gives up while its segments are sent again and again.
    fn gives_up(self, at: u64, errno: u32) -> Ending {
        self.ends(|state| {
            (state.local_fin_ns, state.closed_ns) = (at * MS, (at + 99_000) * MS);
            state.errno = errno;
            state.flags = flag::CLOSED_UNANSWERED;
        })
    }

    /// The kernel gives up.
    fn times_out(self, at: u64, errno: u32) -> Ending {
        self.ends(|state| (state.closed_ns, state.errno) = (at * MS, errno))
    }
}

/// A message in cleartext at 1 s, as Postfix sends it to a server with PIPELINING.
fn after_a_message() -> Session {
    Session::greeted()
        .talks(1_001, 17, b"250-mx.example\r\n250 PIPELINING\r\n")
        .talks(1_002, 80, b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data\r\n")
        .talks(1_003, 779, b"250 2.0.0 Ok\r\n")
}

/// The same under TLS 1.3.
fn after_an_encrypted_message() -> Session {
    [(1_002, 80), (1_003, 39), (1_004, 109), (1_005, 799)]
        .into_iter()
        .fold(Session::encrypted(), |session, (at, bytes)| session.talks(at, bytes, b"\x17"))
}

/// Cause, moment, suspect.
fn said(end: Ending) -> (EndCause, Option<EndDuring>, Option<EndSuspect>) {
    (end.cause, end.during, end.suspect)
}

use EndCause::{LocalFin, PeerFin, RstReceived, Timeout, Unanswered};
use EndDuring::{Connect, Dialogue, Greeting, Idle, Reuse};
use EndSuspect::{Middlebox, Peer};

#[test]
fn silence_on_reuse() {
    // Postfix waits 20 s for the answer to RSET; the kernel goes on for a while.
    for session in
        [after_a_message().writes(10_003, 6), after_an_encrypted_message().writes(10_005, 28)]
    {
        let end = session.gives_up(30_000, ETIMEDOUT);
        assert_eq!(said(end), (Unanswered, Some(Reuse), Some(Middlebox)));
        assert_eq!(end.idle_us, Some(9_000_000));
        assert!(end.unanswered_us.unwrap().abs_diff(20_000_000) < 10_000);
    }
    let user_timeout = after_a_message().writes(8_003, 6).times_out(11_003, ETIMEDOUT);
    assert_eq!(said(user_timeout), (Timeout, Some(Reuse), Some(Middlebox)));
    assert_eq!(
        (user_timeout.idle_us, user_timeout.unanswered_us),
        (Some(7_000_000), Some(3_000_000))
    );
    // A router says that there is no host; the path came back; nobody knows yet.
    let gone = after_a_message().writes(8_003, 6).times_out(11_003, EHOSTUNREACH);
    assert_eq!(said(gone), (Timeout, Some(Reuse), None));
    let back = after_a_message().writes(8_003, 6).gives_up(11_003, 0);
    assert_eq!(said(back), (Unanswered, Some(Reuse), None));
}

/// `reject with icmp port-unreachable`, and `icmpv6 admin-prohibited`, of a filter that forgot the session.
#[test]
fn refusal_by_icmp_on_reuse() {
    for errno in [ECONNREFUSED, EACCES] {
        let user_timeout = after_a_message().writes(8_003, 6).times_out(11_003, errno);
        assert_eq!(said(user_timeout), (Timeout, Some(Reuse), Some(Middlebox)));
        assert_eq!(user_timeout.idle_us, Some(7_000_000));
        let given_up = after_a_message().writes(8_003, 6).gives_up(11_003, errno);
        assert_eq!(said(given_up), (Unanswered, Some(Reuse), Some(Middlebox)));
        // Whoever refuses what is in use has other reasons.
        let in_use = after_a_message().writes(1_700, 6).times_out(11_003, errno);
        assert_eq!(said(in_use), (Timeout, Some(Dialogue), None));
    }
}

#[test]
fn silence_in_a_dialogue_blames_nobody() {
    let end = after_a_message().writes(1_700, 80).gives_up(300_000, ETIMEDOUT);
    assert_eq!(said(end), (Unanswered, Some(Dialogue), None));
    assert_eq!(end.unanswered_us, Some(298_300_000));
    let keepalive = after_a_message().times_out(8_000_000, ETIMEDOUT);
    assert_eq!(said(keepalive), (Timeout, Some(Idle), Some(Middlebox)));
    assert_eq!(keepalive.unanswered_us, None);
}

#[test]
fn reset_of_a_box() {
    let on_reuse = after_a_message().writes(10_003, 6).reset(10_003, ROUTER, false);
    assert_eq!(said(on_reuse), (RstReceived, Some(Reuse), Some(Middlebox)));
    assert_eq!((on_reuse.idle_us, on_reuse.unanswered_us), (Some(9_000_000), Some(0)));
    assert_eq!((on_reuse.reset_ttl, on_reuse.peer_ttl), (Some(ROUTER), Some(SERVER)));
    let encrypted = after_an_encrypted_message().writes(10_005, 28).reset(10_005, ROUTER, false);
    assert_eq!(said(encrypted), (RstReceived, Some(Reuse), Some(Middlebox)));
    for session in [after_a_message(), after_an_encrypted_message()] {
        let at_expiry = session.reset(5_005, 128, true);
        assert_eq!(said(at_expiry), (RstReceived, Some(Idle), Some(Middlebox)));
    }
    let in_a_dialogue = after_a_message().writes(1_010, 80).reset(1_011, ROUTER, false);
    assert_eq!(said(in_a_dialogue), (RstReceived, Some(Dialogue), Some(Middlebox)));
}

#[test]
fn reset_from_the_distance_of_the_server() {
    for session in [after_a_message(), after_an_encrypted_message()] {
        assert_eq!(said(session.reset(5_000, SERVER, true)), (RstReceived, Some(Idle), Some(Peer)));
    }
    let command = after_a_message().writes(1_010, 80).reset(1_011, SERVER, true);
    assert_eq!(said(command), (RstReceived, Some(Dialogue), Some(Peer)));
    // It does not know us any more, for whatever reason.
    let forgot = after_a_message().writes(10_003, 6).reset(10_003, SERVER, false);
    assert_eq!(said(forgot), (RstReceived, Some(Reuse), None));
    assert_eq!(forgot.reset_ack, Some(false));
    // The path of the data changed, so that the TTL says nothing.
    let mut moving = after_a_message();
    moving.state.peer_ttl_max = ROUTER;
    assert_eq!(said(moving.reset(5_000, ROUTER, true)).2, Some(Peer));
    // No TTL: the hook could not be attached, or the reset came when the state was not ESTABLISHED.
    let unknown = after_a_message().reset(5_000, 0, false);
    assert_eq!((said(unknown).2, unknown.reset_ttl, unknown.reset_ack), (None, None, None));
}

#[test]
fn reset_that_may_be_an_ordinary_end() {
    let quit = after_a_message().talks(1_010, 6, b"221 2.0.0 Bye\r\n").reset(1_011, SERVER, true);
    assert_eq!(said(quit), (RstReceived, Some(Dialogue), None));
    let unread = after_a_message().writes(1_010, 6).reset(1_011, SERVER, true);
    assert_eq!(said(unread), (RstReceived, Some(Dialogue), None));
    // QUIT, `close_notify`, and both, in TLS 1.3 and 1.2; QUIT in one record with the body, answered.
    for bytes in [28, 24, 52, 35, 31, 66, 27, 23, 50] {
        for ttl in [SERVER, ROUTER] {
            let end = after_an_encrypted_message().writes(1_010, bytes).reset(1_011, ttl, true);
            assert_eq!(said(end), (RstReceived, Some(Dialogue), None), "{bytes} {ttl}");
        }
    }
    let with_body = after_an_encrypted_message().reset(1_011, ROUTER, true);
    assert_eq!(said(with_body), (RstReceived, Some(Dialogue), None));
    // An envelope is no goodbye.
    let envelope = after_an_encrypted_message().writes(1_010, 110).reset(1_011, SERVER, true);
    assert_eq!(said(envelope), (RstReceived, Some(Dialogue), Some(Peer)));
    // After an idle time a goodbye only finds the session dead.
    let late = after_an_encrypted_message().writes(9_000, 28).reset(9_000, SERVER, true);
    assert_eq!(said(late), (RstReceived, Some(Reuse), None));
}

#[test]
fn server_closes_an_idle_session() {
    let farewell = b"421 4.4.2 mx.example Error: timeout exceeded\r\n";
    let end = after_a_message().hears(301_003, farewell).peer_fin(301_004);
    assert_eq!(said(end), (PeerFin, Some(Idle), Some(Peer)));
    assert_eq!((end.idle_us, end.fin_ttl), (Some(300_000_000), Some(SERVER)));
    let without = after_a_message().peer_fin(301_003);
    assert_eq!(said(without), (PeerFin, Some(Idle), Some(Peer)));
    assert_eq!(without.idle_us, Some(300_000_000));
    // tlsproxy heeds the encrypted 421 and closes first; in the record of the kernel the FIN is ours.
    let encrypted = after_an_encrypted_message().hears(4_005, b"\x17");
    let heeded = encrypted.local_fin(4_006);
    assert_eq!(said(heeded), (LocalFin, Some(Idle), Some(Peer)));
    assert_eq!(heeded.idle_us, Some(3_000_000));
    // Later resets do not matter.
    let reset = after_a_message().hears(301_003, farewell).ends(|state| {
        (state.peer_fin_ns, state.rst_received_ns) = (301_004 * MS, 400_000 * MS);
        (state.closed_ns, state.closing_ttl) = (400_000 * MS, SERVER);
    });
    assert_eq!(said(reset), (PeerFin, Some(Idle), Some(Peer)));
    assert_eq!(reset.reset_ttl, None);
}

#[test]
fn ordinary_ends() {
    let quit = after_a_message().talks(1_010, 6, b"221 2.0.0 Bye\r\n").peer_fin(1_010);
    assert_eq!(said(quit), (PeerFin, Some(Dialogue), None));
    assert_eq!(said(after_an_encrypted_message().peer_fin(1_006)), (PeerFin, Some(Dialogue), None));
    let cache = after_a_message().local_fin(3_003);
    assert_eq!((said(cache), cache.idle_us), ((LocalFin, Some(Idle), None), Some(2_000_000)));
    // `close_notify` and FIN in one go, after two seconds in the cache.
    let encrypted = after_an_encrypted_message().writes(3_005, 24).local_fin(3_006);
    assert_eq!(
        (said(encrypted), encrypted.idle_us),
        ((LocalFin, Some(Idle), None), Some(2_000_000))
    );
    assert_eq!(encrypted.unanswered_us, None);
    let slow = after_a_message().writes(9_000, 80).local_fin(39_000);
    assert_eq!(said(slow), (LocalFin, Some(Reuse), None));
}

#[test]
fn before_the_dialogue() {
    let refused = Session::begin().hears(1_020, b"421 4.7.0 mx.example too many\r\n");
    assert_eq!(said(refused.peer_fin(1_020)), (PeerFin, Some(Greeting), Some(Peer)));
    let mut silent = Session::begin();
    silent.state.peer_ttl = 0;
    assert_eq!(said(silent.local_fin(31_000)), (LocalFin, Some(Greeting), None));
    let teaser = Session::begin().hears(1_020, b"220-please wait\r\n");
    assert_eq!(said(teaser.local_fin(4_000)), (LocalFin, Some(Greeting), None));
    assert_eq!(said(Session::greeted().local_fin(4_000)), (LocalFin, Some(Idle), None));
    let unread = Session::begin().ends(|state| {
        state.first_byte_ns = 1_001 * MS;
        (state.local_fin_ns, state.closed_ns) = (9_000 * MS, 9_000 * MS);
    });
    assert_eq!(said(unread), (LocalFin, None, None));
    let failed = Session::begin().ends(|state| {
        (state.established_ns, state.closed_ns, state.errno) = (0, 2_000 * MS, ETIMEDOUT);
    });
    assert_eq!(said(failed), (EndCause::ConnectError, Some(Connect), None));
    assert_eq!((failed.idle_us, failed.keepalive), (None, None));
}

#[test]
fn a_lost_turn_leaves_the_moment_open() {
    let mut session = after_a_message().writes(10_003, 6);
    session.state.batch.count -= 1;
    let end = session.gives_up(30_000, ETIMEDOUT);
    assert_eq!(said(end), (Unanswered, None, None));
}

#[test]
fn still_open() {
    let end = after_a_message().ends(|_| {});
    assert_eq!(said(end), (EndCause::Open, None, None));
    assert_eq!((end.idle_us, end.keepalive), (Some(898_997_000), None));
    // The application has given it up; only the kernel still tries.
    let orphan = after_a_message().writes(10_003, 6).ends(|state| {
        (state.local_fin_ns, state.flags) = (30_003 * MS, flag::CLOSED_UNANSWERED);
    });
    assert_eq!(said(orphan), (Unanswered, Some(Reuse), Some(Middlebox)));
    assert_eq!(orphan.unanswered_us, Some(20_000_000));
    let unreachable = after_a_message().writes(10_003, 6).ends(|state| {
        (state.local_fin_ns, state.flags) = (30_003 * MS, flag::CLOSED_UNANSWERED);
        state.errno = EHOSTUNREACH;
    });
    assert_eq!(said(unreachable), (Unanswered, Some(Reuse), None));
}

#[test]
fn quit_before_the_end() {
    let quit = |end: Ending| end.quit;
    let answered = || after_a_message().talks(1_010, 6, b"221 2.0.0 Bye\r\n");
    assert_eq!(quit(answered().peer_fin(1_010)), Some(true));
    assert_eq!(quit(answered().reset(1_010, SERVER, true)), Some(true));
    assert_eq!(quit(after_a_message().writes(1_010, 6).local_fin(1_011)), Some(true));
    // RSET would look the same; behind a body QUIT is not seen.
    assert_eq!(quit(after_a_message().writes(1_010, 6).peer_fin(1_011)), None);
    assert_eq!(quit(after_a_message().local_fin(1_010)), None);
    assert_eq!(quit(after_a_message().local_fin(3_003)), Some(false));
    assert_eq!(quit(after_a_message().peer_fin(301_003)), Some(false));
    assert_eq!(quit(after_an_encrypted_message().peer_fin(1_006)), None);
    assert_eq!(quit(after_an_encrypted_message().writes(3_005, 24).local_fin(3_006)), Some(true));
}
