//! What a turn can have been, by the length of its plaintext and what went before.

use tracer_common::record::Turn;

use super::{client::Never, price::Bits, server::Allowed, steps::Steps, words::Words};
use crate::{dialogue::Standing, mta::Mta};

/// DATA, RSET, NOOP and QUIT: four letters and line end.
pub(super) const SHORT_COMMAND: u32 = 6;
/// The alert `close_notify`.
pub(super) const CLOSE_NOTIFY: u32 = 2;
/// Most plaintext of a record.
const FULL_RECORD: u32 = 16_384;

/// A turn in plaintext bytes, as if each side had written one record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exchange {
    /// What the client wrote.
    pub(super) client: u32,
    /// What the server replied; `None` if it did not, `close_notify` excepted.
    server: Option<u32>,
    pub(super) overhead: u32,
    /// First write.
    pub(super) begin_ns: u64,
    /// First byte of the reply.
    pub(super) end_ns: u64,
}

impl Exchange {
    /// The plaintext of `turn`.
    pub(super) fn new(turn: &Turn, overhead: u32) -> Self {
        let server = turn.server_bytes.saturating_sub(overhead);
        Self {
            client: turn.client_bytes.saturating_sub(overhead),
            server: (turn.first_byte_ns != 0 && server > CLOSE_NOTIFY).then_some(server),
            overhead,
            begin_ns: turn.start_ns,
            end_ns: turn.first_byte_ns,
        }
    }

    /// Full records only: the server spoke while the client was still writing.
    pub(super) fn is_cut(&self) -> bool {
        let record = FULL_RECORD + self.overhead;
        self.client.saturating_add(self.overhead).is_multiple_of(record)
    }

    /// One or two short commands that end the session, `close_notify` after them or not.
    pub(super) fn is_quit(&self) -> bool {
        let alone = SHORT_COMMAND;
        let after_rset = [2 * SHORT_COMMAND, 2 * SHORT_COMMAND + self.overhead];
        let closing = |it: u32| [it, it + self.overhead + CLOSE_NOTIFY].contains(&self.client);
        closing(alone) || after_rset.into_iter().any(closing)
    }
}

/// Where the dialogue stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// After EHLO, before any mail.
    Start,
    /// The server challenged, so many times.
    Auth(u8),
    /// Between transactions, after a message.
    Ready,
    /// Between transactions, none since RSET or AUTH.
    Reset,
    /// MAIL was accepted.
    Mail,
    /// No recipient was accepted yet, and at least one was refused.
    NoRcpt,
    /// A recipient was accepted.
    Rcpt,
    /// 354: a body is due.
    Body,
    /// A chunk that was not the last was accepted.
    Chunk,
    /// The envelope was answered while its chunk was still being written.
    Writing,
    /// An envelope was refused.
    Refused,
    /// The session is over.
    Closed,
}

/// How messages are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Style {
    /// MAIL, RCPT and DATA in one turn.
    Envelope,
    /// Each command in its own turn.
    Single,
    /// RCPT and DATA in one turn.
    Split,
    /// Envelope, BDAT and body in one turn.
    Whole,
    /// BDAT after the envelope.
    Bdat,
}

/// What kind of turn a length was learned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Reset,
    Noop,
    Mail,
    Rcpt,
    Envelope,
    /// After a body that came by DATA.
    Final,
    /// After the last chunk.
    Last,
    Whole,
    /// An envelope and a chunk that is not the last.
    Begun,
    Chunk,
    Quit,
    /// A refusal of one command.
    Refused,
    /// An envelope of which nothing was left.
    RefusedEnvelope,
    /// A refusal of a body.
    RefusedBody,
    /// After the last part of AUTH.
    Auth,
}

const KINDS: usize = 16;

/// What is known of the session before its dialogue under TLS.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// Length of the EHLO.
    pub(super) ehlo: Option<u32>,
    /// What the client may do.
    pub(super) allowed: Allowed,
    /// The client.
    pub(super) client: Option<Mta>,
}

/// One way to read the session so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// In whose words the server is taken to speak.
    pub(super) words: Option<Words>,
    pub(super) style: Option<Style>,
    /// Messages handed over.
    pub(super) transactions: u32,
    /// Last reply lengths by kind, 0 for none.
    pub(super) replies: [u32; KINDS],
    /// Last lengths of MAIL, RCPT, envelope, chunk and whole turns, 0 for none.
    pub(super) lines: [u32; 5],
    /// Clients that never say what this reading has them say.
    pub(super) never: Never,
}

/// What a turn did to the current transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// Nothing that changes its span.
    Nothing,
    /// It began.
    Begun,
    /// It got its final reply.
    Ended,
    /// Both.
    Whole,
}

/// A possible next state, its price, and what happened.
pub(super) type Next = (State, Bits, Event);

impl State {
    /// Nothing read.
    pub(super) fn new(words: Option<Words>) -> Self {
        Self {
            phase: Phase::Start,
            words,
            style: None,
            transactions: 0,
            replies: [0; KINDS],
            lines: [0; 5],
            never: Never::default(),
        }
    }

    /// Adds to `next` all that `exchange` can have been.
    pub(super) fn next(self, exchange: &Exchange, known: &Known, next: &mut Vec<Next>) {
        let step = Steps { from: self, x: exchange, known, next };
        match exchange.server {
            None => step.unanswered(),
            Some(server) => step.answered(server),
        }
        for (state, bits, _) in next {
            *bits += state.never.price(known.client) - self.never.price(known.client);
        }
    }

    /// Where the dialogue stands.
    pub(super) fn standing(&self) -> Standing {
        match self.phase {
            Phase::Closed | Phase::Start | Phase::Ready | Phase::Reset | Phase::Refused => {
                Standing::Settled
            }
            Phase::Auth(_) | Phase::Body | Phase::Writing => Standing::Owing,
            Phase::Mail | Phase::NoRcpt | Phase::Rcpt | Phase::Chunk => Standing::Open,
        }
    }

    /// The price of a session that ends here.
    pub(super) fn end(&self) -> Bits {
        match self.phase {
            Phase::Closed => 0,
            Phase::Start | Phase::Ready | Phase::Reset => 2,
            Phase::Refused => 3,
            Phase::Auth(_) => 6,
            Phase::Mail | Phase::NoRcpt | Phase::Body | Phase::Writing => 8,
            Phase::Rcpt | Phase::Chunk => 12,
        }
    }
}

impl State {
    /// A message got its final reply.
    pub(super) fn handed_over(&mut self, phase: Phase) {
        self.transactions = self.transactions.saturating_add(1);
        self.phase = phase;
    }

    /// It says what `clients` never say.
    pub(super) fn not_of(&mut self, clients: Never) {
        self.never = self.never.and(clients);
    }
}
