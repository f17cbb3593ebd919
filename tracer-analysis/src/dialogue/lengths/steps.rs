//! The steps of the grammar: each pushes what a turn can have been, with its price.

use super::{
    grammar::{CLOSE_NOTIFY, Event, Exchange, Kind, Next, Phase, SHORT_COMMAND, State, Style},
    price::{self, Bits},
};

/// `MAIL FROM:<>` and line end.
const MAIL: u32 = 14;
/// `RCPT TO:<a>` and line end.
const RCPT: u32 = 13;
/// `BDAT 0` and line end: a chunk that is not the last.
const BDAT: u32 = 8;

/// Price of ending a transaction that was accepted so far.
const GIVE_UP: Bits = 16;
/// Price of ending it before a recipient was named.
const GIVE_UP_SENDER: Bits = 14;
/// Price of a reply that came only with the next turn.
const LATE_REPLY: Bits = 8;
/// Price of a 421 and the end instead of a reply.
const CUT_OFF: Bits = 24;
/// Price of a write that ends with a full record by chance.
const CUT_WRITE: Bits = 20;
/// Price of a new transaction without RSET after a refused one.
const NO_RESET: Bits = 5;

/// The ways on from one state.
pub(super) struct Steps<'a> {
    pub(super) from: State,
    pub(super) x: &'a Exchange,
    pub(super) next: &'a mut Vec<Next>,
}

impl Steps<'_> {
    fn push(&mut self, bits: Option<Bits>, event: Event, change: impl FnOnce(&mut State)) {
        if let Some(bits) = bits {
            let mut state = self.from;
            change(&mut state);
            self.next.push((state, bits, event));
        }
    }

    /// A turn that got no reply adds no message, whatever it was.
    pub(super) fn unanswered(mut self) {
        let phase = self.from.phase;
        let short = self.x.client <= SHORT_COMMAND || self.x.is_quit();
        let bits = match phase {
            Phase::Closed if self.x.client != CLOSE_NOTIFY => None,
            _ if self.x.client == CLOSE_NOTIFY => Some(self.from.end()),
            Phase::Body | Phase::Chunk if short => Some(8),
            Phase::Start | Phase::Auth(_) | Phase::Ready | Phase::Body if !short => Some(4),
            _ => Some(0),
        };
        self.push(bits, Event::Nothing, |state| state.phase = Phase::Closed);
    }

    /// Adds all that a turn with a reply of `server` bytes can have been.
    pub(super) fn answered(mut self, server: u32, ehlo: Option<u32>) {
        if self.x.client == CLOSE_NOTIFY {
            let bits = self.from.end();
            return self.push(Some(bits), Event::Nothing, |state| state.phase = Phase::Closed);
        }
        if self.x.client > SHORT_COMMAND && (20..=200).contains(&server) {
            let phase = self.from.phase;
            let bits = (phase != Phase::Closed).then_some(CUT_OFF);
            self.push(bits, Event::Nothing, |state| state.phase = Phase::Closed);
        }
        match self.from.phase {
            Phase::Start => {
                if ehlo == Some(self.x.client) {
                    self.push(Some(3), Event::Nothing, |_| ());
                }
                self.auth(server, 0);
                self.between(server, 0);
            }
            Phase::Auth(turns) => {
                self.auth(server, turns);
                self.between(server, 0);
            }
            Phase::Ready => self.between(server, 0),
            Phase::Refused => self.between(server, NO_RESET),
            Phase::Mail => {
                self.recipients(server);
                self.data(server, LATE_REPLY);
                self.give_up(server, GIVE_UP_SENDER);
            }
            Phase::NoRcpt => {
                self.recipients(server);
                self.give_up(server, 0);
            }
            Phase::Rcpt => {
                self.recipients(server);
                self.data(server, 0);
                self.bdat(server, Phase::Rcpt);
                self.give_up(server, GIVE_UP);
            }
            Phase::Body => self.body(server),
            Phase::Chunk => {
                self.bdat(server, Phase::Chunk);
                self.give_up(server, GIVE_UP);
            }
            Phase::Closed => {}
        }
    }

    fn accepted(&self, server: u32, replies: u32, kind: Kind) -> Option<Bits> {
        let last = self.from.replies[kind as usize];
        let bits = price::accepted(server, replies, last, self.x.overhead)?;
        Some(match kind {
            // The same words each time.
            Kind::Data if replies == 1 && bits >= price::NEW_LENGTH => bits + 5,
            // 354 says more than 250, and is another reply than that to RSET.
            Kind::Data if replies == 1 && last == 0 => {
                let as_reset = server == self.from.replies[Kind::Reset as usize];
                bits + if server < 17 { 4 } else { 0 } + if as_reset { 6 } else { 0 }
            }
            Kind::Reset if server == self.from.replies[Kind::Data as usize] => bits + 6,
            // One reply as long as the three before it: a coincidence.
            Kind::Final if last == 0 && server == self.from.replies[Kind::Envelope as usize] => {
                bits + 5
            }
            // The reply to a QUIT in the same turn.
            Kind::Final if last != 0 && (9..=70).contains(&server.saturating_sub(last)) => {
                bits.min(4)
            }
            _ => bits,
        })
    }

    fn style(&self, style: Style) -> Bits {
        match self.from.style {
            Some(known) if known == style => 0,
            Some(_) => price::STYLE_CHANGE,
            None => match style {
                Style::Envelope | Style::Single => 1,
                Style::Split | Style::Bdat => 3,
                Style::Whole => 5,
            },
        }
    }

    /// AUTH, or the client's answer to its challenge.
    fn auth(&mut self, server: u32, turns: u8) {
        let client = self.x.client;
        let bits = match (turns, client) {
            (0, 12) => Some(5),                      // AUTH LOGIN, AUTH PLAIN
            (0, 15) | (1 | 2, 2..=2_000) => Some(8), // AUTH CRAM-MD5; an answer
            (0, 11 | 13..=400) => Some(17),          // other mechanisms, initial response
            (0, 401..=3_000) => Some(20),
            _ => None,
        };
        let bits = bits.filter(|_| server >= price::SHORTEST_REPLY);
        let bits = bits.map(|bits| bits + if server > 100 { 12 } else { 6 });
        self.push(bits, Event::Nothing, |state| state.phase = Phase::Auth(turns + 1));
    }

    /// Between transactions; `late` is the price of a new one here.
    fn between(&mut self, server: u32, late: Bits) {
        self.short_commands(server);
        self.mail(server, late);
        self.envelope(server, late);
        self.whole(server, late);
    }

    fn short_commands(&mut self, server: u32) {
        if self.x.client == SHORT_COMMAND {
            let reset = self.accepted(server, 1, Kind::Reset).map(|bits| bits + 2);
            self.push(reset, Event::Nothing, |state| {
                state.phase = if state.phase == Phase::Start { Phase::Start } else { Phase::Ready };
                state.replies[Kind::Reset as usize] = server;
            });
            let noop = self.accepted(server, 1, Kind::Noop).map(|bits| bits + 4);
            self.push(noop, Event::Nothing, |state| state.replies[Kind::Noop as usize] = server);
        }
        if self.x.is_quit() {
            self.push(Some(6), Event::Nothing, |state| state.phase = Phase::Closed);
        }
    }

    /// After part of an envelope the client may give up.
    fn give_up(&mut self, server: u32, price: Bits) {
        let first = self.next.len();
        self.short_commands(server);
        for (_, bits, _) in &mut self.next[first..] {
            *bits += price;
        }
    }

    fn mail(&mut self, server: u32, late: Bits) {
        let last = self.from.lines[0];
        let Some(line) = price::address_line(self.x.client, MAIL, last) else { return };
        let client = self.x.client;
        let accepted = self.accepted(server, 1, Kind::Mail).map(|bits| bits + line + late);
        self.push(accepted, Event::Begun, |state| {
            state.phase = Phase::Mail;
            state.replies[Kind::Mail as usize] = server;
            state.lines[0] = client;
        });
        let last = self.from.replies[Kind::Mail as usize];
        let refused = price::refused(server, 1, last).map(|bits| bits + line + late);
        self.push(refused, Event::Nothing, |state| state.phase = Phase::Refused);
    }

    /// MAIL, RCPT and DATA, or MAIL and RCPT only.
    fn envelope(&mut self, server: u32, late: Bits) {
        let (client, last) = (self.x.client, self.from.lines[2]);
        let all = MAIL + RCPT + SHORT_COMMAND;
        if let Some(lines) = price::commands(client, all, server, last) {
            let accepted = self.accepted(server, 3, Kind::Envelope);
            self.push(accepted.map(|bits| bits + lines + late), Event::Begun, |state| {
                state.phase = Phase::Body;
                state.replies[Kind::Envelope as usize] = server;
                state.lines[2] = client;
            });
            let refused = price::refused(server, 3, self.from.replies[Kind::Envelope as usize]);
            self.push(refused.map(|bits| bits + lines + late), Event::Nothing, |state| {
                state.phase = Phase::Refused;
            });
        }
        if let Some(lines) = price::commands(client, MAIL + RCPT, server, last) {
            let accepted = self.accepted(server, 2, Kind::Envelope);
            self.push(accepted.map(|bits| bits + lines + late + 3), Event::Begun, |state| {
                state.phase = Phase::Rcpt;
                state.replies[Kind::Envelope as usize] = server;
                state.lines[2] = client;
            });
        }
    }

    /// Envelope, BDAT and body in one turn.
    fn whole(&mut self, server: u32, late: Bits) {
        let price = price::commands_and_body(self.x.client, MAIL + RCPT + BDAT);
        let Some(lines) = price else { return };
        let style = self.style(Style::Whole);
        let answer = self.accepted(server, 3, Kind::Whole).map(|bits| bits + lines + late + style);
        let learn = |state: &mut State| {
            state.style = Some(Style::Whole);
            state.replies[Kind::Whole as usize] = server;
        };
        let cut = if self.x.is_cut() { CUT_WRITE } else { 0 };
        self.push(answer.map(|bits| bits + cut), Event::Whole, |state| {
            learn(state);
            state.handed_over(Phase::Ready);
        });
        let chunk = self.x.client;
        self.push(answer.map(|bits| bits + 4), Event::Begun, |state| {
            learn(state);
            state.phase = Phase::Chunk;
            state.lines[3] = chunk;
        });
    }

    /// RCPT alone, or with DATA or BDAT after it.
    fn recipients(&mut self, server: u32) {
        let (client, last) = (self.x.client, self.from.lines[1]);
        if let Some(line) = price::address_line(client, RCPT, last) {
            let accepted = self.accepted(server, 1, Kind::Rcpt);
            let refused = price::refused(server, 1, self.from.replies[Kind::Rcpt as usize]);
            self.push(accepted.map(|bits| bits + line), Event::Nothing, |state| {
                state.phase = Phase::Rcpt;
                state.replies[Kind::Rcpt as usize] = server;
                state.lines[1] = client;
            });
            self.push(refused.map(|bits| bits + line), Event::Nothing, |state| {
                if state.phase == Phase::Mail {
                    state.phase = Phase::NoRcpt;
                }
            });
        }
        if let Some(lines) = price::commands(client, RCPT + SHORT_COMMAND, server, last) {
            let style = self.style(Style::Split);
            let accepted = self.accepted(server, 2, Kind::Data).map(|bits| bits + lines + style);
            let refused = price::refused(server, 2, self.from.replies[Kind::Data as usize]);
            self.push(accepted, Event::Nothing, |state| {
                state.style = Some(Style::Split);
                state.phase = Phase::Body;
                state.replies[Kind::Data as usize] = server;
                state.lines[1] = client;
            });
            self.push(refused.map(|bits| bits + lines), Event::Nothing, |state| {
                state.phase = Phase::Refused;
            });
        }
    }

    /// DATA alone.
    fn data(&mut self, server: u32, late: Bits) {
        if self.x.client != SHORT_COMMAND {
            return;
        }
        let style = self.style(Style::Single);
        let accepted = self.accepted(server, 1, Kind::Data).map(|bits| bits + style + late);
        let refused = price::refused(server, 1, self.from.replies[Kind::Data as usize]);
        self.push(accepted, Event::Nothing, |state| {
            state.style = Some(Style::Single);
            state.phase = Phase::Body;
            state.replies[Kind::Data as usize] = server;
        });
        let refused = refused.map(|bits| bits + late);
        self.push(refused, Event::Nothing, |state| state.phase = Phase::Refused);
    }

    /// A chunk with its BDAT, after the envelope or after another chunk.
    fn bdat(&mut self, server: u32, after: Phase) {
        let (client, size) = (self.x.client, self.from.lines[3]);
        let Some(lines) = price::commands_and_body(client, BDAT) else { return };
        let first = after == Phase::Rcpt;
        let style = if first { self.style(Style::Bdat) } else { 0 };
        // Chunks are as long as the first, the last one shorter; and that first one was answered
        // together with its envelope, or alone.
        let too_long = if first || client <= size.saturating_add(16) { 0 } else { 8 };
        let whole = self.from.replies[Kind::Whole as usize];
        let with_envelope = self.from.style == Some(Style::Whole);
        let answer_too_long =
            !first && with_envelope && server.saturating_add(2 * price::SHORTEST_REPLY) > whole;
        let unlikely = if answer_too_long { 6 } else { 0 } + too_long;
        let mark = |state: &mut State| {
            if first {
                state.style = Some(Style::Bdat);
            }
        };
        let last = self.accepted(server, 1, Kind::Final);
        self.push(last.map(|bits| bits + lines + style + unlikely), Event::Ended, |state| {
            mark(state);
            state.replies[Kind::Final as usize] = server;
            state.handed_over(Phase::Ready);
        });
        let lines = if client == size { 1 } else { lines };
        let more = self.accepted(server, 1, Kind::Chunk);
        self.push(more.map(|bits| bits + lines + style + unlikely + 2), Event::Nothing, |state| {
            mark(state);
            state.replies[Kind::Chunk as usize] = server;
            state.lines[3] = client;
            state.phase = Phase::Chunk;
        });
    }

    /// The body, with its final dot, and QUIT after it or not.
    fn body(&mut self, server: u32) {
        let style = match self.from.style {
            Some(Style::Single | Style::Split) => 0,
            _ => self.style(Style::Envelope),
        };
        let answer = self.accepted(server, 1, Kind::Final);
        let bits = answer.zip(price::body(self.x.client)).map(|(a, b)| a + b + style);
        self.push(bits, Event::Ended, |state| {
            state.style = state.style.filter(|_| style == 0).or(Some(Style::Envelope));
            state.replies[Kind::Final as usize] = server;
            state.handed_over(Phase::Ready);
        });
    }
}
