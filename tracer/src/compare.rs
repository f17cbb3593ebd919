//! `smtptrace compare BEFORE AFTER`: two recordings or reports side by side.

use std::slice;

use anyhow::{Result, bail};
use tracer_analysis::{compare::compare, report::Report};

use crate::{
    cli::{CompareArgs, DocumentFormat},
    input::{Input, confine, grouped, saved_report},
    output::Output,
    report,
    sink::{compare_text, json},
};

/// Runs the command.
pub(crate) fn run(args: &CompareArgs) -> Result<()> {
    let chosen = args.prefixes.chosen(args.group_by)?;
    let output = Output::stream(args.document.output.as_deref())?;
    let inputs = [Input::open(&args.before)?, Input::open(&args.after)?];
    let mut memory = confine(Some(&output), false)?;
    let saved = [saved_report(&inputs[0])?, saved_report(&inputs[1])?];
    let of_reports = saved.iter().flatten().map(Report::grouping).next();
    let by = chosen.or(of_reports);
    let [before, after] = saved;
    let mut side = |saved: Option<Report>, input: &Input| {
        if let Some(saved) = saved {
            return grouped(saved, input, by);
        }
        let (input, by) = (slice::from_ref(input), by.unwrap_or_default());
        report::on(input, by, args.max_destinations, true, &mut memory)
    };
    let (before, after) = (side(before, &inputs[0])?, side(after, &inputs[1])?);
    for (report, input) in [&before, &after].into_iter().zip(&inputs) {
        if report.totals.connections == 0 {
            bail!("there are no connections in {}: nothing can be compared", input.name());
        }
    }
    let comparison = compare(&before, &after, args.top)?;
    output.document(|out| match args.document.format {
        DocumentFormat::Json => json::write(&comparison, out),
        DocumentFormat::Text => compare_text::write(&comparison, out, args.all),
    })
}
