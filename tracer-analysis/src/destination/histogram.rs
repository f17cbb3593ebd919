//! Distributions of measured values, and their summaries.

use std::{fmt, io::Read as _};

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::read::ZlibDecoder;
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer as _, V2DeflateSerializer},
};
use serde::{Deserialize, Serialize};

use crate::destination::{
    bucket::{Bucket, count_in, index_of, union},
    packed::Packed,
};

/// Significant decimal digits of a histogram: a quantile is at most 1 % too high.
const DIGITS: u8 = 2;

/// A set of measured values that answers quantiles, in little memory.
///
/// Up to [`Self::KEPT`] values are kept as they are and quantiles are exact. Beyond that (or above
/// `u32::MAX`, which is 71 minutes in microseconds) values are counted in the buckets of an HDR
/// histogram of two significant digits, of which only those in use take memory; a quantile is then
/// up to 1 % too high, never too low. Count, sum, minimum and maximum are always exact.
#[derive(Clone, Default)]
pub struct Distribution(Values);

#[derive(Clone)]
enum Values {
    /// All of them, each at most `u32::MAX`.
    Kept(Packed),
    Counted(Box<Counted>),
}

const _: () = assert!(size_of::<Values>() == 24, "there are many, most of them empty");

impl Default for Values {
    fn default() -> Self {
        Self::Kept(Packed::default())
    }
}

/// More values than are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counted {
    count: u64,
    sum: u64,
    min: u64,
    max: u64,
    /// Counts by bucket, ascending.
    buckets: Vec<Bucket>,
}

impl PartialEq for Distribution {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Values::Kept(ours), Values::Kept(theirs)) => ours.sorted() == theirs.sorted(),
            (Values::Counted(ours), Values::Counted(theirs)) => ours == theirs,
            _ => false,
        }
    }
}

impl Eq for Distribution {}

/// The same for the same values, in whichever order they came.
impl fmt::Debug for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tuple = f.debug_tuple("Distribution");
        match &self.0 {
            Values::Kept(kept) => tuple.field(&kept.sorted()),
            Values::Counted(counted) => tuple.field(counted),
        };
        tuple.finish()
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
        match &mut self.0 {
            Values::Kept(kept) if value <= u32::MAX.into() && !kept.has(Self::KEPT) => {
                kept.push(value);
            }
            _ => self.count_with(|counted| counted.record(value)),
        }
    }

    /// Adds all values of `other`.
    pub fn merge(&mut self, other: &Self) {
        match (&self.0, &other.0) {
            (Values::Kept(kept), _) if kept.is_empty() => self.clone_from(other),
            (_, Values::Kept(theirs)) => self.extend(theirs.iter()),
            (_, Values::Counted(theirs)) => self.count_with(|counted| counted.merge(theirs)),
        }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        match &self.0 {
            Values::Kept(kept) => kept.len() as u64,
            Values::Counted(counted) => counted.count,
        }
    }

    /// Sum of the values; exact.
    pub fn sum(&self) -> u64 {
        match &self.0 {
            Values::Kept(kept) => kept.iter().sum(),
            Values::Counted(counted) => counted.sum,
        }
    }

    /// How many values are not above `value`, as far as they are told apart: those in the bucket that
    /// `value` falls in (up to 0.8 % above it) count. Further values never make it less.
    pub fn at_most(&self, value: u64) -> u64 {
        let last = index_of(value.min(Self::BOUND));
        match &self.0 {
            Values::Kept(kept) => kept.iter().filter(|kept| index_of(*kept) <= last).count() as u64,
            Values::Counted(counted) => {
                let buckets = counted.buckets.iter().take_while(|bucket| bucket.index() <= last);
                buckets.map(|bucket| bucket.count()).sum()
            }
        }
    }

    /// Smallest value; `None` if there is none.
    pub fn min(&self) -> Option<u64> {
        match &self.0 {
            Values::Kept(kept) => kept.iter().min(),
            Values::Counted(counted) => Some(counted.min),
        }
    }

    /// Largest value; `None` if there is none.
    pub fn max(&self) -> Option<u64> {
        match &self.0 {
            Values::Kept(kept) => kept.iter().max(),
            Values::Counted(counted) => Some(counted.max),
        }
    }

    /// The smallest value that at least the share `q` (0 to 1) of all values does not exceed; `None`
    /// if there are no values.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let [value] = self.quantiles_at([q]);
        value
    }

    fn quantiles_at<const N: usize>(&self, shares: [f64; N]) -> [Option<u64>; N] {
        match &self.0 {
            Values::Kept(kept) => {
                let values = kept.sorted();
                shares.map(|q| values.get(rank(q, values.len())?).copied())
            }
            Values::Counted(counted) => {
                let count = usize::try_from(counted.count).unwrap_or(usize::MAX);
                shares.map(|q| counted.value(rank(q, count)? as u64))
            }
        }
    }

    /// Count, extremes, quantiles, and the histogram itself for export. Takes about 50 µs.
    pub fn summary(&self) -> HistogramSummary {
        HistogramSummary { hdr: self.encode(), ..self.quantiles() }
    }

    /// The same without the histogram.
    pub fn quantiles(&self) -> HistogramSummary {
        let (count, min, max) = (self.count(), self.min(), self.max());
        let [p50, p90, p99] = self.quantiles_at([0.50, 0.90, 0.99]);
        HistogramSummary { count, min, p50, p90, p99, max, hdr: None }
    }

    /// The values in ascending order, as far as they are told apart.
    pub fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        let (kept, counted) = match &self.0 {
            Values::Kept(kept) => (kept.sorted(), None),
            Values::Counted(counted) => (Vec::new(), Some(counted)),
        };
        let kept = kept.into_iter().map(|value| Span { lowest: value, highest: value, count: 1 });
        kept.chain(counted.into_iter().flat_map(|counted| counted.spans()))
    }

    /// Adds to the counts, which the kept values become if they are not.
    fn count_with(&mut self, add: impl FnOnce(&mut Counted)) {
        match &mut self.0 {
            Values::Counted(counted) => add(counted),
            Values::Kept(kept) => {
                let none = Counted { count: 0, sum: 0, min: u64::MAX, max: 0, buckets: Vec::new() };
                let mut counted = Box::new(none);
                kept.iter().for_each(|value| counted.record(value));
                add(&mut counted);
                self.0 = Values::Counted(counted);
            }
        }
    }

    /// The histogram in the V2 deflate format of `HdrHistogram`, in base64; `None` if it is empty.
    fn encode(&self) -> Option<String> {
        let histogram = self.histogram(self.max()?)?;
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&histogram, &mut bytes).ok()?;
        Some(STANDARD.encode(bytes))
    }

    /// As a histogram of that crate. `None` does not happen: it resizes to any value up to
    /// [`Self::BOUND`].
    fn histogram(&self, max: u64) -> Option<Histogram<u64>> {
        let mut histogram = Histogram::new_with_max(max.max(2), DIGITS).ok()?;
        for span in self.spans() {
            histogram.record_n(span.highest, span.count).ok()?;
        }
        Some(histogram)
    }
}

impl Counted {
    fn record(&mut self, value: u64) {
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        count_in(&mut self.buckets, value);
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.buckets = union(&self.buckets, &other.buckets);
    }

    /// The value that `rank` others precede.
    fn value(&self, rank: u64) -> Option<u64> {
        let mut passed = 0;
        let bucket = self.buckets.iter().find(|bucket| {
            passed += bucket.count();
            passed > rank
        })?;
        Some(bucket.highest().clamp(self.min, self.max))
    }

    fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        self.buckets.iter().map(|bucket| Span {
            lowest: bucket.lowest().clamp(self.min, self.max),
            highest: bucket.highest().clamp(self.min, self.max),
            count: bucket.count(),
        })
    }
}

/// How many of `count` values precede the quantile `q`; `None` if there are no values.
fn rank(q: f64, count: usize) -> Option<usize> {
    let last = count.checked_sub(1)?;
    // A rounding error must not lift the rank.
    let rank = (q.clamp(0.0, 1.0) * count as f64 - 1e-6).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of the count; float to integer saturates"
    )]
    let rank = (rank as usize).saturating_sub(1);
    Some(rank.min(last))
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
    /// not in the report, or is not one that [`Distribution::summary`] makes.
    pub fn counts(&self) -> Option<Vec<(u64, u64)>> {
        let packed = STANDARD.decode(self.hdr.as_ref()?).ok()?;
        let bytes = unpacked(&packed)?;
        let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).ok()?;
        let (min, max) = (self.min.unwrap_or(0), self.max.unwrap_or(u64::MAX));
        let value = |value: u64| value.max(min).min(max);
        let recorded = histogram.iter_recorded();
        Some(recorded.map(|it| (value(it.value_iterated_to()), it.count_at_value())).collect())
    }
}

/// Bytes of the largest histogram of [`DIGITS`] digits: nine for each of its buckets.
const LARGEST: usize = 1 << 16;

/// Unpacks a histogram from the V2 deflate format to the V2 format; `None` if it was not made here. A file says how much
/// memory it takes: the lengths and digits in it are checked before the deserializer believes them.
fn unpacked(packed: &[u8]) -> Option<Vec<u8>> {
    const COOKIE: u32 = 0x1c84_9313;
    const COMPRESSED_COOKIE: u32 = 0x1c84_9314;
    let number = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    };
    if number(packed, 0)? != COMPRESSED_COOKIE {
        return None;
    }
    let mut bytes = Vec::new();
    let most = LARGEST as u64 + 1;
    ZlibDecoder::new(packed.get(8..)?).take(most).read_to_end(&mut bytes).ok()?;
    let payload = bytes.len().checked_sub(HEADER)?;
    let lowest_and_highest = bytes.get(16..32)?;
    let highest = u64::from_be_bytes(lowest_and_highest[8..].try_into().ok()?);
    let is_ours = bytes.len() <= LARGEST
        && number(&bytes, 0)? == COOKIE
        && number(&bytes, 4)? as usize == payload
        && number(&bytes, 12)? == u32::from(DIGITS)
        && lowest_and_highest[..8] == 1_u64.to_be_bytes()
        && highest <= 2 * Distribution::BOUND;
    is_ours.then_some(bytes)
}

/// Bytes before the counts of a histogram in the V2 format.
const HEADER: usize = 40;
