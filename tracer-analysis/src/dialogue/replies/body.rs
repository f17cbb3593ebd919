//! What becomes of a body: final replies, several of them, and servers that give up waiting for the rest.

use super::{
    grammar::{ANY, Event, MANY, Phase, Place, Rules, Step},
    said::Said,
};

/// A lone dot and its line end.
const DOT: u64 = 3;
/// `BDAT 0 LAST`
const LAST: u64 = 13;
/// `BDAT 1` and a byte.
const CHUNK: u64 = 9;

/// A client that has not written for so long may have stopped in the middle of a body. An answer that comes earlier
/// is one to all of it: no server gives up so soon.
pub(super) const PAUSE_NS: u64 = 1_000_000_000;

/// What a refusal behind a body, or a part of one, says of it.
#[derive(Debug, Clone, Copy)]
struct Refused {
    /// It may be the final reply.
    body: bool,
    /// The server may have given up waiting for the rest. Then it closes.
    wait: bool,
}

impl Refused {
    /// A timeout's code (421) or words after a pause is giving up, an answer at once is a final reply, and the words
    /// of a timeout at once may be either. As a matter of principle any 421 may come unasked, and whoever refuses for
    /// now after a pause may not say why.
    fn new(rules: Rules, place: Place, said: &Said) -> Self {
        let timeout = said.code == 421 || said.times_out;
        let temporary = said.code < 500 && place.paused;
        match (rules.likely, timeout) {
            (false, _) => Self { body: true, wait: timeout || temporary },
            (true, false) => Self { body: true, wait: false },
            (true, true) => Self { body: !place.paused, wait: place.paused || said.times_out },
        }
    }
}

/// Every way to take a reply behind a 354 or a 353.
pub(super) fn answers(rules: Rules, place: Place, said: &Said, into: &mut Vec<Step>) {
    match (place.phase, said.code) {
        (Phase::Body, 353) => read(rules, place, into),
        (Phase::Body, _) => final_reply(rules, place, said, into),
        (_, 221 | 334 | 353 | 354) => {}
        (Phase::Nobody, code) => {
            into.push(Step::new(Phase::Idle, DOT, ANY, Event::Nothing));
            if code < 400 && !rules.likely {
                into.push(Step::new(Phase::Idle, DOT, ANY, Event::Ended));
            }
        }
        (Phase::Own, code) => {
            let back = if place.recipients > 0 { Phase::Rcpt } else { Phase::Mail };
            into.push(Step::new(back, 0, ANY, Event::Nothing));
            if code == 421 {
                into.push(given_up());
            }
        }
        (Phase::Prdr, code) => {
            if place.due == 1 || place.due == MANY {
                into.push(Step::new(Phase::Idle, 0, 0, Event::Ended));
            }
            if place.due > 1 {
                into.push(due(place, Event::Nothing));
            }
            if code == 421 {
                into.push(given_up());
            }
        }
        (_, code) => {
            if place.due == 1 || place.due == MANY {
                into.push(Step::new(Phase::Idle, 0, 0, Event::Again));
            }
            if place.due > 1 {
                into.push(due(place, Event::Again));
            }
            if code == 421 {
                into.push(given_up());
            }
        }
    }
}

fn given_up() -> Step {
    Step::new(Phase::GivenUp, 0, ANY, Event::Nothing)
}

/// One of several replies, which is not the last.
fn due(place: Place, event: Event) -> Step {
    let due = if place.due == MANY { MANY } else { place.due - 1 };
    Step { due, ..Step::new(place.phase, 0, 0, event) }
}

/// The reply to a body that came by DATA. LMTP has one for each recipient.
fn final_reply(rules: Rules, place: Place, said: &Said, into: &mut Vec<Step>) {
    let refused = (said.code >= 400).then(|| Refused::new(rules, place, said));
    // Nobody may have been accepted after all: then that is what a lone dot is told.
    let lone_dot = refused.is_some() && place.bytes == Some(DOT);
    if lone_dot {
        into.push(Step::new(Phase::Idle, DOT, DOT, Event::Nothing));
    }
    if refused.is_none_or(|it| it.body) && !(lone_dot && rules.likely) {
        ended(place, DOT, Event::Ended, into);
    }
    if refused.is_some_and(|it| it.wait) {
        into.push(given_up());
    }
}

/// The first final reply to a body of `least` bytes or more.
fn ended(place: Place, least: u64, event: Event, into: &mut Vec<Step>) {
    into.push(Step::new(Phase::Idle, least, ANY, event));
    if place.recipients > 1 {
        let due = if place.recipients == MANY { MANY } else { place.recipients - 1 };
        into.push(Step { due, ..Step::new(Phase::Fates, least, ANY, event) });
    }
}

/// 353: the body was read, and what becomes of it follows (draft-hall-prdr).
pub(super) fn read(rules: Rules, place: Place, into: &mut Vec<Step>) {
    let due = if place.recipients == MANY { MANY } else { place.recipients + 1 };
    let step = |least, event| Step { due, ..Step::new(Phase::Prdr, least, ANY, event) };
    if place.phase == Phase::Body {
        into.push(step(DOT, Event::Nothing));
    } else if takes_chunk(place) {
        into.push(step(last_chunk(rules, place), Event::Read));
    }
}

/// Whether a chunk may be the next command. A client that knows of no recipient sends none.
fn takes_chunk(place: Place) -> bool {
    let open = matches!(place.phase, Phase::Rcpt | Phase::Chunk);
    place.habits.chunking && !place.data && (open || place.refused && place.phase != Phase::Start)
}

/// Bytes of BDAT with the last chunk, at least. After others it may be empty.
fn last_chunk(rules: Rules, place: Place) -> u64 {
    if place.phase == Phase::Chunk { LAST } else { LAST + rules.message }
}

/// A positive reply as one to a chunk. One that speaks of an address is not, as a rule.
pub(super) fn chunk_accepted(
    rules: Rules,
    place: Place,
    said: &Said,
    chunk_only: bool,
    into: &mut Vec<Step>,
) {
    let like_recipient = rules.likely && place.like_recipient;
    // LMTP speaks of the address that a body is for, in other words than those to RCPT.
    let of_recipient = place.recipients > 0 && !place.words_of_recipient;
    let of_body = !said.is_about_address() || place.habits.lmtp || of_recipient;
    if !takes_chunk(place) || !of_body || like_recipient {
        return;
    }
    if !said.names_message {
        into.push(Step::new(Phase::Chunk, CHUNK + rules.message, ANY, Event::Chunked));
    }
    if !chunk_only && said.names_message >= place.habits.messages {
        ended(place, last_chunk(rules, place), Event::Last, into);
    }
}

/// A refusal as one of a chunk.
pub(super) fn chunk_refused(rules: Rules, place: Place, said: &Said, into: &mut Vec<Step>) {
    let address = rules.likely && said.is_about_address() && place.recipients < 2;
    if !takes_chunk(place) || address {
        return;
    }
    let refused = Refused::new(rules, place, said);
    if refused.body {
        // Nothing is handed over where nobody was accepted.
        if place.recipients > 0 {
            ended(place, last_chunk(rules, place), Event::Last, into);
        }
        // Whoever closes refuses more than a chunk.
        if !rules.likely || said.code != 421 {
            let chunk = Step::new(Phase::Idle, CHUNK + rules.message, ANY, Event::Chunked);
            into.push(Step { refused: true, ..chunk });
        }
    }
    if refused.wait {
        into.push(given_up());
    }
}
