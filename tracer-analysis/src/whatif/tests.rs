use proptest::prelude::*;

use super::*;
use crate::{
    connection::{Connection, EndCause, EndDuring, SeenFrom, Tls},
    destination::{
        GroupBy, OTHER,
        sample::{connection, failed},
    },
    recording::Trust,
    utc::Utc,
};

const SECOND: u64 = 1_000_000;

/// A message from `arrival` to `end`, in seconds.
fn message(arrival: i64, end: i64) -> Message {
    Message { pool: 0, arrival: arrival * 1_000_000, end: end * 1_000_000, tls: true, kept: true }
}

fn connections(messages: &[Message], policy: &Policy, bridged_us: u64) -> u64 {
    replay(messages, policy, bridged_us, |_| true).connections
}

/// One message every three seconds, each of one second.
fn every_three_seconds(n: i64) -> Vec<Message> {
    (0..n).map(|i| message(3 * i, 3 * i + 1)).collect()
}

#[test]
fn a_connection_is_kept_for_less_than_the_cache_time() {
    let messages = every_three_seconds(10); // gaps of two seconds
    for (cache_time_s, expected) in [(0, 10), (1, 10), (2, 10), (3, 1), (300, 1)] {
        let policy = Policy::keep_for(cache_time_s * SECOND);
        assert_eq!(connections(&messages, &policy, u64::MAX), expected, "{cache_time_s}");
    }
}

#[test]
fn no_gap_is_bridged_that_the_path_is_not_known_to_survive() {
    let messages = every_three_seconds(10);
    let policy = Policy::keep_for(60 * SECOND);
    assert_eq!(connections(&messages, &policy, 2 * SECOND), 1);
    assert_eq!(connections(&messages, &policy, 2 * SECOND - 1), 10);
    // They are held all the same: sixty seconds each, so all ten at the end.
    assert_eq!(replay(&messages, &policy, 0, |_| true).peak_open, 10);
}

#[test]
fn limits_end_a_connection_when_it_would_be_stored() {
    let messages = every_three_seconds(10);
    let three = Policy { max_messages: Some(3), ..Policy::keep_for(60 * SECOND) };
    assert_eq!(connections(&messages, &three, u64::MAX), 4); // 3 + 3 + 3 + 1
    // A connection opened at 0 is 1 s old after its first message, 4 s after the second, 7 s after
    // the third, which still used it.
    let old = Policy { max_age_us: Some(5 * SECOND), ..Policy::keep_for(60 * SECOND) };
    assert_eq!(connections(&messages, &old, u64::MAX), 4);
}

#[test]
fn messages_at_the_same_time_need_connections_of_their_own() {
    let messages = [message(0, 10), message(1, 4), message(2, 5), message(6, 7), message(11, 12)];
    let policy = Policy::keep_for(30 * SECOND);
    let outcome = replay(&messages, &policy, u64::MAX, |_| true);
    assert_eq!((outcome.connections, outcome.peak_open, outcome.tls_handshakes), (3, 3, 3));
}

#[test]
fn the_connection_stored_first_is_taken_first() {
    // Idle since 1 and since 4; a cache time of 5 s. The message at 5 takes the first, so the second
    // is there for the one at 8. The other way round that one would find nothing.
    let messages = [message(0, 1), message(0, 4), message(5, 20), message(8, 20)];
    assert_eq!(connections(&messages, &Policy::keep_for(5 * SECOND), u64::MAX), 2);
}

#[test]
fn pools_share_nothing() {
    let mut messages = every_three_seconds(4);
    messages[1].pool = 1;
    messages.sort_unstable();
    assert_eq!(connections(&messages, &Policy::keep_for(300 * SECOND), u64::MAX), 2);
}

/// A connection with messages at these times after its start, which then ends after `lifetime_us`.
fn carrying(start_us: i64, spans: &[[u64; 2]], lifetime_us: u64) -> Connection {
    Connection {
        transactions: Some(u32::try_from(spans.len()).unwrap()),
        transaction_spans_us: Some(spans.to_vec()),
        tls: Some(Tls::Starttls),
        ..connection("192.0.2.1", start_us, lifetime_us)
    }
}

fn context(cache_times_us: &[u64]) -> Context {
    Context {
        hosts: vec!["mx1".to_owned()],
        version: "0".to_owned(),
        start: Utc::from_micros(0),
        end: Utc::from_micros(60_000_000),
        trust: Trust::default(),
        cache_times_us: cache_times_us.to_vec(),
        max_messages: None,
        max_age_us: None,
    }
}

fn what_if(all: &[Connection], cache_times_us: &[u64]) -> WhatIf {
    let mut demand = Demand::new(100);
    for connection in all {
        demand.add(connection);
    }
    WhatIf::new(&demand, GroupBy::Address, context(cache_times_us))
}

/// A message every three seconds on connections that are kept for two, with set-ups of 100 ms.
fn kept_too_short() -> Vec<Connection> {
    let closed = |i: i64| Connection {
        end_idle_us: Some(2 * SECOND),
        ..carrying(i * 3_000_000, &[[100_000, 200_000]], 2_201_000)
    };
    (0..50).map(closed).collect()
}

#[test]
fn savings_are_priced_with_the_measured_set_up() {
    let mut all = kept_too_short();
    // The path is known to survive three seconds, from a connection that carried nothing.
    all[7].idle_max_survived_us = Some(3 * SECOND);
    let answer = what_if(&all, &[2 * SECOND, 10 * SECOND]);
    let [short, long] = &answer.destinations[0].policies[..] else { panic!("two policies") };
    assert_eq!((short.known.connections, short.known.saved_connections), (50, 0));
    assert_eq!((long.known.connections, long.known.saved_connections), (1, 49));
    assert_eq!(long.known.saved_tls_handshakes, 49);
    assert!((long.known.saved_s.unwrap() - 4.9).abs() < 1e-9);
    assert_eq!(answer.totals.policies, answer.destinations[0].policies);
    let set_up = answer.destinations[0].set_up;
    assert_eq!((set_up.measured_connections, set_up.total_us), (50, Some(100_000)));
    assert_eq!((set_up.connect_us, set_up.greeting_us), (Some(20_000), Some(31_000)));
}

#[test]
fn an_unknown_path_promises_nothing() {
    let answer = what_if(&kept_too_short(), &[10 * SECOND]);
    let policy = &answer.destinations[0].policies[0];
    assert_eq!(policy.known.saved_connections, 0);
    assert_eq!(policy.if_path_survives.saved_connections, 49);
    assert_eq!(answer.destinations[0].path.unwrap().survived_s, None);
}

#[test]
fn the_policy_that_ran_is_found_and_reproduced() {
    let answer = what_if(&kept_too_short(), &[]);
    let ran = answer.destinations[0].as_it_ran.unwrap();
    assert_eq!((ran.cache_time_s, ran.connections, ran.kept_share), (Some(2.0), 50, 1.0));
    assert!(ran.reproduces);
    assert_eq!(answer.totals.as_it_ran.unwrap().connections, 50);

    // Closed right after each message: nothing was kept.
    let at_once = |i: i64| carrying(i * 1_000_000, &[[100_000, 200_000]], 201_000);
    let answer = what_if(&(0..9).map(at_once).collect::<Vec<_>>(), &[]);
    let ran = answer.destinations[0].as_it_ran.unwrap();
    assert_eq!((ran.cache_time_s, ran.kept_share, ran.connections), (Some(0.0), 0.0, 9));
}

#[test]
fn a_model_that_does_not_fit_says_so_and_predicts_nothing() {
    // Kept for ten seconds and never used again, although there was a message every three.
    let refused = |i: i64| Connection {
        end_idle_us: Some(10 * SECOND),
        ..carrying(i * 3_000_000, &[[100_000, 200_000]], 10_201_000)
    };
    let unused: Vec<_> = (0..20).map(refused).collect();
    let answer = what_if(&unused, &[10 * SECOND]);
    let ran = answer.destinations[0].as_it_ran.unwrap();
    assert_eq!((ran.connections, ran.reproduces), (1, false));
    assert!((ran.difference + 0.95).abs() < 1e-9);
    for of in [&answer.destinations[0], &answer.totals] {
        assert_eq!((&of.policies[..], &of.curve[..]), (&[][..], &[][..]), "{}", of.key);
    }
    // It comes after those of which something can be said, however much it seemed to save.
    let dst: std::net::IpAddr = "192.0.2.9".parse().unwrap();
    let kept = kept_too_short().into_iter().map(|it| Connection { dst, ..it });
    let both: Vec<_> = unused.into_iter().chain(kept).collect();
    let answer = what_if(&both, &[10 * SECOND]);
    let [first, last] = &answer.destinations[..] else { panic!("two destinations") };
    assert_eq!((first.key.as_str(), first.policies.len()), ("192.0.2.9", 1));
    assert_eq!((last.policies.len(), last.curve.len()), (0, 0));
}

#[test]
fn what_cannot_be_replayed_is_counted() {
    let all = [
        carrying(0, &[[10, 20]], 30),
        Connection { transaction_spans_us: None, ..carrying(0, &[[10, 20], [30, 40]], 50) },
        Connection {
            transactions: Some(9),
            transaction_spans_omitted: 8,
            ..carrying(0, &[[1, 2]], 50)
        },
        Connection { transactions: None, transaction_spans_us: None, ..carrying(0, &[], 50) },
        carrying(0, &[], 50),
        failed("192.0.2.1", 0, 50, "ECONNREFUSED"),
    ];
    let messages = what_if(&all, &[]).totals.messages;
    assert_eq!((messages.replayed, messages.counted, messages.uncounted_connections), (2, 12, 1));
    let observed = what_if(&all, &[]).totals.observed;
    assert_eq!((observed.connections, observed.unused_connections), (2, 1));
}

#[test]
fn destinations_over_the_limit_are_counted() {
    let mut demand = Demand::new(1);
    demand.add(&carrying(0, &[[10, 20]], 30));
    let other = Connection { dst: "192.0.2.2".parse().unwrap(), ..carrying(0, &[[10, 20]], 30) };
    demand.add(&other);
    let answer = WhatIf::new(&demand, GroupBy::Address, context(&[]));
    assert_eq!(answer.destinations.last().unwrap().key, OTHER);
    assert_eq!((answer.totals.messages.replayed, answer.totals.messages.counted), (1, 2));
}

#[test]
fn connections_of_unknown_age_have_no_set_up() {
    let midlife = Connection {
        seen_from: SeenFrom::Midlife,
        connect_us: None,
        lifetime_us: None,
        ..carrying(0, &[[5_000_000, 6_000_000]], 0)
    };
    let answer = what_if(&[midlife], &[0]);
    assert_eq!(answer.destinations[0].set_up.total_us, None);
    assert_eq!(answer.destinations[0].policies[0].known.saved_s, None);
    assert_eq!(answer.totals.messages.replayed, 1);
}

#[test]
fn gaps_beyond_a_death_or_a_close_by_the_server_are_not_assumed() {
    let lived = |gap_s: u64| Connection {
        idle_max_survived_us: Some(gap_s * SECOND),
        ..connection("192.0.2.1", 0, 1)
    };
    let died = |cause, during, gap_s: u64| Connection {
        end_cause: cause,
        end_during: during,
        end_idle_us: Some(gap_s * SECOND),
        ..connection("192.0.2.1", 0, 1)
    };
    let mut path = Path::default();
    assert_eq!((path.bridged_us(), path.end_us()), (0, u64::MAX));
    path.add(&lived(200));
    path.add(&lived(30));
    assert_eq!(path.bridged_us(), 200 * SECOND);
    path.add(&died(EndCause::RstReceived, Some(EndDuring::Dialogue), 5));
    assert_eq!(path.died_us(), None, "not about idling");
    path.add(&died(EndCause::RstReceived, Some(EndDuring::Idle), 100));
    assert_eq!((path.bridged_us(), path.died_us()), (30 * SECOND, Some(100 * SECOND)));
    path.add(&died(EndCause::PeerFin, Some(EndDuring::Idle), 20));
    assert_eq!((path.bridged_us(), path.closed_by_server_us()), (0, Some(20 * SECOND)));
    path.add(&died(EndCause::PeerFin, None, 0));
    assert_eq!(path.closed_by_server_us(), Some(20 * SECOND), "a FIN after data is no timeout");
    // At reuse, the gap is the one before the write that was never answered.
    let at_reuse = Connection {
        idle_gaps_us: Some(vec![SECOND, 15 * SECOND]),
        ..died(EndCause::Unanswered, Some(EndDuring::Reuse), 20)
    };
    path.add(&at_reuse);
    assert_eq!(path.died_us(), Some(15 * SECOND));
}

#[test]
fn a_probe_before_the_next_message_is_part_of_the_gap() {
    // Idle for 3 s, then RSET for 0.1 s, then the next message.
    let reused = Connection {
        idle_max_survived_us: Some(3 * SECOND),
        ..carrying(0, &[[100_000, 200_000], [3_300_000, 3_400_000]], 12_000_000)
    };
    let answer = what_if(std::slice::from_ref(&reused), &[5 * SECOND]);
    assert_eq!(answer.destinations[0].policies[0].known.connections, 1);
    // With something else in between, only the idle part is known to be survived.
    let busy = Connection { idle_max_survived_us: Some(SECOND), ..reused };
    let answer = what_if(&[busy], &[5 * SECOND]);
    assert_eq!(answer.destinations[0].policies[0].known.connections, 2);
}

fn any_messages() -> impl Strategy<Value = Vec<Message>> {
    let one = (0..3_u32, 0..600_i64, 0..20_i64, any::<bool>(), any::<bool>());
    prop::collection::vec(one, 1..80).prop_map(|all| {
        let message = |(pool, arrival, took, tls, kept)| Message {
            pool,
            arrival,
            end: arrival + took,
            tls,
            kept,
        };
        let mut messages: Vec<Message> = all.into_iter().map(message).collect();
        messages.sort_unstable();
        messages
    })
}

proptest! {
    #[test]
    fn more_cache_time_never_needs_more_connections(
        messages in any_messages(), shorter in 0..100_u64, more in 0..100_u64, bridged in 0..150_u64
    ) {
        let of = |us| connections(&messages, &Policy::keep_for(us), bridged);
        prop_assert!(of(shorter + more) <= of(shorter));
        prop_assert!(of(shorter) <= messages.len() as u64);
    }

    #[test]
    fn knowing_of_longer_gaps_never_needs_more_connections(
        messages in any_messages(), time in 0..150_u64, shorter in 0..100_u64, more in 0..100_u64
    ) {
        let of = |bridged| connections(&messages, &Policy::keep_for(time), bridged);
        prop_assert!(of(shorter + more) <= of(shorter));
    }

    #[test]
    fn without_cache_each_message_has_its_connection(messages in any_messages()) {
        let outcome = replay(&messages, &Policy::keep_for(0), u64::MAX, |_| true);
        prop_assert_eq!(outcome.connections, messages.len() as u64);
        let single = Policy { max_messages: Some(1), ..Policy::keep_for(1_000) };
        prop_assert_eq!(connections(&messages, &single, u64::MAX), messages.len() as u64);
        let encrypted = messages.iter().filter(|message| message.tls).count();
        prop_assert_eq!(outcome.tls_handshakes, encrypted as u64);
    }

    #[test]
    fn one_after_the_other_limits_never_reverse_it(
        gaps in prop::collection::vec(0..50_i64, 1..60), shorter in 0..50_u64, more in 0..50_u64,
        limit in 1..6_u32
    ) {
        let mut now = 0;
        let messages: Vec<Message> = gaps.iter().map(|gap| {
            now += gap + 1;
            Message { pool: 0, arrival: now - 1, end: now, tls: false, kept: true }
        }).collect();
        let of = |us| connections(
            &messages, &Policy { max_messages: Some(limit), ..Policy::keep_for(us) }, u64::MAX);
        prop_assert!(of(shorter + more) <= of(shorter));
    }

    /// Against a search that tries, for each message, every idle connection: none does better.
    #[test]
    fn no_choice_needs_fewer_connections(
        messages in any_messages().prop_map(|mut all| { all.truncate(9); all }), time in 1..40_u64
    ) {
        let policy = Policy::keep_for(time);
        prop_assert_eq!(connections(&messages, &policy, u64::MAX), best(&messages, time, &mut Vec::new()));
    }

    #[test]
    fn order_of_the_records_makes_no_difference(
        starts in prop::collection::vec((0..90_000_000_i64, 0..5_u8), 1..30), seed in 0..97_usize
    ) {
        let all: Vec<Connection> = starts.iter().map(|&(start, n)| {
            let spans: Vec<[u64; 2]> =
                (0..u64::from(n)).map(|i| [i * 700_000, i * 700_000 + 300_000]).collect();
            carrying(start, &spans, 6_000_000)
        }).collect();
        let mut shuffled = all.clone();
        let len = shuffled.len();
        for i in 0..len {
            shuffled.swap(i, seed * (i + 7) % len);
        }
        let times = [SECOND, 5 * SECOND];
        prop_assert_eq!(what_if(&all, &times), what_if(&shuffled, &times));
    }
}

/// Fewest connections, by trying everything. `idle`: pool and end of idle or busy connections.
fn best(messages: &[Message], time: u64, open: &mut Vec<(u32, i64)>) -> u64 {
    let Some((message, rest)) = messages.split_first() else { return 0 };
    let usable = |&(pool, end): &(u32, i64)| {
        pool == message.pool && end <= message.arrival && message.arrival.abs_diff(end) < time
    };
    let mut least = u64::MAX;
    for i in (0..open.len()).filter(|&i| usable(&open[i])).collect::<Vec<_>>() {
        let before = std::mem::replace(&mut open[i], (message.pool, message.end));
        least = least.min(best(rest, time, open));
        open[i] = before;
    }
    open.push((message.pool, message.end));
    least = least.min(1 + best(rest, time, open));
    open.pop();
    least
}
