//! When in the life of a connection its end came.

use tracer_common::record::{IDLE_NS, flag};

use super::{Facts, REUSE_NS};
use crate::{
    connection::{EndDuring, turns::Unanswered},
    dialogue::Standing,
};

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
        at_a_write(facts, write)
    } else {
        after_a_reply(facts, EndDuring::Dialogue)
    }
}

fn before_the_first_turn(facts: Facts<'_>) -> Option<EndDuring> {
    let greeting = facts.replies.greeting();
    let unread = !facts.replies.heard() && facts.state.first_byte_ns != 0;
    let unseen = facts.state.flags & flag::MIDSTREAM != 0;
    if unread || unseen {
        None // the server spoke, but nobody read whether that was all of the greeting
    } else if greeting.is_some_and(|it| it.code == WELCOME) {
        after_a_reply(facts, EndDuring::Greeting)
    } else {
        Some(EndDuring::Greeting)
    }
}

fn at_a_write(facts: Facts<'_>, write: &Unanswered) -> Option<EndDuring> {
    let gap_ns = write.gap_ns?;
    match (write.closing, facts.before()) {
        (true, before) if gap_ns >= IDLE_NS => at_rest(before),
        // Who writes again has all answers, unless it writes what the server waits for.
        (false, before) if gap_ns >= REUSE_NS && before != Standing::Owing => {
            Some(EndDuring::Reuse)
        }
        _ => Some(EndDuring::Dialogue),
    }
}

/// The moment of an end after a reply; `at_once` if it came at once.
fn after_a_reply(facts: Facts<'_>, at_once: EndDuring) -> Option<EndDuring> {
    // A server that speaks unasked into an idle session is about to close it.
    if facts.unasked_ns().is_some() {
        return Some(EndDuring::Idle);
    }
    let read = facts.rest.is_some_and(|it| it.read);
    let paused = !read && facts.state.idle_from_ns != 0 || quiet_ns(facts) >= IDLE_NS;
    if paused { at_rest(facts.now()) } else { Some(at_once) }
}

/// What a pause is in which nobody said anything. Who waits for an answer, or for the rest of one, is not idle.
const fn at_rest(standing: Standing) -> Option<EndDuring> {
    match standing {
        Standing::Settled => Some(EndDuring::Idle),
        Standing::Open | Standing::Owing => Some(EndDuring::Dialogue),
        Standing::Unclear => None,
    }
}

/// From the last data to the end, in nanoseconds.
fn quiet_ns(facts: Facts<'_>) -> u64 {
    facts.end_ns.saturating_sub(facts.state.last_data_ns)
}

/// The idle time that the end belongs to, in nanoseconds: up to the end, up to the words of a server that
/// spoke unasked, or up to the write that found the session dead or said goodbye.
pub(super) fn idle_ns(facts: Facts<'_>, during: Option<EndDuring>) -> u64 {
    if let Some(unasked_ns) = facts.unasked_ns() {
        return unasked_ns;
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
