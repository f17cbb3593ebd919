//! The report as CSV (RFC 4180): one row per destination, `total` first. Unknown is empty.

use std::io;

use tracer_analysis::report::{Destination, Report};

use super::safe_text::safe;

/// Writes the report as CSV.
pub(crate) fn write(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    let mut rows = csv::Writer::from_writer(out);
    let metrics: Vec<&str> = all_metrics(report);
    let quantiles = metrics.iter().flat_map(|name| QUANTILES.map(|q| format!("{name}_{q}")));
    let header: Vec<String> = COUNTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    rows.write_record(["destination".to_owned()].into_iter().chain(header).chain(quantiles))?;
    for destination in std::iter::once(&report.totals).chain(&report.destinations) {
        rows.write_record(row(destination, &metrics))?;
    }
    rows.flush()
}

const QUANTILES: [&str; 6] = ["count", "min", "p50", "p90", "p99", "max"];

/// The distributions that any destination knows.
fn all_metrics(report: &Report) -> Vec<&'static str> {
    report.totals.histograms.named().map(|(name, _)| name).collect()
}

type Count = fn(&Destination) -> Option<String>;

const COUNTS: [(&str, Count); 18] = [
    ("connections", |of| Some(of.connections.to_string())),
    ("connect_failures", |of| Some(of.connect_failures.to_string())),
    ("died", |of| Some(of.died.to_string())),
    ("open", |of| Some(of.open.to_string())),
    ("midlife", |of| Some(of.midlife.to_string())),
    ("transactions", |of| text(of.transactions)),
    ("counted_connections", |of| Some(of.counted_connections.to_string())),
    ("exact_connections", |of| Some(of.exact_connections.to_string())),
    ("reuse_ratio", |of| of.reuse_ratio.map(|ratio| ratio.to_string())),
    ("unused_connections", |of| text(of.unused_connections)),
    ("missed_reuse", |of| text(of.missed_reuse)),
    ("peak_concurrency", |of| Some(of.peak_concurrency.to_string())),
    ("connections_per_minute_peak", |of| Some(of.connections_per_minute.peak.to_string())),
    ("bytes_sent", |of| text(of.bytes_sent)),
    ("bytes_received", |of| text(of.bytes_received)),
    ("retransmits", |of| text(of.retransmits)),
    ("name", |of| of.name.as_ref().map(|it| safe(&it.name))),
    ("name_verified", |of| of.name.as_ref().map(|it| it.verified.to_string())),
];

fn text(value: Option<u64>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn row(of: &Destination, metrics: &[&str]) -> Vec<String> {
    let mut cells = vec![safe(&of.key)];
    cells.extend(COUNTS.iter().map(|(_, count)| count(of).unwrap_or_default()));
    for metric in metrics {
        let summary = of.histograms.named().find(|(name, _)| name == metric).map(|(_, it)| it);
        let values =
            summary.map(|it| [Some(it.count), it.min, it.p50, it.p90, it.p99, it.max].map(text));
        cells.extend(values.unwrap_or_default().map(Option::unwrap_or_default));
    }
    cells
}
