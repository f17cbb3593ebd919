//! `cargo xtask dist`: static binaries of both architectures, below the target directory.

use std::process::ExitCode;

use anyhow::Result;

use crate::static_build::{self, Arch};
use crate::workspace;

/// Runs the command for `arches`, or for all of them if none is named.
pub(crate) fn run(arches: &[Arch]) -> Result<ExitCode> {
    let root = workspace::root();
    let target = workspace::target_dir(&root)?;
    let arches = if arches.is_empty() { &Arch::ALL } else { arches };
    for arch in arches {
        let binary = static_build::tracer(&root, &target, *arch)?;
        println!("{}", binary.display());
    }
    Ok(ExitCode::SUCCESS)
}
