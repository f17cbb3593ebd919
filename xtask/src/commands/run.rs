//! `cargo xtask run -- ARGS`: sets up, builds, and becomes smtptrace.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use super::setup;
use crate::invocation::Invocation;
use crate::machine::Privilege;
use crate::workspace;

/// Runs the command. It does not return when all goes well: this process is replaced by smtptrace,
/// so that signals and the exit code are those of the program itself.
pub(crate) fn run(args: &[OsString]) -> Result<ExitCode> {
    let root = workspace::root();
    setup::for_building(&root)?;
    Invocation::cargo().args(["build", "--release", "-p", "tracer"]).run(&root)?;

    let binary = workspace::target_dir(&root)?.join("release/smtptrace");
    if !binary.is_file() {
        bail!(
            "the build went well, yet {} is not there: is `build.target` set in a configuration \
             of cargo?",
            binary.display()
        );
    }
    let privilege = Privilege::look();
    if privilege == Privilege::Missing {
        eprintln!("xtask: neither root nor sudo: smtptrace is started without the right to trace");
    }
    let call = Invocation::new(binary).args(args).with_root(privilege);
    let error = call.command().stdin(Stdio::inherit()).exec();
    Err(error).with_context(|| format!("`{call}` could not be started"))
}
