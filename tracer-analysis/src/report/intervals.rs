//! Distributions by interval: what the connections that ended within each had in common.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    connection::Connection,
    destination::{Distribution, Fold, Group, Grouping},
    report::{Histograms, TOTAL, Window},
    utc::Utc,
};

/// Connections by the interval in which they ended (or tracing did), until the interval is taken out.
///
/// Intervals begin at multiples of their length since 1970, so those of many hosts fall together. Only
/// the first and the last are shorter: they begin and end with the trace.
///
/// A connection whose interval has been taken out already begins it anew: the distributions of one
/// interval may come in several pieces, which add up.
#[derive(Debug)]
pub struct Intervals {
    length_us: i64,
    by: Grouping,
    max_destinations: usize,
    start: Option<Utc>,
    held: BTreeMap<i64, Fold>,
    connections: usize,
}

/// One interval that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Interval {
    /// When it was.
    pub window: Window,
    /// The distributions of all destinations together, under the key `total`, then of each.
    pub destinations: Vec<(String, Histograms)>,
}

impl Intervals {
    /// Intervals, and connections in them, that are held before the oldest is to be taken out.
    pub const HELD: (usize, usize) = (1_024, 50_000);

    /// Intervals of `length`, with destinations `by`, of which `max_destinations` are kept apart in each.
    pub fn new(length: Duration, by: impl Into<Grouping>, max_destinations: usize) -> Self {
        let length_us = i64::try_from(length.as_micros()).unwrap_or(i64::MAX).max(1);
        let (by, held, connections) = (by.into(), BTreeMap::new(), 0);
        Self { length_us, by, max_destinations, start: None, held, connections }
    }

    /// Tells when a trace began. Of several the first counts.
    pub fn begin(&mut self, start: Utc) {
        self.start = Some(self.start.map_or(start, |known| known.min(start)));
    }

    /// When the first trace began, as far as that was told.
    pub const fn start(&self) -> Option<Utc> {
        self.start
    }

    /// Adds one connection.
    pub fn add(&mut self, connection: &Connection) {
        let number = connection.end().micros().div_euclid(self.length_us);
        let fold = self.held.entry(number).or_insert_with(|| Fold::new(self.max_destinations));
        fold.add(connection);
        self.connections += 1;
    }

    /// Takes out an interval that was over at `now`, the oldest first; `None` if there is none.
    pub fn over(&mut self, now: Utc) -> Option<Interval> {
        let number = *self.held.keys().next()?;
        let end = number.saturating_add(1).saturating_mul(self.length_us);
        if end <= now.micros() { self.take_first(None) } else { None }
    }

    /// Takes out the oldest interval, if so many are held that memory must be given back.
    pub fn surplus(&mut self) -> Option<Interval> {
        let (intervals, connections) = Self::HELD;
        let many = self.held.len() > intervals || self.connections > connections;
        if many && self.held.len() > 1 { self.take_first(None) } else { None }
    }

    /// Takes out the oldest interval of a trace that ended at `end`.
    pub fn last(&mut self, end: Utc) -> Option<Interval> {
        self.take_first(Some(end))
    }

    fn take_first(&mut self, end: Option<Utc>) -> Option<Interval> {
        let (number, fold) = self.held.pop_first()?;
        let total = fold.total(TOTAL);
        self.connections -= usize::try_from(total.all.connections).unwrap_or(usize::MAX);
        let all = std::iter::once(total).chain(fold.groups(self.by));
        let destinations =
            all.map(|Group { key, all, .. }| (key, Histograms::new(&all, Distribution::summary)));
        Some(Interval { window: self.window(number, end), destinations: destinations.collect() })
    }

    /// When the interval was, without what lies outside of the trace.
    fn window(&self, number: i64, trace_end: Option<Utc>) -> Window {
        let begin = number.saturating_mul(self.length_us);
        let (begin, end) =
            (Utc::from_micros(begin), Utc::from_micros(begin.saturating_add(self.length_us)));
        let begin = self.start.filter(|start| (begin..end).contains(start)).unwrap_or(begin);
        let end = trace_end.filter(|last| (begin..end).contains(last)).unwrap_or(end);
        Window::new(begin, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    fn connection(end_s: i64) -> Connection {
        let line = serde_json::json!({
            "schema": 1, "id": "0000000000000001", "host": "mx1", "start": "1970-01-01T00:00:00Z",
            "seen_from": "connect", "family": "ipv4", "src": "192.0.2.200", "dst": "192.0.2.25",
            "dport": 25, "transactions_exact": false, "end_cause": "local_fin", "connect_us": 1_000,
            "lifetime_us": end_s * S,
        });
        serde_json::from_value(line).unwrap()
    }

    fn of(ends_s: &[i64]) -> Intervals {
        let mut intervals =
            Intervals::new(Duration::from_secs(10), crate::destination::GroupBy::Address, 100);
        intervals.begin(Utc::from_micros(13 * S));
        for end in ends_s {
            intervals.add(&connection(*end));
        }
        intervals
    }

    /// Begin, length and connections.
    fn seen(interval: &Interval) -> (i64, f64, u64) {
        let [(total, all), (key, one)] = &interval.destinations[..] else { panic!("{interval:?}") };
        assert_eq!((total.as_str(), key.as_str()), ("total", "192.0.2.25"));
        assert_eq!(all, one);
        assert!(all.connect_us.hdr.is_some());
        (interval.window.start.micros() / S, interval.window.duration_s, all.connect_us.count)
    }

    #[test]
    fn connections_go_by_their_end() {
        let mut intervals = of(&[15, 19, 20, 41, 44]);
        assert_eq!(intervals.over(Utc::from_micros(19 * S)), None);
        let now = Utc::from_micros(30 * S);
        assert_eq!(intervals.over(now).as_ref().map(seen), Some((13, 7.0, 2)));
        assert_eq!(intervals.over(now).as_ref().map(seen), Some((20, 10.0, 1)));
        assert_eq!(intervals.over(now), None);
        let end = Utc::from_micros(45 * S);
        assert_eq!(intervals.last(end).as_ref().map(seen), Some((40, 5.0, 2)));
        assert_eq!(intervals.last(end), None);
    }

    #[test]
    fn late_ones_begin_their_interval_anew() {
        let mut intervals = of(&[15]);
        let now = Utc::from_micros(100 * S);
        assert!(intervals.over(now).is_some());
        intervals.add(&connection(16));
        assert_eq!(intervals.over(now).as_ref().map(seen), Some((13, 7.0, 1)));
    }

    #[test]
    fn memory_is_bounded() {
        let (mut intervals, mut taken) = (of(&[]), 0);
        let many = Intervals::HELD.0 + 5;
        for n in 0..i64::try_from(many).unwrap() {
            intervals.add(&connection(n * 10));
            taken += usize::from(intervals.surplus().is_some());
        }
        assert_eq!((taken, intervals.held.len()), (5, Intervals::HELD.0));
    }
}
