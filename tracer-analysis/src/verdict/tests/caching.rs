//! Connections used again, and not.

use super::*;
use crate::verdict::{Confidence, Severity};

#[test]
fn missed_reuse_is_counted_once_per_idle_time() {
    // Each comes 3 s after the one before was closed; then three at once after the last.
    let mut all: Vec<_> = (0..20).map(|n| served(n * 4 * S, S, 1)).collect();
    let verdicts_of = verdicts(&all);
    let verdict = find(&verdicts_of, Code::CachingIneffective).unwrap();
    assert_eq!(verdict.evidence["missed"], Evidence::Count(19));
    // Connect 20 ms, greeting 31 ms.
    assert_eq!(verdict.evidence["saved_seconds"], Evidence::Number(0.969));
    assert!(verdict.advice[0].text.contains("smtp_connection_cache_destinations"));
    all.extend((0..3).map(|n| served(80 * S + n, S, 1)));
    let fold = fold_of(&all);
    let group = fold.groups(GroupBy::Address).next().unwrap();
    // Two of the three can take the place of the last two: 76 s and 72 s + 10 s.
    let missed = group.all.arrivals.missed_reuse();
    assert_eq!((missed.missed, missed.judged, missed.unknown), (20, 23, 0));
    assert_eq!(report(&fold, GroupBy::Address).totals.missed_reuse, Some(20));
}

#[test]
fn what_could_not_be_used_again_is_not_missed() {
    let far: Vec<_> = (0..20).map(|n| served(n * 30 * S, S, 1)).collect();
    let dead: Vec<_> = (0..20)
        .map(|n| Connection { end_cause: EndCause::Timeout, ..served(n * 4 * S, S, 1) })
        .collect();
    let by_peer: Vec<_> = (0..20).map(|n| closed_after(n * 4 * S, 1, Tls::None)).collect();
    let parallel: Vec<_> = (0..20)
        .map(|n| Connection {
            transaction_spans_us: Some(vec![[60_000, 89_000_000]]),
            ..served(n, 90 * S, 1)
        })
        .collect();
    let hosts: Vec<_> =
        (0..20).map(|n| Connection { host: format!("mx{n}"), ..served(n * 4 * S, S, 1) }).collect();
    for all in [far, dead, by_peer, parallel, hosts] {
        let fold = fold_of(&all);
        let report = report(&fold, GroupBy::Address);
        assert_eq!(report.destinations[0].missed_reuse, Some(0));
        assert!(report.destinations[0].missed_reuse_exact);
        assert_eq!(find(&report.verdicts, Code::CachingIneffective), None);
    }
}

#[test]
fn unknown_times_are_said() {
    let all: Vec<_> = (0..20)
        .map(|n| Connection { transaction_spans_us: None, ..served(n * 4 * S, S, 1) })
        .collect();
    let verdicts = verdicts(&all);
    let verdict = find(&verdicts, Code::CachingIneffective).unwrap();
    assert_eq!((verdict.confidence, verdict.severity), (Confidence::Low, Severity::Info));
    assert!(verdict.summary.contains("Cannot tell"), "{}", verdict.summary);
    // Nothing is known to be open when the first comes.
    assert_eq!(verdict.evidence["unknown_connections"], Evidence::Count(19));
}

#[test]
fn caching_that_works_and_connections_in_vain() {
    let works: Vec<_> = (0..5).map(|n| served(n * 30 * S, S, 10)).collect();
    let verdicts_of = verdicts(&works);
    assert_eq!(find(&verdicts_of, Code::CachingWorks).unwrap().severity, Severity::Ok);
    assert_eq!(find(&verdicts_of, Code::ConnectionsUnused), None);
    let vain: Vec<_> = works.into_iter().chain((0..6).map(|n| served(n * S, S, 0))).collect();
    let verdicts_of = verdicts(&vain);
    let verdict = find(&verdicts_of, Code::ConnectionsUnused).unwrap();
    assert_eq!(verdict.evidence["unused"], Evidence::Count(6));
    let refused: Vec<_> = (0..6).map(|n| refused(n * S)).collect();
    assert_eq!(find(&verdicts(&refused), Code::ConnectionsUnused), None, "these were turned away");
}
