//! What a session handed over, for one who sees both sides.

use std::collections::VecDeque;

/// What the client sends, one thing that is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Mail,
    Rcpt,
    Data,
    /// What follows a 354: with its dot or not.
    Body {
        whole: bool,
    },
    /// BDAT with its bytes: all of them or not.
    Chunk {
        last: bool,
        whole: bool,
    },
    /// Ends the transaction: RSET, EHLO.
    Reset,
    /// An extension, or what it asked for with a 354 of its own.
    Other,
}

/// The session so far.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    lmtp: bool,
    unanswered: VecDeque<Command>,
    recipients: u32,
    /// Replies to the body that are still to come, of how many.
    due: u32,
    announced: bool,
    messages: u32,
    /// What was said, for a report.
    pub(crate) log: Vec<String>,
}

impl Truth {
    pub(crate) fn new(lmtp: bool) -> Self {
        Self { lmtp, ..Self::default() }
    }

    pub(crate) fn sent(&mut self, command: Command, bytes: usize) {
        self.log.push(format!("C {command:?} {bytes}"));
        self.unanswered.push_back(command);
    }

    /// The server replies to the first command that it has not answered, or to none.
    pub(crate) fn replied(&mut self, text: &str) {
        self.log.push(format!("S {text:?}"));
        let code: u32 = text[..3].parse().unwrap();
        let Some(command) = self.unanswered.front().copied() else { return };
        let done = match command {
            Command::Body { whole } | Command::Chunk { last: true, whole } => {
                self.body(code, whole)
            }
            Command::Chunk { last: false, .. } | Command::Data | Command::Other => true,
            Command::Mail | Command::Reset => {
                self.recipients = if code < 300 { 0 } else { self.recipients };
                true
            }
            Command::Rcpt => {
                self.recipients += u32::from(code < 300);
                true
            }
        };
        if done {
            self.unanswered.pop_front();
        }
    }

    /// A reply to a body. Returns whether it was the last.
    fn body(&mut self, code: u32, whole: bool) -> bool {
        if code == 353 {
            (self.announced, self.due) = (true, self.recipients + 1);
            return false;
        }
        if self.due == 0 {
            self.due = if self.lmtp { self.recipients.max(1) } else { 1 };
            // Of several replies that nothing announces, the first shows that all of it was there.
            self.count(whole && !self.announced);
        }
        self.due -= 1;
        self.count(whole && self.announced && self.due == 0);
        if self.due == 0 {
            (self.announced, self.recipients) = (false, 0);
        }
        self.due == 0
    }

    fn count(&mut self, handed_over: bool) {
        self.messages += u32::from(handed_over && self.recipients > 0);
    }

    pub(crate) fn messages(&self) -> u32 {
        self.messages
    }
}
