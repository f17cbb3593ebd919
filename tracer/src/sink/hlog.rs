//! Histograms as an `HdrHistogram` interval log, version 1.3 with V2 payloads, as the Java, Python and
//! Go tools read it: one line per destination and metric, with the tag `destination.metric`.
//!
//! Values are as in the report (microseconds for names that end in `_us`); the column of the maximum
//! is in the same unit.

use std::io;

use tracer_analysis::{report::Report, utc::Utc};

/// Writes the report as a log of one interval.
pub(crate) fn write(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    head(report.window.start, &report.version, out)?;
    interval(report, out)
}

/// Writes the head of a log that begins at `start`.
fn head(start: Utc, version: &str, out: &mut impl io::Write) -> io::Result<()> {
    let seconds = seconds(start);
    writeln!(out, "#[Histogram log format version 1.3]")?;
    writeln!(out, "#[Logged with smtptrace {}]", super::safe_text::safe(version))?;
    writeln!(out, "#[StartTime: {seconds:.3} (seconds since epoch), {start}]")?;
    writeln!(
        out,
        "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\""
    )
}

/// Writes the histograms of `report` as those of one interval: its window. Empty ones are left out.
fn interval(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    let (start, length) = (seconds(report.window.start), report.window.duration_s);
    for destination in std::iter::once(&report.totals).chain(&report.destinations) {
        for (name, summary) in destination.histograms.named() {
            let (Some(max), Some(hdr)) = (summary.max, &summary.hdr) else { continue };
            let tag = tag(&destination.key);
            writeln!(out, "Tag={tag}.{name},{start:.3},{length:.3},{max}.000,{hdr}")?;
        }
    }
    Ok(())
}

/// Seconds since 1970, to the millisecond.
fn seconds(at: Utc) -> f64 {
    at.micros() as f64 / 1e6
}

/// A key without what ends a tag (comma, space, line end) or could pass for something else.
fn tag(key: &str) -> String {
    let safe = super::safe_text::safe(key);
    safe.replace([',', ' ', '"'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_cannot_be_forged() {
        assert_eq!(tag("mx.example.org"), "mx.example.org");
        assert_eq!(tag("a,1,2,\"x\ny z"), "a_1_2__x\\x0ay_z");
    }
}
