//! How many connections were opened, and how often a server said 421, over time.

use crate::{connection::Connection, destination::bucket::reserve_little, utc::Utc};

/// Counts over time in bounded memory.
///
/// Time is cut into buckets of one width, which begin at multiples of it (UTC). Between the first and the
/// last there are at most [`Self::BUCKETS`]: when there would be more, the width grows to the next of a
/// list in which each is a multiple of the one before, and buckets are joined. Only resolution is lost.
/// The result does not depend on the order of the connections.
#[derive(Debug, Clone, Default)]
pub struct Course {
    /// Which width.
    level: usize,
    /// Those in which something happened, ascending.
    buckets: Vec<Bucket>,
}

/// What happened in one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket {
    /// Which: begin since 1970, over the width.
    pub index: i64,
    /// Connections opened.
    pub opened: u32,
    /// Replies with the code 421.
    pub replies_421: u32,
}

/// Widths of buckets in seconds; beyond the last they double.
const WIDTHS_S: [i64; 13] = [1, 2, 10, 30, 60, 120, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400];

impl Course {
    /// Buckets from the first to the last, at most.
    pub const BUCKETS: i64 = 300;
    /// How often the last width doubles: all that microseconds in 64 bits can tell is then in 203 buckets.
    const DOUBLED: usize = 20;

    /// Counts a connection opened at `at`.
    pub fn opened(&mut self, at: Utc) {
        self.count(at, 1, 0);
    }

    /// Counts the 421 replies of a connection.
    pub fn add_replies_421(&mut self, connection: &Connection) {
        match &connection.refusals {
            Some(replies) => {
                for reply in replies.iter().filter(|reply| reply.code == 421) {
                    self.count(connection.start.plus_micros(reply.at_us), 0, 1);
                }
            }
            None if connection.banner_code == Some(421) => {
                let greeted = connection.greeting_us.or(connection.banner_us).unwrap_or(0);
                let after_us = connection.connect_us.unwrap_or(0).saturating_add(greeted);
                self.count(connection.start.plus_micros(after_us), 0, 1);
            }
            None => {}
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        let (Some((first, last)), Some((from, to))) =
            (other.range(), self.range().or(other.range()))
        else {
            return;
        };
        // Wide enough for both before anything is added: an index has a meaning at one width only.
        let enough = Self::level_for(first.min(from), last.max(to));
        let level = enough.max(self.level).max(other.level);
        self.raise_to(level);
        for bucket in other.clone().at_level(level).buckets {
            self.count_in(bucket);
        }
    }

    /// The buckets in which something happened, ascending, with the width of level `level` or, if that is
    /// narrower than they are, their own.
    #[must_use]
    pub fn at_level(mut self, level: usize) -> Self {
        self.raise_to(level);
        self
    }

    /// The buckets in which something happened, ascending.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// Which width they have.
    pub const fn level(&self) -> usize {
        self.level
    }

    /// The width of a level, in seconds.
    pub fn width_s(level: usize) -> i64 {
        let last = WIDTHS_S.len() - 1;
        WIDTHS_S[level.min(last)] << level.saturating_sub(last).min(Self::DOUBLED)
    }

    /// The first level at which the time from `first` to `last`, in microseconds since 1970, has no more
    /// than [`Self::BUCKETS`] buckets.
    pub fn level_for(first: i64, last: i64) -> usize {
        let fits = |level: &usize| {
            let width_us = Self::width_s(*level) * 1_000_000;
            last.div_euclid(width_us) - first.div_euclid(width_us) < Self::BUCKETS
        };
        let widest = WIDTHS_S.len() - 1 + Self::DOUBLED;
        (0..widest).find(fits).unwrap_or(widest)
    }

    /// Begin of the first bucket and end of the last, in microseconds since 1970; `None` if there are none.
    pub fn range(&self) -> Option<(i64, i64)> {
        let width_us = Self::width_s(self.level) * 1_000_000;
        let (first, last) = (self.buckets.first()?, self.buckets.last()?);
        let end = last.index.saturating_mul(width_us).saturating_add(width_us - 1);
        Some((first.index.saturating_mul(width_us), end))
    }

    fn count(&mut self, at: Utc, opened: u32, replies_421: u32) {
        let seconds = at.micros().div_euclid(1_000_000);
        let index = seconds.div_euclid(Self::width_s(self.level));
        self.count_in(Bucket { index, opened, replies_421 });
    }

    /// Adds the counts of a bucket of the width at hand.
    fn count_in(&mut self, bucket: Bucket) {
        match self.buckets.binary_search_by_key(&bucket.index, |it| it.index) {
            Ok(at) => self.buckets[at].add(&bucket),
            Err(at) => {
                reserve_little(&mut self.buckets);
                self.buckets.insert(at, bucket);
                while self.span() > Self::BUCKETS {
                    self.raise_to(self.level + 1);
                }
            }
        }
    }

    /// Buckets from the first to the last.
    fn span(&self) -> i64 {
        match (self.buckets.first(), self.buckets.last()) {
            (Some(first), Some(last)) => last.index - first.index + 1,
            _ => 0,
        }
    }

    fn raise_to(&mut self, level: usize) {
        if level <= self.level {
            return;
        }
        let factor = Self::width_s(level) / Self::width_s(self.level);
        self.level = level;
        for bucket in &mut self.buckets {
            bucket.index = bucket.index.div_euclid(factor.max(1));
        }
        self.buckets.dedup_by(|next, kept| {
            let same = next.index == kept.index;
            if same {
                kept.add(next);
            }
            same
        });
    }
}

impl Bucket {
    fn add(&mut self, other: &Self) {
        self.opened = self.opened.saturating_add(other.opened);
        self.replies_421 = self.replies_421.saturating_add(other.replies_421);
    }
}
