//! Connections under way, as far as user space has to remember them: what was handed over before the
//! end, by connection id.

use std::collections::{HashMap, HashSet};

use tracer_common::record::{ConnectionState, ReplySegment};

use super::{
    Connection, TurnSpans,
    assemble::assemble,
    decrypted::Decrypted,
    kept_turns::KeptTurns,
    owners::{Owners, comm},
    replies::Replies,
    turns::Turns,
};
use crate::{decoder::Event, dialogue::lengths::Lengths, mta::Mta, utc::Utc};

/// Turns times of the kernel into UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// `CLOCK_REALTIME` minus `CLOCK_BOOTTIME` in nanoseconds. Boot time goes on during suspend, so
    /// one measurement holds.
    pub utc_minus_boot_ns: i128,
}

impl Clock {
    /// The UTC of `boot_ns` nanoseconds of `CLOCK_BOOTTIME`.
    pub fn utc(self, boot_ns: u64) -> Utc {
        Utc::from_nanos(self.utc_minus_boot_ns + i128::from(boot_ns))
    }
}

/// What records need besides the facts of their connection.
#[derive(Debug, Clone)]
pub struct Context {
    /// Name of this host.
    pub host: String,
    /// Turns times into UTC.
    pub clock: Clock,
}

/// What is remembered of one connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    pub(super) replies: Replies,
    pub(super) turns: Turns,
    pub(super) owners: Owners,
    pub(super) lengths: Lengths,
    pub(super) decrypted: Decrypted,
}

/// Connections under way. Bounded: what does not fit is counted, and its records lack what would have
/// been remembered.
#[derive(Debug)]
pub struct Table {
    context: Context,
    entries: HashMap<u64, Entry>,
    limit: usize,
    full: u64,
    /// Turns as they were, if somebody watches.
    turns: Option<Box<KeptTurns>>,
}

impl Table {
    /// An empty table of at most `limit` connections.
    pub fn new(context: Context, limit: usize) -> Self {
        Self { context, entries: HashMap::new(), limit, full: 0, turns: None }
    }

    /// Takes a record of the kernel. Returns the connection if it ended.
    pub fn event(&mut self, event: &Event) -> Option<Connection> {
        match event {
            Event::Closed(state) => Some(self.close(state, state.closed_ns)),
            Event::Turns(batch) => {
                if let Some(turns) = &mut self.turns {
                    turns.batch(batch);
                }
                if let Some(entry) = self.entry(batch.id) {
                    entry.lengths.opened_by(Mta::of(&comm(&batch.comm)));
                    for turn in batch.in_use() {
                        entry.turns.turn(turn);
                        entry.lengths.turn(turn);
                        entry.replies.turn(turn);
                        entry.decrypted.turn(turn);
                    }
                }
                None
            }
            Event::Owner(change) => {
                if let Some(entry) = self.entry(change.id) {
                    entry.owners.change(change);
                }
                None
            }
            Event::Opened(_) => None, // says where to look for names and TLS libraries, nothing for the record
            Event::Decrypted(reply) => {
                if let Some(entry) = self.entry(reply.id) {
                    entry.decrypted.piece(reply);
                }
                None
            }
        }
    }

    /// Takes a segment of the server in cleartext. Returns whether no more are wanted of this
    /// connection.
    pub fn reply(&mut self, meta: &ReplySegment, payload: &[u8]) -> bool {
        let Some(entry) = self.entry(meta.id) else { return true };
        let done = entry.replies.segment(meta, payload);
        if let Some(tls_ns) = entry.replies.tls_ns() {
            entry.lengths.tls_begins(tls_ns, entry.replies.server());
        }
        done
    }

    /// The connection of `state`, at its end or, if it is still open, at `now_ns`. Forgets it.
    pub fn close(&mut self, state: &ConnectionState, now_ns: u64) -> Connection {
        let entry = self.entries.remove(&state.id).unwrap_or_default();
        if let Some(turns) = &mut self.turns {
            turns.end(state);
        }
        assemble(state, entry, now_ns, &self.context)
    }

    /// The connection of `state`, which is under way, as it stands at `now_ns`, with its turns as far as
    /// they are kept.
    pub fn so_far(&self, state: &ConnectionState, now_ns: u64) -> (Connection, TurnSpans) {
        let entry = self.entries.get(&state.id).cloned().unwrap_or_default();
        let turns = self.turns.as_ref().map(|turns| turns.so_far(state)).unwrap_or_default();
        (assemble(state, entry, now_ns, &self.context), turns)
    }

    /// The host in the greeting of the connection `id`, if it is known by now.
    pub fn greeting_host(&self, id: u64) -> Option<&str> {
        self.entries.get(&id)?.replies.greeting()?.host.as_deref()
    }

    /// Keeps the last turns of each connection from now on, in bounded memory.
    pub fn keep_turns(&mut self) {
        self.turns.get_or_insert_default();
    }

    /// The turns of the connections that ended since the last call, by the id of their record; nothing
    /// unless they are [kept](Self::keep_turns).
    pub fn take_ended_turns(&mut self) -> Vec<(String, TurnSpans)> {
        self.turns.as_mut().map(|turns| turns.take_ended()).unwrap_or_default()
    }

    /// Takes `clock` for all records from now on: the wall clock was set.
    pub const fn set_clock(&mut self, clock: Clock) {
        self.context.clock = clock;
    }

    /// The UTC of `boot_ns` nanoseconds of `CLOCK_BOOTTIME`.
    pub fn utc(&self, boot_ns: u64) -> Utc {
        self.context.clock.utc(boot_ns)
    }

    /// Whether a further connection would not fit.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.limit
    }

    /// Forgets every connection that is not in `live`: its end was lost.
    pub fn keep_only(&mut self, live: &HashSet<u64>) {
        self.entries.retain(|id, _| live.contains(id));
        if let Some(turns) = &mut self.turns {
            turns.keep_only(live);
        }
    }

    /// Times something could not be remembered because the table was full.
    pub fn full(&self) -> u64 {
        self.full
    }

    fn entry(&mut self, id: u64) -> Option<&mut Entry> {
        if self.is_full() && !self.entries.contains_key(&id) {
            self.full += 1;
            return None;
        }
        Some(self.entries.entry(id).or_default())
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use tracer_common::record::{Turn, TurnBatch, direction, flag};

    use super::*;
    use crate::connection::{EndCause, EndDuring, Family, SeenFrom, Tls};

    const SECOND: u64 = 1_000_000_000;

    fn table(limit: usize) -> Table {
        let clock = Clock { utc_minus_boot_ns: 1_700_000_000 * 1_000_000_000 };
        Table::new(Context { host: "mx1".into(), clock }, limit)
    }

    fn state() -> ConnectionState {
        let mut dst = [0; 16];
        dst[10..].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 25]);
        ConnectionState {
            id: 0xabc,
            start_ns: 10 * SECOND,
            established_ns: 10 * SECOND + 3_000,
            first_byte_ns: 12 * SECOND,
            last_data_ns: 16 * SECOND,
            local_fin_ns: 20 * SECOND,
            closed_ns: 20 * SECOND + 1_000,
            dst,
            dport: 25,
            turns: 3,
            direction: direction::SERVER,
            current: Turn { start_ns: 16 * SECOND, last_ns: 16 * SECOND, ..Turn::zeroed() },
            ..ConnectionState::zeroed()
        }
    }

    #[test]
    fn record_says_what_the_kernel_saw() {
        let mut table = table(10);
        let mut batch = TurnBatch { id: 0xabc, count: 2, ..TurnBatch::zeroed() };
        for (turn, at) in batch.turns.iter_mut().zip([12, 13]) {
            let start_ns = at * SECOND;
            *turn = Turn { start_ns, first_byte_ns: start_ns, last_ns: start_ns, ..*turn };
        }
        assert_eq!(table.event(&Event::Turns(Box::new(batch))), None);
        let greeting = b"220 mx.example ESMTP\r\n";
        let segment = ReplySegment {
            id: 0xabc,
            time_ns: 12 * SECOND,
            payload: u32::try_from(greeting.len()).unwrap(),
            ..ReplySegment::zeroed()
        };
        assert!(!table.reply(&segment, greeting));
        let connection = table.event(&Event::Closed(Box::new(state()))).unwrap();
        assert_eq!(connection.id, "0000000000000abc");
        assert_eq!(connection.start.to_string(), "2023-11-14T22:13:30.000000Z");
        assert_eq!(
            (connection.family, connection.dst.to_string()),
            (Family::Ipv4, "192.0.2.25".into())
        );
        assert_eq!((connection.connect_us, connection.banner_us), (Some(3), Some(1_999_997)));
        assert_eq!((connection.banner_code, connection.tls), (Some(220), Some(Tls::None)));
        assert_eq!(connection.banner_host.as_deref(), Some("mx.example"));
        assert_eq!(connection.idle_gaps_us, Some(vec![1_000_000, 3_000_000]));
        assert_eq!(
            (connection.idle_gaps_omitted, connection.idle_max_survived_us),
            (0, Some(1_000_000))
        );
        assert_eq!(
            (connection.end_cause, connection.end_during),
            (EndCause::LocalFin, Some(EndDuring::Reuse))
        );
        assert_eq!(
            (connection.end_idle_us, connection.end_unanswered_us),
            (Some(3_000_000), Some(4_000_000))
        );
        assert_eq!(connection.lifetime_us, Some(10_000_001));
    }

    #[test]
    fn bytes_that_were_never_read_make_the_replies_unknown() {
        let replies = |bytes_received| {
            let mut table = table(1);
            let segment = ReplySegment { id: 0xabc, payload: 9, ..ReplySegment::zeroed() };
            table.reply(&segment, b"220 a.b\r\n");
            let end = ConnectionState { bytes_received, ..state() };
            table.close(&end, end.closed_ns).replies
        };
        assert_eq!(replies(9), Some([(220, 1)].into()));
        assert_eq!(replies(17), None);
    }

    /// First seen at 10 s, two seconds after the server's last word; used once again and left open.
    fn midlife() -> ConnectionState {
        let mut batch = TurnBatch { id: 0xabc, count: 1, ..TurnBatch::zeroed() };
        let last_ns = 8 * SECOND;
        batch.turns[0] =
            Turn { start_ns: last_ns, first_byte_ns: last_ns, last_ns, ..Turn::zeroed() };
        ConnectionState {
            established_ns: 10 * SECOND,
            first_byte_ns: 10 * SECOND,
            local_fin_ns: 0,
            closed_ns: 0,
            turns: 2,
            flags: flag::MIDLIFE | flag::MIDSTREAM | flag::EARLIER_TURN,
            current: Turn {
                start_ns: 16 * SECOND,
                first_byte_ns: 16 * SECOND,
                last_ns: 16 * SECOND,
                ..Turn::zeroed()
            },
            batch,
            pid: 7,
            ..state()
        }
    }

    #[test]
    fn connection_of_unknown_age_has_no_times_of_its_beginning_but_its_gaps() {
        let it = table(1).close(&midlife(), 30 * SECOND);
        assert_eq!((it.seen_from, it.established()), (SeenFrom::Midlife, true));
        let begin = [it.connect_us, it.banner_us, it.greeting_us, it.lifetime_us];
        assert_eq!((begin, it.transactions), ([None; 4], None));
        assert_eq!(it.turns, Some(1), "the turn before is not counted");
        assert_eq!(it.idle_gaps_us, Some(vec![8_000_000]), "which began before it was first seen");
        assert_eq!((it.idle_gaps_omitted, it.end_idle_us), (0, Some(14_000_000)));
        assert_eq!(it.known_end().unwrap().to_string(), "2023-11-14T22:13:50.000000Z");
    }

    #[test]
    fn gap_before_a_write_that_was_under_way_when_first_seen_is_not_known() {
        let mut state = ConnectionState { turns: 1, closed_ns: 40 * SECOND, ..midlife() };
        state.batch.count = 0;
        state.direction = direction::CLIENT;
        state.current = Turn { start_ns: 8 * SECOND, last_ns: 8 * SECOND, ..Turn::zeroed() };
        (state.errno, state.last_data_ns) = (110, 8 * SECOND);
        let it = table(1).close(&state, 40 * SECOND);
        assert_eq!((it.end_cause, it.end_during), (EndCause::Timeout, None));
        assert_eq!(it.end_unanswered_us, Some(32_000_000));
        assert_eq!((it.idle_gaps_us, it.end_suspect), (Some(Vec::new()), None));
    }

    #[test]
    fn when_an_end_came_before_it_was_first_seen_is_not_known() {
        let state =
            ConnectionState { peer_fin_ns: 10 * SECOND, closed_ns: 40 * SECOND, ..midlife() };
        let it = table(1).close(&state, 40 * SECOND);
        assert_eq!((it.end_cause, it.end_during), (EndCause::PeerFin, None));
        assert_eq!((it.end_idle_us, it.end_suspect), (None, None));
    }

    #[test]
    fn connect_under_way_at_the_start_may_fail() {
        let state = ConnectionState {
            established_ns: 0,
            first_byte_ns: 0,
            closed_ns: 20 * SECOND,
            errno: 111,
            turns: 0,
            direction: direction::NONE,
            flags: flag::MIDLIFE,
            batch: TurnBatch::zeroed(),
            ..midlife()
        };
        let refused = table(1).close(&state, 20 * SECOND);
        assert_eq!((refused.established(), refused.failed()), (false, true));
        assert_eq!(refused.connect_error.as_deref(), Some("ECONNREFUSED"));
        let given_up = table(1).close(&ConnectionState { errno: 0, ..state }, 20 * SECOND);
        assert_eq!((given_up.established(), given_up.lifetime_us), (false, None));
    }

    #[test]
    fn lost_turns_are_said() {
        let connection = table(10).event(&Event::Closed(Box::new(state()))).unwrap();
        assert_eq!((connection.turns, connection.idle_gaps_omitted), (Some(3), 2));
    }

    #[test]
    fn full_table_counts_and_still_gives_a_record() {
        let mut table = table(1);
        let segment = |id| ReplySegment { id, ..ReplySegment::zeroed() };
        table.reply(&segment(1), b"");
        assert!(table.reply(&segment(0xabc), b""), "nothing more is wanted");
        assert_eq!((table.is_full(), table.full()), (true, 1));
        assert!(table.event(&Event::Closed(Box::new(state()))).is_some());
        table.keep_only(&HashSet::new());
        assert!(!table.is_full());
    }

    #[test]
    fn looking_at_a_connection_changes_nothing() {
        let mut table = table(10);
        table.keep_turns();
        let mut batch = TurnBatch { id: 0xabc, count: 1, ..TurnBatch::zeroed() };
        batch.turns[0] = Turn { start_ns: 12 * SECOND, last_ns: 12 * SECOND, ..Turn::zeroed() };
        table.event(&Event::Turns(Box::new(batch)));
        let open = ConnectionState { local_fin_ns: 0, closed_ns: 0, ..state() };
        let (connection, turns) = table.so_far(&open, 30 * SECOND);
        assert_eq!((connection.end_cause, connection.turns), (EndCause::Open, Some(3)));
        let starts: Vec<_> = turns.spans.iter().map(|turn| turn.start_us).collect();
        assert_eq!((starts, turns.omitted), (vec![2_000_000, 6_000_000], 0));
        assert_eq!(table.so_far(&open, 30 * SECOND), (connection.clone(), turns.clone()));
        assert_eq!(table.close(&open, 30 * SECOND), connection);
        assert_eq!(table.take_ended_turns(), [(connection.id, turns)]);
    }

    #[test]
    fn open_connection_ends_with_the_trace() {
        let open = ConnectionState { local_fin_ns: 0, closed_ns: 0, ..state() };
        let connection = table(1).close(&open, 30 * SECOND);
        assert_eq!(
            (connection.end_cause, connection.lifetime_us),
            (EndCause::Open, Some(20_000_000))
        );
        assert_eq!(connection.end_idle_us, Some(14_000_000));
    }
}
