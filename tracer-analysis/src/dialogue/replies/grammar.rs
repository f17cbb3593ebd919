//! Which commands a reply can have answered, and where that leads (RFC 5321, RFC 2920, RFC 3030).

use super::said::{Said, Subject};

/// A command of unknown length.
const ANY: u64 = u64::MAX;
/// DATA, RSET, NOOP and QUIT: four letters and line end.
const SHORT: u64 = 6;
/// `MAIL FROM:<>`
const MAIL: u64 = 14;
/// `RCPT TO:<a>`
pub(super) const RCPT: u64 = 13;
/// `BDAT 0 LAST`
const LAST: u64 = 13;
/// `BDAT 1` and a byte.
const CHUNK: u64 = 9;

/// What is taken for granted of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// Longest line of an envelope, in bytes.
    line: u64,
    /// Shortest message.
    message: u64,
    /// Whether what nobody does is left out.
    likely: bool,
}

/// What standards say. RFC 5321 section 4.5.3.1.4 allows 512 bytes, its extensions (RFC 3461, RFC 4954)
/// about as many again.
pub(super) const POSSIBLE: Rules = Rules { line: 1_100, message: 0, likely: false };

/// What clients do. A message has Received, From and Date lines at least.
pub(super) const LIKELY: Rules = Rules { line: 320, message: 64, likely: true };

impl Rules {
    /// Whether what nobody does is left out.
    pub(super) fn is_likely(self) -> bool {
        self.likely
    }
}

/// Where the dialogue stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// EHLO is due.
    Start,
    /// Between transactions.
    Idle,
    /// MAIL was accepted.
    Mail,
    /// A recipient was accepted.
    Rcpt,
    /// A chunk that was not the last was accepted.
    Chunk,
    /// 354: a body is due.
    Body,
    /// The session is over.
    Closed,
}

/// What a step means for the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// Nothing.
    Nothing,
    /// It begins.
    Begun,
    /// The server asks for the body.
    Asked,
    /// The body, after a 354, got its final reply.
    Ended,
    /// A chunk that is not the last was answered.
    Chunked,
    /// The last chunk got the final reply.
    Last,
}

/// One way to take a reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// Where it leads.
    pub(super) phase: Phase,
    /// Bytes of the command and what it carries, at least.
    pub(super) least: u64,
    /// And at most.
    pub(super) most: u64,
    /// What happened.
    pub(super) event: Event,
    /// A command of an envelope was refused: more commands may be on their way that build on it.
    pub(super) refused: bool,
}

impl Step {
    /// Whether more can follow without waiting for the reply: RFC 2920 section 3.1 has MAIL and RCPT in
    /// groups, RFC 3030 section 4.2 a body behind them.
    pub(super) fn may_be_followed(&self) -> bool {
        match self.event {
            Event::Begun | Event::Chunked => true,
            Event::Nothing => self.most != SHORT && self.most != ANY,
            Event::Asked | Event::Ended | Event::Last => false,
        }
    }
}

/// What the server has shown of its ways so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Habits {
    /// It offers CHUNKING.
    chunking: bool,
    /// It answers an accepted RCPT with X.1.5.
    recipients: bool,
    /// It has words for a message that it took.
    messages: bool,
}

impl Habits {
    /// Learns from a reply.
    pub(super) fn learn(&mut self, said: &Said) {
        self.chunking |= said.offers_chunking;
        self.recipients |= said.subject == Subject::Recipient;
        self.messages |= said.names_message;
    }
}

/// What the reply stands in.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct Place {
    /// Where the dialogue stands.
    pub(super) phase: Phase,
    /// What the server has shown of its ways, this reply included.
    pub(super) habits: Habits,
    /// In this turn a command was refused that later ones built on.
    pub(super) refused: bool,
    /// The first reply to this turn.
    pub(super) first: bool,
    /// The client has used DATA, and it is taken for granted that it will not use BDAT.
    pub(super) data: bool,
    /// The reply has the words of the last one to RCPT, and MAIL was answered in others.
    pub(super) like_recipient: bool,
}

/// Every way to take `said`.
pub(super) fn steps(rules: Rules, place: Place, said: &Said, into: &mut Vec<Step>) {
    let mut step = |phase, least, most, event| {
        into.push(Step { phase, least, most, event, refused: false });
    };
    match said.code {
        _ if place.phase == Phase::Closed => step(Phase::Closed, 0, ANY, Event::Nothing),
        221 if rules.likely && place.phase == Phase::Chunk => {}
        221 => step(Phase::Closed, 0, SHORT, Event::Nothing),
        421 if said.gives_up() => step(Phase::Closed, 0, ANY, Event::Nothing),
        _ if place.phase == Phase::Body => step(Phase::Idle, 0, ANY, Event::Ended),
        421 => {
            step(Phase::Closed, 0, if rules.likely { rules.line } else { ANY }, Event::Nothing);
            if takes_chunk(place) {
                step(Phase::Closed, last_chunk(rules, place), ANY, Event::Last);
            }
        }
        // RFC 2920 section 3.2 lets it ask although it accepted no recipient.
        354 if place.phase == Phase::Rcpt || place.phase == Phase::Mail && place.refused => {
            step(Phase::Body, SHORT, SHORT, Event::Asked);
        }
        250..=252 => accepted(rules, place, said, &mut step),
        400.. => refused(rules, place, said, into),
        354 => {}
        _ => step(place.phase, 0, ANY, Event::Nothing), // AUTH, STARTTLS, HELP
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

fn accepted(
    rules: Rules,
    place: Place,
    said: &Said,
    step: &mut impl FnMut(Phase, u64, u64, Event),
) {
    if place.phase == Phase::Start {
        return step(Phase::Idle, 0, ANY, Event::Nothing);
    }
    let chunk_only = rules.likely && said.names_chunk;
    let of_body = said.subject == Subject::Content || said.names_message || chunk_only;
    if !of_body {
        short(rules, place, step);
        let recipient = said.subject == Subject::Recipient;
        if place.phase == Phase::Idle && said.code == 250 && !recipient {
            step(Phase::Mail, MAIL, rules.line, Event::Begun);
        }
        if place.phase == Phase::Idle && said.several_lines {
            step(Phase::Idle, SHORT + 1, rules.line, Event::Nothing); // EHLO once more
        }
        let recipient = said.is_about_address() || !place.habits.recipients;
        if matches!(place.phase, Phase::Mail | Phase::Rcpt) && recipient {
            step(Phase::Rcpt, RCPT, rules.line, Event::Nothing);
        }
    }
    let like_recipient = rules.likely && place.like_recipient;
    if takes_chunk(place) && !said.is_about_address() && !like_recipient {
        if !said.names_message {
            step(Phase::Chunk, CHUNK + rules.message, ANY, Event::Chunked);
        }
        if !chunk_only && said.names_message >= place.habits.messages {
            step(Phase::Idle, last_chunk(rules, place), ANY, Event::Last);
        }
    }
}

/// RSET and NOOP. Nobody writes them behind other commands, nor gives up after a chunk that was accepted.
fn short(rules: Rules, place: Place, step: &mut impl FnMut(Phase, u64, u64, Event)) {
    let idle = place.phase == Phase::Idle;
    if !rules.likely || place.first {
        if !rules.likely || place.phase != Phase::Chunk {
            step(Phase::Idle, SHORT, SHORT, Event::Nothing);
        }
        if !idle {
            step(place.phase, SHORT, SHORT, Event::Nothing);
        }
    }
}

fn refused(rules: Rules, place: Place, said: &Said, into: &mut Vec<Step>) {
    let mut step = |phase, least, most, event, refused| {
        into.push(Step { phase, least, most, event, refused });
    };
    // Some servers refuse a body because of an address in it.
    let address = rules.likely && said.is_about_address();
    match place.phase {
        Phase::Start => step(Phase::Start, 0, ANY, Event::Nothing, false),
        // MAIL, what was written behind it, AUTH, or a command that the server does not know.
        Phase::Idle if matches!(said.code, 432 | 534 | 535 | 538) => {
            step(Phase::Idle, 0, ANY, Event::Nothing, false);
        }
        Phase::Idle => step(Phase::Idle, SHORT, rules.line, Event::Nothing, true),
        Phase::Mail | Phase::Rcpt => {
            step(place.phase, RCPT, rules.line, Event::Nothing, true);
            if !address {
                step(place.phase, SHORT, SHORT, Event::Nothing, place.refused);
            }
        }
        Phase::Chunk | Phase::Body | Phase::Closed => {}
    }
    if takes_chunk(place) && !address {
        step(Phase::Idle, last_chunk(rules, place), ANY, Event::Last, false);
        step(Phase::Idle, CHUNK + rules.message, ANY, Event::Chunked, true);
    }
}
