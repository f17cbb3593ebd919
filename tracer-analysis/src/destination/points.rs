//! Begins and ends of connections.

use crate::{destination::packed::Deltas, utc::Utc};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Ended,
    Seen,
    Opened,
}

/// An instant and what happened then, in one integer: they sort by time, ends before begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point(i64);

impl Point {
    pub(super) fn new(at: Utc, step: Step) -> Self {
        Self((at.micros().clamp(i64::MIN >> 2, i64::MAX >> 2) << 2) | step as i64)
    }

    pub(super) const fn at(self) -> Utc {
        Utc::from_micros(self.0 >> 2)
    }

    pub(super) const fn step(self) -> Step {
        match self.0 & 3 {
            0 => Step::Ended,
            1 => Step::Seen,
            _ => Step::Opened,
        }
    }
}

/// Points in the order in which they were added.
#[derive(Debug, Clone, Default)]
pub(super) struct Points(Deltas<0>);

impl Points {
    pub(super) fn push(&mut self, point: Point) {
        self.0.push(point.0, []);
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Point> + '_ {
        self.0.iter().map(|(point, [])| Point(point))
    }

    pub(super) fn sorted(&self) -> Vec<Point> {
        let mut points: Vec<Point> = self.iter().collect();
        points.sort_unstable();
        points
    }
}

impl FromIterator<Point> for Points {
    fn from_iter<T: IntoIterator<Item = Point>>(points: T) -> Self {
        Self(points.into_iter().map(|point| (point.0, [])).collect())
    }
}
