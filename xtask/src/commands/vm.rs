//! `cargo xtask vm [KERNEL] [FILTER]`: the end-to-end tests on other kernels, in virtual machines.

use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::checks::run::Run;
use crate::vm::{self, KERNELS, Kernel, Part};

/// Runs the command. `words` are names of kernels, and at most one module of the end-to-end tests, or `MODULE::TEST`.
/// `quick`: the modules, and without names the kernels, that `cargo xtask test` runs.
///
/// # Errors
/// If a word is neither: says which there are.
pub(crate) fn run(words: &[String], quick: bool) -> Result<ExitCode> {
    let (kernels, tests): (Vec<&String>, Vec<&String>) =
        words.iter().partition(|word| vm::named(word).is_some());
    ensure!(
        tests.len() <= 1,
        "at most one module of tests can be named; kernels: {}",
        names(KERNELS.iter())
    );
    let part = match tests.first() {
        Some(filter) => Part::of(filter)?,
        None if quick => Part::Quick,
        None => Part::Whole,
    };
    let kernels: Vec<&'static Kernel> = match kernels.as_slice() {
        [] if quick => vm::quickly_tested(),
        [] => KERNELS.iter().collect(),
        kernels => kernels.iter().filter_map(|name| vm::named(name)).collect(),
    };
    let mut run = Run::begin()?;
    run.set_up();
    vm::test(&mut run, &kernels, part);
    if tests.is_empty() {
        vm::document(&mut run);
    }
    Ok(run.end())
}

fn names(kernels: impl Iterator<Item = &'static Kernel>) -> String {
    kernels.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
