//! The buckets of a histogram, in four bytes each.

/// Buckets of each doubling of the value, as in an HDR histogram of two digits.
const HALF: u64 = 128;

/// A bucket and a count of values in it, in one integer: they sort by bucket, then by count.
///
/// A bucket with more values than fit stands in several, of which only the first is not full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bucket(u32);

impl Bucket {
    /// Bits of the count. The other 13 hold the index: there are 47 times 128 buckets up to
    /// `Distribution::BOUND`.
    const COUNT_BITS: u32 = 19;
    const FULL: u64 = (1 << Self::COUNT_BITS) - 1;

    /// `count` values, at most [`Self::FULL`], in bucket number `index`.
    const fn new(index: u32, count: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the count is at most FULL")]
        Self(
            index << Self::COUNT_BITS
                | (if count > Self::FULL { Self::FULL } else { count }) as u32,
        )
    }

    pub(super) const fn index(self) -> u32 {
        self.0 >> Self::COUNT_BITS
    }

    pub(super) const fn count(self) -> u64 {
        self.0 as u64 & Self::FULL
    }

    /// The smallest value that falls in it.
    pub(super) fn lowest(self) -> u64 {
        let index = u64::from(self.index());
        let shift = (index / HALF).saturating_sub(1);
        (index - shift * HALF) << shift
    }

    /// The largest value that falls in it.
    pub(super) fn highest(self) -> u64 {
        let index = u64::from(self.index());
        let shift = (index / HALF).saturating_sub(1);
        ((index - shift * HALF + 1) << shift) - 1
    }
}

/// Makes room for another item; for less more than `Vec` does, because there are many small ones.
pub(super) fn reserve_little<T>(items: &mut Vec<T>) {
    if items.len() == items.capacity() {
        items.reserve_exact(items.len() / 8 + 4);
    }
}

/// Number of the bucket of a value: below 256 the value itself, above that its 8 leading bits.
pub(super) fn index_of(value: u64) -> u32 {
    let shift = value.checked_ilog2().unwrap_or(0).saturating_sub(HALF.ilog2());
    u32::try_from(u64::from(shift) * HALF + (value >> shift)).unwrap_or(u32::MAX)
}

/// Counts one value in its bucket.
pub(super) fn count_in(buckets: &mut Vec<Bucket>, value: u64) {
    let index = index_of(value);
    let at = buckets.partition_point(|bucket| bucket.index() < index);
    match buckets.get_mut(at) {
        Some(bucket) if bucket.index() == index && bucket.count() < Bucket::FULL => bucket.0 += 1,
        _ => {
            reserve_little(buckets);
            buckets.insert(at, Bucket::new(index, 1));
        }
    }
}

/// The sum of two ascending lists of buckets.
pub(super) fn union(a: &[Bucket], b: &[Bucket]) -> Vec<Bucket> {
    let mut all = [a, b].concat();
    all.sort_unstable();
    let mut sum = Vec::with_capacity(a.len().max(b.len()));
    for same in all.chunk_by(|a, b| a.index() == b.index()) {
        let index = same[0].index();
        let count: u64 = same.iter().map(|bucket| bucket.count()).sum();
        let rest = count % Bucket::FULL;
        sum.extend((rest > 0).then(|| Bucket::new(index, rest)));
        sum.extend((0..count / Bucket::FULL).map(|_| Bucket::new(index, Bucket::FULL)));
    }
    sum
}
