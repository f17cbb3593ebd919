//! Who ended a connection that this host did not want to end: the server, or a box on the path. Nobody is
//! suspected where the facts allow an ordinary end.

use tracer_common::record::{ConnectionState, IDLE_NS, flag};

use super::{Facts, REUSE_NS, during::idle_ns};
use crate::connection::{EndCause, EndDuring, EndSuspect, Tls, turns::Unanswered};

/// Reply codes of a server that closes (RFC 5321 section 4.2.3): on its own, and because it was asked to.
const CLOSING: u16 = 421;
const GOODBYE: u16 = 221;

/// What a client writes to end a session: QUIT, which is as long as RSET and NOOP.
const QUIT_BYTES: u32 = 6;
/// A `close_notify` of TLS.
const ALERT_BYTES: u32 = 2;
/// Bytes that a record adds: TLS 1.3, TLS 1.2 with AES-GCM, TLS 1.2 with ChaCha20-Poly1305.
const RECORD_BYTES: [u32; 3] = [22, 29, 21];

pub(super) fn suspect(
    facts: Facts<'_>,
    cause: EndCause,
    during: Option<EndDuring>,
) -> Option<EndSuspect> {
    let said = facts.replies.last_code();
    match cause {
        EndCause::Open | EndCause::ConnectError => None,
        // Its FIN or reset, or our own close that heeds it.
        _ if said == Some(CLOSING) => Some(EndSuspect::Peer),
        // Under TLS a 421 or `close_notify` cannot be read, nor forged by a box.
        EndCause::LocalFin => facts.unasked_ns().map(|_| EndSuspect::Peer),
        EndCause::PeerFin | EndCause::RstReceived if said == Some(GOODBYE) => None,
        EndCause::PeerFin => of_a_fin(facts, during),
        EndCause::RstReceived => of_a_reset(facts, during),
        EndCause::Timeout | EndCause::Unanswered => of_silence(facts, during),
        EndCause::RstSent => None,
    }
}

fn of_a_fin(facts: Facts<'_>, during: Option<EndDuring>) -> Option<EndSuspect> {
    if facts.unasked_ns().is_some() {
        return Some(EndSuspect::Peer);
    }
    of_a_packet(facts, during, true)
}

/// A server that has forgotten the connection was restarted, or a box has changed our address or kept its
/// FIN from us: that it does not know us blames nobody.
fn of_a_reset(facts: Facts<'_>, during: Option<EndDuring>) -> Option<EndSuspect> {
    of_a_packet(facts, during, facts.state.flags & flag::RESET_ACK != 0)
}

fn of_a_packet(
    facts: Facts<'_>,
    during: Option<EndDuring>,
    sender_knows_us: bool,
) -> Option<EndSuspect> {
    let idle = was_idle(facts, during);
    let goodbye = may_be_goodbye(facts, idle);
    if from_the_distance_of_the_server(facts.state)? {
        (sender_knows_us && !goodbye).then_some(EndSuspect::Peer)
    } else {
        // What had idled was dead before we said goodbye.
        (idle || !goodbye).then_some(EndSuspect::Middlebox)
    }
}

/// Silence to the first write after an idle time, or to keepalive probes: somebody forgot the session. A
/// path that is down altogether is silent too, unless a router says that it is; within a dialogue that is
/// as likely. A refusal by ICMP of what was allowed before is a filter that has forgotten it.
fn of_silence(facts: Facts<'_>, during: Option<EndDuring>) -> Option<EndSuspect> {
    const EACCES: u32 = 13;
    const ETIMEDOUT: u32 = 110;
    const ECONNREFUSED: u32 = 111;
    let state = facts.state;
    let forgotten = matches!(state.errno, EACCES | ETIMEDOUT | ECONNREFUSED)
        || state.closed_ns == 0 && state.errno == 0;
    (was_idle(facts, during) && forgotten).then_some(EndSuspect::Middlebox)
}

/// Whether QUIT had ended the session; `None` if that cannot be told.
pub(super) fn quit(facts: Facts<'_>) -> Option<bool> {
    let state = facts.state;
    let write = facts.turns.unanswered();
    if facts.replies.last_code().is_none() {
        let goodbye = write.is_some_and(|it| it.closing && is_encrypted_goodbye(it.bytes));
        let encrypted = matches!(facts.replies.tls(), Some(Tls::Starttls | Tls::Implicit));
        return (goodbye && encrypted).then_some(true);
    }
    match write {
        Some(Unanswered { bytes: QUIT_BYTES, closing: true, .. }) => Some(true),
        // It may be RSET or NOOP as well.
        Some(Unanswered { bytes: QUIT_BYTES, .. }) => None,
        _ if facts.replies.last_code() == Some(GOODBYE) => Some(true),
        // We close at once after an exchange whose last bytes may have been QUIT.
        _ if state.local_fin_ns == facts.end_ns
            && state.current.client_bytes > QUIT_BYTES
            && facts.end_ns.saturating_sub(state.last_data_ns) < IDLE_NS =>
        {
            None
        }
        _ => Some(false),
    }
}

fn was_idle(facts: Facts<'_>, during: Option<EndDuring>) -> bool {
    match during {
        Some(EndDuring::Reuse) => true,
        Some(EndDuring::Idle) => idle_ns(facts, during) >= REUSE_NS,
        _ => false,
    }
}

/// Whether FIN or reset came with a TTL that the server's data had; `None` if either is unknown. The TTL of
/// data can vary, if the path does.
fn from_the_distance_of_the_server(state: &ConnectionState) -> Option<bool> {
    let data = state.peer_ttl_min..=state.peer_ttl_max;
    (state.peer_ttl != 0 && state.closing_ttl != 0).then(|| data.contains(&state.closing_ttl))
}

/// Whether the last thing the client said may have ended the session, so that whatever followed is ordinary.
/// What it writes is never read: its length, and in cleartext the reply, must do.
fn may_be_goodbye(facts: Facts<'_>, idle: bool) -> bool {
    let cleartext = facts.replies.tls() == Some(Tls::None) && facts.replies.last_code().is_some();
    match facts.turns.unanswered() {
        Some(Unanswered { bytes: QUIT_BYTES, .. }) => true,
        Some(Unanswered { bytes, .. }) => !cleartext && is_encrypted_goodbye(*bytes),
        // Replies that were read hold no 221, and a server that said it does not wait to close.
        None => !cleartext && !idle,
    }
}

/// QUIT, `close_notify`, or both, in a record each.
fn is_encrypted_goodbye(bytes: u32) -> bool {
    RECORD_BYTES.iter().any(|record| {
        let (quit, alert) = (QUIT_BYTES + record, ALERT_BYTES + record);
        [quit, alert, quit + alert].contains(&bytes)
    })
}
