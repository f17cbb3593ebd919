//! Turns as they were, for whoever watches a trace. They stand in no record and are kept only on demand.

use std::collections::{HashMap, HashSet, VecDeque};

use tracer_common::record::{ConnectionState, Turn, TurnBatch};

/// Turns kept of one connection: the last.
pub const TURNS_KEPT: usize = 64;

/// Turns kept of all open connections together: 8 MB.
const BUDGET: usize = 200_000;

/// Ended connections whose turns wait to be taken.
const WAITING: usize = 512;

/// One turn, in microseconds since the start of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnSpan {
    /// First write of this host.
    pub start_us: u64,
    /// First byte of the answer; `None` if none came.
    pub answer_us: Option<u64>,
    /// Last data in either direction.
    pub end_us: u64,
    /// Bytes that this host wrote.
    pub client_bytes: u32,
    /// Bytes that the server sent.
    pub server_bytes: u32,
}

impl TurnSpan {
    fn new(turn: &Turn, start_ns: u64) -> Self {
        let since = |ns: u64| ns.saturating_sub(start_ns) / 1_000;
        Self {
            start_us: since(turn.start_ns),
            answer_us: (turn.first_byte_ns != 0).then(|| since(turn.first_byte_ns)),
            end_us: since(turn.last_ns.max(turn.start_ns)),
            client_bytes: turn.client_bytes,
            server_bytes: turn.server_bytes,
        }
    }
}

/// The last turns of one connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TurnSpans {
    /// In order.
    pub spans: Vec<TurnSpan>,
    /// Earlier ones that are not kept.
    pub omitted: u64,
}

#[derive(Debug, Clone, Default)]
struct Kept {
    turns: VecDeque<Turn>,
    omitted: u64,
}

/// Turns of the connections under way and of those that ended since they were last taken.
#[derive(Debug, Default)]
pub(super) struct KeptTurns {
    open: HashMap<u64, Kept>,
    /// Turns in `open`.
    total: usize,
    ended: VecDeque<(u64, TurnSpans)>,
}

impl KeptTurns {
    /// Takes the next turns of a connection.
    pub(super) fn batch(&mut self, batch: &TurnBatch) {
        let kept = self.open.entry(batch.id).or_default();
        for turn in batch.in_use() {
            let gone = kept.turns.len() >= TURNS_KEPT || self.total >= BUDGET;
            if gone {
                kept.omitted += 1;
            }
            if gone && kept.turns.pop_front().is_none() {
                continue;
            }
            self.total += usize::from(!gone);
            kept.turns.push_back(*turn);
        }
    }

    /// The turns of a connection as it stands.
    pub(super) fn so_far(&self, state: &ConnectionState) -> TurnSpans {
        let kept = self.open.get(&state.id);
        let earlier = kept.into_iter().flat_map(|kept| &kept.turns);
        let turns = earlier.chain(state.batch.in_use()).copied().chain(state.turn_under_way());
        // One that was over or under way when the connection was first seen is not whole.
        let whole = turns.filter(|turn| turn.start_ns >= state.start_ns);
        let mut spans: Vec<_> = whole.map(|turn| TurnSpan::new(&turn, state.start_ns)).collect();
        let beyond = spans.len().saturating_sub(TURNS_KEPT);
        spans.drain(..beyond);
        let omitted = kept.map_or(0, |kept| kept.omitted) + beyond as u64;
        TurnSpans { spans, omitted }
    }

    /// The connection ended.
    pub(super) fn end(&mut self, state: &ConnectionState) {
        let spans = self.so_far(state);
        self.forget(state.id);
        if self.ended.len() >= WAITING {
            self.ended.pop_front();
        }
        self.ended.push_back((state.id, spans));
    }

    /// Those that ended since the last call, by their id as it stands in records.
    pub(super) fn take_ended(&mut self) -> Vec<(String, TurnSpans)> {
        self.ended.drain(..).map(|(id, spans)| (format!("{id:016x}"), spans)).collect()
    }

    /// Forgets every connection that is not in `live`.
    pub(super) fn keep_only(&mut self, live: &HashSet<u64>) {
        self.open.retain(|id, _| live.contains(id));
        self.total = self.open.values().map(|kept| kept.turns.len()).sum();
    }

    fn forget(&mut self, id: u64) {
        if let Some(kept) = self.open.remove(&id) {
            self.total -= kept.turns.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use tracer_common::record::direction;

    use super::*;

    fn batch(id: u64, from: u64, count: u32) -> TurnBatch {
        let mut batch = TurnBatch { id, count, ..TurnBatch::zeroed() };
        for (turn, at) in batch.turns.iter_mut().zip(from..) {
            let start_ns = 1_000_000 * (at + 1);
            *turn = Turn { start_ns, first_byte_ns: start_ns + 5_000, last_ns: start_ns, ..*turn };
        }
        batch
    }

    fn state(id: u64) -> ConnectionState {
        let current = Turn { start_ns: 900_000_000, client_bytes: 6, ..Turn::zeroed() };
        let direction = direction::CLIENT;
        ConnectionState { id, start_ns: 500_000, current, direction, ..ConnectionState::zeroed() }
    }

    #[test]
    fn last_turns_are_kept_and_the_rest_counted() {
        let mut kept = KeptTurns::default();
        for round in 0..10 {
            kept.batch(&batch(7, round * 8, 8));
        }
        kept.end(&state(7));
        let [(id, spans)] = kept.take_ended().try_into().unwrap();
        assert_eq!(id, "0000000000000007");
        assert_eq!((spans.spans.len(), spans.omitted), (TURNS_KEPT, 17), "81 turns in all");
        let [first, .., last] = &spans.spans[..] else { panic!() };
        assert_eq!((first.start_us, first.answer_us), (17_500, Some(17_505)));
        assert_eq!((last.start_us, last.answer_us, last.client_bytes), (899_500, None, 6));
        assert_eq!((kept.total, kept.take_ended().len()), (0, 0));
    }

    #[test]
    fn memory_is_bounded_over_all_connections() {
        let mut kept = KeptTurns::default();
        for id in 0..30_000 {
            kept.batch(&batch(id, 0, 8));
        }
        assert_eq!(kept.total, BUDGET);
        assert_eq!(kept.so_far(&state(29_999)).omitted, 8);
        for id in 0..1_000 {
            kept.end(&state(id));
        }
        assert_eq!(kept.take_ended().len(), WAITING);
        kept.keep_only(&HashSet::from([1_000]));
        assert_eq!((kept.total, kept.open.len()), (8, 1));
    }
}
