use proptest::prelude::*;

use crate::{
    connection::{Connection, EndCause, EndDuring, EndSuspect},
    destination::{
        IdleGaps, IdleLimit, Killer, Manner, Observed,
        sample::{any_connection, connection},
    },
};

const SECOND: u64 = 1_000_000;

/// A session that idled for `gaps` seconds and survived, then was closed at once.
fn idled(gaps: &[u64]) -> Connection {
    let gaps: Vec<u64> = gaps.iter().map(|gap| gap * SECOND).collect();
    Connection {
        idle_max_survived_us: gaps.iter().max().copied(),
        idle_gaps_us: Some(gaps),
        end_during: Some(EndDuring::Idle),
        end_idle_us: Some(0),
        ..connection("192.0.2.1", 0, 1)
    }
}

fn ended(of: Connection, cause: EndCause, during: EndDuring, idle_s: u64) -> Connection {
    let end_idle_us = Some(idle_s * SECOND);
    Connection { end_cause: cause, end_during: Some(during), end_idle_us, ..of }
}

/// The same, dead when it was used again after a further gap.
fn dead_on_reuse(of: &Connection, cause: EndCause, gap_s: u64) -> Connection {
    let mut of = ended(of.clone(), cause, EndDuring::Reuse, gap_s);
    of.end_unanswered_us = Some(20 * SECOND);
    of.idle_gaps_us.get_or_insert_default().push(gap_s * SECOND);
    of
}

fn gaps(connections: &[Connection]) -> IdleGaps {
    let mut gaps = IdleGaps::default();
    for connection in connections {
        gaps.add(connection);
    }
    gaps
}

fn deaths(of: &IdleGaps) -> Vec<(Manner, Killer, u64)> {
    of.deaths.iter().map(|(&(manner, killer), it)| (manner, killer, it.count())).collect()
}

#[test]
fn the_fatal_gap_is_a_death_and_the_others_are_survived() {
    let silent = dead_on_reuse(&idled(&[2, 3]), EndCause::Unanswered, 9);
    let suspect = Some(EndSuspect::Middlebox);
    let reset = dead_on_reuse(&idled(&[1]), EndCause::RstReceived, 8);
    let all = gaps(&[silent, Connection { end_suspect: suspect, ..reset }]);
    assert_eq!((all.survived.count(), all.survived.max()), (3, Some(3 * SECOND)));
    assert_eq!(
        deaths(&all),
        [(Manner::Silent, Killer::Unknown, 1), (Manner::ResetOnReuse, Killer::Middlebox, 1)]
    );
    assert_eq!((all.dead_on_reuse, all.dead_on_reuse_us), (2, 40 * SECOND));
    assert_eq!((all.count(), all.longest_us()), (5, Some(9 * SECOND)));
    assert_eq!(all.longest_alive_us(), Some(3 * SECOND));
}

#[test]
fn a_death_in_the_middle_of_the_dialogue_says_nothing_about_idling() {
    let all = gaps(&[ended(idled(&[2]), EndCause::RstReceived, EndDuring::Dialogue, 5)]);
    assert_eq!((all.survived.count(), all.deaths.len(), all.count()), (1, 0, 1));
    assert_eq!(all.dead_in_use, 1);
    let soon = ended(idled(&[2]), EndCause::RstReceived, EndDuring::Idle, 0);
    let all = gaps(&[Connection { end_idle_us: Some(900_000), ..soon }]);
    assert_eq!((all.deaths.len(), all.dead_in_use), (0, 1));
}

#[test]
fn a_short_pause_before_a_write_that_nobody_answered_is_not_survived() {
    let mut died = ended(idled(&[2]), EndCause::Unanswered, EndDuring::Dialogue, 0);
    died.idle_gaps_us.get_or_insert_default().push(400_000);
    died.end_unanswered_us = Some(9 * SECOND);
    let all = gaps(&[died]);
    assert_eq!((all.survived.count(), all.survived.min()), (1, Some(2 * SECOND)));
}

#[test]
fn a_reset_while_idle_and_unanswered_probes_are_deaths() {
    let all = gaps(&[
        ended(idled(&[2]), EndCause::RstReceived, EndDuring::Idle, 4),
        ended(idled(&[2]), EndCause::Timeout, EndDuring::Idle, 6),
    ]);
    assert_eq!(
        deaths(&all),
        [(Manner::Silent, Killer::Unknown, 1), (Manner::ResetWhileIdle, Killer::Unknown, 1)]
    );
    assert_eq!(all.dead_on_reuse, 0, "nobody tried");
}

#[test]
fn our_own_close_proves_nothing() {
    let all = gaps(&[
        ended(idled(&[]), EndCause::LocalFin, EndDuring::Idle, 30),
        ended(idled(&[]), EndCause::RstSent, EndDuring::Idle, 31),
        ended(idled(&[]), EndCause::Open, EndDuring::Idle, 32),
        dead_on_reuse(&idled(&[]), EndCause::LocalFin, 33),
    ]);
    assert_eq!((all.untested.count(), all.count()), (4, 4));
    assert_eq!((all.longest_us(), all.longest_alive_us()), (Some(33 * SECOND), None));
    assert_eq!(all.limit(), None);
}

#[test]
fn a_server_that_closes_proves_that_the_path_is_alive() {
    let replies = |code| Some([(220, 1), (code, 1)].into());
    let fin = || ended(idled(&[]), EndCause::PeerFin, EndDuring::Idle, 300);
    let all = gaps(&[
        fin(),
        Connection { replies: replies(421), ..fin() },
        Connection { replies: replies(221), ..fin() }, // it was asked to
        dead_on_reuse(&idled(&[]), EndCause::PeerFin, 40),
    ]);
    assert_eq!((all.closed_by_server.count(), all.closed_with_421), (2, 1));
    assert_eq!((all.survived.max(), all.dead_on_reuse), (Some(40 * SECOND), 0));
    assert_eq!(all.longest_alive_us(), Some(300 * SECOND));
}

#[test]
fn keepalive_probes_shorten_the_idle_time_of_the_path() {
    let probed = |seconds| Connection {
        keepalive: Some(true),
        keepalive_idle_s: Some(seconds),
        ..idled(&[50, 400])
    };
    let all = gaps(&[probed(60), Connection { keepalive: Some(false), ..idled(&[10]) }]);
    assert_eq!(all.longest_us(), Some(60 * SECOND));
    assert_eq!((all.keepalive.on, all.keepalive.off), (1, 1));
    let all = gaps(&[probed(60), probed(7_200)]);
    assert_eq!(all.longest_us(), Some(400 * SECOND));
    assert_eq!(all.keepalive.first_probe_s, Some([60, 7_200]));
}

#[test]
fn gaps_that_were_left_out() {
    let mut silent = dead_on_reuse(&idled(&[2]), EndCause::Unanswered, 9);
    silent.idle_gaps_us = Some(vec![2 * SECOND, 3 * SECOND]);
    silent.idle_gaps_omitted = 5; // the fatal one is among them
    silent.idle_max_survived_us = Some(7 * SECOND);
    let all = gaps(&[silent]);
    assert_eq!((all.survived.count(), all.survived.max()), (3, Some(7 * SECOND)));
    assert_eq!((all.died(|_, _| true, 0), all.dead_on_reuse), (1, 1));
    assert_eq!(all.longest_us(), Some(9 * SECOND));
}

fn outcomes(all: &[(u64, u64, u64)]) -> Vec<Observed> {
    all.iter()
        .map(|&(seconds, left, died)| Observed { time_us: seconds * SECOND, died, left })
        .collect()
}

fn bracket(limit: &IdleLimit) -> (Option<u64>, u64, [u64; 2]) {
    let seconds = |us| us / SECOND;
    (limit.alive_us.map(seconds), seconds(limit.dead_us), limit.interval_us.map(seconds))
}

#[test]
fn a_clean_limit_lies_between_the_last_survivor_and_the_first_death() {
    let all = outcomes(&[(1, 40, 0), (3, 20, 0), (5, 0, 4), (9, 0, 3)]);
    let limit = IdleLimit::estimate(&all).unwrap();
    assert_eq!(bracket(&limit), (Some(3), 5, [3, 5]));
    assert_eq!((limit.below.alive, limit.above.dead), (60, 7));
    // No constant rate explains that 60 of 60 live and 7 of 7 die.
    assert!(limit.chance < 0.001, "{}", limit.chance);
}

#[test]
fn few_observations_are_near_to_chance() {
    let limit = IdleLimit::estimate(&outcomes(&[(1, 20, 0), (10, 0, 1)])).unwrap();
    assert_eq!(bracket(&limit), (Some(1), 10, [1, 10]));
    // By hand: with x the share that survives 10 s, (1 - x) x^2 is largest at x = 2/3: 4/27.
    assert!((limit.chance - 4.0 / 27.0).abs() < 1e-6, "{}", limit.chance);
    // One survivor only at 5 s: the limit may as well be anywhere.
    let limit = IdleLimit::estimate(&outcomes(&[(2, 2, 0), (5, 1, 0), (10, 0, 1)])).unwrap();
    assert_eq!(limit.interval_us[0], 2 * SECOND);
}

#[test]
fn deaths_for_other_reasons_do_not_hide_a_limit() {
    let mut all: Vec<_> = (1..=10).map(|s| (s * 30, 100, u64::from(s % 3 == 0))).collect();
    all.extend((11..=16).map(|s| (s * 30 + 20, 0, 5)));
    let limit = IdleLimit::estimate(&outcomes(&all)).unwrap();
    assert_eq!(bracket(&limit), (Some(300), 350, [300, 350]));
    assert_eq!((limit.below.dead, limit.above.dead), (3, 30));
    assert!(limit.chance < 1e-6, "{}", limit.chance);
}

#[test]
fn a_few_survivors_above_do_not_hide_a_limit() {
    let all = outcomes(&[(1, 100, 0), (4, 50, 0), (6, 2, 20), (9, 1, 20)]);
    let limit = IdleLimit::estimate(&all).unwrap();
    assert_eq!(bracket(&limit), (Some(4), 6, [4, 6]));
    let [low, high] = limit.above.dead_share_interval().unwrap();
    assert!(low > 0.8 && high < 0.99, "{low} {high}");
}

#[test]
fn deaths_among_survivors_are_no_limit() {
    assert_eq!(IdleLimit::estimate(&outcomes(&[(1, 5, 2), (2, 900, 3), (300, 5, 0)])), None);
    assert_eq!(IdleLimit::estimate(&outcomes(&[(2, 900, 0)])), None);
    assert_eq!(IdleLimit::estimate(&[]), None);
    assert_eq!(IdleLimit::estimate(&outcomes(&[(2, 0, 1)])), None, "one session, which died");
}

#[test]
fn nothing_survived() {
    let limit = IdleLimit::estimate(&outcomes(&[(2, 0, 3), (4, 0, 2)])).unwrap();
    assert_eq!(bracket(&limit), (None, 2, [0, 2]));
    assert!((limit.chance - 1.0).abs() < 1e-9, "a high rate of deaths explains it as well");
}

/// A connection with any gaps, ending in any way.
fn any_idler() -> impl Strategy<Value = Connection> {
    use EndDuring::{Dialogue, Idle, Reuse};
    let during = prop::sample::select(vec![None, Some(Idle), Some(Reuse), Some(Dialogue)]);
    let suspect =
        prop::sample::select(vec![None, Some(EndSuspect::Peer), Some(EndSuspect::Middlebox)]);
    let end = (during, suspect, 0..900_u64, prop::option::of(any::<bool>()));
    (any_connection(), end, prop::option::of(0..600_u64)).prop_map(|(mut of, end, survived)| {
        (of.end_during, of.end_suspect, of.keepalive) = (end.0, end.1, end.3);
        of.end_unanswered_us = survived.map(|_| end.2);
        of.end_idle_us = Some(end.2 * SECOND);
        of.idle_max_survived_us = survived.map(|gap| gap * SECOND / 60);
        of
    })
}

proptest! {
    #[test]
    fn merging_is_adding_in_any_order(
        all in prop::collection::vec((any_idler(), any::<bool>()), 0..40),
    ) {
        let part = |left: bool| {
            let part: Vec<_> = all.iter().filter(|(_, l)| *l == left).map(|it| it.0.clone()).collect();
            gaps(&part)
        };
        let whole: Vec<_> = all.iter().rev().map(|it| it.0.clone()).collect();
        let mut merged = part(true);
        merged.merge(&part(false));
        prop_assert_eq!(format!("{merged:?}"), format!("{:?}", gaps(&whole)));
    }

    #[test]
    fn a_limit_is_never_seen_where_nobody_died(times in prop::collection::vec((0..9_000_u64, 1..50_u64), 1..40)) {
        let mut all: Vec<_> = times.iter().map(|&(time, left)| (time, left, 0)).collect();
        all.sort_unstable();
        all.dedup_by_key(|it| it.0);
        prop_assert_eq!(IdleLimit::estimate(&outcomes(&all)), None);
    }

    /// Whatever the schedule of gaps: the bracket of a box that forgets after `limit` contains it, and so
    /// does the confidence interval.
    #[test]
    fn a_box_is_found_within_the_spacing_of_the_gaps(
        limit in 1_000..9_000_u64,
        gaps in prop::collection::btree_set(1..10_000_u64, 3..60),
        each in 3..6_u64,
    ) {
        prop_assume!(gaps.first() < Some(&limit) && gaps.last() >= Some(&limit));
        let all: Vec<_> = gaps.iter().map(|&gap| {
            let (left, died) = if gap < limit { (each, 0) } else { (0, each) };
            Observed { time_us: gap, died, left }
        }).collect();
        let found = IdleLimit::estimate(&all).unwrap();
        prop_assert_eq!(found.alive_us, gaps.range(..limit).next_back().copied());
        prop_assert_eq!(Some(&found.dead_us), gaps.range(limit..).next());
        prop_assert!(found.interval_us[0] <= found.alive_us.unwrap() && found.interval_us[1] >= found.dead_us);
    }
}
