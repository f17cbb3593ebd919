//! Retries, greetings, families, paths.

use super::*;
use crate::{
    destination::sample::failed,
    verdict::{Confidence, Severity},
};

#[test]
fn retry_storm() {
    let mut all: Vec<_> = (0..30).map(|n| served(n * 6 * S, S, 1)).collect();
    assert_eq!(find(&verdicts(&all), Code::RetryStorm), None);
    all.extend((0..180).map(|n| refused(180 * S + n * S)));
    let verdicts = verdicts(&all);
    let verdict = find(&verdicts, Code::RetryStorm).unwrap();
    assert_eq!(verdict.evidence["peak_per_minute"], Evidence::Count(60));
    assert_eq!(verdict.evidence["usual_per_minute"], Evidence::Count(10));
}

#[test]
fn slow_greetings() {
    let slow = |n: i64, banner: u64, greeting: u64| Connection {
        banner_us: Some(banner),
        greeting_us: Some(greeting),
        ..served(n * 30 * S, 8 * S, 1)
    };
    let teaser: Vec<_> = (0..8).map(|n| slow(n, 10_000, 6_010_000)).collect();
    let verdicts_of = verdicts(&teaser);
    let verdict = find(&verdicts_of, Code::GreetingSlow).unwrap();
    assert_eq!(verdict.evidence["deliberate"], Evidence::Flag(true));
    assert_eq!(verdict.evidence["cost_seconds"], Evidence::Number(48.1));
    let load: Vec<_> = (0..8)
        .map(|n| slow(n, 1_000_000 * (1 + n.unsigned_abs()), 1_000_000 * (1 + n.unsigned_abs())))
        .collect();
    let verdicts_of = verdicts(&load);
    let verdict = find(&verdicts_of, Code::GreetingSlow).unwrap();
    assert_eq!(verdict.evidence["deliberate"], Evidence::Unknown(()));
    let quick: Vec<_> = (0..8).map(|n| slow(n, 400_000, 400_000)).collect();
    assert_eq!(find(&verdicts(&quick), Code::GreetingSlow), None);
}

#[test]
fn slow_handshakes() {
    let slow = |n: i64, handshake: u64, comm: &str| Connection {
        comm: Some(comm.to_owned()),
        tls: Some(Tls::Starttls),
        tls_handshake_us: Some(handshake),
        ..served(n * 30 * S, 8 * S, 1)
    };
    let all: Vec<_> = (0..8).map(|n| slow(n, 2_000_000, "smtp")).collect();
    let verdicts_of = verdicts(&all);
    let verdict = find(&verdicts_of, Code::TlsSlow).unwrap();
    assert_eq!((verdict.severity, verdict.confidence), (Severity::Info, Confidence::Medium));
    assert_eq!(verdict.evidence["tls_handshake_s"], Evidence::Number(2.0));
    assert_eq!(verdict.evidence["connections"], Evidence::Count(8));
    assert_eq!(verdict.evidence["cost_seconds"], Evidence::Number(16.0));
    let [_, postfix] = &verdict.advice[..] else { panic!("{verdict:?}") };
    assert!(postfix.text.contains("smtp_tls_session_cache_database"), "{postfix:?}");
    assert!(postfix.text.contains("smtp_tls_connection_reuse = yes"), "{postfix:?}");
    // Not: too few, too fast, and no slower than the way there.
    let few = verdicts(&all[..4]);
    let fast: Vec<_> = (0..8).map(|n| slow(n, 900_000, "smtp")).collect();
    let far: Vec<_> =
        all.iter().map(|it| Connection { connect_us: Some(500_000), ..it.clone() }).collect();
    for verdicts in [few, verdicts(&fast), verdicts(&far)] {
        assert_eq!(find(&verdicts, Code::TlsSlow), None);
    }
}

/// Each warning on cost names the settings of each mail server, and none that is not there.
#[test]
fn advice_is_in_the_words_of_the_mail_server() {
    let slow = |n: i64, comm: &str| Connection {
        comm: Some(comm.to_owned()),
        tls: Some(Tls::Starttls),
        banner_us: Some(4_000_000),
        greeting_us: Some(4_000_000),
        tls_handshake_us: Some(2_000_000),
        ..served(n * 30 * S, 8 * S, 0)
    };
    let settings = [
        ("smtp", ["smtp_helo_timeout", "smtp_starttls_timeout", "relay_recipient_maps"]),
        ("exim4", ["command_timeout", "tls_resumption_hosts", "callout_negative_expire"]),
        ("smtpd", ["5 minutes", "no setting", "result=TempFail"]),
        ("sendmail", ["confTO_INITIAL", "confTO_STARTTLS", "stat=Deferred"]),
        ("kumod", ["banner_timeout", "starttls_timeout", "TransientFailure"]),
    ];
    for (comm, [greeting, tls, unused]) in settings {
        let verdicts = verdicts(&(0..8).map(|n| slow(n, comm)).collect::<Vec<_>>());
        for (code, setting) in [
            (Code::GreetingSlow, greeting),
            (Code::TlsSlow, tls),
            (Code::ConnectionsUnused, unused),
        ] {
            let [for_any, own] = &find(&verdicts, code).unwrap().advice[..] else {
                panic!("{code}")
            };
            assert_eq!((for_any.mta, own.mta), (None, crate::mta::Mta::of(comm)));
            assert!(own.text.contains(setting), "{comm} {code}: {own:?}");
        }
    }
    let unknown = verdicts(&(0..8).map(|n| slow(n, "mailer")).collect::<Vec<_>>());
    assert_eq!(find(&unknown, Code::GreetingSlow).unwrap().advice.len(), 1);
}

#[test]
fn families_and_paths() {
    let named =
        |it: Connection| Connection { banner_host: Some("mx.example.org".to_owned()), ..it };
    let over6 =
        |n: i64| Connection { dst: "2001:db8::1".parse().unwrap(), ..served(n * 30 * S, S, 1) };
    let mut all: Vec<_> = (0..10).map(|n| named(served(n * 30 * S, S, 1))).collect();
    all.extend((0..2).map(|n| named(over6(n))));
    all.extend((0..8).map(|n| failed("2001:db8::1", n * 30 * S, 30_000_000, "ETIMEDOUT")));
    let fold = fold_of(&all);
    let report = report(&fold, GroupBy::Provider);
    let of = |key: &str| {
        let all = report.verdicts.iter();
        all.clone().find(|it| it.code == Code::FamilyAsymmetry && it.destination == key).cloned()
    };
    let verdict = of("example.org").unwrap();
    assert_eq!(verdict.evidence["ipv6_failed_seconds"], Evidence::Number(240.0));
    assert!(verdict.advice[0].text.contains("smtp_address_preference = ipv4"));
    assert!(of("total").is_some());
    let lossy: Vec<_> =
        (0..10).map(|n| Connection { retransmits: Some(3), ..served(n * 30 * S, S, 1) }).collect();
    assert!(find(&verdicts(&lossy), Code::PathLossy).is_some());
    assert!(
        find(
            &verdicts(&(0..10).map(|n| served(n * 30 * S, S, 1)).collect::<Vec<_>>()),
            Code::PathLossy
        )
        .is_none()
    );
}
