//! Histograms as an `HdrHistogram` interval log, version 1.3 with V2 payloads, as the Java, Python and
//! Go tools read it: one line per interval, destination and metric, with the tag `destination.metric`.
//!
//! Values are as in the report (microseconds for names that end in `_us`); the column of the maximum
//! is in the same unit. Times are seconds since 1970.

use std::io::{self, BufWriter, Write};

use tracer_analysis::{
    connection::Connection,
    report::{Interval, Intervals},
    utc::Utc,
};

/// A log that is written as intervals are over.
pub(crate) struct Log<W: Write> {
    out: BufWriter<W>,
    version: &'static str,
    intervals: Intervals,
    has_head: bool,
}

impl<W: Write> Log<W> {
    /// A log of these intervals, made by `version` of smtptrace.
    pub(crate) fn new(out: W, intervals: Intervals, version: &'static str) -> Self {
        Self { out: BufWriter::new(out), version, intervals, has_head: false }
    }

    /// Tells when a trace began. Of several the first counts, if all are told before the log begins.
    pub(crate) fn begin(&mut self, start: Utc) {
        self.intervals.begin(start);
    }

    /// Adds one connection. Writes intervals only if too many are held.
    pub(crate) fn add(&mut self, connection: &Connection) -> io::Result<()> {
        self.intervals.add(connection);
        while let Some(interval) = self.intervals.surplus() {
            self.write(&interval)?;
        }
        Ok(())
    }

    /// Writes the intervals that were over at `now`, and hands them to the system.
    pub(crate) fn over(&mut self, now: Utc) -> io::Result<()> {
        self.head(now)?;
        while let Some(interval) = self.intervals.over(now) {
            self.write(&interval)?;
        }
        self.out.flush()
    }

    /// Writes the rest of a trace that ended at `end`.
    pub(crate) fn finish(mut self, end: Utc) -> io::Result<()> {
        self.head(end)?;
        while let Some(interval) = self.intervals.last(end) {
            self.write(&interval)?;
        }
        self.out.flush()
    }

    /// Closes it without another try to write what is still buffered.
    pub(crate) fn abandon(self) {
        let _ = self.out.into_parts();
    }

    /// Writes the head, once. `otherwise`: when the log begins, if no trace said when it did.
    fn head(&mut self, otherwise: Utc) -> io::Result<()> {
        if std::mem::replace(&mut self.has_head, true) {
            return Ok(());
        }
        let start = self.intervals.start().unwrap_or(otherwise);
        let seconds = seconds(start);
        let out = &mut self.out;
        writeln!(out, "#[Histogram log format version 1.3]")?;
        writeln!(out, "#[Logged with smtptrace {}]", self.version)?;
        writeln!(out, "#[StartTime: {seconds:.3} (seconds since epoch), {start}]")?;
        writeln!(out, "#[BaseTime: 0.000 (seconds since epoch)]")?;
        writeln!(
            out,
            "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\""
        )
    }

    /// Writes one interval. Empty histograms are left out.
    fn write(&mut self, interval: &Interval) -> io::Result<()> {
        self.head(interval.window.start)?;
        let (start, length) = (seconds(interval.window.start), interval.window.duration_s);
        for (key, histograms) in &interval.destinations {
            for (name, summary) in histograms.named() {
                let (Some(max), Some(hdr)) = (summary.max, &summary.hdr) else { continue };
                let tag = tag(key);
                writeln!(self.out, "Tag={tag}.{name},{start:.3},{length:.3},{max}.000,{hdr}")?;
            }
        }
        Ok(())
    }
}

/// Seconds since 1970.
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
