//! A bound on messages: so many of a kind and about a destination in a minute; the rest is counted.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// The messages of one kind in the minute at hand.
#[derive(Debug)]
pub(super) struct Limit {
    began: Instant,
    /// Messages let through, by destination: at most [`Self::ALL`] of them.
    passed: HashMap<String, u32>,
    sum: u32,
    held_back: u64,
}

impl Limit {
    /// Messages in a minute.
    pub(super) const ALL: u32 = 20;
    /// Messages about one destination in a minute.
    pub(super) const EACH: u32 = 3;
    const MINUTE: Duration = Duration::from_secs(60);

    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, passed: HashMap::new(), sum: 0, held_back: 0 }
    }

    /// Whether a message about `destination` may be sent; if not, it is counted.
    pub(super) fn lets_through(&mut self, destination: &str) -> bool {
        let said = self.passed.get(destination).copied().unwrap_or(0);
        if self.sum >= Self::ALL || said >= Self::EACH {
            self.held_back += 1;
            return false;
        }
        self.sum += 1;
        *self.passed.entry(destination.to_owned()).or_default() += 1;
        true
    }

    /// Begins the next minute, if this one is over at `now`. Returns how many messages were held back in
    /// it; 0 also if it is not over.
    pub(super) fn next(&mut self, now: Instant) -> u64 {
        if now.saturating_duration_since(self.began) < Self::MINUTE {
            return 0;
        }
        self.end(now)
    }

    /// The same whether or not it is over.
    pub(super) fn end(&mut self, now: Instant) -> u64 {
        std::mem::replace(self, Self::new(now)).held_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_counted() {
        let start = Instant::now();
        let mut limit = Limit::new(start);
        let passed = (0..10).filter(|_| limit.lets_through("mx")).count();
        assert_eq!(passed, 3);
        let others = (0..1_000).filter(|n| limit.lets_through(&n.to_string())).count();
        assert_eq!(others, 17);
        assert_eq!(limit.next(start + Duration::from_secs(59)), 0);
        assert_eq!(limit.next(start + Duration::from_secs(60)), 7 + 983);
        assert!(limit.lets_through("mx"));
        assert_eq!(limit.next(start + Duration::from_secs(200)), 0);
    }
}
