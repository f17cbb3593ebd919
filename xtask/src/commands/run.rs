//! `cargo xtask run -- ARGS`: sets up, builds, and becomes smtptrace.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use super::setup;
use crate::invocation::Invocation;
use crate::machine::Privilege;
use crate::static_build::{Arch, Build};
use crate::workspace;

/// Runs the command. It does not return when all goes well: this process is replaced by smtptrace,
/// so that signals and the exit code are those of the program itself.
pub(crate) fn run(args: &[OsString]) -> Result<ExitCode> {
    let root = workspace::root();
    let target = workspace::target_dir(&root)?;
    setup::for_building(&root)?;
    let binary = build(&root, &target)?;
    let privilege = Privilege::look();
    if privilege == Privilege::Missing {
        eprintln!("xtask: neither root nor sudo: smtptrace is started without the right to trace");
    }
    let call = Invocation::new(binary).args(args).with_root(privilege);
    let error = call.command().stdin(Stdio::inherit()).exec();
    Err(error).with_context(|| format!("`{call}` could not be started"))
}

/// Builds what is shipped and tested, so that `cargo xtask test` need not build it again; where static binaries cannot
/// be built, an ordinary one.
fn build(root: &Path, target: &Path) -> Result<PathBuf> {
    let arch = Arch::native().context("smtptrace is for x86_64 and aarch64, and this is neither");
    match arch.and_then(|arch| Build::prepare(root, target, arch)) {
        Ok(build) => {
            build.build_tracer().run(root)?;
            return Ok(build.tracer());
        }
        Err(error) => {
            eprintln!("xtask: building a dynamic binary instead of a static one: {error:#}");
        }
    }
    Invocation::cargo().args(["build", "--release", "-p", "tracer"]).run(root)?;
    let binary = target.join("release/smtptrace");
    if !binary.is_file() {
        bail!(
            "the build succeeded, but {} is not there: is `build.target` set in a configuration of cargo?",
            binary.display()
        );
    }
    Ok(binary)
}
