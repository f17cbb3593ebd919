//! Servers that close sessions at an age, against servers that count messages and servers that time out.

use super::*;
use crate::{
    connection::Refusal,
    smtp::{EnhancedCode, Reason},
    verdict::{Confidence, Verdict},
};

const US: u64 = 1_000_000;

/// One that the server closed at `age` after `messages` messages, `quiet` after the last data; both in
/// microseconds. Longest gap that it survived: `survived`.
fn closed(start: i64, [age, quiet, survived]: [u64; 3], messages: u32, tls: Tls) -> Connection {
    Connection {
        end_began_us: Some(age),
        lifetime_us: Some(age + 3 * US), // the mail server closes later
        end_idle_us: Some(quiet),
        end_during: Some(if quiet >= 100_000 { EndDuring::Idle } else { EndDuring::Dialogue }),
        idle_gaps_us: Some(vec![survived]),
        idle_max_survived_us: Some(survived),
        ..closed_after(start, messages, tls)
    }
}

/// Ten of them, one a second; `of` says what each is like.
fn ten(of: impl Fn(u64) -> ([u64; 3], u32)) -> Vec<Connection> {
    let one = |n: u64| {
        let (times, messages) = of(n);
        closed(n.cast_signed() * S, times, messages, Tls::None)
    };
    (0..10).map(one).collect()
}

fn codes(all: &[Connection]) -> Vec<(Code, Confidence)> {
    let wanted = [Code::SessionAgeLimit, Code::MessageLimit, Code::IdleClosedByServer];
    let of = |it: &Verdict| wanted.contains(&it.code).then_some((it.code, it.confidence));
    verdicts(all).iter().filter_map(of).collect()
}

#[test]
fn an_age_whatever_was_carried() {
    let pause = |n: u64| 300_000 + n * 70_000;
    let all =
        ten(|n| ([10 * US + n * 20_000, pause(n), 2 * US], 3 + u32::try_from(n % 4).unwrap()));
    let verdicts = verdicts(&all);
    let verdict = find(&verdicts, Code::SessionAgeLimit).unwrap();
    assert_eq!(verdict.confidence, Confidence::High);
    assert_eq!(verdict.evidence["age_s"], Evidence::Number(10.08));
    assert_eq!(verdict.evidence["closed_at_age"], Evidence::Count(10));
    let summary = "The server closes sessions at an age of 10.1 s: 10 of 10 that it closed, whatever they \
                   had carried.";
    assert_eq!(verdict.summary, summary);
    assert!(verdict.advice[0].text.contains("smtp_connection_reuse_time_limit below 10s"));
    assert!(find(&verdicts, Code::MessageLimit).is_none());
}

/// Into a quiet session, in words that name no limit.
fn with_farewell(enhanced: Option<&str>) -> Vec<Connection> {
    let refusal = Refusal {
        code: 421,
        enhanced: enhanced.map(|it| EnhancedCode::parse(it.as_bytes()).unwrap()),
        at_us: 10 * US,
        during: EndDuring::Idle,
        reason: Some(Reason::Other),
    };
    let pause = |n: u64| 300_000 + n * 70_000;
    let all =
        ten(|n| ([10 * US + n * 20_000, pause(n), 2 * US], 3 + u32::try_from(n % 4).unwrap()));
    let with = |it: Connection| Connection { refusals: Some(vec![refusal]), ..it };
    all.into_iter().map(with).collect()
}

#[test]
fn a_farewell_is_weighed_unless_it_speaks_of_a_timeout() {
    assert_eq!(codes(&with_farewell(None)), [(Code::SessionAgeLimit, Confidence::High)]);
    assert_eq!(codes(&with_farewell(Some("4.7.0"))), [(Code::SessionAgeLimit, Confidence::High)]);
    assert!(codes(&with_farewell(Some("4.4.2"))).iter().all(|it| it.0 != Code::SessionAgeLimit));
}

/// All are as old and had carried as much. A server that counts would not wait after the last message.
#[test]
fn a_pause_before_the_close_speaks_for_the_age() {
    let all = ten(|n| ([10 * US + n * 5_000, 650_000, 850_000], 12));
    assert_eq!(codes(&all), [(Code::SessionAgeLimit, Confidence::Medium)]);
    let summary = find(&verdicts(&all), Code::SessionAgeLimit).unwrap().summary.clone();
    assert!(summary.contains("All had carried 12 messages"), "{summary}");
}

#[test]
fn both_explain_it_and_both_are_named() {
    let all = ten(|n| ([10 * US + n * 5_000, 100, 850_000], 12));
    assert_eq!(codes(&all), [(Code::MessageLimit, Confidence::Medium)]);
    let verdicts = verdicts(&all);
    let verdict = find(&verdicts, Code::MessageLimit).unwrap();
    assert!(verdict.summary.ends_with("10.0 s old by then: a limit of age explains it as well."));
    assert_eq!(verdict.evidence["age_s"], Evidence::Number(10.02));
}

#[test]
fn a_number_of_messages_at_any_age() {
    let all = ten(|n| ([(5 + n) * US, 100, 850_000], 12));
    assert_eq!(codes(&all), [(Code::MessageLimit, Confidence::High)]);
}

/// A message at once, and the server's timeout after it: all sessions are as old then, too.
#[test]
fn a_timeout_of_idle_sessions_is_no_limit_of_age() {
    let all = ten(|n| ([10 * US + n * 30_000, 10 * US, 200_000], 1));
    assert_eq!(codes(&all), [(Code::IdleClosedByServer, Confidence::High)]);
    // Where longer gaps survive, or the quiet time before differs, it is no timeout.
    let longer = ten(|n| ([40 * US + n * 30_000, 10 * US, 15 * US], 1));
    assert_eq!(codes(&longer), [(Code::SessionAgeLimit, Confidence::High)]);
    let varied = ten(|n| ([40 * US, (3 + 3 * n) * US, 200_000], 1));
    assert_eq!(codes(&varied), [(Code::SessionAgeLimit, Confidence::High)]);
}

#[test]
fn sessions_that_grow_older_leave_no_limit() {
    let mut all = ten(|n| ([10 * US, 650_000, 850_000], 3 + u32::try_from(n % 4).unwrap()));
    assert_eq!(codes(&all), [(Code::SessionAgeLimit, Confidence::High)]);
    let younger =
        (0..20).map(|n| Connection { end_began_us: Some(8 * US), ..served(n * S, 8 * S, 9) });
    all.extend(younger);
    assert_eq!(codes(&all), [(Code::SessionAgeLimit, Confidence::High)], "we closed those before");
    let older =
        (0..2).map(|n| Connection { end_began_us: Some(20 * US), ..served(n * S, 20 * S, 9) });
    all.extend(older);
    assert_eq!(codes(&all), []);
}

#[test]
fn closes_at_any_age_are_no_limit() {
    let all = ten(|n| ([(5 + n) * US, 650_000, 850_000], 3 + u32::try_from(n % 4).unwrap()));
    assert_eq!(codes(&all), []);
    let few: Vec<_> = ten(|_| ([10 * US, 650_000, 850_000], 2)).into_iter().take(4).collect();
    assert_eq!(codes(&few), []);
}

/// Under TLS a QUIT cannot be seen, and sessions of one message are all about as old when they end.
#[test]
fn under_tls_only_a_close_into_a_quiet_session_counts() {
    let of = |quiet| -> Vec<Connection> {
        let one = |n: u64| {
            let messages = 3 + u32::try_from(n % 4).unwrap();
            let times = [10 * US + n * 20_000, quiet, 2 * US];
            closed(n.cast_signed() * S, times, messages, Tls::Starttls)
        };
        (0..10).map(one).collect()
    };
    assert_eq!(codes(&of(100)), []);
    assert_eq!(codes(&of(650_000)), [(Code::SessionAgeLimit, Confidence::High)]);
}

/// Records of versions that did not note when the end began.
#[test]
fn without_the_age_nothing_is_said_of_it() {
    let all = ten(|n| ([10 * US, 650_000, 850_000], 3 + u32::try_from(n % 4).unwrap()));
    let without = |it: &Connection| Connection { end_began_us: None, ..it.clone() };
    assert_eq!(codes(&all.iter().map(without).collect::<Vec<_>>()), []);
}
