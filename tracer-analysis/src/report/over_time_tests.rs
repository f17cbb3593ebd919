use proptest::prelude::*;

use crate::{
    connection::{Connection, EndDuring, Refusal, SeenFrom},
    destination::{
        Course, Fold, GroupBy,
        sample::{any_connection, connection},
    },
    recording::Trust,
    report::{Context, OverTime, Report},
    utc::Utc,
};

const SECOND: i64 = 1_000_000;
/// When connections of `sample` start.
const ORIGIN: i64 = 1_800_000_000;

fn report(connections: &[Connection], hdr: bool) -> Report {
    let mut fold = Fold::new(100);
    for connection in connections {
        fold.add(connection);
    }
    let (start, end) = fold.window().unwrap_or((Utc::from_micros(0), Utc::from_micros(0)));
    let context = Context {
        hosts: Vec::new(),
        version: String::new(),
        start,
        end,
        filters: None,
        trust: Trust::default(),
        hdr,
    };
    Report::new(&fold, GroupBy::Address, context)
}

fn over_time(connections: &[Connection]) -> OverTime {
    report(connections, true).totals.over_time.unwrap()
}

fn refused(start_us: i64, at_us: u64) -> Connection {
    let refusal =
        Refusal { code: 421, enhanced: None, at_us, during: EndDuring::Greeting, reason: None };
    Connection { refusals: Some(vec![refusal]), ..connection("192.0.2.1", start_us, at_us + 10) }
}

#[test]
fn buckets_say_what_happened_in_them() {
    let connections = [
        connection("192.0.2.1", 0, 3_500_000),
        connection("192.0.2.2", SECOND, 1_000_000),
        connection("192.0.2.1", SECOND + 500_000, 400_000),
        refused(3 * SECOND, 1_200_000),
    ];
    let all = over_time(&connections);
    assert_eq!((all.start.micros(), all.bucket_s), (ORIGIN * SECOND, 1));
    assert_eq!(all.opened, [1, 2, 0, 1, 0]);
    assert_eq!(all.peak_concurrency, [1, 3, 1, 2, 1], "the second ended as the third began");
    assert_eq!(all.replies_421, [0, 0, 0, 0, 1]);
    let report = report(&connections, true);
    let second = report.destinations.iter().find(|it| it.key == "192.0.2.2").unwrap();
    let second = second.over_time.as_ref().unwrap();
    assert_eq!((second.start.micros(), &second.opened[..]), ((ORIGIN + 1) * SECOND, &[1, 0][..]));
}

#[test]
fn records_without_replies_tell_a_421_by_the_greeting() {
    let old = Connection { banner_code: Some(421), ..connection("192.0.2.1", 0, 100_000) };
    assert_eq!(over_time(&[old]).replies_421, [1]);
}

#[test]
fn it_is_left_out_unless_asked_for() {
    let all = [connection("192.0.2.1", 0, 1)];
    assert_eq!(report(&all, false).totals.over_time, None);
    assert_eq!(report(&[], true).totals.over_time, None);
}

#[test]
fn a_peak_of_an_instant_survives_in_a_week() {
    let mut connections: Vec<_> =
        (0..7 * 24).map(|hour| connection("192.0.2.1", hour * 3600 * SECOND, 1_000)).collect();
    connections.extend((0..50).map(|_| connection("192.0.2.1", 100_000 * SECOND, 1)));
    let week = over_time(&connections);
    assert_eq!(week.bucket_s, 3600);
    assert_eq!(week.peak_concurrency.iter().max(), Some(&50));
    assert_eq!(week.peak_concurrency.iter().filter(|&&n| n > 1).count(), 1);
    assert_eq!(week.opened.iter().sum::<u64>(), 7 * 24 + 50);
}

#[test]
fn a_busy_day_keeps_its_counts() {
    let connections: Vec<_> =
        (0..40_000).map(|n| connection("192.0.2.1", n * 2 * SECOND, 5_000_000)).collect();
    let report = report(&connections, true);
    let day = report.totals.over_time.unwrap();
    assert_eq!((day.opened.len(), day.bucket_s), (134, 600));
    assert_eq!(day.opened[..133], [300; 133]);
    assert_eq!(report.totals.peak_concurrency, 3);
    assert_eq!(day.peak_concurrency[1..132], [3; 131]);
}

#[test]
fn extremes_do_not_panic() {
    for start in [i64::MIN, -1, 0, i64::MAX] {
        for at_us in [0, u64::MAX / 2, u64::MAX] {
            let start = Utc::from_micros(start);
            let far = Connection { start, ..refused(0, at_us.saturating_sub(10)) };
            let all = over_time(&[far, connection("192.0.2.1", 0, 1)]);
            assert!(all.opened.len() <= usize::try_from(Course::BUCKETS).unwrap());
            assert_eq!(all.opened.iter().sum::<u64>(), 2);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))] // making histograms is slow without optimisation

    #[test]
    fn sums_and_peaks_are_those_of_the_report(
        all in prop::collection::vec(any_connection(), 0..60),
        split in 0..60_usize,
    ) {
        let whole = report(&all, true);
        for one in whole.destinations.iter().chain([&whole.totals]) {
            let Some(over_time) = &one.over_time else {
                prop_assert_eq!(one.connections, 0);
                continue;
            };
            let opened = one.connections - one.midlife;
            prop_assert_eq!(over_time.opened.iter().sum::<u64>(), opened);
            prop_assert_eq!(over_time.peak_concurrency.iter().max(), Some(&one.peak_concurrency));
            let lengths = [over_time.opened.len(), over_time.replies_421.len()];
            prop_assert_eq!(lengths, [over_time.peak_concurrency.len(); 2]);
            prop_assert!(lengths[0] <= usize::try_from(Course::BUCKETS).unwrap());
        }
        let (first, second) = all.split_at(split.min(all.len()));
        let [mut merged, mut course] = [first, second].map(|part| {
            let mut course = Course::default();
            for connection in part {
                add(&mut course, connection);
            }
            course
        });
        std::mem::swap(&mut merged, &mut course);
        merged.merge(&course);
        let mut once = Course::default();
        for connection in &all {
            add(&mut once, connection);
        }
        prop_assert_eq!(merged.buckets(), once.buckets());
        prop_assert_eq!(merged.level(), once.level());
    }
}

fn add(course: &mut Course, connection: &Connection) {
    if connection.seen_from == SeenFrom::Connect {
        course.opened(connection.start);
    }
    course.add_replies_421(connection);
}
