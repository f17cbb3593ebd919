//! The destinations of a fold in one grouping.

use std::{cmp::Reverse, collections::BTreeMap, net::IpAddr, vec};

use crate::{
    connection::Family,
    destination::{
        Aggregate, Grouping,
        fold::{Address, Families, family},
    },
};

/// Key of the destination that holds what was over the limit. Host names have no `~`.
pub const OTHER: &str = "~other";

/// One destination.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its key in the grouping, or [`OTHER`].
    pub key: String,
    /// All of its connections.
    pub all: Aggregate,
    /// Those over IPv4, if there are any; without a timeline.
    pub ipv4: Option<Aggregate>,
    /// Those over IPv6, if there are any; without a timeline.
    pub ipv6: Option<Aggregate>,
    /// Number of distinct server addresses; `None` for what was over the limit.
    pub addresses: Option<u64>,
}

impl Group {
    /// Adds up cells, except for their timelines.
    pub(super) fn new<'a>(
        key: String,
        cells: impl IntoIterator<Item = Cell<'a>>,
        addresses: Option<u64>,
    ) -> Self {
        let mut families = Families::default();
        for (family, cell) in cells {
            families.of(family).merge_counts(cell);
        }
        let mut all = Aggregate::default();
        families.cells().for_each(|(_, family)| all.merge_counts(family));
        let [ipv4, ipv6] = [families.ipv4, families.ipv6].map(|family| family.map(|boxed| *boxed));
        Self { key, all, ipv4, ipv6, addresses }
    }
}

/// Iterator over the destinations of a fold, worst first, the others last.
///
/// Worst is the destination with most connections that failed or died; of several, the one of whose
/// connections they are the larger share, that is, with fewer connections. Where nothing failed, the
/// one with most connections comes first. Then the key decides.
///
/// Only the group at hand takes memory for its sums.
#[derive(Debug)]
pub struct Groups<'a> {
    plans: vec::IntoIter<Plan<'a>>,
}

/// A group before its cells are added up.
#[derive(Debug)]
struct Plan<'a> {
    key: String,
    cells: Vec<Cell<'a>>,
    addresses: Option<u64>,
    last_address: Option<IpAddr>,
}

/// An aggregate of connections over one address family.
pub(super) type Cell<'a> = (Family, &'a Aggregate);

impl<'a> Groups<'a> {
    pub(super) fn new(
        addresses: &'a BTreeMap<IpAddr, Address>,
        others: &'a Families,
        by: Grouping,
        limit: usize,
    ) -> Self {
        let mut plans = plan(addresses, by);
        plans.sort_by_cached_key(Plan::order);
        // One address can show several hosts, so there can be more groups than addresses.
        let beyond = plans.split_off(limit.min(plans.len()));
        let mut rest: Vec<_> = beyond.into_iter().flat_map(|plan| plan.cells).collect();
        rest.extend(others.cells());
        if !rest.is_empty() {
            plans.push(Plan {
                key: OTHER.to_owned(),
                cells: rest,
                addresses: None,
                last_address: None,
            });
        }
        Self { plans: plans.into_iter() }
    }

    /// The group with the key `key`, if it is among those that are left.
    pub fn named(mut self, key: &str) -> Option<Group> {
        while self.plans.as_slice().first()?.key != key {
            self.plans.next();
        }
        self.next()
    }

    /// Number of groups that are left, [`OTHER`] included.
    pub fn len(&self) -> usize {
        self.plans.len()
    }

    /// Whether no group is left.
    pub fn is_empty(&self) -> bool {
        self.plans.len() == 0
    }
}

impl Iterator for Groups<'_> {
    type Item = Group;

    fn next(&mut self) -> Option<Group> {
        let plan = self.plans.next()?;
        let mut group = Group::new(plan.key, plan.cells.iter().copied(), plan.addresses);
        for (_, cell) in plan.cells {
            group.all.timeline.merge(&cell.timeline);
            group.all.replies_421.merge(&cell.replies_421);
            group.all.arrivals.merge(&cell.arrivals);
        }
        Some(group)
    }
}

impl Plan<'_> {
    /// Sorts the worst group first.
    fn order(&self) -> impl Ord + use<> {
        let (mut bad, mut connections) = (0, 0);
        for (_, cell) in &self.cells {
            bad += cell.connect_failures + cell.died;
            connections += cell.connections;
        }
        // With as many bad ones, fewer connections are a larger share.
        let size = if bad == 0 { -i128::from(connections) } else { connections.into() };
        (Reverse(bad), size, self.key.clone())
    }
}

/// Which cells make up which group.
fn plan(addresses: &BTreeMap<IpAddr, Address>, by: Grouping) -> Vec<Plan<'_>> {
    let mut groups: BTreeMap<String, Plan<'_>> = BTreeMap::new();
    for (&address, server) in addresses {
        let family = family(address);
        let named = server.hosts.iter().map(|(host, cell)| (Some(host.as_str()), cell));
        let nameless = server.nameless.iter().map(|cell| (server.usual_host(), cell));
        for (host, cell) in named.chain(nameless) {
            let key = by.key(address, host);
            let group = groups.entry(key.clone()).or_insert_with(|| Plan {
                key,
                cells: Vec::new(),
                addresses: Some(0),
                last_address: None,
            });
            if group.last_address.replace(address) != Some(address) {
                group.addresses = group.addresses.map(|n| n + 1);
            }
            group.cells.push((family, cell));
        }
    }
    groups.into_values().collect()
}
