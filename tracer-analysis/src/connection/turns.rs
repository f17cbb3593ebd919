//! Turns of a connection, and the idle gaps between them.

use tracer_common::record::{ConnectionState, IDLE_NS, Turn, direction, flag};

use super::ending;

/// Gaps kept per connection; more are counted.
const GAPS: usize = 256;

/// A last write that is followed so soon by our own close, and never answered, belongs to the close:
/// QUIT without waiting for its reply, or the `close_notify` of TLS.
const CLOSING_NS: u64 = 100_000_000;

/// What is known of the turns of one connection. Feed every turn in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns {
    seen: u32,
    last_ns: u64,
    gaps: Vec<Gap>,
    gaps_omitted: u32,
    /// Longest gap that ended in a turn with an answer, of those that are not in `gaps`.
    other_survived_us: Option<u64>,
    unanswered: Option<Unanswered>,
}

/// Time without data before a turn.
#[derive(Debug, Clone, Copy)]
struct Gap {
    /// Begin of the turn.
    turn_ns: u64,
    micros: u64,
    /// The turn got an answer.
    answered: bool,
}

/// What the client wrote last, if no byte of the server came after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unanswered {
    /// When it was written.
    pub(super) start_ns: u64,
    /// Time without data before it, 0 after the greeting; `None` if the turn before was lost or not seen.
    pub(super) gap_ns: Option<u64>,
    /// Bytes written.
    pub(super) bytes: u32,
    /// It belongs to our own close.
    pub(super) closing: bool,
}

impl Turns {
    /// Takes the next turn.
    pub(super) fn turn(&mut self, turn: &Turn) {
        if self.seen > 0 {
            let micros = turn.start_ns.saturating_sub(self.last_ns) / 1_000;
            let answered = turn.first_byte_ns != 0;
            self.gap(Gap { turn_ns: turn.start_ns, micros, answered });
        }
        self.seen = self.seen.saturating_add(1);
        self.last_ns = self.last_ns.max(turn.last_ns);
    }

    fn gap(&mut self, gap: Gap) {
        let long = gap.micros >= IDLE_NS / 1_000;
        if long && self.gaps.len() < GAPS {
            self.gaps.push(gap);
            return;
        }
        self.gaps_omitted = self.gaps_omitted.saturating_add(long.into());
        if gap.answered {
            self.other_survived_us = self.other_survived_us.max(Some(gap.micros));
        }
    }

    /// Forgets the gaps before turns that began at these times, in order: somebody waited, nobody was idle.
    pub(super) fn waited_before(&mut self, turns_ns: &[u64]) {
        self.gaps.retain(|gap| turns_ns.binary_search(&gap.turn_ns).is_err());
    }

    /// Takes the turns that are still in the state of the kernel, the one under way included.
    pub(super) fn finish(&mut self, state: &ConnectionState) {
        for turn in state.batch.in_use() {
            self.turn(turn);
        }
        if state.direction == direction::NONE {
            return;
        }
        let current = &state.current;
        let gap_ns = match self.seen {
            0 => 0,
            _ => current.start_ns.saturating_sub(self.last_ns),
        };
        // What was before a turn that was under way when it was first seen is not known.
        let whole = self.seen > 0 || state.flags & flag::EARLIER_TURN == 0;
        let closing = is_closing(state, current);
        if closing && self.seen > 0 {
            self.seen = self.seen.saturating_add(1);
        } else {
            self.turn(current);
        }
        self.unanswered = (current.first_byte_ns == 0).then_some(Unanswered {
            start_ns: current.start_ns,
            gap_ns: (whole && self.seen == state.turns).then_some(gap_ns),
            bytes: current.client_bytes,
            closing,
        });
    }

    /// The last write, if nobody answered it. Known once the turns are [finished](Self::finish).
    pub(super) fn unanswered(&self) -> Option<&Unanswered> {
        self.unanswered.as_ref()
    }

    /// Turns seen; fewer than the kernel counted if some were lost on the way.
    pub(super) fn seen(&self) -> u32 {
        self.seen
    }

    /// Idle gaps of 0.1 s or more, in microseconds, in order.
    pub(super) fn gaps_us(&self) -> Vec<u64> {
        self.gaps.iter().map(|gap| gap.micros).collect()
    }

    /// Gaps beyond those kept.
    pub(super) fn gaps_omitted(&self) -> u32 {
        self.gaps_omitted
    }

    /// Longest gap that ended in a turn with an answer; `None` if none did.
    pub(super) fn max_survived_us(&self) -> Option<u64> {
        let answered = self.gaps.iter().filter(|gap| gap.answered);
        answered.map(|gap| gap.micros).max().max(self.other_survived_us)
    }
}

fn is_closing(state: &ConnectionState, last: &Turn) -> bool {
    last.first_byte_ns == 0
        && state.local_fin_ns != 0
        && state.local_fin_ns == ending::first_end_ns(state)
        && state.local_fin_ns.saturating_sub(last.start_ns) < CLOSING_NS
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn turn(start_ns: u64, answered: bool) -> Turn {
        let first_byte_ns = if answered { start_ns + 1_000 } else { 0 };
        Turn {
            start_ns,
            first_byte_ns,
            last_write_ns: start_ns,
            last_ns: start_ns,
            client_bytes: 6,
            server_bytes: 8,
        }
    }

    #[test]
    fn gaps_are_between_turns_only() {
        let mut turns = Turns::default();
        turns.turn(&turn(5 * SECOND, true)); // after the greeting: no gap
        turns.turn(&turn(7 * SECOND, true));
        turns.turn(&turn(7 * SECOND + 50_000_000, true)); // too short to keep
        turns.turn(&turn(20 * SECOND, false)); // never answered: not survived
        assert_eq!(turns.gaps_us(), [2_000_000, 12_950_000]);
        assert_eq!(turns.max_survived_us(), Some(2_000_000));
    }

    #[test]
    fn gaps_in_which_somebody_waited_are_none() {
        let mut turns = Turns::default();
        for at in [1, 3, 10, 14] {
            turns.turn(&turn(at * SECOND, true));
        }
        turns.waited_before(&[10 * SECOND]);
        assert_eq!(
            (turns.gaps_us(), turns.max_survived_us()),
            (vec![2_000_000, 4_000_000], Some(4_000_000))
        );
        turns.waited_before(&[3 * SECOND, 14 * SECOND]);
        assert_eq!((turns.gaps_us(), turns.max_survived_us()), (vec![], None));
    }

    #[test]
    fn write_of_our_own_close_ends_no_gap() {
        let current = turn(9 * SECOND, false);
        let state = |local_fin_ns| ConnectionState {
            turns: 2,
            local_fin_ns,
            direction: direction::CLIENT,
            current,
            last_data_ns: 9 * SECOND,
            ..ConnectionState::zeroed()
        };
        let mut turns = Turns::default();
        turns.turn(&turn(2 * SECOND, true));
        let mut given_up = turns.clone();

        let closed_at_once = state(9 * SECOND + 5_000);
        turns.finish(&closed_at_once);
        assert_eq!((turns.seen(), turns.gaps_us(), turns.max_survived_us()), (2, vec![], None));
        let closing =
            Unanswered { start_ns: 9 * SECOND, gap_ns: Some(7 * SECOND), bytes: 6, closing: true };
        assert_eq!(turns.unanswered(), Some(&closing));

        let silent = state(29 * SECOND);
        given_up.finish(&silent);
        assert_eq!((given_up.gaps_us(), given_up.max_survived_us()), (vec![7_000_000], None));
        assert_eq!(given_up.unanswered(), Some(&Unanswered { closing: false, ..closing }));
    }

    #[test]
    fn gap_after_a_lost_turn_is_not_known() {
        let state = ConnectionState {
            turns: 3,
            direction: direction::CLIENT,
            current: turn(9 * SECOND, false),
            ..ConnectionState::zeroed()
        };
        let mut turns = Turns::default();
        turns.turn(&turn(2 * SECOND, true));
        turns.finish(&state);
        assert_eq!(turns.unanswered().unwrap().gap_ns, None);
    }

    #[test]
    fn memory_is_bounded_and_the_rest_counted() {
        let mut turns = Turns::default();
        for i in 0..1_000 {
            turns.turn(&turn(i * SECOND, true));
        }
        assert_eq!((turns.gaps_us().len(), turns.gaps_omitted()), (GAPS, 999 - 256));
        assert_eq!(turns.seen(), 1_000);
    }
}
