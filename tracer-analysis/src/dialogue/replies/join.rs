//! Turns and replies in the order in which they happened.
//!
//! They come through different buffers, and either may come first. Both bear times of the same clock,
//! taken under the lock of the same socket: a reply belongs to the last turn that began before its first
//! byte.

use std::collections::VecDeque;

use tracer_common::record::Turn;

use super::said::Said;

/// Turns kept that wait for a reply. They come eight at a time.
const TURNS: usize = 64;
/// Replies kept that wait for their turn: what a fast server says between two reads of the buffers.
const REPLIES: usize = 4_096;

/// What happened next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Next {
    /// The client wrote.
    Turn(Turn),
    /// The server replied.
    Reply(Said),
}

/// Turns and replies that wait for each other.
#[derive(Debug, Clone, Default)]
pub(super) struct Join {
    turns: VecDeque<Turn>,
    replies: VecDeque<Said>,
    overrun: bool,
}

impl Join {
    /// Takes a turn; in order.
    pub(super) fn turn(&mut self, turn: &Turn) {
        self.turns.push_back(*turn);
        self.bound();
    }

    /// Takes a reply; in order.
    pub(super) fn reply(&mut self, said: Said) {
        self.replies.push_back(said);
        self.bound();
    }

    fn bound(&mut self) {
        self.overrun |= self.turns.len() > TURNS && self.replies.is_empty();
        self.overrun |= self.replies.len() > REPLIES;
        if self.overrun {
            self.turns = VecDeque::new();
            self.replies = VecDeque::new();
        }
    }

    /// What happened next, as far as that is certain; with `all`, nothing more will come.
    pub(super) fn next(&mut self, all: bool) -> Option<Next> {
        let turn_first = match (self.turns.front(), self.replies.front()) {
            (Some(turn), Some(said)) => turn.start_ns <= said.begin_ns,
            (Some(_), None) if all => true,
            (None, Some(_)) if all => false,
            _ => return None,
        };
        if turn_first {
            self.turns.pop_front().map(Next::Turn)
        } else {
            self.replies.pop_front().map(Next::Reply)
        }
    }

    /// Whether more waited than is kept: the order is lost from there on.
    pub(super) fn overrun(&self) -> bool {
        self.overrun
    }
}
