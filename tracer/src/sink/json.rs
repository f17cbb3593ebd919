//! JSON.
use std::io;
use tracer_analysis::report::Report;
pub(crate) fn write(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}
