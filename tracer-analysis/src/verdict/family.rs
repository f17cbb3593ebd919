//! Whether IPv4 and IPv6 fare differently with a destination.

use super::{Code, Confidence, Severity, Subject, Verdict, settings};
use crate::{
    destination::{Aggregate, Distribution},
    mta::Mta,
};

/// Connections over each family below which nothing is said.
const FEWEST: u64 = 5;
/// Difference of medians that is worth a word, in microseconds.
const SLOWER_US: u64 = 100_000;

/// At most one verdict. On the whole host it is about connects that fail only: times differ between
/// destinations.
pub(super) fn verdicts(subject: &Subject<'_>) -> Vec<Verdict> {
    let group = subject.group;
    let (Some(ipv4), Some(ipv6)) = (&group.ipv4, &group.ipv6) else { return Vec::new() };
    if ipv4.connections < FEWEST || ipv6.connections < FEWEST {
        return Vec::new();
    }
    let failing =
        failing(("IPv6", ipv6), ("IPv4", ipv4)).or_else(|| failing(("IPv4", ipv4), ("IPv6", ipv6)));
    let slower = || {
        slower(("IPv6", ipv6), ("IPv4", ipv4)).or_else(|| slower(("IPv4", ipv4), ("IPv6", ipv6)))
    };
    let found = failing.or_else(|| slower().filter(|_| !subject.is_total));
    found.map(|found| verdict(subject, ipv4, ipv6, found)).into_iter().collect()
}

type Named<'a> = (&'static str, &'a Aggregate);

/// The worse family, what is wrong with it, how bad and how sure that is.
struct Found {
    worse: &'static str,
    words: String,
    severity: Severity,
    confidence: Confidence,
}

/// Whether connects over `worse` fail more often, and chance does not explain it. Those that ended on this
/// side do not count.
fn failing((worse, a): Named<'_>, (better, b): Named<'_>) -> Option<Found> {
    let ([failed_a, tried_a], [failed_b, tried_b]) = (connects(a), connects(b));
    let (share_a, share_b) = (share(failed_a, tried_a), share(failed_b, tried_b));
    let pooled = share(failed_a + failed_b, tried_a + tried_b);
    let spread = pooled * (1.0 - pooled) * (1.0 / tried_a as f64 + 1.0 / tried_b as f64);
    let z = (share_a - share_b) / spread.sqrt().max(f64::MIN_POSITIVE);
    if tried_a < FEWEST || tried_b < FEWEST || failed_a < 3 {
        return None;
    }
    if share_a < 0.2 || share_a < share_b + 0.2 || z < 1.96 {
        return None;
    }
    let lost = a.cost.failed_us as f64 / 1e6;
    Some(Found {
        worse,
        words: format!(
            "{failed_a} of {tried_a} connects over {worse} failed, {failed_b} of {tried_b} over \
             {better}; failed attempts over {worse} took {lost:.0} s in all.",
        ),
        severity: Severity::Warning,
        confidence: if z >= 2.58 { Confidence::High } else { Confidence::Medium },
    })
}

/// Connects that the server or the path failed, and all that say something about them.
fn connects(of: &Aggregate) -> [u64; 2] {
    let here = of.connects_ended_here;
    [of.connect_failures - here, of.connections - here]
}

fn share(failed: u64, tried: u64) -> f64 {
    failed as f64 / tried.max(1) as f64
}

/// Whether connecting or the greeting takes twice as long over `worse`: its fast quarter is slower than
/// the slow quarter of the other.
fn slower((worse, a): Named<'_>, (better, b): Named<'_>) -> Option<Found> {
    let measures = [
        ("connecting", &a.connect_us, &b.connect_us),
        ("the greeting", &a.greeting_us, &b.greeting_us),
    ];
    measures.into_iter().find_map(|(what, slow, fast)| {
        let (slow_median, fast_median) = (slow.quantile(0.5)?, fast.quantile(0.5)?);
        let apart = slow.quantile(0.25)? > fast.quantile(0.75)?;
        let much = slow_median >= fast_median * 2 && slow_median >= fast_median + SLOWER_US;
        let enough = slow.count() >= FEWEST && fast.count() >= FEWEST;
        (apart && much && enough).then(|| Found {
            worse,
            words: format!(
                "Over {worse}, {what} takes {} ms (median of {}), over {better} {} ms (of {}).",
                slow_median / 1_000,
                slow.count(),
                fast_median / 1_000,
                fast.count(),
            ),
            severity: Severity::Info,
            confidence: Confidence::Medium,
        })
    })
}

fn verdict(subject: &Subject<'_>, ipv4: &Aggregate, ipv6: &Aggregate, found: Found) -> Verdict {
    let group = subject.group;
    let Found { worse, words, severity, confidence } = found;
    let code = Code::FamilyAsymmetry;
    let mut verdict =
        Verdict::new(code, severity, confidence, &group.key, words).because("worse", worse);
    for (name, of) in [("ipv4", ipv4), ("ipv6", ipv6)] {
        let median = |of: &Distribution| of.quantile(0.5).map(|us| us as f64 / 1e3);
        verdict = verdict
            .because(&format!("{name}_connections"), of.connections)
            .because(&format!("{name}_connect_failures"), of.connect_failures)
            .because(&format!("{name}_connects_ended_here"), of.connects_ended_here)
            .because(&format!("{name}_failed_seconds"), of.cost.failed_us as f64 / 1e6)
            .because(&format!("{name}_connect_ms"), median(&of.connect_us))
            .because(&format!("{name}_greeting_ms"), median(&of.greeting_us));
    }
    if subject.is_total {
        return verdict.advise(
            None,
            "If it is so for all destinations, look at this host's own route and firewall for that \
             family; --group-by provider says for which.",
        );
    }
    let avoid: fn(Mta) -> String =
        if worse == "IPv6" { settings::avoid_ipv6 } else { settings::avoid_ipv4 };
    let otherwise = format!("Try the other family first for it, until {worse} works.");
    settings::advise(verdict, group, &otherwise, avoid)
}
