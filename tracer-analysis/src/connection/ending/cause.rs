//! What ended a connection: order of FINs and resets, socket error, data without acknowledgement.

use tracer_common::record::{ConnectionState, flag};

use crate::connection::EndCause;

/// The other side reset the connection.
const ECONNRESET: u32 = 104;
/// The same after its FIN.
const EPIPE: u32 = 32;
/// Somebody on this host aborted it (`tcp_abort`, as `ss -K` does).
const ECONNABORTED: u32 = 103;

/// Whether the connection was given up for want of an answer. An ICMP error within a session does not end it
/// (RFC 1122 section 4.2.3.9): it is kept as a soft error, and TCP reports it instead of `ETIMEDOUT` when it
/// gives up (`tcp_write_err`). So any error that says neither reset nor abort is silence, whatever its name:
/// `ECONNREFUSED` (port unreachable), `EACCES` (prohibited, over IPv6), `EHOSTUNREACH`, and the rest of
/// `icmp_err_convert` and `icmpv6_err_convert`.
const fn is_no_answer(errno: u32) -> bool {
    !matches!(errno, 0 | ECONNRESET | EPIPE | ECONNABORTED)
}

/// The first of FIN and reset, in either direction, and the kernel's CLOSE; 0 if none has come.
pub(in crate::connection) fn first_end_ns(state: &ConnectionState) -> u64 {
    [
        state.local_fin_ns,
        state.peer_fin_ns,
        state.rst_received_ns,
        state.rst_sent_ns,
        state.closed_ns,
    ]
    .into_iter()
    .filter(|ns| *ns != 0)
    .min()
    .unwrap_or(0)
}

/// The cause. A reset that comes after a FIN is an ordinary end: most clean endings of TLS sessions
/// contain one.
pub(super) fn cause(state: &ConnectionState) -> EndCause {
    if state.closed_ns == 0 {
        // The application has left; only the kernel still tries to reach the server.
        let given_up = state.local_fin_ns != 0 && state.flags & flag::CLOSED_UNANSWERED != 0;
        return if given_up { EndCause::Unanswered } else { EndCause::Open };
    }
    if state.established_ns == 0 {
        let gave_up = connect_errno(state) == 0;
        return if gave_up { EndCause::LocalFin } else { EndCause::ConnectError };
    }
    match (state.local_fin_ns, state.peer_fin_ns) {
        (0, 0) => without_fin(state),
        (0, _) => EndCause::PeerFin,
        (local, peer) if peer != 0 && peer <= local => EndCause::PeerFin,
        _ if is_unanswered(state) => EndCause::Unanswered,
        _ => EndCause::LocalFin,
    }
}

/// Error number of a connect that failed; 0 for none. `tcp_v4_connect` and `tcp_v6_connect` set no error on the
/// socket if there is no free source port: the state goes back to CLOSE and the port is still 0. Where
/// `tcp_connect` is hooked such a connect has no record.
pub(in crate::connection) fn connect_errno(state: &ConnectionState) -> u32 {
    const EADDRNOTAVAIL: u32 = 99;
    let no_port = state.errno == 0 && state.sport == 0 && state.closed_ns != 0;
    if no_port { EADDRNOTAVAIL } else { state.errno }
}

/// The application closed, but the path was silent already: data was being retransmitted, or was
/// never acknowledged before the kernel gave up on the orphan.
fn is_unanswered(state: &ConnectionState) -> bool {
    state.flags & flag::CLOSED_UNANSWERED != 0 || state.unacked != 0 && is_no_answer(state.errno)
}

fn without_fin(state: &ConnectionState) -> EndCause {
    if state.rst_received_ns != 0 || state.errno == ECONNRESET {
        EndCause::RstReceived
    } else if is_no_answer(state.errno) {
        EndCause::Timeout // a death by keepalive sends a reset as well
    } else {
        EndCause::RstSent // a close that sends no FIN is an abort
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;

    use super::*;

    fn closed() -> ConnectionState {
        ConnectionState { established_ns: 1, closed_ns: 100, ..ConnectionState::zeroed() }
    }

    #[test]
    fn connect() {
        let failed = ConnectionState { established_ns: 0, errno: 111, sport: 40_000, ..closed() };
        assert_eq!(cause(&failed), EndCause::ConnectError);
        assert_eq!(cause(&ConnectionState { errno: 0, ..failed }), EndCause::LocalFin);
        let no_port = ConnectionState { errno: 0, sport: 0, ..failed };
        assert_eq!((cause(&no_port), connect_errno(&no_port)), (EndCause::ConnectError, 99));
        let under_way = ConnectionState { closed_ns: 0, ..no_port };
        assert_eq!((cause(&under_way), connect_errno(&under_way)), (EndCause::Open, 0));
    }

    #[test]
    fn first_fin_decides_and_a_later_reset_does_not() {
        let local = ConnectionState { local_fin_ns: 50, rst_received_ns: 60, ..closed() };
        assert_eq!(cause(&local), EndCause::LocalFin);
        let peer = ConnectionState { peer_fin_ns: 40, ..local };
        assert_eq!(cause(&peer), EndCause::PeerFin);
        assert_eq!(first_end_ns(&peer), 40);
    }

    #[test]
    fn resets_and_timeouts() {
        let received = ConnectionState { rst_received_ns: 99, errno: 104, ..closed() };
        assert_eq!(cause(&received), EndCause::RstReceived);
        assert_eq!(cause(&ConnectionState { rst_sent_ns: 101, ..closed() }), EndCause::RstSent);
        let keepalive = ConnectionState { rst_sent_ns: 99, errno: 110, ..closed() };
        assert_eq!(cause(&keepalive), EndCause::Timeout);
    }

    #[test]
    fn silence_has_the_name_of_what_the_path_said_last() {
        // Numbers of include/uapi/asm-generic/errno.h that `icmp_err_convert` and `icmpv6_err_convert` have.
        for errno in [13, 64, 71, 90, 92, 95, 101, 110, 111, 112, 113] {
            let error = ConnectionState { errno, ..closed() };
            assert_eq!(cause(&error), EndCause::Timeout, "{errno}");
            let orphan = ConnectionState { local_fin_ns: 50, unacked: 6, ..error };
            assert_eq!(cause(&orphan), EndCause::Unanswered, "{errno}");
        }
        let aborted = ConnectionState { errno: ECONNABORTED, rst_sent_ns: 101, ..closed() };
        assert_eq!(cause(&aborted), EndCause::RstSent);
    }

    #[test]
    fn silence_before_our_close() {
        let orphan = ConnectionState { local_fin_ns: 50, unacked: 6, errno: 110, ..closed() };
        assert_eq!(cause(&orphan), EndCause::Unanswered);
        let fin_only = ConnectionState { unacked: 0, ..orphan };
        assert_eq!(cause(&fin_only), EndCause::LocalFin);
        let early = ConnectionState { errno: 0, flags: flag::CLOSED_UNANSWERED, ..orphan };
        assert_eq!(cause(&early), EndCause::Unanswered);
    }

    #[test]
    fn not_closed_is_open() {
        assert_eq!(cause(&ConnectionState { closed_ns: 0, ..closed() }), EndCause::Open);
    }
}
