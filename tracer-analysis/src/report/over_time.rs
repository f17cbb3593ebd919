//! What happened over time.

use serde::{Deserialize, Serialize};

use crate::{
    destination::{Aggregate, Course},
    report::Window,
    utc::Utc,
};

/// Connections over time, in buckets of equal length. The lists have an entry for each bucket, from the first
/// in which there was a connection to the last, at most [`Course::BUCKETS`]. All destinations of a report
/// have buckets of the same length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OverTime {
    /// Begin of the first bucket: a multiple of the length (UTC).
    pub start: Utc,
    /// Length of a bucket, in seconds.
    pub bucket_s: u64,
    /// Connections opened in each bucket.
    pub opened: Vec<u64>,
    /// Most connections that existed at one instant of it. The highest is the destination's
    /// `peak_concurrency`, and as exact.
    pub peak_concurrency: Vec<u64>,
    /// Replies with the code 421 in it, in place of the greeting or later; only cleartext tells.
    pub replies_421: Vec<u64>,
}

impl OverTime {
    /// `None` if there was no connection.
    pub(super) fn new(all: &Aggregate, window: &Window) -> Option<Self> {
        let (first, last) = all.timeline.range()?;
        let mut course = all.timeline.course();
        course.merge(&all.replies_421);
        let counted = course.range().unwrap_or((first, last));
        let begin = window.start.micros().min(first).min(counted.0);
        let end = window.end.micros().max(last).max(counted.1);
        let course = course.at_level(Course::level_for(begin, end));
        let width_us = Course::width_s(course.level()) * 1_000_000;
        let index = |at: i64| at.div_euclid(width_us);
        let mine = course.buckets();
        let from = mine.first().map_or(i64::MAX, |it| it.index).min(index(first));
        let to = mine.last().map_or(i64::MIN, |it| it.index).max(index(last));
        let length = usize::try_from(to - from + 1).ok()?;
        let at = |bucket: i64| usize::try_from(bucket - from).unwrap_or(usize::MAX);

        let mut over_time = Self {
            start: Utc::from_micros(from.saturating_mul(width_us)),
            bucket_s: (width_us / 1_000_000).unsigned_abs(),
            opened: vec![0; length],
            peak_concurrency: vec![0; length],
            replies_421: vec![0; length],
        };
        for bucket in mine {
            over_time.opened[at(bucket.index)] = bucket.opened.into();
            over_time.replies_421[at(bucket.index)] = bucket.replies_421.into();
        }
        all.timeline.levels(|first, last, level| {
            let buckets = at(index(first))..=at(index(last));
            for highest in &mut over_time.peak_concurrency[buckets] {
                *highest = level.max(*highest);
            }
        });
        Some(over_time)
    }
}
