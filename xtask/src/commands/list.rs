//! `cargo xtask test --list`: every test, with the tier that runs it and whether others run beside it.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::e2e;
use super::setup;
use crate::checks::steps;
use crate::checks::{fuzz, run::Run};
use crate::invocation::Invocation;
use crate::machine::Privilege;
use crate::static_build::{Arch, Build};
use crate::vm;

/// Prints a line `TIER GROUP TEST` for each test. Builds what lists them, and runs none.
pub(crate) fn run() -> Result<ExitCode> {
    let run = Run::begin()?;
    setup::for_building(&run.root)?;
    setup::for_testing(&run.root, &run.target)?;
    for test in names(&run, &steps::unit_tests("list"))? {
        println!("check  beside  {test}");
    }
    let arch =
        Arch::native().context("smtptrace is for x86_64 and aarch64, and this is neither")?;
    let build = Build::prepare(&run.root, &run.target, arch)?;
    let list =
        || e2e::nextest(&build, "list", Privilege::Root, &run.target).args(["--profile", "e2e"]);
    let alone = names(&run, &list().args(["-E", "group(alone)"]))?;
    let all = names(&run, &list())?;
    for test in &all {
        println!("e2e    {}  {test}", if alone.contains(test) { "alone " } else { "beside" });
    }
    for kernel in vm::KERNELS {
        for (part, tier) in [(vm::Part::Quick, "vm"), (vm::Part::Whole, "long")] {
            let is_quick = part == vm::Part::Quick;
            for scenario in
                part.scenarios().filter(|it| is_quick || it.is_slow || !kernel.is_in_quick_run)
            {
                let tier = if is_quick && !kernel.is_in_quick_run { continue } else { tier };
                println!("{tier:5}  alone   {kernel} {}", scenario.module);
            }
        }
    }
    for target in fuzz::targets(&run.root) {
        println!("long   alone   fuzz {target}");
    }
    Ok(ExitCode::SUCCESS)
}

fn names(run: &Run, list: &Invocation) -> Result<BTreeSet<String>> {
    let list = list.clone().args(["--message-format", "oneline"]);
    let output = list.command().current_dir(&run.root).output();
    let output = output.with_context(|| format!("`{list}` could not be started"))?;
    anyhow::ensure!(
        output.status.success(),
        "`{list}` failed with {}:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}
