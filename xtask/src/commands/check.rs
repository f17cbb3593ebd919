//! `cargo xtask check`: format, lints and unit tests, in minutes and without root.

use std::process::ExitCode;

use anyhow::Result;

use crate::checks::run::Run;
use crate::checks::steps;

/// Runs the command. A step that fails does not keep the later ones from running.
pub(crate) fn run() -> Result<ExitCode> {
    let mut run = Run::begin()?;
    run.set_up();
    steps::check(&mut run);
    Ok(run.end())
}
