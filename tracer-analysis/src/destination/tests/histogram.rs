use base64::{Engine, engine::general_purpose::STANDARD};
use hdrhistogram::{Histogram, serialization::Deserializer};
use proptest::prelude::*;

use crate::destination::{Distribution, HistogramSummary};

fn distribution(values: &[u64]) -> Distribution {
    let mut distribution = Distribution::default();
    distribution.extend(values.iter().copied());
    distribution
}

fn decode(summary: &HistogramSummary) -> Histogram<u64> {
    let bytes = STANDARD.decode(summary.hdr.as_ref().unwrap()).unwrap();
    Deserializer::new().deserialize(&mut &bytes[..]).unwrap()
}

#[test]
fn nothing_is_null() {
    let summary = Distribution::default().summary();
    assert_eq!(summary, HistogramSummary::default());
    assert_eq!((summary.count, summary.min, summary.p99, summary.hdr), (0, None, None, None));
}

#[test]
fn few_values_are_exact() {
    let summary = distribution(&[100_001, 7, 100_003, 0]).summary();
    assert_eq!(summary.count, 4);
    assert_eq!((summary.min, summary.max), (Some(0), Some(100_003)));
    assert_eq!((summary.p50, summary.p90, summary.p99), (Some(7), Some(100_003), Some(100_003)));
    assert_eq!(decode(&summary).len(), 4);
}

#[test]
fn zeros_and_extremes_count() {
    let zeros = distribution(&[0; 200]).summary();
    assert_eq!((zeros.count, zeros.p50, zeros.max), (200, Some(0), Some(0)));
    assert_eq!(decode(&zeros).len(), 200);
    let huge = distribution(&[u64::MAX, 1]).summary();
    assert_eq!(huge.max, Some(Distribution::BOUND));
    assert_eq!(huge.p99, Some(Distribution::BOUND));
    assert_eq!(decode(&huge).len(), 2);
}

#[test]
fn odd_shares_are_clamped() {
    let values = distribution(&[1, 2, 3]);
    assert_eq!(values.quantile(-1.0), Some(1));
    assert_eq!(values.quantile(2.0), Some(3));
    assert_eq!(values.quantile(f64::NAN), Some(1));
}

fn any_values() -> impl Strategy<Value = Vec<u64>> {
    let value = prop_oneof![0..1_000_u64, 0..100_000_000_u64, any::<u64>().prop_map(|v| v >> 11)];
    prop::collection::vec(value, 1..600)
}

proptest! {
    #[test]
    fn quantiles_are_at_most_one_percent_high(mut values in any_values(), permille in 0..=1000_u16) {
        let measured = distribution(&values);
        values.sort_unstable();
        let rank = (usize::from(permille) * values.len()).div_ceil(1000).max(1);
        let expected = values[rank - 1];
        let got = measured.quantile(f64::from(permille) / 1000.0).unwrap();
        prop_assert!(got >= expected && got - expected <= expected / 100, "{got} for {expected}");
        prop_assert_eq!(measured.min(), values.first().copied());
        prop_assert_eq!(measured.max(), values.last().copied());
    }

    #[test]
    fn merging_is_recording_all_in_any_order(values in any_values(), cut in any::<prop::sample::Index>()) {
        let (a, b) = values.split_at(cut.index(values.len()));
        let mut forwards = distribution(a);
        forwards.merge(&distribution(b));
        let mut backwards = distribution(b);
        backwards.merge(&distribution(a));
        prop_assert_eq!(&forwards, &distribution(&values));
        prop_assert_eq!(&forwards, &backwards);
    }

    #[test]
    fn the_exported_histogram_says_the_same(values in any_values()) {
        let summary = distribution(&values).summary();
        let histogram = decode(&summary);
        prop_assert_eq!(histogram.len(), summary.count);
        for (q, value) in [(0.5, summary.p50), (0.9, summary.p90), (0.99, summary.p99)] {
            let (theirs, ours) = (histogram.value_at_quantile(q) as f64, value.unwrap() as f64);
            prop_assert!((theirs - ours).abs() <= ours / 100.0, "{theirs} for {ours}");
        }
    }
}

#[test]
fn buckets_overflow_into_others() {
    let million = distribution(&vec![1_000; 1_200_000]);
    assert_eq!(million.quantile(1.0), Some(1_000));
    let mut twice = million.clone();
    twice.merge(&million);
    assert_eq!((twice.count(), decode(&twice.summary()).len()), (2_400_000, 2_400_000));
    assert_eq!(twice, distribution(&vec![1_000; 2_400_000]));
}

#[test]
fn exported_counts_can_be_read_again() {
    let mut distribution = Distribution::default();
    distribution.extend([0, 1, 1, 200, 5_000_000_000]);
    let summary = distribution.summary();
    let counts = summary.counts().unwrap();
    assert_eq!(counts[..3], [(0, 1), (1, 2), (200, 1)]);
    assert_eq!(counts[3..], [(5_000_000_000, 1)]);
    assert_eq!(distribution.quantiles().counts(), None, "not exported");
    let broken = HistogramSummary { hdr: Some("HISTFAAAA".to_owned()), ..summary };
    assert_eq!(broken.counts(), None);
}

proptest! {
    /// Values at or below an edge are counted, also when they are no longer kept one by one; those counted
    /// in addition are at most 0.8 % above it.
    #[test]
    fn cumulative_counts_are_steady(
        values in prop::collection::vec(0..20_000_u64, 1..400),
        edge in 1..20_000_u64,
    ) {
        let mut distribution = Distribution::default();
        let mut before = 0;
        for (n, value) in (1..).zip(&values) {
            distribution.record(*value);
            let now = distribution.at_most(edge);
            prop_assert!(now >= before);
            before = now;
            let seen = &values[..n];
            let exactly = seen.iter().filter(|value| **value <= edge).count() as u64;
            let at_most = seen.iter().filter(|value| **value <= edge + edge / 128 + 1).count() as u64;
            prop_assert!((exactly..=at_most).contains(&now), "{exactly} {now} {at_most}");
            prop_assert_eq!(distribution.sum(), seen.iter().sum::<u64>());
        }
    }
}

/// A file says how much memory a histogram takes: it is not believed.
#[test]
fn a_histogram_that_claims_much_is_none() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use hdrhistogram::{Histogram, serialization::Serializer as _};

    let summary = |bytes: &[u8]| HistogramSummary {
        hdr: Some(STANDARD.encode(bytes)),
        ..HistogramSummary::default()
    };
    let written = |histogram: &Histogram<u64>| {
        let mut bytes = Vec::new();
        let mut writer = hdrhistogram::serialization::V2DeflateSerializer::new();
        writer.serialize(histogram, &mut bytes).unwrap();
        bytes
    };
    let mut ours = Histogram::new_with_max(1_000, 2).unwrap();
    ours.record(7).unwrap();
    assert_eq!(summary(&written(&ours)).counts(), Some(vec![(7, 1)]));
    let mut large = Histogram::new_with_max(Distribution::BOUND, 5).unwrap();
    large.record(7).unwrap();
    assert_eq!(summary(&written(&large)).counts(), None, "five digits take 30 MB");

    let mut plain = Vec::new();
    hdrhistogram::serialization::V2Serializer::new().serialize(&ours, &mut plain).unwrap();
    plain[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(summary(&plain).counts(), None);
    // The same behind compression, and one that grows to a gigabyte.
    for inflated in [plain, vec![0; 4 << 20]] {
        let mut packed = [0x1c84_9314_u32, 0].map(u32::to_be_bytes).concat();
        let mut writer =
            flate2::write::ZlibEncoder::new(&mut packed, flate2::Compression::default());
        std::io::Write::write_all(&mut writer, &inflated).unwrap();
        writer.finish().unwrap();
        assert_eq!(summary(&packed).counts(), None);
    }
}
