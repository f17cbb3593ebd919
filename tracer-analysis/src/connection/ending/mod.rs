//! How a connection ended: the cause, the moment, and who is suspected, each from facts of the kernel.

mod cause;
mod during;
mod suspect;
#[cfg(test)]
mod tests;

use tracer_common::record::{ConnectionState, direction, flag};

use super::{EndCause, EndDuring, EndSuspect, replies::Replies, turns::Turns};
use crate::dialogue::{Rest, Standing};

pub(super) use self::cause::{connect_errno, first_end_ns};

/// A pause before a write that is long enough to call the write a reuse of an idle session, and to suspect
/// a box on the path of having forgotten it. Pauses within a dialogue are shorter (a client that reads a
/// body from a slow disk), and timers of boxes longer.
const REUSE_NS: u64 = 1_000_000_000;

/// How a connection ended, in the words of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) cause: EndCause,
    pub(super) during: Option<EndDuring>,
    pub(super) quit: Option<bool>,
    pub(super) idle_us: Option<u64>,
    pub(super) unanswered_us: Option<u64>,
    pub(super) suspect: Option<EndSuspect>,
    pub(super) reset_ttl: Option<u8>,
    pub(super) reset_ack: Option<bool>,
    pub(super) fin_ttl: Option<u8>,
    pub(super) peer_ttl: Option<u8>,
    pub(super) keepalive: Option<bool>,
    pub(super) keepalive_idle_s: Option<u32>,
}

/// Everything that is known of one connection; the turns are finished.
#[derive(Debug, Clone, Copy)]
struct Facts<'a> {
    state: &'a ConnectionState,
    turns: &'a Turns,
    replies: &'a Replies,
    /// What the pause at the end is; `None` if nobody knows.
    rest: Option<Rest>,
    /// The first FIN, reset or CLOSE; the end of the trace if there was none.
    end_ns: u64,
}

impl Facts<'_> {
    /// Where the dialogue stood before the last write, and where it stands. Where nobody knows, whoever is silent
    /// is idle.
    fn before(self) -> Standing {
        self.rest.map_or(Standing::Settled, |it| it.before)
    }

    fn now(self) -> Standing {
        self.rest.map_or(Standing::Settled, |it| it.now)
    }

    /// The idle time into which the server spoke unasked, in nanoseconds. The kernel side sees gaps in what
    /// the server sends; whether such a gap was idle time only the dialogue tells.
    fn unasked_ns(self) -> Option<u64> {
        let state = self.state;
        let [from, until] = match self.rest {
            Some(Rest { read: true, unasked, .. }) => unasked?,
            _ if state.direction == direction::SERVER && state.idle_from_ns != 0 => {
                [state.idle_from_ns, state.idle_until_ns]
            }
            _ => return None,
        };
        let idle = self.rest.is_none_or(|it| it.read || it.now == Standing::Settled);
        idle.then(|| until.saturating_sub(from))
    }
}

/// The ending of the connection of `state`, whose `turns` are finished; still open ones as of `now_ns`. `rest`: what
/// is known of the pause at the end.
pub(super) fn ending(
    state: &ConnectionState,
    turns: &Turns,
    replies: &Replies,
    rest: Option<Rest>,
    now_ns: u64,
) -> Ending {
    let end_ns = match first_end_ns(state) {
        0 => now_ns,
        end_ns => end_ns,
    };
    let facts = Facts { state, turns, replies, rest, end_ns };
    let cause = cause::cause(state);
    // Of a FIN before the connection was first seen it is not known when it was.
    let earlier = state.flags & flag::MIDLIFE != 0 && end_ns <= state.start_ns;
    let told = cause != EndCause::Open && !earlier;
    let during = told.then(|| during::during(facts)).flatten();
    let established = state.established_ns != 0;
    let of = |wanted, ttl: u8| (cause == wanted && ttl != 0).then_some(ttl);
    let reset_ttl = of(EndCause::RstReceived, state.closing_ttl);
    let waited = turns.unanswered().filter(|write| !write.closing);
    let closed = established && cause != EndCause::Open;
    Ending {
        cause,
        during,
        quit: if told && established { suspect::quit(facts) } else { None },
        idle_us: (established && !earlier).then(|| during::idle_ns(facts, during) / 1_000),
        unanswered_us: waited
            .filter(|_| !earlier)
            .map(|write| end_ns.saturating_sub(write.start_ns) / 1_000),
        suspect: if earlier { None } else { suspect::suspect(facts, cause, during) },
        reset_ttl,
        reset_ack: reset_ttl.map(|_| state.flags & flag::RESET_ACK != 0),
        fin_ttl: of(EndCause::PeerFin, state.closing_ttl),
        peer_ttl: (state.peer_ttl != 0).then_some(state.peer_ttl),
        keepalive: closed.then_some(state.flags & flag::KEEPALIVE != 0),
        keepalive_idle_s: (closed && state.keepalive_idle_s != 0).then_some(state.keepalive_idle_s),
    }
}
