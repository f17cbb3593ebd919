use super::{
    estimate::{Counts, Estimate, at_share, chance, difference, holm},
    *,
};
use crate::{
    connection::{Connection, EndCause},
    destination::{Fold, GroupBy, sample},
    recording::Trust,
    report::{Context, Report},
    utc::Utc,
};

/// The numbers of `SplitMix64`, which are good enough for sampling and the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between 0 and 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About log-normal around `middle`.
    fn time(&mut self, middle: f64) -> u64 {
        let normal: f64 = (0..12).map(|_| self.unit()).sum::<f64>() - 6.0;
        whole(middle * (normal * 0.5).exp())
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and small")]
fn whole(value: f64) -> u64 {
    value as u64
}

fn share(part: u64, all: u64) -> Estimate {
    Estimate::share(part, all).unwrap()
}

/// For numbers that are worked out by hand.
fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 5e-4, "{found} is not {expected}");
}

#[test]
fn difference_of_shares_is_newcombes() {
    // Newcombe (1998), Statistics in Medicine 17, p. 873, method 10 for 56/70 - 48/80: 0.0524 to 0.3339.
    let of = |part, n: u64| Estimate::Share { share: part / n as f64, observations: n as f64 };
    let (low, high) = difference(&of(48.0, 80), &of(56.0, 70), 1.959_964);
    near(low, 0.0524);
    near(high, 0.3339);
    // And 9/10 - 3/10: 0.1705 to 0.8090.
    let (low, high) = difference(&of(3.0, 10), &of(9.0, 10), 1.959_964);
    near(low, 0.1705);
    near(high, 0.8090);
    // One independent observation for four connections.
    let four = difference(&share(48 * 4, 80 * 4), &share(56 * 4, 70 * 4), 1.959_964);
    near(four.0, 0.0524);
}

#[test]
fn nothing_is_certain_at_the_ends() {
    assert!(chance(&share(0, 20), &share(0, 20)) > 0.999);
    assert!(chance(&share(0, 20), &share(2, 20)) > 0.1);
    assert!(chance(&share(0, 400), &share(400, 400)) < 1e-6);
    assert_eq!(Estimate::share(0, 0), None);
}

#[test]
fn a_quantile_lies_between_order_statistics() {
    // 400 values count as 100 observations. The median lies within 10.3 ranks of 100 (1.96 * 5 + 0.5).
    let counts: Counts = (1..=400).map(|value| (value * 1_000_000, 1)).collect();
    assert_eq!(at_share(&counts, 0.5), 200_000_000);
    let median = Estimate::quantile(0.5, &counts).unwrap();
    let nothing = Estimate::quantile(0.5, &vec![(0, 1_000_000)]).unwrap();
    let (low, high) = difference(&nothing, &median, 1.959_964);
    // Ranks 39.7 and 60.3 of 100, and one per cent for the histogram.
    near(low / 1e6, 159.0 * 0.99);
    near(high / 1e6, 242.0 * 1.01);
    // No limit beyond the largest value: so no difference can be claimed.
    let last = Estimate::quantile(0.99, &counts).unwrap();
    assert!(difference(&nothing, &last, 1.959_964).1.is_infinite());
}

#[test]
fn values_that_a_histogram_cannot_tell_apart_do_not_differ() {
    let of = |value| Estimate::quantile(0.5, &vec![(value, 1_000_000)]).unwrap();
    assert!(chance(&of(1_000_000), &of(1_009_000)) > 0.999);
    assert!(chance(&of(1_000_000), &of(1_030_000)) < 1e-6);
    // Small ones are exact.
    assert!(chance(&of(2), &of(3)) < 1e-6);
}

#[test]
fn holm_corrects_for_the_number_of_rows() {
    let corrected = holm(&[0.01, 0.04, 0.03, 0.005]);
    for (found, expected) in corrected.into_iter().zip([0.03, 0.06, 0.06, 0.02]) {
        near(found, expected);
    }
    assert_eq!(holm(&[0.9, 0.6]), [1.0, 1.0]);
    assert_eq!(holm(&[]), Vec::<f64>::new());
}

/// A day at one server: sessions with a few messages, of which some die.
fn day(random: &mut Random, connections: usize, alike: usize, slower: f64) -> Report {
    let mut fold = Fold::new(10);
    for i in 0..connections.div_ceil(alike) {
        let start = i64::try_from(i).unwrap() * 1_000_000;
        let dst = ["192.0.2.1", "192.0.2.2"][i % 2];
        let messages = if random.unit() < 0.6 { 1 } else { (random.next() % 8) as u32 };
        let begin = random.time(300_000.0);
        let mut one = Connection {
            connect_us: Some(random.time(20_000.0 * slower)),
            banner_us: Some(random.time(150_000.0)),
            greeting_us: Some(random.time(160_000.0)),
            tls_handshake_us: Some(random.time(40_000.0)),
            transactions: Some(messages),
            transactions_exact: true,
            transaction_spans_us: Some(vec![[begin, begin + random.time(90_000.0)]]),
            ..sample::connection(dst, start, random.time(2_000_000.0))
        };
        if random.unit() < 0.05 {
            one.end_cause = EndCause::RstReceived;
        }
        if random.unit() < 0.08 {
            one = sample::failed(dst, start, 1_000, "ECONNREFUSED");
        }
        (0..alike).for_each(|_| fold.add(&one));
    }
    report(&fold, GroupBy::Address)
}

fn report(fold: &Fold, by: GroupBy) -> Report {
    let context = Context {
        hosts: vec!["mx1".to_owned()],
        version: "0".to_owned(),
        start: Utc::from_micros(0),
        end: Utc::from_micros(60_000_000),
        filters: None,
        trust: Trust { connections_lost: Some(0), ..Trust::default() },
        hdr: true,
    };
    Report::new(fold, by, context)
}

fn differences(comparison: &Comparison) -> Vec<&Row> {
    let all = std::iter::once(&comparison.totals).chain(&comparison.destinations);
    all.flat_map(Destination::differences).collect()
}

#[test]
fn a_report_does_not_differ_from_itself() {
    let report = day(&mut Random(1), 200, 1, 1.0);
    let same = compare(&report, &report, 20).unwrap();
    assert!(differences(&same).is_empty());
    let rows = &same.totals.rows;
    assert_eq!(rows.len(), 4 + 3 * 7);
    assert!(rows.iter().all(|row| row.difference.value == 0.0 && row.difference.confidence == 0.0));
    assert_eq!((same.destinations.len(), same.only_before, same.only_after), (2, 0, 0));
}

/// Two days of the same nature: how often is any of all rows called different?
fn false_alarms(pairs: usize, connections: usize, alike: usize) -> usize {
    let mut random = Random(7);
    let alarms = (0..pairs).filter(|_| {
        let before = day(&mut random, connections, alike, 1.0);
        let after = day(&mut random, connections, alike, 1.0);
        !differences(&compare(&before, &after, 20).unwrap()).is_empty()
    });
    alarms.count()
}

#[test]
fn chance_is_not_called_a_difference() {
    assert_eq!(false_alarms(40, 200, 1), 0, "independent connections");
}

#[test]
fn connections_that_come_in_fours_alike_are_no_more_than_one() {
    // At 5 % for all rows together, more than 5 of 40 would come once in 70 runs.
    let alarms = false_alarms(40, 400, 4);
    assert!(alarms <= 5, "{alarms} of 40");
}

#[test]
fn a_server_that_became_slower_to_connect_is_found() {
    let mut random = Random(3);
    let before = day(&mut random, 600, 1, 1.0);
    let after = day(&mut random, 600, 1, 2.0);
    let comparison = compare(&before, &after, 20).unwrap();
    let found = differences(&comparison);
    assert!(!found.is_empty());
    assert!(found.iter().all(|row| row.measure == Measure::ConnectUs), "{found:?}");
    assert!(found.iter().all(|row| row.difference.low.unwrap() > 0.0), "{found:?}");
    let median = found.iter().find(|row| row.quantile == Some(0.5)).unwrap();
    assert!((1.7..2.3).contains(&(median.after / median.before)), "{median:?}");
}

#[test]
fn reuse_has_the_precision_of_connections() {
    // One connection with 9970 messages and 30 with one each: 31 of 10,000 were not reused.
    let day = |long: u32, single: usize| {
        let mut fold = Fold::new(10);
        let with = |messages| Connection {
            transactions: Some(messages),
            ..sample::connection("192.0.2.1", 0, 1)
        };
        fold.add(&with(long));
        (0..single).for_each(|_| fold.add(&with(1)));
        report(&fold, GroupBy::Address)
    };
    let comparison = compare(&day(9970, 30), &day(970, 30), 0).unwrap();
    let row = comparison.totals.rows.iter().find(|row| row.measure == Measure::ReuseRatio).unwrap();
    assert!((row.before - 0.9969).abs() < 1e-6 && row.count_before == 10_000, "{row:?}");
    assert!(!row.difference.is_real, "{row:?}");
    // Messages as independent observations would have made it one.
    let naive = |part, all| Estimate::Share { share: part / all, observations: all / 4.0 };
    assert!(chance(&naive(9969.0, 10_000.0), &naive(969.0, 1000.0)) < 0.05);
}

#[test]
fn what_one_side_does_not_know_is_left_out() {
    let mut fold = Fold::new(10);
    fold.add(&sample::connection("192.0.2.9", 0, 1_000));
    let other = report(&fold, GroupBy::Address);
    let day = day(&mut Random(1), 40, 1, 1.0);
    let comparison = compare(&day, &other, 20).unwrap();
    assert_eq!((comparison.only_before, comparison.only_after), (2, 1));
    assert!(comparison.destinations.is_empty());
    let known: Vec<Measure> = comparison.totals.rows.iter().map(|row| row.measure).collect();
    assert!(!known.contains(&Measure::ReuseRatio) && !known.contains(&Measure::TlsHandshakeUs));
    assert!(known.contains(&Measure::ConnectUs));
}

#[test]
fn different_groupings_are_refused() {
    let mut fold = Fold::new(10);
    fold.add(&sample::connection("192.0.2.9", 0, 1_000));
    let error = compare(&report(&fold, GroupBy::Address), &report(&fold, GroupBy::Host), 1);
    assert!(error.unwrap_err().to_string().contains("--group-by"));
}

#[test]
fn the_limit_on_destinations_is_said() {
    let report = day(&mut Random(1), 40, 1, 1.0);
    let comparison = compare(&report, &report, 1).unwrap();
    assert_eq!((comparison.destinations.len(), comparison.destinations_left_out), (1, 1));
}
