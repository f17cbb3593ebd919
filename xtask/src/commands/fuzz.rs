//! `cargo xtask fuzz [FILTER]`: the fuzz targets, each for some minutes.

use std::process::ExitCode;

use anyhow::Result;

use crate::checks::fuzz;
use crate::checks::run::Run;

/// Runs the targets whose names contain one of `filters`, or all of them if there is none, for `minutes` each.
pub(crate) fn run(filters: &[String], minutes: u32) -> Result<ExitCode> {
    let mut run = Run::begin()?;
    run.set_up();
    fuzz::run(&mut run, filters, minutes);
    Ok(run.end())
}
