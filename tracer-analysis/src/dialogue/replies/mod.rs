//! What replies tell: how many messages were handed over, and how long each phase took.
//!
//! The client is never read. Replies to MAIL, RCPT and BDAT all begin with 250, so a reply is put beside
//! the turn it answers: the bytes that the client wrote, the replies before it, and the server's own
//! words leave few commands that it can have answered. `grammar` lists them, `readings` follows every
//! way to read the session, once by what standards allow and once by what clients do. A count is exact
//! if all that standards allow agree on it. `docs/replies.md` explains the method.

mod body;
mod grammar;
mod join;
mod pauses;
mod phases;
mod reading;
mod readings;
mod said;
#[cfg(test)]
mod tests;

use tracer_common::record::Turn;

use crate::smtp::Reply;

use self::{
    grammar::{LIKELY, POSSIBLE},
    join::{Join, Next},
    pauses::Pauses,
    readings::{Readings, TurnTimes},
};
pub(crate) use self::{pauses::Moment, phases::Phases, reading::Transaction, said::Said};
use super::{Rest, Standing};

/// What the replies of a connection told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Told {
    /// Messages that got a final reply; `None` if that cannot be told.
    pub(crate) transactions: Option<u32>,
    /// Whether no other number is possible; false without a number.
    pub(crate) exact: bool,
    /// Times of the transactions, in order, the first ones if there are many. `None` if they cannot be
    /// told.
    pub(crate) times: Option<Vec<Transaction>>,
    /// EHLO, STARTTLS and AUTH.
    pub(crate) phases: Phases,
    /// What the pause at the end is; `None` if that cannot be told.
    pub(crate) rest: Option<Rest>,
    /// Begins of turns before which somebody waited, in order.
    pub(crate) waited_ns: Vec<u64>,
    /// When refusals came, in order; empty if that cannot be told.
    pub(crate) moments: Vec<Moment>,
}

/// Turns and replies of one connection, put together as they come.
#[derive(Debug, Clone)]
pub(crate) struct Dialogue {
    join: Join,
    greeted_ns: Option<u64>,
    turn: Option<TurnTimes>,
    phases: Phases,
    pauses: Pauses,
    unfinished_ns: Option<u64>,
    possible: Readings,
    likely: Readings,
    data: Data,
    encrypted: bool,
}

impl Default for Dialogue {
    fn default() -> Self {
        Self {
            join: Join::default(),
            greeted_ns: None,
            turn: None,
            phases: Phases::default(),
            pauses: Pauses::default(),
            unfinished_ns: None,
            possible: Readings::new(POSSIBLE),
            likely: Readings::new(LIKELY),
            data: Data::default(),
            encrypted: false,
        }
    }
}

/// Messages that came by DATA, counted in the simplest way: RFC 5321 section 4.1.1.4: 354 asks for the message, and
/// the next reply says what became of it.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
struct Data {
    /// A 354 that cannot have been another extension's.
    used: bool,
    asked: bool,
    awaits_final: bool,
    count: u32,
    /// The server offers CHUNKING: messages may come by BDAT, without a 354.
    chunking: bool,
    /// The server offers an extension with a 354 of its own.
    own: bool,
}

impl Data {
    fn reply(&mut self, said: &Said) {
        self.chunking |= said.offers_chunking;
        self.own |= said.offers_xexch50;
        if said.code == 353 {
            return; // the final reply is still to come
        }
        if std::mem::take(&mut self.awaits_final) {
            let gives_up = said.code == 421 && said.times_out;
            self.count = self.count.saturating_add(u32::from(!gives_up));
        } else if said.code == 354 {
            (self.asked, self.awaits_final) = (true, true);
            self.used |= !self.own;
        }
    }
}

impl Dialogue {
    /// Of an encrypted session, whose replies were decrypted: the length of a turn is not that of the
    /// commands in it.
    pub(crate) fn encrypted() -> Self {
        Self { encrypted: true, ..Self::default() }
    }

    /// Takes the next turn. Turns and replies may come in any order between each other.
    pub(crate) fn turn(&mut self, turn: &Turn) {
        self.join.turn(turn);
        self.advance(false);
    }

    /// Takes the next reply after the greeting.
    pub(crate) fn reply(&mut self, said: Said) {
        self.data.reply(&said);
        self.join.reply(said);
        self.advance(false);
    }

    /// The server greeted, which was complete at `complete_ns`.
    pub(crate) fn greeted(&mut self, greeting: &Reply, complete_ns: u64) {
        self.greeted_ns.get_or_insert(complete_ns);
        self.pauses.greeted(complete_ns);
        if said::names_lmtp(greeting) {
            self.possible.speaks_lmtp();
            self.likely.speaks_lmtp();
        }
    }

    fn standing(&self) -> Standing {
        let readings = if self.likely.fit() { &self.likely } else { &self.possible };
        readings.standing(self.pauses.pipelining())
    }

    fn advance(&mut self, all: bool) {
        while let Some(next) = self.join.next(all) {
            match next {
                Next::Turn(turn) => self.begin(&turn),
                Next::Reply(said) => self.take(&said),
            }
        }
    }

    fn begin(&mut self, turn: &Turn) {
        let times = TurnTimes { start_ns: turn.start_ns, sent_ns: turn.last_write_ns };
        let bytes = (!self.encrypted).then_some(turn.client_bytes);
        self.turn = Some(times);
        self.pauses.turn(times, self.standing());
        self.possible.turn(times, bytes);
        self.likely.turn(times, bytes);
    }

    fn take(&mut self, said: &Said) {
        let turn_ns = self.turn.map(|turn| turn.start_ns);
        self.phases.reply(said, turn_ns, self.greeted_ns.unwrap_or(u64::MAX));
        self.pauses.reply(said, self.standing(), self.likely.is_at_recipient());
        self.possible.reply(said, false);
        self.likely.reply(said, self.data.used);
    }

    /// The first byte of a reply came whose end did not, until the end of the connection.
    pub(crate) fn unfinished(&mut self, begin_ns: u64) {
        self.unfinished_ns = Some(begin_ns);
    }

    /// What was told, at the end of the connection. `turns_missing`: some turns never came.
    pub(crate) fn finish(mut self, turns_missing: bool) -> Told {
        self.advance(true);
        // Without 354 and without the offer of CHUNKING there is no message.
        let none = (!self.data.asked && !self.data.chunking).then_some(0);
        let by_data = none.or(self.data.asked.then_some(self.data.count));
        if turns_missing || self.join.overrun() {
            let phases = if turns_missing { Phases::default() } else { self.phases };
            let exact = none.is_some();
            return Told { transactions: by_data, exact, phases, ..Told::default() };
        }
        let rest = Some(self.pauses.rest(self.standing(), self.unfinished_ns));
        let (possible, likely) = (self.possible.agreed(), self.likely.agreed());
        let exact = none.or(possible.as_ref().map(|it| it.count));
        let transactions = exact.or(likely.as_ref().map(|it| it.count)).or(by_data);
        let fits = |it: &readings::Agreed| Some(it.count) == transactions;
        let mut times = [possible, likely].into_iter().flatten().filter(fits);
        Told {
            transactions,
            exact: exact.is_some(),
            times: times.find_map(|it| it.transactions),
            phases: self.phases,
            rest,
            waited_ns: self.pauses.waited_ns,
            moments: self.pauses.moments,
        }
    }
}
