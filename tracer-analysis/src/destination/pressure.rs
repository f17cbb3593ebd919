//! How much a server had to bear from us at each arrival, and how it received it.

use std::{cmp::Reverse, collections::BinaryHeap, collections::VecDeque};

use crate::{
    connection::Family,
    destination::{Arrivals, Reception, arrivals::Arrival, lane::Lane},
};

/// One arrival, and what was there already, as the server counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// When, in microseconds since 1970.
    pub at: i64,
    /// How it was received.
    pub reception: Reception,
    /// Accepted connections that were open.
    pub open: u32,
    /// Connections that had arrived in the last 60 seconds, those refused included.
    pub arrived: u32,
    /// Those of them that were accepted.
    pub accepted: u32,
    /// Connections since the server's minute began, if it counts from the first connection after
    /// the last such minute (as Postfix' anvil(8) does); `None` if only some minutes are kept.
    pub in_window: Option<u32>,
    /// Whether the arrival before it in the list came from the same address of ours.
    pub follows: bool,
}

/// Arrivals within one minute of the server's count, in microseconds.
const MINUTE_US: i64 = 60_000_000;

impl Arrivals {
    /// What the server saw at each arrival that can be judged, in order of time for each of our addresses.
    ///
    /// The first minute is left out if there are at least three: what arrived before tracing began is not
    /// known.
    pub fn moments(&self) -> Vec<Moment> {
        self.moments_in(&mut self.lanes.iter())
    }

    /// The same of one family.
    pub fn moments_over(&self, family: Family) -> Vec<Moment> {
        self.moments_in(&mut self.lanes.iter().filter(|lane| lane.family() == family))
    }

    fn moments_in(&self, lanes: &mut dyn Iterator<Item = &Lane>) -> Vec<Moment> {
        let mut all = Vec::new();
        for lane in lanes {
            let begin = all.len();
            let moments = moments(lane, !self.is_sample());
            let first = moments.first().map_or(0, |first| first.at);
            let long = moments.last().is_some_and(|last| last.at - first >= 3 * MINUTE_US);
            let from = if long { first + MINUTE_US } else { first };
            all.extend(moments.into_iter().filter(|it| it.at >= from && self.is_judged(it.at)));
            if let Some(first) = all.get_mut(begin) {
                first.follows = false;
            }
        }
        all
    }
}

fn moments(lane: &Lane, complete: bool) -> Vec<Moment> {
    let arrivals = lane.sorted_arrivals();
    let mut window = Window::default();
    // Ends of those that are open; arrivals of the last minute.
    let mut open: BinaryHeap<Reverse<i64>> = BinaryHeap::new();
    let (mut arrived, mut accepted) = (VecDeque::new(), VecDeque::new());
    let mut moments = Vec::new();
    for arrival in &arrivals {
        let (at, facts) = (arrival.at(), arrival.facts());
        while open.peek().is_some_and(|Reverse(end)| *end <= at) {
            open.pop();
        }
        for times in [&mut arrived, &mut accepted] {
            while times.front().is_some_and(|time| *time <= at - MINUTE_US) {
                times.pop_front();
            }
        }
        let is_accepted = facts.reception == Reception::Accepted;
        if !facts.midlife && facts.reception != Reception::Unknown {
            moments.push(Moment {
                at,
                reception: facts.reception,
                open: len(open.len()),
                arrived: len(arrived.len()),
                accepted: len(accepted.len()),
                in_window: complete.then(|| window.count(arrival)),
                follows: !moments.is_empty(),
            });
            arrived.push_back(at);
            if is_accepted {
                accepted.push_back(at);
            }
        }
        if is_accepted {
            open.push(Reverse(arrival.end()));
        }
    }
    moments
}

fn len(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A minute that begins with the first connection after the one before. Where tracing begins, it may
/// have begun earlier; it is known for sure when the first connection is accepted after refusals.
#[derive(Debug, Default)]
struct Window {
    begin: Option<i64>,
    count: u32,
    refusing: bool,
    synchronous: bool,
}

impl Window {
    /// Connections in the minute before this one.
    fn count(&mut self, arrival: &Arrival) -> u32 {
        let refused = arrival.facts().reception.is_refusal();
        let resumed = self.refusing && !refused && !self.synchronous;
        self.synchronous |= resumed;
        self.refusing = refused;
        if resumed || self.begin.is_none_or(|begin| arrival.at() - begin >= MINUTE_US) {
            self.begin = Some(arrival.at());
            self.count = 0;
        }
        let before = self.count;
        self.count += 1;
        before
    }
}

/// Connections and what became of them in one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Minute {
    /// Which: minutes since 1970.
    pub minute: i64,
    /// Connections opened.
    pub opened: u64,
    /// Those that were refused or not answered.
    pub refused: u64,
    /// Those that carried a message.
    pub carrying: u64,
}

impl Arrivals {
    /// What was opened in each minute that is kept, in order; minutes without a connection are left out.
    pub fn minutes(&self) -> Vec<Minute> {
        let mut minutes: std::collections::BTreeMap<i64, Minute> =
            std::collections::BTreeMap::new();
        let arrivals = self.lanes.iter().flat_map(Lane::arrivals);
        for arrival in arrivals.filter(|it| self.is_judged(it.at()) && !it.facts().midlife) {
            let facts = arrival.facts();
            let minute = arrival.at().div_euclid(MINUTE_US);
            let sum = minutes.entry(minute).or_default();
            sum.minute = minute;
            sum.opened += 1;
            sum.refused += u64::from(facts.reception.is_refusal());
            sum.carrying += u64::from(facts.carried == Some(true));
        }
        minutes.into_values().collect()
    }
}
