//! Text.
use std::io;
use tracer_analysis::report::Report;
pub(crate) struct TextOptions {
    pub(crate) top: usize,
}
pub(crate) fn write(report: &Report, out: &mut impl io::Write, _o: &TextOptions) -> io::Result<()> {
    writeln!(out, "{report:#?}")
}
