//! Distributions of measured values, and their summaries.

use base64::{Engine, engine::general_purpose::STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer as _, V2DeflateSerializer},
};
use serde::{Deserialize, Serialize};

/// Significant decimal digits of a histogram: a quantile is at most 1 % too high.
const DIGITS: u8 = 2;

/// Buckets of each doubling of the value, as in an HDR histogram of two digits.
const HALF: u64 = 128;

/// A set of measured values that answers quantiles, in little memory.
///
/// Up to [`Self::KEPT`] values are kept as they are and quantiles are exact. Beyond that (or above
/// `u32::MAX`, which is 71 minutes in microseconds) values are counted in the buckets of an HDR
/// histogram of two significant digits, of which only those in use take memory; a quantile is then
/// up to 1 % too high, never too low. Count, sum, minimum and maximum are always exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    count: u64,
    sum: u64,
    min: u64,
    max: u64,
    /// All values, ascending; empty once there are buckets.
    kept: Vec<u32>,
    /// Counts by bucket, ascending; empty while the values are kept.
    buckets: Vec<Bucket>,
}

impl Default for Distribution {
    fn default() -> Self {
        Self { count: 0, sum: 0, min: u64::MAX, max: 0, kept: Vec::new(), buckets: Vec::new() }
    }
}

impl Distribution {
    /// Values that are kept as they are before counting in buckets begins.
    pub const KEPT: usize = 128;

    /// Larger values count as this one: the largest integer that every JSON reader keeps (285 years
    /// in microseconds).
    pub const BOUND: u64 = (1 << 53) - 1;

    /// Adds a value.
    pub fn record(&mut self, value: u64) {
        let value = value.min(Self::BOUND);
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        match u32::try_from(value) {
            Ok(small) if self.buckets.is_empty() && self.kept.len() < Self::KEPT => {
                let at = self.kept.partition_point(|&other| other <= small);
                reserve_little(&mut self.kept);
                self.kept.insert(at, small);
            }
            _ => {
                self.count_kept();
                count_in(&mut self.buckets, value);
            }
        }
    }

    /// Adds all values of `other`.
    pub fn merge(&mut self, other: &Self) {
        if self.count == 0 {
            self.clone_from(other);
            return;
        }
        if other.buckets.is_empty() {
            for &value in &other.kept {
                self.record(value.into());
            }
            return;
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.count_kept();
        self.buckets = union(&self.buckets, &other.buckets);
    }

    /// How many values there are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Sum of the values; exact.
    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// How many values are not above `value`, as far as they are told apart: those in the bucket that
    /// `value` falls in (up to 0.8 % above it) count. Further values never make it less.
    pub fn at_most(&self, value: u64) -> u64 {
        let last = index_of(value.min(Self::BOUND));
        let kept = self.kept.partition_point(|&kept| index_of(kept.into()) <= last);
        let buckets = self.buckets.iter().take_while(|bucket| bucket.index() <= last);
        kept as u64 + buckets.map(|bucket| bucket.count()).sum::<u64>()
    }

    /// Smallest value; `None` if there is none.
    pub const fn min(&self) -> Option<u64> {
        if self.count == 0 { None } else { Some(self.min) }
    }

    /// Largest value; `None` if there is none.
    pub const fn max(&self) -> Option<u64> {
        if self.count == 0 { None } else { Some(self.max) }
    }

    /// The smallest value that at least the share `q` (0 to 1) of all values does not exceed; `None`
    /// if there are no values.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let last = self.count.checked_sub(1)?;
        // A rounding error must not lift the rank.
        let rank = (q.clamp(0.0, 1.0) * self.count as f64 - 1e-6).ceil();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of the count; float to integer saturates"
        )]
        let rank = (rank as u64).saturating_sub(1);
        let rank = rank.min(last);
        if self.buckets.is_empty() {
            return self.kept.get(usize::try_from(rank).ok()?).map(|&value| value.into());
        }
        let mut passed = 0;
        let bucket = self.buckets.iter().find(|bucket| {
            passed += bucket.count();
            passed > rank
        })?;
        Some(bucket.highest().clamp(self.min, self.max))
    }

    /// Count, extremes, quantiles, and the histogram itself for export. Takes about 50 µs.
    pub fn summary(&self) -> HistogramSummary {
        HistogramSummary { hdr: self.encode(), ..self.quantiles() }
    }

    /// The same without the histogram.
    pub fn quantiles(&self) -> HistogramSummary {
        HistogramSummary {
            count: self.count,
            min: self.min(),
            p50: self.quantile(0.50),
            p90: self.quantile(0.90),
            p99: self.quantile(0.99),
            max: self.max(),
            hdr: None,
        }
    }

    /// The values in ascending order, as far as they are told apart.
    pub fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        let kept = self.kept.iter().map(|&value| {
            let value = value.into();
            Span { lowest: value, highest: value, count: 1 }
        });
        kept.chain(self.buckets.iter().map(|bucket| Span {
            lowest: bucket.lowest().clamp(self.min, self.max),
            highest: bucket.highest().clamp(self.min, self.max),
            count: bucket.count(),
        }))
    }

    /// Turns the kept values into counts.
    fn count_kept(&mut self) {
        for value in std::mem::take(&mut self.kept) {
            count_in(&mut self.buckets, value.into());
        }
    }

    /// The histogram in the V2 deflate format of `HdrHistogram`, in base64; `None` if it is empty.
    fn encode(&self) -> Option<String> {
        self.max()?;
        let histogram = self.histogram()?;
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&histogram, &mut bytes).ok()?;
        Some(STANDARD.encode(bytes))
    }

    /// As a histogram of that crate. `None` does not happen: it resizes to any value up to
    /// [`Self::BOUND`].
    fn histogram(&self) -> Option<Histogram<u64>> {
        let mut histogram = Histogram::new_with_max(self.max.max(2), DIGITS).ok()?;
        for &value in &self.kept {
            histogram.record(value.into()).ok()?;
        }
        for bucket in &self.buckets {
            let value = bucket.highest().clamp(self.min, self.max);
            histogram.record_n(value, bucket.count()).ok()?;
        }
        Some(histogram)
    }
}

impl Extend<u64> for Distribution {
    fn extend<T: IntoIterator<Item = u64>>(&mut self, values: T) {
        for value in values {
            self.record(value);
        }
    }
}

/// Values of a [`Distribution`] that are not told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// None is smaller.
    pub lowest: u64,
    /// None is larger; at most 0.8 % above `lowest`.
    pub highest: u64,
    /// How many there are.
    pub count: u64,
}

/// A distribution in a report. Values have the unit of the field's name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HistogramSummary {
    /// How many values there are. The other fields are `null` if there are none.
    pub count: u64,
    /// Smallest value.
    pub min: Option<u64>,
    /// Half of the values are not above this one.
    pub p50: Option<u64>,
    /// 90 % of the values are not above this one.
    pub p90: Option<u64>,
    /// 99 % of the values are not above this one.
    pub p99: Option<u64>,
    /// Largest value.
    pub max: Option<u64>,
    /// `HdrHistogram` of two significant digits, V2 deflate format, in base64; `null` also if it was
    /// not asked for.
    pub hdr: Option<String>,
}

impl HistogramSummary {
    /// Values and how often each occurs, ascending, each at most 1 % too high; `None` if the histogram is
    /// not in the report, or is not one.
    pub fn counts(&self) -> Option<Vec<(u64, u64)>> {
        let bytes = STANDARD.decode(self.hdr.as_ref()?).ok()?;
        let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).ok()?;
        let (min, max) = (self.min.unwrap_or(0), self.max.unwrap_or(u64::MAX));
        let value = |value: u64| value.max(min).min(max);
        let recorded = histogram.iter_recorded();
        Some(recorded.map(|it| (value(it.value_iterated_to()), it.count_at_value())).collect())
    }
}

/// A bucket and a count of values in it, in one integer: they sort by bucket, then by count.
///
/// A bucket with more values than fit stands in several, of which only the first is not full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Bucket(u32);

impl Bucket {
    /// Bits of the count. The other 13 hold the index: there are 47 times 128 buckets up to
    /// [`Distribution::BOUND`].
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

    const fn index(self) -> u32 {
        self.0 >> Self::COUNT_BITS
    }

    const fn count(self) -> u64 {
        self.0 as u64 & Self::FULL
    }

    /// The smallest value that falls in it.
    fn lowest(self) -> u64 {
        let index = u64::from(self.index());
        let shift = (index / HALF).saturating_sub(1);
        (index - shift * HALF) << shift
    }

    /// The largest value that falls in it.
    fn highest(self) -> u64 {
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
fn index_of(value: u64) -> u32 {
    let shift = value.checked_ilog2().unwrap_or(0).saturating_sub(HALF.ilog2());
    u32::try_from(u64::from(shift) * HALF + (value >> shift)).unwrap_or(u32::MAX)
}

/// Counts one value in its bucket.
fn count_in(buckets: &mut Vec<Bucket>, value: u64) {
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
fn union(a: &[Bucket], b: &[Bucket]) -> Vec<Bucket> {
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
