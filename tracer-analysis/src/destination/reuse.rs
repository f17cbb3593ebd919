//! Connections that were opened although a usable one was there.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::destination::{
    Arrivals, Reception,
    arrivals::{Arrival, Rest},
    lane::Lane,
};

/// What could have been saved by using connections again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MissedReuse {
    /// Connections that carried a message, whose opening was looked at.
    pub judged: u64,
    /// Those of them for whose messages another connection had room: it was open and idle, or we had
    /// closed it ourselves at most [`Arrivals::KEEPABLE_S`] before. One idle time has room for one
    /// connection's messages.
    pub missed: u64,
    /// Further connections that carried a message, or may have, of which that cannot be said: it is not
    /// known when the others stood idle, or whether they carried anything.
    pub unknown: u64,
}

impl Arrivals {
    /// Reuse that was missed among these connections; of the minutes that are kept.
    pub fn missed_reuse(&self) -> MissedReuse {
        let mut sum = MissedReuse::default();
        for lane in &self.lanes {
            let of = missed(lane, |arrival| self.is_judged(arrival.at()));
            sum.judged += of.judged;
            sum.missed += of.missed;
            sum.unknown += of.unknown;
        }
        sum
    }
}

/// Gives each new connection the idle time that ends first. That leaves as few as possible without.
fn missed(lane: &Lane, is_judged: impl Fn(&Arrival) -> bool) -> MissedReuse {
    let arrivals = lane.sorted_arrivals();
    let mut rests: Vec<_> = lane.rests().collect();
    rests.extend(arrivals.iter().filter_map(Arrival::last_rest));
    rests.sort_unstable();
    let mut rests = rests.into_iter().peekable();
    let mut free: BinaryHeap<Reverse<(i64, Rest)>> = BinaryHeap::new();
    let (mut result, mut opaque_until) = (MissedReuse::default(), i64::MIN);
    for arrival in &arrivals {
        while let Some(rest) = rests.next_if(|rest| rest.from <= arrival.at()) {
            free.push(Reverse((rest.until(), rest)));
        }
        while free.peek().is_some_and(|Reverse((until, _))| *until < arrival.at()) {
            free.pop();
        }
        let facts = arrival.facts();
        let wanted = facts.reception == Reception::Accepted && !facts.midlife;
        if wanted && facts.carried != Some(false) {
            let room = facts.carried == Some(true) && free.pop().is_some();
            let known = room || facts.carried == Some(true) && opaque_until < arrival.at();
            if is_judged(arrival) {
                result.judged += u64::from(known);
                result.missed += u64::from(room);
                result.unknown += u64::from(!known);
            }
        }
        if wanted && facts.rests_unknown {
            let until = arrival.end().saturating_add(Arrivals::KEEPABLE_S * 1_000_000);
            opaque_until = opaque_until.max(until);
        }
    }
    result
}
