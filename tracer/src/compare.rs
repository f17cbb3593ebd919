//! `smtptrace compare BEFORE AFTER`: two recordings or reports side by side.

use std::{path::PathBuf, slice};

use anyhow::{Result, bail};
use tracer_analysis::{compare::compare, report::Report};

use crate::{
    cli::{CompareArgs, DocumentFormat},
    input::{grouped, saved_report},
    output::Output,
    report,
    sink::{compare_text, json},
};

/// Runs the command.
pub(crate) fn run(args: &CompareArgs) -> Result<()> {
    let chosen = args.prefixes.chosen(args.group_by)?;
    let output = Output::stream(args.document.output.as_deref())?;
    let saved = [saved_report(&args.before)?, saved_report(&args.after)?];
    let of_reports = saved.iter().flatten().map(Report::grouping).next();
    let by = chosen.or(of_reports);
    let [before, after] = saved;
    let side = |saved: Option<Report>, path: &PathBuf| match saved {
        Some(saved) => grouped(saved, path, by),
        None => {
            report::on(slice::from_ref(path), by.unwrap_or_default(), args.max_destinations, true)
        }
    };
    let (before, after) = (side(before, &args.before)?, side(after, &args.after)?);
    for (report, path) in [(&before, &args.before), (&after, &args.after)] {
        if report.totals.connections == 0 {
            bail!("there are no connections in {}: nothing can be compared", path.display());
        }
    }
    let comparison = compare(&before, &after, args.top)?;
    output.document(|out| match args.document.format {
        DocumentFormat::Json => json::write(&comparison, out),
        DocumentFormat::Text => compare_text::write(&comparison, out, args.all),
    })
}
