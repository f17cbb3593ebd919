//! Turns of a connection, and the idle gaps between them.

use std::time::Duration;

use tracer_common::record::{ConnectionState, Turn, direction};

/// Gaps kept per connection; more are counted.
const GAPS: usize = 256;

/// Shortest gap that is kept.
const SHORTEST_GAP: Duration = Duration::from_millis(100);

/// What is known of the turns of one connection. Feed every turn in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns {
    seen: u32,
    last_ns: u64,
    gaps_us: Vec<u64>,
    gaps_omitted: u32,
    max_survived_us: u64,
}

impl Turns {
    /// Takes the next turn.
    pub(super) fn turn(&mut self, turn: &Turn) {
        if self.seen > 0 {
            let gap = Duration::from_nanos(turn.start_ns.saturating_sub(self.last_ns));
            self.gap(gap, turn.first_byte_ns != 0);
        }
        self.seen = self.seen.saturating_add(1);
        self.last_ns = self.last_ns.max(turn.last_ns);
    }

    fn gap(&mut self, gap: Duration, answered: bool) {
        let micros = u64::try_from(gap.as_micros()).unwrap_or(u64::MAX);
        if answered {
            self.max_survived_us = self.max_survived_us.max(micros);
        }
        if gap < SHORTEST_GAP {
            return;
        }
        if self.gaps_us.len() < GAPS {
            self.gaps_us.push(micros);
        } else {
            self.gaps_omitted = self.gaps_omitted.saturating_add(1);
        }
    }

    /// Takes the turns that are still in the state of the kernel, the one under way included.
    pub(super) fn finish(&mut self, state: &ConnectionState) {
        let kept = state.batch.turns.iter().take(state.batch.count as usize);
        for turn in kept {
            self.turn(turn);
        }
        if state.direction != direction::NONE {
            self.turn(&state.current);
        }
    }

    /// Turns seen; fewer than the kernel counted if some were lost on the way.
    pub(super) fn seen(&self) -> u32 {
        self.seen
    }

    /// Idle gaps of 0.1 s or more, in microseconds, in order.
    pub(super) fn gaps_us(&self) -> &[u64] {
        &self.gaps_us
    }

    /// Gaps beyond those kept.
    pub(super) fn gaps_omitted(&self) -> u32 {
        self.gaps_omitted
    }

    /// Longest gap that ended in a turn with an answer; `None` without two turns.
    pub(super) fn max_survived_us(&self) -> Option<u64> {
        (self.seen > 1).then_some(self.max_survived_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn turn(start_ns: u64, answered: bool) -> Turn {
        let first_byte_ns = if answered { start_ns + 1_000 } else { 0 };
        Turn { start_ns, first_byte_ns, last_ns: start_ns, client_bytes: 6, server_bytes: 8 }
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
    fn memory_is_bounded_and_the_rest_counted() {
        let mut turns = Turns::default();
        for i in 0..1_000 {
            turns.turn(&turn(i * SECOND, true));
        }
        assert_eq!((turns.gaps_us().len(), turns.gaps_omitted()), (GAPS, 999 - 256));
        assert_eq!(turns.seen(), 1_000);
    }
}
