//! When in the life of a connection its end came.

use tracer_common::record::{IDLE_NS, direction, flag};

use super::{Facts, REUSE_NS};
use crate::connection::{EndDuring, turns::Unanswered};

/// Reply code of a greeting that welcomes (RFC 5321 section 3.1).
const WELCOME: u16 = 220;

/// The moment of the end; `None` if it cannot be told.
pub(super) fn during(facts: Facts<'_>) -> Option<EndDuring> {
    let state = facts.state;
    if state.established_ns == 0 {
        Some(EndDuring::Connect)
    } else if state.turns == 0 {
        before_the_first_turn(facts)
    } else if let Some(write) = facts.turns.unanswered() {
        at_a_write(write)
    } else {
        Some(after_an_answer(facts))
    }
}

fn before_the_first_turn(facts: Facts<'_>) -> Option<EndDuring> {
    let greeting = facts.replies.greeting();
    let unread = !facts.replies.heard() && facts.state.first_byte_ns != 0;
    let unseen = facts.state.flags & flag::MIDSTREAM != 0;
    if unread || unseen {
        None // the server spoke, but nobody read whether that was all of the greeting
    } else if greeting.is_some_and(|it| it.code == WELCOME) && quiet_ns(facts) >= IDLE_NS {
        Some(EndDuring::Idle)
    } else {
        Some(EndDuring::Greeting)
    }
}

fn at_a_write(write: &Unanswered) -> Option<EndDuring> {
    let gap_ns = write.gap_ns?;
    Some(if write.closing && gap_ns >= IDLE_NS {
        EndDuring::Idle
    } else if !write.closing && gap_ns >= REUSE_NS {
        EndDuring::Reuse
    } else {
        EndDuring::Dialogue
    })
}

fn after_an_answer(facts: Facts<'_>) -> EndDuring {
    // A server that speaks unasked into an idle session is about to close it.
    if facts.state.idle_from_ns != 0 || quiet_ns(facts) >= IDLE_NS {
        EndDuring::Idle
    } else {
        EndDuring::Dialogue
    }
}

/// From the last data to the end, in nanoseconds.
fn quiet_ns(facts: Facts<'_>) -> u64 {
    facts.end_ns.saturating_sub(facts.state.last_data_ns)
}

/// The idle time that the end belongs to, in nanoseconds: up to the end, up to the words of a server that
/// spoke unasked, or up to the write that found the session dead or said goodbye.
pub(super) fn idle_ns(facts: Facts<'_>, during: Option<EndDuring>) -> u64 {
    let state = facts.state;
    if state.direction == direction::SERVER && state.idle_from_ns != 0 {
        return state.idle_until_ns.saturating_sub(state.idle_from_ns);
    }
    match facts.turns.unanswered() {
        Some(Unanswered { gap_ns: Some(gap_ns), closing, .. })
            if *closing || during == Some(EndDuring::Reuse) =>
        {
            *gap_ns
        }
        _ => quiet_ns(facts),
    }
}
