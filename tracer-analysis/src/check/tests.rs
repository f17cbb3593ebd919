use super::*;
use crate::{
    connection::Connection,
    destination::{Fold, GroupBy, sample},
    recording::Trust,
    report::{Context, Report},
    utc::Utc,
    verdict::Severity,
};

/// Two destinations: ten messages on one connection, and one message on each of three.
fn report(trust: Trust) -> Report {
    let mut fold = Fold::new(10);
    let to = |dst, messages| Connection {
        transactions: Some(messages),
        greeting_us: Some(2_000_000),
        ..sample::connection(dst, 0, 3_000_000)
    };
    fold.add(&to("192.0.2.1", 10));
    (0..3).for_each(|_| fold.add(&to("192.0.2.2", 1)));
    let context = Context {
        hosts: vec!["mx1".to_owned()],
        version: "0".to_owned(),
        start: Utc::from_micros(0),
        end: Utc::from_micros(60_000_000),
        filters: None,
        trust,
        hdr: false,
    };
    Report::new(&fold, GroupBy::Address, context)
}

fn complete() -> Report {
    report(Trust { connections_lost: Some(0), ..Trust::default() })
}

fn reuse(warning: Option<f64>, critical: f64) -> Thresholds {
    Thresholds { min_reuse: Some(Levels { warning, critical }), ..Thresholds::default() }
}

#[test]
fn a_level_is_crossed_beyond_it_not_at_it() {
    // 13 messages over 4 connections: 9/13 were reused.
    let nine = 9.0 / 13.0;
    for (warning, critical, expected) in [
        (None, 0.69, State::Ok),
        (None, 0.70, State::Critical),
        (Some(0.70), 0.50, State::Warning),
        (Some(0.80), 0.70, State::Critical),
        (Some(nine - 1e-3), 0.1, State::Ok),
    ] {
        let found = check(&complete(), &reuse(warning, critical), &Scope::Total).unwrap();
        assert_eq!(found.state, expected, "{warning:?} {critical}");
        assert_eq!(found.findings.len(), usize::from(expected != State::Ok));
    }
    let p99 = |critical| Thresholds {
        max_greeting_p99_us: Some(Levels { warning: None, critical }),
        ..Thresholds::default()
    };
    let state = |critical| check(&complete(), &p99(critical), &Scope::Total).unwrap().state;
    assert_eq!((state(2_000_000), state(1_999_999)), (State::Ok, State::Critical));
}

#[test]
fn each_destination_or_one() {
    let each = check(&complete(), &reuse(None, 0.5), &Scope::Each(1)).unwrap();
    let [Finding::Number(low)] = &each.findings[..] else { panic!("{each:?}") };
    assert_eq!(low.destination.as_deref(), Some("192.0.2.2"));
    assert_eq!((low.value, each.destinations), (Some(Value::Share(0.0)), 2));
    let large = check(&complete(), &reuse(None, 1.0), &Scope::Each(3)).unwrap();
    assert_eq!((large.destinations, large.findings.len()), (1, 1));
    let one = Scope::One("192.0.2.1".to_owned());
    assert_eq!(check(&complete(), &reuse(None, 0.9), &one).unwrap().state, State::Ok);
    let none = Scope::One("192.0.2.3".to_owned());
    let error = check(&complete(), &reuse(None, 0.9), &none).unwrap_err();
    assert!(error.to_string().contains("192.0.2.3"));
}

#[test]
fn what_is_not_known_is_not_ok() {
    let mut report = complete();
    report.totals.reuse_ratio = None;
    let found = check(&report, &reuse(None, 0.0), &Scope::Total).unwrap();
    assert_eq!(found.state, State::Unknown);
    // Without a threshold nobody asked.
    let found = check(&report, &Thresholds::default(), &Scope::Total).unwrap();
    assert_eq!(found.state, State::Ok);
    // A level that is crossed is worse than one that is not known.
    let both = Thresholds {
        max_greeting_p99_us: Some(Levels { warning: Some(0), critical: u64::MAX }),
        ..reuse(None, 0.0)
    };
    assert_eq!(check(&report, &both, &Scope::Total).unwrap().state, State::Warning);
}

#[test]
fn verdicts_count_from_a_severity_on() {
    let lossy = report(Trust { connections_lost: Some(3), ..Trust::default() });
    let from = |severity| Thresholds { fail_on: Some(severity), ..Thresholds::default() };
    let state = |severity| check(&lossy, &from(severity), &Scope::Total).unwrap().state;
    assert_eq!(state(Severity::Warning), State::Warning);
    assert_eq!(state(Severity::Critical), State::Ok);
    let elsewhere = Scope::One("192.0.2.1".to_owned());
    let found = check(&lossy, &from(Severity::Info), &elsewhere).unwrap();
    assert!(found.findings.iter().all(|finding| finding.state() == State::Ok), "{found:?}");
}
