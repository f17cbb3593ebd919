//! Which commands a reply can have answered, and where that leads (RFC 5321, RFC 2920, RFC 3030).

use super::{
    body,
    said::{Said, Subject},
};

/// A command of unknown length.
pub(super) const ANY: u64 = u64::MAX;
/// DATA, RSET, NOOP and QUIT: four letters and line end.
pub(super) const SHORT: u64 = 6;
/// `MAIL FROM:<>`
const MAIL: u64 = 14;
/// `RCPT TO:<a>`
pub(super) const RCPT: u64 = 13;
/// A command that is not DATA and has an answer of 354: more than four letters.
const OWN: u64 = SHORT + 1;

/// What is taken for granted of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// Longest line of an envelope, in bytes.
    line: u64,
    /// Shortest message.
    pub(super) message: u64,
    /// Whether what nobody does is left out.
    pub(super) likely: bool,
}

/// What standards say. RFC 5321 section 4.5.3.1.4 allows 512 bytes, its extensions (RFC 3461, RFC 4954)
/// about as many again.
pub(super) const POSSIBLE: Rules = Rules { line: 1_100, message: 0, likely: false };

/// What clients do. A message has Received, From and Date lines at least.
pub(super) const LIKELY: Rules = Rules { line: 320, message: 64, likely: true };

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
    /// 354, although no recipient was accepted: a lone dot is due.
    Nobody,
    /// 354 to a command that is not DATA: what it asked for is due.
    Own,
    /// 353: a reply for each recipient is due, and then the final one.
    Prdr,
    /// Further final replies are due, one for each recipient (RFC 2033 section 4.2).
    Fates,
    /// The server waits for the rest of a body no longer, and closes.
    GivenUp,
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
    /// A recipient was accepted.
    Recipient,
    /// The server asks for the body.
    Asked,
    /// The body, after a 354, got its final reply.
    Ended,
    /// A chunk that is not the last was answered.
    Chunked,
    /// The last chunk was answered, and the final reply is still to come.
    Read,
    /// The last chunk got the final reply.
    Last,
    /// The message that was ended has a later final reply.
    Again,
}

impl Event {
    /// Whether it is an answer to BDAT.
    pub(super) fn is_of_chunk(self) -> bool {
        matches!(self, Self::Chunked | Self::Read | Self::Last)
    }
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
    /// Nothing was written behind it in this turn.
    pub(super) last: bool,
    /// Nothing but QUIT was written behind it in this turn.
    pub(super) quits: bool,
    /// Replies to the body that are still due, [`MANY`] if their number is not known.
    pub(super) due: u8,
}

/// More replies or recipients than are counted.
pub(super) const MANY: u8 = 8;

impl Step {
    /// A step that nothing is to be said of but this.
    pub(super) fn new(phase: Phase, least: u64, most: u64, event: Event) -> Self {
        Self { phase, least, most, event, refused: false, last: false, quits: false, due: 0 }
    }

    /// Whether more can follow without waiting for the reply: RFC 2920 section 3.1 has MAIL and RCPT in
    /// groups, RFC 3030 section 4.2 a body behind them.
    pub(super) fn may_be_followed(&self) -> bool {
        match self.event {
            Event::Begun | Event::Recipient | Event::Chunked => true,
            Event::Nothing => self.most != SHORT && self.most != ANY,
            _ => false,
        }
    }

    /// Whether it is the answer to a RSET, behind which more of a group may come.
    pub(super) fn is_reset(&self) -> bool {
        self.phase == Phase::Idle && self.most == SHORT && self.event == Event::Nothing
    }
}

/// What the server has shown of its ways so far.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct Habits {
    /// It offers CHUNKING.
    pub(super) chunking: bool,
    /// It offers an extension that has a 354 of its own.
    own: bool,
    /// It offers PIPELINING.
    pub(super) pipelining: bool,
    /// It answers an accepted RCPT with X.1.5.
    recipients: bool,
    /// It has words for a message that it took.
    pub(super) messages: bool,
    /// Its greeting says that it speaks LMTP.
    pub(super) lmtp: bool,
}

impl Habits {
    /// Learns from a reply.
    pub(super) fn learn(&mut self, said: &Said) {
        self.chunking |= said.offers_chunking;
        self.pipelining |= said.offers_pipelining;
        self.own |= said.offers_xexch50;
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
    /// A recipient of this transaction was refused, and none was accepted.
    pub(super) nobody: bool,
    /// Recipients that were accepted, at most [`MANY`].
    pub(super) recipients: u8,
    /// Replies to the body that are still due, at most [`MANY`].
    pub(super) due: u8,
    /// The first reply to this turn.
    pub(super) first: bool,
    /// Bytes that the client wrote in this turn, if that is known.
    pub(super) bytes: Option<u64>,
    /// The client had not written for [`body::PAUSE_NS`] or more.
    pub(super) paused: bool,
    /// A body, or a chunk of one, was answered in this turn.
    pub(super) ended: bool,
    /// The client has used DATA, and it is taken for granted that it will not use BDAT.
    pub(super) data: bool,
    /// The reply has the words of the last one to an accepted RCPT.
    pub(super) words_of_recipient: bool,
    /// And MAIL was answered in others.
    pub(super) like_recipient: bool,
}

/// Every way to take `said`.
pub(super) fn steps(rules: Rules, place: Place, said: &Said, into: &mut Vec<Step>) {
    let mut step = |phase, least, most, event| into.push(Step::new(phase, least, most, event));
    let likely = rules.likely;
    match (place.phase, said.code) {
        (Phase::Closed, 221 | 421) => step(Phase::Closed, 0, ANY, Event::Nothing),
        (Phase::GivenUp, 421) if !place.first => step(Phase::GivenUp, 0, ANY, Event::Nothing),
        (Phase::Closed | Phase::GivenUp, _) => {}
        (Phase::Body | Phase::Nobody | Phase::Own | Phase::Prdr | Phase::Fates, _) => {
            body::answers(rules, place, said, into);
        }
        (_, 221) if likely && place.phase == Phase::Chunk => {}
        (_, 221) => step(Phase::Closed, 0, SHORT, Event::Nothing),
        (_, 353) => body::read(rules, place, into),
        // Behind a body nobody writes anything but QUIT.
        (_, code) if likely && place.ended && code != 421 => {}
        (_, 354) => asked(rules, place, into),
        (_, 250..=252) => accepted(rules, place, said, into),
        (_, 400..) => {
            if said.code == 421 {
                let most = if likely { rules.line } else { ANY };
                step(Phase::Closed, 0, most, Event::Nothing);
            }
            refused(rules, place, said, into);
        }
        (phase, 220) => {
            // The dialogue begins once more (XCLIENT), or STARTTLS was accepted.
            step(Phase::Start, 0, ANY, Event::Nothing);
            if !likely {
                step(phase, 0, ANY, Event::Nothing);
            }
        }
        (phase, _) => step(phase, 0, ANY, Event::Nothing), // AUTH, HELP
    }
}

/// 354: to DATA, or to a command that is not DATA (XEXCH50). That one is longer; behind others it cannot be told
/// from DATA, and is possible only if it was offered.
fn asked(rules: Rules, place: Place, into: &mut Vec<Step>) {
    let mut step = |phase, least, most, event| into.push(Step::new(phase, least, most, event));
    match place.phase {
        Phase::Rcpt => step(Phase::Body, SHORT, SHORT, Event::Asked),
        // RFC 2920 section 3.2 lets it ask although it accepted no recipient.
        Phase::Mail if place.nobody => step(Phase::Nobody, SHORT, SHORT, Event::Nothing),
        Phase::Mail => {}
        _ => return,
    }
    if place.habits.own || place.first && place.bytes.is_some_and(|bytes| bytes >= OWN) {
        step(Phase::Own, OWN, rules.line, Event::Nothing);
    }
}

fn accepted(rules: Rules, place: Place, said: &Said, into: &mut Vec<Step>) {
    if place.phase == Phase::Start {
        return into.push(Step::new(Phase::Idle, 0, ANY, Event::Nothing));
    }
    let chunk_only = rules.likely && said.names_chunk;
    let of_body = said.subject == Subject::Content || said.names_message || chunk_only;
    if !of_body {
        short(rules, place, said, into);
        let mut step = |phase, least, most, event| into.push(Step::new(phase, least, most, event));
        let recipient = said.subject == Subject::Recipient;
        if place.phase == Phase::Idle && said.code == 250 && !recipient {
            step(Phase::Mail, MAIL, rules.line, Event::Begun);
        }
        if said.several_lines {
            step(Phase::Idle, SHORT + 1, rules.line, Event::Nothing); // EHLO once more
        }
        if said.code == 252 {
            step(place.phase, SHORT + 1, rules.line, Event::Nothing); // VRFY
        }
        let recipient = recipient || !place.habits.recipients;
        if matches!(place.phase, Phase::Mail | Phase::Rcpt) && recipient {
            step(Phase::Rcpt, RCPT, rules.line, Event::Recipient);
        }
    }
    body::chunk_accepted(rules, place, said, chunk_only, into);
}

/// RSET and NOOP. NOOP ends a group (RFC 2920 section 3.1). Nobody gives up after a chunk that was accepted, writes
/// RSET behind other commands unless QUIT is behind it, or NOOP within a transaction.
fn short(rules: Rules, place: Place, said: &Said, into: &mut Vec<Step>) {
    let command = |phase| Step::new(phase, SHORT, SHORT, Event::Nothing);
    if !rules.likely || place.phase != Phase::Chunk {
        let quits = rules.likely && !place.first;
        into.push(Step { quits, ..command(Phase::Idle) });
    }
    let alone = place.first && place.bytes.is_some();
    let within = place.phase != Phase::Idle && !said.is_about_address();
    if within && (!rules.likely || alone) {
        into.push(Step { last: true, ..command(place.phase) });
    }
}

fn refused(rules: Rules, place: Place, said: &Said, into: &mut Vec<Step>) {
    let mut step = |phase, least, most, refused| {
        into.push(Step { refused, ..Step::new(phase, least, most, Event::Nothing) });
    };
    match place.phase {
        Phase::Start => step(Phase::Start, 0, ANY, false),
        // MAIL, what was written behind it, AUTH, or a command that the server does not know.
        Phase::Idle if matches!(said.code, 432 | 534 | 535 | 538) => {
            step(Phase::Idle, 0, ANY, false);
        }
        Phase::Idle => step(Phase::Idle, SHORT, rules.line, true),
        Phase::Mail | Phase::Rcpt => {
            step(place.phase, RCPT, rules.line, true);
            // Some servers refuse a body because of an address in it.
            if !(rules.likely && said.is_about_address()) {
                step(place.phase, SHORT, SHORT, place.refused);
            }
        }
        _ => {}
    }
    body::chunk_refused(rules, place, said, into);
}
