//! Every way to read the replies as answers to commands that fit the bytes the client wrote.

use super::{
    grammar::{Event, Habits, Phase, Place, RCPT, Rules, Step, steps},
    said::Said,
};
use crate::dialogue::Standing;

/// Readings kept; with more, the session is given up.
const READINGS: usize = 256;
/// Transactions whose times are kept.
const KEPT: usize = 256;

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

/// The turn that replies answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TurnTimes {
    /// First write.
    pub(super) start_ns: u64,
    /// Last write.
    pub(super) sent_ns: u64,
}

/// When the body of a transaction began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ready {
    NotYet,
    Unknown,
    At(u64),
}

/// One way to read the session.
#[derive(Debug, Clone)]
struct Reading {
    state: State,
    /// Bytes written and not yet accounted for.
    least: u64,
    most: u64,
    begin_ns: u64,
    ready: Ready,
    /// Transactions, without those that all readings share.
    own: Vec<Transaction>,
    /// Words of the last replies to an accepted MAIL and RCPT.
    mail_words: u32,
    rcpt_words: u32,
    /// Another way to get here had other times.
    times_differ: bool,
}

/// What decides how a reading can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
struct State {
    phase: Phase,
    /// In this turn a command was refused that later ones built on.
    refused: bool,
    /// BDAT was used.
    bdat: bool,
    /// More was written than the lines answered so far can account for: a body is under way, and the
    /// commands before it may not be answered yet.
    writing: bool,
    /// Bytes are left, and the command answered last may be followed by more without a wait.
    followed: bool,
    /// A message was taken in words that do not say so.
    unnamed: bool,
    count: u32,
}

/// What all readings of a session agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Agreed {
    /// Messages that got their final reply.
    pub(super) count: u32,
    /// Their times, the first ones if there are many; `None` if readings differ in them.
    pub(super) transactions: Option<Vec<Transaction>>,
}

/// The readings of one session.
#[derive(Debug, Clone)]
pub(super) struct Readings {
    rules: Rules,
    /// In the order of their keys.
    open: Vec<Reading>,
    /// Memory for those that come next, and for the ways in which one goes on.
    next: Vec<Reading>,
    ways: Vec<Step>,
    shared: Vec<Transaction>,
    turn: TurnTimes,
    turn_bytes: u64,
    first: bool,
    /// The last reply was a refusal.
    refused: bool,
    habits: Habits,
}

impl Readings {
    pub(super) fn new(rules: Rules) -> Self {
        let first = Reading {
            state: State {
                phase: Phase::Start,
                refused: false,
                bdat: false,
                writing: false,
                followed: false,
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
        };
        Self {
            rules,
            open: vec![first],
            next: Vec::new(),
            ways: Vec::new(),
            shared: Vec::new(),
            turn: TurnTimes::default(),
            turn_bytes: 0,
            first: false,
            refused: false,
            habits: Habits::default(),
        }
    }

    /// The client writes `bytes` bytes, `None` if their number is not known.
    pub(super) fn turn(&mut self, times: TurnTimes, bytes: Option<u32>) {
        let (least, most) = bytes.map_or((0, u64::MAX), |bytes| (bytes.into(), bytes.into()));
        // The client wrote when everything was answered, unless it was writing a body.
        let likely = self.rules.is_likely();
        self.open.retain(|it| {
            // A server that answers the envelope even later is possible, but not likely.
            let goes_on = if it.state.writing { !likely } else { it.state.followed };
            it.least == 0 && !it.state.writing || goes_on
        });
        for reading in &mut self.open {
            let writing = reading.state.writing || reading.least > 0;
            if writing && reading.ready == Ready::NotYet {
                reading.ready = Ready::Unknown;
            }
            (reading.least, reading.most) = (least, most);
            reading.state.writing = writing;
            reading.state.refused &= writing;
        }
        (self.turn, self.turn_bytes, self.first) = (times, most, true);
    }

    /// The server replies. `data`: the client has used DATA, and so will not use BDAT.
    pub(super) fn reply(&mut self, said: &Said, data: bool) {
        self.habits.learn(said);
        if said.names_message {
            // A server has one way to say that it took a message.
            self.open.retain(|reading| !reading.state.unnamed);
        }
        if data {
            // A client uses one way for all messages of a session.
            self.open.retain(|reading| !reading.state.bdat);
        }
        let mut ways = std::mem::take(&mut self.ways);
        let mut next = std::mem::take(&mut self.next);
        for reading in &self.open {
            let place = Place {
                phase: reading.state.phase,
                refused: reading.state.refused,
                first: self.first,
                habits: self.habits,
                data,
                like_recipient: said.words == reading.rcpt_words
                    && said.words != reading.mail_words,
            };
            steps(self.rules, place, said, &mut ways);
            for step in ways.drain(..) {
                if let Some(reading) = self.take(reading, &step, said) {
                    add(&mut next, reading);
                }
            }
        }
        if next.len() > READINGS {
            next.clear();
        }
        self.next = std::mem::replace(&mut self.open, next);
        self.next.clear();
        self.ways = ways;
        (self.first, self.refused) = (false, said.code >= 400);
        self.settle();
    }

    fn take(&self, from: &Reading, step: &Step, said: &Said) -> Option<Reading> {
        let bdat = matches!(step.event, Event::Chunked | Event::Last);
        let mut to = from.clone();
        if from.state.writing {
            if !bdat && !step.may_be_followed() && step.phase != Phase::Closed {
                return None;
            }
            if bdat {
                (to.state.writing, to.least, to.most) = (false, 0, self.turn_bytes);
            }
        } else {
            let most = from.most.checked_sub(step.least)?;
            to.most = if from.most == u64::MAX { u64::MAX } else { most };
            to.least = from.least.saturating_sub(step.most);
        }
        // Everything before QUIT was answered before it, and nothing is written behind it.
        let last = said.code == 221 || said.code == 421 && self.rules.is_likely();
        if last && step.event == Event::Nothing && (to.least > 0 || to.state.writing) {
            return None;
        }
        to.state.phase = step.phase;
        to.state.refused |= step.refused;
        to.state.bdat |= bdat;
        to.state.unnamed |= said.code < 400 && step.event == Event::Last && !said.names_message;
        match (step.event, step.phase) {
            (Event::Begun, _) => to.mail_words = said.words,
            (Event::Nothing, Phase::Rcpt) if said.code < 400 && step.may_be_followed() => {
                to.rcpt_words = said.words;
            }
            _ => {}
        }
        to.state.followed = to.least > 0 && step.may_be_followed();
        match step.event {
            Event::Nothing => {}
            Event::Begun => to.begin(self.turn.start_ns),
            Event::Asked => to.ready = Ready::At(said.begin_ns),
            Event::Chunked => to.chunk(self.turn.start_ns),
            Event::Last => {
                to.chunk(self.turn.start_ns);
                to.end(self.turn.sent_ns, said.begin_ns);
            }
            Event::Ended => to.end(self.turn.sent_ns, said.begin_ns),
        }
        if matches!(to.state.phase, Phase::Idle | Phase::Closed) && !to.state.refused {
            (to.begin_ns, to.ready) = (0, Ready::NotYet);
        }
        Some(to)
    }

    /// Moves transactions that all readings share out of them.
    fn settle(&mut self) {
        while let Some(first) = self.open.first().and_then(|it| it.own.first()).copied() {
            if self.open.iter().any(|it| it.own.first() != Some(&first)) {
                return;
            }
            for reading in &mut self.open {
                reading.own.remove(0);
            }
            if self.shared.len() < KEPT {
                self.shared.push(first);
            }
        }
    }

    /// Whether the session can be read at all.
    pub(super) fn fit(&self) -> bool {
        !self.open.is_empty()
    }

    /// Where the dialogue stands. `pipelining`: the server offers it.
    pub(super) fn standing(&self, pipelining: bool) -> Standing {
        // A message that was begun is finished as a rule.
        let done = |it: &&Reading| it.state.phase != Phase::Chunk;
        let any_done = self.open.iter().any(|it| done(&it));
        let all = self.open.iter().filter(|it| !any_done || done(it));
        // Of an envelope that was refused more answers may be due.
        let refused = |it: &Reading| {
            pipelining && self.refused && it.state.phase == Phase::Idle && it.most >= RCPT
        };
        Standing::agreed(all.map(|it| match it.standing(pipelining, self.first) {
            Standing::Settled if refused(it) => Standing::Unclear,
            standing => standing,
        }))
    }

    /// Whether the next answer is one to RCPT, or to DATA behind it.
    pub(super) fn is_at_recipient(&self) -> bool {
        let fits = |it: &&Reading| self.first || it.least == 0 || it.state.followed;
        let mut live = self.open.iter().filter(fits).peekable();
        let at = |it: &Reading| matches!(it.state.phase, Phase::Mail | Phase::Rcpt);
        live.peek().is_some() && live.all(at)
    }

    /// What the readings say at the end of the session; `None` if they differ.
    pub(super) fn agreed(mut self) -> Option<Agreed> {
        if self.rules.is_likely() {
            // A message that was begun is finished as a rule.
            let done = |it: &Reading| it.state.phase != Phase::Chunk && !it.state.writing;
            if self.open.iter().any(done) {
                self.open.retain(done);
            }
            self.settle();
        }
        let (best, others) = self.open.split_first()?;
        if others.iter().any(|other| other.state.count != best.state.count) {
            return None;
        }
        let same = others.iter().all(|other| other.own == best.own);
        let differ = self.open.iter().any(|it| it.times_differ);
        let mut all = self.shared;
        all.extend(best.own.iter().take(KEPT - all.len()));
        Some(Agreed { count: best.state.count, transactions: (same && !differ).then_some(all) })
    }
}

impl Reading {
    /// Readings with the same key go on in the same ways.
    fn key(&self) -> (State, bool) {
        (self.state, self.least > 0)
    }

    /// `first`: nothing was answered since the last write.
    fn standing(&self, pipelining: bool, first: bool) -> Standing {
        match self.state.phase {
            Phase::Body => Standing::Owing,
            _ if self.state.writing || self.least > 0 && (first || self.state.followed) => {
                Standing::Owing
            }
            // Without PIPELINING, nothing is written behind a command.
            _ if !pipelining => Standing::Settled,
            // The command was longer than any that gets this answer.
            _ if self.least > 0 => Standing::Unclear,
            Phase::Mail | Phase::Rcpt | Phase::Chunk => Standing::Open,
            _ => Standing::Settled,
        }
    }

    fn begin(&mut self, turn_ns: u64) {
        (self.begin_ns, self.ready) = (turn_ns, Ready::NotYet);
    }

    /// A chunk of the body that was written in the turn that began at `turn_ns`, or before.
    fn chunk(&mut self, turn_ns: u64) {
        if self.begin_ns == 0 {
            self.begin_ns = turn_ns; // MAIL was refused
        }
        if self.ready == Ready::NotYet {
            let apart = turn_ns != self.begin_ns;
            self.ready = if apart { Ready::At(turn_ns) } else { Ready::Unknown };
        }
    }

    fn end(&mut self, sent_ns: u64, end_ns: u64) {
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
fn add(readings: &mut Vec<Reading>, new: Reading) {
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
