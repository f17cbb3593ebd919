//! `cargo xtask test`: every check and every test but those of `cargo xtask long`, and as the last line their sum.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use super::e2e;
use crate::checks::run::Run;
use crate::checks::steps;
use crate::dist;
use crate::machine;
use crate::static_build::Arch;
use crate::times;
use crate::vm;

/// Runs the command. A step that fails does not keep the later ones from running.
pub(crate) fn run() -> Result<ExitCode> {
    let mut run = Run::begin()?;
    run.set_up();
    steps::check(&mut run);
    steps::documents_and_dependencies(&mut run);
    if let Some(build) = e2e::prepare(&mut run) {
        check_packing(&mut run, &build.tracer());
        e2e::test(&mut run, &build, &[]);
    }
    vm::test(&mut run, &vm::quickly_tested(), vm::Part::Quick);
    Ok(run.end())
}

/// The packages stay for the end-to-end tests, which install them.
fn check_packing(run: &mut Run, binary: &Path) {
    let name = "packing twice gives the same bytes";
    println!("\n=== {name}");
    let programs = dist::PROGRAMS.iter().map(|(program, _)| *program);
    if let Some(missing) = programs.into_iter().find(|it| machine::find_program(it).is_none()) {
        run.tally.skip(name, &format!("{missing} is not installed"));
        return;
    }
    let Some(arch) = Arch::native() else { return };
    match times::measure(name, || super::dist::pack_twice(&run.root, &run.target, arch, binary)) {
        Ok(()) => run.tally.pass(1),
        Err(error) => run.tally.fail(format!("{name}: {error:#}")),
    }
}
