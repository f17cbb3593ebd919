//! Rules against servers whose limits are known.

mod age;
mod caching;
mod cost;
mod families;
mod host;
mod order;
mod other;
mod throttling;

use std::collections::BTreeMap;

use super::{Code, Evidence, Verdict};
use crate::{
    connection::{Connection, EndCause, EndDuring, Refusal, Tls},
    destination::{Fold, GroupBy, sample::connection},
    recording::Trust,
    report::{Context, Report},
    utc::Utc,
};

const DST: &str = "192.0.2.1";
const S: i64 = 1_000_000;

fn verdicts(all: &[Connection]) -> Vec<Verdict> {
    report(&fold_of(all), GroupBy::Address).verdicts
}

fn report(fold: &Fold, by: GroupBy) -> Report {
    let context = Context {
        hosts: vec!["mx".to_owned()],
        version: "0".to_owned(),
        start: Utc::from_micros(1_800_000_000 * S),
        end: Utc::from_micros(1_800_000_600 * S),
        filters: None,
        trust: Trust { connections_lost: Some(0), ..Trust::default() },
        hdr: false,
    };
    Report::new(fold, by, context)
}

fn find(verdicts: &[Verdict], code: Code) -> Option<&Verdict> {
    verdicts.iter().find(|verdict| verdict.code == code)
}

fn limits(verdicts: &[Verdict]) -> Vec<(Code, Option<u64>)> {
    let name = |code| if code == Code::RateLimited { "limit_per_minute" } else { "limit" };
    let of = |verdict: &Verdict| match verdict.evidence.get(name(verdict.code)) {
        Some(Evidence::Count(limit)) => Some(*limit),
        _ => None,
    };
    let codes = [Code::ConcurrencyLimited, Code::RateLimited, Code::Throttled, Code::MessageLimit];
    let limits = verdicts.iter().filter(|verdict| codes.contains(&verdict.code));
    limits.map(|verdict| (verdict.code, of(verdict))).collect()
}

/// One that was served `messages` messages in cleartext and then quit.
fn served(start: i64, lifetime: i64, messages: u32) -> Connection {
    let lifetime = lifetime.unsigned_abs();
    let spans = (0..u64::from(messages)).map(|n| [60_000 + n * 2_000, 61_000 + n * 2_000]);
    Connection {
        comm: Some("smtp".to_owned()),
        tls: Some(Tls::None),
        transactions: Some(messages),
        transactions_exact: true,
        transaction_spans_us: Some(spans.collect()),
        replies: Some(BTreeMap::from([(220, 1), (221, 1), (250, 3)])),
        refusals: Some(Vec::new()),
        end_cause: EndCause::PeerFin,
        end_idle_us: Some(100),
        ..connection(DST, start, lifetime)
    }
}

/// One that was greeted with 421 4.7.0.
fn refused(start: i64) -> Connection {
    let enhanced = "4.7.0".parse().ok();
    let during = EndDuring::Greeting;
    Connection {
        transactions: Some(0),
        transaction_spans_us: None,
        banner_code: Some(421),
        replies: Some(BTreeMap::from([(421, 1)])),
        refusals: Some(vec![Refusal { code: 421, enhanced, at_us: 50_000, during, reason: None }]),
        ..served(start, 60_000, 0)
    }
}

/// One that carried `messages` messages, and was then told `code` `enhanced`.
fn refused_later(start: i64, messages: u32, code: u16, enhanced: &str) -> Connection {
    let (enhanced, during) = (enhanced.parse().ok(), EndDuring::Dialogue);
    Connection {
        replies: Some(BTreeMap::from([(220, 1), (250, 3), (code, 1)])),
        refusals: Some(vec![Refusal { code, enhanced, at_us: 900_000, during, reason: None }]),
        end_during: Some(EndDuring::Dialogue),
        ..served(start, S, messages)
    }
}

/// Plays `wishes` (when, for how long) against a server that accepts as `rule` says, which sees the arrivals
/// it accepted so far, and all of them.
fn play(
    wishes: &[(i64, i64)],
    rule: impl Fn(i64, &[(i64, i64)], &[i64]) -> bool,
) -> Vec<Connection> {
    let (mut accepted, mut all) = (Vec::new(), Vec::new());
    let play = |&(start, length): &(i64, i64)| {
        let accepts = rule(start, &accepted, &all);
        all.push(start);
        if accepts {
            accepted.push((start, start + length));
            served(start, length, 1)
        } else {
            refused(start)
        }
    };
    wishes.iter().map(play).collect()
}

fn open(at: i64, accepted: &[(i64, i64)]) -> usize {
    accepted.iter().filter(|(_, end)| *end > at).count()
}

/// Random numbers that are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Traffic that comes and goes: `n` connections of 0.5 to 4 s.
fn traffic(seed: u64, n: u64) -> Vec<(i64, i64)> {
    let mut dice = Dice(seed);
    let mut at = 0_i64;
    (0..n)
        .map(|i| {
            let pause = if i % 40 < 30 { 700_000 } else { 4_000_000 };
            at += dice.below(pause).cast_signed() + 1;
            (at, dice.below(3_500_000).cast_signed() + 500_000)
        })
        .collect()
}

/// A server that closes after `messages` messages, without a word.
fn closed_after(start: i64, messages: u32, tls: Tls) -> Connection {
    Connection {
        tls: Some(tls),
        replies: Some(BTreeMap::from([(220, 1), (250, 3)])),
        ..served(start, S, messages)
    }
}

/// All connections in one fold.
fn fold_of<'a>(all: impl IntoIterator<Item = &'a Connection>) -> Fold {
    let mut fold = Fold::new(100);
    for connection in all {
        fold.add(connection);
    }
    fold
}
