//! Whether connects per minute rise while messages do not.

use super::{Code, Confidence, Severity, Subject, Verdict, settings};
use crate::{destination::Minute, mta::Mta};

/// Connections in a minute below which nothing is a storm.
const FEWEST: u64 = 20;
/// Minutes that are needed, of a storm and of the time to compare it with.
const MINUTES: usize = 2;

/// At most one verdict on a destination.
pub(super) fn verdicts(subject: &Subject<'_>) -> Vec<Verdict> {
    let group = subject.group;
    if subject.is_total {
        return Vec::new();
    }
    let minutes = group.all.arrivals.minutes();
    let Some((usual, storm)) = find(&minutes) else { return Vec::new() };
    let peak = storm.iter().map(|minute| minute.opened).max().unwrap_or(0);
    let sum = |of: fn(&Minute) -> u64| storm.iter().map(of).sum::<u64>();
    let (opened, refused, carrying) =
        (sum(|it| it.opened), sum(|it| it.refused), sum(|it| it.carrying));
    let summary = format!(
        "Up to {peak} connections per minute instead of {}, but no more mail: {refused} of {opened} were \
         refused, {carrying} carried a message. Each retry is a new connection.",
        usual.opened,
    );
    let confidence = if storm.len() > MINUTES { Confidence::High } else { Confidence::Medium };
    let verdict =
        Verdict::new(Code::RetryStorm, Severity::Warning, confidence, &group.key, summary)
            .touching(opened)
            .because("peak_per_minute", peak)
            .because("usual_per_minute", usual.opened)
            .because("usual_carrying_per_minute", usual.carrying)
            .because("storm_minutes", storm.len() as u64)
            .because("storm_connections", opened)
            .because("storm_refused", refused)
            .because("storm_carrying", carrying)
            .because("sample", group.all.arrivals.is_sample());
    let otherwise = "Wait longer between attempts.";
    vec![settings::advise(verdict, group, otherwise, |mta| longer_waits(mta).to_owned())]
}

/// An ordinary minute (the median of those in which few were refused), and the minutes of the storm.
fn find(minutes: &[Minute]) -> Option<(Minute, Vec<Minute>)> {
    let mostly_refused = |it: &Minute| it.refused * 2 >= it.opened;
    let mut calm: Vec<_> = minutes.iter().filter(|it| !mostly_refused(it)).copied().collect();
    if calm.len() < MINUTES {
        return None;
    }
    calm.sort_unstable_by_key(|minute| minute.opened);
    let opened = calm[calm.len() / 2].opened;
    calm.sort_unstable_by_key(|minute| minute.carrying);
    let usual = Minute { opened, carrying: calm[calm.len() / 2].carrying, ..Minute::default() };
    let rough = |it: &Minute| {
        mostly_refused(it)
            && it.opened >= FEWEST.max(usual.opened * 2)
            && it.carrying <= usual.carrying
    };
    let storm: Vec<_> = minutes.iter().filter(|it| rough(it)).copied().collect();
    (storm.len() >= MINUTES).then_some((usual, storm))
}

/// Looked up in the sources that `settings` names, and: Exim specification, chapter 32 (the interval is
/// the default rule's with its first part doubled); `scheduler_ramqueue.c` of `OpenSMTPD`;
/// docs.kumomta.com, `make_queue_config`.
const fn longer_waits(mta: Mta) -> &'static str {
    match mta {
        Mta::Postfix => {
            "raise minimal_backoff_time (300s) and maximal_backoff_time (4000s); a destination that \
             fails in the greeting is left alone for minimal_backoff_time"
        }
        Mta::Exim => {
            "longer intervals in the retry section, before the default * * F,2h,15m; ...: for example \
             DOMAIN * F,2h,30m; G,16h,1h,1.5; F,4d,6h"
        }
        Mta::Opensmtpd => {
            "no setting: retry n of a message comes 400 s times n squared after its arrival"
        }
        Mta::Sendmail => {
            "confMIN_QUEUE_AGE keeps a message from being tried more often; confMAX_QUEUE_AGE doubles \
             the wait at each attempt up to that; confHOST_STATUS_DIRECTORY lets all skip a host \
             that failed to connect (30 min)"
        }
        Mta::Kumomta => {
            "raise retry_interval (20 min, doubled at each attempt) in make_queue_config, and \
             max_retry_interval if it is set; lower consecutive_connection_failures_before_delay \
             (100) for this site"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(opened: u64, refused: u64) -> Minute {
        Minute { minute: 0, opened, refused, carrying: opened - refused }
    }

    #[test]
    fn a_storm_has_more_connects_and_no_more_mail() {
        let calm = [minute(10, 0), minute(12, 1), minute(9, 0)];
        let storm = [minute(60, 57), minute(80, 80)];
        let (usual, found) = find(&[&calm[..], &storm].concat()).unwrap();
        assert_eq!((usual.opened, found.len()), (10, 2));
        assert!(find(&calm).is_none());
        assert!(find(&storm).is_none(), "nothing to compare it with");
        let busy = [minute(60, 2), minute(80, 3)];
        assert!(find(&[&calm[..], &busy].concat()).is_none(), "more mail is no storm");
    }
}
