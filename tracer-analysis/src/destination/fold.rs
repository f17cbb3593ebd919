//! The fold: from connections, one by one, to aggregates of all destinations.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    connection::{Connection, Family},
    destination::{
        Aggregate, Course, Few, Group, Grouping, Groups, OTHER, Senders, Timeline,
        busiest::{Busiest, Place},
        group::Cell,
    },
    utc::Utc,
};

/// Greeting hosts of one address that are kept apart. Connections that show yet another one count
/// as those that showed none.
pub const HOSTS_PER_ADDRESS: usize = 32;

/// Aggregates of all connections so far, from which a report in any grouping can be made.
///
/// The busiest `max_destinations` addresses are kept, and as many greeting hosts in all; the connections
/// to other addresses are added up in one aggregate. An address that becomes much busier than the least busy one
/// takes its place. Until one of these limits is reached, the order of the connections makes no difference.
#[derive(Debug, Clone)]
pub struct Fold {
    /// What it was made for.
    wanted: usize,
    /// The limit now.
    max_destinations: usize,
    /// Which addresses are kept.
    kept: Busiest<IpAddr, IpAddr>,
    /// Which greeting hosts of theirs are; an address has its share of them.
    named: Busiest<(IpAddr, Box<str>), IpAddr>,
    addresses: BTreeMap<IpAddr, Address>,
    others: Families,
    /// Of all connections: more precise than the sum of those of the destinations.
    timeline: Timeline,
    replies_421: Course,
    senders: Senders,
    window: Option<(Utc, Utc)>,
}

/// All that is known about one server address.
#[derive(Debug, Clone, Default)]
pub(super) struct Address {
    /// Connections by the host of their greeting; [`HOSTS_PER_ADDRESS`] at most.
    pub(super) hosts: Few<String, Box<Aggregate>>,
    /// Connections without a greeting that names a host.
    pub(super) nameless: Option<Box<Aggregate>>,
}

/// Aggregates by address family.
#[derive(Debug, Clone, Default)]
pub(super) struct Families {
    pub(super) ipv4: Option<Box<Aggregate>>,
    pub(super) ipv6: Option<Box<Aggregate>>,
}

impl Families {
    pub(super) fn of(&mut self, family: Family) -> &mut Aggregate {
        let aggregate = match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        };
        aggregate.get_or_insert_default()
    }

    pub(super) fn cells(&self) -> impl Iterator<Item = (Family, &Aggregate)> {
        let ipv4 = self.ipv4.iter().map(|cell| (Family::Ipv4, cell.as_ref()));
        ipv4.chain(self.ipv6.iter().map(|cell| (Family::Ipv6, cell.as_ref())))
    }
}

impl Address {
    fn cells(&self) -> impl Iterator<Item = &Aggregate> {
        self.hosts.values().chain(&self.nameless).map(Box::as_ref)
    }

    /// The host that most connections showed; of several such hosts, the first in the alphabet.
    pub(super) fn usual_host(&self) -> Option<&str> {
        // `max_by` returns the last of several: go from the end of the alphabet to its beginning.
        let hosts = self.hosts.iter().rev();
        hosts.max_by_key(|(_, cell)| cell.connections).map(|(host, _)| host.as_str())
    }
}

impl Fold {
    /// Destinations that stay apart whatever memory they take.
    pub const FEWEST: usize = 16;

    /// A fold that keeps at most `max_destinations` destinations apart.
    pub fn new(max_destinations: usize) -> Self {
        Self {
            wanted: max_destinations,
            max_destinations,
            kept: Busiest::new(max_destinations, usize::MAX),
            named: Busiest::new(max_destinations, HOSTS_PER_ADDRESS),
            addresses: BTreeMap::new(),
            others: Families::default(),
            timeline: Timeline::default(),
            replies_421: Course::default(),
            senders: Senders::default(),
            window: None,
        }
    }

    /// Adds one connection.
    pub fn add(&mut self, connection: &Connection) {
        self.extend_window(connection.start, connection.end());
        self.timeline.add(connection);
        self.replies_421.add_replies_421(connection);
        self.senders.add(connection);
        let host = connection.banner_host.as_deref().and_then(normal_host);
        let address = connection.dst.to_canonical();
        self.cell(address, host.as_deref(), 1, connection.end()).add(connection);
    }

    /// Adds all connections of `other`. The limit of this fold stays in force.
    pub fn merge(&mut self, other: &Self) {
        let Some((start, end)) = other.window else { return };
        self.extend_window(start, end);
        self.timeline.merge(&other.timeline);
        self.timeline.shrink();
        self.replies_421.merge(&other.replies_421);
        self.senders.merge(&other.senders, end);
        for (&address, theirs) in &other.addresses {
            let named = theirs.hosts.iter().map(|(host, cell)| (Some(host.as_str()), cell));
            let nameless = theirs.nameless.iter().map(|cell| (None, cell));
            for (host, cell) in named.chain(nameless) {
                let ours = self.cell(address, host, cell.connections, end);
                ours.merge(cell);
                ours.timeline.shrink();
            }
        }
        for (family, theirs) in other.others.cells() {
            let ours = self.others.of(family);
            ours.merge(theirs);
            ours.timeline.shrink();
        }
    }

    /// The destinations, worst first; what was over the limit comes last as [`super::OTHER`].
    pub fn groups(&self, by: impl Into<Grouping>) -> Groups<'_> {
        Groups::new(&self.addresses, &self.others, by.into(), self.max_destinations)
    }

    /// Key of the destination in which a connection to `address` counts whose server is called `host`; of
    /// one that does not exist yet, that which it will have.
    pub fn key(&self, by: impl Into<Grouping>, address: IpAddr, host: Option<&str>) -> String {
        let by = by.into();
        let address = address.to_canonical();
        let host = host.and_then(normal_host);
        match self.addresses.get(&address) {
            Some(known) => {
                let own = host.as_deref().filter(|host| known.hosts.contains_key(*host));
                by.key(address, own.or(known.usual_host()))
            }
            None if self.addresses.len() >= self.max_destinations => OTHER.to_owned(),
            None => by.key(address, host.as_deref()),
        }
    }

    /// All connections as one destination with the key `key`.
    pub fn total(&self, key: &str) -> Group {
        let all = !self.others.cells().any(|_| true);
        let addresses = all.then_some(self.addresses.len() as u64);
        let cells = self.addresses.iter().flat_map(|(&address, server)| {
            server.cells().map(move |cell| -> Cell<'_> { (family(address), cell) })
        });
        let mut total = Group::new(key.to_owned(), cells.chain(self.others.cells()), addresses);
        total.all.timeline = self.timeline.clone();
        total.all.replies_421 = self.replies_421.clone();
        total
    }

    /// The host that most connections to `address` showed in their greeting.
    pub fn usual_host(&self, address: IpAddr) -> Option<&str> {
        self.addresses.get(&address.to_canonical())?.usual_host()
    }

    /// Who opened these connections.
    pub const fn senders(&self) -> &Senders {
        &self.senders
    }

    /// Number of destinations that are kept apart at most, as of now.
    pub const fn max_destinations(&self) -> usize {
        self.max_destinations
    }

    /// Earliest start and latest end of a connection; `None` if there are no connections.
    pub const fn window(&self) -> Option<(Utc, Utc)> {
        self.window
    }

    fn extend_window(&mut self, start: Utc, end: Utc) {
        let (first, last) = self.window.unwrap_or((start, end));
        self.window = Some((first.min(start), last.max(end)));
    }

    /// Keeps only the busiest three quarters of the destinations apart that are there, [`Self::FEWEST`] at least, and no
    /// more than these until [`Self::keep_all`]. Returns how many that are.
    pub fn keep_fewer(&mut self) -> usize {
        let most = (self.addresses.len() * 3 / 4).max(Self::FEWEST).min(self.max_destinations);
        self.max_destinations = most;
        for address in self.kept.shrink_to(most) {
            self.give_up(address);
        }
        for (address, host) in self.named.shrink_to(most) {
            self.give_up_name(address, &host);
        }
        most
    }

    /// Keeps as many destinations apart again as this fold was made for. What was added to the others stays there.
    /// Returns how many that are.
    pub fn keep_all(&mut self) -> usize {
        self.max_destinations = self.wanted;
        self.kept.grow_to(self.wanted);
        self.named.grow_to(self.wanted);
        self.wanted
    }

    /// Where `connections` to `address` are added up that ended at `at` and showed `host`.
    fn cell(
        &mut self,
        address: IpAddr,
        host: Option<&str>,
        connections: u64,
        at: Utc,
    ) -> &mut Aggregate {
        match self.kept.place(|it| it.cmp(&address), || address, None, connections, at) {
            Place::Own => {}
            Place::Instead(gone) => self.give_up(gone),
            Place::Others => return self.others.of(family(address)),
        }
        let host = host.filter(|host| self.names(address, host, connections, at));
        let address = self.addresses.entry(address).or_default();
        match host {
            Some(host) => address.hosts.of(host),
            None => address.nameless.get_or_insert_default(),
        }
    }

    /// Whether connections to `address` that show `host` are kept apart from its others.
    fn names(&mut self, address: IpAddr, host: &str, connections: u64, at: Utc) -> bool {
        let find = |(of, name): &(IpAddr, Box<str>)| (of, &**name).cmp(&(&address, host));
        let make = || (address, host.into());
        match self.named.place(find, make, Some(address), connections, at) {
            Place::Own => true,
            Place::Instead((of, gone)) => {
                self.give_up_name(of, &gone);
                true
            }
            Place::Others => false,
        }
    }

    /// Adds what is known of `address` with the name `host` to what is known of it without a name.
    fn give_up_name(&mut self, address: IpAddr, host: &str) {
        let Some(of) = self.addresses.get_mut(&address) else { return };
        if let Some(cell) = of.hosts.remove(host) {
            let nameless = of.nameless.get_or_insert_default();
            nameless.merge(&cell);
            nameless.timeline.shrink();
        }
    }

    /// Adds all that is known of `address` to the others.
    fn give_up(&mut self, address: IpAddr) {
        self.named.forget(|(of, _)| *of == address);
        let ours = self.others.of(family(address));
        for cell in self.addresses.remove(&address).iter().flat_map(Address::cells) {
            ours.merge(cell);
            ours.timeline.shrink();
        }
    }
}

/// The family of an address that is in its canonical form.
pub(super) const fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
}

/// Longest name of a host (RFC 1035 section 2.3.4).
const LONGEST_HOST: usize = 255;

/// A host name in the form in which it is compared; `None` if it cannot tell servers apart. RFC 5321
/// section 4.2 wants a domain name or an address literal first in the greeting, but products put their own
/// name there (`220 Product ESMTP`), and a host its short one: all such servers would be one destination.
pub(crate) fn normal_host(host: &str) -> Option<String> {
    let host = host.trim_end_matches('.');
    if host.len() > LONGEST_HOST {
        return None;
    }
    let host = host.to_ascii_lowercase();
    let is_literal = || host.starts_with('[') && host.ends_with(']');
    let is_domain = || host.contains('.') && !host.split('.').any(str::is_empty);
    (is_domain() || is_literal()).then_some(host)
}
