//! Limits of servers that are known.

use super::*;
use crate::{
    destination::sample::failed,
    verdict::{Confidence, Severity},
};

#[test]
fn concurrency_limit_is_named() {
    for (limit, seed) in [(2, 1), (5, 2), (5, 3), (4, 4)] {
        let all = play(&traffic(seed, 300), |at, accepted, _| open(at, accepted) < limit);
        let verdicts = verdicts(&all);
        let expected = vec![(Code::ConcurrencyLimited, Some(limit as u64))];
        assert_eq!(limits(&verdicts), expected, "{verdicts:#?}");
        let verdict = find(&verdicts, Code::ConcurrencyLimited).unwrap();
        assert_eq!(verdict.confidence, Confidence::High);
        assert!(verdict.advice[0].text.contains("_destination_concurrency_limit = "));
        assert_eq!(verdict.evidence["side"], Evidence::Text("peer".to_owned()));
    }
}

#[test]
fn rate_limits_are_named_however_the_server_counts() {
    let minute = 60 * S;
    let sliding = |at: i64, accepted: &[(i64, i64)], _: &[i64]| {
        accepted.iter().filter(|(start, _)| *start > at - minute).count() < 30
    };
    // anvil(8): a minute from the first connection after the last one.
    let window = |at: i64, _: &[(i64, i64)], all: &[i64]| {
        let (mut begin, mut count) = (i64::MIN, 0);
        for &start in all.iter().chain([&at]) {
            if begin == i64::MIN || start - begin >= minute {
                (begin, count) = (start, 0);
            }
            count += 1;
        }
        count <= 30
    };
    for seed in 1..4 {
        // Short, so that few are open at a time.
        let wishes: Vec<_> =
            traffic(seed, 600).into_iter().map(|(at, length)| (at, length / 10)).collect();
        for (name, all) in [("sliding", play(&wishes, sliding)), ("window", play(&wishes, window))]
        {
            let verdicts = verdicts(&all);
            let expected = vec![(Code::RateLimited, Some(30))];
            assert_eq!(limits(&verdicts), expected, "{name} {seed}: {verdicts:#?}");
        }
    }
}

#[test]
fn no_limit_gives_no_verdict() {
    for seed in 1..5 {
        let all = play(&traffic(seed, 300), |_, _, _| true);
        assert_eq!(limits(&verdicts(&all)), []);
    }
}

#[test]
fn random_refusals_are_no_limit() {
    for seed in 1..40 {
        let mut dice = Dice(seed + 1000);
        let chances: Vec<bool> = (0..300).map(|_| dice.below(10) < 2).collect();
        let all = play(&traffic(seed, 300), |_, _, all| !chances[all.len()]);
        let verdicts = verdicts(&all);
        assert_eq!(limits(&verdicts), [(Code::Throttled, None)], "{seed}");
        let verdict = find(&verdicts, Code::Throttled).unwrap();
        assert_eq!(verdict.confidence, Confidence::Low);
        assert!(verdict.summary.contains("Cannot tell"), "{}", verdict.summary);
    }
}

#[test]
fn an_outage_is_no_limit() {
    for seed in 1..20 {
        let mut all = Vec::new();
        for (at, length) in traffic(seed, 300) {
            let down = (60 * S..90 * S).contains(&at) || (150 * S..170 * S).contains(&at);
            all.push(if down {
                failed(DST, at, 300, "ECONNREFUSED")
            } else {
                served(at, length, 1)
            });
        }
        assert_eq!(limits(&verdicts(&all)), [], "{seed}");
    }
}

#[test]
fn bursts_once_a_minute_cannot_tell_which() {
    let wishes: Vec<_> =
        (0..10).flat_map(|burst| (0..9).map(move |n| (burst * 70 * S + n * 1_000, S))).collect();
    let verdicts = verdicts(&play(&wishes, |at, accepted, _| open(at, accepted) < 5));
    let verdict = find(&verdicts, Code::Throttled).unwrap();
    assert_eq!(limits(&verdicts), [(Code::Throttled, Some(5))]);
    assert_eq!(verdict.evidence["limit_per_minute"], Evidence::Count(5));
}

#[test]
fn refused_connects_can_show_a_limit_too() {
    let all: Vec<_> = play(&traffic(7, 300), |at, accepted, _| open(at, accepted) < 3)
        .into_iter()
        .map(|it| match it.banner_code {
            Some(421) => failed(DST, it.start.micros() - 1_800_000_000 * S, 300, "ECONNREFUSED"),
            _ => it,
        })
        .collect();
    assert_eq!(limits(&verdicts(&all)), [(Code::ConcurrencyLimited, Some(3))]);
}

#[test]
fn our_own_server_is_named() {
    let all: Vec<_> = play(&traffic(2, 300), |at, accepted, _| open(at, accepted) < 3)
        .into_iter()
        .map(|it| Connection { src: it.dst, ..it })
        .collect();
    let verdicts = verdicts(&all);
    let verdict = find(&verdicts, Code::ConcurrencyLimited).unwrap();
    assert_eq!(verdict.evidence["side"], Evidence::Text("own".to_owned()));
    assert!(verdict.advice[0].text.contains("smtpd_client_connection_count_limit"));
}

#[test]
fn a_block_is_no_limit() {
    let all: Vec<_> = (0..20).map(|n| refused(n * S)).collect();
    let verdicts = verdicts(&all);
    let verdict = find(&verdicts, Code::Throttled).unwrap();
    assert_eq!(verdict.severity, Severity::Critical);
    assert!(verdict.summary.contains("accepted none"), "{}", verdict.summary);
}

/// More connections than are kept: a sample of minutes still shows the limit, and says that it is one.
#[test]
fn a_sample_of_minutes_is_enough() {
    let all = play(&traffic(3, 20_000)[..], |at, accepted, _| {
        accepted.iter().rev().take(40).filter(|(_, end)| *end > at).count() < 4
    });
    let verdicts = verdicts(&all);
    assert_eq!(limits(&verdicts), [(Code::ConcurrencyLimited, Some(4))]);
    let verdict = find(&verdicts, Code::ConcurrencyLimited).unwrap();
    assert_eq!(verdict.evidence["sample"], Evidence::Flag(true));
}

#[test]
fn refusals_after_messages_are_throttling() {
    let served: Vec<_> = (0..40).map(|n| served(n * 30 * S, S, 2)).collect();
    let with = |more: Vec<Connection>| -> Vec<Verdict> {
        verdicts(&served.iter().cloned().chain(more).collect::<Vec<_>>())
    };
    for (code, enhanced) in [(421, "4.7.0"), (451, "4.7.652"), (432, "4.3.2")] {
        let later = |n: u32| refused_later(i64::from(n) * 50 * S, n % 5 + 1, code, enhanced);
        let found = with((0..6).map(later).collect());
        let verdict = find(&found, Code::Throttled).unwrap();
        assert_eq!(verdict.evidence["refused_later"], Evidence::Count(6));
        assert_eq!(verdict.evidence["refused_by_reply"], Evidence::Count(0));
        assert_eq!((verdict.severity, verdict.confidence), (Severity::Warning, Confidence::Low));
        let said = format!(
            "The server accepted 46 connections and refused to go on with 6 of them later \
             (6 x {code} {enhanced})."
        );
        assert!(verdict.summary.starts_with(&said), "{}", verdict.summary);
        assert_eq!(limits(&with((0..2).map(later).collect())), [], "two may be anything");
    }
    // Greylisting is none, nor is the farewell to a session that idled, with a reason or without.
    let grey = |n: u32| refused_later(i64::from(n) * 50 * S, n + 1, 451, "4.7.1");
    let idle = |n: i64, reason: &str| Connection {
        end_during: Some(EndDuring::Idle),
        end_idle_us: Some(300_000_000),
        ..refused_later(n * 50 * S, 2, 421, reason)
    };
    assert_eq!(limits(&with((0..6).map(grey).collect())), []);
    for reason in ["4.4.2", "4.7.0", "none"] {
        assert_eq!(limits(&with((0..6).map(|n| idle(n, reason)).collect())), [], "{reason}");
    }
}

#[test]
fn refusals_after_messages_count_beside_those_at_the_door() {
    let mut all: Vec<_> = (0..40).map(|n| served(n * 30 * S, S, 2)).collect();
    all.extend((0..4).map(|n| refused_later(n * 50 * S, 1, 421, "4.7.0")));
    all.extend((0..3).map(|n| refused(n * 170 * S + 7)));
    let verdicts = verdicts(&all);
    let verdict = find(&verdicts, Code::Throttled).unwrap();
    let said = "The server turned away 3 of 47 connections, and 4 after it had accepted them (7 x 421 \
                4.7.0).";
    assert!(verdict.summary.starts_with(said), "{}", verdict.summary);
}

#[test]
fn a_421_after_so_many_messages_is_that_limit_and_no_throttling() {
    let all: Vec<_> = (0..9).map(|n| refused_later(n * 50 * S, 20, 421, "4.7.0")).collect();
    assert_eq!(limits(&verdicts(&all)), [(Code::MessageLimit, Some(20))]);
}

#[test]
fn message_limits() {
    let some =
        |messages: u32, n: i64, tls| (0..n).map(move |i| closed_after(i * 20 * S, messages, tls));
    let all: Vec<_> = some(20, 6, Tls::None).chain((0..9).map(|n| served(n * S, S, 7))).collect();
    let clear = verdicts(&all);
    assert_eq!(limits(&clear), [(Code::MessageLimit, Some(20))]);
    assert_eq!(find(&clear, Code::MessageLimit).unwrap().confidence, Confidence::High);
    let encrypted = verdicts(&some(20, 6, Tls::Starttls).collect::<Vec<_>>());
    assert_eq!(find(&encrypted, Code::MessageLimit).unwrap().confidence, Confidence::Low);
    // Not: sessions that we ended, one more than the limit, closes at any number.
    let quit: Vec<_> = (0..9).map(|n| served(n * 20 * S, S, 20)).collect();
    assert_eq!(limits(&verdicts(&quit)), []);
    let beyond: Vec<_> = all.iter().cloned().chain([served(0, S, 21)]).collect();
    assert_eq!(limits(&verdicts(&beyond)), []);
    let any: Vec<_> =
        (1..20_u32).map(|n| closed_after(i64::from(n) * 20 * S, n, Tls::None)).collect();
    assert_eq!(limits(&verdicts(&any)), []);
    let single: Vec<_> = some(1, 9, Tls::Starttls).collect();
    assert_eq!(limits(&verdicts(&single)), [], "QUIT after one message is the ordinary case");
}

#[test]
fn a_server_that_lets_us_idle_and_closes_has_no_message_limit() {
    let idle =
        |n: i64| Connection { end_idle_us: Some(300_000_000), ..closed_after(n * S, 1, Tls::None) };
    let said = |n: i64| {
        let refusal = Refusal {
            code: 421,
            enhanced: "4.4.2".parse().ok(),
            at_us: 900_000,
            during: EndDuring::Dialogue,
            reason: None,
        };
        Connection { refusals: Some(vec![refusal]), ..closed_after(n * S, 1, Tls::None) }
    };
    assert_eq!(limits(&verdicts(&(0..9).map(idle).collect::<Vec<_>>())), []);
    assert_eq!(limits(&verdicts(&(0..9).map(said).collect::<Vec<_>>())), []);
}
