//! The demand: when each message of a recording wanted a connection.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use super::{Message, Path};
use crate::{
    connection::{Connection, EndCause, SeenFrom, Tls},
    destination::{Distribution, Grouping, OTHER, normal_host},
};

/// A connection that goes on for longer than this after its last message, in microseconds, round trips
/// for QUIT and FIN apart, was kept.
const KEPT_US: u64 = 100_000;
/// Round trips that an immediate end takes.
const END_ROUND_TRIPS: u64 = 4;

/// The messages of all connections so far, by server address and greeting host.
///
/// Memory is bounded: beyond [`Self::MESSAGES`] messages, or a number of destinations, the messages of
/// further connections are only counted.
#[derive(Debug, Clone)]
pub struct Demand {
    max_destinations: usize,
    destinations: usize,
    addresses: BTreeMap<IpAddr, Hosts>,
    others: Cell,
    pools: HashMap<(String, Option<u32>, u16), u32>,
    messages: usize,
    max_messages: usize,
}

/// Connections to one address by the host of their greeting.
type Hosts = BTreeMap<Option<Box<str>>, Cell>;

/// What is known of the connections to one server address that showed one greeting host.
#[derive(Debug, Clone, Default)]
pub(super) struct Cell {
    /// All connections.
    pub(super) connections: u64,
    /// Messages to replay.
    pub(super) messages: Vec<Message>,
    /// Messages that are known of, but not when.
    pub(super) left_out: u64,
    /// Established connections whose messages are not known.
    pub(super) uncounted: u64,
    /// Connections whose messages are replayed.
    pub(super) carrying: u64,
    /// Those of them that were encrypted.
    pub(super) encrypted: u64,
    /// Established connections that carried no message.
    pub(super) unused: u64,
    /// SYN to the begin of the first message.
    pub(super) set_up_us: Distribution,
    /// SYN to established, of the same connections.
    pub(super) connect_us: Distribution,
    /// Established to the end of the greeting, of the same connections.
    pub(super) greeting_us: Distribution,
    /// TLS handshake, of the same connections.
    pub(super) tls_handshake_us: Distribution,
    /// How long this host kept connections open after their last message before it closed them.
    pub(super) holds_us: Distribution,
    /// Longest time between two messages on the same connection.
    pub(super) longest_reuse_us: Option<u64>,
    /// What the path does to idle connections.
    pub(super) path: Path,
}

impl Demand {
    /// Messages that are kept: 24 bytes each.
    pub const MESSAGES: usize = 4_000_000;

    /// Hosts, namespaces and ports that are told apart; further ones count as one.
    const POOLS: usize = 10_000;

    /// A demand that keeps at most `max_destinations` pairs of address and greeting host apart.
    pub fn new(max_destinations: usize) -> Self {
        Self::with_room_for(Self::MESSAGES, max_destinations)
    }

    /// The same for at most `max_messages` messages.
    pub fn with_room_for(max_messages: usize, max_destinations: usize) -> Self {
        Self {
            max_messages,
            max_destinations,
            destinations: 0,
            addresses: BTreeMap::new(),
            others: Cell::default(),
            pools: HashMap::new(),
            messages: 0,
        }
    }

    /// Adds one connection.
    pub fn add(&mut self, connection: &Connection) {
        let spans = connection.transaction_spans_us.as_deref().unwrap_or_default();
        let pool = self.pool(connection);
        let room = self.messages + spans.len() <= self.max_messages;
        let Some(cell) = self.cell(connection) else {
            self.others.count(connection, &[]);
            return;
        };
        let spans = if room { spans } else { &[] };
        cell.count(connection, spans);
        if !spans.is_empty() && connection.established() {
            cell.add_messages(connection, spans, pool);
            self.messages += spans.len();
        }
    }

    /// Where a connection is kept; `None` if there is no room for another destination.
    fn cell(&mut self, connection: &Connection) -> Option<&mut Cell> {
        let host = connection.banner_host.as_deref().and_then(normal_host);
        let host = host.map(String::into_boxed_str);
        let address = connection.dst.to_canonical();
        let known = self.addresses.get(&address).is_some_and(|hosts| hosts.contains_key(&host));
        if !known {
            if self.destinations >= self.max_destinations {
                return None;
            }
            self.destinations += 1;
        }
        Some(self.addresses.entry(address).or_default().entry(host).or_default())
    }

    /// The cells of each destination.
    pub(super) fn groups(&self, by: Grouping) -> BTreeMap<String, Vec<&Cell>> {
        let mut groups: BTreeMap<String, Vec<&Cell>> = BTreeMap::new();
        for (&address, hosts) in &self.addresses {
            let usual = usual_host(hosts);
            for (host, cell) in hosts {
                let key = by.key(address, host.as_deref().or(usual));
                groups.entry(key).or_default().push(cell);
            }
        }
        if self.others.connections > 0 {
            groups.entry(OTHER.to_owned()).or_default().push(&self.others);
        }
        groups
    }

    /// Connections of one sending host and network namespace to one port: those that could have carried
    /// each other's messages, as long as they go to the same destination.
    fn pool(&mut self, connection: &Connection) -> u32 {
        let next = u32::try_from(self.pools.len()).unwrap_or(u32::MAX);
        let key = (connection.host.clone(), connection.netns, connection.dport);
        if next as usize >= Self::POOLS {
            return self.pools.get(&key).copied().unwrap_or(next);
        }
        *self.pools.entry(key).or_insert(next)
    }
}

/// The host that most connections to an address showed; of several such hosts, the first in the
/// alphabet.
fn usual_host(hosts: &Hosts) -> Option<&str> {
    let named = hosts.iter().rev().filter_map(|(host, cell)| Some((host.as_deref()?, cell)));
    named.max_by_key(|(_, cell)| cell.connections).map(|(host, _)| host)
}

impl Cell {
    /// Counts a connection of which `spans` will be replayed.
    fn count(&mut self, connection: &Connection, spans: &[[u64; 2]]) {
        self.connections += 1;
        self.path.add(connection);
        if !connection.established() {
            return;
        }
        match connection.transactions {
            Some(n) => {
                self.left_out += u64::from(n).saturating_sub(spans.len() as u64);
                self.unused += u64::from(n == 0);
            }
            None => self.uncounted += 1,
        }
    }

    fn add_messages(&mut self, connection: &Connection, spans: &[[u64; 2]], pool: u32) {
        let start = connection.start;
        let tls = matches!(connection.tls, Some(Tls::Starttls | Tls::Implicit));
        let last = spans.len() - 1;
        let hold_us = spans.last().and_then(|&[_, end]| hold_us(connection, end));
        let complete = connection.transaction_spans_omitted == 0
            && connection.transactions.is_some_and(|n| n as usize == spans.len());
        let kept_at_last = !complete || hold_us.is_none_or(|hold| hold > quick_end_us(connection));
        for (i, &[begin, end]) in spans.iter().enumerate() {
            let opens = i == 0 && connection.seen_from == SeenFrom::Connect;
            self.messages.push(Message {
                pool,
                arrival: if opens { start } else { start.plus_micros(begin) }.micros(),
                end: start.plus_micros(end).micros(),
                tls,
                kept: i < last || kept_at_last,
            });
        }
        let gaps = spans.windows(2).map(|pair| pair[1][0].saturating_sub(pair[0][1]));
        self.longest_reuse_us = self.longest_reuse_us.into_iter().chain(gaps).max();
        if complete && kept_at_last && connection.end_cause == EndCause::LocalFin {
            self.holds_us.extend(hold_us);
        }
        self.carrying += 1;
        self.encrypted += u64::from(tls);
        if connection.seen_from == SeenFrom::Connect {
            self.set_up_us.record(spans[0][0]);
            self.connect_us.extend(connection.connect_us);
            self.greeting_us.extend(connection.greeting_us.or(connection.banner_us));
            self.tls_handshake_us.extend(connection.tls_handshake_us);
        }
    }

    /// Adds what `other` knows, except for its messages.
    pub(super) fn merge_counts(&mut self, other: &Self) {
        self.connections += other.connections;
        self.left_out += other.left_out;
        self.uncounted += other.uncounted;
        self.carrying += other.carrying;
        self.encrypted += other.encrypted;
        self.unused += other.unused;
        self.set_up_us.merge(&other.set_up_us);
        self.connect_us.merge(&other.connect_us);
        self.greeting_us.merge(&other.greeting_us);
        self.tls_handshake_us.merge(&other.tls_handshake_us);
        self.holds_us.merge(&other.holds_us);
        self.longest_reuse_us = self.longest_reuse_us.max(other.longest_reuse_us);
        self.path.merge(&other.path);
    }
}

/// How long a connection stayed open after its last message ended `last_end` after its start; `None` if
/// it was still open. A client that idles and then says QUIT kept it for that long as well.
fn hold_us(connection: &Connection, last_end: u64) -> Option<u64> {
    if connection.end_cause == EndCause::Open {
        return None;
    }
    let idle = connection.end_idle_us.filter(|&idle| idle > quick_end_us(connection));
    idle.or_else(|| connection.lifetime_us.map(|lifetime| lifetime.saturating_sub(last_end)))
}

/// What an end right after the last message takes at most.
fn quick_end_us(connection: &Connection) -> u64 {
    KEPT_US + END_ROUND_TRIPS * u64::from(connection.srtt_us.unwrap_or(0))
}
