use proptest::prelude::*;

use crate::{
    destination::{Peak, Timeline},
    utc::Utc,
};

type Interval = (i64, i64);

fn timeline<'a>(intervals: impl IntoIterator<Item = &'a Interval>) -> Timeline {
    let mut timeline = Timeline::default();
    for &(start, end) in intervals {
        timeline.opened(Utc::from_micros(start), Utc::from_micros(end));
    }
    timeline
}

/// By counting, at each start, the connections that exist then.
fn brute_force(intervals: &[Interval]) -> u64 {
    let exists = |&(start, end): &Interval, at| start <= at && at < end.max(start + 1);
    let at =
        |&(at, _): &Interval| intervals.iter().filter(|other| exists(other, at)).count() as u64;
    intervals.iter().map(at).max().unwrap_or(0)
}

/// By going through all begins and ends: quick enough for many.
fn sweep(intervals: &[Interval]) -> u64 {
    let begins = intervals.iter().map(|&(start, _)| (start, 1));
    let mut steps: Vec<(i64, i64)> =
        begins.chain(intervals.iter().map(|&(start, end)| (end.max(start + 1), -1))).collect();
    steps.sort_unstable();
    let levels = steps.iter().scan(0_i64, |level, (_, step)| {
        *level += step;
        Some(*level)
    });
    levels.max().unwrap_or(0).cast_unsigned()
}

#[test]
fn ends_come_before_begins() {
    assert_eq!(timeline(&[(0, 10), (10, 20)]).peak(), Peak { connections: 1, exact: true });
    assert_eq!(timeline(&[(0, 11), (10, 20)]).peak(), Peak { connections: 2, exact: true });
    assert_eq!(timeline(&[]).peak(), Peak { connections: 0, exact: true });
}

#[test]
fn a_connection_without_length_counts() {
    assert_eq!(timeline(&[(5, 2)]).peak().connections, 1);
    assert_eq!(timeline(&[(0, 10), (5, 2), (5, 3)]).peak().connections, 3);
    assert_eq!(timeline(&[(0, 2), (5, 2)]).peak().connections, 1);
}

#[test]
fn minutes_are_aligned_and_do_not_count_what_was_open_before() {
    const SECOND: i64 = 1_000_000;
    let mut opened = timeline(&[(59 * SECOND, 60 * SECOND), (60 * SECOND, 0), (61 * SECOND, 0)]);
    opened.seen(Utc::from_micros(62 * SECOND), Some(Utc::from_micros(63 * SECOND)));
    assert_eq!(opened.opened_per_minute_peak(), 2);
    assert_eq!(opened.opened_count(), 3);
    assert!(opened.peak().exact);
    opened.seen(Utc::from_micros(62 * SECOND), None);
    assert!(!opened.peak().exact, "its end is unknown");
}

#[test]
fn extremes_do_not_panic() {
    let far = timeline(&[(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (i64::MAX, i64::MAX)]);
    assert!(far.peak().connections <= 3);
}

/// A busy day in the order in which records arrive: `n` connections of up to `longest` each.
fn busy(n: i64, every: i64, longest: i64) -> Vec<Interval> {
    let length = |i: i64| (i * 7919) % longest;
    let mut all: Vec<_> = (0..n).map(|i| (i * every, i * every + length(i))).collect();
    all.sort_by_key(|&(_, end)| end);
    all
}

#[test]
fn memory_is_bounded_and_short_connections_stay_exact() {
    let intervals = busy(50_000, 1_000, 500_000);
    let folded = timeline(&intervals);
    let peak = folded.peak();
    // Up to 500 at a time, 8192 points kept: none comes too late.
    assert_eq!(peak, Peak { connections: sweep(&intervals), exact: true });
    assert_eq!(folded.opened_count(), 50_000);
    assert_eq!(folded.opened_per_minute_peak(), 50_000);
}

#[test]
fn connections_that_outlast_the_memory_give_a_close_upper_bound() {
    let intervals = busy(40_000, 1_000, 10_000_000);
    let exact = sweep(&intervals);
    let peak = timeline(&intervals).peak();
    assert!(!peak.exact);
    assert!(
        peak.connections >= exact && peak.connections < exact + exact / 50,
        "{peak:?} for {exact}"
    );
}

#[test]
fn hosts_read_one_after_the_other_give_a_close_upper_bound() {
    let intervals = busy(40_000, 1_000, 500_000);
    let exact = 2 * sweep(&intervals);
    let in_turn = timeline(intervals.iter().chain(&intervals)).peak();
    let mut merged = timeline(&intervals);
    merged.merge(&timeline(&intervals));
    let mut shrunk = merged.clone();
    shrunk.shrink();
    for peak in [in_turn, merged.peak(), shrunk.peak()] {
        assert!(!peak.exact);
        assert!(
            peak.connections >= exact && peak.connections < exact + exact / 3,
            "{peak:?} for {exact}"
        );
    }
}

#[test]
fn one_day_after_the_other_stays_exact() {
    let day = busy(20_000, 1_000, 500_000);
    let next: Vec<_> =
        day.iter().map(|(start, end)| (start + 86_400_000_000, end + 86_400_000_000)).collect();
    let exact = Peak { connections: sweep(&day), exact: true };
    assert_eq!(timeline(day.iter().chain(&next)).peak(), exact);
    let mut merged = timeline(&next);
    merged.merge(&timeline(&day));
    assert_eq!(merged.peak(), exact);
    merged.shrink();
    assert_eq!(merged.peak(), exact);
    assert_eq!(merged.opened_per_minute_peak(), 20_000);
}

fn any_intervals() -> impl Strategy<Value = Vec<Interval>> {
    let interval = (0..200_i64, 0..40_i64).prop_map(|(start, length)| (start, start + length));
    prop::collection::vec(interval, 0..120)
}

proptest! {
    #[test]
    fn the_peak_is_that_of_counting(intervals in any_intervals()) {
        let peak = timeline(&intervals).peak();
        prop_assert_eq!(peak, Peak { connections: brute_force(&intervals), exact: true });
    }

    #[test]
    fn folding_never_lowers_the_peak(
        intervals in any_intervals(),
        keep in 0..40_usize,
        step in 1..60_usize,
    ) {
        let mut folded = Timeline::default();
        for part in intervals.chunks(step) {
            folded.merge(&timeline(part));
            folded.fold_to(keep, 2);
        }
        let (peak, expected) = (folded.peak(), brute_force(&intervals));
        prop_assert!(peak.connections >= expected);
        prop_assert!(!peak.exact || peak.connections == expected, "{peak:?} for {expected}");
    }

    #[test]
    fn folding_in_order_of_time_is_exact(mut intervals in any_intervals(), keep in 0..40_usize) {
        // All at once: nothing comes after it was folded.
        intervals.sort_unstable();
        let mut folded = timeline(&intervals);
        folded.fold_to(keep, 2);
        prop_assert_eq!(folded.peak(), Peak { connections: brute_force(&intervals), exact: true });
    }

    #[test]
    fn merging_folded_timelines_never_lowers_the_peak(
        a in any_intervals(),
        b in any_intervals(),
        keep in 0..40_usize,
    ) {
        let (mut left, mut right) = (timeline(&a), timeline(&b));
        left.fold_to(keep, 2);
        right.fold_to(keep / 2, 2);
        left.merge(&right);
        let all: Vec<_> = a.into_iter().chain(b).collect();
        let expected = brute_force(&all);
        for peak in [left.peak(), { left.fold_to(keep, 1); left.peak() }] {
            prop_assert!(peak.connections >= expected);
            prop_assert!(!peak.exact || peak.connections == expected, "{peak:?} for {expected}");
        }
    }
}
