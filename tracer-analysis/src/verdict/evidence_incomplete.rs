//! Whether the records are all there.

use super::{Code, Confidence, Severity, Subject, Verdict};

/// At most one verdict, on the whole host.
pub(super) fn verdicts(subject: &Subject<'_>) -> Vec<Verdict> {
    let trust = subject.trust;
    if !subject.is_total || trust.is_complete() {
        return Vec::new();
    }
    let lost = trust.connections_lost;
    let summary = match lost {
        Some(0) => "Events were lost: some connections lack turns or replies.".to_owned(),
        Some(lost) => format!("{lost} connections are missing from this report."),
        None => "Connections are missing from this report; how many is not known.".to_owned(),
    };
    let code = Code::EvidenceIncomplete;
    let verdict =
        Verdict::new(code, Severity::Warning, Confidence::High, &subject.group.key, summary)
            .because("events_lost", trust.events_lost)
            .because("map_full", trust.map_full)
            .because("over_quota", trust.over_quota)
            .because("undecodable", trust.undecodable)
            .because("connections_lost", lost)
            .because("connections", subject.group.all.connections);
    vec![match (trust.map_full, trust.over_quota, trust.events_lost) {
        (1.., ..) => verdict.advise(None, "Raise --max-connections."),
        (_, 1.., _) => verdict.advise(
            None,
            "One user holds much of the table: look which (`ss -tnp`); if that is right, raise \
             --max-connections.",
        ),
        (.., 1..) => verdict.advise(None, "Raise --ring-size."),
        _ => verdict,
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{destination::Fold, recording::Trust, verdict::Evidence};

    fn on(trust: &Trust, is_total: bool) -> Vec<Verdict> {
        let group = Fold::new(1).total("total");
        verdicts(&Subject { group: &group, is_total, duration_s: 60.0, trust, strictest_us: None })
    }

    #[test]
    fn losses_are_said_once() {
        let complete = Trust { connections_lost: Some(0), ..Trust::default() };
        assert_eq!(on(&complete, true), []);
        let lost = Trust { connections_lost: Some(7), map_full: 7, ..Trust::default() };
        assert_eq!(on(&lost, false), []);
        let [verdict] = &on(&lost, true)[..] else { panic!("one verdict") };
        assert_eq!((verdict.code, verdict.severity), (Code::EvidenceIncomplete, Severity::Warning));
        assert_eq!(verdict.evidence["connections_lost"], Evidence::Count(7));
        assert!(verdict.advice[0].text.contains("--max-connections"));
    }

    #[test]
    fn what_cannot_be_known_is_not_zero() {
        let [verdict] = &on(&Trust::default(), true)[..] else { panic!("one verdict") };
        assert_eq!(verdict.evidence["connections_lost"], Evidence::Unknown(()));
        assert!(verdict.summary.contains("not known"));
    }
}
