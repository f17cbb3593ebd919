//! Connections that can stand in for each other.

use crate::{
    connection::Family,
    destination::{
        arrivals::{Arrival, Rest},
        packed::Deltas,
    },
};

/// Connections that can stand in for each other, and that the server counts together: of one host and
/// network namespace, from one address to one port.
///
/// There are many: an arrival takes about 10 bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Lane {
    /// A hash of these; its last bit is the family of our address.
    id: u64,
    arrivals: Deltas<2>,
    rests: Deltas<1>,
}

impl Lane {
    pub(super) fn new(id: u64) -> Self {
        Self { id, ..Self::default() }
    }

    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    pub(super) const fn family(&self) -> Family {
        if self.id & 1 == 0 { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// Number of arrivals and rests.
    pub(super) const fn len(&self) -> usize {
        self.arrivals.len() + self.rests.len()
    }

    pub(super) fn add_arrival(&mut self, arrival: Arrival) {
        let (at, durations) = arrival.packed();
        self.arrivals.push(at, durations);
    }

    pub(super) fn add_rest(&mut self, rest: Rest) {
        let (from, length) = rest.packed();
        self.rests.push(from, length);
    }

    /// In the order in which they were added.
    pub(super) fn arrivals(&self) -> impl Iterator<Item = Arrival> {
        self.arrivals.iter().map(Arrival::unpacked)
    }

    /// In the order in which they were added.
    pub(super) fn rests(&self) -> impl Iterator<Item = Rest> {
        self.rests.iter().map(Rest::unpacked)
    }

    /// In order of time.
    pub(super) fn sorted_arrivals(&self) -> Vec<Arrival> {
        let mut arrivals: Vec<_> = self.arrivals().collect();
        arrivals.sort_unstable();
        arrivals
    }

    /// Adds those of `other` that lasted from and until times that are kept.
    pub(super) fn merge(&mut self, other: &Self, is_kept: impl Fn(i64, i64) -> bool) {
        let arrivals = other.arrivals().filter(|it| is_kept(it.at(), it.end()));
        arrivals.for_each(|arrival| self.add_arrival(arrival));
        let rests = other.rests().filter(|it| is_kept(it.from, it.until()));
        rests.for_each(|rest| self.add_rest(rest));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arrivals_and_rests_come_back(rows in prop::collection::vec(any::<(i64, u32, u32)>(), 0..20)) {
            let mut lane = Lane::new(7);
            let arrivals: Vec<_> = rows.iter().map(|row| Arrival::sample(*row)).collect();
            let rests: Vec<_> = rows.iter().map(|(from, length, _)| Rest::unpacked((*from, [(*length).into()]))).collect();
            for arrival in &arrivals {
                lane.add_arrival(*arrival);
            }
            for rest in &rests {
                lane.add_rest(*rest);
            }
            prop_assert_eq!(lane.arrivals().collect::<Vec<_>>(), arrivals);
            prop_assert_eq!(lane.rests().collect::<Vec<_>>(), rests);
            prop_assert_eq!(lane.len(), 2 * rows.len());
        }
    }
}
