//! The steps of the grammar: each pushes what a turn can have been, with its price.

use super::{
    client::{self, Never},
    grammar::{
        CLOSE_NOTIFY, Event, Exchange, Kind, Known, Next, Phase, SHORT_COMMAND, State, Style,
    },
    price::{self, Bits},
    server::Auth,
    words::Words,
};

/// `MAIL FROM:<>` and line end.
pub(super) const MAIL: u32 = 14;
/// `RCPT TO:<a>` and line end.
pub(super) const RCPT: u32 = 13;
/// `BDAT 0` and line end: a chunk that is not the last.
pub(super) const BDAT: u32 = 8;

/// Price of ending a transaction that was accepted so far.
const GIVE_UP: Bits = 16;
/// Price of ending it before a recipient was named.
const GIVE_UP_SENDER: Bits = 14;
/// Price of a reply that came only with the next turn.
const LATE_REPLY: Bits = 8;
/// Price of a 421 and the end instead of a reply.
const CUT_OFF: Bits = 30;
/// Price of QUIT.
const QUIT: Bits = 6;
/// Price of a session that ends well and carried nothing.
const IN_VAIN: Bits = 6;
/// Price of a new transaction without RSET after a refused one.
const NO_RESET: Bits = 5;

/// The ways on from one state.
pub(super) struct Steps<'a> {
    pub(super) from: State,
    pub(super) x: &'a Exchange,
    pub(super) known: &'a Known,
    pub(super) next: &'a mut Vec<Next>,
}

impl Steps<'_> {
    pub(super) fn push(
        &mut self,
        bits: Option<Bits>,
        event: Event,
        change: impl FnOnce(&mut State),
    ) {
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
            Phase::Body | Phase::Chunk | Phase::Writing if short => Some(8),
            Phase::Start | Phase::Auth(_) | Phase::Ready | Phase::Reset | Phase::Body if !short => {
                Some(4)
            }
            _ => Some(0),
        };
        self.push(bits, Event::Nothing, |state| state.phase = Phase::Closed);
    }

    /// Adds all that a turn with a reply of `server` bytes can have been.
    pub(super) fn answered(mut self, server: u32) {
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
                if self.known.ehlo == Some(self.x.client) {
                    self.push(Some(3), Event::Nothing, |_| ());
                }
                self.auth(server);
                self.between(server, 0);
            }
            Phase::Auth(turns) => {
                self.auth_answer(server, turns);
                // Refused, and tried without.
                self.between(server, 12);
            }
            Phase::Ready | Phase::Reset => self.between(server, 0),
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
            Phase::Writing => self.rest_of_chunk(server),
            Phase::Closed => {}
        }
    }

    pub(super) fn pipelines(&self) -> bool {
        self.known.allowed.pipelining && self.from.words.is_none_or(Words::pipelines)
    }

    /// The server was seen to offer PIPELINING.
    fn offers_pipelining(&self) -> bool {
        self.known.allowed.seen && self.known.allowed.pipelining
    }

    /// The server was seen to offer CHUNKING.
    pub(super) fn offers_chunking(&self) -> bool {
        self.known.allowed.seen && self.known.allowed.chunking
    }

    pub(super) fn chunks(&self) -> bool {
        self.known.allowed.chunking && self.from.words.is_none_or(Words::chunks)
    }

    pub(super) fn style(&self, style: Style) -> Bits {
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

    /// AUTH.
    fn auth(&mut self, server: u32) {
        let client = self.x.client;
        let offered = match self.known.allowed.auth {
            Auth::No => return,
            Auth::Usual => 1,
            Auth::Offered => 2,
            Auth::Unknown => 4,
        };
        let (alone, with_response) = match client {
            12 | 15 => (Some(1), None), // AUTH PLAIN, AUTH LOGIN, AUTH CRAM-MD5
            11 | 13..=400 => (Some(14), Some(6)),
            401..=3_000 => (None, Some(10)),
            _ => (None, None),
        };
        self.challenged(server, alone.map(|bits| bits + offered), 0);
        self.authenticated(server, with_response.map(|bits| bits + offered));
    }

    /// The client's answer to a challenge.
    fn auth_answer(&mut self, server: u32, turns: u8) {
        let answer = (2..=3_000).contains(&self.x.client).then_some(5);
        if turns < 3 {
            self.challenged(server, answer, turns);
        }
        self.authenticated(server, answer);
    }

    fn challenged(&mut self, server: u32, bits: Option<Bits>, turns: u8) {
        let challenge = match server {
            6 | 18 => 2, // nothing; `Username:` and `Password:` in base64
            8..=120 if turns == 0 && self.x.client == 15 => 5, // CRAM-MD5
            8..=120 => 9,
            _ => return,
        };
        self.push(bits.map(|bits| bits + challenge), Event::Nothing, |state| {
            state.phase = Phase::Auth(turns + 1);
        });
    }

    fn authenticated(&mut self, server: u32, bits: Option<Bits>) {
        let answer = self.accepted(server, Kind::Auth);
        let bits = answer.zip(bits).map(|(answer, bits)| answer + bits);
        self.push(bits, Event::Nothing, |state| state.phase = Phase::Reset);
    }

    /// Between transactions; `late` is the price of a new one here.
    fn between(&mut self, server: u32, late: Bits) {
        self.short_commands(server);
        let first = self.next.len();
        self.mail(server, late);
        self.envelope(server, late);
        self.whole(server, late);
        let never = match self.from.phase {
            Phase::Ready => client::NO_RESET,
            Phase::Refused => client::NO_RESET_AFTER_REFUSAL,
            _ => return,
        };
        for (state, _, _) in &mut self.next[first..] {
            state.not_of(never);
        }
    }

    fn short_commands(&mut self, server: u32) {
        if self.x.client == SHORT_COMMAND {
            let after_message = self.from.phase == Phase::Ready;
            let after =
                if after_message { client::reset_after_message(self.known.client) } else { 0 };
            let reset = self.accepted(server, Kind::Reset).map(|bits| bits + 2 + after);
            self.push(reset, Event::Nothing, |state| {
                if state.phase != Phase::Start {
                    state.phase = Phase::Reset;
                }
                state.replies[Kind::Reset as usize] = server;
            });
            let price = client::noop(self.known.client);
            let noop = self.accepted(server, Kind::Noop).map(|bits| bits + price);
            self.push(noop, Event::Nothing, |state| {
                state.replies[Kind::Noop as usize] = server;
            });
        }
        if self.x.is_quit() {
            let in_vain = self.from.phase == Phase::Reset && self.from.transactions == 0;
            let bits = if in_vain { QUIT + IN_VAIN } else { QUIT };
            self.push(Some(bits), Event::Nothing, |state| state.phase = Phase::Closed);
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
        let accepted = self.accepted(server, Kind::Mail).map(|bits| bits + line + late);
        let never = if self.offers_pipelining() { client::MAIL_ALONE } else { Never::default() };
        self.push(accepted, Event::Begun, |state| {
            state.not_of(never);
            state.phase = Phase::Mail;
            state.replies[Kind::Mail as usize] = server;
            state.lines[0] = client;
        });
        let refused = self.refused(server, Kind::Mail).map(|bits| bits + line + late);
        self.push(refused, Event::Nothing, |state| {
            state.not_of(never);
            state.phase = Phase::Refused;
            state.replies[Kind::Refused as usize] = server;
        });
    }
}
