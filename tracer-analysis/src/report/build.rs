//! Making a report from a fold.

use crate::{
    destination::{
        Aggregate, Distribution, Fold, Group, GroupBy, Grouping, HistogramSummary, Messages, OTHER,
    },
    recording::{Filters, Trust},
    report::{
        Destination, DestinationsOmitted, Families, FamilyHistograms, FamilySummary, Histograms,
        IdleLimit, Listed, OverTime, PerMinute, Report, ReportKind, SCHEMA, Sender, SendersOmitted,
        TracerCpu, Unlisted, Window,
    },
    utc::Utc,
    verdict::{self, Findings, Verdict},
};

/// Key of all destinations together.
pub const TOTAL: &str = "total";

/// What a report says besides the connections.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// Hosts that were traced.
    pub hosts: Vec<String>,
    /// Version of smtptrace.
    pub version: String,
    /// When tracing began.
    pub start: Utc,
    /// When tracing ended; an end before the start counts as the start.
    pub end: Utc,
    /// Filters that were in force, if they are known and the same for all recordings.
    pub filters: Option<Filters>,
    /// Trust counters; `midlife` is set from the fold.
    pub trust: Trust,
    /// Whether the histograms themselves and the course over time are in the report, for export and
    /// charts. A report of many destinations is made much faster without.
    pub hdr: bool,
}

impl Report {
    /// The report on all connections in `fold`.
    pub fn new(fold: &Fold, by: impl Into<Grouping>, context: Context) -> Self {
        Self::listing(Listed::ALL, fold, by, context)
    }

    /// The same, but only the first destinations and verdicts are in it, for those who show no more: many
    /// destinations take much memory.
    pub fn listing(most: Listed, fold: &Fold, by: impl Into<Grouping>, context: Context) -> Self {
        let grouping = by.into();
        let by = grouping.by;
        let window = Window::new(context.start, context.end);
        let (mut verdicts, mut unlisted) = (Vec::new(), Unlisted::default());
        let mut findings = Findings::default();
        let mut destination = |group: Group, is_total, strictest_us| {
            let (trust, duration_s) = (&context.trust, window.duration_s);
            let subject =
                verdict::Subject { group: &group, is_total, duration_s, trust, strictest_us };
            let mine = verdict::verdicts(&subject);
            findings.add(&mine, TOTAL);
            verdicts.extend(mine);
            // Now and then, because sorting takes time.
            if verdicts.len() / 2 > most.verdicts {
                unlisted.verdicts += keep_worst(&mut verdicts, most.verdicts);
            }
            Destination::new(group, by, &window, context.hdr)
        };
        let (mut destinations, mut missed, mut others) = (Vec::new(), MissedReuse::default(), 0);
        let mut strictest_us: Option<u64> = None;
        for group in fold.groups(grouping) {
            let safe_us = verdict::safe_idle_us(&group).filter(|_| group.key != OTHER);
            strictest_us = strictest_us.into_iter().chain(safe_us).min();
            let one = destination(group, false, None);
            missed.add(&one);
            if one.key == OTHER {
                others = one.connections;
            }
            if destinations.len() < most.destinations {
                destinations.push(one);
            } else {
                unlisted.destinations += 1;
            }
        }
        let mut totals = destination(fold.total(TOTAL), true, strictest_us);
        missed.put_in(&mut totals);
        unlisted.verdicts += keep_worst(&mut verdicts, most.verdicts);
        let destinations_omitted =
            DestinationsOmitted { limit: fold.max_destinations() as u64, connections: others };
        let overhead = context.trust.overhead;
        Self {
            kind: ReportKind::Report,
            schema: SCHEMA,
            version: context.version,
            host: if let [host] = &context.hosts[..] { Some(host.clone()) } else { None },
            hosts: context.hosts,
            window,
            filters: context.filters,
            group_by: by,
            prefixes: grouping.used_prefixes(),
            trust: Trust { midlife: totals.midlife, ..context.trust },
            tracer_cpu: TracerCpu {
                user_share: overhead.user_cpu_us.and_then(|cpu_us| window.share_of_core(cpu_us)),
                kernel_share: overhead
                    .kernel_cpu_us
                    .and_then(|cpu_us| window.share_of_core(cpu_us)),
            },
            totals,
            destinations,
            destinations_omitted,
            senders: Sender::all(fold.senders()),
            senders_omitted: SendersOmitted::new(fold.senders()),
            verdicts,
            findings: findings.sorted(TOTAL),
            unlisted,
        }
    }

    /// How many destinations there are, listed or not; without what went to [`OTHER`].
    pub fn destinations_known(&self) -> u64 {
        let all = (self.destinations.len() as u64).saturating_add(self.unlisted.destinations);
        // A file may say that there are others, and list none.
        all.saturating_sub(u64::from(self.destinations_omitted.connections > 0))
    }

    /// How its destinations were made.
    pub fn grouping(&self) -> Grouping {
        Grouping { by: self.group_by, prefixes: self.prefixes.unwrap_or_default() }
    }
}

impl Window {
    pub(crate) fn new(start: Utc, end: Utc) -> Self {
        let end = end.max(start);
        Self { start, end, duration_s: end.micros_since(start) as f64 / 1e6 }
    }

    fn share_of_core(&self, cpu_us: u64) -> Option<f64> {
        (self.duration_s > 0.0).then(|| rounded(cpu_us as f64 / 1e6 / self.duration_s, 1e6))
    }

    fn per_minute(&self, count: u64) -> Option<f64> {
        (self.duration_s > 0.0).then(|| rounded(count as f64 * 60.0 / self.duration_s, 1e3))
    }
}

impl Destination {
    /// One destination of `fold` alone, with the histograms and the course over time: what a report made at
    /// `end` would say of it, `missed_reuse` of all destinations excepted. `key` may be [`TOTAL`]; `None` if there is
    /// no such destination.
    pub fn of(
        fold: &Fold,
        by: impl Into<Grouping>,
        key: &str,
        start: Utc,
        end: Utc,
    ) -> Option<Self> {
        let by = by.into();
        let group = if key == TOTAL { Some(fold.total(TOTAL)) } else { fold.groups(by).named(key) };
        Some(Self::new(group?, by.by, &Window::new(start, end), true))
    }

    /// `hdr`: with the histograms themselves and the course over time.
    fn new(group: Group, by: GroupBy, window: &Window, hdr: bool) -> Self {
        let over_time = hdr.then(|| OverTime::new(&group.all, window)).flatten();
        let summarize = if hdr { Distribution::summary } else { Distribution::quantiles };
        let idle_limit = IdleLimit::of(&group);
        let Group { key, all, ipv4, ipv6, addresses } = group;
        let peak = all.timeline.peak();
        let messages = Some(&all.messages).filter(|it| it.counted > 0);
        let missed = if key == OTHER { None } else { missed_reuse(&all) };
        let histograms = Histograms::new(&all, summarize);
        // Where there is one family only, its histograms are those of all.
        let both = ipv4.is_some() && ipv6.is_some();
        let known = (!both).then_some((&histograms, &idle_limit));
        let family = |family: Option<Aggregate>| {
            family.map(|family| FamilySummary::new(family, known, summarize))
        };
        Self {
            key,
            name: None,
            group: by,
            addresses,
            connections: all.connections,
            connect_failures: all.connect_failures,
            died: all.died,
            transactions: messages.map(|it| it.transactions),
            counted_connections: all.messages.counted,
            exact_connections: all.messages.exact,
            counted_by: all.messages.by_method.clone().into(),
            reuse_ratio: messages.and_then(Messages::reuse_ratio).map(|it| rounded(it, 1e6)),
            unused_connections: messages.map(|it| it.unused),
            missed_reuse: missed.map(|(missed, _)| missed),
            missed_reuse_exact: missed.is_some_and(|(_, exact)| exact),
            peak_concurrency: peak.connections,
            peak_concurrency_exact: peak.exact,
            connections_per_minute: PerMinute {
                peak: all.timeline.opened_per_minute_peak(),
                mean: window.per_minute(all.timeline.opened_count()),
            },
            bytes_sent: all.bytes_sent,
            bytes_received: all.bytes_received,
            retransmits: all.retransmits,
            midlife: all.midlife,
            open: all.open,
            families: Families { ipv4: family(ipv4), ipv6: family(ipv6) },
            histograms,
            session_endings: all.session_endings(),
            failures: all.failures.into(),
            after_quit: all.after_quit.into(),
            endings: all.endings.into(),
            greeting_codes: all.greeting_codes.into(),
            idle_limit,
            over_time,
        }
    }
}

impl Histograms {
    pub(super) fn new(all: &Aggregate, summarize: Summarize) -> Self {
        let known = |of: &Distribution| (of.count() > 0).then(|| summarize(of));
        Self {
            connect_us: summarize(&all.connect_us),
            banner_us: summarize(&all.banner_us),
            greeting_us: summarize(&all.greeting_us),
            ehlo_us: known(&all.ehlo_us),
            starttls_us: known(&all.starttls_us),
            tls_handshake_us: known(&all.tls_handshake_us),
            auth_us: known(&all.auth_us),
            transaction_us: known(&all.transaction_us),
            final_reply_us: known(&all.final_reply_us),
            lifetime_us: summarize(&all.lifetime_us),
            idle_us: summarize(&all.idle_us),
            turns: summarize(&all.turns),
            messages_per_connection: (all.messages.counted > 0)
                .then(|| summarize(&all.messages.per_connection)),
        }
    }
}

impl FamilySummary {
    /// `known`: what is made already of the same connections.
    fn new(
        family: Aggregate,
        known: Option<(&Histograms, &Option<IdleLimit>)>,
        summarize: Summarize,
    ) -> Self {
        let (histograms, idle_limit) = if let Some((all, idle_limit)) = known {
            let (connect_us, banner_us) = (all.connect_us.clone(), all.banner_us.clone());
            (FamilyHistograms { connect_us, banner_us }, idle_limit.clone())
        } else {
            let (connect_us, banner_us) =
                (summarize(&family.connect_us), summarize(&family.banner_us));
            let idle_limit = IdleLimit::new(family.idle.as_deref());
            (FamilyHistograms { connect_us, banner_us }, idle_limit)
        };
        Self {
            connections: family.connections,
            connect_failures: family.connect_failures,
            failures: family.failures.into(),
            died: family.died,
            endings: family.endings.into(),
            idle_limit,
            histograms,
        }
    }
}

/// Connections that were opened although a usable one was there, and whether all were looked at; `None`
/// if that can be said of none.
fn missed_reuse(all: &Aggregate) -> Option<(u64, bool)> {
    let missed = all.arrivals.missed_reuse();
    let exact = missed.unknown == 0 && !all.arrivals.is_sample();
    (missed.judged > 0).then_some((missed.missed, exact))
}

/// Sum over the destinations: a connection to one is of no use to another.
#[derive(Default)]
struct MissedReuse {
    sum: Option<u64>,
    inexact: bool,
}

impl MissedReuse {
    fn add(&mut self, one: &Destination) {
        if let Some(missed) = one.missed_reuse {
            *self.sum.get_or_insert(0) += missed;
        }
        let carries = one.transactions.is_some_and(|messages| messages > 0);
        self.inexact |= carries && !one.missed_reuse_exact;
    }

    fn put_in(self, totals: &mut Destination) {
        totals.missed_reuse = self.sum;
        totals.missed_reuse_exact = self.sum.is_some() && !self.inexact;
    }
}

/// Puts the worst first and keeps `most`; returns how many went.
fn keep_worst(verdicts: &mut Vec<Verdict>, most: usize) -> u64 {
    verdict::sort(verdicts, TOTAL);
    let beyond = verdicts.len().saturating_sub(most);
    verdicts.truncate(most);
    beyond as u64
}

/// How a distribution is put in the report.
type Summarize = fn(&Distribution) -> HistogramSummary;

/// To the nearest multiple of `1 / steps`.
pub(super) fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}
