//! The replay: messages in order of time, each given to an idle connection or to a new one.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use super::Policy;

/// One message, as the replay needs it. Times are in microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    /// Connections are shared among messages of the same pool only.
    pub pool: u32,
    /// When it wanted a connection: the SYN of the one it opened, or the begin of its transaction.
    pub arrival: i64,
    /// When its final reply was there.
    pub end: i64,
    /// Whether its connection was encrypted.
    pub tls: bool,
    /// Whether its connection stayed open after it, in the run that was recorded.
    pub kept: bool,
}

/// What a policy would have needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Connections opened.
    pub connections: u64,
    /// Those of them opened by a message whose connection was encrypted: TLS handshakes.
    pub tls_handshakes: u64,
    /// Most connections of one pool open at the same time, idle ones included.
    pub peak_open: u64,
}

/// Replays `messages`, sorted, under `policy`. No gap longer than `bridged_us` is bridged: a connection
/// that has been idle for longer is not used again, although it takes its place until it is closed.
/// `keep` says of each message whether its connection may be kept after it.
///
/// Takes `O(n log n)` time, and memory for the connections that are open at the same time.
pub fn replay(
    messages: &[Message],
    policy: &Policy,
    bridged_us: u64,
    keep: impl Fn(&Message) -> bool,
) -> Outcome {
    let mut outcome = Outcome::default();
    for pool in messages.chunk_by(|a, b| a.pool == b.pool) {
        let mut connections = Connections::new(policy, bridged_us);
        for message in pool {
            connections.pass(message.arrival);
            let taken = connections.take();
            if taken.is_none() {
                outcome.connections += 1;
                outcome.tls_handshakes += u64::from(message.tls);
            }
            let (opened, carried) = taken.unwrap_or((message.arrival, 0));
            connections.use_one(message, opened, carried + 1, keep(message));
            outcome.peak_open = outcome.peak_open.max(connections.open());
        }
    }
    outcome
}

/// A connection that carries a message until `free`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Busy {
    free: i64,
    opened: i64,
    carried: u32,
    keep: bool,
}

/// The connections of one pool that are open at a moment.
struct Connections<'a> {
    policy: &'a Policy,
    bridged_us: u64,
    busy: BinaryHeap<Reverse<Busy>>,
    /// Idle ones that can be used, by the end of their last message.
    idle: VecDeque<Busy>,
    /// When the last message of idle ones that cannot be used any more ended.
    stale: VecDeque<i64>,
}

impl<'a> Connections<'a> {
    fn new(policy: &'a Policy, bridged_us: u64) -> Self {
        let (busy, idle, stale) = (BinaryHeap::new(), VecDeque::new(), VecDeque::new());
        Self { policy, bridged_us, busy, idle, stale }
    }

    /// Lets the time pass until `now`.
    fn pass(&mut self, now: i64) {
        while self.busy.peek().is_some_and(|Reverse(one)| one.free <= now) {
            let Some(Reverse(done)) = self.busy.pop() else { break };
            let age_us = done.free.abs_diff(done.opened);
            if done.keep && self.policy.keeps(done.carried, age_us) {
                self.idle.push_back(done);
            }
        }
        let idle_us = |since: i64| now.abs_diff(since);
        let cache_time_us = self.policy.cache_time_us;
        while let Some(one) = self.idle.front().copied() {
            if idle_us(one.free) < cache_time_us && idle_us(one.free) <= self.bridged_us {
                break;
            }
            self.idle.pop_front();
            self.stale.push_back(one.free);
        }
        while self.stale.front().is_some_and(|&since| idle_us(since) >= cache_time_us) {
            self.stale.pop_front();
        }
    }

    /// The connection that was stored first: when it was opened and how many messages it carried.
    fn take(&mut self) -> Option<(i64, u32)> {
        self.idle.pop_front().map(|one| (one.opened, one.carried))
    }

    fn use_one(&mut self, message: &Message, opened: i64, carried: u32, keep: bool) {
        let free = message.end.max(message.arrival);
        self.busy.push(Reverse(Busy { free, opened, carried, keep }));
    }

    fn open(&self) -> u64 {
        (self.busy.len() + self.idle.len() + self.stale.len()) as u64
    }
}
