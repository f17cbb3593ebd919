//! One way to read a session.

use super::{
    grammar::{Event, MANY, Phase, Step},
    said::Said,
};
use crate::dialogue::Standing;

/// Times of one transaction, nanoseconds of `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "names carry their unit")]
pub(crate) struct Transaction {
    /// First write of the turn with MAIL.
    pub(crate) begin_ns: u64,
    /// First byte of the 354, or first write of the turn with BDAT; `None` if that is the turn with
    /// MAIL, or is not known.
    pub(crate) ready_ns: Option<u64>,
    /// Last write before the final reply.
    pub(crate) sent_ns: u64,
    /// First byte of the final reply.
    pub(crate) end_ns: u64,
}

/// When the body of a transaction began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    NotYet,
    Unknown,
    At(u64),
}

/// One way to read the session.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) state: State,
    /// Bytes written and not yet accounted for.
    pub(super) least: u64,
    pub(super) most: u64,
    pub(super) begin_ns: u64,
    pub(super) ready: Ready,
    /// Transactions, without those that all readings share.
    pub(super) own: Vec<Transaction>,
    /// Words of the last replies to an accepted MAIL and RCPT.
    pub(super) mail_words: u32,
    pub(super) rcpt_words: u32,
    /// Another way to get here had other times.
    pub(super) times_differ: bool,
}

/// What decides how a reading can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct State {
    pub(super) phase: Phase,
    /// In this turn a command was refused that later ones built on.
    pub(super) refused: bool,
    /// A recipient of this transaction was refused, and none was accepted.
    pub(super) nobody: bool,
    /// A body, or a chunk of one, was answered in this turn.
    pub(super) ended: bool,
    /// QUIT is due in this turn.
    pub(super) quits: bool,
    /// The last reply refused the body of a message.
    pub(super) body_refused: bool,
    /// Recipients that were accepted, at most [`MANY`].
    pub(super) recipients: u8,
    /// Replies to the body that are still due, at most [`MANY`].
    pub(super) due: u8,
    /// BDAT was used.
    pub(super) bdat: bool,
    /// More was written than the lines answered so far can account for: a body is under way, and the
    /// commands before it may not be answered yet.
    pub(super) writing: bool,
    /// Bytes are left, and the command answered last may be followed by a body without a wait.
    pub(super) followed: bool,
    /// Bytes may be left of the group of commands to which the last one belongs.
    pub(super) grouped: bool,
    /// A message was taken in words that do not say so.
    pub(super) unnamed: bool,
    pub(super) count: u32,
}

impl State {
    /// Goes on by `step`, which takes `said`.
    pub(super) fn follow(&mut self, step: &Step, said: &Said) {
        self.phase = step.phase;
        self.due = step.due;
        self.quits = step.quits;
        self.refused |= step.refused;
        self.bdat |= step.event.is_of_chunk();
        self.unnamed |= said.code < 400 && step.event == Event::Last && !said.names_message;
        let of_body = matches!(step.event, Event::Ended | Event::Last | Event::Again);
        self.ended |= of_body || step.event == Event::Chunked;
        self.body_refused = of_body && said.code >= 400;
        match step.phase {
            Phase::Rcpt if step.event == Event::Recipient => {
                self.recipients = MANY.min(self.recipients + 1);
                self.nobody = false;
            }
            Phase::Mail if step.event == Event::Begun => self.nobody = false,
            Phase::Mail => self.nobody |= step.refused,
            Phase::Start | Phase::Idle | Phase::Fates | Phase::Closed => {
                (self.recipients, self.nobody) = (0, false);
            }
            _ => {}
        }
    }
}

impl Reading {
    /// Of a session in which nothing was said.
    pub(super) fn first() -> Self {
        Self {
            state: State {
                phase: Phase::Start,
                refused: false,
                nobody: false,
                ended: false,
                quits: false,
                body_refused: false,
                recipients: 0,
                due: 0,
                bdat: false,
                writing: false,
                followed: false,
                grouped: false,
                unnamed: false,
                count: 0,
            },
            least: 0,
            most: 0,
            begin_ns: 0,
            ready: Ready::NotYet,
            own: Vec::new(),
            mail_words: 0,
            rcpt_words: 0,
            times_differ: false,
        }
    }

    /// Readings with the same key go on in the same ways.
    pub(super) fn key(&self) -> (State, bool) {
        (self.state, self.least > 0)
    }

    /// Whether the last message began in the turn that began at `turn_ns`.
    pub(super) fn begun_at(&self, turn_ns: u64) -> bool {
        self.own.last().is_some_and(|it| it.begin_ns == turn_ns)
    }

    /// Where the dialogue stands. `pipelining`: the server offers it. `first`: nothing was answered since the last
    /// write.
    pub(super) fn standing(&self, pipelining: bool, first: bool) -> Standing {
        match self.state.phase {
            // The client owes what was asked for, or the server owes further replies to the body.
            Phase::Body | Phase::Nobody | Phase::Own | Phase::Prdr | Phase::Fates => {
                Standing::Owing
            }
            // It waited for the rest of a body until it closed.
            Phase::GivenUp => Standing::Owing,
            // QUIT is written and not answered.
            _ if self.state.quits => Standing::Owing,
            _ if self.state.writing || self.least > 0 && (first || self.state.followed) => {
                Standing::Owing
            }
            // Without PIPELINING, nothing is written behind a command.
            _ if !pipelining => Standing::Settled,
            // The command was longer than any that gets this answer.
            _ if self.least > 0 => Standing::Unclear,
            Phase::Mail | Phase::Rcpt | Phase::Chunk => Standing::Open,
            Phase::Start | Phase::Idle | Phase::Closed => Standing::Settled,
        }
    }

    pub(super) fn begin(&mut self, turn_ns: u64) {
        (self.begin_ns, self.ready) = (turn_ns, Ready::NotYet);
    }

    /// A chunk of the body that was written in the turn that began at `turn_ns`, or before.
    pub(super) fn chunk(&mut self, turn_ns: u64) {
        if self.begin_ns == 0 {
            self.begin_ns = turn_ns; // MAIL was refused
        }
        if self.ready == Ready::NotYet {
            let apart = turn_ns != self.begin_ns;
            self.ready = if apart { Ready::At(turn_ns) } else { Ready::Unknown };
        }
    }

    pub(super) fn end(&mut self, sent_ns: u64, end_ns: u64) {
        let ready_ns = match self.ready {
            Ready::At(ns) => Some(ns),
            Ready::NotYet | Ready::Unknown => None,
        };
        self.own.push(Transaction { begin_ns: self.begin_ns, ready_ns, sent_ns, end_ns });
        self.state.count = self.state.count.saturating_add(1);
        (self.begin_ns, self.ready) = (0, Ready::NotYet);
    }
}

/// Adds a reading to those that stand in the order of their keys. Of two in the same state, one with the bytes
/// of both is left.
pub(super) fn add(readings: &mut Vec<Reading>, new: Reading) {
    match readings.binary_search_by_key(&new.key(), Reading::key) {
        Err(at) => readings.insert(at, new),
        Ok(at) => {
            let old = &mut readings[at];
            (old.least, old.most) = (old.least.min(new.least), old.most.max(new.most));
            let times = |it: &Reading| (it.begin_ns, it.ready);
            old.times_differ |= new.times_differ || times(old) != times(&new) || old.own != new.own;
        }
    }
}
