//! Aggregates whose sum never takes back what it has counted: for counters that are read while the trace goes
//! on.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    connection::{Connection, EndCause, EndDuring, TransactionsMethod},
    destination::{
        Group, Grouping, OTHER, Reception, Timeline,
        busiest::{Busiest, Place},
        fold::{Families, normal_host},
    },
    utc::Utc,
};

/// One address names at most one in so many of the destinations.
const SHARE: usize = 8;

/// So many names one address has in any case: its own, before a server has greeted, and those of a few hosts.
const FEW: usize = 4;

/// Aggregates of the busiest destinations; of all other ones together, as [`OTHER`].
///
/// A report groups anew each time it is made, so a destination may go to [`OTHER`] or get another name
/// between two of them. Here a connection stays with the destination it was counted under. Where there is no room,
/// a destination that is much busier takes the place of the least busy one, whose counts all go to [`OTHER`].
/// So no count becomes smaller while its destination is named, that of [`OTHER`] never does, nor does a sum over
/// all. One that is named again begins at 0.
#[derive(Debug, Clone)]
pub struct SteadyFold {
    by: Grouping,
    limit: usize,
    named: BTreeMap<String, Cells>,
    /// Which ones are; by the address that first showed the name, because a server may show many.
    busiest: Busiest<String, IpAddr>,
    /// How many have lost their place.
    replaced: u64,
    others: Option<Cells>,
    /// Of all connections.
    timeline: Timeline,
}

/// What is known of one destination.
#[derive(Debug, Clone, Default)]
struct Cells {
    families: Families,
    tallies: Tallies,
}

/// What a report does not tell apart. Bounded: the keys are few.
#[derive(Debug, Clone, Default)]
pub struct Tallies {
    /// Connections by what ended them, and when in their life.
    pub endings: BTreeMap<(EndCause, Option<EndDuring>), u64>,
    /// Counted connections by the method of their count, and whether it is exact.
    pub carried: BTreeMap<(TransactionsMethod, bool), Carried>,
    /// Connections by how the server received them.
    pub receptions: BTreeMap<Reception, u64>,
}

/// Connections whose messages were counted in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carried {
    /// Connections.
    pub connections: u64,
    /// Those that carried a message.
    pub carrying: u64,
    /// Messages handed over.
    pub messages: u64,
}

/// One destination of a [`SteadyFold`].
#[derive(Debug)]
pub struct Steady<'a> {
    /// Its aggregates.
    pub group: Group,
    /// Its other counts.
    pub tallies: &'a Tallies,
}

impl SteadyFold {
    /// An empty fold that names at most `limit` destinations, grouped by `by`.
    pub fn new(by: impl Into<Grouping>, limit: usize) -> Self {
        let (by, named, timeline) = (by.into(), BTreeMap::new(), Timeline::default());
        let busiest = Busiest::new(limit, limit.div_ceil(SHARE).max(FEW));
        Self { by, limit, named, busiest, replaced: 0, others: None, timeline }
    }

    /// The destination of a connection at `now` to `address` whose server is called `host`. It is named from now
    /// on if there is room, and [`OTHER`] if not.
    pub fn destination(&mut self, address: IpAddr, host: Option<&str>, now: Utc) -> String {
        let host = host.and_then(normal_host);
        self.key(address, host.as_deref(), 0, now)
    }

    /// Adds one connection. Without a greeting that names a host it is one to `usual_host`.
    /// Returns its destination.
    pub fn add(&mut self, connection: &Connection, usual_host: Option<&str>) -> String {
        let host = connection.banner_host.as_deref().and_then(normal_host);
        let usual_host = usual_host.and_then(normal_host);
        let host = host.as_deref().or(usual_host.as_deref());
        let key = self.key(connection.dst, host, 1, connection.end());
        let cells = match self.named.get_mut(&key) {
            Some(cells) => cells,
            None => self.others.get_or_insert_default(),
        };
        cells.families.of(connection.family).add(connection);
        cells.tallies.add(connection);
        self.timeline.add(connection);
        key
    }

    /// The destination of `connections` that ended at `at`; it is named from now on, or is [`OTHER`].
    fn key(&mut self, address: IpAddr, host: Option<&str>, connections: u64, at: Utc) -> String {
        let address = address.to_canonical();
        let key = self.by.key(address, host);
        let find = |other: &String| other.cmp(&key);
        match self.busiest.place(find, || key.clone(), Some(address), connections, at) {
            Place::Own => {
                if !self.named.contains_key(&key) {
                    self.named.insert(key.clone(), Cells::default());
                }
                key
            }
            Place::Instead(gone) => {
                let gone = self.named.remove(&gone).unwrap_or_default();
                self.others.get_or_insert_default().merge(&gone);
                self.replaced += 1;
                self.named.insert(key.clone(), Cells::default());
                key
            }
            Place::Others => {
                self.others.get_or_insert_default();
                OTHER.to_owned()
            }
        }
    }

    /// The destinations by name; [`OTHER`], if there is one, last. Only the one at hand takes memory for
    /// its sums.
    pub fn destinations(&self) -> impl Iterator<Item = Steady<'_>> {
        let named = self.named.iter().map(|(key, cells)| (key.as_str(), cells));
        let others = self.others.iter().map(|cells| (OTHER, cells));
        named.chain(others).map(|(key, cells)| cells.steady(key))
    }

    /// How many destinations are named.
    pub fn named(&self) -> usize {
        self.named.len()
    }

    /// How many were named once and are not any more; one that was so several times counts each time.
    pub const fn replaced(&self) -> u64 {
        self.replaced
    }

    /// How many may be named.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// All connections as one destination with the key `key`.
    pub fn total(&self, key: &str) -> Group {
        let all = self.named.values().chain(&self.others);
        let cells = all.flat_map(|cells| cells.families.cells());
        let mut total = Group::new(key.to_owned(), cells, None);
        total.all.timeline = self.timeline.clone();
        total
    }
}

impl Cells {
    fn merge(&mut self, other: &Self) {
        for (family, theirs) in other.families.cells() {
            let ours = self.families.of(family);
            ours.merge(theirs);
            ours.timeline.shrink();
        }
        self.tallies.merge(&other.tallies);
    }

    fn steady(&self, key: &str) -> Steady<'_> {
        let mut group = Group::new(key.to_owned(), self.families.cells(), None);
        for (_, cell) in self.families.cells() {
            group.all.timeline.merge(&cell.timeline);
            group.all.arrivals.merge(&cell.arrivals);
        }
        Steady { group, tallies: &self.tallies }
    }
}

impl Tallies {
    fn add(&mut self, connection: &Connection) {
        *self.endings.entry((connection.end_cause, connection.end_during)).or_default() += 1;
        *self.receptions.entry(Reception::of(connection)).or_default() += 1;
        let counted = connection.messages();
        if let (Some(messages), Some(method)) = (counted, connection.transactions_method) {
            let carried = self.carried.entry((method, connection.transactions_exact)).or_default();
            carried.connections += 1;
            carried.carrying += u64::from(messages > 0);
            carried.messages += u64::from(messages);
        }
    }
    fn merge(&mut self, other: &Self) {
        for (key, n) in &other.endings {
            *self.endings.entry(*key).or_default() += n;
        }
        for (key, n) in &other.receptions {
            *self.receptions.entry(*key).or_default() += n;
        }
        for (key, theirs) in &other.carried {
            let ours = self.carried.entry(*key).or_default();
            ours.connections += theirs.connections;
            ours.carrying += theirs.carrying;
            ours.messages += theirs.messages;
        }
    }
}
