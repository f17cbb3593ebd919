//! Counts per interval, of all connections and of each destination, in bounded memory.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use tracer_analysis::{connection::Connection, utc::Utc};

/// Intervals that are kept.
pub(super) const INTERVALS: usize = 60;

/// Counts of the last intervals.
#[derive(Debug, Clone, Default)]
pub(super) struct Ring {
    /// Number of the interval of the first count.
    first: u64,
    counts: VecDeque<u64>,
}

impl Ring {
    fn add(&mut self, interval: u64, n: u64) {
        if self.counts.is_empty() {
            self.first = interval;
        }
        if interval < self.first {
            // A long connection that ended: its start may be older than what is kept.
            let missing = usize::try_from(self.first - interval).unwrap_or(usize::MAX);
            if self.counts.len().saturating_add(missing) > INTERVALS {
                return;
            }
            (0..missing).for_each(|_| self.counts.push_front(0));
            self.first = interval;
        }
        let at = usize::try_from(interval - self.first).unwrap_or(usize::MAX);
        if at >= 2 * INTERVALS {
            self.counts.clear();
            self.first = interval;
            self.counts.push_back(n);
            return;
        }
        while self.counts.len() <= at {
            self.counts.push_back(0);
        }
        self.counts[at] += n;
        while self.counts.len() > INTERVALS {
            self.counts.pop_front();
            self.first += 1;
        }
    }

    fn get(&self, interval: u64) -> u64 {
        let at = interval.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.counts.get(at)).copied().unwrap_or(0)
    }

    fn is_over(&self, current: u64) -> bool {
        self.first + self.counts.len() as u64 + INTERVALS as u64 <= current
    }
}

/// Where a connection counts: address, and host in the greeting.
pub(super) type Cell = (IpAddr, Option<Box<str>>);

/// Connections by the interval in which they were opened, ended or failed.
#[derive(Debug)]
pub(super) struct Rates {
    start: Utc,
    interval_us: u64,
    limit: usize,
    opened: Ring,
    ended: Ring,
    messages: Ring,
    bad: Ring,
    cells: HashMap<Cell, Ring>,
}

/// What happened in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Interval {
    /// Connections opened, failed ones and those that are still open included.
    pub(super) opened: u64,
    /// Connections that ended.
    pub(super) ended: u64,
    /// Messages of those that ended and whose messages could be counted.
    pub(super) messages: u64,
    /// Those that failed to connect or died.
    pub(super) bad: u64,
}

impl Rates {
    /// Counts since `start`, of at most `limit` destinations.
    pub(super) fn new(start: Utc, interval: Duration, limit: usize) -> Self {
        Self {
            start,
            interval_us: u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).max(1),
            limit,
            opened: Ring::default(),
            ended: Ring::default(),
            messages: Ring::default(),
            bad: Ring::default(),
            cells: HashMap::new(),
        }
    }

    /// Number of the interval of a point in time.
    pub(super) fn interval(&self, time: Utc) -> u64 {
        time.micros_since(self.start) / self.interval_us
    }

    /// Takes a connection that ended.
    pub(super) fn ended(&mut self, connection: &Connection) {
        let begin = self.interval(connection.start);
        let end = self.interval(connection.end());
        self.opened.add(begin, 1);
        self.ended.add(end, 1);
        self.messages.add(end, connection.transactions.unwrap_or(0).into());
        self.bad.add(end, u64::from(connection.failed() || connection.died()));
        let cell = (connection.dst, connection.banner_host.as_deref().map(Box::from));
        if let Some(ring) = self.cells.get_mut(&cell) {
            ring.add(begin, 1);
            return;
        }
        if self.cells.len() >= self.limit {
            self.cells.retain(|_, ring| !ring.is_over(end));
        }
        if self.cells.len() < self.limit {
            self.cells.entry(cell).or_default().add(begin, 1);
        }
    }

    /// What is counted of `interval` as yet; connections that are still open are not.
    pub(super) fn all(&self, interval: u64) -> Interval {
        Interval {
            opened: self.opened.get(interval),
            ended: self.ended.get(interval),
            messages: self.messages.get(interval),
            bad: self.bad.get(interval),
        }
    }

    /// The last [`INTERVALS`] counts of opened connections until `current`, by destination.
    pub(super) fn cells(&self, current: u64) -> impl Iterator<Item = (&Cell, Vec<u64>)> {
        self.cells.iter().map(move |(cell, ring)| {
            (cell, span(current).map(|it| it.map_or(0, |it| ring.get(it))).collect())
        })
    }

    /// The same of all connections together.
    pub(super) fn opened(&self, current: u64) -> Vec<u64> {
        span(current).map(|it| it.map_or(0, |it| self.opened.get(it))).collect()
    }
}

/// The last [`INTERVALS`] intervals until `current`; `None` before the first.
fn span(current: u64) -> impl Iterator<Item = Option<u64>> {
    (0..INTERVALS as u64).rev().map(move |back| current.checked_sub(back))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_keeps_the_last_intervals() {
        let mut ring = Ring::default();
        for interval in 0..100 {
            ring.add(interval, 2);
        }
        ring.add(70, 1);
        ring.add(3, 1); // too old
        let counts = [3, 39, 40, 70, 99, 100].map(|it| ring.get(it));
        assert_eq!(counts, [0, 0, 2, 3, 2, 0]);
        ring.add(1_000_000, 1);
        assert_eq!((ring.get(99), ring.get(1_000_000), ring.counts.len()), (0, 1, 1));
        assert!(!ring.is_over(1_000_000) && ring.is_over(1_000_061));
    }

    #[test]
    fn older_starts_find_their_place() {
        let mut ring = Ring::default();
        ring.add(5, 1);
        ring.add(2, 1);
        assert_eq!([2, 3, 5].map(|it| ring.get(it)), [1, 0, 1]);
    }
}
