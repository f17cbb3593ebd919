//! How many connections existed at the same time, and how many were opened per minute.

use crate::{
    connection::{Connection, SeenFrom},
    destination::{
        Course,
        minutes::Minutes,
        points::{Point, Points, Step},
    },
    utc::Utc,
};

/// The most connections that existed at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Peak {
    /// How many.
    pub connections: u64,
    /// Whether this is the exact number. If not, it is an upper bound; or, where connections are
    /// involved of which the end is unknown, an estimate.
    pub exact: bool,
}

/// The begin and end of each connection of a set, in bounded memory.
///
/// A connection exists from its start (included) to its end (excluded), at least for one
/// microsecond. When there are more than [`Self::POINTS`] begins and ends, the oldest half of them is
/// folded into blocks, each of which knows only its sum and the highest count within. The further in
/// the past, the larger are the blocks, so their number only grows with the logarithm of that of the
/// connections. Folding loses nothing unless a connection comes later that began or ended inside a
/// block: then the order inside is unknown. The peak is no longer `exact` but an upper bound, too
/// high by about one in [`Self::PRECISION`] if connections come in the order in which they ended.
///
/// A connection that ended before the blocks begins a new run: recordings are read one after the
/// other. Where runs, or timelines that are merged, overlap in blocks, the upper bound is at most the
/// sum of their own peaks.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    points: Points,
    /// `None` until there is too much; so it is with most destinations.
    folded: Option<Box<Folded>>,
    opened: u64,
    inexact: bool,
}

/// What was folded of a [`Timeline`].
#[derive(Debug, Clone, Default)]
struct Folded {
    /// What was folded of this run; all before `points`.
    blocks: Vec<Block>,
    /// All of earlier runs.
    earlier: Vec<Block>,
    /// Of the points that were folded.
    minutes: Minutes,
    /// Connections opened over time, of the points that were folded.
    course: Course,
}

impl Folded {
    fn all_blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter().chain(&self.earlier)
    }
}

impl Timeline {
    /// Begins and ends that are kept before the oldest are folded.
    pub const POINTS: usize = 8192;
    /// One over the size of a block, relative to the begins and ends that came after it: 0.8 %.
    pub const PRECISION: u64 = 128;
    /// Blocks of earlier runs that are kept before they are joined.
    const BLOCKS: usize = 2048;

    /// Adds a connection.
    pub fn add(&mut self, connection: &Connection) {
        match connection.seen_from {
            SeenFrom::Connect => self.opened(connection.start, connection.end()),
            SeenFrom::Midlife => {
                self.seen(connection.start, connection.known_end());
            }
        }
    }

    /// Adds a connection that was opened at `start` and existed until `end`.
    pub fn opened(&mut self, start: Utc, end: Utc) {
        self.opened += 1;
        self.add_points(Point::new(start, Step::Opened), start, end);
    }

    /// Adds a connection that was open already when it was first seen at `start`. It does not count
    /// as opened in that minute. Without a known `end` the peak is an estimate from here on.
    pub fn seen(&mut self, start: Utc, end: Option<Utc>) {
        self.inexact |= end.is_none();
        self.add_points(Point::new(start, Step::Seen), start, end.unwrap_or(start));
    }

    fn add_points(&mut self, begin: Point, start: Utc, end: Utc) {
        let end = Point::new(end.max(start.plus_micros(1)), Step::Ended);
        let folded = self.folded.as_ref().and_then(|folded| folded.blocks.last());
        if folded.is_some_and(|folded| end.at().micros() <= folded.last) {
            self.begin_run();
        }
        for point in [begin, end] {
            self.points.push(point);
        }
        if self.points.len() > Self::POINTS {
            self.fold_to(Self::POINTS / 2, Self::PRECISION);
        }
    }

    /// Adds the connections of `other`. The result can take as much memory as both; see
    /// [`Self::shrink`].
    pub fn merge(&mut self, other: &Self) {
        other.points.iter().for_each(|point| self.points.push(point));
        if let Some(theirs) = &other.folded {
            let folded = self.folded.get_or_insert_default();
            folded.earlier.extend(theirs.all_blocks());
            folded.minutes.merge(&theirs.minutes);
            folded.course.merge(&theirs.course);
        }
        self.opened += other.opened;
        self.inexact |= other.inexact;
    }

    /// Brings the memory back within the limits after a merge.
    pub fn shrink(&mut self) {
        if self.points.len() > Self::POINTS {
            self.fold_to(Self::POINTS / 2, Self::PRECISION);
        }
        if let Some(folded) = &mut self.folded
            && folded.earlier.len() > Self::BLOCKS
        {
            let (blocks, exact) = fold(&folded.earlier, &[], 0, Self::PRECISION);
            folded.earlier = blocks;
            self.inexact |= !exact;
        }
    }

    /// Puts what there is aside as an earlier run.
    fn begin_run(&mut self) {
        self.fold_to(0, Self::PRECISION);
        if let Some(folded) = &mut self.folded {
            folded.earlier.append(&mut folded.blocks);
        }
        self.shrink();
    }

    /// Number of connections opened; those that were open already do not count.
    pub const fn opened_count(&self) -> u64 {
        self.opened
    }

    /// The most connections opened in one minute (UTC-aligned).
    pub fn opened_per_minute_peak(&self) -> u64 {
        let mut minutes =
            self.folded.as_ref().map(|folded| folded.minutes.clone()).unwrap_or_default();
        for point in self.points.iter().filter(|point| point.step() == Step::Opened) {
            minutes.count(point.at());
        }
        minutes.peak()
    }

    /// Connections opened over time.
    pub fn course(&self) -> Course {
        let mut course =
            self.folded.as_ref().map(|folded| folded.course.clone()).unwrap_or_default();
        for point in self.points.iter().filter(|point| point.step() == Step::Opened) {
            course.opened(point.at());
        }
        course
    }

    /// The most connections that existed at the same instant.
    pub fn peak(&self) -> Peak {
        let points = self.points.sorted();
        let (mut level, mut highest) = (0_i64, 0_i64);
        let blocks: Vec<Block> = self.blocks().copied().collect();
        let apart = separate(&blocks, &points, |block| {
            highest = highest.max(level.saturating_add(block.highest));
            level = level.saturating_add(block.sum);
        });
        Peak { connections: u64::try_from(highest).unwrap_or(0), exact: apart && !self.inexact }
    }

    /// When the first connection began and the last one ended, in microseconds since 1970; `None` if there
    /// was none.
    pub fn range(&self) -> Option<(i64, i64)> {
        let blocks = self.blocks().map(|it| (it.first, it.last));
        let points = self.points.iter().map(|it| (it.at().micros(), it.at().micros()));
        blocks.chain(points).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// How many connections existed, in order of time: passes on spans of time, in microseconds since 1970,
    /// both ends included, with the most that existed at an instant of each. Where begins and ends were
    /// folded, a span is as long as the block, and that is an upper bound if [`Self::peak`] is one.
    pub fn levels(&self, mut out: impl FnMut(i64, i64, u64)) {
        let points = self.points.sorted();
        let blocks: Vec<Block> = self.blocks().copied().collect();
        let (mut level, mut since) = (0_i64, None);
        separate(&blocks, &points, |block| {
            if let Some(since) = since.filter(|since| *since < block.first) {
                out(since, block.first - 1, u64::try_from(level).unwrap_or(0));
            }
            let after = level.saturating_add(block.sum);
            // At one instant ends come first, so the last state is the highest.
            let highest =
                if block.is_instant() { after } else { level.saturating_add(block.highest) };
            out(block.first, block.last, u64::try_from(highest).unwrap_or(0));
            (level, since) = (after, Some(block.last));
        });
    }

    /// All that was folded, in no order.
    fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.folded.iter().flat_map(|folded| folded.all_blocks())
    }

    /// Folds all points but the newest `keep` into blocks.
    pub(super) fn fold_to(&mut self, keep: usize, precision: u64) {
        let points = self.points.sorted();
        let cut = points.len().saturating_sub(keep);
        let Some(newest) = cut.checked_sub(1).map(|last| points[last].at()) else { return };
        // Points of one instant stay together: their order is known.
        let cut = points.partition_point(|point| point.at() <= newest);
        let (oldest, kept) = points.split_at(cut);
        let folded = self.folded.get_or_insert_default();
        for point in oldest.iter().filter(|point| point.step() == Step::Opened) {
            folded.minutes.count(point.at());
            folded.course.opened(point.at());
        }
        let (blocks, exact) = fold(&folded.blocks, oldest, kept.len() as u64, precision);
        folded.blocks = blocks;
        self.inexact |= !exact;
        self.points = kept.iter().copied().collect();
    }
}

/// What happened between two instants, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    first: i64,
    last: i64,
    /// By how much the number of connections is higher after it than before.
    sum: i64,
    /// By how much it is higher at most within; at least 0.
    highest: i64,
    /// Begins and ends in it.
    points: u64,
}

impl Block {
    /// The order in which blocks are swept: at one instant, ends before begins.
    const fn order(&self) -> (i64, i64, i64) {
        (self.first, self.last, self.sum)
    }

    const fn is_instant(&self) -> bool {
        self.first == self.last
    }

    /// Both, `next` happening after this one.
    fn then(self, next: Self) -> Self {
        Self {
            last: next.last,
            sum: self.sum.saturating_add(next.sum),
            highest: self.highest.max(self.sum.saturating_add(next.highest)),
            points: self.points + next.points,
            ..self
        }
    }

    /// Both, in an unknown order: `highest` is an upper bound.
    fn among(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            sum: self.sum.saturating_add(other.sum),
            highest: self.highest.saturating_add(other.highest),
            points: self.points + other.points,
        }
    }

    /// An upper bound of this block made of two instants: all the way up at its first, down at its
    /// last.
    fn envelope(self) -> [Self; 2] {
        let half = self.points / 2;
        [
            Self { last: self.first, sum: self.highest, points: half, ..self },
            Self {
                first: self.last,
                sum: self.sum.saturating_sub(self.highest),
                highest: 0,
                points: self.points - half,
                ..self
            },
        ]
    }
}

impl From<Point> for Block {
    fn from(point: Point) -> Self {
        let at = point.at().micros();
        let sum = if point.step() == Step::Ended { -1 } else { 1 };
        Self { first: at, last: at, sum, highest: sum.max(0), points: 1 }
    }
}

/// Blocks and points (sorted) as blocks that do not overlap and grow larger with age; and whether
/// that lost nothing. `newer` points came after them.
fn fold(blocks: &[Block], points: &[Point], newer: u64, precision: u64) -> (Vec<Block>, bool) {
    let mut apart = Vec::with_capacity(blocks.len() + points.len());
    let exact = separate(blocks, points, |block| apart.push(block));
    (condense(&apart, newer, precision), exact)
}

/// Passes blocks and points (sorted) on to `out` in order of time, as blocks that do not overlap.
/// Returns whether that was possible without losing anything.
fn separate(blocks: &[Block], points: &[Point], mut out: impl FnMut(Block)) -> bool {
    let (blocks, mut exact) = without_overlaps(blocks);
    let mut blocks = blocks.into_iter().peekable();
    let mut points = points.iter().map(|&point| Block::from(point)).peekable();
    let mut before: Option<Block> = None;
    loop {
        let point_first = match (points.peek(), blocks.peek()) {
            (Some(point), Some(block)) => point.order() <= block.order(),
            (point, _) => point.is_some(),
        };
        let Some(next) = (if point_first { points.next() } else { blocks.next() }) else { break };
        before = Some(match before {
            Some(block) if next.first > block.last => {
                out(block);
                next
            }
            Some(block) if block.is_instant() && next.is_instant() => block.then(next),
            Some(block) => {
                exact = false;
                block.among(next)
            }
            None => next,
        });
    }
    if let Some(block) = before {
        out(block);
    }
    exact
}

/// Blocks in order, of which those longer than an instant do not overlap each other; and whether
/// they did not before. Where two overlap, the one that ends later becomes two instants.
fn without_overlaps(blocks: &[Block]) -> (Vec<Block>, bool) {
    let mut long: Vec<Block> = blocks.iter().copied().filter(|block| !block.is_instant()).collect();
    let mut apart: Vec<Block> = blocks.iter().copied().filter(Block::is_instant).collect();
    long.sort_unstable_by_key(Block::order);
    let mut exact = true;
    let mut before: Option<Block> = None;
    for block in long {
        let Some(earlier) = before.filter(|earlier| block.first <= earlier.last) else {
            apart.extend(before.replace(block));
            continue;
        };
        exact = false;
        let (kept, split) =
            if earlier.last <= block.last { (earlier, block) } else { (block, earlier) };
        apart.extend(split.envelope());
        before = Some(kept);
    }
    apart.extend(before);
    apart.sort_unstable_by_key(Block::order);
    (apart, exact)
}

/// Joins neighbours as long as the block has no more than one in `precision` of the points that came
/// after it; `newer` is how many came after the last.
fn condense(blocks: &[Block], mut newer: u64, precision: u64) -> Vec<Block> {
    let mut joined: Vec<Block> = Vec::new();
    for &block in blocks.iter().rev() {
        match joined.last_mut() {
            Some(next) if next.points + block.points <= newer / precision => {
                *next = block.then(*next);
            }
            next => {
                newer += next.map_or(0, |next| next.points);
                joined.push(block);
            }
        }
    }
    joined.reverse();
    joined
}
