//! The counts of a trace as metrics: for Prometheus and all that read its formats, and for OTLP.
//!
//! `docs/metrics.md` lists all families. Counters are those of a [`SteadyFold`]: no sum over all
//! destinations ever becomes smaller.

mod destinations;
mod family;
mod histograms;
mod host;
mod text;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tracer_analysis::{
    destination::{Group, GroupBy, SteadyFold},
    recording::Trust,
    report::TOTAL,
    utc::Utc,
    verdict,
};

use crate::{listen::Unfinished, sink::json::word};
use destinations::One;
use family::gauge;

pub(crate) use family::{Description, Family, Kind, Label, Value};
pub(crate) use histograms::{MEASURES, Measure};
pub(crate) use text::Dialect;

/// What is told besides the destinations.
pub(crate) struct About<'a> {
    /// Version of smtptrace that made the records.
    pub(crate) version: &'a str,
    /// Hosts that were traced.
    pub(crate) hosts: &'a [String],
    /// What makes a destination.
    pub(crate) group_by: GroupBy,
    /// When tracing began.
    pub(crate) start: Utc,
    /// Seconds traced.
    pub(crate) duration_s: f64,
    /// Trust counters.
    pub(crate) trust: &'a Trust,
    /// Connections that are open now, by destination; `None` once tracing ended.
    pub(crate) open: Option<&'a BTreeMap<String, u64>>,
    /// Destinations with series of their own.
    pub(crate) named: usize,
    /// Destinations that lost theirs.
    pub(crate) replaced: u64,
    /// Destinations that may have them.
    pub(crate) limit: usize,
    /// What the outlets of the metrics say of themselves.
    pub(crate) own: Own,
}

/// What the outlets of the metrics say of themselves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Own {
    /// Requests, by status of the answer.
    pub(crate) scrapes: BTreeMap<u16, u64>,
    /// Connections to the endpoint that ended before their answer was taken.
    pub(crate) unfinished: Option<Unfinished>,
    /// How long it took to build the exposition before this one.
    pub(crate) build_time: Option<Duration>,
    /// Whether the recording takes no more; `None` if there is none.
    pub(crate) recording_failed: Option<bool>,
    /// Exports, by result.
    pub(crate) exports: Option<[(&'static str, u64); 2]>,
}

/// All families with their samples.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exposition {
    /// Them.
    pub(crate) families: Vec<Family>,
}

const OPEN: Description = gauge(
    "smtptrace_connections_open",
    "Connections that are open or being opened; what ended them is not known yet.",
);

const VERDICT: Description = gauge(
    "smtptrace_verdict",
    "1 for each verdict in force, by code and severity; destination total is the whole host.",
)
.times(64);

/// The descriptions of all families, in the order of an exposition.
pub(crate) fn descriptions() -> impl Iterator<Item = Description> {
    let host = host::SOURCES.iter().map(|(description, _)| *description);
    let destinations = destinations::SOURCES.iter().map(|(description, _)| *description);
    let measures = MEASURES.iter().map(|measure| measure.description);
    host.chain(destinations).chain(measures).chain([OPEN, VERDICT])
}

impl Exposition {
    /// What is known at this moment.
    pub(crate) fn new(fold: &SteadyFold, about: &About<'_>) -> Self {
        let mut families: Vec<Family> = descriptions().map(Family::new).collect();
        let (host, rest) = families.split_at_mut(host::SOURCES.len());
        let (counts, rest) = rest.split_at_mut(destinations::SOURCES.len());
        let (measures, rest) = rest.split_at_mut(MEASURES.len());
        let [open, verdicts] = rest else { return Self::default() };
        for (family, (_, fill)) in host.iter_mut().zip(host::SOURCES) {
            fill(about, family);
        }
        add_verdicts(verdicts, &fold.total(TOTAL), true, about);
        for steady in fold.destinations() {
            let name: Arc<str> = steady.group.key.as_str().into();
            let label = ("destination", Arc::clone(&name));
            for (family, measure) in measures.iter_mut().zip(MEASURES) {
                measure.add(&steady.group.all, vec![label.clone()], family);
            }
            if let Some(now) = about.open {
                open.count(vec![label], now.get(&*name).copied().unwrap_or(0));
            }
            add_verdicts(verdicts, &steady.group, false, about);
            let one = One::new(name, &steady);
            for (family, (_, fill)) in counts.iter_mut().zip(destinations::SOURCES) {
                fill(&one, family);
            }
        }
        Self { families }
    }
}

fn add_verdicts(family: &mut Family, group: &Group, is_total: bool, about: &About<'_>) {
    let (duration_s, trust) = (about.duration_s, about.trust);
    let mut seen = Vec::new();
    for it in verdict::verdicts(&verdict::Subject {
        group,
        is_total,
        duration_s,
        trust,
        strictest_us: None, // only advice rests on it
    }) {
        let labels = vec![
            ("destination", Arc::from(it.destination.as_str())),
            ("code", word(it.code)),
            ("severity", word(it.severity)),
        ];
        // Several of one code, as of limits in both address families, are one series.
        if !seen.contains(&labels) {
            family.fact(labels.clone());
            seen.push(labels);
        }
    }
}
