//! Every way to read the replies as answers to commands that fit the bytes the client wrote.

use super::{
    body::PAUSE_NS,
    grammar::{Event, Habits, Phase, Place, RCPT, Rules, SHORT, Step, steps},
    reading::{Reading, Ready, State, Transaction, add},
    said::Said,
};
use crate::dialogue::Standing;

/// Readings kept; with more, the session is given up.
const READINGS: usize = 256;
/// Transactions whose times are kept.
const KEPT: usize = 256;

/// The turn that replies answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TurnTimes {
    /// First write.
    pub(super) start_ns: u64,
    /// Last write.
    pub(super) sent_ns: u64,
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
        Self {
            rules,
            open: vec![Reading::first()],
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

    /// The server's greeting says that it speaks LMTP.
    pub(super) fn speaks_lmtp(&mut self) {
        self.habits.lmtp = true;
    }

    /// The client writes `bytes` bytes, `None` if their number is not known.
    pub(super) fn turn(&mut self, times: TurnTimes, bytes: Option<u32>) {
        self.settle();
        let (least, most) = bytes.map_or((0, u64::MAX), |bytes| (bytes.into(), bytes.into()));
        let before = std::mem::take(&mut self.open);
        for mut reading in before {
            let state = &mut reading.state;
            // Before EHLO it may be the client's proxy to which it speaks, and nobody has to wait.
            let begins = state.phase == Phase::Start;
            let writing = !begins && (state.writing || reading.least > 0);
            let left = (reading.least, reading.most);
            let (followed, grouped) = (state.followed, state.grouped);
            (state.followed, state.grouped, state.ended) = (false, false, false);
            // The client wrote when everything was answered, unless it was writing a body.
            let waited = left.0 == 0 && !state.writing && !(self.rules.likely && state.due > 0);
            // A server that answers the envelope even later is possible, but not likely.
            let goes_on = if state.writing { !self.rules.likely } else { followed };
            if state.quits {
                continue;
            }
            // It need not wait within a group of commands.
            let may_group = self.habits.pipelining && !self.rules.likely && bytes.is_some();
            if may_group && grouped && left.1 > 0 && !reading.state.writing {
                let mut more = reading.clone();
                more.least = left.0.max(1).saturating_add(least);
                more.most = left.1.saturating_add(most);
                add(&mut self.open, more);
            }
            if !(begins || waited || goes_on) {
                continue;
            }
            if writing && reading.ready == Ready::NotYet {
                reading.ready = Ready::Unknown;
            }
            (reading.least, reading.most) = (least, most);
            reading.state.writing = writing;
            reading.state.refused &= writing;
            add(&mut self.open, reading);
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
                habits: self.habits,
                refused: reading.state.refused,
                nobody: reading.state.nobody,
                recipients: reading.state.recipients,
                due: reading.state.due,
                first: self.first,
                bytes: (self.turn_bytes != u64::MAX).then_some(self.turn_bytes),
                paused: said.begin_ns.saturating_sub(self.turn.sent_ns) >= PAUSE_NS,
                ended: reading.state.ended,
                data,
                words_of_recipient: said.words == reading.rcpt_words,
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
    }

    fn take(&self, from: &Reading, step: &Step, said: &Said) -> Option<Reading> {
        let bdat = step.event.is_of_chunk();
        let mut to = from.clone();
        if from.state.writing {
            if !bdat && !step.may_be_followed() && step.phase != Phase::Closed {
                return None;
            }
            if bdat {
                (to.state.writing, to.least, to.most) = (false, 0, self.turn_bytes);
            }
        } else if bdat && step.least > self.turn_bytes {
            return None; // of an earlier group there are commands alone
        } else {
            let most = from.most.checked_sub(step.least)?;
            to.most = if from.most == u64::MAX { u64::MAX } else { most };
            to.least = from.least.saturating_sub(step.most);
        }
        // Everything before QUIT was answered before it, and nothing is written behind it.
        let last = said.code == 221 || said.code == 421 && self.rules.likely;
        if from.state.quits && !last {
            return None;
        }
        // Nobody writes QUIT behind envelope and chunk: RSET is more likely there, if the words say nothing.
        let all_at_once =
            from.state.ended && from.state.unnamed && from.begun_at(self.turn.start_ns);
        if self.rules.likely && said.code == 221 && all_at_once {
            return None;
        }
        let ends = last && step.event == Event::Nothing;
        if (ends || step.last) && (to.least > 0 || to.state.writing) {
            return None;
        }
        if step.last {
            to.most = 0;
        }
        to.state.follow(step, said);
        to.state.followed = to.least > 0 && step.may_be_followed();
        to.state.grouped = to.most > 0 && (step.may_be_followed() || step.is_reset());
        match step.event {
            Event::Nothing => {}
            Event::Begun => {
                to.mail_words = said.words;
                to.begin(self.turn.start_ns);
            }
            Event::Recipient => to.rcpt_words = said.words,
            Event::Asked => to.ready = Ready::At(said.begin_ns),
            Event::Chunked | Event::Read => to.chunk(self.turn.start_ns),
            Event::Last => {
                to.chunk(self.turn.start_ns);
                to.end(self.turn.sent_ns, said.begin_ns);
            }
            Event::Ended => to.end(self.turn.sent_ns, said.begin_ns),
            Event::Again => {
                if let Some(ended) = to.own.last_mut() {
                    ended.end_ns = said.begin_ns;
                }
            }
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
        // A message that was begun is finished as a rule, and gets all its replies.
        let done = |it: &&Reading| it.state.phase != Phase::Chunk && it.state.due == 0;
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
        if self.rules.likely {
            // A message that was begun is finished as a rule, and gets all its replies.
            let done = |it: &Reading| {
                let State { phase, writing, quits, due, .. } = it.state;
                phase != Phase::Chunk && !writing && !quits && due == 0
            };
            if self.open.iter().any(done) {
                self.open.retain(done);
            }
        }
        self.settle();
        // Whoever goes on writing after its body was refused may not have finished it.
        let goes_on = !self.rules.likely && self.first && self.turn_bytes > SHORT;
        if goes_on && self.open.iter().any(|it| it.state.body_refused) {
            return None;
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
