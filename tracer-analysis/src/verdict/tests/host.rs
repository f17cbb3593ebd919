//! What is said of the whole host, and what is said once of several destinations.

use super::*;
use crate::{
    connection::EndSuspect,
    report::TOTAL,
    verdict::{Confidence, Finding, Severity},
};

const US: u64 = 1_000_000;

/// Idled so long, in seconds, and was answered.
fn alive(dst: &str, gap_s: u64) -> Connection {
    Connection {
        dst: dst.parse().unwrap(),
        idle_gaps_us: Some(vec![gap_s * US]),
        idle_max_survived_us: Some(gap_s * US),
        end_during: Some(EndDuring::Dialogue),
        ..served(0, 400 * S, 2)
    }
}

/// Idled so long and was dead when it was used again.
fn dead(dst: &str, gap_s: u64, cause: EndCause) -> Connection {
    Connection {
        idle_max_survived_us: None,
        end_cause: cause,
        end_during: Some(EndDuring::Reuse),
        end_idle_us: Some(gap_s * US),
        end_unanswered_us: (cause == EndCause::Unanswered).then_some(20 * US),
        end_suspect: Some(EndSuspect::Middlebox),
        end_quit: Some(false),
        ..alive(dst, gap_s)
    }
}

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";

/// Sessions to A die at 90 s, by reset; those to B at 50 s, in silence. Nobody tried B between 41 and 50 s.
fn two_boxes() -> Vec<Connection> {
    let mut all: Vec<_> = (1..84).map(|gap| alive(A, gap)).collect();
    all.extend((0..9).map(|n| dead(A, 90 + n, EndCause::RstReceived)));
    all.extend((1..42).map(|gap| alive(B, gap)));
    all.extend((0..8).map(|n| dead(B, 100 + n, EndCause::Unanswered)));
    all
}

fn of_idling(all: &[Connection]) -> Vec<Finding> {
    let findings = report(&fold_of(all), GroupBy::Address).findings;
    findings.into_iter().filter(|it| it.verdict.code == Code::IdleKilledByMiddlebox).collect()
}

#[test]
fn each_manner_of_death_is_said_with_its_number() {
    let verdicts = verdicts(&two_boxes());
    let on = |key: &str| {
        let killed =
            |it: &&Verdict| it.code == Code::IdleKilledByMiddlebox && it.destination == key;
        verdicts.iter().find(killed).unwrap()
    };
    let summary = "Idle sessions: alive after 83.0 s (124 gaps), dead after 90.0 s (17 of 17): 9 reset on the \
                   next command, 8 silent; suspect: a box on the path.";
    assert_eq!(on(TOTAL).summary, summary);
    let count = |name: &str| on(TOTAL).evidence[name].clone();
    assert_eq!(count("died_reset_on_reuse"), Evidence::Count(9));
    assert_eq!(count("died_silent"), Evidence::Count(8));
    assert!(
        on(A)
            .summary
            .ends_with("(9 of 9): a reset answers the next command; suspect: a box on the path.")
    );
    assert!(on(B).summary.contains("(8 of 8): no answer any more; suspect"), "{}", on(B).summary);
}

#[test]
fn advice_for_all_destinations_is_right_for_each() {
    let [finding] = &of_idling(&two_boxes())[..] else { panic!("one cause") };
    assert_eq!(finding.verdict.destination, TOTAL);
    assert_eq!((finding.count, finding.connections), (2, 17));
    let held: Vec<_> = finding.destinations.iter().map(|it| it.destination.as_str()).collect();
    assert_eq!(held, [A, B], "most connections first");
    let [advice] = &finding.verdict.advice[..] else { panic!("one mail server") };
    assert!(advice.text.contains("at most 41s"), "{}", advice.text);
    let verdicts = verdicts(&two_boxes());
    let of_host = |it: &&Verdict| it.code == Code::IdleKilledByMiddlebox && it.destination == TOTAL;
    let of_host = verdicts.iter().find(of_host).unwrap();
    assert!(of_host.advice[0].text.contains("at most 41s"), "in JSON, too: {of_host:?}");
}

/// A server that refuses most, and one that could be used better: what touches most comes first.
#[test]
fn what_touches_most_connections_comes_first() {
    let to = |dst: &str, it: Connection| Connection { dst: dst.parse().unwrap(), ..it };
    let mut all: Vec<_> = (0..3).map(|n| to("192.0.2.7", refused(n * 30 * S))).collect();
    all.extend((0..181).map(|n| to("192.0.2.9", refused(n * 2 * S))));
    all.extend((0..12).map(|n| to("192.0.2.8", refused(n * 30 * S))));
    let found = report(&fold_of(&all), GroupBy::Address);
    let order: Vec<_> =
        found.verdicts.iter().map(|it| (it.destination.as_str(), it.connections)).collect();
    assert_eq!(order, [("192.0.2.9", 181), ("192.0.2.8", 12), ("192.0.2.7", 3)]);
    let [finding] = &found.findings[..] else { panic!("one cause: {:#?}", found.findings) };
    assert_eq!((finding.count, finding.connections), (3, 196));
    assert_eq!(finding.verdict.destination, "192.0.2.9");
}

/// `--help`: "Mail is refused".
#[test]
fn severity_is_the_harm_that_is_done() {
    let severity = |refusals: i64, accepted: i64| {
        let refused = (0..refusals).map(|n| refused(n * 7 * S));
        let all = refused.chain((0..accepted).map(|n| served(n * 11 * S + S, 2 * S, 1)));
        let verdicts = verdicts(&all.collect::<Vec<_>>());
        find(&verdicts, Code::Throttled).unwrap().severity
    };
    assert_eq!(severity(73, 27), Severity::Critical);
    assert_eq!(severity(27, 73), Severity::Warning);
}

#[test]
fn a_host_without_harm_has_no_warning() {
    // A message each 3 s, a connection for each: a cache would have saved nearly all of them.
    let apart = |n: i64| Connection {
        tls: Some(Tls::Starttls),
        end_during: Some(EndDuring::Dialogue),
        ..served(n * 3 * S, S / 2, 1)
    };
    let all: Vec<_> = (0..60).map(apart).collect();
    let verdicts = verdicts(&all);
    let caching = find(&verdicts, Code::CachingIneffective).unwrap();
    assert_eq!(caching.severity, Severity::Info);
    assert!(caching.summary.contains("opening them took about "), "{}", caching.summary);
    assert!(verdicts.iter().all(|it| it.severity < Severity::Warning), "{verdicts:#?}");
    // Where the server refuses some, that is the harm, and comes first.
    let all: Vec<_> = all.into_iter().chain((0..6).map(|n| refused(n * 30 * S))).collect();
    let verdicts = super::verdicts(&all);
    let severities: Vec<_> = verdicts.iter().map(|it| (it.code, it.severity)).take(2).collect();
    let expected =
        [(Code::Throttled, Severity::Warning), (Code::CachingIneffective, Severity::Info)];
    assert_eq!(severities, expected);
}

#[test]
fn who_cannot_tell_is_not_sure() {
    let all: Vec<_> = (0..40).map(|n| alive(A, 1 + n % 3)).collect();
    let sure = verdicts(&all);
    let unsure = sure
        .iter()
        .filter(|it| it.code == Code::IdleLimitUnknown || it.summary.contains("annot tell"));
    let unsure: Vec<_> = unsure.map(|it| it.confidence).collect();
    assert_eq!(unsure, [Confidence::Low]);
}
