//! IPv4 against IPv6: failures, times and limits.

use super::*;
use crate::{
    connection::Family,
    destination::sample::failed,
    verdict::{Confidence, Severity},
};

const V6: &str = "2001:db8::1";

/// To the same server over the one family or the other.
fn over(family: Family, it: Connection) -> Connection {
    let banner_host = it.connect_us.map(|_| "mx.example.org".to_owned());
    match family {
        Family::Ipv4 => Connection { banner_host, ..it },
        Family::Ipv6 => Connection {
            banner_host,
            family,
            dst: V6.parse().unwrap(),
            src: "2001:db8:f::25".parse().unwrap(),
            ..it
        },
    }
}

fn both(v4: Vec<Connection>, v6: Vec<Connection>) -> Vec<Connection> {
    let v4 = v4.into_iter().map(|it| over(Family::Ipv4, it));
    v4.chain(v6.into_iter().map(|it| over(Family::Ipv6, it))).collect()
}

/// The verdicts on the host behind both addresses.
fn on_host(all: &[Connection]) -> Vec<Verdict> {
    let mut verdicts = report(&fold_of(all), GroupBy::Host).verdicts;
    verdicts.retain(|it| it.destination == "mx.example.org");
    verdicts
}

fn at_a_time(seed: u64, limit: usize) -> Vec<Connection> {
    play(&traffic(seed, 300), |at, accepted, _| open(at, accepted) < limit)
}

fn per_minute(seed: u64, limit: usize) -> Vec<Connection> {
    let wishes: Vec<_> =
        traffic(seed, 600).into_iter().map(|(at, length)| (at, length / 10)).collect();
    play(&wishes, |at, accepted, _| {
        accepted.iter().filter(|(start, _)| *start > at - 60 * S).count() < limit
    })
}

fn text(verdict: &Verdict, name: &str) -> String {
    match verdict.evidence.get(name) {
        Some(Evidence::Text(text)) => text.clone(),
        other => format!("{other:?}"),
    }
}

#[test]
fn limits_that_differ_are_named_for_each_family() {
    let verdicts = on_host(&both(at_a_time(2, 5), at_a_time(3, 2)));
    let found: Vec<_> = verdicts
        .iter()
        .filter(|it| it.code == Code::ConcurrencyLimited)
        .map(|it| (text(it, "family"), it.evidence["limit"].clone(), it.confidence))
        .collect();
    // Over IPv6 most are refused.
    let expected = [("IPv6", 2), ("IPv4", 5)]
        .map(|(family, limit)| (family.to_owned(), Evidence::Count(limit), Confidence::High));
    assert_eq!(found, expected, "{verdicts:#?}");
    let one = find(&verdicts, Code::ConcurrencyLimited).unwrap();
    assert!(one.summary.contains("2 connections at a time over IPv6: of"), "{}", one.summary);
    assert_eq!(limits(&verdicts).len(), 2, "nothing is said of both together: {verdicts:#?}");
}

#[test]
fn limits_of_another_kind_differ_too() {
    let verdicts = on_host(&both(at_a_time(2, 4), per_minute(1, 30)));
    let expected = [(Code::RateLimited, Some(30)), (Code::ConcurrencyLimited, Some(4))];
    assert_eq!(limits(&verdicts), expected, "more were refused over IPv6: {verdicts:#?}");
    assert_eq!(text(find(&verdicts, Code::RateLimited).unwrap(), "family"), "IPv6");
}

#[test]
fn a_limit_of_one_family_alone_says_how_the_other_fares() {
    let free = play(&traffic(3, 300), |_, _, _| true);
    let verdicts = on_host(&both(free, at_a_time(4, 2)));
    assert_eq!(limits(&verdicts), [(Code::ConcurrencyLimited, Some(2))], "{verdicts:#?}");
    let verdict = find(&verdicts, Code::ConcurrencyLimited).unwrap();
    assert_eq!(text(verdict, "family"), "IPv6");
    assert!(verdict.summary.ends_with(" Over IPv4 it refused 0 of 300."), "{verdict:?}");
    assert_eq!(verdict.evidence["connections"], Evidence::Count(300), "those over IPv6");
}

#[test]
fn the_same_limit_is_said_once() {
    let verdicts = on_host(&both(at_a_time(2, 3), at_a_time(3, 3)));
    assert_eq!(limits(&verdicts), [(Code::ConcurrencyLimited, Some(3))], "{verdicts:#?}");
    let verdict = find(&verdicts, Code::ConcurrencyLimited).unwrap();
    assert_eq!(verdict.evidence.get("family"), None);
    assert_eq!(verdict.evidence["connections"], Evidence::Count(600));
}

#[test]
fn random_refusals_are_no_limit_of_a_family_either() {
    for seed in 1..30 {
        let mut dice = Dice(seed + 2000);
        let mut random = |seed| {
            let chances: Vec<bool> = (0..300).map(|_| dice.below(10) < 2).collect();
            play(&traffic(seed, 300), |_, _, all| !chances[all.len()])
        };
        let verdicts = on_host(&both(random(seed), random(seed + 50)));
        assert_eq!(limits(&verdicts), [(Code::Throttled, None)], "{seed}");
    }
}

#[test]
fn the_family_whose_connects_fail_may_be_ipv4() {
    let lost = (0..8).map(|n| failed(DST, n * 30 * S, 30_000_000, "ETIMEDOUT"));
    let v4: Vec<_> = (0..2).map(|n| served(n * 30 * S, S, 1)).chain(lost).collect();
    let v6: Vec<_> = (0..10).map(|n| served(n * 30 * S, S, 1)).collect();
    let verdicts = on_host(&both(v4, v6));
    let verdict = find(&verdicts, Code::FamilyAsymmetry).unwrap();
    assert_eq!(text(verdict, "worse"), "IPv4");
    assert_eq!((verdict.severity, verdict.confidence), (Severity::Warning, Confidence::High));
    let said = "8 of 10 connects over IPv4 failed, 0 of 10 over IPv6; failed attempts over IPv4 took \
                240 s in all.";
    assert_eq!(verdict.summary, said);
    assert!(verdict.advice[0].text.contains("smtp_address_preference = ipv6"), "{verdict:?}");
}

/// Connects and greetings of so many milliseconds, give or take a tenth.
fn timed(connect_ms: u64, greeting_ms: u64) -> Vec<Connection> {
    let one = |n: i64| {
        let ms = |ms: u64| Some(ms * (900 + n.unsigned_abs() * 20));
        Connection {
            connect_us: ms(connect_ms),
            greeting_us: ms(greeting_ms),
            ..served(n * 30 * S, 5 * S, 1)
        }
    };
    (0..11).map(one).collect()
}

#[test]
fn the_slower_family_is_named() {
    for (v4, v6, worse, what) in [
        (timed(20, 30), timed(300, 30), "IPv6", "connecting takes 300 ms"),
        (timed(300, 30), timed(20, 30), "IPv4", "connecting takes 300 ms"),
        (timed(20, 30), timed(20, 500), "IPv6", "the greeting takes 5"),
        (timed(20, 500), timed(20, 30), "IPv4", "the greeting takes 5"),
    ] {
        let all = both(v4, v6);
        let verdicts = on_host(&all);
        let verdict = find(&verdicts, Code::FamilyAsymmetry).unwrap();
        assert_eq!(text(verdict, "worse"), worse);
        assert_eq!((verdict.severity, verdict.confidence), (Severity::Info, Confidence::Medium));
        let said = format!("Over {worse}, {what}");
        assert!(verdict.summary.starts_with(&said), "{}", verdict.summary);
        // Destinations have times of their own: of all together nothing is said.
        let of_total = report(&fold_of(&all), GroupBy::Host).verdicts.into_iter();
        let mut of_total = of_total.filter(|it| it.destination == "total");
        assert!(!of_total.any(|it| it.code == Code::FamilyAsymmetry));
    }
}

#[test]
fn what_is_as_fast_or_fails_as_often_is_no_asymmetry() {
    let lost = || -> Vec<_> {
        let lost = (0..8).map(|n| failed(DST, n * 30 * S, 30_000_000, "ETIMEDOUT"));
        lost.chain((0..4).map(|n| served(n * 30 * S, S, 1))).collect()
    };
    let lost6 = lost().into_iter().map(|it| match it.connect_us {
        None => Connection { dst: V6.parse().unwrap(), family: Family::Ipv6, ..it },
        Some(_) => over(Family::Ipv6, it),
    });
    let failing: Vec<_> =
        lost().into_iter().map(|it| over(Family::Ipv4, it)).chain(lost6).collect();
    // Twice as slow, but by less than 0.1 s; and by more, but not twice.
    for all in [
        failing,
        both(timed(20, 30), timed(60, 80)),
        both(timed(400, 700), timed(550, 850)),
        both(timed(20, 30), timed(300, 30).split_off(8)),
    ] {
        assert_eq!(find(&on_host(&all), Code::FamilyAsymmetry), None);
    }
}

/// A connect over IPv6 that this host ended after so many milliseconds, with an error or without.
fn ended_here(n: i64, ms: u64, error: Option<&str>) -> Connection {
    let cause = if error.is_some() { EndCause::ConnectError } else { EndCause::LocalFin };
    Connection {
        family: Family::Ipv6,
        connect_error: error.map(str::to_owned),
        end_cause: cause,
        ..failed(V6, n * 4 * S, ms * 1_000, "")
    }
}

/// Clients that try both families at once give the slower one up after 250 ms; and where no source port is
/// free no SYN is sent.
#[test]
fn connects_that_end_on_this_side_blame_nobody() {
    let found = |ms: u64, error: Option<&str>| {
        let v4 = (0..40).map(|n| over(Family::Ipv4, served(n * 4 * S, S, 1)));
        let v6 = (0..3).map(|n| over(Family::Ipv6, served(n * 4 * S, S, 1)));
        let lost = (0..40).map(|n| ended_here(n, ms, error));
        let all: Vec<_> = v4.chain(v6).chain(lost).collect();
        let verdicts = on_host(&all);
        assert_eq!((limits(&verdicts), find(&verdicts, Code::RetryStorm)), (Vec::new(), None));
        find(&verdicts, Code::FamilyAsymmetry).map(|it| it.summary.clone())
    };
    assert_eq!(found(250, None), None);
    assert_eq!(found(1_400, None), None);
    assert_eq!(found(0, Some("EADDRNOTAVAIL")), None);
    let dead = "40 of 43 connects over IPv6 failed, 0 of 40 over IPv4; failed attempts over IPv6 took \
                160 s in all.";
    assert_eq!(found(4_000, None).as_deref(), Some(dead));
    assert!(found(300, Some("EHOSTUNREACH")).is_some(), "the path says so at once");
}

/// A dead family is told although some of its connects ended on this side.
#[test]
fn connects_that_end_on_this_side_do_not_count_for_it_either() {
    let v4 = (0..9).map(|n| over(Family::Ipv4, served(n * 4 * S, S, 1)));
    let v6 = (0..3).map(|n| over(Family::Ipv6, served(n * 4 * S, S, 1)));
    let dead = (0..9).map(|n| ended_here(n, 30_000, Some("ETIMEDOUT")));
    let here = (0..50).map(|n| ended_here(n, 250, None));
    let verdicts = on_host(&v4.chain(v6).chain(dead).chain(here).collect::<Vec<_>>());
    let verdict = find(&verdicts, Code::FamilyAsymmetry).unwrap();
    assert!(
        verdict.summary.starts_with("9 of 12 connects over IPv6 failed, 0 of 9"),
        "{verdict:?}"
    );
    assert_eq!(verdict.evidence["ipv6_connects_ended_here"], Evidence::Count(50));
    assert_eq!(verdict.evidence["ipv6_failed_seconds"], Evidence::Number(270.0));
}
