//! Destinations beyond the limit.

use super::*;
use crate::{
    connection::{EndSuspect, Family},
    destination::{OTHER, sample::failed},
};

/// Servers about which there is something to say, by every kind of rule.
fn servers() -> Vec<Connection> {
    let to = |dst: &str, it: Connection| {
        let dst: std::net::IpAddr = dst.parse().unwrap();
        let family = if dst.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        Connection { dst, family, banner_host: Some("mx.example.org".to_owned()), ..it }
    };
    let second = 1_000_000;
    let alive = |n: u64| Connection {
        keepalive: Some(true),
        keepalive_idle_s: Some(7_200),
        idle_gaps_us: Some(vec![n * 6 * second]),
        idle_max_survived_us: Some(n * 6 * second),
        end_during: Some(EndDuring::Dialogue),
        ..served(n.cast_signed() * 4 * S, 400 * S, 1)
    };
    let dead = |n: u64| Connection {
        idle_gaps_us: Some(vec![(350 + n) * second]),
        idle_max_survived_us: None,
        end_cause: EndCause::Unanswered,
        end_during: Some(EndDuring::Reuse),
        end_idle_us: Some((350 + n) * second),
        end_unanswered_us: Some(20 * second),
        end_suspect: Some(EndSuspect::Middlebox),
        ..alive(n)
    };
    let slow = |n: i64| Connection {
        banner_us: Some(4 * 1_000_000),
        greeting_us: Some(4 * 1_000_000),
        tls_handshake_us: Some(3 * 1_000_000),
        retransmits: Some(3),
        ..served(n * 4 * S, 8 * S, 1)
    };
    let fin = |n: i64| Connection {
        replies: Some(BTreeMap::from([(220, 1), (421, 1)])),
        end_during: Some(EndDuring::Idle),
        end_idle_us: Some(300 * second),
        ..served(n * S, 301 * S, 1)
    };
    let mut all: Vec<_> = (1..40).map(|n| to("192.0.2.1", alive(n))).collect();
    all.extend((1..6).map(|n| to("192.0.2.1", dead(n))));
    all.extend((0..20).map(|n| to("192.0.2.2", slow(n))));
    all.extend((0..9).map(|n| to("192.0.2.3", closed_after(n * 20 * S, 20, Tls::None))));
    all.extend((0..8).map(|n| to("192.0.2.4", fin(n))));
    let limited = play(&traffic(2, 300), |at, accepted, _| open(at, accepted) < 3);
    all.extend(limited.into_iter().map(|it| to("192.0.2.5", it)));
    all.extend((0..30).map(|n| to("192.0.2.6", served(n * 6 * S, S, 1))));
    all.extend((0..180).map(|n| to("192.0.2.6", refused((180 + n) * S))));
    all.extend((0..9).map(|n| to("192.0.2.7", refused(n * S))));
    all.extend((0..9).map(|n| to("192.0.2.8", served(n * S, S, 0))));
    all.extend((0..9).map(|n| to("192.0.2.9", served(n * 30 * S, S, 10))));
    all.extend((0..9).map(|n| failed("2001:db8::1", n * S, 30_000_000, "ETIMEDOUT")));
    all.extend((0..9).map(|n| to("2001:db8::2", served(n * S, S, 1))));
    all
}

#[test]
fn nothing_is_concluded_of_what_many_servers_have_in_common() {
    let all = servers();
    for by in [GroupBy::Address, GroupBy::Host, GroupBy::Provider] {
        let apart = fold_of(&all);
        let said: std::collections::BTreeSet<_> =
            report(&apart, by).verdicts.iter().map(|it| it.code).collect();
        if by == GroupBy::Address {
            // The premise: these connections are such that much is said.
            assert!(said.len() >= 11, "{said:?}");
        }
        for limit in [0, 1, 2] {
            let mut fold = Fold::new(limit);
            for connection in &all {
                fold.add(connection);
            }
            let report = report(&fold, by);
            assert_eq!(report.destinations.last().unwrap().key, OTHER);
            let of_others: Vec<_> =
                report.verdicts.iter().filter(|it| it.destination == OTHER).collect();
            assert!(of_others.is_empty(), "{of_others:#?}");
        }
    }
}
