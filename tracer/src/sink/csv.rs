//! The report as CSV (RFC 4180): one row per destination, `total` first. Unknown is empty.
//!
//! A spreadsheet takes a cell that begins with `=`, `+`, `-`, `@`, a tabulator or a line break for a formula, which can
//! run programs and send away what stands in other cells. Text comes from strangers: such a cell gets an apostrophe
//! in front, which a spreadsheet takes for "this is text".

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

/// What a cell holds.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    /// A number of ours, or nothing.
    Number(String),
    /// Anything else.
    Text(String),
}

impl Cell {
    /// As it is written: text without what a terminal acts on, and no formula.
    fn written(self) -> String {
        match self {
            Self::Number(number) => number,
            Self::Text(text) => {
                let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
                let mark = if is_formula { "'" } else { "" };
                format!("{mark}{}", safe(&text))
            }
        }
    }
}

type Count = fn(&Destination) -> Option<Cell>;

const COUNTS: [(&str, Count); 18] = [
    ("connections", |of| number(of.connections)),
    ("connect_failures", |of| number(of.connect_failures)),
    ("died", |of| number(of.died)),
    ("open", |of| number(of.open)),
    ("midlife", |of| number(of.midlife)),
    ("transactions", |of| of.transactions.and_then(number)),
    ("counted_connections", |of| number(of.counted_connections)),
    ("exact_connections", |of| number(of.exact_connections)),
    ("reuse_ratio", |of| of.reuse_ratio.and_then(number)),
    ("unused_connections", |of| of.unused_connections.and_then(number)),
    ("missed_reuse", |of| of.missed_reuse.and_then(number)),
    ("peak_concurrency", |of| number(of.peak_concurrency)),
    ("connections_per_minute_peak", |of| number(of.connections_per_minute.peak)),
    ("bytes_sent", |of| of.bytes_sent.and_then(number)),
    ("bytes_received", |of| of.bytes_received.and_then(number)),
    ("retransmits", |of| of.retransmits.and_then(number)),
    ("name", |of| of.name.as_ref().map(|it| Cell::Text(it.name.clone()))),
    ("name_verified", |of| of.name.as_ref().and_then(|it| number(it.verified))),
];

/// The cell of a number, or of a truth value.
#[expect(clippy::unnecessary_wraps, reason = "the table asks for what may be unknown")]
#[expect(clippy::needless_pass_by_value, reason = "numbers, passed as a function to `and_then`")]
fn number(value: impl ToString) -> Option<Cell> {
    Some(Cell::Number(value.to_string()))
}

fn row(of: &Destination, metrics: &[&str]) -> Vec<String> {
    let unknown = || Cell::Number(String::new());
    let mut cells = vec![Cell::Text(of.key.clone())];
    cells.extend(COUNTS.iter().map(|(_, count)| count(of).unwrap_or_else(unknown)));
    for metric in metrics {
        let summary = of.histograms.named().find(|(name, _)| name == metric).map(|(_, it)| it);
        let values = summary.map(|it| [Some(it.count), it.min, it.p50, it.p90, it.p99, it.max]);
        let values = values.unwrap_or_default();
        cells.extend(values.map(|value| value.and_then(number).unwrap_or_else(unknown)));
    }
    cells.into_iter().map(Cell::written).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_formula_and_numbers_stay_numbers() {
        let written = |text: &str| Cell::Text(text.into()).written();
        assert_eq!(written("=cmd|' /C calc'!A0"), "'=cmd|' /C calc'!A0");
        for formula in ["+1", "-1+1", "@SUM(1)", "\tx", "\r=1", "\n=1"] {
            assert!(written(formula).starts_with('\''), "{formula:?}");
        }
        for plain in ["192.0.2.1", "mx-1.example.org", "~other", "[IPv6:2001:db8::1]", ""] {
            assert_eq!(written(plain), plain);
        }
        assert_eq!(number(-0.5), Some(Cell::Number("-0.5".into())));
        assert_eq!(Cell::Number("-0.5".into()).written(), "-0.5");
    }
}
