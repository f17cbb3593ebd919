//! How many messages a TLS session carried, inferred from the lengths of its turns alone.
//!
//! A TLS record is as long as its plaintext plus a constant, so the lengths of the turns still tell
//! commands from bodies. `opening` finds the constant, `grammar` lists what a turn can have been,
//! and `readings` keeps every way to read the session as SMTP, each with a price in bits. The count is
//! given only if every reading with another count is far more expensive. `docs/inference.md` explains
//! the method and publishes its measured error.

mod answers;
mod client;
mod grammar;
mod handover;
mod opening;
mod price;
mod readings;
#[cfg(test)]
mod rest_tests;
mod server;
mod steps;
mod words;

use tracer_common::record::{IDLE_NS, Turn};

use super::{PAUSES, Rest, Standing};
use crate::mta::Mta;

pub use self::server::Server;
use self::{
    grammar::{Exchange, Known},
    opening::{Opening, Step},
    readings::Readings,
};

/// Turns remembered while it is not known yet whether TLS begins.
const CLEAR_TURNS: usize = 64;

/// Turns from the `ClientHello` on in which no message can have been handed over: the handshake, and
/// what rides with its end.
const HANDSHAKE_TURNS: u32 = 2;

/// Why there is no count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// TLS never began, or the turn in which it did is not known.
    NoTls,
    /// The handshake and the EHLO after it fit no known overhead per record.
    Overhead,
    /// The lengths cannot be read as SMTP.
    DoesNotFit,
    /// Readings with different counts are about as likely.
    Ambiguous,
}

impl Reason {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoTls => "TLS did not begin in a turn that was seen",
            Self::Overhead => "the overhead of a record could not be calibrated",
            Self::DoesNotFit => "the lengths do not fit an SMTP dialogue",
            Self::Ambiguous => "the lengths fit different numbers of messages",
        }
    }
}

/// What the lengths say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inference {
    /// Messages handed over: DATA or BDAT transactions whose body was sent and got a final reply.
    pub transactions: Option<u32>,
    /// Always false: lengths can make a count likely, never certain.
    pub exact: bool,
    /// First write of the envelope and first byte of the final reply, nanoseconds of `CLOCK_BOOTTIME`,
    /// in order. Empty without a count.
    pub spans: Vec<[u64; 2]>,
    /// Transactions beyond those in `spans`.
    pub spans_omitted: u32,
    /// `ClientHello` and the end of the client's part of the handshake, nanoseconds of
    /// `CLOCK_BOOTTIME`. `None` if the handshake was not understood.
    pub handshake: Option<(u64, u64)>,
    /// Bytes that a record adds to its plaintext.
    pub overhead: Option<u32>,
    /// Bits by which the best reading with another count is more expensive; `None` if there is none
    /// left, or no count.
    pub margin_bits: Option<u32>,
    /// Why there is no count.
    pub reason: Option<Reason>,
    /// What the pause at the end is.
    pub(crate) rest: Option<Rest>,
    /// Begins of turns before which somebody waited, in order.
    pub(crate) waited_ns: Vec<u64>,
}

/// The turns of one connection, read as they come.
#[derive(Debug, Clone, Default)]
pub struct Lengths {
    /// Turns not yet read, because TLS may have begun in one of them.
    clear: Vec<Turn>,
    server: Server,
    client: Option<Mta>,
    tls_ns: Option<u64>,
    opening: Option<Opening>,
    readings: Option<Readings>,
    turns_since_hello: u32,
    /// Where the dialogue stood before the last turn.
    before: Standing,
    /// Begins of turns before which somebody waited, in order.
    waited_ns: Vec<u64>,
    /// Last data of the last turn.
    last_ns: u64,
}

impl Lengths {
    /// Nothing seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// The mail server that opened the connection, if its process has a known name. Call it before the first
    /// turn.
    pub fn opened_by(&mut self, client: Option<Mta>) {
        self.client = client;
    }

    /// Takes the next turn, from the first cleartext one on.
    pub fn turn(&mut self, turn: &Turn) {
        if self.opening.is_some() {
            self.encrypted(turn);
        } else if self.clear.len() < CLEAR_TURNS {
            self.clear.push(*turn);
            self.find_hello();
        }
    }

    /// TLS begins: the server segment with its first record arrived at `time_ns` of `CLOCK_BOOTTIME`.
    /// `server` is what was said before. May come before or after the turn it belongs to.
    pub fn tls_begins(&mut self, time_ns: u64, server: &Server) {
        if self.tls_ns.is_none() {
            self.tls_ns = Some(time_ns);
            self.server.clone_from(server);
            self.find_hello();
        }
    }

    /// Reads what waited, once the turn of the `ClientHello` is there.
    fn find_hello(&mut self) {
        let Some(tls_ns) = self.tls_ns else { return };
        let is_hello = |turn: &Turn| turn.first_byte_ns != 0 && turn.last_ns >= tls_ns;
        let Some(at) = self.clear.iter().position(is_hello) else { return };
        let turns = std::mem::take(&mut self.clear);
        self.opening = Some(Opening::new(&turns[..at], &turns[at]));
        self.turns_since_hello = 1;
        for turn in &turns[at + 1..] {
            self.encrypted(turn);
        }
    }

    fn encrypted(&mut self, turn: &Turn) {
        self.turns_since_hello = self.turns_since_hello.saturating_add(1);
        if self.readings.is_none() {
            let Some(opening) = &mut self.opening else { return };
            match opening.turn(turn) {
                Step::More => return,
                Step::Consumed => {
                    let overhead = opening.overhead().unwrap_or_default();
                    let reply = turn.server_bytes.saturating_sub(overhead);
                    self.readings = Some(readings(opening, &self.server, self.client, Some(reply)));
                    return;
                }
                Step::Dialogue => {
                    self.readings = Some(readings(opening, &self.server, self.client, None));
                }
            }
        }
        let overhead = self.opening.as_ref().and_then(Opening::overhead);
        if let (Some(readings), Some(overhead)) = (&mut self.readings, overhead) {
            self.before = readings.standing();
            let paused = turn.start_ns.saturating_sub(self.last_ns) >= IDLE_NS;
            if paused && self.before.is_waiting() && self.waited_ns.len() < PAUSES {
                self.waited_ns.push(turn.start_ns);
            }
            self.last_ns = turn.last_ns;
            readings.exchange(&Exchange::new(turn, overhead));
        }
    }

    /// What the turns say, at the end of the connection.
    pub fn finish(mut self) -> Inference {
        let waited_ns = std::mem::take(&mut self.waited_ns);
        let Some(opening) = &self.opening else {
            return Inference { reason: Some(Reason::NoTls), ..Inference::default() };
        };
        let known = Inference {
            handshake: opening.handshake(),
            overhead: opening.overhead(),
            rest: self.rest(),
            waited_ns,
            ..Inference::default()
        };
        match self.readings {
            Some(readings) => readings.finish(known),
            None if self.turns_since_hello <= HANDSHAKE_TURNS => {
                Inference { transactions: Some(0), ..known }
            }
            None => Inference { reason: Some(Reason::Overhead), ..known },
        }
    }

    /// Whether the server spoke unasked is not for lengths to say.
    fn rest(&self) -> Option<Rest> {
        let now = self.readings.as_ref()?.standing();
        Some(Rest { before: self.before, now, ..Rest::default() })
    }
}

fn readings(
    opening: &Opening,
    server: &Server,
    client: Option<Mta>,
    ehlo_reply: Option<u32>,
) -> Readings {
    let allowed = server.allows(ehlo_reply);
    let known = Known { ehlo: opening.ehlo_bytes(), allowed, client };
    Readings::new(known, server.words())
}
